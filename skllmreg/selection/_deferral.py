"""Choose the score above which a student may answer, and have a teacher answer below it."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import beta
from sklearn.frozen import FrozenEstimator
from sklearn.utils.validation import check_is_fitted

from skllmreg.exceptions import LLMError, NoAnswerWarning
from skllmreg.selection._answers import Answers, LiveTeacher
from skllmreg.selection._unlabeled import labels_to_score
from skllmreg.students._fitting import is_net, student_proba
from skllmreg.utils._validation import check_rows
from skllmreg.utils._warn import warn

# Rows that "auto" calibrates with: as many as this, or this share of the calls if it is more.
CALIBRATION_ROWS, CALIBRATION_SHARE = 200, 0.2


def least_rows(max_disagreement, confidence):
    """Count the calibration rows without which nothing can be promised.

    Without a single disagreement among n rows, the Clopper-Pearson bound is
    :math:`1 - (1 - c)^{1/n}`: 59 rows for 5 % at a confidence of .95.

    Parameters
    ----------
    max_disagreement, confidence : float
        Between 0 and 1.

    Returns
    -------
    int
    """
    n = math.log(1 - confidence) / math.log(1 - max_disagreement)
    # A whole number, but for rounding, is enough.
    return max(1, math.ceil(n - 1e-9))


def calibration_size(n_calls, wanted, max_disagreement, confidence, *, for_training):
    """Choose the number of calibration rows, or say why no number will do.

    Parameters
    ----------
    n_calls : int
        Rows that the teacher may be asked about in all.
    wanted : int or "auto"
    max_disagreement, confidence : float
    for_training : bool
        Whether the student is to be trained on some of the calls.

    Returns
    -------
    int
    """
    n_rows, least = wanted, least_rows(max_disagreement, confidence)
    if wanted == "auto":
        n_rows = max(CALIBRATION_ROWS, int(CALIBRATION_SHARE * n_calls))
        if for_training:
            n_rows = min(n_rows, max(least, n_calls // 2))
        n_rows = min(n_rows, n_calls)
    if n_rows < least:
        raise ValueError(
            f"{n_rows} calibration rows can promise nothing at max_disagreement="
            f"{max_disagreement} and confidence={confidence}, even if the student agreed with the "
            f"teacher on all of them: at least {least} are needed. Raise n_calibration, "
            "max_teacher_calls or max_disagreement, or lower confidence; the teacher was not asked."
        )
    if n_calls - n_rows < for_training:
        raise ValueError(
            f"{n_rows} rows for the calibration leave none of the {n_calls} calls to train the "
            "student with: raise max_teacher_calls, lower n_calibration, or put a fitted student "
            "in sklearn.frozen.FrozenEstimator. The teacher was not asked."
        )
    return n_rows


def upper_bound(n_disagreements, n_rows, confidence):
    """Bound a probability from above, by Clopper and Pearson.

    Parameters
    ----------
    n_disagreements : int or ndarray of int
        Events seen.
    n_rows : int
        Independent trials.
    confidence : float

    Returns
    -------
    float or ndarray
        The largest probability under which so few events have a chance of 1 - `confidence`.
    """
    k = np.asarray(n_disagreements)
    bound = np.where(k < n_rows, beta.ppf(confidence, k + 1, np.maximum(n_rows - k, 1)), 1.0)
    return float(bound) if bound.ndim == 0 else bound


@dataclass(frozen=True)
class Promise:
    """A threshold of the student's score, and what holds for it.

    Parameters
    ----------
    threshold : float
        The student answers rows whose score is at least this; infinity for none.
    coverage : float
        Share of the calibration rows that it answers.
    disagreement : float
        Share of all calibration rows that it answers otherwise than the teacher.
    bound : float
        Upper bound of that share for all rows.
    alone : tuple of float
        Share of disagreements among the rows that it answers, and an upper bound of it.
    """

    threshold: float
    coverage: float
    disagreement: float
    bound: float
    alone: tuple[float, float]


def find_threshold(score, disagrees, max_disagreement, confidence):
    r"""Find the least threshold that keeps the disagreement of the cascade below a limit.

    The risk of a threshold t is the probability that the student answers (its score is t or more)
    and its label is not the teacher's: it can only grow as t falls. Risk-controlling prediction
    sets [1]_ then need no correction for the number of thresholds: from the strictest one on, the
    pointwise upper bound is compared with the limit, and the first that fails ends the search. As
    the Clopper-Pearson bound grows with the number of disagreements alone, that is at the row of
    the first disagreement too many.

    Parameters
    ----------
    score : ndarray of shape (n_rows,)
        The student's score of calibration rows, which were drawn at random and used for nothing
        else.
    disagrees : ndarray of bool of shape (n_rows,)
        Whether its label is not the teacher's.
    max_disagreement : float
        Largest probability that is allowed.
    confidence : float
        Probability, over the draw of the calibration rows, with which it holds.

    Returns
    -------
    Promise

    References
    ----------
    .. [1] Bates, Angelopoulos, Lei, Malik, Jordan (2021), "Distribution-free, risk-controlling
       prediction sets", Journal of the ACM 68(6), theorem 1.
    """
    n = len(score)
    allowed = np.flatnonzero(upper_bound(np.arange(n), n, confidence) <= max_disagreement)
    if not len(allowed):
        return Promise(np.inf, 0.0, 0.0, upper_bound(0, n, confidence), (0.0, 1.0))
    at_odds = np.sort(score[disagrees])[::-1]
    n_allowed = allowed[-1]
    threshold = -np.inf
    if len(at_odds) > n_allowed:
        # Rows of equal score stand or fall together.
        threshold = np.nextafter(at_odds[n_allowed], np.inf)
    answered = score >= threshold
    if not answered.any():
        return Promise(np.inf, 0.0, 0.0, upper_bound(n_allowed, n, confidence), (0.0, 1.0))
    wrong = int((answered & disagrees).sum())
    # What the threshold was chosen for is the count that is allowed, unless it was never reached.
    counted = wrong if np.isneginf(threshold) else n_allowed
    coverage = answered.mean()
    return Promise(
        threshold=float(threshold),
        coverage=float(coverage),
        disagreement=wrong / n,
        bound=upper_bound(counted, n, confidence),
        alone=(wrong / answered.sum(), _bound_alone(counted, n, coverage, confidence)),
    )


def _bound_alone(n_disagreements, n, coverage, confidence):
    """Bound the disagreement among the rows that the student answers.

    That share does not fall as the threshold rises, so that it is bounded by its two parts, each
    with half of the error: the disagreement from above, and the coverage from below by the band of
    Dvoretzky, Kiefer and Wolfowitz, which holds for all thresholds at once.
    """
    half = (1 + confidence) / 2
    least_coverage = coverage - math.sqrt(math.log(1 / (1 - half)) / (2 * n))
    if least_coverage <= 0:
        return 1.0
    return min(1.0, upper_bound(n_disagreements, n, half) / least_coverage)


def curve(score, disagrees, confidence):
    """Compute coverage, disagreement and its pointwise bound for every threshold.

    Parameters
    ----------
    score : ndarray of shape (n_rows,)
    disagrees : ndarray of bool of shape (n_rows,)
    confidence : float

    Returns
    -------
    coverage, disagreement, bound : ndarray of shape (n_thresholds + 1,)
        From a student that answers nothing to one that answers everything.
    """
    n = len(score)
    order = np.argsort(-score, kind="stable")
    wrong = np.concatenate([[0], np.cumsum(disagrees[order])])
    last_of_ties = np.concatenate([[True], np.diff(score[order]) != 0, [True]])
    wrong, answered = wrong[last_of_ties], np.arange(n + 1)[last_of_ties]
    return answered / n, wrong / n, upper_bound(wrong, n, confidence)


class DeferredPredictions:
    """Predictions of `estimator_` where its score is high enough, and of `teacher_` elsewhere."""

    estimator: Any
    estimator_: Any
    teacher_: Any
    classes_: np.ndarray
    threshold_: float
    fallback: str

    def defer(self, X):
        """Find the rows that go to the teacher.

        Parameters
        ----------
        X : like in `fit`

        Returns
        -------
        ndarray of bool of shape (n_samples,)
        """
        check_is_fitted(self)
        X = check_rows(self, X, reset=False, allow_nd=is_net(self.estimator))
        return self._student_proba(X).max(axis=1) < self.threshold_

    def predict(self, X):
        """Predict the classes: by the student where it is safe, by the teacher elsewhere.

        Parameters
        ----------
        X : like in `fit`

        Returns
        -------
        ndarray of shape (n_samples,)
            -1, or None among strings, in rows without an answer.

        Raises
        ------
        LLMError
            If the teacher fails, see `fallback`; `replies` has the labels of the rows of X, with
            None for those that have no answer.
        """
        return self._labels(self.predict_proba(X))

    def predict_proba(self, X):
        """Compute the classes' probabilities, of the student or the teacher.

        Parameters
        ----------
        X : like in `fit`

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            NaN in rows without an answer.

        Raises
        ------
        LLMError
            As in `predict`.
        """
        check_is_fitted(self)
        X = check_rows(self, X, reset=False, allow_nd=is_net(self.estimator))
        proba = self._student_proba(X)
        rows = np.flatnonzero(proba.max(axis=1) < self.threshold_)
        if not len(rows):
            return proba
        students = proba[rows]
        proba[rows] = np.nan
        if self.teacher_ is None:
            self._no_teacher(rows, len(proba))
        else:
            self._ask_teacher(X, rows, proba)
        silent = np.isnan(proba[rows, 0])
        if silent.any() and self.fallback == "raise":
            raise LLMError(
                f"The teacher gave no answer for {silent.sum()} rows; the first is row "
                f"{rows[silent.argmax()]}.",
                replies=self._replies(proba),
            )
        if self.fallback == "student":
            proba[rows[silent]] = students[silent]
        return proba

    def _no_teacher(self, rows, n_samples):
        if self.fallback in ("teacher", "raise"):
            raise ValueError(
                f"{len(rows)} of {n_samples} rows, the first of them row {rows[0]}, have to go to "
                "the teacher, and only its recorded answers are here: pass teacher= as well, or "
                'choose fallback="student" or "abstain".'
            )

    def _ask_teacher(self, X, rows, proba):
        """Fill in the teacher's probabilities of rows, as far as it gives any."""
        answers = Answers(LiveTeacher(self.teacher_, X, knows_labels=True), len(proba))
        try:
            answers.ask(rows)
        except (LLMError, OSError) as error:
            paid_for = getattr(error, "replies", [])
            if len(paid_for) == len(rows):
                for row, reply in zip(rows, paid_for, strict=True):
                    if reply is not None and np.shape(reply) == self.classes_.shape:
                        proba[row, answers.position] = reply
            if self.fallback in ("teacher", "raise"):
                if isinstance(error, LLMError):
                    error.replies = self._replies(proba)
                raise
            n_missing = int(np.isnan(proba[rows, 0]).sum())
            warn(
                f"The teacher failed on {n_missing} of {len(rows)} rows that should go to it; "
                f"fallback={self.fallback!r} answers. It says: {error}",
                NoAnswerWarning,
            )
        else:
            proba[rows] = answers.proba[rows]

    def _replies(self, proba):
        """Labels as a list, None where there is no answer."""
        answered = np.isfinite(proba[:, 0])
        labels = self._labels(proba).tolist()
        return [label if there else None for label, there in zip(labels, answered, strict=True)]

    def _labels(self, proba):
        silent = np.isnan(proba[:, 0])
        labels = self.classes_[np.nan_to_num(proba, nan=-1.0).argmax(axis=1)]
        if not silent.any():
            return labels
        if labels.dtype.kind in "if":
            return np.where(silent, -1, labels)
        return np.where(silent, None, labels.astype(object))

    def _student_proba(self, X):
        student = self.estimator_
        if isinstance(student, FrozenEstimator):
            student = student.estimator
        return student_proba(student, X, self.classes_)

    def score(self, X, y, sample_weight=None):
        """Compute the accuracy; a row without an answer is a wrong one.

        Rows that go to the teacher are asked about.

        Parameters
        ----------
        X : like in `fit`
        y : array-like of shape (n_samples,)
        sample_weight : array-like of shape (n_samples,), default=None

        Returns
        -------
        float
        """
        check_is_fitted(self)
        y = labels_to_score(y, self.classes_)
        return float(np.average(self.predict(X) == y, weights=sample_weight))
