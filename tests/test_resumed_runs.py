"""A run that was stopped goes on where it was, and says what the second run has paid for."""

import contextlib
import warnings

import pytest

from skllmreg.exceptions import BudgetExceededError, GenerationStoppedWarning
from skllmreg.llm import ChatModel
from tests.faults.entries import healthy
from tests.faults.jobs import JOBS
from tests.loopback import as_in_a_new_process


@pytest.mark.slow
@pytest.mark.parametrize("job", JOBS)
def test_a_stopped_run_goes_on_and_says_what_it_paid_for(job, loopback, tmp_path):
    loopback.reply = healthy

    def llm(name, **budget):
        as_in_a_new_process()
        return ChatModel(
            "tiny", base_url=loopback.base_url, cache=tmp_path / name, temperature=0, **budget
        )

    whole = llm("whole")
    result = JOBS[job](whole)
    (usage,) = whole.usage(this_run=True)
    n = usage.requests
    stopped = llm("stopped", request_budget=n // 2)
    with contextlib.suppress(BudgetExceededError), warnings.catch_warnings():
        warnings.simplefilter("ignore", GenerationStoppedWarning)
        JOBS[job](stopped)
    resumed = llm("stopped")
    assert JOBS[job](resumed) == result
    (usage,) = resumed.usage(this_run=True)
    assert (usage.requests, usage.cached) == (n - n // 2, n // 2)
