"""SIGKILL at random moments; 50 of each kind are in benchmarks/hard_to_break.py."""

import os

import pytest

from tests.faults.batch_killing import is_exact, survive
from tests.faults.jobs import JOBS
from tests.faults.killing import Undisturbed, kill

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
]


@pytest.mark.parametrize("job", JOBS)
def test_a_killed_run_goes_on_where_it_was(job, tmp_path):
    undisturbed = Undisturbed(job, tmp_path)
    assert undisturbed.result is not None
    killed = kill(undisturbed, 0, tmp_path)
    assert killed.resumed, killed


@pytest.mark.parametrize("seed", range(2))
def test_killed_runs_of_batch_jobs_pay_once(seed, tmp_path):
    row = survive(400, 4, 6, seed, tmp_path)
    assert is_exact(row), row
