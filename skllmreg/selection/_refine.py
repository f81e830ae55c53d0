"""Reconsider the teacher's answers and the rows' weights before the last student is fitted.

Whatever is tried here has to lower a log-loss out of fold by more than its standard error; what
does not stays out. With few rows to tell, that is everything.
"""

import warnings
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import softmax
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import _safe_indexing

from skllmreg.selection._problem import one_hot
from skllmreg.students._calibration import LEAST_KNOWN, class_prior, gain, log_loss, log_proba
from skllmreg.students._fitting import is_net, last_step, out_of_fold_proba

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

    def as_dict(self):
        """The weights by the names that `refinement_` has for them."""
        return {
            "weight_scale": self.scale,
            "class_balance": self.balance,
            "labeled_weight": self.labeled,
        }


class Trials:
    """Students that are fitted out of fold, to compare weights of the rows.

    Parameters
    ----------
    problem : TrainingProblem
    rows : ndarray of int of shape (n_rows,)
        Of its X; the arrays that follow are about these.
    target : ndarray of shape (n_rows, n_classes)
    is_labeled : ndarray of bool of shape (n_rows,)
    fold : ndarray of int of shape (n_rows,)
    """

    def __init__(self, problem, rows, target, is_labeled, fold):
        self.problem = problem
        self.X = _safe_indexing(problem.X, rows)
        self.target = target
        self.is_labeled = is_labeled
        self.fold = fold

    def __call__(self, weights, rival=None, counts=None):
        """Try weights out, and stop as soon as the folds so far speak for a rival.

        Parameters
        ----------
        weights : Weights
        rival : Trial, default=None
            None for all folds in any case.
        counts : ndarray of shape (n_rows,), default=None
            How much the rows count in the comparison; None is equally.

        Returns
        -------
        Trial or None
            None where the rival is better.
        """
        weight = weights(self.target, self.is_labeled)
        counts = np.ones(len(weight)) if counts is None else counts
        proba, ahead = np.empty(self.target.shape), 0.0
        for k in np.unique(self.fold):
            only = np.where(self.fold == k, 0, -1)
            with warnings.catch_warnings():
                # That a trial does not converge is not the user's concern.
                warnings.simplefilter("ignore", ConvergenceWarning)
                found = out_of_fold_proba(
                    self.problem.estimator,
                    self.X,
                    self.target,
                    only,
                    self.problem.classes,
                    weight=weight,
                    tick=self.problem.tick,
                )
            rows = only == 0
            proba[rows] = found[rows]
            if rival is not None:
                loss = log_loss(proba[rows], self.target[rows])
                ahead += counts[rows] @ (rival.loss[rows] - loss)
                if ahead < 0:
                    return None
        loss = log_loss(proba, self.target)
        return Trial(weights, loss, recall_by_row(proba, self.target), proba)

    def choose(self):
        """Choose weights, each step of which lowers the log-loss.

        How strongly a student should be regularized depends on how many rows there are and on how
        much each tells, and soft labels tell more than single labels do. Rare classes may count
        more where this costs the others next to nothing. Labeled rows count more where the teacher
        is so bad that this helps on labeled rows that were left out.

        Returns
        -------
        Trial
        """
        first = best = self(Weights())
        for step in (STEP, 1 / STEP):
            for _ in range(MOST_STEPS):
                other = self(Weights(best.weights.scale * step), best)
                if other is None or gain(best.loss, other.loss) <= 0:
                    break
                best = other
            if best is not first:
                break
        best = self._with_balance(best)
        if gain(first.recall, best.recall) > 0:
            # Surer of the frequent classes, at the cost of the rare ones.
            best = self._with_balance(first)
        if LEAST_KNOWN <= self.is_labeled.sum() < len(self.is_labeled):
            best = self._with_labels(best)
        return best

    def _with_balance(self, trial):
        """The trial, or one where rare classes count more: for what it brings both."""
        if getattr(last_step(self.problem.estimator), "class_weight", None) is not None:
            return trial
        counts = 1 + balanced(self.target, 1.0)
        rare = self(replace(trial.weights, balance=BALANCE), trial, counts)
        if rare is None or gain(counts * trial.loss, counts * rare.loss) <= 0:
            return trial
        return rare if rare.loss.mean() <= (1 + TOLERANCE) * trial.loss.mean() else trial

    def _with_labels(self, best):
        """The trial, or one where labeled rows count more, judged by these alone."""
        codes = self.target[self.is_labeled].argmax(axis=1)
        share = self.target[~self.is_labeled].mean(axis=0)
        counts = np.zeros(len(self.target))
        counts[self.is_labeled] = (share / class_prior(codes, len(share)))[codes]
        weight = counts[self.is_labeled]
        for _ in range(MOST_LABELED_STEPS):
            other = self(replace(best.weights, labeled=STEP * best.weights.labeled), best, counts)
            if other is None:
                break
            losses = [weight * trial.loss[self.is_labeled] for trial in (best, other)]
            if gain(*losses) <= 0:
                break
            best = other
        return best


@dataclass(frozen=True)
class Trial:
    """What weights bring out of fold.

    Parameters
    ----------
    weights : Weights
    loss : ndarray of shape (n_samples,)
    recall : ndarray of shape (n_samples,)
        What each row adds to the classes' mean recall; the mean of the rows is that.
    proba : ndarray of shape (n_samples, n_classes)
    """

    weights: Weights
    loss: np.ndarray
    recall: np.ndarray
    proba: np.ndarray


def recall_by_row(proba, target):
    """What each row adds to the mean of the classes' recalls; rows are shared out to classes."""
    predicted = proba.argmax(axis=1)
    share = target[np.arange(len(target)), predicted]
    mass = np.maximum(target.mean(axis=0), 1e-9)
    return share / (mass[predicted] * target.shape[1])


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


def refine(problem, rows, proba, known, n_folds, soft, rng):
    """Reconsider the teacher's probabilities of rows, and how much rows count.

    Where a fold leaves the students a single class to learn, all stays as it is.

    Parameters
    ----------
    problem : TrainingProblem
    rows : ndarray of int of shape (n_rows,)
    proba : ndarray of shape (n_rows, n_classes)
        The calibrated teacher's.
    known : tuple of ndarray
        Labeled rows that the teacher was asked about, and its calibrated probabilities.
    n_folds : int
    soft : bool
        Whether the student learns probabilities, or classes.
    rng : RandomState

    Returns
    -------
    proba : ndarray of shape (n_rows, n_classes)
    weights : Weights
    opinion : float
        Exponent of the second opinion.
    """
    everyone, target, _ = problem.training_rows(rows, proba if soft else one_hot(proba))
    fold, labels = random_folds(len(everyone), n_folds, rng), target.argmax(axis=1)
    if any(len(set(labels[fold != k])) < 2 for k in range(n_folds)):
        return proba, Weights(), 0.0
    is_labeled = np.isin(everyone, problem.labeled)
    weights, out_of_fold = Weights(), None
    if tunable(problem.estimator):
        some = np.sort(rng.permutation(len(everyone))[:MOST_TUNING_ROWS])
        best = Trials(problem, everyone[some], target[some], is_labeled[some], fold[some]).choose()
        weights = best.weights
        if len(some) == len(everyone):
            out_of_fold = best.proba
    known, said = known
    if len(known) < LEAST_KNOWN:
        return proba, weights, 0.0
    if out_of_fold is None:
        out_of_fold = Trials(problem, everyone, target, is_labeled, fold)(weights).proba
    codes = problem.codes[np.searchsorted(problem.labeled, known)]
    b = choose_opinion(said, out_of_fold[np.searchsorted(everyone, known)], codes)
    return (second_opinion(proba, out_of_fold[~is_labeled], b) if b else proba), weights, b
