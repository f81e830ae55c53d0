"""Hold one training problem: the rows, the known labels, and the student to train."""

import numpy as np
from sklearn.utils import _safe_indexing, check_random_state
from sklearn.utils.validation import _num_samples

from skllmreg.students import TextClassifier
from skllmreg.students._fitting import (
    check_student,
    fit_by_batch,
    fit_student,
    is_net,
    last_step,
    linear_student,
    seeded,
    student_proba,
)
from skllmreg.utils._validation import is_text

DRY_RUN_ROWS = 50  # or two of each class


def ignore(done):
    """Do nothing about progress."""


class TrainingProblem:
    """Labeled rows, a pool without labels, and a student to be trained.

    Parameters
    ----------
    X : array-like of shape (n_samples, ...)
    estimator : classifier
    classes : ndarray of shape (n_classes,)
    labeled : ndarray of int of shape (n_labeled,)
        Rows with a label.
    codes : ndarray of int of shape (n_labeled,)
        Positions of their labels in `classes`.
    pool : ndarray of int of shape (n_pool,)
        The other rows.

    Attributes
    ----------
    tick : callable
        Takes 1 when a student has been fitted.
    """

    def __init__(self, X, estimator, classes, labeled, codes, pool):
        self.X = X
        self.estimator = estimator
        self.classes = classes
        self.labeled = labeled
        self.codes = codes
        self.pool = pool
        self.tick = ignore
        self.truth = np.eye(len(classes))[codes]

    def training_rows(self, rows, target, weight=1.0):
        """Join labeled rows, of weight 1, with others; in the order of X."""
        weight = np.concatenate([np.ones(len(self.labeled)), np.broadcast_to(weight, len(rows))])
        rows = np.concatenate([self.labeled, rows])
        order = np.argsort(rows)
        target = np.concatenate([self.truth, target])
        return rows[order], target[order], weight[order]

    def fit(self, rows, target, weight, start=None):
        """Fit a student; `start` is as in `fit_student`."""
        if not len(rows):
            raise ValueError("No row is selected and none has a label: lower the thresholds.")
        X = _safe_indexing(self.X, rows)
        student = fit_student(self.estimator, X, target, self.classes, weight=weight, start=start)
        self.tick(1)
        return student

    def fit_by_batch(self, rows, target, weight, rule, codes):
        """Fit a net, to which the rule is applied in every batch.

        Returns
        -------
        student : fitted net
        share : ndarray of shape (len(rows),)
            In which share of its presentations a row was learned from.
        """
        everyone, target, weight = self.training_rows(rows, target, weight)
        asked = ~np.isin(everyone, self.labeled)
        everyones_codes = np.full(len(everyone), -1)
        everyones_codes[asked] = codes
        X = _safe_indexing(self.X, everyone)
        student, share = fit_by_batch(
            self.estimator, X, target, weight, rule, everyones_codes, self.classes
        )
        self.tick(1)
        return student, np.nan_to_num(share[asked])

    def dry_run_fit(self, *, weighted):
        """Fit the student to rows with made-up labels, and throw it away.

        What it cannot take in X should come out before a teacher is paid. It is fitted to a few
        rows, or, where it needs more, to all, and asked about all, or, of texts and by a net, which
        is slow, about the few.

        Parameters
        ----------
        weighted : bool
            Whether it will be fitted to weighted rows.
        """
        n_samples, n_classes = _num_samples(self.X), len(self.classes)
        few = min(n_samples, max(2 * n_classes, DRY_RUN_ROWS))
        for n_rows in (few, n_samples):
            rows = np.linspace(0, n_samples - 1, n_rows).astype(int)
            target = np.eye(n_classes)[np.arange(n_rows) % n_classes]
            some = _safe_indexing(self.X, rows)
            try:
                weight = np.ones(n_rows)
                weight[: n_rows // 2] -= 0.5 * weighted
                student = fit_student(self.estimator, some, target, self.classes, weight=weight)
                slow = is_net(last_step(student)) or is_text(self.X)
                student_proba(student, some if slow else self.X, self.classes)
                return
            except Exception:
                if n_rows == n_samples:
                    raise

    def first_student(self):
        """Fit on the labeled rows; None where these do not tell two classes apart."""
        if len(set(self.codes)) < 2:
            return None
        return self.fit(self.labeled, self.truth, np.ones(len(self.labeled)))

    def pool_proba(self, student):
        """Probabilities of the pool's rows; all the same for no student."""
        if student is None:
            return np.full((len(self.pool), len(self.classes)), 1 / len(self.classes))
        return student_proba(student, _safe_indexing(self.X, self.pool), self.classes)


def one_hot(proba):
    """The most probable class of each row, as a distribution."""
    return np.eye(proba.shape[1])[proba.argmax(axis=1)]


def make_student(estimator, X, random_state):
    """The student that a selector trains: the user's with seeds, or one that suits X.

    Parameters
    ----------
    estimator : classifier or None
    X : array-like of shape (n_samples, ...)
    random_state : int, RandomState instance or None

    Returns
    -------
    classifier
    """
    if estimator is not None:
        if is_net(last_step(estimator)) and not is_net(estimator):
            raise TypeError(
                "A net at the end of a pipeline: put the other steps before the LLKDSelector."
            )
        return estimator if random_state is None else seeded(estimator, random_state)
    if is_text(X):
        rng = check_random_state(random_state)
        return TextClassifier(random_state=rng.randint(2**31 - 1))
    return linear_student(X)


def check_before_asking(problem, *, weighted, default, dry_run):
    """Find out that the student cannot be trained on X before anything is paid for.

    Parameters
    ----------
    problem : TrainingProblem
    weighted : bool
        Whether the student will be fitted to weighted rows.
    default : bool
        Whether it is not the user's.
    dry_run : bool
        Whether to fit it to made-up labels.
    """
    check_student(problem.estimator, weighted=weighted)
    if not dry_run:
        return
    try:
        problem.dry_run_fit(weighted=weighted)
    except Exception as error:
        hint = about_columns(problem.X) if default else ""
        if weighted and learns_without_weights(problem):
            hint = (
                " It takes no sample_weight, which soft labels and several rounds need: choose "
                'another estimator, or labels="hard" with the strategy "all" or "random".'
            )
        raise ValueError(
            f"The student, {type(problem.estimator).__name__}, cannot be fitted to X; the teacher "
            f"was not asked.{hint} It says: {error}"
        ) from error


def learns_without_weights(problem):
    """Whether the student can be fitted to rows without weights."""
    try:
        problem.dry_run_fit(weighted=False)
    except Exception:
        return False
    return True


def about_columns(X):
    """Name a column that the default student cannot take, and what to do about it."""
    for name in getattr(X, "columns", ()):
        column = np.asarray(X[name])
        if column.dtype.kind not in "biuf":
            alone = f", or pass X[{name!r}] alone for a student of texts" if X.shape[1] == 1 else ""
            return (
                f" Column {name!r} holds {column[0]!r:.50}: give a pipeline that turns it into "
                f"numbers as estimator{alone}."
            )
    return ""
