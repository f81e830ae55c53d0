"""What the augmenters share: from parameters to rounds, and from rounds to rows and tables."""

import json
import math
import warnings
from collections import Counter
from functools import partial
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.frozen import FrozenEstimator
from sklearn.utils import _safe_indexing, check_random_state
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from skllmreg.augmentation._curation import AcceptAll, Curator
from skllmreg.augmentation._energy import STRATEGIES, Study
from skllmreg.augmentation._loop import Outcome, Parts, run
from skllmreg.augmentation._requests import AttributeGrid, RequestPlanner
from skllmreg.augmentation._writers import (
    FunctionGenerator,
    LLMGenerator,
    Rehearsal,
    propose_attributes,
)
from skllmreg.exceptions import (
    GenerationStoppedWarning,
    InvalidReplyError,
    NoAttributesWarning,
    NoLLMWarning,
    UndescribedClassWarning,
)
from skllmreg.llm._quote import Quotes, is_stand_in
from skllmreg.students._fitting import fit_student
from skllmreg.utils._frames import joined
from skllmreg.utils._labels import about_numbers, is_string
from skllmreg.utils._progress import verbosity
from skllmreg.utils._warn import warn

# Rows of each class that the final estimator is tried with before anything is paid for.
REHEARSED_ROWS = 20

# Labels of more words than this, few of them repeated, are free texts and no classes.
LABEL_WORDS = 3


class AugmenterMixin(Quotes):
    """The rounds of an augmenter, and tables of what they have brought.

    Estimators have the parameters below, and `n_samples`.
    """

    _parameter_constraints: dict = {
        "llm": [HasMethods(["complete"]), None],
        "generator": [callable, None],
        "task": [str, None],
        "n_rounds": [Interval(Integral, 1, None, closed="left"), None],
        "strategy": [StrOptions({"auto", *STRATEGIES})],
        "max_requests": [Interval(Integral, 1, None, closed="left"), None],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "n_seed_examples": [Interval(Integral, 0, None, closed="left")],
        "n_feedback": [Interval(Integral, 0, None, closed="left")],
        "feedback_quantiles": [tuple, list],
        "random_state": ["random_state"],
        "verbose": ["boolean", None],
    }

    fit: Any
    llm: Any
    generator: Any
    task: str | None
    n_samples: Any
    verbose: bool | None

    def fit_resample(self, X, y):
        """Fit, and return the rows that the student was fitted on.

        Parameters
        ----------
        X, y
            As for `fit`.

        Returns
        -------
        X_resampled, y_resampled : like X and y
            The labeled rows in their order, then the generated ones. Of data frames and series the
            labeled rows keep their index; the generated ones get the next numbers, or the labels
            generated_0, generated_1, ... where the index does not hold integers.
        """
        if self.llm is None and self.generator is None:
            raise ValueError("fit_resample needs llm=ChatModel(...) or generator=, to write rows.")
        self.fit(X, y)
        return (
            joined(X, self.X_generated_, keep_index=True),
            joined(y, self.y_generated_, keep_index=True),
        )

    def __sklearn_is_fitted__(self):
        return hasattr(self, "estimator_")

    def to_frame(self, *, rejected=False):
        """Return the generated rows with where they come from.

        Parameters
        ----------
        rejected : bool, default=False
            Whether to return the rejected rows instead, with the `reason` (one word) and `detail`.

        Returns
        -------
        pandas.DataFrame
            A line for each row: "row" (the text; for other kinds a column for each of its parts),
            "label" or "target", "round", "request" (its number), "seed_examples", "feedback" and
            "attributes" (as JSON), "novel", "energy" (NaN where it was not scored), "model" (as the
            server names it), "date" (UTC) and "prompt_hash" (of SHA-256).
        """
        check_is_fitted(self, "X_generated_")
        import pandas as pd

        lines = []
        for one in self._outcome.refused if rejected else self._outcome.accepted:
            request = one.request
            line = self._parts_of(one.row) | {
                "round": request.round,
                "request": request.number,
                "seed_examples": _as_json(request.seed_examples),
                "feedback": _as_json(request.feedback),
                "attributes": _as_json(request.attributes),
                "novel": request.novel,
                "energy": one.score,
            }
            if request.label is not None:
                line["label"] = request.label
            if rejected:
                line |= {"reason": one.reason, "detail": one.detail}
            lines.append(line | one.answer.source)
        return pd.DataFrame(lines)

    def summary(self):
        """Count what was written, accepted and rejected, by class and in all.

        Returns
        -------
        pandas.DataFrame
            A line for each class, and one for all: rows "labeled", "requests", rows "written" and
            "accepted", and those rejected by reason; in the line for all also "prompt_tokens",
            "completion_tokens" and "cost" (dollars).
        """
        check_is_fitted(self, "X_generated_")
        import pandas as pd

        outcome = self._outcome
        lines = {}
        for label in self._labels:
            accepted = [one for one in outcome.accepted if one.request.label == label]
            rejected = [one for one in outcome.rejected if one.label == label]
            reasons = Counter(one.reason for one in rejected)
            asked = {
                one.request.number
                for one in [*accepted, *outcome.refused]
                if one.request.label == label
            }
            lines[label] = {
                "labeled": self._n_labeled[label],
                "requests": len(asked) + reasons["reply"],
                "written": len(accepted) + reasons.total() - reasons["reply"],
                "accepted": len(accepted),
            } | dict(reasons)
        table = pd.DataFrame(lines.values(), index=list(lines)).fillna(0).astype(int)
        total = table.sum().to_dict()
        total["requests"] = self.n_requests_
        for name in ("prompt_tokens", "completion_tokens", "cost"):
            values = [entry[name] for entry in self.history_]
            total[name] = None if None in values else sum(values)
        if list(lines) == [None]:
            return pd.DataFrame([total], index=["all"])
        return pd.concat([table, pd.DataFrame([total], index=["all"])])

    def _parts_of(self, row):
        """Return the parts of a row, as columns of a table."""
        if not isinstance(row, dict):
            return {"row": row}
        if "target" not in row or isinstance(row.get("input"), str):
            return dict(row)
        if isinstance(row.get("input"), dict):
            return row["input"] | {"target": row["target"]}
        return {"row": row}

    def _grow(self, data, plan, rng, *, study, make_check, curator, grid=None):
        """Run the rounds; whatever ends them, what they have brought is set."""
        spent = partial(dollars, [self.llm, *llms_of(getattr(self, "teacher", None))])
        paid = spent()
        grid_seed, check_seed = (rng.randint(2**31 - 1) for _ in range(2))
        check = make_check(check_seed)
        # The grid is the first that costs, after all that may fail.
        planner = RequestPlanner(plan, data, grid and grid(grid_seed), rng)
        generator: FunctionGenerator | LLMGenerator
        asked = {
            "task": self.task,
            "kind": data.kind,
            "classes": data.labels,
            "class_descriptions": getattr(self, "class_descriptions", None),
        }
        if is_stand_in(self.llm or self.generator):  # a quote: what is written passes all checks
            generator = Rehearsal(self.llm, **asked)
            curator, check = AcceptAll(curator), check and partial(without_doubt, check)
        elif self.generator is not None:
            generator = FunctionGenerator(self.generator, data.kind)
        else:
            generator = LLMGenerator(self.llm, **asked)
        outcome = Outcome()
        parts = Parts(planner, generator, curator, check, study, spent, paid)
        try:
            with verbosity(self.verbose):
                run(parts, outcome)
        finally:
            self._keep(data, outcome)
        self._warn_if_stopped(outcome, [data.labels[k] for k in sorted(parts.patience.given_up)])
        return outcome

    def _keep(self, data, outcome):
        """Set what the rounds brought."""
        accepted = outcome.accepted
        self._outcome = outcome
        self._labels = data.labels
        self._n_labeled = dict(
            zip(data.labels, np.bincount(data.codes, minlength=len(data.labels)), strict=True)
        )
        self.X_generated_ = data.generated_X([one.row for one in accepted])
        self.y_generated_ = data.generated_y(
            [one.row for one in accepted], [one.code for one in accepted]
        )
        self.generation_round_ = np.array([one.request.round for one in accepted], dtype=int)
        self.ood_scores_ = np.array([one.score for one in accepted], dtype=float)
        self.rejected_ = outcome.rejected
        self.history_ = outcome.history
        self.n_requests_ = sum(entry["requests"] for entry in self.history_)
        self.termination_condition_ = outcome.termination or "error"

    def _keep_nothing(self, data):
        """Set that there were no rounds."""
        self._keep(data, Outcome(termination="none"))
        self.termination_condition_ = ""
        warn("There is no LLM and no generator: the student learns the labeled rows.", NoLLMWarning)

    def _warn_if_stopped(self, outcome, given_up):
        reasons = {
            "budget": "the budget of the LLM was spent",
            "error": f"the generator raised {outcome.problem}",
        }
        if self.n_samples is not None:
            names = ", ".join(f"{label!r:.50}" for label in given_up if label is not None)
            of_which = f" of {names}" if names else ""
            reasons["nothing_new"] = f"rounds brought (almost) nothing new{of_which}"
        if reason := reasons.get(outcome.termination):
            message = f"Generation stopped with {len(self.y_generated_)} rows: {reason}."
            warn(message, GenerationStoppedWarning)


def check_common(params):
    """Raise for parameters of any augmenter that do not go together."""
    if params.llm is not None and params.generator is not None:
        raise ValueError("Pass llm or generator, not both.")
    if params.llm is not None and not params.task:
        raise ValueError("An llm needs a task=, a sentence that says what the rows are for.")
    if len(params.feedback_quantiles) != 2:
        raise ValueError(
            f"feedback_quantiles={params.feedback_quantiles} are not two numbers (low, high)."
        )
    low, high = params.feedback_quantiles
    if not 0 <= low < high <= 1:
        raise ValueError(f"feedback_quantiles=({low}, {high}) is not a band between 0 and 1.")


def check_classes(params, classes, codes):
    """Raise for parameters that do not go together, or with these classes.

    Parameters
    ----------
    params : GOLDAugmenter
    classes : list
    codes : ndarray of int of shape (n_samples,)
        Positions of the rows' classes.
    """
    check_common(params)
    if params.label_check == "teacher" and params.teacher is None:
        raise ValueError('label_check="teacher" needs a teacher.')
    if len(classes) < 2:
        raise ValueError(
            f"Rows of at least two classes are needed; y has one class: {classes[0]!r}."
        )
    described = params.class_descriptions or {}
    if not set(classes) <= set(described) and are_free_texts(classes, codes):
        raise ValueError(
            f"Nearly every row of y has a label of its own, such as {classes[0]!r:.60}: these are "
            "texts, not classes. GOLDSeq2SeqAugmenter learns texts from texts. If they are "
            "classes, describe each in class_descriptions."
        )
    wanted = params.n_samples if isinstance(params.n_samples, dict) else {}
    mute = [label for label in classes if label not in described]
    named = {"class_descriptions": described, "n_samples": wanted}
    for name, listed in (params.attributes if isinstance(params.attributes, dict) else {}).items():
        if isinstance(listed, dict):
            named[f"attributes[{name!r}]"] = listed
    for name, labels in named.items():
        # Where all classes are named there may be more: some of scikit-learn's tools number the
        # labels before they fit, and the numbers are named, too.
        if set(classes) <= set(labels):
            continue
        if unknown := [label for label in labels if label not in classes]:
            raise ValueError(
                f"{name} names {unknown[0]!r}; the classes in y are {classes}."
                f"{about_numbers(classes, labels)}"
            )
    for label, text in described.items():
        if not isinstance(text, str):
            raise ValueError(f"class_descriptions[{label!r}] is {text!r:.50}, not a str.")
    for label, n in wanted.items():
        if not isinstance(n, Integral) or isinstance(n, bool) or n < 0:
            raise ValueError(f"n_samples[{label!r}] is {n!r}, no number of rows.")
    if isinstance(params.n_samples, dict) and not sum(wanted.values()):
        raise ValueError("n_samples asks for no rows.")
    if params.llm is not None and (numbers := [k for k in mute if not isinstance(k, str)]):
        warn(
            f"The LLM is asked for rows of {', '.join(map(repr, numbers[:5]))} without knowing "
            "which class that is: give class_descriptions={label: what it means}."
            f"{about_numbers(classes)}{' (-1 is a class here.)' if -1 in numbers else ''}",
            UndescribedClassWarning,
        )


def are_free_texts(classes, codes):
    """Tell whether labels are texts that hardly repeat, and no classes."""
    if not all(map(is_string, classes)):
        return False
    n_words = np.median([len(label.split()) for label in classes])
    return len(classes) == len(codes) or (len(classes) > len(codes) / 2 and n_words > LABEL_WORDS)


def make_study(params, data, student, seed, *, strategy, ood_score="energy"):
    """Make what chooses feedback, None for no feedback.

    The labeled rows are put to the test first: what cannot be fitted or scored is an error before
    anything is paid for.
    """
    chosen = STRATEGIES[strategy]
    study = None
    if chosen.source is not None and params.n_feedback > 0:
        study = Study(
            chosen,
            data,
            student,
            ood_score=ood_score,
            temperature=getattr(params, "temperature", 1.0),
            quantiles=params.feedback_quantiles,
            n_feedback=params.n_feedback,
            keep_student=getattr(params, "keep_student", False),
            random_state=seed,
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # such as that rows are few
        if study is not None:
            study.rehearse()
        else:
            data.fit(student, [], [], seed)
    return study


def make_grid(params, data, seed):
    """Make the grid of what rows differ in: given, or proposed by the LLM, or None."""
    rng = np.random.RandomState(seed)
    if isinstance(params.attributes, dict):
        return AttributeGrid(params.attributes, rng)
    if params.attributes is None or params.llm is None:
        return None
    try:
        values = propose_attributes(
            params.llm,
            task=params.task,
            classes=data.labels,
            class_descriptions=params.class_descriptions,
            kind=data.kind,
        )
    except InvalidReplyError as error:
        message = (
            "The LLM named no attributes that rows can differ in, and writes them without. Give "
            f"attributes= yourself, or None. {error}"
        )
        warn(message, NoAttributesWarning)
        return None
    return AttributeGrid(values, rng, proposed=True)


def without_doubt(check, rows, codes):
    """Run a check of labels or targets for what it asks, and doubt nothing."""
    check(rows, codes)
    return [""] * len(rows)


def make_curator(params, kind, quotas, labels, **checks):
    """Make what decides which rows are accepted."""
    return Curator(
        kind,
        quotas=None if params.n_samples is None else dict(zip(labels, quotas, strict=True)),
        **checks,
    )


def llms_of(teacher):
    """Return the models that a teacher asks."""
    while isinstance(teacher, FrozenEstimator):
        teacher = teacher.estimator
    values = [] if teacher is None else teacher.get_params(deep=True).values()
    return [value for value in values if hasattr(value, "usage")]


def dollars(llms):
    """Sum up what these models and their copies have cost so far; None where one cannot say."""
    costs = []
    # Copies of one have one bill.
    for llm in {getattr(llm, "_run", id(llm)): llm for llm in llms}.values():
        if not hasattr(llm, "usage"):
            return None
        costs += [usage.cost for usage in llm.usage(this_run=True) if usage.requests]
    return None if None in costs else sum(costs)


def seeds(random_state):
    """Return a random state, and the seed of every student."""
    rng = check_random_state(random_state)
    return rng, rng.randint(2**31 - 1)


def _as_json(value):
    return json.dumps(value, ensure_ascii=False, default=str)


def rehearse_final(estimator, data, seed):
    """Fit the final estimator to as many rows as there may be when it is its turn."""
    times = math.ceil(REHEARSED_ROWS / np.bincount(data.codes).min())
    rows = np.tile(np.arange(len(data.codes)), times)
    X, codes = _safe_indexing(data.X, rows), data.codes[rows]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # such as that rows are few
        fit_student(estimator, X, codes, data.classes, random_state=seed)
