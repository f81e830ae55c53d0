"""Probabilities of labels: log-probabilities of one-letter codes, else shares of votes."""

import math
import string
from typing import TYPE_CHECKING, Any

import numpy as np

from skllmreg.exceptions import InvalidReplyError, ReplayMissError, RequestError
from skllmreg.llm._call import unusable_replies
from skllmreg.llm._json import THOUGHT
from skllmreg.llm._prompts import Messages
from skllmreg.llm._reply import LabelProbabilities, Reply
from skllmreg.llm._structured import NOT_SUPPORTED

if TYPE_CHECKING:
    from skllmreg.llm._chat import ChatModel

# Capital letters are single tokens of every vocabulary in use.
LETTERS = string.ascii_uppercase
# Servers tell the probabilities of this many tokens at the most.
MOST_TOKENS = 20

# For each prompt a row, or None; by the position of the latter what was wrong.
Found = tuple[list[np.ndarray | None], dict[int, InvalidReplyError]]

# Servers and models that refused to tell log-probabilities; for the life of the process.
_without_logprobs: set[tuple[str | None, str]] = set()


def label_probabilities(
    chat: "ChatModel",
    conversations: list[Messages],
    labels: list[str],
    *,
    n_samples: int,
    method: str,
    **progress: Any,
) -> LabelProbabilities:
    """See `ChatModel.label_probabilities`."""
    labels = [str(label) for label in labels]
    if len(labels) < 2 or len(set(labels)) < len(labels):
        raise ValueError(f"labels are two or more different strings, got {labels!r:.200}.")
    if method not in ("auto", "logprobs", "votes"):
        raise ValueError(f'method is "auto", "logprobs" or "votes", got {method!r}.')
    if method == "logprobs" and len(labels) > len(LETTERS):
        raise ValueError(f"{len(labels)} labels are too many for letters: use votes.")
    if n_samples < 1:
        raise ValueError(f"n_samples is 1 or more, got {n_samples}.")
    codes = _codes(labels)
    asked = [_ask_for_code(messages, labels, codes) for messages in conversations]
    found: list[np.ndarray | None] = [None] * len(asked)
    failures: dict[int, InvalidReplyError] = {}
    server, refused, silent = (chat.base_url, chat.model), False, False
    forgo = method == "votes" or (method == "auto" and server in _without_logprobs)
    if not forgo and len(labels) <= len(LETTERS):
        try:
            found, failures, silent = _from_logprobs(chat, asked, codes, progress)
        except RequestError as error:
            # Where others were answered it is about the prompt: votes would be paid for in vain.
            refused = error.status in NOT_SUPPORTED and not any(error.replies)
            if not refused or method == "logprobs":
                raise
        except ReplayMissError:
            # What a server refused when it was recorded is missed; there may be votes.
            if method == "logprobs":
                raise
    rows = [i for i, row in enumerate(found) if row is None]
    if method == "logprobs":
        told = f"{chat.model!r} tells no log-probabilities of the labels: use votes."
        failures = {i: failures.get(i) or InvalidReplyError(told) for i in rows}
    elif rows:
        votes, failed = _from_votes(chat, [asked[i] for i in rows], codes, n_samples, progress)
        failures = {rows[i]: failure for i, failure in failed.items()}
        for i, row in zip(rows, votes, strict=True):
            found[i] = row
        # Refused, and the same was taken without: it was about them. Or they were passed over.
        if refused or silent:
            _without_logprobs.add(server)
    if failures:
        raise unusable_replies("Prompt", failures, found)
    methods = np.full(len(asked), "logprobs")
    methods[rows] = "votes"
    return LabelProbabilities(np.array(found).reshape(-1, len(labels)), methods)


def _codes(labels: list[str]) -> list[str]:
    """A letter for each label, or a number where they are many; one that is such is its own code.

    Else the answer B, of a model that means the label B, could be the code of another.
    """
    n = len(labels)
    codes = list(LETTERS) if n <= len(LETTERS) else [str(i + 1) for i in range(2 * n)]
    free = iter([code for code in codes if code not in labels])
    return [label if label in codes else next(free) for label in labels]


def _ask_for_code(messages: Messages, labels: list[str], codes: list[str]) -> Messages:
    what = "letter" if codes[0] in LETTERS else "number"
    table = "\n".join(f"{code}: {label}" for code, label in zip(codes, labels, strict=True))
    last = messages[-1]
    content = f"{last['content']}\n\n{table}\nAnswer with the {what} alone."
    return [*messages[:-1], {**last, "content": content}]


def _read_code(text: str, codes: list[str]) -> int | None:
    """Which code a text is; None for any other text, nothing is guessed."""
    text = text.rpartition(THOUGHT)[2].strip().strip("*`\"'().:").strip()
    return codes.index(text) if text in codes else None


def _from_logprobs(
    chat: "ChatModel", asked: list[Messages], codes: list[str], progress: Any
) -> tuple[list[np.ndarray | None], dict[int, InvalidReplyError], bool]:
    """A row of probabilities for each prompt; None where the server told nothing of use.

    Last, whether it told none in any reply, as servers do that do not know the parameter.
    """
    n_tokens = min(MOST_TOKENS, max(5, 2 * len(codes)))
    extra = {"logprobs": True, "top_logprobs": n_tokens}
    replies, failures = _replies(chat, asked, extra=extra, **progress)
    silent = any(replies) and not any(reply and reply.logprobs for reply in replies)
    return [reply and _read_logprobs(reply, codes) for reply in replies], failures, silent


def _read_logprobs(reply: Reply, codes: list[str]) -> np.ndarray | None:
    for token in reply.logprobs or []:
        if _read_code(token["token"], codes) is None:
            if token["token"].strip():
                return None  # the answer is no letter
            continue
        row = np.zeros(len(codes))
        # " A" and "A" are different tokens and the same answer.
        for other in {t["token"]: t for t in [token, *token["top_logprobs"]]}.values():
            code = _read_code(other["token"], codes)
            if code is not None:
                row[code] += math.exp(min(other["logprob"], 0.0))
        total = row.sum()
        return row / total if np.isfinite(total) and total > 0 else None
    return None


def _from_votes(
    chat: "ChatModel", asked: list[Messages], codes: list[str], n_samples: int, progress: Any
) -> Found:
    """The shares of the answers to each prompt; None where one of them is of no use."""
    if chat.temperature == 0:
        n_samples = 1  # all further ones would be the same

    def validate(text: str) -> int:
        code = _read_code(text, codes)
        if code is None:
            raise ValueError(f"one of {', '.join(codes)} is wanted and nothing else")
        return code

    repeated = [messages for messages in asked for _ in range(n_samples)]
    replies, failures = _replies(chat, repeated, validate=validate, **progress)
    by_prompt: dict[int, InvalidReplyError] = {}
    for i in sorted(failures):
        first = by_prompt.setdefault(i // n_samples, failures[i])
        if first is not failures[i]:
            first.cache = first.cache or failures[i].cache
            first.keys += failures[i].keys
    shares: list[np.ndarray | None] = [None] * len(asked)
    for i in set(range(len(asked))) - set(by_prompt):
        votes = [reply.value for reply in replies[i * n_samples : (i + 1) * n_samples]]
        shares[i] = np.bincount(votes, minlength=len(codes)) / n_samples
    return shares, by_prompt


def _replies(
    chat: "ChatModel", asked: list[Messages], **options: Any
) -> tuple[list[Any], dict[int, InvalidReplyError]]:
    """Replies, None for those of no use, and what is wrong with these."""
    try:
        return chat._complete(asked, first_token=True, **options), {}
    except InvalidReplyError as error:
        return error.replies, error.failures
