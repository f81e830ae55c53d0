"""Text from strangers: JSON that may be hostile, lines that a terminal must not obey."""

import json
import re
from collections.abc import Callable
from typing import Any

from skllmreg.utils._text import short_line


def read_json(text: str, change: Callable[[str], str] | None = None) -> Any:
    """Parse JSON; ValueError is all that it raises.

    Parameters
    ----------
    text : str
        What claims to be JSON.
    change : callable, default=None
        Applied to each string that is found, names included.

    Returns
    -------
    value : object
        Its strings can be encoded.
    """
    try:
        return map_strings(json.loads(text), change)
    except RecursionError:
        raise ValueError("the JSON is nested too deeply") from None


def map_strings(value: Any, change: Callable[[str], str] | None = None) -> Any:
    """A JSON value with its strings changed, and rid of the halves of pairs that JSON can hold."""
    if isinstance(value, str):
        text = value if value.isascii() else value.encode(errors="replace").decode()
        return text if change is None else change(text)
    if isinstance(value, list):
        return [map_strings(item, change) for item in value]
    if isinstance(value, dict):
        return {map_strings(k, change): map_strings(v, change) for k, v in value.items()}
    return value


def is_web_page(text: str) -> bool:
    return text.lstrip()[:1] == "<"


def page_text(text: str) -> str:
    """What the beginning of a web page says, on one short line."""
    tags = r"<(script|style).*?</\1>|<[^<>]*>"  # takes time that grows with the square
    return short_line(re.sub(tags, " ", text[:10_000], flags=re.I | re.S))
