import dataclasses
import heapq
import json
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skllmreg.exceptions import RequestError
from skllmreg.llm import ChatModel, _obtain
from skllmreg.llm._ledger import CAUTION, SLOWEST, Pace
from skllmreg.llm._values import Question, Task
from tests.loopback import error

ROOT = Path(__file__).parents[2]


def most_in_a_minute(starts):
    return max(sum(start <= other < start + 60 for other in starts) for start in starts)


def start(pace, now, n_tokens=1, **limits):
    """When a request starts that is asked for at `now` and asks again when it may."""
    while seconds := pace.wait(now, n_tokens, **limits):
        now += seconds
    return now


@given(
    st.floats(0.5, 1000),
    st.lists(st.floats(0, 5), min_size=1, max_size=300),
)
def test_no_minute_sees_more_requests_than_allowed(rate, gaps):
    pace, now, starts = Pace(), 0.0, []
    for gap in gaps:
        now = start(pace, now + gap, requests_per_minute=rate)
        starts.append(now)
    assert most_in_a_minute(starts) <= rate + rate / 60 + 1


@given(st.lists(st.integers(1, 100), min_size=1, max_size=100))
def test_no_minute_sees_more_tokens_than_allowed_but_for_the_last_request(sizes):
    pace, now, starts = Pace(), 0.0, []
    for n in sizes:
        now = start(pace, now, n, tokens_per_minute=600)
        starts.append(now)
    for first in starts:
        within = [n for n, s in zip(sizes, starts, strict=True) if first <= s < first + 60]
        assert sum(within[:-1]) <= 600 + 10 + 1e-6


def test_without_limits_nobody_waits():
    pace = Pace()
    assert [pace.wait(5.0, 1000) for _ in range(100)] == [0.0] * 100


def test_tokens_that_were_not_used_are_given_back():
    pace = Pace()
    pace.wait(0.0, 600, tokens_per_minute=600)
    pace.correct_tokens(-540, tokens_per_minute=600)
    assert start(pace, 0.0, tokens_per_minute=600) == pytest.approx(5.0)


def test_who_has_to_wait_takes_no_place():
    pace = Pace()
    pace.wait(0.0, 1, requests_per_minute=10)
    waits = {pace.wait(1.0, 1, requests_per_minute=10) for _ in range(8)}
    assert len(waits) == 1
    assert waits.pop() == pytest.approx(5.0)


def test_a_refusal_stops_everybody_until_the_server_says():
    pace = Pace()
    pace.refuse(now=100.0, sent=99.0, retry_after=300.0)
    assert start(pace, 101.0) == 400.0


def test_refusals_that_come_together_slow_down_once():
    pace = Pace()
    for _ in range(32):
        pace.refuse(now=100.0, sent=99.0, retry_after=None)
    once = Pace()
    once.refuse(now=100.0, sent=99.0, retry_after=None)
    assert pace == once


def test_refusals_alone_never_stop_everything():
    pace = Pace()
    for i in range(50):
        pace.refuse(now=200.0 + i, sent=199.5 + i, retry_after=None)
    pace.wait(249.0, 1)
    assert 5 < start(pace, 249.0) - 249.0 <= 1 / (CAUTION * SLOWEST) + 1e-6


def bucket_server(rate, burst):
    full = 0.0

    def takes(now):
        nonlocal full
        first = max(full, now - burst / rate)
        if first + 1 / rate > now + 1e-9:
            return False
        full = first + 1 / rate
        return True

    return takes


def window_server(n, seconds):
    seen = Counter()

    def takes(now):
        seen[now // seconds] += 1
        return seen[now // seconds] <= n

    return takes


def ask(server, n, pace, now, *, room=8, latency=0.05):
    """Seconds until a server has answered all prompts, and how many requests it has refused."""
    begin, n_refused, under_way = now, 0, []
    while n or under_way:
        moments = [under_way[0][0]] if under_way else []
        if n and len(under_way) < room:
            if not (seconds := pace.wait(now, 1)):
                n -= 1
                heapq.heappush(under_way, (now + latency, now, server(now)))
                continue
            moments.append(now + seconds)
        now = min(moments)
        while under_way and under_way[0][0] <= now:
            _, sent, taken = heapq.heappop(under_way)
            if taken:
                pace.succeed(now, sent)
            else:
                pace.refuse(now, sent, None)
                n, n_refused = n + 1, n_refused + 1
    return now - begin, n_refused


@pytest.mark.parametrize("latency", [0.05, 0.5, 1.0])
@pytest.mark.parametrize(
    "server",
    [
        lambda: bucket_server(2, 1),
        lambda: bucket_server(2, 5),
        lambda: window_server(2, 1),
        lambda: window_server(20, 10),
    ],
    ids=["bucket", "bucket with a burst", "short window", "long window"],
)
def test_the_pace_of_a_server_that_names_no_time_is_found_and_forgotten(server, latency):
    """Two requests a second: sixty prompts take at least half a minute."""
    pace = Pace()
    seconds, n_refused = ask(server(), 60, pace, 1000.0, latency=latency)
    assert seconds <= 1.5 * 30
    assert n_refused <= 40
    healthy, _ = ask(lambda now: True, 20, pace, 1000.0 + seconds + 10, latency=latency)
    assert healthy <= 3 * latency + 0.01


def test_requests_per_minute_hold_for_all_objects_with_the_same_cache(loopback):
    """Ten fit into the bucket at once, the others come a tenth of a second apart."""
    starts = []
    loopback.reply = lambda body: starts.append(time.monotonic()) or "x"
    for i in range(3):
        chat = ChatModel("tiny", base_url=loopback.base_url, requests_per_minute=600)
        chat.complete([f"{i} {j}" for j in range(5)])
    assert starts[-1] - starts[0] == pytest.approx(0.5, abs=0.2)


def test_what_is_slow_to_load_is_loaded_before_a_start_is_promised(loopback):
    """A cold process: the client takes some tenths of a second to import."""
    code = f"""
from skllmreg.exceptions import RequestError
from skllmreg.llm import ChatModel, _obtain
chat = ChatModel("tiny", base_url={loopback.base_url!r}, requests_per_minute=1200)
chat.complete([str(i) for i in range(25)])
"""
    moments = []
    loopback.reply = lambda body: moments.append(time.monotonic()) or "x"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    # Twenty at once, then one each twentieth of a second, and not all that a slow start allows.
    assert moments[-1] - moments[0] >= 0.15


def test_what_a_clock_that_was_ahead_has_left_stops_nobody(loopback):
    chat = ChatModel("tiny", base_url=loopback.base_url, requests_per_minute=60)
    chat.complete(["a"])
    obtain = chat._obtain(Question())
    far = time.time() + 1e6
    state = Pace(blocked_until=far, requests_full=far, saved=far)
    task = Task(0, [{"role": "user", "content": "b"}], 0, "")
    key = obtain.key(task.messages, 0)
    with obtain.store.writing() as db:
        db.execute("UPDATE limits SET state = ?", (json.dumps(dataclasses.asdict(state)),))
        db.execute("INSERT INTO leases VALUES (?, 'somebody else', ?)", (key, far))
    begin = time.monotonic()
    assert chat.complete(["b"])[0].text == "reply to b"
    assert time.monotonic() - begin < 5


def test_an_interrupted_call_leaves_no_starts_behind(loopback):
    """Eight threads wait for a start; the call ends by a refusal of the key."""
    chat = ChatModel("tiny", base_url=loopback.base_url, requests_per_minute=10)
    loopback.failures.append(error(401))
    with pytest.raises(RequestError):
        chat.complete([str(i) for i in range(8)])
    loopback.failures.clear()
    obtain = chat._obtain(Question())
    (state,) = obtain.store.read("SELECT state FROM limits")[0]
    # What is taken are the requests that went out: at most two, six seconds apart.
    assert Pace(**json.loads(state)).requests_full < time.time() + 13


def test_a_long_wait_that_a_server_asks_for_is_announced(loopback, monkeypatch, caplog):
    monkeypatch.setattr(_obtain, "LONG_WAIT", 0.1)
    loopback.failures.append(error(503, headers={"Retry-After": "1"}))
    ChatModel("tiny", base_url=loopback.base_url).complete(["a"])
    (said,) = [r.getMessage() for r in caplog.records if r.name == "skllmreg.llm"]
    assert "status 503" in said


@pytest.mark.slow
def test_a_server_of_two_requests_a_second_is_asked_at_its_pace_in_real_time(loopback):
    """Sixty prompts take half a minute at least, and half as long again at most."""
    takes, lock = bucket_server(2, 1), threading.Lock()

    def answer(body):
        with lock:
            return "fine" if takes(time.monotonic()) else error(429, "slow down")

    loopback.reply = answer
    chat = ChatModel("tiny", base_url=loopback.base_url)
    began = time.monotonic()
    replies = chat.complete([str(i) for i in range(60)])
    assert [reply.text for reply in replies] == ["fine"] * 60
    assert time.monotonic() - began <= 1.5 * 30
    loopback.reply = lambda body: "healthy"
    time.sleep(10)
    began = time.monotonic()
    chat.complete([f"later {i}" for i in range(20)])
    assert time.monotonic() - began < 2
