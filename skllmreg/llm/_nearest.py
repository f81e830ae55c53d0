"""Say what a replay misses, and what comes nearest to it."""

import difflib
import json
from typing import Any

from skllmreg.llm._cache import Store
from skllmreg.llm._prompts import Messages

# Comparing texts is slow: only the last entries of a large cache, and their beginnings.
N_COMPARED = 500
LENGTH = 2_000


def describe_miss(
    store: Store,
    url: str,
    model: str,
    options: dict[str, Any],
    messages: Messages,
    sample: int,
) -> str:
    """A message that shows the missing prompt and how the nearest one differs."""
    text = messages[-1]["content"]
    head = (
        f"No answer in {store.path} for sample {sample} of this prompt to {model!r}, and "
        f'mode="replay" asks nobody: {text[:300]!r}.'
    )
    with store.reading() as db:
        rows = db.execute(
            "SELECT server, model, request FROM entries ORDER BY created DESC LIMIT ?",
            (N_COMPARED,),
        ).fetchall()
    if not rows:
        return f"{head} The cache is empty."
    requests = [(row[0], row[1], json.loads(row[2])) for row in rows]
    matcher = difflib.SequenceMatcher(autojunk=False)
    matcher.set_seq2(text[:LENGTH])

    def likeness(entry: tuple[str, str, dict[str, Any]]) -> tuple[float, bool]:
        matcher.set_seq1(entry[2]["messages"][-1]["content"][:LENGTH])
        return matcher.quick_ratio(), entry[1] == model

    near_url, near_model, near = max(requests, key=likeness)
    differs = [
        f"{name} is {there!r:.200} there, {here!r:.200} here"
        for name, there, here in (
            ("the server", near_url, url),
            ("the model", near_model, model),
            ("the options", near["options"], options),
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
