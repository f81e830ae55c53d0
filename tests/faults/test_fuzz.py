"""Replies as nobody would write them; 100,000 for each are in benchmarks/hard_to_break.py."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.faults.fuzzing import PARSERS, fuzz, try_one

pytestmark = pytest.mark.slow

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@pytest.mark.parametrize("name", PARSERS)
def test_each_reply_is_read_or_refused(name):
    outcomes = fuzz(name, 300, seed=1)
    assert outcomes["read"] > 20
    assert outcomes["refused"] > 20


@pytest.mark.parametrize("name", PARSERS)
@settings(max_examples=40, deadline=None)
@given(st.text() | JSON.map(json.dumps))
def test_each_text_is_read_or_refused(name, text):
    assert try_one(PARSERS[name], text) in ("read", "refused")
