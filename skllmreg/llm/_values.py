"""Define what is asked and answered: questions, requests, records, replies, models as values."""

import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Protocol, runtime_checkable

import numpy as np

from skllmreg.exceptions import RequestError
from skllmreg.llm._secrets import without_secrets
from skllmreg.llm._settings import Messages, Settings
from skllmreg.utils._thoughts import split_thoughts

# Words for how an answer has ended, in lower case. OpenAI says "stop", "length", "content_filter".
ENDED = {"stop", "eos", "eos_token", "end_turn", "stop_sequence", "complete", "tool_calls"}
CUT_OFF = {"length", "max_tokens"}
FILTERED = {"content_filter", "safety", "refusal", "sensitive", "recitation", "prohibited_content"}
# Refusals of what a prompt says (Azure's filter, OpenAI's), and of its length (OpenAI's,
# llama.cpp's); the last two are ours, for an answer that the end of the context has cut.
PROMPT_CODES = {
    "content_filter",
    "content_policy_violation",
    "invalid_prompt",
    "context_length_exceeded",
    "string_above_max_length",
    "exceed_context_size_error",
    "model_length",
    "model_context_window_exceeded",
}
_THOUGHT_PARTS = {"reasoning", "thinking", "thought"}
# No answer has more tokens; what is above would also be too much for the ledger.
MOST_TOKENS = 2**31


@runtime_checkable
class LanguageModel(Protocol):
    """What an object must offer to be the `llm` of any estimator of this package.

    One method is enough; :class:`ChatModel` offers more. Where the model cannot tell
    log-probabilities, label probabilities are shares of votes, or numbers that it states.
    """

    def complete(
        self,
        prompts: Sequence[str | list[dict[str, str]]],
        *,
        schema: dict[str, Any] | None = None,
    ) -> list[Any]:
        """Answer prompts, in their order.

        Parameters
        ----------
        prompts : list of (str or list of {"role", "content"})
            A prompt that occurs several times is to be answered as often, independently.
        schema : dict, default=None
            JSON schema that the answers must follow.

        Returns
        -------
        answers : list
            One for each prompt: its text or, with a schema, the parsed value; an object with an
            attribute `text` is taken as well. None is a prompt without an answer: the call fails
            for this prompt, and the other answers are used. Whatever is returned is checked, and a
            model whose answer is wrong is asked again with the problem in further messages.

        Raises
        ------
        Exception
            Ends the whole call.
        """


@dataclass(frozen=True)
class Request:
    """One prompt on its way to a model, for `transport.send`.

    Attributes
    ----------
    model : str
        Name of the model.
    messages : list of {"role", "content"}
        The prompt.
    options : dict
        What the user has set: temperature, seed, max_tokens, ...
    timeout : float
        Seconds without a sign of life from the server, after which it is given up.
    schema : dict or None
        JSON schema of the answer.
    schema_form : int
        How it is asked for: 0 as a JSON schema, 1 as any JSON object, 2 in the prompt alone.
    top_logprobs : int
        Number of likely tokens per position whose log-probabilities are wanted; 0 for none.
    stream : int
        How the answer is to come: 0 whole, 1 as a stream, 2 as a stream that ends with the number
        of tokens. It is the same answer.
    """

    model: str
    messages: list[dict[str, str]]
    options: dict[str, Any]
    timeout: float = 60.0
    schema: dict[str, Any] | None = None
    schema_form: int = 0
    top_logprobs: int = 0
    stream: int = 0

    @property
    def has_additions(self) -> bool:
        """Whether anything but the prompt is asked with, beside the user's options."""
        return self.top_logprobs > 0 or (self.schema is not None and self.schema_form < 2)


@dataclass(frozen=True)
class Record:
    """What is kept of one answer; a field that the server left out, or got wrong, is None.

    Attributes
    ----------
    text : str or None
        The answer.
    refusal : str or None
        What the model says where it refuses.
    finish_reason : str or None
        How the answer ended, in the server's word.
    model : str or None
        The model that has answered.
    prompt_tokens, completion_tokens : int or None
        As counted by the server.
    logprobs : list of dict or None
        One ``{"token", "logprob", "top_logprobs"}`` per token.
    thoughts : bool
        Whether the model has thought in a field of its own; not kept.
    """

    text: str | None = None
    refusal: str | None = None
    finish_reason: str | None = "stop"
    model: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    logprobs: list[dict[str, Any]] | None = None
    thoughts: bool = False

    @property
    def is_refusal(self) -> bool:
        """Whether the model, or a filter of its server, has declined."""
        return bool(self.refusal) or (self.finish_reason or "").lower() in FILTERED

    @property
    def is_cut_off(self) -> bool:
        """Whether the limit on its length ended it."""
        return (self.finish_reason or "").lower() in CUT_OFF

    @property
    def is_blank(self) -> bool:
        """Whether there is nothing to read but thoughts; such an answer is not kept."""
        text = (self.text or "").strip()
        thoughts = text[:1] in ("<", "[", "◁") and split_thoughts(text) is None
        return not self.is_refusal and (not text or thoughts)

    def used_tokens(self, prompt_tokens: int) -> tuple[int, int]:
        """Tokens as counted by the server; estimated where it does not count."""
        completion = self.completion_tokens
        if completion is None:
            completion = answer_tokens(self.text or "")
        return (prompt_tokens if self.prompt_tokens is None else self.prompt_tokens), completion

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in RECORD_FIELDS}


RECORD_FIELDS = [one.name for one in fields(Record) if one.name != "thoughts"]


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
        Number of times that the model was asked again, with what was wrong with its reply.
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
    pending : int
        Prompts that are part of batch jobs already.
    seconds : float or None
        At the pace of the last answers of this model, within the limits on requests and tokens;
        None where it has not been asked yet and there are no limits.
    """

    requests: int
    cached: int
    prompt_tokens: int
    completion_tokens: int
    cost: float | None
    basis: str
    pending: int = 0
    seconds: float | None = None

    def __str__(self) -> str:
        parts = [f"{self.requests:,} requests"]
        if self.cached:
            parts.append(f"{self.cached:,} answers from the cache")
        if self.pending:
            parts.append(f"{self.pending:,} in batch jobs")
        parts.append(f"{self.prompt_tokens:,} + {self.completion_tokens:,} tokens")
        if self.cost is not None:
            parts.append(f"${self.cost:,.{2 if self.cost >= 1 else 4}f}")
        if self.seconds is not None:
            minutes = self.seconds / 60
            parts.append(f"{self.seconds:,.0f} s" if minutes < 2 else f"{minutes:,.0f} min")
        return ", ".join(parts)


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
        In dollars, of the requests that were sent with prices; None where there was no price.
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
    cached : ndarray of bool of shape (n_prompts,)
        Whether nothing was sent for the row.
    """

    probabilities: np.ndarray
    method: np.ndarray
    cached: np.ndarray


@dataclass(frozen=True)
class Question:
    """What a call asks for with each prompt: a schema, so many likely tokens per position.

    `judge` is shown each record with log-probabilities; the reason that it gives ends the asking.
    """

    schema: dict[str, Any] | None = None
    top_logprobs: int = 0
    judge: Any = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class Obtained:
    """One answer, what was paid for it, where the cache has it, and what was refused on the way."""

    record: Record
    cost: float | None
    cached: bool
    key: str
    refused: tuple[RequestError, ...] = ()


@dataclass(frozen=True)
class Task:
    """One prompt, its place in the call and in the cache, and the answers to be repaired by it."""

    index: int
    messages: Messages
    sample: int
    key: str
    earlier: tuple[Obtained, ...] = ()


class Obtains(Protocol):
    """A way to obtain answers: what the rest of the package knows about it."""

    settings: Settings
    question: Question

    def key(self, messages: Messages, sample: int) -> str:
        """Where the cache has, or will have, the answer to a prompt."""

    def known(self, keys: Iterable[str]) -> dict[str, Record]:
        """The answers that are in the cache."""

    def submit(self, task: Task) -> None:
        """Ask for one more answer; also while `outcomes` is iterated."""

    def outcomes(self) -> Iterator[tuple[Task, Obtained | Exception]]:
        """Yield answers and errors as they come, until there is nothing left to do."""

    def spread(self, n: int) -> list[int]:
        """Ask next about `n` prompts spread over those not asked yet; their numbers."""

    def halt(self) -> None:
        """Ask for nothing more; what is under way is waited for."""


class ModelValue:
    """A model as a value: its parameters are all it holds, it is compared and shown by them."""

    model: str
    base_url: str | None
    # Whose budget it is: travels with copies, outside of equality and of the cache key.
    _run: str

    def _params(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_run"}

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, type(self)):
            return NotImplemented
        return self._params() == other._params()

    def __hash__(self) -> int:
        return hash((self.model, self.base_url))

    def __getstate__(self) -> dict[str, Any]:
        return {name: without_secrets(name, value) for name, value in vars(self).items()}

    def __sklearn_clone__(self) -> "ModelValue":
        return self  # estimators hold it by reference, so that all clones share what it holds

    def __repr__(self) -> str:
        params = self._params()
        # Of the class that has the parameters, whatever a subclass of it takes.
        known = [k for k in type(self).__mro__ if "model" in inspect.signature(k).parameters]
        defaults = inspect.signature(known[0]).parameters
        shown = [repr(without_secrets("model", params.pop("model")))]
        for name, value in params.items():
            if value != defaults[name].default:
                shown.append(f"{name}={without_secrets(name, value)!r}")
        return f"{type(self).__name__}({', '.join(shown)})"


def answer_tokens(text: str) -> int:
    """Tokens of an answer, high on purpose, as `estimate_tokens` of a prompt."""
    return len(text.encode()) // 3 + 1


def read_stored(value: Any) -> Record | None:
    """The record that a cache file holds, or None where it is damaged."""
    try:
        record = Record(**{name: value[name] for name in RECORD_FIELDS})
    except (KeyError, TypeError):
        return None
    texts = (record.text, record.refusal, record.finish_reason, record.model)
    counts = (record.prompt_tokens, record.completion_tokens)
    if (
        all(text is None or isinstance(text, str) for text in texts)
        and all(count is None or as_count(count) == count for count in counts)
        and (record.logprobs is None or read_logprobs(record.logprobs) is not None)
    ):
        return record
    return None


def as_text(value: Any, hide: Callable[[str], str]) -> str | None:
    """A text that can be encoded, which some servers send in parts, thoughts among them."""
    if isinstance(value, dict):
        value = [value]
    if isinstance(value, list):
        parts = [part if isinstance(part, dict) else {"text": part} for part in value]
        texts = [part.get("text") for part in parts if part.get("type") not in _THOUGHT_PARTS]
        value = "".join(text for text in texts if isinstance(text, str))
    if not isinstance(value, str):
        return None
    return hide(value if value.isascii() else value.encode(errors="replace").decode())


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def as_count(value: Any) -> int | None:
    return int(value) if _is_number(value) and 0 <= value < MOST_TOKENS else None


def read_logprobs(tokens: Any, hide: Callable[[str], str] = str) -> list[dict[str, Any]] | None:
    """All of them or None: a missing one would shift the others' probabilities."""

    def read(item: Any) -> dict[str, Any]:
        token, logprob = item["token"], item["logprob"]
        if not isinstance(token, str) or not _is_number(logprob) or not logprob <= MOST_TOKENS:
            raise TypeError
        return {"token": as_text(token, hide), "logprob": float(logprob)}

    try:
        return [
            {**read(token), "top_logprobs": [read(t) for t in token.get("top_logprobs") or []]}
            for token in tokens or []
        ] or None
    except (KeyError, TypeError, AttributeError, OverflowError):
        return None
