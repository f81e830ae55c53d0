"""Read what servers send: answers, and errors. They leave out, and add, what they like."""

import email.utils
import json
import re
import time
from collections.abc import Callable
from typing import Any

from skllmreg.exceptions import RequestError
from skllmreg.llm._values import (
    CUT_OFF,
    ENDED,
    FILTERED,
    PROMPT_CODES,
    Record,
    as_count,
    as_text,
    read_logprobs,
)
from skllmreg.utils._json import LARGEST_RESPONSE, load_json
from skllmreg.utils._text import short_line

# Refusals that no repetition heals, though their status alone would allow one.
_FINAL_CODES = {"insufficient_quota", "billing_hard_limit_reached"}
# Statuses of gateways that have reached nobody, and of a server that is too busy to answer.
_UNASKED = {521, 522, 523, 525, 526, 529, 530}
# A server that wants a longer wait is not waited for.
LONGEST_PAUSE = 3600.0
# How an answer ends that the server could not finish.
_BROKEN = {"error", "network_error", "insufficient_system_resource", "abort", "cancelled"}


def parse_payload(text: str, url: str, hide: Callable[[str], str]) -> dict[str, Any]:
    """The JSON object that a server has sent with status 200, or a RequestError."""
    if text.lstrip()[:1] == "<":
        raise RequestError(
            f"{url} answered with a web page in place of JSON: {page_text(hide(text))!r}. Does "
            "base_url point at the API, as in http://localhost:8000/v1, and is there no proxy or "
            "login page in between?",
            sent=True,
        )
    try:
        payload, why = load_json(text, LARGEST_RESPONSE), "it is no object"
    except ValueError as error:
        payload, why = None, str(error)
    if not isinstance(payload, dict):
        raise RequestError(
            f"{url} answered with malformed JSON, {why}: {short_line(hide(text))!r}.",
            transient=True,
            sent=True,
        )
    return payload


def read_record(payload: dict[str, Any], url: str, hide: Callable[[str], str]) -> Record:
    """The few fields that are kept, each of its type or None.

    A RequestError where the server says, with status 200, that there is no answer.
    """
    choices = payload.get("choices")
    some = isinstance(choices, list) and all(isinstance(choice, dict) for choice in choices)
    choice = choices[0] if some and choices else {}
    # Some gateways report errors with status 200, beside the choices or in one.
    if error := payload.get("error") or choice.get("error"):
        code = error.get("code") if isinstance(error, dict) else None
        is_status = isinstance(code, int) and 400 <= code < 600
        raise refusal(url, code if is_status else None, error, {}, hide)
    if not some:
        said = short_line(hide(json.dumps(payload)), 200)
        raise RequestError(
            f"{url} answered without a list of choices: {said}. Is it the chat completions API?",
            sent=True,
        )
    reason = hide(_text(choice.get("finish_reason")) or "")
    if unfinished := _unfinished(reason, url):
        raise unfinished
    message, usage = _dict(choice.get("message")), _dict(payload.get("usage"))
    return Record(
        text=as_text(message.get("content"), hide),
        refusal=as_text(message.get("refusal"), hide) or None,
        finish_reason=(reason or None) if choices else "no choices",
        model=as_text(payload.get("model"), hide) or None,
        prompt_tokens=as_count(usage.get("prompt_tokens")),
        completion_tokens=as_count(usage.get("completion_tokens")),
        logprobs=read_logprobs(_dict(choice.get("logprobs")).get("content"), hide),
        thoughts=bool(_text(message.get("reasoning_content")) or _text(message.get("reasoning"))),
    )


def _unfinished(reason: str, url: str) -> RequestError | None:
    """The error for an answer that did not end as one."""
    word = reason.lower()
    if not word or word in ENDED | CUT_OFF | FILTERED:
        return None
    how = f"{url} ended its answer with finish_reason {short_line(reason, 40)!r}"
    if word in PROMPT_CODES:
        hint = "the context of the model is full. Shorten the prompt, or lower max_tokens"
        return RequestError(f"{how}: {hint}.", code=word, status=200, sent=True)
    return RequestError(
        f"{how}, which is not the end of an answer.",
        code=word[:40],
        status=200,
        transient=word in _BROKEN,
        sent=True,
    )


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


# Errors.


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
    return status is None or status in (200, 502, 504) or (status >= 520 and status not in _UNASKED)
