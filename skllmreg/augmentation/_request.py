"""What a generator is asked for."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class GenerationRequest:
    """One batch of rows of one class to write.

    Parameters
    ----------
    label : object
        The class that is asked for, as in `y`.
    n_rows : int
        How many rows to write; fewer or more are taken too, of an LLM or an iterator up to four
        times as many.
    seed_examples : list
        Labeled rows of the class, to show what is meant: str for texts, for a table
        ``{column: value}``.
    feedback : list
        Rows of the class, written before, that the student finds unfamiliar: write near them.
    novel : bool
        Whether rows on topics far from the examples are wanted; feedback is chosen among them.
    attributes : dict of str to str
        What the rows should be like, such as ``{"topic": "billing", "length": "one sentence"}``.
    round : int
        The round that asks, from 0.
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
