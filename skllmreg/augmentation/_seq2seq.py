"""`GOLDSeq2SeqAugmenter`: an LLM writes inputs with their targets, for a student that writes."""

from functools import partial
from numbers import Integral

import numpy as np
from sklearn.base import MetaEstimatorMixin
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.validation import check_consistent_length, check_is_fitted

from skllmreg.augmentation._base import (
    AugmenterMixin,
    check_common,
    make_curator,
    make_study,
    seeds,
)
from skllmreg.augmentation._energy import STRATEGIES
from skllmreg.augmentation._pairs import (
    AnswerCheck,
    InputTarget,
    NearestTarget,
    TrainingPairs,
    input_texts,
)
from skllmreg.augmentation._requests import class_quotas, make_plan
from skllmreg.augmentation._targets import METRICS
from skllmreg.students._fitting import seeded
from skllmreg.utils._doc_link import DocLinkMixin
from skllmreg.utils._frames import is_frame
from skllmreg.utils._shared import SharedByClones
from skllmreg.utils._text import short_repr
from skllmreg.utils._validation import check_rows, check_texts, text_columns

# Requests of a round where nothing says how many.
N_BATCHES = 4


class GOLDSeq2SeqAugmenter(AugmenterMixin, DocLinkMixin, MetaEstimatorMixin, SharedByClones):
    """Have an LLM write inputs with their targets, and train a student that writes.

    For tasks whose answers are texts: questions and answers, word problems and equations, dates in
    one format, slots as JSON. In every round the LLM writes pairs from a few labeled ones, near
    those that the student finds unfamiliar if the `strategy` is "gold" [1]_. Wrong targets are the
    main noise: `validate` refuses those that can be checked, `answer_check` those that a second
    answer contradicts.

    Parameters
    ----------
    estimator : estimator with `fit`, `predict` and `energy`, default=None
        The student: ``fit(texts, texts)``, ``predict(texts)`` and, for ``strategy="gold"``,
        ``energy(texts, texts, temperature)``, as in
        :class:`~skllmreg.students.Seq2SeqTransformer`. None answers with the target of the most
        similar input: a baseline. Every ``random_state=None`` in it gets a seed.
    llm : ChatModel, default=None
        Who writes; needs a `task`.
    generator : callable, default=None
        In place of the LLM: takes a :class:`GenerationRequest`, returns a list of
        ``{"input": ..., "target": ...}`` or of pairs.
    task : str, default=None
        What is to be done with an input, in a sentence.
    input_description, target_description : str, default=None
        What an input and a target are, for the LLM.
    validate : callable or list of callables, default=None
        Each takes an input and a target; returns None, or what is wrong with them. See
        :func:`~skllmreg.augmentation.answer_in`, :func:`~skllmreg.augmentation.matches` and
        :func:`~skllmreg.augmentation.json_schema`.
    answer_check : ChatModel, fitted estimator or callable, default=None
        Answers each written input again; a pair whose target differs is refused. A function takes a
        list of inputs and returns their targets.
    metric : {"exact_match", "token_f1", "rouge_l"} or callable, default="exact_match"
        Agreement of the true and a written target, from 0 to 1; for `score` and `answer_check`.
    strategy : {"auto", "gold", "random-feedback", "errors", "coverage", "no-feedback"}, \
            default="auto"
        As in :class:`GOLDAugmenter`. "auto" is "no-feedback".
    n_rounds : int, default=None
        Maximum number of rounds. None: as many as `n_samples` or `max_requests` take, else 5.
    n_samples : int, default=None
        Pairs wanted. None: what comes.
    n_batches : int, default=4
        Requests of a round.
    max_requests : int, default=None
        Maximum number of requests for pairs.
    batch_size : int, default=8
        Pairs asked for in a request.
    n_seed_examples : int, default=3
        Labeled pairs in a request, drawn anew for each.
    n_feedback : int, default=2
        Pairs to write near in every other request.
    feedback_quantiles : tuple of float, default=(0.5, 0.75)
        Band of energies that feedback comes from with ``strategy="gold"``.
    random_state : int, RandomState instance or None, default=None
    verbose : bool, default=None
        Whether progress is shown. None: a bar where stderr is a terminal or a notebook's and the
        work takes more than two seconds, elsewhere a line every minute.

    Attributes
    ----------
    estimator_ : estimator
        Fitted to the labeled and the generated pairs.
    X_generated_ : ndarray of str of shape (n_generated,), or data frame
    y_generated_ : ndarray of str of shape (n_generated,)
    generation_round_, ood_scores_, rejected_, history_, n_requests_, termination_condition_
        As in :class:`GOLDAugmenter`.
    n_features_in_ : int
        Number of fields, for a data frame.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)

    References
    ----------
    .. [1] Gholami et al. (2024), "GOLD: Generalized knowledge distillation via out-of-distribution-
       guided language data generation", Findings of NAACL, arXiv:2403.19754.

    Examples
    --------
    >>> from skllmreg import GOLDSeq2SeqAugmenter
    >>> from skllmreg.augmentation import matches
    >>> months = {"May": "05", "June": "06"}
    >>> def generator(request):
    ...     days = [10 + (3 * request.number + i) % 18 for i in range(request.n_rows)]
    ...     return [{"input": f"{day} {name} 2024", "target": f"2024-{number}-{day}"}
    ...             for day in days for name, number in months.items()]
    >>> model = GOLDSeq2SeqAugmenter(
    ...     generator=generator, validate=matches("[0-9]{4}-[0-9]{2}-[0-9]{2}"), n_rounds=3
    ... )
    >>> model = model.fit(["1 May 2024", "2 June 2024"], ["2024-05-01", "2024-06-02"])
    >>> model.predict(["14 June 2024"])
    array(['2024-06-14'], dtype=object)
    """

    _parameter_constraints: dict = AugmenterMixin._parameter_constraints | {
        "estimator": [HasMethods(["fit", "predict"]), None],
        "input_description": [str, None],
        "target_description": [str, None],
        "validate": [callable, list, tuple, None],
        "answer_check": [HasMethods(["complete"]), HasMethods(["predict"]), callable, None],
        "metric": [StrOptions(set(METRICS)), callable],
        "n_samples": [Interval(Integral, 1, None, closed="left"), None],
        "n_batches": [Interval(Integral, 1, None, closed="left")],
    }
    _shared_by_clones = ("llm", "generator", "validate", "answer_check")

    def __init__(
        self,
        estimator=None,
        *,
        llm=None,
        generator=None,
        task=None,
        input_description=None,
        target_description=None,
        validate=None,
        answer_check=None,
        metric="exact_match",
        strategy="auto",
        n_rounds=None,
        n_samples=None,
        n_batches=N_BATCHES,
        max_requests=None,
        batch_size=8,
        n_seed_examples=3,
        n_feedback=2,
        feedback_quantiles=(0.5, 0.75),
        random_state=None,
        verbose=None,
    ):
        self.estimator = estimator
        self.llm = llm
        self.generator = generator
        self.task = task
        self.input_description = input_description
        self.target_description = target_description
        self.validate = validate
        self.answer_check = answer_check
        self.metric = metric
        self.strategy = strategy
        self.n_rounds = n_rounds
        self.n_samples = n_samples
        self.n_batches = n_batches
        self.max_requests = max_requests
        self.batch_size = batch_size
        self.n_seed_examples = n_seed_examples
        self.n_feedback = n_feedback
        self.feedback_quantiles = feedback_quantiles
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X, y):
        """Generate pairs, and fit a fresh student to the labeled and the generated ones.

        Parameters
        ----------
        X : sequence of str of shape (n_samples,), or data frame of texts
            Inputs; the columns of a frame are fields, such as question and context.
        y : sequence of str of shape (n_samples,)
            Targets.

        Returns
        -------
        self
        """
        self._validate_params()
        self.__dict__.pop("estimator_", None)  # of an earlier fit, should this one fail
        X, y = self._checked(X, reset=True), check_texts(y, "y")
        check_consistent_length(X, y)
        check_common(self)
        kind = InputTarget(
            X,
            y,
            input_description=self.input_description,
            target_description=self.target_description,
        )
        data = TrainingPairs(X, np.zeros(len(y), dtype=int), None, kind)
        student = NearestTarget() if self.estimator is None else self.estimator
        rng, seed = seeds(self.random_state)
        rows = []
        if self.llm is None and self.generator is None:
            self._keep_nothing(data)
        else:
            rows = [one.row for one in self._write(data, student, seed, rng).accepted]
        every = [*kind.rows, *rows]
        self.estimator_ = seeded(student, seed).fit(kind.to_X(every), kind.to_y(every))
        return self

    def _write(self, data, student, seed, rng):
        """Have pairs written; what cannot work is an error before anything is paid for."""
        validate = self._validator()
        for i, row in enumerate(data.kind.rows):
            if problem := data.kind.problem(row) or validate(row):
                raise ValueError(f"Row {i} of the labeled pairs is refused itself: {problem}.")
        strategy = "no-feedback" if self.strategy == "auto" else self.strategy
        if STRATEGIES[strategy].source == "written" and not hasattr(student, "energy"):
            raise ValueError(
                f'strategy="{strategy}" needs a student with energy(X, y, temperature), which '
                f"{type(student).__name__} does not have."
            )
        quotas = class_quotas(self.n_samples, data.labels)
        return self._grow(
            data,
            make_plan(self, quotas, strategy=strategy, n_batches=self.n_batches),
            rng,
            study=make_study(self, data, student, seed, strategy=strategy),
            make_check=partial(self._answer_check, data.kind),
            curator=make_curator(self, data.kind, quotas, data.labels, validate=validate),
        )

    def _validator(self):
        """Make one check of a row of the user's checks."""
        checks = [] if self.validate is None else self.validate
        checks = [checks] if callable(checks) else list(checks)

        def validate(row):
            for check in checks:
                found = check(row["input"], row["target"])
                if found is not None and not isinstance(found, str):
                    raise TypeError(
                        f"validate returned {short_repr(found)}; it returns None, or a str that "
                        "says what is wrong."
                    )
                if found:
                    return found
            return ""

        return validate

    def _answer_check(self, kind, seed):
        if self.answer_check is None:
            return None
        return AnswerCheck(self.answer_check, kind, self.task, self._metric())

    def _metric(self):
        return METRICS[self.metric] if isinstance(self.metric, str) else self.metric

    def predict(self, X):
        """Write targets by the student.

        Parameters
        ----------
        X : like in `fit`

        Returns
        -------
        ndarray of str objects of shape (n_samples,)
        """
        check_is_fitted(self, "estimator_")
        return self.estimator_.predict(input_texts(self._checked(X, reset=False)))

    def energy(self, X, y, temperature=1.0):
        """Compute how far pairs are from what the student knows.

        Parameters
        ----------
        X, y : like in `fit`
        temperature : float, default=1.0

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        check_is_fitted(self, "estimator_")
        X = input_texts(self._checked(X, reset=False))
        return self.estimator_.energy(X, check_texts(y, "y"), temperature)

    def score(self, X, y):
        """Compute the mean of `metric` over inputs.

        Parameters
        ----------
        X, y : like in `fit`

        Returns
        -------
        float
        """
        metric, y = self._metric(), check_texts(y, "y")
        found = self.predict(X)
        check_consistent_length(found, y)
        return float(np.mean([metric(true, text) for true, text in zip(y, found, strict=True)]))

    def _checked(self, X, *, reset):
        """Validate inputs: texts, or a frame in which every cell is one."""
        X = check_rows(self, X, reset=reset)
        if not is_frame(X):
            return check_texts(X)
        text_columns(X)
        return X

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.two_d_array = False
        tags.target_tags.required = True
        return tags
