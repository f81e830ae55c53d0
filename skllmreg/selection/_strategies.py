"""Which rows to ask the teacher about, and which of its answers to learn from."""

import numpy as np

from skllmreg.selection._thresholds import MovingMeans, class_means, thresholds, uncertainty

STRATEGIES = ("distill", "llkd", "all", "random", "teacher", "student")

# Share of a round's calls that go to random rows, where the student may be wrong without knowing.
RANDOM_SHARE = 0.1


def rows_to_ask(strategy, proba, n_rows, first, rng):
    """Choose the rows that the next calls are spent on.

    Parameters
    ----------
    strategy : str
    proba : ndarray of shape (n_samples, n_classes)
        The student's, of the rows not asked about so far.
    n_rows : int
    first : bool
        Whether this is the first round: "distill" does not believe a student of few rows.
    rng : RandomState

    Returns
    -------
    ndarray of int of shape (min(n_rows, n_samples),)
        Positions in `proba`.
    """
    order = rng.permutation(len(proba))
    if strategy == "student":
        return order[np.argsort(-uncertainty(proba)[order], kind="stable")][:n_rows]
    if strategy == "distill" and not first:
        n_random = int(round(RANDOM_SHARE * n_rows))
        at_random, rest = order[:n_random], order[n_random:]
        needed = rest[np.argsort(-need(proba)[rest], kind="stable")]
        return np.concatenate([at_random, needed[: n_rows - n_random]])
    return order[:n_rows]


def need(proba):
    """How close the student's two best classes are, from 0 to 1."""
    second, first = np.partition(proba, -2, axis=1)[:, -2:].T
    return 1 - (first - second)


class PaperRule:
    """LLKD's rule, or one half of it: confident teacher, needy student.

    Parameters
    ----------
    conditions : set of {"teacher", "student"}
    class_thresholds : bool
    momentum : float
    weighting : {"product", "confidence", "uncertainty"} or None
    confidence_threshold, uncertainty_threshold : float or "auto"
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

    def __call__(self, teacher_proba, student_proba):
        """Select among rows, given what teacher and student say of them.

        Returns
        -------
        chosen : ndarray of bool of shape (n_samples,)
        weight : ndarray of shape (n_chosen,)
            Of mean 1.
        limits : dict of str to ndarray of shape (n_classes,)
            The thresholds.
        """
        n_classes = teacher_proba.shape[1]
        codes = teacher_proba.argmax(axis=1)
        values = {"teacher": teacher_proba.max(axis=1), "student": uncertainty(student_proba)}
        # The teacher does not change: its means over the pool are exact, only the student's move.
        means = {
            "teacher": class_means(values["teacher"], codes, n_classes),
            "student": self.moving.update(values["student"], codes, n_classes),
        }
        limits = {name: self._limits(name, *means[name]) for name in self.conditions}
        chosen = np.ones(len(codes), bool)
        for name, limit in limits.items():
            chosen &= values[name] >= limit[codes]
        weight = np.ones(chosen.sum())
        if self.weighting in ("product", "confidence"):
            weight = weight * values["teacher"][chosen]
        if self.weighting in ("product", "uncertainty"):
            weight = weight * values["student"][chosen]
        total = weight.sum()
        return chosen, weight * len(weight) / total if total > 0 else weight, limits

    def _limits(self, name, mean, by_class):
        if self.fixed[name] != "auto":
            return np.full(len(by_class), float(self.fixed[name]))
        return thresholds(mean, by_class) if self.class_thresholds else np.full(len(by_class), mean)
