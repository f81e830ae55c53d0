"""Calibrate probabilities on known rows, choose how, and measure their calibration error."""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax
from sklearn.utils import check_array, check_consistent_length, column_or_1d

# Smaller probabilities are rounding, not knowledge.
FLOOR = 1e-4
# Standard deviations of the normal priors on the log of the slope and on the biases: they hold a
# handful of labels back from extreme answers.
SLOPE_SD, BIAS_SD = 1.0, 0.5


@dataclass(frozen=True)
class Calibration:
    """Multiply log-probabilities by `slope`, add `bias` (n_classes,), renormalize."""

    slope: float
    bias: np.ndarray
    floor: float = FLOOR

    def __call__(self, proba):
        """Calibrate probabilities of shape (n_samples, n_classes)."""
        return softmax(self.slope * log_proba(proba, self.floor) + self.bias, axis=1)


def log_proba(proba, floor=FLOOR):
    """Logarithm of probabilities, with a floor under them."""
    return np.log(np.clip(proba, floor, None))


def fit_calibration(
    proba, codes, bias=False, *, weight=None, slope_sd=SLOPE_SD, bias_sd=BIAS_SD, floor=FLOOR
):
    r"""Fit the temperature, and optionally the class biases, to known labels.

    Minimizes the log-loss of softmax(slope · log p + bias) plus the negative logarithm of normal
    priors on log(slope) and bias. With biases it is the bias-corrected temperature scaling of [1]_,
    which also corrects wrong class frequencies.

    Parameters
    ----------
    proba : ndarray of shape (n_samples, n_classes)
    codes : ndarray of int of shape (n_samples,)
        The true classes.
    bias : bool, default=False
        Whether to fit a bias for each class beside the temperature.
    weight : ndarray of shape (n_samples,), default=None
        Weights of the rows; None weighs all equally.
    slope_sd : float, default=1.0
        Standard deviation of the normal prior on log(slope); inf for no prior.
    bias_sd : float, default=0.5
        Standard deviation of the normal prior on each bias.
    floor : float, default=1e-4
        Smaller probabilities are raised to it.

    Returns
    -------
    Calibration

    References
    ----------
    .. [1] Alexandari, Kundaje, Shrikumar (2020), "Maximum likelihood with bias-corrected
       calibration is hard-to-beat at label shift adaptation", ICML, section 3.
    """
    n, k = proba.shape
    logits = log_proba(proba, floor)
    weight = np.ones((n, 1)) if weight is None else weight[:, None]
    truth = weight * np.eye(k)[codes]

    def objective(theta):
        slope, b = np.exp(theta[0]), theta[1:] if bias else np.zeros(k)
        log_q = log_softmax(slope * logits + b, axis=1)
        error = weight * np.exp(log_q) - truth
        value = -np.vdot(truth, log_q) + (theta[0] / slope_sd) ** 2 / 2
        gradient = np.array([slope * np.vdot(error, logits) + theta[0] / slope_sd**2])
        if bias:
            value += b @ b / bias_sd**2 / 2
            gradient = np.concatenate([gradient, error.sum(axis=0) + b / bias_sd**2])
        return value, gradient

    start = np.zeros(1 + k * bias)
    bounds = [(-4, 3)] + [(None, None)] * (k * bias)
    theta = minimize(objective, start, jac=True, bounds=bounds).x
    return Calibration(float(np.exp(theta[0])), theta[1:] if bias else np.zeros(k), floor)


def log_loss(proba, target):
    """Cross-entropy of each row to its target."""
    return -(target * log_proba(proba)).sum(axis=1)


def gain(before, after):
    """Mean improvement of a loss over rows, less its standard error."""
    difference = before - after
    return difference.mean() - difference.std() / np.sqrt(len(difference))


def class_folds(codes, n_folds):
    """Assign rows to folds so that the rows of a class are in different ones."""
    fold = np.empty(len(codes), int)
    fold[np.argsort(codes, kind="stable")] = np.arange(len(codes)) % n_folds
    return fold


def class_prior(codes, n_classes):
    """Shares of the classes, with half a row more for each."""
    return (np.bincount(codes, minlength=n_classes) + 0.5) / (len(codes) + 0.5 * n_classes)


# Fewer known rows tell nothing about a teacher's errors.
LEAST_KNOWN = 10
CALIBRATION_FOLDS = 5


@dataclass(frozen=True)
class Correction:
    """How a teacher is calibrated: by a temperature, with class biases or without.

    Parameters
    ----------
    bias_sd : float, default=0.0
        Standard deviation of the prior of the class biases; 0 for none.
    """

    bias_sd: float = 0.0

    def fit(self, proba, codes, weight=None):
        """Fit a `Calibration` to known rows."""
        return fit_calibration(
            proba, codes, bias=self.bias_sd > 0, bias_sd=self.bias_sd or 1.0, weight=weight
        )


CORRECTIONS = (Correction(), Correction(0.5), Correction(2.0))


def choose_correction(proba, codes, others):
    """Choose how to calibrate the teacher by cross-validation on labeled rows.

    From the probabilities as they are to ever freer corrections, each has to beat the one before.

    Parameters
    ----------
    proba : ndarray of shape (n_known, n_classes)
        The teacher's.
    codes : ndarray of int of shape (n_known,)
        The true classes.
    others : ndarray of shape (n_asked, n_classes)
        The teacher's probabilities of rows without a label.

    Returns
    -------
    Correction or None
        None where the probabilities as they are are no worse.
    """
    if len(codes) < LEAST_KNOWN:
        return None
    truth, fold = np.eye(proba.shape[1])[codes], class_folds(codes, CALIBRATION_FOLDS)
    weight = class_weights(proba, codes, CORRECTIONS[-1], others)
    best, lowest = None, weight * log_loss(proba, truth)
    for correction in CORRECTIONS:
        found = np.empty(len(codes))
        for k in range(CALIBRATION_FOLDS):
            test = fold == k
            calibration = correction.fit(proba[~test], codes[~test], weight[~test])
            found[test] = weight[test] * log_loss(calibration(proba[test]), truth[test])
        if gain(lowest, found) > 0:
            best, lowest = correction, found
    return best


def class_weights(proba, codes, correction, others):
    """Weigh labeled rows so that their class frequencies are those of other rows.

    Labeled rows are often drawn class by class, and biases fitted to them would carry their class
    frequencies over to all rows. The frequencies of the others are those that the calibrated
    teacher finds there.

    Parameters
    ----------
    proba : ndarray of shape (n_known, n_classes)
    codes : ndarray of int of shape (n_known,)
    correction : Correction
    others : ndarray of shape (n_asked, n_classes)

    Returns
    -------
    ndarray of shape (n_known,)
    """
    if not len(others):
        return np.ones(len(codes))
    share = correction.fit(proba, codes)(others).mean(axis=0)
    weight = (share / class_prior(codes, len(share)))[codes]
    return weight / weight.mean()


def calibrate_teacher(proba, codes, others):
    """Calibrate the teacher on labeled rows, as far as these speak for it.

    Parameters
    ----------
    proba : ndarray of shape (n_known, n_classes)
    codes : ndarray of int of shape (n_known,)
    others : ndarray of shape (n_asked, n_classes)
        The teacher's probabilities of rows without a label.

    Returns
    -------
    Calibration or None
        None leaves its probabilities as they are.
    """
    correction = choose_correction(proba, codes, others)
    if correction is None:
        return None
    weight = None
    if correction.bias_sd:
        weight = class_weights(proba, codes, correction, others)
    return correction.fit(proba, codes, weight)


# Fewer rows say too little about how a teacher is biased.
FEWEST_ROWS = 50


def batch_calibrated(proba):
    r"""Divide the probabilities of many rows by their mean over these rows, and renormalize.

    A model that favors the name of a class favors it in all rows. Batch calibration [1]_ removes
    that, p'(k | x) ∝ p(k | x) / mean over the rows of p(k | ·), without a label. It takes the
    classes to be about as frequent as each other: where one is much more frequent, its rows are
    moved to the others.

    Parameters
    ----------
    proba : ndarray of shape (n_samples, n_classes)
        NaN in rows without an answer, which are left out.

    Returns
    -------
    ndarray of shape (n_samples, n_classes)
        `proba` itself where fewer than 50 rows have an answer.

    References
    ----------
    .. [1] Zhou et al. (2024), "Batch calibration: rethinking calibration for in-context learning
       and prompt engineering", ICLR, arXiv:2309.17249.
    """
    answered = np.isfinite(proba).all(axis=1)
    if answered.sum() < FEWEST_ROWS:
        return proba
    mean = proba[answered].mean(axis=0)
    # A class that no row has any probability of stays without.
    shares = proba / np.where(mean > 0, mean, 1.0)
    return shares / shares.sum(axis=1, keepdims=True)


def expected_calibration_error(proba, codes, n_bins=15):
    """Mean gap between confidence and accuracy, over bins of equal width of the confidence.

    Parameters
    ----------
    proba : ndarray of shape (n_samples, n_classes)
    codes : ndarray of int of shape (n_samples,)
        The true classes.
    n_bins : int, default=15

    Returns
    -------
    float

    Examples
    --------
    >>> import numpy as np
    >>> from skllmreg.selection import expected_calibration_error
    >>> proba = np.array([[0.9, 0.1]] * 4)
    >>> round(expected_calibration_error(proba, np.array([0, 0, 1, 1])), 6)
    0.4
    """
    proba, codes = check_array(proba), column_or_1d(codes)
    check_consistent_length(proba, codes)
    if codes.dtype.kind not in "iu" or not np.isin(codes, np.arange(proba.shape[1])).all():
        raise ValueError("codes are the positions of the true classes among the columns of proba.")
    confidence = proba.max(axis=1)
    right = proba.argmax(axis=1) == codes
    bins = np.minimum((confidence * n_bins).astype(int), n_bins - 1)
    gaps = np.bincount(bins, weights=right - confidence, minlength=n_bins)
    return float(np.abs(gaps).sum() / len(codes))
