"""Ask a teacher about rows: a recorded table, or a classifier; count what was asked."""

import numpy as np
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import check_is_fitted

from skllmreg.exceptions import InvalidReplyError, NoAnswerError, NoLLMWarning
from skllmreg.llm._engine import unusable_replies
from skllmreg.llm._quote import is_stand_in
from skllmreg.selection._unlabeled import is_unlabeled, turns
from skllmreg.students._calibration import calibrate_teacher, choose_correction, fit_calibration
from skllmreg.students._fitting import seeded
from skllmreg.utils._frames import is_frame, to_floats
from skllmreg.utils._warn import warn

# Most labeled rows that the teacher is asked about, to find how far it can be believed; with a
# budget, at most this share of it, or at first so many; and more where these show it to be biased.
MOST_CALIBRATION_ROWS, CALIBRATION_SHARE = 200, 0.05
FIRST_ROWS, SHARE_IF_BIASED = 10, 0.2
# Tables are often rounded to two digits.
ROUNDING = 0.05


def find_source(teacher, X, labeled, labels, teacher_proba, classes, random_state=None):
    """Whom to ask; its `columns` are the classes.

    Parameters
    ----------
    teacher : classifier or None
    X : array-like of shape (n_samples, ...)
    labeled : ndarray of int of shape (n_labeled,)
    labels : ndarray of shape (n_labeled,)
    teacher_proba, classes
        As in `LLKDSelector.fit`.
    random_state : int, RandomState instance or None
        Of a teacher that has none.

    Returns
    -------
    RecordedTeacher, LiveTeacher or None
        None where there is no one to ask, or no row to ask about.
    """
    if teacher is not None and teacher_proba is not None:
        raise ValueError("Pass a teacher or teacher_proba, not both.")
    if classes is not None and teacher_proba is None:
        raise ValueError("classes names the columns of teacher_proba, which is not passed.")
    n_samples = X.shape[0]
    source: RecordedTeacher | LiveTeacher
    if teacher_proba is not None:
        source = recorded_teacher(teacher_proba, labels, classes, n_samples)
    elif teacher is None:
        return None
    else:
        learned_nothing = isinstance(teacher, FrozenEstimator) or is_prompted(teacher)
        if len(labeled) == n_samples and not isinstance(teacher, FrozenEstimator):
            return None
        if len(labeled) < n_samples:
            teacher = fitted_teacher(teacher, X, labeled, labels, random_state)
        source = LiveTeacher(teacher, X, knows_labels=not learned_nothing)
    if len(source.columns) < 2:
        raise ValueError(
            f"The teacher knows a single class, {source.columns[0]!r}: there is nothing to learn."
        )
    if is_unlabeled(source.columns).any():
        raise ValueError(
            f"The teacher's classes are {source.columns.tolist()}, and -1 marks rows without a "
            "label: give the classes other names."
        )
    unknown = set(labels.tolist()) - set(source.columns.tolist())
    if unknown:
        raise ValueError(
            f"The teacher's classes are {source.columns.tolist()}; y holds {sorted(unknown)}, "
            "which it does not know. (VotingClassifier and other tools number the sorted labels "
            "before they fit, and of -1 for no label make a class.)"
        )
    return source if len(labeled) < n_samples else None


def warn_if_silent(teacher, has_teacher, n_unlabeled):
    """Warn where no teacher will be asked: there is none, or no row without a label."""
    if not has_teacher:
        warn(
            "There is no teacher: the student is fitted on the labels in y alone.",
            NoLLMWarning,
        )
    elif teacher is not None and not n_unlabeled:
        warn(
            "Every row of y has a label (-1, None and NaN mark rows without one): the teacher "
            "is not asked. (VotingClassifier and other tools number the sorted labels before "
            "they fit, and of -1 make a class.)",
            NoLLMWarning,
        )


def fitted_teacher(teacher, X, labeled, labels, random_state):
    """Fit a clone to the labeled rows; a frozen one, or any without such rows, is fitted."""
    if len(labeled) and not isinstance(teacher, FrozenEstimator):
        teacher = clone(teacher) if random_state is None else seeded(teacher, random_state)
        if is_prompted(teacher):
            # The selector calibrates it, within its budget.
            teacher.set_params(calibrate=False)
        return teacher.fit(_safe_indexing(X, labeled), labels)
    try:
        check_is_fitted(teacher)
    except NotFittedError as error:
        if len(labeled):
            raise
        raise ValueError(
            "No row has a label to fit the teacher on. Put a fitted teacher in "
            "sklearn.frozen.FrozenEstimator; an LLM that has class_descriptions needs no fit."
        ) from error
    return teacher


def is_prompted(teacher):
    """Whether it is shown labeled rows and learns nothing: `LLMTeacherClassifier` says so."""
    return getattr(teacher, "_is_prompted", False)


def delivery(teacher):
    """Whether the LLM of a teacher answers by batch jobs, and whether it waits for them."""
    llm = getattr(teacher, "llm", None)
    return getattr(llm, "delivery", "live") == "batch", getattr(llm, "batch_wait", True)


class RecordedTeacher:
    """A table of probabilities, known beforehand.

    Parameters
    ----------
    proba : array-like or data frame of shape (n_samples, n_classes)
    columns : ndarray
        The class of each column.
    """

    def __init__(self, proba, columns):
        self.table = to_floats(proba)
        self.columns = columns

    def can_answer(self, rows):
        """Whether there is an answer, without a look at what it is."""
        return ~np.isnan(self.table[rows]).all(axis=1)

    def __call__(self, rows):
        """Look up the probabilities of rows; and say where they come from."""
        return self.table[rows], "recorded"

    def calibration_rows(self, rows):
        """Those of the labeled rows that the table has an answer for."""
        return rows[np.isfinite(self.table[rows]).all(axis=1)]


class LiveTeacher:
    """A classifier that is asked for the rows it is needed for.

    Parameters
    ----------
    classifier : fitted classifier with predict_proba
    X : array-like of shape (n_samples, ...)
    knows_labels : bool
        Whether it was fitted on the labeled rows, so that these say nothing about its errors.
    """

    def __init__(self, classifier, X, *, knows_labels):
        if not hasattr(classifier, "predict_proba"):
            raise TypeError(f"The teacher {classifier!r:.100} has no predict_proba.")
        self.classifier = classifier
        self.X = X
        self.knows_labels = knows_labels
        self.columns = np.asarray(classifier.classes_)

    def __call__(self, rows):
        """Ask for the probabilities of rows; and say where they come from."""
        X = _safe_indexing(self.X, rows)
        source: str | np.ndarray = "live"
        try:
            if hasattr(self.classifier, "answers"):  # LLMTeacherClassifier knows what it sent
                found = self.classifier.answers(X)
                proba, source = found.probabilities, np.where(found.cached, "cached", "live")
            else:
                proba = self.classifier.predict_proba(X)
        except InvalidReplyError as error:
            if not error.failures:
                raise
            failures = {int(rows[i]): failure for i, failure in error.failures.items()}
            # The teacher counted the rows that it got.
            raise unanswered(failures, error) from None
        if is_frame(proba) and set(proba.columns) == set(self.columns.tolist()):
            proba = proba[self.columns.tolist()]
        proba = to_floats(proba)
        if proba.shape != (len(rows), len(self.columns)):
            raise ValueError(
                f"The teacher's predict_proba gave the shape {proba.shape} for {len(rows)} rows "
                f"and {len(self.columns)} classes."
            )
        return proba, source

    def can_answer(self, rows):
        """Whether there may be an answer."""
        return np.ones(len(rows), bool)

    def calibration_rows(self, rows):
        """All of the labeled rows, or none."""
        return rows[:0] if self.knows_labels else rows


class Answers:
    """What the teacher has said so far; counts the rows it was asked about.

    Parameters
    ----------
    teacher : RecordedTeacher or LiveTeacher
    n_samples : int

    Attributes
    ----------
    classes : ndarray of shape (n_classes,)
        The teacher's, sorted.
    can_answer, asked : ndarray of bool of shape (n_samples,)
    source : ndarray of str of shape (n_samples,)
        "recorded", "live" or "cached"; empty for rows not asked about.
    proba : ndarray of shape (n_samples, n_classes)
        NaN for rows not asked about, or without an answer.
    """

    def __init__(self, teacher, n_samples):
        self.teacher = teacher
        self.can_answer = teacher.can_answer(np.arange(n_samples))
        self.classes = np.unique(teacher.columns)
        self.position = np.searchsorted(self.classes, teacher.columns)
        self.asked = np.zeros(n_samples, bool)
        self.source = np.full(n_samples, "", dtype="<U8")
        self.proba = np.full((n_samples, len(self.classes)), np.nan)

    @property
    def n_calls(self):
        """Rows that the teacher was asked about."""
        return int(self.asked.sum())

    @property
    def is_rehearsal(self):
        """Whether the answers are made up, for a quote."""
        return is_stand_in(getattr(getattr(self.teacher, "classifier", None), "llm", None))

    def may_ask(self, rows):
        """Which of some rows the teacher was not asked about yet, and may answer."""
        return (self.can_answer & ~self.asked)[rows]

    def has_answer(self, rows):
        """Whether there is one for each of some rows."""
        return np.isfinite(self.proba[rows, 0])

    def ask(self, rows):
        """Ask about rows; a row is asked about once, and NaN throughout is no answer."""
        if not len(rows):
            return
        answer, self.source[rows] = self.teacher(rows)
        self.asked[rows] = True
        there = ~np.isnan(answer).all(axis=1)
        rows, answer = rows[there], answer[there]
        check_proba(answer, rows)
        self.proba[rows] = 0.0
        self.proba[np.ix_(rows, self.position)] = answer / answer.sum(axis=1, keepdims=True)


class KnownRows:
    """Labeled rows that the teacher is asked about, to find how far it can be believed.

    Parameters
    ----------
    problem : TrainingProblem
    answers : Answers
    method : {"auto", "temperature", "bias"} or None
        "auto" corrects the class biases where the labels speak for it.

    Attributes
    ----------
    rows : ndarray of int of shape (n_known,)
        Those that it has answered.
    planned : ndarray of int of shape (n_planned,)
        Those that it is to be asked about with the first round.
    """

    def __init__(self, problem, answers, method):
        self.problem = problem
        self.answers = answers
        self.method = method
        self.rows = self.planned = np.empty(0, int)

    def ask(self, first, most, rng):
        """Ask about the first few; and about more where these show a bias.

        Parameters
        ----------
        first, most : int
        rng : RandomState
        """
        rows = self._ordered(rng)
        self._take(rows[:first])
        if self.method == "auto" and most > first and len(self.rows):
            proba, codes = self._said()
            correction = choose_correction(proba, codes, proba[:0])
            if correction is not None and correction.bias_sd:
                self._take(rows[:most])

    def plan(self, most, rng):
        """Choose rows to be asked about with the first round: a batch job may take a day.

        Parameters
        ----------
        most : int
        rng : RandomState
        """
        self.planned = np.sort(self._ordered(rng)[:most])

    def ask_planned(self, others):
        """Ask about the planned rows together with others.

        Parameters
        ----------
        others : ndarray of int of shape (n_rows,)
        """
        self.answers.ask(np.concatenate([self.planned, others]))
        if len(self.planned):
            self._take(self.planned)
            self.planned = self.planned[:0]

    def _ordered(self, rng):
        """The labeled rows that it may be asked about, in the order in which they would be."""
        available = self.answers.teacher.calibration_rows(self.problem.labeled)
        if self.method is None or not len(available):
            return np.empty(0, int)
        # From all classes in turn; in an order that does not depend on what is available, so that a
        # recorded fit comes out the same.
        order = rng.permutation(len(self.problem.labeled))
        order = order[np.argsort(turns(self.problem.codes[order]), kind="stable")]
        rows = self.problem.labeled[order]
        return rows[np.isin(rows, available)]

    def _take(self, rows):
        rows = np.sort(rows)
        self.answers.ask(rows[self.answers.may_ask(rows)])
        self.rows = rows[self.answers.has_answer(rows)]

    def _said(self):
        codes = self.problem.codes[np.searchsorted(self.problem.labeled, self.rows)]
        return self.answers.proba[self.rows], codes

    def calibration(self, others):
        """Calibrate the teacher; None without a row to do so.

        Parameters
        ----------
        others : ndarray of int of shape (n_rows,)
            Rows without a label that it has answered.

        Returns
        -------
        Calibration or None
        """
        if not len(self.rows):
            return None
        proba, codes = self._said()
        if self.method != "auto":
            return fit_calibration(proba, codes, bias=self.method == "bias")
        return calibrate_teacher(proba, codes, self.answers.proba[others])


def calibration_rows(method, calls, n_pool, everything):
    """How many labeled rows to ask about: at first, and where these show a biased teacher."""
    if calls is None:
        return MOST_CALIBRATION_ROWS, MOST_CALIBRATION_ROWS
    first, most = int(CALIBRATION_SHARE * calls), int(SHARE_IF_BIASED * calls)
    if method == "auto":
        first = max(first, min(FIRST_ROWS, most))
    if everything:
        # What the pool leaves over is for the calibration.
        first = min(first, calls - n_pool)
    return min(first, MOST_CALIBRATION_ROWS), min(most, MOST_CALIBRATION_ROWS)


def check_proba(proba, rows):
    """Raise a ValueError that names the first row without a distribution over the classes."""
    with np.errstate(invalid="ignore"):
        wrong = ~((proba >= 0).all(axis=1) & (np.abs(proba.sum(axis=1) - 1) < ROUNDING))
    if wrong.any():
        i = int(np.argmax(wrong))
        raise ValueError(
            f"The teacher's probabilities of row {rows[i]} have to be zero or more and sum to one; "
            f"they are {proba[i][:5].tolist()}{' ...' if proba.shape[1] > 5 else ''} and sum to "
            f"{proba[i].sum():.3g}."
        )


def recorded_teacher(proba, labels, classes, n_samples):
    """Read the parameter `teacher_proba`; see `LLKDSelector.fit`."""
    shape = np.shape(proba)
    if len(shape) != 2 or shape[0] != n_samples:
        raise ValueError(
            f"teacher_proba has the shape {shape}; a row for each of the {n_samples} rows of X and "
            "a column for each class is wanted."
        )
    if classes is not None and not hasattr(classes, "__iter__"):
        raise ValueError(f"classes is {classes!r}; a class for each column is wanted.")
    if is_frame(proba):
        columns = list(proba.columns)
        if classes is not None and set(columns) != set(classes):
            raise ValueError(f"teacher_proba has the columns {columns}, classes is {classes!r}.")
    elif classes is not None:
        columns = list(classes)
    else:
        columns = np.unique(labels).tolist()
    if len(columns) != shape[1] or len(set(columns)) != len(columns):
        raise ValueError(
            f"teacher_proba has {shape[1]} columns for the classes {columns}: name them by a data "
            "frame's columns or by classes=."
        )
    try:
        return RecordedTeacher(proba, np.array(columns))
    except (TypeError, ValueError) as error:
        raise ValueError(f"teacher_proba holds something that is not a number: {error}") from error


def unanswered(failures, error, replies=None):
    """Error for rows that get no answer, by their number in X.

    Parameters
    ----------
    failures : dict of int to InvalidReplyError
        By row.
    error : InvalidReplyError
        What the model has raised.
    replies : list, default=None
        What the others got; None takes those of `error`.

    Returns
    -------
    InvalidReplyError
    """
    ended = isinstance(error, NoAnswerError)
    failures = dict(sorted(failures.items()))
    error = unusable_replies("Row", failures, replies or error.replies, ended=ended)
    if ended:
        return error
    hint = 'LLMTeacherClassifier(on_refusal="abstain") leaves such rows without an answer.'
    error.args = (f"{error} {hint}",)
    return error
