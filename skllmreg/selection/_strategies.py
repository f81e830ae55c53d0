"""Strategies: which rows the teacher is asked about, and which of its answers count."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from skllmreg.selection._rule import uncertainty

# Share of a round's calls that go to random rows, where the student may be wrong without knowing.
RANDOM_SHARE = 0.1

# The others are chosen among so many times their number, of the greatest need; confusions that the
# student makes take turns there, or all calls would go to one of them.
NEEDY = 3


@dataclass(frozen=True)
class Strategy:
    """What to ask about, and what is made of the answers.

    Parameters
    ----------
    order : callable, default=None
        With a budget, the student picks the rows of each round: takes its probabilities of the rows
        not asked about so far, the number of rows, the classes' shares of what it has learned from
        and a RandomState, and returns positions, the first to be asked. None asks at random.
    conditions : frozenset of {"teacher", "student"}, default=frozenset()
        Which halves of the paper's rule select among the answers; none uses them all.
    refine : bool, default=False
        Whether answers are reconsidered before the last student is fitted.
    calibration : {"temperature", None}, default=None
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


def rows_to_ask(strategy, proba, n_rows, class_share, rng):
    """Choose the rows that the next calls are spent on.

    Parameters
    ----------
    strategy : Strategy
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
    if strategy.order is None:
        return rng.permutation(len(proba))[:n_rows]
    return strategy.order(proba, n_rows, class_share, rng)[:n_rows]


def by_entropy(proba, n_rows, class_share, rng):
    """Put rows first that the student is least sure of."""
    order = rng.permutation(len(proba))
    return order[np.argsort(-uncertainty(proba)[order], kind="stable")]


def by_need(proba, n_rows, class_share, rng):
    """Put a few random rows first, then unsure ones of rare classes, by turns of confusions."""
    order = rng.permutation(len(proba))
    n_random = round(RANDOM_SHARE * n_rows)
    by_chance, rest = order[:n_random], order[n_random:]
    need = (1 - proba.max(axis=1)) * coverage(proba, class_share)
    needy = rest[np.argsort(-need[rest], kind="stable")][: NEEDY * n_rows]
    by_turns = needy[np.argsort(turns(confusion(proba[needy])), kind="stable")]
    return np.concatenate([by_chance, by_turns])


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


BOTH = frozenset({"teacher", "student"})
STRATEGIES = {
    "distill": Strategy(order=by_need, refine=True, calibration="temperature"),
    "llkd": Strategy(conditions=BOTH),
    "all": Strategy(everything=True),
    "random": Strategy(),
    "teacher": Strategy(conditions=frozenset({"teacher"})),
    "student": Strategy(order=by_entropy, conditions=frozenset({"student"})),
}
