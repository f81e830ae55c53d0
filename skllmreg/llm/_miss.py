"""Explain which request a replay lacks, and how the nearest one that was recorded differs."""

import difflib
import heapq
import json
from collections.abc import Callable
from typing import Any

from skllmreg.llm._secrets import without_secrets
from skllmreg.llm._settings import Messages, Settings
from skllmreg.llm._store import Store
from skllmreg.utils._json import load_json

# Comparing texts is slow: only the last entries of a large cache, only their beginnings, and with
# regard to the order of letters only those that have the same letters.
N_COMPARED = 500
N_CANDIDATES = 10
LENGTH = 2_000

Entry = tuple[str, str, dict[str, Any]]


def describe_miss(
    store: Store,
    settings: Settings,
    options: dict[str, Any],
    messages: Messages,
    sample: int,
) -> str:
    """A message that shows the missing prompt and how the nearest one differs."""
    text, url, model = messages[-1]["content"], settings.url, settings.model
    head = (
        f"No answer in {store.path} for sample {sample} of this prompt to {model!r}, and "
        f'mode="replay" sends nothing: {text[:300]!r}.'
    )
    near_entry = _same_messages(store, messages, model) or _nearest(store, text, model)
    if near_entry is None:
        return f"{head} The cache is empty."
    near_url, near_model, near = near_entry
    there_options = without_secrets("request_options", near["options"])
    differs = [
        f"{name} is {there!r:.200} there, {here!r:.200} here"
        for name, there, here in (
            ("the server", near_url, url),
            ("the model", near_model, model),
            ("the options", there_options, options),
            ("the sample", near["sample"], sample),
        )
        if there != here
    ]
    if near["messages"] == messages:
        return f"{head} The same prompt is there, but {'; '.join(differs) or 'the schema differs'}."
    there = near["messages"][-1]["content"]
    if there == text:
        return f"{head} The nearest has the same last message after another conversation."
    at = next(
        (i for i, (a, b) in enumerate(zip(there, text, strict=False)) if a != b),
        min(len(there), len(text)),
    )
    return (
        f"{head} The nearest differs from character {at} on: {there[max(at - 20, 0) : at + 80]!r} "
        f"there, {text[max(at - 20, 0) : at + 80]!r} here."
    )


def _same_messages(store: Store, messages: Messages, model: str) -> Entry | None:
    """An entry with exactly these messages, wherever it is; of the same model if there is one."""
    beginning = json.dumps({"messages": messages})[:-1] + ","  # as `put` writes requests
    rows = store.read(
        "SELECT CAST(server AS TEXT), CAST(model AS TEXT), CAST(request AS TEXT) FROM entries "
        "WHERE substr(request, 1, ?) = ? "
        "ORDER BY model = ? DESC, created DESC LIMIT 1",
        (len(beginning), beginning, model),
    )
    return _entry(rows[0]) if rows else None


def _nearest(store: Store, text: str, model: str) -> Entry | None:
    """Of the newest entries, the one whose last message is most like the text."""
    rows = store.read(
        "SELECT CAST(server AS TEXT), CAST(model AS TEXT), CAST(request AS TEXT) FROM entries "
        "ORDER BY created DESC LIMIT ?",
        (N_COMPARED,),
    )
    matcher = difflib.SequenceMatcher(autojunk=False)
    matcher.set_seq2(text[:LENGTH])

    def likeness(entry: Entry, ratio: Callable[[], float]) -> tuple[float, bool]:
        matcher.set_seq1(entry[2]["messages"][-1]["content"][:LENGTH])
        return ratio(), entry[1] == model

    entries = filter(None, map(_entry, rows))
    some = heapq.nlargest(
        N_CANDIDATES, entries, key=lambda entry: likeness(entry, matcher.quick_ratio)
    )
    return max(some, key=lambda entry: likeness(entry, matcher.ratio), default=None)


def _entry(row: tuple[str, str, str]) -> Entry | None:
    """What was asked; None where the file is damaged there."""
    server, model, request = row
    try:
        asked = load_json(request)
        asked["options"], asked["sample"], asked["messages"][-1]["content"][:0].encode()
    except (ValueError, TypeError, KeyError, IndexError, AttributeError):
        return None
    return server, model, asked
