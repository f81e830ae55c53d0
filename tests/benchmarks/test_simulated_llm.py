"""The simulated LLM keeps to the rates that it states."""

import numpy as np
import pandas as pd
import pytest

from skllmreg.augmentation import GenerationRequest
from skllmreg.datasets import load_helpdesk

simulated = pytest.importorskip("benchmarks._simulated_llm")  # not in a source distribution
Pool, SimulatedLLM, key_of = simulated.Pool, simulated.SimulatedLLM, simulated.key_of


@pytest.fixture(scope="module")
def pool():
    helpdesk = load_helpdesk()
    return Pool(helpdesk.data, helpdesk.target)


def write(llm, n_rounds=4, **request):
    """(label, row) of all classes, 12 rows of each a round."""
    labels = sorted(llm.pool.clarity)
    return [
        (label, row)
        for number in range(n_rounds)
        for k, label in enumerate(labels)
        for row in llm(
            GenerationRequest(label=label, n_rows=12, random_state=10 * number + k, **request)
        )
    ]


@pytest.mark.parametrize("rate", [0.0, 0.15, 0.3])
def test_repeats_itself_at_the_stated_rate(pool, rate):
    llm = SimulatedLLM(pool, repeat_rate=rate, reworded=0.0)
    keys = [key_of(row) for _, row in write(llm)]
    assert 1 - len(set(keys)) / len(keys) == pytest.approx(rate, abs=0.06)


def test_mislabels_at_the_stated_rate_and_knows_the_truth(pool):
    llm = SimulatedLLM(pool, repeat_rate=0.0, mislabel_rate=0.2)
    wrong = [llm.truth[key_of(row)] != label for label, row in write(llm)]
    assert np.mean(wrong) == pytest.approx(0.2, abs=0.08)


def test_same_requests_bring_the_same_rows(pool):
    first, second = (write(SimulatedLLM(pool, reworded=0.5), n_rounds=2) for _ in range(2))
    assert first == second


def test_follows_feedback(pool):
    place = int(np.flatnonzero(pool.labels == "billing")[0])
    request = GenerationRequest(label="billing", n_rows=8, feedback=[pool.rows[place]])
    nearness = pool.nearness(pool.embedded[place])

    def mean_nearness(follow):
        rows = SimulatedLLM(pool, follow=follow, variety=0.0)(request)
        return np.mean([nearness[pool.rows.index(row)] for row in rows])

    assert mean_nearness(1.0) > mean_nearness(0.0) + 0.1


def test_recalls_public_rows_word_for_word(pool):
    llm = SimulatedLLM(pool, public=["Known to all"], public_labels=["billing"], recall_rate=1.0)
    request = GenerationRequest(label="billing", n_rows=2)
    assert llm(request) == ["Known to all"] * 2


def test_writes_rows_of_a_table_with_the_types_of_its_columns():
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"age": rng.integers(20, 80, 99), "female": rng.random(99) < 0.5})
    llm = SimulatedLLM(Pool(table, np.arange(99) % 3), repeat_rate=0.5, reworded=1.0)
    rows = [row for _, row in write(llm)]
    assert llm.kinds["reworded"] > 0
    assert {(type(row["age"]), type(row["female"])) for row in rows} == {(int, bool)}
