"""Strategies: which rows the teacher is asked about, and which of its answers count."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

# Share of a round's calls that go to random rows, where the student may be wrong without knowing.
RANDOM_SHARE = 0.5
# Rows that all need the same are all at their mean, but for rounding.
ROUNDING = 1e-6


@dataclass(frozen=True)
class Strategy:
    """What to ask about, and what is made of the answers.

    Parameters
    ----------
    order : callable, default=None
        With a budget, the student picks the rows of each round: takes its probabilities of the rows
        not asked about so far, the number of calls and a RandomState, and returns positions, the
        first to be asked. None asks at random.
    conditions : frozenset of {"teacher", "student"}, default=frozenset()
        Which halves of the paper's rule select among the answers; none uses them all.
    refine : bool, default=False
        Whether answers are reconsidered before the last student is fitted.
    calibration : {"auto", None}, default=None
        What ``calibration="auto"`` means.
    everything : bool, default=False
        Whether a budget that does not allow all calls is an error.
    """

    order: Callable | None = None
    conditions: frozenset = frozenset()
    refine: bool = False
    calibration: str | None = None
    everything: bool = False

    def within(self, limited):
        """The strategy as it is with or without a limit on the calls.

        Where the student picks what to ask about, no rule selects among the answers, and where all
        rows are asked about there is nothing to pick.
        """
        if self.order is None or not limited:
            return replace(self, order=None)
        return replace(self, conditions=frozenset())

    @property
    def student_picks(self):
        """Whether each round's rows are picked by the student of the round before."""
        return self.order is not None


def rows_to_ask(strategy, proba, n_rows, rng):
    """Choose the rows that the next calls are spent on.

    Parameters
    ----------
    strategy : Strategy
    proba : ndarray of shape (n_samples, n_classes)
        The student's, of the rows not asked about so far.
    n_rows : int
    rng : RandomState

    Returns
    -------
    ndarray of int of shape (min(n_rows, n_samples),)
        Positions in `proba`.
    """
    if strategy.order is None:
        return rng.permutation(len(proba))[:n_rows]
    return strategy.order(proba, n_rows, rng)[:n_rows]


def by_entropy(proba, n_rows, rng):
    """Put rows first that the student is least sure of."""
    order = rng.permutation(len(proba))
    return order[np.argsort(-uncertainty(proba)[order], kind="stable")]


def by_margin(proba, n_rows, rng):
    """Put rows first whose two most probable classes are nearly equally probable."""
    order = rng.permutation(len(proba))
    two = -np.partition(-proba, 1, axis=1)[:, :2]
    return order[np.argsort((two[:, 0] - two[:, 1])[order], kind="stable")]


def by_margin_and_chance(proba, n_rows, rng):
    """Put random rows first for a share of the calls, then those of the smallest margin."""
    order = rng.permutation(len(proba))
    n_random = round(RANDOM_SHARE * n_rows)
    rest = np.sort(order[n_random:])
    return np.concatenate([order[:n_random], rest[by_margin(proba[rest], n_rows, rng)]])


BOTH = frozenset({"teacher", "student"})
STRATEGIES = {
    "distill": Strategy(order=by_margin_and_chance, refine=True, calibration="auto"),
    "llkd": Strategy(conditions=BOTH),
    "all": Strategy(everything=True),
    "random": Strategy(),
    "teacher": Strategy(conditions=frozenset({"teacher"})),
    "margin": Strategy(order=by_margin),
    "student": Strategy(order=by_entropy, conditions=frozenset({"student"})),
}


def uncertainty(proba):
    """Entropy over its largest possible value, from 0 to 1.

    Parameters
    ----------
    proba : ndarray of shape (n_samples, n_classes)

    Returns
    -------
    ndarray of shape (n_samples,)
    """
    p = np.clip(proba, 1e-12, 1)
    return -(p * np.log(p)).sum(axis=1) / np.log(max(p.shape[1], 2))


def class_means(values, codes, n_classes):
    """Mean of all values, and of each class's; of a class without a row, that of all.

    Parameters
    ----------
    values : ndarray of shape (n_samples,)
    codes : ndarray of int of shape (n_samples,)
    n_classes : int

    Returns
    -------
    mean : float
    by_class : ndarray of shape (n_classes,)
    """
    counts, sums, mean = _counts_and_sums(values, codes, n_classes)
    return mean, np.where(counts > 0, sums / np.maximum(counts, 1), mean)


def _counts_and_sums(values, codes, n_classes):
    counts = np.bincount(codes, minlength=n_classes)
    sums = np.bincount(codes, weights=values, minlength=n_classes)
    return counts, sums, math.fsum(sums.tolist()) / len(values)


def thresholds(mean, by_class):
    r"""The threshold of each class: :math:`\tau(k) = \tau s_k / \max_j s_j`.

    Parameters
    ----------
    mean : float
        The global threshold.
    by_class : ndarray of shape (n_classes,)
        Means of the classes; none above 0 leaves the global threshold to all.

    Returns
    -------
    ndarray of shape (n_classes,)
    """
    largest = max(by_class.tolist())
    return by_class * (mean / largest) if largest > 0 else np.full_like(by_class, mean)


class MovingMeans:
    """Global and class means as exponential moving averages.

    The first update sets them: no value has to be guessed for the start. A class without a row
    keeps its mean.

    Parameters
    ----------
    momentum : float
        Share of the past, in [0, 1); 0 forgets it.
    """

    def __init__(self, momentum):
        self.momentum = momentum
        self.mean = self.by_class = None

    def update(self, values, codes, n_classes):
        """Take in the values of a batch or round and return the means, as `class_means` does."""
        if self.mean is None:
            self.mean, self.by_class = class_means(values, codes, n_classes)
        else:
            counts, sums, mean = _counts_and_sums(values, codes, n_classes)
            self.mean += (1 - self.momentum) * (mean - self.mean)
            # Sum of the deviations: 0 where there is no row.
            step = sums - counts * self.by_class
            step /= np.maximum(counts, 1)
            self.by_class = self.by_class + (1 - self.momentum) * step
        return self.mean, self.by_class


class PaperRule:
    """LLKD's rule, or one half of it: confident teacher, needy student.

    The teacher does not change: its means are those of all its answers, and its say on each row is
    worked out once. The student's means move with what it is shown, batch by batch.

    Parameters
    ----------
    conditions : set of {"teacher", "student"}
    class_thresholds : bool
    momentum : float
        0 where all rows are shown at once: their means are exact.
    weighting : {"product", "confidence", "uncertainty"} or None
    confidence_threshold, uncertainty_threshold : float or "auto"

    Attributes
    ----------
    limits : dict of ndarray of shape (n_classes,)
        The thresholds of "teacher" and "student" so far.
    """

    def __init__(
        self,
        conditions,
        *,
        class_thresholds,
        momentum,
        weighting,
        confidence_threshold,
        uncertainty_threshold,
    ):
        self.conditions = conditions
        self.class_thresholds = class_thresholds
        self.weighting = weighting
        self.fixed = {"teacher": confidence_threshold, "student": uncertainty_threshold}
        self.moving = MovingMeans(momentum)
        self.limits = {}

    def fit(self, proba):
        """Take in all answers of the teacher.

        Parameters
        ----------
        proba : ndarray of shape (n_samples, n_classes)

        Returns
        -------
        codes : ndarray of int of shape (n_samples,)
            The teacher's labels.
        weight : ndarray of shape (n_samples,)
            What its confidence makes of a row's weight, 0 below the threshold.
        """
        self.n_classes = proba.shape[1]
        codes, confidence = proba.argmax(axis=1), proba.max(axis=1)
        weighs = self.weighting in ("product", "confidence")
        weight = confidence if weighs else np.ones(len(proba))
        if "teacher" in self.conditions:
            means = class_means(confidence, codes, self.n_classes)
            self.limits["teacher"] = self._limits("teacher", *means)
            weight = weight * (confidence >= self.limits["teacher"][codes] - ROUNDING)
        return codes, weight

    def __call__(self, codes, weight, need):
        """Select among rows, given what `fit` says of them.

        Parameters
        ----------
        codes, weight : ndarray of shape (n_rows,)
        need : ndarray of shape (n_rows,)
            The student's `uncertainty` of them.

        Returns
        -------
        ndarray of shape (n_rows,)
            Weights, 0 for rows that are not selected; the mean of the others is 1.
        """
        if "student" in self.conditions and len(codes):
            means = self.moving.update(need, codes, self.n_classes)
            self.limits["student"] = self._limits("student", *means)
            weight = weight * (need >= (self.limits["student"] - ROUNDING)[codes])
        if self.weighting in ("product", "uncertainty"):
            weight = weight * need
        return mean_one(weight)

    def _limits(self, name, mean, by_class):
        if self.fixed[name] != "auto":
            return np.full(len(by_class), float(self.fixed[name]))
        return thresholds(mean, by_class) if self.class_thresholds else np.full(len(by_class), mean)


def mean_one(weight):
    """Scale weights so that those above 0 have the mean 1."""
    total = weight.sum()
    return weight * (np.count_nonzero(weight) / total) if total > 0 else weight
