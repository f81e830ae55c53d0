"""Prompts: their form, their key in the cache, their size."""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterable
from typing import Any

Messages = list[dict[str, str]]

ROLES = {"system", "developer", "user", "assistant"}


def as_conversations(prompts: Iterable[Any]) -> list[Messages]:
    """Bring a list of prompts into the form of lists of messages, or say which one is wrong."""
    if isinstance(prompts, (str, bytes, dict)):
        raise TypeError(
            "prompts is a list of prompts (str or lists of messages), "
            f"got a single {type(prompts).__name__}: put it in a list."
        )
    return [_as_messages(prompt, i) for i, prompt in enumerate(prompts)]


def _as_messages(prompt: Any, i: int) -> Messages:
    if isinstance(prompt, str):
        messages = [{"role": "user", "content": prompt}]
    elif (
        isinstance(prompt, list)
        and prompt
        and all(isinstance(m, dict) and m.keys() == {"role", "content"} for m in prompt)
    ):
        messages = [{"role": m["role"], "content": m["content"]} for m in prompt]
    else:
        raise TypeError(
            f"Prompt {i} is neither a str nor a list of messages "
            f'{{"role": ..., "content": ...}}: {prompt!r:.200}'
        )
    for message in messages:
        if message["role"] not in ROLES:
            raise ValueError(
                f"Prompt {i} has the role {message['role']!r}; one of {sorted(ROLES)} is needed."
            )
        if not isinstance(message["content"], str):
            raise TypeError(f"Prompt {i} has a content that is no str: {message['content']!r:.200}")
        try:
            message["content"].encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"Prompt {i} holds a character that UTF-8 cannot encode, at position {error.start}."
            ) from None
    return messages


def number_samples(conversations: list[Messages]) -> list[int]:
    """The n-th occurrence of a prompt is sample n of it."""
    seen: Counter[str] = Counter()
    samples = []
    for messages in conversations:
        text = canonical(messages)
        samples.append(seen[text])
        seen[text] += 1
    return samples


def canonical(value: Any) -> str:
    """JSON text that is the same for equal values."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def equal_form(value: Any) -> Any:
    """A JSON value in the one form of all that are equal to it: 0.0 is 0."""
    if isinstance(value, dict):
        return {name: equal_form(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [equal_form(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def cache_key(identity: str, messages: Messages, sample: int) -> str:
    """Hash of all that decides an answer; `identity` is what a call's prompts have in common."""
    text = f"{identity}\n{canonical(messages)}\n{sample}"
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def estimate_tokens(messages: Messages, schema: dict[str, Any] | None = None) -> int:
    """Tokens of a prompt, high on purpose: budgets reserve by this number.

    A token of the usual vocabularies is some four bytes of English text, and fewer of others.
    """
    n_bytes = sum(len(message["content"].encode()) for message in messages)
    if schema is not None:
        n_bytes += len(canonical(schema))
    return 8 + 8 * len(messages) + math.ceil(n_bytes / 3)
