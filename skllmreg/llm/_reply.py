"""What the edge hands out: small frozen records."""

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer of the model.

    Attributes
    ----------
    text : str
        The text as the model wrote it.
    value : object
        The parsed and validated value where a schema was given, else the text.
    model : str
        The model that the server says has answered.
    finish_reason : str or None
        "stop", "length", ... as the server says.
    prompt_tokens, completion_tokens : int or None
        As counted by the server, summed over repair rounds; None where the server counts nothing.
    cost : float or None
        Dollars paid for this answer now: 0 from the cache, None without prices.
    cached : bool
        Whether nothing was sent for it.
    n_repairs : int
        How many times the model was told what was wrong with its reply.
    logprobs : list of dict or None
        One ``{"token", "logprob", "top_logprobs"}`` per token, where asked for and given.
    """

    text: str
    value: Any
    model: str
    finish_reason: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    cost: float | None
    cached: bool
    n_repairs: int = 0
    logprobs: list[dict[str, Any]] | None = None


@dataclass(frozen=True)
class Quote:
    """What a call would take, before anything is sent.

    Attributes
    ----------
    requests : int
        Prompts that would be sent.
    cached : int
        Prompts that are answered already.
    prompt_tokens, completion_tokens : int
        Estimates for the prompts that would be sent.
    cost : float or None
        In dollars; None without prices.
    basis : str
        What the estimate of the completion tokens rests on.
    """

    requests: int
    cached: int
    prompt_tokens: int
    completion_tokens: int
    cost: float | None
    basis: str


@dataclass(frozen=True)
class Usage:
    """What one model has taken on one day (UTC).

    Attributes
    ----------
    day : str
        As in "2025-01-31".
    model : str
        The model that was asked.
    requests : int
        Requests that were sent, those that failed included.
    cached : int
        Answers that came from the cache and cost nothing.
    prompt_tokens, completion_tokens : int
        As counted by the server.
    cost : float or None
        In dollars, of the requests that were sent with prices; None where none was.
    """

    day: str
    model: str
    requests: int
    cached: int
    prompt_tokens: int
    completion_tokens: int
    cost: float | None


@dataclass(frozen=True)
class LabelProbabilities:
    """Probabilities of labels, and how they were found.

    Attributes
    ----------
    probabilities : ndarray of shape (n_prompts, n_labels)
        Rows sum to one; columns follow the order of the labels given.
    method : ndarray of shape (n_prompts,)
        "logprobs" or "votes", for each row.
    """

    probabilities: np.ndarray
    method: np.ndarray
