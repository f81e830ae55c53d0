"""Which rows to ask the teacher about, and which of its answers to learn from."""

import numpy as np

from skllmreg.selection._thresholds import MovingMeans, class_means, thresholds, uncertainty

STRATEGIES = ("distill", "llkd", "all", "random", "teacher", "student")

# Share of a round's calls that go to random rows, where the student may be wrong without knowing.
RANDOM_SHARE = 0.1


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
        rest = order[n_random:]
        gain = uncertainty(proba) * coverage(proba, class_share)
        needed = rest[np.argsort(-gain[rest], kind="stable")]
        return np.concatenate([order[:n_random], needed[: n_rows - n_random]])
    return order[:n_rows]


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

    The teacher does not change, so its means are those of all its answers, found once; the
    student's move with what it is shown, a batch or the rows of a round.

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
        self.limits = {}

    def meet_teacher(self, proba):
        """Find the teacher's thresholds from its answers, of shape (n_samples, n_classes)."""
        if "teacher" in self.conditions:
            codes, n_classes = proba.argmax(axis=1), proba.shape[1]
            means = class_means(proba.max(axis=1), codes, n_classes)
            self.limits["teacher"] = self._limits("teacher", *means)

    def __call__(self, teacher_proba, student_proba):
        """Select among rows, given what teacher and student say of them.

        Returns
        -------
        chosen : ndarray of bool of shape (n_samples,)
        weight : ndarray of shape (n_chosen,)
            Of mean 1.
        """
        codes, confidence = teacher_proba.argmax(axis=1), teacher_proba.max(axis=1)
        need = uncertainty(student_proba)
        chosen = np.ones(len(codes), bool)
        if "teacher" in self.conditions:
            chosen &= confidence >= self.limits["teacher"][codes]
        if "student" in self.conditions:
            means = self.moving.update(need, codes, teacher_proba.shape[1])
            self.limits["student"] = self._limits("student", *means)
            chosen &= need >= self.limits["student"][codes]
        weight = np.ones(chosen.sum())
        if self.weighting in ("product", "confidence"):
            weight = weight * confidence[chosen]
        if self.weighting in ("product", "uncertainty"):
            weight = weight * need[chosen]
        total = weight.sum()
        return chosen, weight * len(weight) / total if total > 0 else weight

    def _limits(self, name, mean, by_class):
        if self.fixed[name] != "auto":
            return np.full(len(by_class), float(self.fixed[name]))
        return thresholds(mean, by_class) if self.class_thresholds else np.full(len(by_class), mean)
