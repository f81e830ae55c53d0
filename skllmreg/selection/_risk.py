"""Choose the score above which a student may answer, with a bound on its disagreement."""

import math
from dataclasses import dataclass

import numpy as np
from scipy.stats import beta

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
