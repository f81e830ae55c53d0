"""`LLMCascadeClassifier`: the student answers where it is safe, the teacher elsewhere."""

from numbers import Integral, Real

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin, clone
from sklearn.frozen import FrozenEstimator
from sklearn.utils import _safe_indexing, check_random_state
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.validation import _num_samples, check_is_fitted

from skllmreg.exceptions import NoAnswerWarning, UnkeptPromiseWarning
from skllmreg.llm._quote import Quotes
from skllmreg.selection._answers import Answers, find_source, fitted_teacher
from skllmreg.selection._deferral import (
    DeferredPredictions,
    calibration_size,
    curve,
    find_threshold,
)
from skllmreg.selection._report import AnswerReport, Meter, summarize
from skllmreg.selection._selector import LLKDSelector
from skllmreg.selection._unlabeled import check_labels
from skllmreg.students._fitting import is_net
from skllmreg.utils._doc_link import DocLinkMixin
from skllmreg.utils._progress import verbosity
from skllmreg.utils._validation import check_rows
from skllmreg.utils._warn import warn

NOTHING_TO_CALIBRATE = (
    "There is no row to calibrate with: every row of y has a label, or teacher_proba holds no "
    "answer about one without. The promise is about rows without a label."
)


class LLMCascadeClassifier(
    DeferredPredictions,
    AnswerReport,
    Quotes,
    DocLinkMixin,
    ClassifierMixin,
    MetaEstimatorMixin,
    BaseEstimator,
):
    """Let a small model answer where it agrees with the teacher, and the teacher elsewhere.

    With probability `confidence` over the draw of the calibration rows, at most the share
    `max_disagreement` of **all** rows get an answer from the cascade that differs from the
    teacher's. That is not the share among the rows that the student answers alone, which is larger
    wherever it does not answer all: `alone_disagreement_` has that share, and a bound of it.

    The promise is about rows like the unlabeled ones that `fit` gets; it is void when the texts
    change, and for a teacher that answers the same row differently from day to day.

    Parameters
    ----------
    estimator : classifier, LLKDSelector or FrozenEstimator, default=None
        The student. A classifier (None: the default of :class:`LLKDSelector`) is trained by an
        `LLKDSelector`; give one of your own to choose its parameters. A fitted selector or
        classifier in :class:`~sklearn.frozen.FrozenEstimator` stays as it is, and only the
        threshold is found, on rows that it has not been fitted on.
    teacher : classifier with `predict_proba`, default=None
        As for `LLKDSelector`. Beside `teacher_proba` in `fit` it is asked by `predict` alone.
    max_disagreement : float, default=0.05
        Largest share of all rows on which the cascade may differ from the teacher.
    confidence : float, default=0.95
        Probability with which that holds.
    n_calibration : "auto" or int, default="auto"
        Number of unlabeled rows that are drawn at random before anything else, about which the
        teacher is asked to find the threshold; they are used for nothing else. "auto" is 200, or a
        fifth of the calls if that is more, and at most half of the calls where this is enough. At
        .05 and .95, fewer than 59 can promise nothing, which is an error before the first call.
    max_teacher_calls : int, default=None
        Maximum number of rows that `fit` asks the teacher about, calibration included. `predict`
        is not limited by it: give the ChatModel a budget for that.
    fallback : {"teacher", "student", "abstain", "raise"}, default="teacher"
        What becomes of a row that should go to the teacher:

        - "teacher": the teacher's answer. If there is no teacher (only recorded answers), or it
          fails, that is an error, whose `replies` hold the answers for all other rows. A teacher
          that abstains has answered: the row gets -1, or None among strings.
        - "student": the teacher's answer, but the student's where there is none.
        - "abstain": the teacher's answer, but -1 or None where there is none.
        - "raise": the teacher's answer; an error where there is none, also if it abstains.
    random_state : int, RandomState instance or None, default=None
        Draws the calibration rows; also of a selector or student that has none of its own.
    verbose : bool, default=None
        Whether progress is shown. None: a bar where stderr is a terminal or a notebook's and the
        work takes more than two seconds, elsewhere a line every minute.

    Attributes
    ----------
    estimator_ : LLKDSelector or FrozenEstimator
        The fitted student.
    teacher_ : fitted classifier or None
        What `predict` asks.
    classes_ : ndarray of shape (n_classes,)
    threshold_ : float
        The student answers rows whose largest probability is at least this; infinity for none.
    coverage_ : float
        Share of the calibration rows that the student answers.
    disagreement_ : float
        Share of the calibration rows that it answers otherwise than the teacher.
    disagreement_bound_ : float
        Upper bound of that share for all rows, with probability `confidence`.
    alone_disagreement_ : tuple of float
        Share of disagreements among the rows that it answers, and an upper bound of it.
    calibration_indices_ : ndarray of int of shape (n_calibration,)
        Rows of X that were drawn.
    calibration_scores_ : ndarray of shape (n_calibration,)
        The student's largest probability of each.
    calibration_disagrees_ : ndarray of bool of shape (n_calibration,)
        Whether its label is not the teacher's; a teacher that gives no answer disagrees.
    n_teacher_calls_ : int
        Rows that `fit` asked the teacher about.
    n_features_in_ : int
        Not for texts.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)

    Warns
    -----
    UnkeptPromiseWarning
        If no threshold keeps the promise: every row goes to the teacher.
    NoAnswerWarning
        If the teacher gave no answer for some rows.
    NoLLMWarning
        If there is no teacher: the student is fitted on the labeled rows and answers everything.

    See Also
    --------
    CascadeDisplay : Coverage against disagreement, for every threshold.

    References
    ----------
    .. [1] Bates, Angelopoulos, Lei, Malik, Jordan (2021), "Distribution-free, risk-controlling
       prediction sets", Journal of the ACM 68(6).
    .. [2] Chen, Zaharia, Zou (2023), "FrugalGPT: how to use large language models while reducing
       cost and improving performance", arXiv:2305.05176.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.frozen import FrozenEstimator
    >>> from sklearn.neighbors import KNeighborsClassifier
    >>> from skllmreg import LLMCascadeClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> X = X / 16
    >>> teacher = FrozenEstimator(KNeighborsClassifier().fit(X[1200:], y[1200:]))
    >>> cascade = LLMCascadeClassifier(teacher=teacher, max_teacher_calls=500, random_state=0)
    >>> cascade.fit(X[:1000]).disagreement_bound_ <= 0.05
    True
    >>> bool(np.mean(cascade.predict(X[1000:1200]) != teacher.predict(X[1000:1200])) <= 0.05)
    True
    >>> bool(cascade.defer(X[1000:1200]).mean() < 0.6)
    True
    """

    _parameter_constraints: dict = {
        "estimator": [HasMethods(["fit"]), None],
        "teacher": [HasMethods(["predict_proba"]), None],
        "max_disagreement": [Interval(Real, 0, 1, closed="neither")],
        "confidence": [Interval(Real, 0, 1, closed="neither")],
        "n_calibration": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "max_teacher_calls": [Interval(Integral, 1, None, closed="left"), None],
        "fallback": [StrOptions({"teacher", "student", "abstain", "raise"})],
        "random_state": ["random_state"],
        "verbose": ["boolean", None],
    }

    def __init__(
        self,
        estimator=None,
        teacher=None,
        *,
        max_disagreement=0.05,
        confidence=0.95,
        n_calibration="auto",
        max_teacher_calls=None,
        fallback="teacher",
        random_state=None,
        verbose=None,
    ):
        self.estimator = estimator
        self.teacher = teacher
        self.max_disagreement = max_disagreement
        self.confidence = confidence
        self.n_calibration = n_calibration
        self.max_teacher_calls = max_teacher_calls
        self.fallback = fallback
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X, y=None, *, teacher_proba=None, classes=None):
        """Train the student, and find the threshold above which it answers.

        Parameters
        ----------
        X : {array-like, sparse matrix, data frame} of shape (n_samples, n_features), or texts
            What the student takes. For a frozen student: rows that it was not fitted on.
        y : array-like of shape (n_samples,), default=None
            -1, None, NaN or ``pd.NA`` for rows without a label. None: no row has one.
        teacher_proba : array-like or data frame of shape (n_samples, n_classes), default=None
            Recorded probabilities of the teacher, as for `LLKDSelector.fit`. A row of NaN is not
            asked about: the promise is about rows like the others.
        classes : array-like of shape (n_classes,), default=None
            The class of each column of an array `teacher_proba`.

        Returns
        -------
        self
        """
        self._validate_params()
        X = check_rows(self, X, reset=True, allow_nd=is_net(self.estimator))
        rng = check_random_state(self.random_state)
        teacher = self._given_teacher()
        # Where answers are recorded, the teacher is for `predict` alone.
        asked = None if teacher_proba is not None else teacher
        rows = np.empty(0, int)

        def draw(candidates):
            nonlocal rows
            rows = self._draw(candidates, rng)
            return rows

        with Meter(asked) as meter, verbosity(self.verbose):
            if isinstance(self.estimator, FrozenEstimator):
                self.estimator_ = self.estimator
                answers = self._compare_frozen(X, asked, teacher_proba, classes, draw)
            else:
                self.estimator_ = self._selector(asked, rng)
                answers = self.estimator_._fit(X, y, teacher_proba, classes, draw)
            if answers is not None:
                answers.ask(rows)
        if answers is None and teacher is not None:
            raise ValueError(NOTHING_TO_CALIBRATE)
        self.teacher_ = getattr(getattr(answers, "teacher", None), "classifier", None)
        if self.teacher_ is None and teacher is not None:
            self.teacher_ = self._fitted_beside_table(teacher, X, y)
        self._keep_promise(X, rows, answers)
        self._summary = summarize(answers, meter)
        return self

    def _given_teacher(self):
        """The parameter `teacher`, else the one that the selector has."""
        if self.teacher is not None or self.estimator is None:
            return self.teacher
        if isinstance(self.estimator, FrozenEstimator):
            return getattr(self.estimator, "teacher_", None)
        return getattr(self.estimator, "teacher", None)

    def _selector(self, teacher, rng):
        """Make the selector that trains the student on the calls that calibration leaves."""
        selector = self.estimator
        if not isinstance(selector, LLKDSelector):
            selector = LLKDSelector(selector)
        selector = clone(selector)
        if selector.random_state is None and self.random_state is not None:
            selector.set_params(random_state=rng.randint(2**31 - 1))
        return selector.set_params(teacher=teacher)

    def _draw(self, rows, rng):
        """Draw the calibration rows; and leave the student the rest of the calls."""
        if not len(rows):
            raise ValueError(NOTHING_TO_CALIBRATE)
        frozen = isinstance(self.estimator, FrozenEstimator)
        n_rows = calibration_size(
            min(self.max_teacher_calls or len(rows), len(rows)),
            self.n_calibration,
            self.max_disagreement,
            self.confidence,
            for_training=not frozen,
        )
        if not frozen and self.max_teacher_calls is not None:
            own = self.estimator_.max_teacher_calls
            self.estimator_.set_params(
                max_teacher_calls=self.max_teacher_calls - n_rows
                if own is None
                else min(own, self.max_teacher_calls - n_rows)
            )
        return np.sort(rng.choice(rows, n_rows, replace=False))

    def _compare_frozen(self, X, teacher, teacher_proba, classes, draw):
        """Whom to ask about rows that a fitted student has not seen; their labels do not matter."""
        check_is_fitted(self.estimator)
        if teacher is None and teacher_proba is None:
            raise ValueError(
                "A frozen student needs a teacher to be compared with: pass teacher= or "
                "fit(..., teacher_proba=)."
            )
        known = self.estimator.classes_
        if teacher_proba is not None and classes is None and not hasattr(teacher_proba, "columns"):
            classes = known
        none, n_samples = np.empty(0, int), _num_samples(X)
        source = find_source(teacher, X, none, known[none], teacher_proba, classes)
        answers = Answers(source, n_samples)
        unknown = set(known.tolist()) - set(answers.classes.tolist())
        if unknown:
            raise ValueError(
                f"The student knows the classes {sorted(unknown)}, and the teacher does not."
            )
        everyone = np.arange(n_samples)
        draw(everyone[answers.may_ask(everyone)])
        return answers

    def _fitted_beside_table(self, teacher, X, y):
        """The teacher that `predict` asks, where `fit` asked a table."""
        unlabeled, labels = check_labels(y, _num_samples(X), True)
        labeled = np.flatnonzero(~unlabeled)
        teacher = fitted_teacher(teacher, X, labeled, labels, self.random_state)
        if set(teacher.classes_.tolist()) != set(self.estimator_.classes_.tolist()):
            raise ValueError(
                f"The teacher's classes are {teacher.classes_.tolist()}, those of teacher_proba "
                f"{self.estimator_.classes_.tolist()}."
            )
        return teacher

    def _keep_promise(self, X, rows, answers):
        """Compare student and teacher on the calibration rows, and set what comes of it."""
        self.calibration_indices_ = rows
        self.n_teacher_calls_ = 0 if answers is None else answers.n_calls
        if answers is None:
            # Without a teacher there is nothing to promise: the student answers everything.
            self.classes_ = self.estimator_.classes_
            self.teacher_proba_ = np.full((_num_samples(X), len(self.classes_)), np.nan)
            self.answer_source_ = np.full(_num_samples(X), "", dtype="<U8")
            self.calibration_scores_, self.calibration_disagrees_ = np.empty(0), np.empty(0, bool)
            self.threshold_, self.coverage_, self.disagreement_ = -np.inf, 1.0, np.nan
            self.disagreement_bound_, self.alone_disagreement_ = np.nan, (np.nan, np.nan)
            return
        self.classes_ = answers.classes
        self.teacher_proba_, self.answer_source_ = answers.proba, answers.source
        proba = self._student_proba(_safe_indexing(X, rows))
        silent = ~answers.has_answer(rows)
        if silent.any():
            warn(
                f"The teacher gave no answer for {silent.sum()} of {len(rows)} calibration rows; "
                f"the first is row {rows[silent.argmax()]}. They count as disagreements.",
                NoAnswerWarning,
            )
        said = np.nan_to_num(answers.proba[rows], nan=-1.0).argmax(axis=1)
        self.calibration_scores_ = proba.max(axis=1)
        self.calibration_disagrees_ = silent | (proba.argmax(axis=1) != said)
        promise = find_threshold(
            self.calibration_scores_,
            self.calibration_disagrees_,
            self.max_disagreement,
            self.confidence,
        )
        self.threshold_, self.coverage_ = promise.threshold, promise.coverage
        self.disagreement_, self.disagreement_bound_ = promise.disagreement, promise.bound
        self.alone_disagreement_ = promise.alone
        if not promise.coverage:
            warn(
                f"No threshold keeps the disagreement below {self.max_disagreement}: every row "
                "goes to the teacher. A stronger student, more calls or a larger max_disagreement "
                "may help; CascadeDisplay shows what can be had.",
                UnkeptPromiseWarning,
            )

    def _use_of_rows(self):
        n_samples = len(self.answer_source_)
        use = {"round": np.full(n_samples, -1), "used": np.zeros(n_samples, bool)}
        use["weight"] = np.zeros(n_samples)
        if isinstance(self.estimator_, LLKDSelector):
            use = self.estimator_._use_of_rows()
        calibration = np.zeros(n_samples, bool)
        calibration[self.calibration_indices_] = True
        return use | {"calibration": calibration}

    def summary(self):
        """Sum up the last fit, and what 1,000 further rows take with and without the student.

        Returns
        -------
        dict
            As of :meth:`LLKDSelector.summary`; and "coverage" (share of rows that the student
            answers), "calls_per_1000" and "dollars_per_1000", each a pair: all rows to the teacher,
            and the cascade. Dollars are the mean of the calls that `fit` paid for; None where
            nobody counts them.
        """
        check_is_fitted(self)
        found = dict(self._summary)
        deferred = 1 - self.coverage_
        paid = found["calls"] - (found["cached"] or 0)
        per_call = found["dollars"] / paid if found["dollars"] and paid > 0 else None
        dollars = None if per_call is None else (1000 * per_call, 1000 * deferred * per_call)
        return found | {
            "coverage": self.coverage_,
            "calls_per_1000": (1000.0, 1000 * deferred),
            "dollars_per_1000": dollars,
        }

    def curve(self):
        """Compute what every threshold would bring, on the calibration rows.

        Returns
        -------
        coverage, disagreement, bound : ndarray of shape (n_thresholds,)
            See :class:`CascadeDisplay`.
        """
        check_is_fitted(self)
        return curve(self.calibration_scores_, self.calibration_disagrees_, self.confidence)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.input_tags.string = True
        return tags
