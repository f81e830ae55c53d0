"""What a server's refusal says, and whether another try may succeed."""

import email.utils
import json
import time
from typing import Any

from skllmreg.exceptions import RequestError
from skllmreg.llm._limits import LONGEST_PAUSE
from skllmreg.llm._text import is_web_page, page_text
from skllmreg.utils._text import short_line

# Refusals of what a prompt says (Azure's filter, OpenAI's), and of its length (OpenAI's).
_PROMPT_CODES = {
    "content_filter",
    "content_policy_violation",
    "invalid_prompt",
    "context_length_exceeded",
    "string_above_max_length",
}
# Refusals that no repetition heals, though their status alone would allow one.
_FINAL_CODES = {"insufficient_quota", "billing_hard_limit_reached"}


def refusal(url: str, status: int | None, said: Any, headers: Any) -> RequestError:
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
    """
    if isinstance(said, dict):
        said = said.get("error") or said
    fields = said if isinstance(said, dict) else {}
    message = fields.get("message") or fields.get("detail") or said
    if not isinstance(message, str):
        message = json.dumps(message) if message else ""
    code = fields.get("code") or fields.get("type")
    code = str(code) if isinstance(code, (str, int)) else ""
    pause = _retry_after(headers)
    hours = (pause or 0.0) / 3600
    too_long = (pause or 0.0) > LONGEST_PAUSE
    head = "an error" if status is None else f"status {status}"
    what = short_line(message, 500) or "no message"
    if is_web_page(message):
        what = f"a web page, perhaps of a proxy on the way: {page_text(message)!r}"
    return RequestError(
        f"{url} answered with {head}: {what}{'' if what[-1] in '.!?' else '.'}"
        + (f" It wants to be asked again in {hours:.1f} hours." if too_long else "")
        + _hint(status or 0, url),
        status=status,
        code=code,
        retry_after=pause,
        transient=_is_transient(status or 0)
        and code not in _FINAL_CODES
        and headers.get("x-should-retry") != "false"
        and not too_long,
        sent=True,
    )


def is_about_prompt(error: RequestError) -> bool:
    """Whether it is this prompt that is refused: others may be answered.

    Servers of one's own, vLLM and its like, say that a prompt is too long in the message alone.
    """
    too_long = error.status in (400, 413) and "context length" in str(error).lower()
    return error.code in _PROMPT_CODES or too_long


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
