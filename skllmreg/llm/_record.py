"""What is kept of a server's answer.

Servers leave out, and add, what they like: a field that is not what it should be counts as absent.
"""

import json
from collections.abc import Callable
from typing import Any

from skllmreg.exceptions import RequestError
from skllmreg.llm._refusal import refusal
from skllmreg.llm._text import is_web_page, page_text, read_json
from skllmreg.utils._text import short_line

FIELDS = {
    "text",
    "refusal",
    "finish_reason",
    "model",
    "prompt_tokens",
    "completion_tokens",
    "logprobs",
}
# No answer has more tokens; what is above would also be too much for the ledger.
MOST_TOKENS = 2**31


def parse_payload(text: str, url: str, hide: Callable[[str], str]) -> dict[str, Any]:
    """The JSON object that a server has sent with status 200, or a RequestError."""
    if is_web_page(text):
        raise RequestError(
            f"{url} answered with a web page in place of JSON: {page_text(hide(text))!r}. Does "
            "base_url point at the API, as in http://localhost:8000/v1, and is there no proxy or "
            "login page in between?",
            sent=True,
        )
    try:
        payload = read_json(text, hide)
    except ValueError:
        payload = None
    if not isinstance(payload, dict):
        raise RequestError(
            f"{url} answered with malformed JSON: {short_line(hide(text))!r}.",
            transient=True,
            sent=True,
        )
    return payload


def read_record(payload: dict[str, Any], url: str, hide: Callable[[str], str]) -> dict[str, Any]:
    """The few fields that are kept, each of its type or None.

    An answer that is well-formed but empty is recorded as such: it may have been paid for. What is
    to be hidden may only show when the parts of a text are joined.
    """
    if error := payload.get("error"):  # some gateways report errors with status 200
        code = error.get("code") if isinstance(error, dict) else None
        is_status = isinstance(code, int) and 400 <= code < 600
        raise refusal(url, code if is_status else None, error, {})
    choices = payload.get("choices")
    if not isinstance(choices, list) or not all(isinstance(choice, dict) for choice in choices):
        raise RequestError(
            f"{url} answered without a list of choices: {short_line(json.dumps(payload), 200)}. "
            "Is it the chat completions API?",
            sent=True,
        )
    choice = choices[0] if choices else {}
    message, usage = _dict(choice.get("message")), _dict(payload.get("usage"))
    return {
        "text": _content(message.get("content"), hide),
        "refusal": _text(message.get("refusal")),
        "finish_reason": _text(choice.get("finish_reason")) if choices else "no choices",
        "model": _text(payload.get("model")),
        "prompt_tokens": _count(usage.get("prompt_tokens")),
        "completion_tokens": _count(usage.get("completion_tokens")),
        "logprobs": _logprobs(_dict(choice.get("logprobs")).get("content")),
    }


def is_record(value: Any) -> bool:
    """Whether it is what `read_record` returns, as far as others rely on it."""
    if not isinstance(value, dict) or not value.keys() >= FIELDS:
        return False
    texts = (value[name] for name in ("text", "refusal", "finish_reason", "model"))
    counts = (value[name] for name in ("prompt_tokens", "completion_tokens"))
    return (
        all(text is None or isinstance(text, str) for text in texts)
        and all(count is None or _count(count) == count for count in counts)
        and (value["logprobs"] is None or _logprobs(value["logprobs"]) is not None)
    )


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _content(value: Any, hide: Callable[[str], str]) -> str | None:
    """The text, which some servers send in parts."""
    if isinstance(value, list):
        value = hide("".join(_text(_dict(part).get("text")) or "" for part in value))
    return value if isinstance(value, str) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _count(value: Any) -> int | None:
    return int(value) if _is_number(value) and 0 <= value < MOST_TOKENS else None


def _logprobs(tokens: Any) -> list[dict[str, Any]] | None:
    """All of them or none: a missing one would shift the others' probabilities."""

    def read(item: Any) -> dict[str, Any]:
        token, logprob = item["token"], item["logprob"]
        if not isinstance(token, str) or not _is_number(logprob) or not logprob <= MOST_TOKENS:
            raise TypeError
        return {"token": token, "logprob": float(logprob)}

    try:
        return [
            {**read(token), "top_logprobs": [read(t) for t in token.get("top_logprobs") or []]}
            for token in tokens or []
        ] or None
    except (KeyError, TypeError, AttributeError, OverflowError):
        return None
