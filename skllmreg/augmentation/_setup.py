"""From the parameters of `GOLDAugmenter` to a loop that can run."""

import math
import warnings
from functools import partial
from numbers import Integral

import numpy as np
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.utils import _safe_indexing, check_random_state

from skllmreg.augmentation._asking import Asker, Plan
from skllmreg.augmentation._attributes import AttributeGrid
from skllmreg.augmentation._curation import Curator
from skllmreg.augmentation._energy import check_ood_score, ood_scores
from skllmreg.augmentation._generators import FunctionGenerator, LLMGenerator
from skllmreg.augmentation._label_check import doubt_labels, teacher_classes
from skllmreg.augmentation._loop import GenerationLoop
from skllmreg.exceptions import InvalidReplyError, NoAttributesWarning, UndescribedClassWarning
from skllmreg.students._fitting import fit_student, last_step, seeded
from skllmreg.utils._frames import joined
from skllmreg.utils._labels import about_numbers
from skllmreg.utils._warn import warn

# Where nothing else says how many.
DEFAULT_ROUNDS = 5

# Of a class, for the final estimator's rehearsal.
REHEARSED_ROWS = 20


def check_params(params, classes):
    """Raise for parameters that do not go together, or with these classes.

    Parameters
    ----------
    params : GOLDAugmenter
    classes : list
    """
    if params.llm is not None and params.generator is not None:
        raise ValueError("Pass llm or generator, not both.")
    if params.llm is not None and not params.task:
        raise ValueError("An llm needs a task=, a sentence that says what is to be told apart.")
    if params.label_check == "teacher" and params.teacher is None:
        raise ValueError('label_check="teacher" needs a teacher.')
    if len(classes) < 2:
        raise ValueError(
            f"Rows of at least two classes are needed; y has one class: {classes[0]!r}."
        )
    if len(params.feedback_quantiles) != 2:
        raise ValueError(f"feedback_quantiles={params.feedback_quantiles} is no (low, high).")
    low, high = params.feedback_quantiles
    if not 0 <= low < high <= 1:
        raise ValueError(f"feedback_quantiles=({low}, {high}) is no band between 0 and 1.")
    described = params.class_descriptions or {}
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
            f"The LLM is asked for rows of {', '.join(map(repr, numbers[:5]))} without being told "
            "which class that is: give class_descriptions={label: what it means}."
            f"{about_numbers(classes)}{' (-1 is a class here.)' if -1 in numbers else ''}",
            UndescribedClassWarning,
        )


def make_loop(params, data, student, scores, rng):
    """Put together what takes part in the rounds.

    Parameters
    ----------
    params : GOLDAugmenter
        Only its parameters are read.
    data : Labeled
    student : classifier
        Not fitted.
    scores : callable or None
        As `make_scores` gives it.
    rng : RandomState

    Returns
    -------
    GenerationLoop
    """
    spent = partial(dollars, [params.llm, *_llms_of(params.teacher)])
    paid = spent()
    grid_seed, doubt_seed = (rng.randint(2**31 - 1) for _ in range(2))
    labels = data.classes.tolist()
    quotas = class_quotas(params.n_samples, labels)
    n_rounds = params.n_rounds
    if n_rounds is None:
        bounded = params.n_samples is not None or params.max_requests is not None
        n_rounds = math.inf if bounded else DEFAULT_ROUNDS
    doubts = make_doubts(params, data, student, doubt_seed)
    curator = Curator(
        data.X,
        schema=data.schema,
        duplicate_threshold=params.duplicate_threshold,
        quotas=None if params.n_samples is None else dict(zip(labels, quotas, strict=True)),
    )
    grid = make_grid(params, data, grid_seed)  # the first that costs, after all that may fail
    return GenerationLoop(
        Asker(make_plan(params, data, quotas), data, grid, rng),
        make_generator(params, data),
        curator,
        doubts=doubts,
        scores=scores,
        quantiles=params.feedback_quantiles,
        random_feedback=strategy_for(params, data) == "random-feedback",
        n_rounds=n_rounds,
        max_requests=math.inf if params.max_requests is None else params.max_requests,
        spent=spent,
        paid=paid,
    )


def class_quotas(n_samples, labels):
    """Rows wanted of each class; inf for no limit."""
    if n_samples is None:
        return np.full(len(labels), np.inf)
    if isinstance(n_samples, dict):
        return np.array([n_samples.get(label, 0) for label in labels], dtype=float)
    each, more = divmod(n_samples, len(labels))
    return each + (np.arange(len(labels)) < more).astype(float)


def strategy_for(params, data):
    """Resolve "auto": on tables feedback has not paid in any benchmark."""
    if params.strategy != "auto":
        return params.strategy
    return "gold" if data.schema is None else "no-feedback"


def make_plan(params, data, quotas):
    """Resolve how much is asked for; without feedback, other topics are not asked for either."""
    n_batches, n_novel = params.n_batches, params.n_novel_batches
    n_batches = len(quotas) if n_batches is None else n_batches
    if strategy_for(params, data) == "no-feedback":
        n_batches, n_novel = n_batches + n_novel, 0
    return Plan(
        n_batches=n_batches,
        n_novel_batches=n_novel,
        batch_size=params.batch_size,
        quotas=quotas,
        n_seed_examples=params.n_seed_examples,
        n_feedback=params.n_feedback,
        feedback_every=params.feedback_every,
    )


def make_grid(params, data, seed):
    """What rows are to differ in: given, or proposed by the LLM, or None."""
    rng = np.random.RandomState(seed)
    if isinstance(params.attributes, dict):
        return AttributeGrid(params.attributes, rng)
    if params.attributes is None or params.llm is None:
        return None
    try:
        return AttributeGrid.propose(
            params.llm,
            rng,
            task=params.task,
            classes=data.classes.tolist(),
            class_descriptions=params.class_descriptions,
            schema=data.schema,
        )
    except InvalidReplyError as error:
        message = (
            "The LLM named no attributes that rows can differ in, and writes them without. Give "
            f"attributes= yourself, or None. {error}"
        )
        warn(message, NoAttributesWarning)
        return None


def make_generator(params, data):
    """Who writes the rows."""
    if params.generator is not None:
        return FunctionGenerator(params.generator, schema=data.schema)
    return LLMGenerator(
        params.llm,
        task=params.task,
        classes=data.classes.tolist(),
        class_descriptions=params.class_descriptions,
        schema=data.schema,
    )


def make_doubts(params, data, student, seed):
    """Who doubts labels: a function of rows and codes, or None for nobody."""
    method = params.label_check
    if method == "auto":
        method = None if params.teacher is None else "teacher"
    if method is None:
        return None
    if method == "student" and not hasattr(student, "predict_proba"):
        raise ValueError(
            f'label_check="student" needs predict_proba, which {type(last_step(student)).__name__} '
            "does not have."
        )
    teacher = None
    if params.teacher is not None:
        teacher = clone(params.teacher)
        if "on_refusal" in teacher.get_params(deep=False):
            # Of an `LLMTeacherClassifier`: a row without an answer is not doubted.
            teacher.set_params(on_refusal="abstain")
        teacher.fit(data.X, data.classes[data.codes])
        teacher_classes(teacher, data.classes)
    known_rows: list = []
    known_codes: list[int] = []

    def doubts(rows, codes):
        reasons = doubt_labels(
            method,
            data.as_X(rows),
            data.classes[codes],
            X_labeled=joined(data.X, data.as_X(known_rows)),
            y_labeled=data.classes[np.append(data.codes, known_codes).astype(int)],
            classes=data.classes,
            student=seeded(student, seed),
            teacher=teacher,
            random_state=check_random_state(seed),
        )
        # What is believed now helps to judge what comes later.
        known_rows.extend(row for row, reason in zip(rows, reasons, strict=True) if not reason)
        known_codes.extend(code for code, reason in zip(codes, reasons, strict=True) if not reason)
        return reasons

    return doubts


def make_scores(params, data, student, seed):
    """How unfamiliar new rows are: a function of known rows, their codes and new rows, or None.

    The labeled rows are put to the test first: what cannot be fitted or scored is an error before
    anything is paid for.
    """
    by_energy = isinstance(params.ood_score, str)
    score = params.ood_score if by_energy else seeded(params.ood_score, seed)

    def scores(rows, codes, new):
        X, fitted = joined(data.X, data.as_X(rows)), None
        if by_energy:
            codes = np.append(data.codes, np.asarray(codes, dtype=int))
            fitted = fit_student(student, X, codes, data.classes, random_state=seed)
        return ood_scores(score, fitted, data.as_X(new), X, temperature=params.temperature)

    needed = strategy_for(params, data) != "no-feedback" and params.n_feedback > 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # such as that rows are few
        if params.final_estimator is not None:
            # As many rows as there may be when it is its turn.
            times = math.ceil(REHEARSED_ROWS / np.bincount(data.codes).min())
            rows = np.tile(np.arange(len(data.codes)), times)
            X, codes = _safe_indexing(data.X, rows), data.codes[rows]
            fit_student(params.final_estimator, X, codes, data.classes, random_state=seed)
        if needed:
            check_ood_score(params.ood_score, student)
            scores([], [], data.rows)
        else:
            fit_student(student, data.X, data.codes, data.classes, random_state=seed)
    return scores if needed else None


def _llms_of(teacher):
    """Of a teacher that asks one."""
    while isinstance(teacher, FrozenEstimator):
        teacher = teacher.estimator
    values = [] if teacher is None else teacher.get_params(deep=True).values()
    return [value for value in values if hasattr(value, "usage")]


def dollars(llms):
    """What these LLMs and their copies have cost so far; None where one does not tell."""
    costs = []
    # Copies of one have one bill.
    for llm in {getattr(llm, "_run", id(llm)): llm for llm in llms}.values():
        if not hasattr(llm, "usage"):
            return None
        costs += [usage.cost for usage in llm.usage(this_run=True) if usage.requests]
    return None if None in costs else sum(costs)
