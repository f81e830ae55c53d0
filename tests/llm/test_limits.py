import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skllmreg.llm import ChatModel
from skllmreg.llm._ledger import FIRST_SPACING, LARGEST_SPACING, Bucket

ROOT = Path(__file__).parents[2]


def most_in_a_minute(starts):
    return max(sum(start <= other < start + 60 for other in starts) for start in starts)


@given(
    st.floats(0.5, 1000),
    st.lists(st.floats(0, 5), min_size=1, max_size=300),
)
def test_no_minute_sees_more_requests_than_allowed(rate, gaps):
    bucket, now, starts = Bucket(), 0.0, []
    for gap in gaps:
        now += gap
        starts.append(bucket.reserve(now, 1, requests_per_minute=rate))
    assert starts == sorted(starts)
    assert most_in_a_minute(starts) <= rate + rate / 60 + 1


@given(st.lists(st.integers(1, 100), min_size=1, max_size=100))
def test_no_minute_sees_more_tokens_than_allowed_but_for_the_last_request(sizes):
    bucket = Bucket()
    starts = [bucket.reserve(0.0, n, tokens_per_minute=600) for n in sizes]
    for first in starts:
        within = [n for n, s in zip(sizes, starts, strict=True) if first <= s < first + 60]
        assert sum(within[:-1]) <= 600 + 10 + 1e-6


def test_without_limits_nobody_waits():
    bucket = Bucket()
    assert [bucket.reserve(5.0, 1000) for _ in range(100)] == [5.0] * 100


def test_tokens_that_were_not_used_are_given_back():
    bucket = Bucket()
    bucket.reserve(0.0, 600, tokens_per_minute=600)
    bucket.correct_tokens(-540, tokens_per_minute=600)
    assert bucket.reserve(0.0, 1, tokens_per_minute=600) == pytest.approx(5.0)


def test_a_refusal_stops_everybody_until_the_server_says():
    bucket = Bucket()
    bucket.refuse(now=100.0, sent=99.0, retry_after=300.0)
    assert bucket.reserve(101.0, 1) == 400.0


def test_refusals_that_come_together_slow_down_once():
    bucket = Bucket()
    for _ in range(32):
        bucket.refuse(now=100.0, sent=99.0, retry_after=None)
    assert bucket.spacing == FIRST_SPACING
    bucket.refuse(now=102.0, sent=101.0, retry_after=None)
    assert bucket.spacing == 2 * FIRST_SPACING
    for i in range(50):
        bucket.refuse(now=200.0 + i, sent=199.5 + i, retry_after=None)
    assert bucket.spacing == LARGEST_SPACING


def test_after_a_refusal_requests_are_spread_out():
    bucket = Bucket()
    bucket.refuse(now=0.0, sent=0.0, retry_after=1.0)
    starts = [bucket.reserve(0.0, 1) for _ in range(3)]
    assert starts == pytest.approx([1.0, 1.0 + FIRST_SPACING, 1.0 + 2 * FIRST_SPACING])


def test_answers_bring_the_old_speed_back():
    bucket = Bucket()
    bucket.refuse(now=0.0, sent=0.0, retry_after=0.0)
    for _ in range(100):
        bucket.succeed()
    assert bucket.spacing == 0.0


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
from skllmreg.llm import ChatModel
chat = ChatModel("tiny", base_url={loopback.base_url!r}, requests_per_minute=1200)
chat.complete([str(i) for i in range(25)])
"""
    moments = []
    loopback.reply = lambda body: moments.append(time.monotonic()) or "x"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    # Twenty at once, then one each twentieth of a second, and not all that a slow start allows.
    assert moments[-1] - moments[0] >= 0.15
