"""Strategies: which rows the teacher is asked about, and which of its answers count."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from skllmreg.selection._rule import uncertainty

# Share of a round's calls that go to random rows, where the student may be wrong without knowing.
RANDOM_SHARE = 0.5


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
