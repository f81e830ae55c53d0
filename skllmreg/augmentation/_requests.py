"""Plan the requests for rows: classes in balance, seed examples, attributes and feedback."""

import math
from copy import copy
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from skllmreg.augmentation._energy import STRATEGIES

# Where nothing else says how many.
DEFAULT_ROUNDS = 5

# About three rows of a reply share a value of an attribute.
ROWS_PER_VALUE = 3

# Rows near given ones are about what these are about: no subject is drawn for them.
SUBJECTS = ("topic", "profile")


@dataclass(frozen=True)
class GenerationRequest:
    """One batch of rows to write.

    Parameters
    ----------
    label : object
        The class that is asked for, as in `y`; None where rows have targets instead of classes.
    n_rows : int
        Number of rows wanted. A generator may return fewer or more; of an LLM or an iterator, up to
        four times as many are read.
    seed_examples : list
        Labeled rows of the class, to show what is meant: str for texts, ``{column: value}`` for a
        table or several texts, ``{"input": ..., "target": ...}`` where rows have targets.
    feedback : list
        Rows of the class to write near, chosen by the strategy.
    novel : bool
        Whether rows on topics far from the examples are wanted; feedback is chosen among them.
    batch : list
        Rows of the class that this round has brought already, for a novel request to keep away
        from; only with ``show_batch=True``.
    attributes : dict of str to str
        What the rows should be like, such as ``{"topic": "billing", "length": "one sentence"}``.
    round : int
        Number of the round, from 0.
    number : int
        Position among all requests of this fit, from 0.
    random_state : int
        Seed of this request, for a generator that draws.
    """

    label: Any
    n_rows: int
    seed_examples: list[Any] = field(default_factory=list)
    feedback: list[Any] = field(default_factory=list)
    novel: bool = False
    attributes: dict[str, str] = field(default_factory=dict)
    round: int = 0
    number: int = 0
    random_state: int = 0
    batch: list[Any] = field(default_factory=list)


@dataclass(frozen=True)
class GenerationPlan:
    """How much is asked for, resolved from the parameters of an augmenter.

    Parameters
    ----------
    n_batches, n_novel_batches : int
        Requests in a round: plain ones, and those for other topics.
    batch_size : int
        Rows asked for in a request.
    quotas : ndarray of shape (n_classes,)
        Rows wanted of each class; inf for no limit.
    n_seed_examples, n_feedback, feedback_every : int
    n_rounds, max_requests : int or inf
    show_batch : bool
        Whether novel requests come after the plain ones of their round, and show rows of them.
    """

    n_batches: int
    n_novel_batches: int
    batch_size: int
    quotas: np.ndarray
    n_seed_examples: int
    n_feedback: int
    feedback_every: int
    n_rounds: float
    max_requests: float
    show_batch: bool = False


def make_plan(params, quotas, *, strategy, n_batches, n_novel_batches=0, feedback_every=2):
    """Resolve how much is asked for; without feedback, other topics are not asked for either.

    Parameters
    ----------
    params : augmenter
    quotas : ndarray of shape (n_classes,)
    strategy : str
    n_batches, n_novel_batches, feedback_every : int

    Returns
    -------
    GenerationPlan
    """
    if STRATEGIES[strategy].source is None:
        n_batches, n_novel_batches = n_batches + n_novel_batches, 0
    n_rounds = params.n_rounds
    if n_rounds is None:
        bounded = params.n_samples is not None or params.max_requests is not None
        n_rounds = math.inf if bounded else DEFAULT_ROUNDS
    return GenerationPlan(
        n_batches=n_batches,
        n_novel_batches=n_novel_batches,
        batch_size=params.batch_size,
        quotas=quotas,
        n_seed_examples=params.n_seed_examples,
        n_feedback=params.n_feedback,
        feedback_every=feedback_every,
        n_rounds=n_rounds,
        max_requests=math.inf if params.max_requests is None else params.max_requests,
        show_batch=getattr(params, "show_batch", False),
    )


def class_quotas(n_samples, labels):
    """Return the rows wanted of each class; inf for no limit."""
    if n_samples is None:
        return np.full(len(labels), np.inf)
    if isinstance(n_samples, dict):
        return np.array([n_samples.get(label, 0) for label in labels], dtype=float)
    each, more = divmod(n_samples, len(labels))
    return each + (np.arange(len(labels)) < more).astype(float)


class RequestPlanner:
    """Write the requests of one round after the other.

    Parameters
    ----------
    plan : GenerationPlan
    data : TrainingRows
    grid : AttributeGrid or None
    rng : RandomState

    Attributes
    ----------
    feedback : list of (list of rows, int)
        For each class, rows to write near, and how many of them a request shows.
    n_requests : int
        Number of requests written so far.
    """

    def __init__(self, plan, data, grid, rng):
        self.plan, self.data, self.grid, self.rng = plan, data, grid, rng
        self.seeds = [np.flatnonzero(data.codes == k) for k in range(len(data.labels))]
        self.feedback: list = [([], 0)] * len(data.labels)
        self.n_requests = 0
        # Every `feedback_every`-th request of a class; not all classes in the same round.
        self.turns = np.arange(len(data.labels))

    def next_round(self, number, n_accepted, given_up=()):
        """Write the requests of a round.

        Parameters
        ----------
        number : int
            Number of the round.
        n_accepted : ndarray of int of shape (n_classes,)
        given_up : collection of int
            Classes that are not asked for.

        Returns
        -------
        list of GenerationRequest
            Empty where all quotas are met, but those of classes given up.
        """
        plan = self.plan
        quotas = plan.quotas.copy()
        quotas[list(given_up)] = 0
        most = min(plan.n_batches + plan.n_novel_batches, plan.max_requests - self.n_requests)
        drawn = draw_classes(n_accepted, quotas, int(most), plan.batch_size, self.rng)
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
            attributes = self.grid.draw(self.data.labels[code], n_rows, near=bool(feedback))
        request = GenerationRequest(
            label=self.data.labels[code],
            n_rows=n_rows,
            # Copies: whoever writes may change what is shown.
            seed_examples=[copy(self.data.kind.rows[i]) for i in seeds],
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


class AttributeGrid:
    """Values of attributes, dealt to requests so that all have their turn.

    Parameters
    ----------
    values : dict of str to (list of str, or dict of label to list of str)
        For each attribute its values, for all classes or for each.
    random_state : RandomState
        Shuffles them.
    proposed : bool, default=False
        Whether an LLM was asked for them.

    Raises
    ------
    ValueError
        If an attribute has no values, or something else than texts.
    """

    def __init__(self, values, random_state, *, proposed=False):
        for name, listed in values.items():
            for texts in listed.values() if isinstance(listed, dict) else [listed]:
                is_list = isinstance(texts, list | tuple) and len(texts) > 0
                if not is_list or not all(isinstance(text, str) for text in texts):
                    raise ValueError(
                        f"attributes[{name!r}] is a list of texts, or one for each class, got "
                        f"{texts!r:.100}."
                    )
        self.values = values
        self.random_state = random_state
        self.proposed = proposed
        self._decks = {}

    def draw(self, label, n_rows, *, near=False):
        """Draw the attributes of a request.

        Parameters
        ----------
        label : object
        n_rows : int
            Number of rows asked for: about three share a value.
        near : bool, default=False
            Whether they are to be near given rows, which say what they are about.

        Returns
        -------
        dict of str to str
            As in `GenerationRequest.attributes`: values are joined by "; ".
        """
        n_values = max(1, round(n_rows / ROWS_PER_VALUE))
        drawn = {}
        for name, listed in self.values.items():
            if near and name in SUBJECTS:
                continue
            texts = listed.get(label, []) if isinstance(listed, dict) else listed
            if texts:
                dealt = [self._deal(name, label, texts) for _ in range(min(n_values, len(texts)))]
                drawn[name] = "; ".join(dict.fromkeys(dealt))
        return drawn

    def _deal(self, name, label, texts):
        """Take the next card of a deck of the texts, which is shuffled anew when it is empty."""
        deck = self._decks.setdefault((name, label), [])
        if not deck:
            deck.extend(texts[i] for i in self.random_state.permutation(len(texts)))
        return deck.pop()
