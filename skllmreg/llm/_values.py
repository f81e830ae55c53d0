"""Define what is asked, answered and refused: requests, records, replies, errors of servers."""

import email.utils
import inspect
import json
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol, runtime_checkable

import numpy as np

from skllmreg.exceptions import RequestError
from skllmreg.llm._settings import without_secrets
from skllmreg.utils._text import short_line

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
# Refusals that no repetition heals, though their status alone would allow one.
_FINAL_CODES = {"insufficient_quota", "billing_hard_limit_reached"}
# No answer has more tokens; what is above would also be too much for the ledger.
MOST_TOKENS = 2**31
# A server that wants a longer wait is not waited for.
LONGEST_PAUSE = 3600.0


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
        Seconds for the whole exchange.
    schema : dict or None
        JSON schema of the answer.
    schema_form : int
        How it is asked for: 0 as a JSON schema, 1 as any JSON object, 2 in the prompt alone.
    top_logprobs : int
        Number of likely tokens per position whose log-probabilities are wanted; 0 for none.
    """

    model: str
    messages: list[dict[str, str]]
    options: dict[str, Any]
    timeout: float = 60.0
    schema: dict[str, Any] | None = None
    schema_form: int = 0
    top_logprobs: int = 0


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
        """Whether there is nothing to read; such an answer is not kept."""
        return not self.is_refusal and not (self.text or "").strip()

    def used_tokens(self, prompt_tokens: int) -> tuple[int, int]:
        """Tokens as counted by the server; estimated where it does not count."""
        completion = self.completion_tokens
        if completion is None:
            completion = len((self.text or "").encode()) // 3 + 1
        return (prompt_tokens if self.prompt_tokens is None else self.prompt_tokens), completion

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in RECORD_FIELDS}


RECORD_FIELDS = [field.name for field in fields(Record) if field.name != "thoughts"]


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

    def __sklearn_clone__(self) -> "ModelValue":
        return self  # estimators hold it by reference, so that all clones share what it holds

    def __repr__(self) -> str:
        params = self._params()
        # Of the class that has the parameters, whatever a subclass of it takes.
        known = [k for k in type(self).__mro__ if "model" in inspect.signature(k).parameters]
        defaults = inspect.signature(known[0]).parameters
        shown = [repr(params.pop("model"))]
        for name, value in params.items():
            if value != defaults[name].default:
                shown.append(f"{name}={without_secrets(name, value)!r}")
        return f"{type(self).__name__}({', '.join(shown)})"


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
    """A text that can be encoded, which some servers send in parts."""
    if isinstance(value, list):
        texts = [part.get("text") for part in value if isinstance(part, dict)]
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


def is_web_page(text: str) -> bool:
    return text.lstrip()[:1] == "<"


def page_text(text: str) -> str:
    """What the beginning of a web page says, on one short line."""
    tags = r"<(script|style).*?</\1>|<[^<>]*>"  # takes time that grows with the square
    return short_line(re.sub(tags, " ", text[:10_000], flags=re.I | re.S))


def refusal(
    url: str, status: int | None, said: Any, headers: Any, hide: Callable[[str], str]
) -> RequestError:
    """The error for a status, or for an error that comes with status 200.

    Parameters
    ----------
    url : str
        Who refuses.
    status : int or None
        None where it is not known.
    said : object
        The parsed body, or its text.
    headers : mapping
        Of the response.
    hide : callable
        Drops the key from a text.
    """
    if isinstance(said, dict):
        said = said.get("error") or said
    fields = said if isinstance(said, dict) else {}
    message = fields.get("message") or fields.get("detail") or said
    if not isinstance(message, str):
        message = json.dumps(message) if message else ""
    code = fields.get("code") or fields.get("type")
    if isinstance(code, int) and isinstance(fields.get("type"), str):
        code = fields["type"]  # llama.cpp repeats the status as the code
    pause = _retry_after(headers)
    too_long = (pause or 0.0) > LONGEST_PAUSE
    head = "an error" if status is None else f"status {status}"
    what = short_line(hide(message), 500) or "no message"
    if is_web_page(message):
        what = f"a web page, perhaps of a proxy on the way: {page_text(hide(message))!r}"
    return RequestError(
        f"{url} answered with {head}: {what}{'' if what[-1] in '.!?' else '.'}"
        + (f" It wants to be asked again in {(pause or 0) / 3600:.1f} hours." if too_long else "")
        + _hint(status or 0, url),
        status=status,
        code=hide(str(code)) if isinstance(code, (str, int)) else "",
        retry_after=pause,
        transient=_is_transient(status or 0)
        and code not in _FINAL_CODES
        and headers.get("x-should-retry") != "false"
        and not too_long,
        sent=True,
    )


def _is_transient(status: int) -> bool:
    return status in (408, 409, 429) or (status >= 500 and status not in (501, 505))


def _hint(status: int, url: str) -> str:
    if 300 <= status < 400:
        return " Give the address it redirects to as base_url."
    if status == 401:
        return " Is the key right, was one sent? api_key_env names the variable that holds it."
    if status == 404:
        end = "" if url.endswith("/v1") else "Most addresses end in /v1. "
        return (
            f" {end}Does the server have this model? "
            f"`python -m skllmreg doctor --base-url {url}` tells."
        )
    return ""


def _retry_after(headers: Any) -> float | None:
    """Seconds to wait as the server says, in any of the three forms that are used."""
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            seconds = float(headers[name]) / unit
        except (KeyError, ValueError):
            continue
        if seconds == seconds:  # "nan" is a number to Python
            return max(0.0, seconds)
    try:
        when = email.utils.parsedate_to_datetime(headers["retry-after"])
        return max(0.0, when.timestamp() - time.time())
    except (KeyError, ValueError, TypeError, OverflowError):
        return None


def may_be_about_additions(error: RequestError) -> bool:
    """Whether a refusal can be about what this package adds to a request.

    Keys, quotas, limits and gateways have statuses of their own, and some codes name the prompt.
    """
    status = error.status or 0
    return (
        400 <= status < 520
        and status not in (401, 402, 407, 408, 409, 429, 502, 503, 504)
        and error.code not in PROMPT_CODES
    )


def may_be_billed(status: int | None) -> bool:
    """Whether somebody may have answered: a gateway that gave up does not know."""
    return status is None or status in (200, 502, 504) or status >= 520
