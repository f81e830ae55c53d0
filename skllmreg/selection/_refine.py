"""Calibrate the teacher, and reconsider answers and weights before the last student is fitted.

Whatever is tried here has to lower a log-loss out of fold by more than its standard error; what
does not stays out. With few rows to tell, that is everything.
"""

import warnings
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import softmax
from sklearn.exceptions import ConvergenceWarning

from skllmreg.students._calibration import fit_calibration, log_proba
from skllmreg.students._fitting import is_net, last_step, out_of_fold_proba

# Fewer labeled rows that the teacher was asked about tell nothing about its errors.
LEAST_KNOWN = 10
CALIBRATION_FOLDS = 5
# Exponents of the second opinion; 1 makes it count as much as the teacher.
OPINIONS = (0.25, 0.5, 1.0)

# What all weights are multiplied by, relative to the student's own regularization: in steps, as far
# as each step helps.
STEP, MOST_STEPS, MOST_LABELED_STEPS = 4.0, 3, 2
# Exponent of the classes' rarity in the weights, and by how much it may raise the log-loss of the
# rows as they are, relative to itself, for what it lowers that of the classes.
BALANCE, TOLERANCE = 0.5, 0.01
MOST_TUNING_ROWS = 1500
# Scales, the balance and the second opinion: how often students are fitted to all folds.
MOST_TRIED = MOST_STEPS + MOST_LABELED_STEPS + 4


def log_loss(proba, target):
    """Cross-entropy of each row to its target."""
    return -(target * log_proba(proba)).sum(axis=1)


def gain(before, after):
    """Mean improvement of a loss over rows, less its standard error."""
    difference = before - after
    return difference.mean() - difference.std() / np.sqrt(len(difference))


def turns(groups):
    """Count, for each entry, the earlier entries of its group.

    Parameters
    ----------
    groups : ndarray of int of shape (n_samples,)

    Returns
    -------
    ndarray of int of shape (n_samples,)
    """
    order = np.argsort(groups, kind="stable")
    ordered = groups[order]
    count = np.empty(len(groups), dtype=int)
    count[order] = np.arange(len(groups)) - np.searchsorted(ordered, ordered)
    return count


def class_folds(codes, n_folds):
    """Assign rows to folds so that the rows of a class are in different ones."""
    fold = np.empty(len(codes), int)
    fold[np.argsort(codes, kind="stable")] = np.arange(len(codes)) % n_folds
    return fold


def class_prior(codes, n_classes):
    """Shares of the classes, with half a row more for each."""
    return (np.bincount(codes, minlength=n_classes) + 0.5) / (len(codes) + 0.5 * n_classes)


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


def second_opinion(teacher, student, weight):
    r"""Combine the teacher's probabilities with those of students that did not see them.

    The normalized product :math:`t_k s_k^b`, a logarithmic opinion pool [1]_: where both prefer
    the same class, so does the result. Nothing is divided by the classes' frequencies, as Bayes'
    rule for independent witnesses would have it: a real teacher errs where the text misleads, and
    there the student is misled as well.

    Parameters
    ----------
    teacher, student : ndarray of shape (n_samples, n_classes)
    weight : float
        Exponent b; 0 leaves the teacher's probabilities.

    Returns
    -------
    ndarray of shape (n_samples, n_classes)

    References
    ----------
    .. [1] Genest, Zidek (1986), "Combining probability distributions: a critique and an annotated
       bibliography", Statistical Science 1(1).
    """
    return softmax(log_proba(teacher) + weight * log_proba(student), axis=1)


def choose_opinion(teacher, student, codes):
    """Choose the exponent of the second opinion on labeled rows; 0 where it does not pay.

    Parameters
    ----------
    teacher, student : ndarray of shape (n_known, n_classes)
        The calibrated teacher's, and those of students that learned neither label nor answer.
    codes : ndarray of int of shape (n_known,)
        The true classes.

    Returns
    -------
    float
    """
    if len(codes) < LEAST_KNOWN:
        return 0.0
    truth = np.eye(teacher.shape[1])[codes]
    alone = log_loss(teacher, truth)
    gains = {b: gain(alone, log_loss(second_opinion(teacher, student, b), truth)) for b in OPINIONS}
    best = max(gains, key=lambda b: gains[b])
    return best if gains[best] > 0 else 0.0


def balanced(target, exponent):
    """Weights that count rare classes more: a mean over the classes of (1/share)^exponent."""
    if not exponent:
        return np.ones(len(target))
    share = np.maximum(target.mean(axis=0), 1 / (len(target) + target.shape[1]))
    weight = target @ share**-exponent
    return weight / weight.mean()


@dataclass(frozen=True)
class Weights:
    """How much rows count: against the student's own regularization, by class, and by origin.

    Parameters
    ----------
    scale : float, default=1.0
    balance : float, default=0.0
        Exponent of the classes' rarity.
    labeled : float, default=1.0
        What a labeled row counts, compared with an answer of the teacher.
    """

    scale: float = 1.0
    balance: float = 0.0
    labeled: float = 1.0

    def __call__(self, target, is_labeled):
        """Weigh rows of targets of shape (n_samples, n_classes)."""
        weight = self.scale * balanced(target, self.balance)
        return weight * np.where(is_labeled, self.labeled, 1.0)


def choose_weights(estimator, X, target, is_labeled, fold, classes, tick):
    """Choose the weights of the rows by the log-loss of students out of fold.

    How strongly a student should be regularized depends on how many rows there are and on how much
    each tells, and soft labels tell more than single labels do. Rare classes may count more where
    this costs the others next to nothing. Labeled rows count more where the teacher is so bad that
    this helps on labeled rows that were left out.

    Parameters
    ----------
    estimator : classifier
    X : array-like of shape (n_samples, ...)
    target : ndarray of shape (n_samples, n_classes)
    is_labeled : ndarray of bool of shape (n_samples,)
    fold : ndarray of int of shape (n_samples,)
    classes : ndarray of shape (n_classes,)
    tick : callable

    Returns
    -------
    Weights
    """
    by_class = balanced(target, 1.0)

    def try_out(weights):
        weight = weights(target, is_labeled)
        with warnings.catch_warnings():
            # That a trial does not converge is not the user's concern.
            warnings.simplefilter("ignore", ConvergenceWarning)
            proba = out_of_fold_proba(estimator, X, target, fold, classes, weight=weight, tick=tick)
        return Trial(weights, log_loss(proba, target), mean_recall(proba, target))

    def with_balance(trial):
        """The trial, or one where rare classes count more: for what it brings both."""
        if getattr(last_step(estimator), "class_weight", None) is not None:
            return trial
        rare = try_out(replace(trial.weights, balance=BALANCE))
        pays = gain((1 + by_class) * trial.loss, (1 + by_class) * rare.loss) > 0
        return rare if pays and rare.loss.mean() <= (1 + TOLERANCE) * trial.loss.mean() else trial

    first = best = try_out(Weights())
    for step in (STEP, 1 / STEP):
        for _ in range(MOST_STEPS):
            other = try_out(Weights(best.weights.scale * step))
            if gain(best.loss, other.loss) <= 0:
                break
            best = other
        if best is not first:
            break
    best = with_balance(best)
    if best.recall < first.recall:
        # Surer of the frequent classes, at the cost of the rare ones.
        best = with_balance(first)
    if LEAST_KNOWN <= is_labeled.sum() < len(is_labeled):
        best = with_labels(best, try_out, target, is_labeled)
    return best.weights


def with_labels(best, try_out, target, is_labeled):
    """The best trial, or one where labeled rows count more, judged by these alone."""
    codes = target[is_labeled].argmax(axis=1)
    share = target[~is_labeled].mean(axis=0)
    weight = (share / class_prior(codes, len(share)))[codes]
    for _ in range(MOST_LABELED_STEPS):
        other = try_out(replace(best.weights, labeled=STEP * best.weights.labeled))
        if gain(weight * best.loss[is_labeled], weight * other.loss[is_labeled]) <= 0:
            break
        best = other
    return best


@dataclass(frozen=True)
class Trial:
    """What weights bring out of fold: the loss of each row, and the mean recall of the classes."""

    weights: Weights
    loss: np.ndarray
    recall: float


def mean_recall(proba, target):
    """Mean over the classes of the share of their rows that are recognized; rows are shared out."""
    found = np.bincount(
        proba.argmax(axis=1),
        weights=target[np.arange(len(target)), proba.argmax(axis=1)],
        minlength=target.shape[1],
    )
    return float(np.mean(found / np.maximum(target.sum(axis=0), 1e-9)))


def tunable(estimator):
    """Whether the weights of all rows may change what the student becomes, at a bearable cost.

    An optimizer such as Adam does not see a factor of the loss, and nets are slow to fit.
    """
    last = last_step(estimator)
    return not is_net(last) and not hasattr(last, "max_epochs")


def random_folds(n_samples, n_folds, rng):
    """Assign rows to folds of equal size at random.

    Returns
    -------
    ndarray of int of shape (n_samples,)
    """
    return rng.permutation(np.arange(n_samples) % n_folds)
