"""Many at one cache; a hundred runs of each are in benchmarks/hard_to_break.py."""

import os

import pytest

from tests.faults.meeting import MEETINGS

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
]


@pytest.mark.parametrize("meeting", MEETINGS)
def test_all_together_ask_each_prompt_once(meeting, tmp_path):
    n_requests, n_wanted = MEETINGS[meeting](tmp_path)
    assert n_requests == n_wanted
