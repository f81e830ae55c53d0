"""A slow server: two places, eight requests at once, answers of 160 tokens, a short timeout."""

import contextlib
import subprocess
import sys

import pytest

from skllmreg.llm import ChatModel, LocalServer

# Some 160 tokens, of which every digit is one.
SCHEMA = {
    "type": "array",
    "items": {"type": "integer", "minimum": 100, "maximum": 999},
    "minItems": 32,
    "maxItems": 32,
}


@contextlib.contextmanager
def busy_core():
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:
        yield
        process.kill()


@pytest.mark.parametrize("around", [contextlib.nullcontext, busy_core], ids=["idle", "busy"])
def test_all_prompts_are_answered_and_none_is_sent_twice(gguf, around):
    with LocalServer(gguf, n_parallel=2, context=1024) as server, around():
        chat = ChatModel(server.model, base_url=server.url, timeout=10.0)
        prompts = [f"Write a list of random numbers, for draw {i}." for i in range(8)]
        replies = chat.complete(prompts, schema=SCHEMA)
    assert min(reply.completion_tokens for reply in replies) > 100
    assert sum(day.requests for day in chat.usage(this_run=True)) == 8
