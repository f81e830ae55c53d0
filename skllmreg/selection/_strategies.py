"""Which rows to ask the teacher about, and which of its answers to learn from."""

import numpy as np

from skllmreg.selection._thresholds import MovingMeans, class_means, thresholds, uncertainty

STRATEGIES = ("distill", "llkd", "all", "random", "teacher", "student")

# Share of a round's calls that go to random rows, where the student may be wrong without knowing.
RANDOM_SHARE = 0.1

# The others are chosen among so many times their number, of the greatest need; confusions that the
# student makes take turns there, or all calls would go to one of them.
NEEDY = 3

# Rows that all need the same are all at their mean, but for rounding.
ROUNDING = 1e-6


def rows_to_ask(strategy, proba, n_rows, class_share, rng):
    """Choose the rows that the next calls are spent on.

    Parameters
    ----------
    strategy : str
    proba : ndarray of shape (n_samples, n_classes)
        The student's, of the rows not asked about so far.
    n_rows : int
    class_share : ndarray of shape (n_classes,)
        How much of what the student has learned from belongs to each class.
    rng : RandomState

    Returns
    -------
    ndarray of int of shape (min(n_rows, n_samples),)
        Positions in `proba`.
    """
    order = rng.permutation(len(proba))
    if strategy == "student":
        return order[np.argsort(-uncertainty(proba)[order], kind="stable")][:n_rows]
    if strategy == "distill":
        n_random = round(RANDOM_SHARE * n_rows)
        by_chance, rest = order[:n_random], order[n_random:]
        need = (1 - proba.max(axis=1)) * coverage(proba, class_share)
        needy = rest[np.argsort(-need[rest], kind="stable")][: NEEDY * n_rows]
        by_turns = needy[np.argsort(turns(confusion(proba[needy])), kind="stable")]
        return np.concatenate([by_chance, by_turns[: n_rows - n_random]])
    return order[:n_rows]


def confusion(proba):
    """Number the two classes, in their order, between which a row lies most.

    Parameters
    ----------
    proba : ndarray of shape (n_samples, n_classes)

    Returns
    -------
    ndarray of int of shape (n_samples,)
    """
    first, second = np.argsort(-proba, axis=1)[:, :2].T
    return first * proba.shape[1] + second


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


def coverage(proba, class_share):
    """Expect how rare a row's class is among what has been learned from.

    Parameters
    ----------
    proba : ndarray of shape (n_samples, n_classes)
    class_share : ndarray of shape (n_classes,)

    Returns
    -------
    ndarray of shape (n_samples,)
    """
    # A class of less than a tenth of an equal share counts as one of a tenth: it may not be there.
    return proba @ (1 / np.sqrt(np.maximum(class_share, 0.1 / len(class_share))))


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

    def meet_teacher(self, proba):
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
        """Select among rows, given what `meet_teacher` says of them.

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
