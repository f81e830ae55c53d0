"""What is kept of a server's answer; servers leave out, and add, what they like."""

import json
from typing import Any

from skllmreg.exceptions import RequestError


def parse_payload(text: str, url: str) -> dict[str, Any]:
    """The JSON object that a server has sent with status 200, or a RequestError."""
    if text.lstrip()[:1] == "<":
        raise RequestError(
            f"{url} answered with a web page in place of JSON: {text.strip()[:80]!r}. "
            "Does base_url point at the API, as in http://localhost:8000/v1?"
        )
    try:
        payload = json.loads(text)
    except ValueError:
        payload = None
    if not isinstance(payload, dict):
        raise RequestError(
            f"{url} answered with malformed JSON: {text.strip()[:80]!r}.", transient=True
        )
    return payload


def read_record(payload: dict[str, Any], url: str) -> dict[str, Any]:
    """The few fields that are kept; absent ones are None, since servers leave out what they like.

    An answer that is well-formed but empty is recorded as such: it may have been paid for.
    """
    if isinstance(payload.get("error"), dict):  # some gateways report errors with status 200
        raise RequestError(f"{url} answered with an error: {payload['error'].get('message')}")
    choices = payload.get("choices")
    if not isinstance(choices, list) or not all(isinstance(choice, dict) for choice in choices):
        raise RequestError(
            f"{url} answered without a list of choices: {json.dumps(payload)[:200]}. "
            "Is it the chat completions API?"
        )
    choice = choices[0] if choices else {}
    message = _dict(choice.get("message"))
    usage = _dict(payload.get("usage"))
    logprobs = _dict(choice.get("logprobs")).get("content")
    return {
        "text": message.get("content") if isinstance(message.get("content"), str) else None,
        "refusal": message.get("refusal") or None,
        "finish_reason": choice.get("finish_reason") if choices else "no choices",
        "model": payload.get("model"),
        "prompt_tokens": usage.get("prompt_tokens"),
        "completion_tokens": usage.get("completion_tokens"),
        "logprobs": _read_logprobs(logprobs) if isinstance(logprobs, list) else None,
    }


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _read_logprobs(tokens: list[Any]) -> list[dict[str, Any]]:
    def read(item: Any) -> dict[str, Any]:
        return {"token": item["token"], "logprob": item["logprob"]}

    try:
        return [
            {**read(token), "top_logprobs": [read(t) for t in token.get("top_logprobs") or []]}
            for token in tokens
        ]
    except (KeyError, TypeError, AttributeError):
        return []
