"""What a reply may cost is bounded, and what belongs to no request is not taken for an answer."""

import contextlib
import gzip
import json
import subprocess
import sys
import tracemalloc
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skllmreg.exceptions import InvalidReplyError, LLMError, RequestError
from skllmreg.llm import ChatModel
from skllmreg.utils._json import load_json
from tests.loopback import Behavior, Loopback, completion, last

BOUND = 2**20  # bytes


@pytest.fixture
def chat(loopback, monkeypatch):
    monkeypatch.setattr("skllmreg.llm._obtain.FIRST_PAUSE", 0.01)
    return ChatModel("tiny", base_url=loopback.base_url, max_retries=1, cache=None)


values = st.recursive(
    st.one_of(
        st.none(),
        st.integers(0, 9),
        st.just(0.5),
        st.sampled_from(["", "ab", "€", "🙂", "x" * 30]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text("ab", max_size=2), inner, max_size=3)
    ),
    max_leaves=5,
)


@settings(max_examples=60, deadline=None)
@given(values, st.booleans())
def test_what_json_takes_in_memory_is_bounded_whatever_its_shape(value, in_object):
    item = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    n = BOUND // 2 // (len(item) + 1)
    if in_object:
        text = "{" + ",".join(f'"{i}":{item}' for i in range(n)) + "}"
    else:
        text = f"[{','.join([item] * n)}]"
    tracemalloc.start()
    try:
        with contextlib.suppress(ValueError):
            load_json(text, BOUND)
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak <= BOUND


@pytest.mark.parametrize("value", [[{"a": 1.5, "b": "text"}] * 1000, [0.123456789012345] * 9000])
def test_json_of_the_usual_kinds_is_read(value):
    assert load_json(json.dumps(value), BOUND) == value


HOSTILE = {
    "many values": '{"a": [' + ",".join(["{}"] * 4_000_000) + "]}",
    "deep": '{"a": ' + "[" * 1_000_000,
}


@pytest.mark.parametrize("what", HOSTILE)
@pytest.mark.parametrize("status", [200, 400])
def test_json_that_would_not_fit_is_an_error(loopback, chat, what, status):
    loopback.reply = lambda body: Behavior(HOSTILE[what], status)
    with pytest.raises((RequestError, InvalidReplyError)) as caught:
        chat.complete(["a"])
    assert ("JSON" if status == 200 else "status 400") in str(caught.value)
    assert len(str(caught.value)) < 2000


def test_a_reply_with_too_many_values_in_its_text_is_of_no_use(loopback, chat):
    loopback.reply = lambda body: "[" + ",".join(["{}"] * 1_000_000) + "]"
    schema = {"type": "array", "items": {"type": "integer"}}
    with pytest.raises(InvalidReplyError, match="too many values"):
        chat.complete(["a"], schema=schema)


@pytest.mark.parametrize("form", ["[]", "{}"])
@pytest.mark.parametrize("status", [200, 400])
def test_a_depth_that_can_be_read_can_be_told(loopback, chat, form, status):
    """Reading goes deeper than writing: the error shows the payload."""
    for n in (300, 960, *range(980, 988)):
        deep = "[" * n + "]" * n
        if form == "{}":
            deep = '{"a":' * n + "1" + "}" * n
        loopback.reply = lambda body, deep=deep: Behavior('{"message": ' + deep + "}", status)
        with pytest.raises(LLMError):
            chat.complete(["a"])


# Packed replies.


def packed(encoding, pack, body=None):
    body = json.dumps(completion("ok")) if body is None else body
    return Behavior(pack(body.encode()), headers={"Content-Encoding": encoding})


def test_no_packed_reply_is_asked_for(loopback, chat):
    chat.complete(["a"])
    assert loopback.seen[0][1]["accept-encoding"] == "identity"


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [("gzip", gzip.compress), ("GZIP ", gzip.compress), ("deflate", zlib.compress)],
)
def test_a_reply_that_is_packed_unasked_is_read(loopback, chat, encoding, pack):
    loopback.reply = lambda body: packed(encoding, pack)
    assert chat.complete(["a"])[0].text == "ok"


@pytest.mark.parametrize("encoding", ["gzip, gzip", "br", "gzip,identity"])
def test_a_reply_that_is_packed_otherwise_is_an_error_that_says_so(loopback, chat, encoding):
    loopback.reply = lambda body: packed(encoding, gzip.compress)
    with pytest.raises(RequestError, match=f"packed its reply as '{encoding}', unasked"):
        chat.complete(["a"])


def test_a_packed_reply_that_is_broken_is_an_error(loopback, chat):
    loopback.reply = lambda body: packed("gzip", bytes)
    with pytest.raises(RequestError, match="broke off in its reply"):
        chat.complete(["a"])


def test_a_packed_reply_is_not_unpacked_beyond_the_bound(loopback, chat, monkeypatch):
    monkeypatch.setattr("skllmreg.llm._transport.LARGEST_REPLY", BOUND)
    loopback.reply = lambda body: packed("gzip", gzip.compress, " " * 20 * BOUND)
    with pytest.raises(RequestError, match="more than 1,048,576 bytes"):
        chat.complete(["a"])


# Connections.


def test_no_cookie_is_kept(loopback, chat):
    cookies = {"Set-Cookie": "session=canary; Path=/"}
    loopback.reply = lambda body: Behavior(completion("ok"), headers=cookies)
    chat.complete(["a", "b"])
    chat.complete(["c"])
    assert len(loopback.seen) == 3
    assert not any("cookie" in headers for _, headers, _ in loopback.seen)


def raw(*texts):
    """Replies with a head each, in one piece."""
    bodies = [json.dumps(completion(text)).encode() for text in texts]
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
    return b"".join(head % (len(body), body) for body in bodies)


@pytest.mark.parametrize("size", [10, 100_000, 300_000])
def test_a_second_reply_is_not_the_next_prompts(loopback, chat, size):
    """Whether it is in the same packet, or waits behind it."""
    chat.max_concurrency = 1
    smuggled = "smuggled" + "." * size
    handler = loopback.server.RequestHandlerClass

    def answer(self, behavior, usual=handler.answer):
        if behavior.raw is None:
            return usual(self, behavior)
        self.wfile.write(behavior.raw)  # and the connection stays open

    handler.answer = answer
    loopback.reply = lambda body: Behavior(raw=raw("ok", smuggled)) if last(body) == "a" else "own"
    for _ in range(3):
        replies = chat.complete(["a", "b", "c"])
        assert [reply.text for reply in replies] == ["ok", "own", "own"]


# Memory, as the system sees it.

CHILD = """
import re, sys
from skllmreg.exceptions import LLMError
from skllmreg.llm import ChatModel
url, n = sys.argv[1], int(sys.argv[2])
chat = ChatModel("tiny", base_url=url, cache=None, max_retries=0, timeout=120, max_concurrency=1)
schema = {"type": "array", "items": {"type": "integer"}}
chat.complete(["warm"])
def peak():
    status = open("/proc/self/status").read()
    return int(re.search(r"VmHWM:\\s*(\\d+) kB", status)[1]) // 2**10
before = peak()
for i in range(n):
    for schema_ in (None, schema):
        try:
            chat.complete([f"{i}"], schema=schema_)
        except LLMError as error:
            print(i, peak() - before, str(error)[:150], file=sys.stderr)
print(peak() - before)
"""


def filled(item, around="[]", size=31 * 2**20):
    n = size // (len(item) + 1)
    return f"{around[0]}{','.join([item] * n)}{around[1]}"


def bomb(rounds):
    data = bytes(2**28)
    for _ in range(rounds):
        data = gzip.compress(data)
    return Behavior(data, headers={"Content-Encoding": ", ".join(["gzip"] * rounds)})


BODIES = [
    lambda: Behavior(filled("{}")),
    lambda: Behavior('{"choices":[{"message":{"content":' + filled("[]") + "}}]}"),
    lambda: Behavior('{"error":' + filled('{"":0}') + "}", 400),
    lambda: completion(filled("{}")),
    lambda: completion(filled('"\\u0041"')),
    lambda: Behavior("\\u0041" * (5 * 2**20)),
    lambda: bomb(1),
    lambda: bomb(2),
]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs the peak of a process")
def test_no_reply_takes_more_than_some_hundred_megabytes():
    server = Loopback()
    bodies = [make() for make in BODIES]
    server.reply = lambda body: (
        "ok" if last(body) == "warm" else bodies[int(last(body).split()[-1])]
    )
    command = [sys.executable, "-c", CHILD, server.base_url, str(len(bodies))]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    server.close()
    print(done.stderr)
    assert int(done.stdout) < 700  # MiB
