"""What a round asks for: classes in balance, seed examples, and feedback in some of it."""

from copy import copy
from dataclasses import dataclass

import numpy as np

from skllmreg.augmentation._request import GenerationRequest


@dataclass(frozen=True)
class Plan:
    """How much is asked for, resolved from the parameters of `GOLDAugmenter`.

    Parameters
    ----------
    n_batches, n_novel_batches : int
        Requests in a round.
    batch_size : int
    quotas : ndarray of shape (n_classes,)
        Rows wanted of each class; inf for no limit.
    n_seed_examples, n_feedback, feedback_every : int
    """

    n_batches: int
    n_novel_batches: int
    batch_size: int
    quotas: np.ndarray
    n_seed_examples: int
    n_feedback: int
    feedback_every: int


class Asker:
    """Writes the requests of one round after the other.

    Parameters
    ----------
    plan : Plan
    data : Labeled
    grid : AttributeGrid or None
    rng : RandomState

    Attributes
    ----------
    feedback : list of (list of rows, int)
        For each class rows to go near, and how many of them a request shows.
    given_up : set of int
        Classes that are not asked for now.
    n_requests : int
        Written so far.
    """

    def __init__(self, plan, data, grid, rng):
        self.plan, self.data, self.grid, self.rng = plan, data, grid, rng
        self.labels = data.classes.tolist()
        self.seeds = [np.flatnonzero(data.codes == k) for k in range(len(self.labels))]
        self.feedback: list = [([], 0)] * len(self.labels)
        self.given_up: set[int] = set()
        self.n_requests = 0
        # Of every class each `feedback_every`-th request; not all classes in the same round.
        self.turns = np.arange(len(self.labels))

    def next_round(self, number, n_accepted, most):
        """Write the requests of a round.

        Parameters
        ----------
        number : int
            Of the round.
        n_accepted : ndarray of int of shape (n_classes,)
        most : int or inf
            How many requests may still be made.

        Returns
        -------
        list of GenerationRequest
            Empty where all quotas are met, but of classes that are given up.
        """
        plan = self.plan
        quotas = plan.quotas.copy()
        quotas[list(self.given_up)] = 0
        n_requests = int(min(plan.n_batches + plan.n_novel_batches, most))
        drawn = draw_classes(n_accepted, quotas, n_requests, plan.batch_size, self.rng)
        return [
            self._request(code, n_rows, number, novel=i >= plan.n_batches)
            for i, (code, n_rows) in enumerate(drawn)
        ]

    def _request(self, code, n_rows, number, *, novel):
        own, plan = self.seeds[code], self.plan
        # Draws of its own: a request is the same whatever feedback others have got.
        random_state = self.rng.randint(2**31 - 1)
        rng = np.random.RandomState(random_state)
        seeds = rng.choice(own, min(plan.n_seed_examples, len(own)), replace=False)
        feedback = [] if novel else self._feedback(code, rng)
        attributes = {}
        if self.grid is not None:
            attributes = self.grid.draw(self.labels[code], n_rows, near=bool(feedback))
        request = GenerationRequest(
            label=self.labels[code],
            n_rows=n_rows,
            # Copies: whoever writes may change what is shown.
            seed_examples=[copy(self.data.rows[i]) for i in seeds],
            feedback=[copy(row) for row in feedback],
            novel=novel,
            attributes=attributes,
            round=number,
            number=self.n_requests,
            random_state=random_state,
        )
        self.n_requests += 1
        return request

    def _feedback(self, code, rng):
        self.turns[code] += 1
        rows, n_shown = self.feedback[code]
        if self.turns[code] % self.plan.feedback_every or not n_shown:
            return []
        return [rows[i] for i in rng.choice(len(rows), n_shown, replace=False)]


def draw_classes(n_accepted, quotas, n_requests, batch_size, rng):
    """Draw the classes of requests, always one that has least of its quota.

    Parameters
    ----------
    n_accepted : ndarray of int of shape (n_classes,)
    quotas : ndarray of shape (n_classes,)
        Inf in all places for no limits: the classes are kept equal.
    n_requests : int
    batch_size : int
    rng : RandomState
        Decides between equals.

    Returns
    -------
    list of (int, int)
        Class and number of rows. Where less than a batch is wanted, that and one row to spare.
    """
    n_rows = n_accepted.astype(float)
    share = np.where(np.isfinite(quotas), np.maximum(quotas, 1), 1.0)
    order = rng.permutation(len(quotas))
    drawn = []
    for _ in range(n_requests):
        open_ = order[n_rows[order] < quotas[order]]
        if not len(open_):
            break
        code = open_[np.argmin(n_rows[open_] / share[open_])]
        wanted = int(min(batch_size, quotas[code] - n_rows[code] + 1))
        drawn.append((int(code), wanted))
        n_rows[code] += wanted
    return drawn
