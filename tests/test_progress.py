"""What takes long shows how far it is, to who looks."""

import sys

import numpy as np
import pandas as pd
import pytest
import tqdm.auto
from sklearn.frozen import FrozenEstimator
from sklearn.naive_bayes import GaussianNB

from skllmreg import GOLDAugmenter, LLKDSelector, LLMAttributionRegularizedClassifier

X = np.random.default_rng(0).normal(size=(120, 3))
y = (X[:, 0] > 0).astype(int)


@pytest.fixture
def bars(monkeypatch):
    """All bars that are shown."""

    class Bar:
        shown: list = []

        def __init__(self, *, total, desc, delay, unit):
            self.total, self.desc, self.done = total, desc, 0
            self.shown.append(self)

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

        def update(self, n):
            self.done += n

        def set_postfix_str(self, note, refresh):
            self.note = note

    monkeypatch.setattr(tqdm.auto, "tqdm", Bar)
    monkeypatch.setitem(sys.modules, "ipykernel", None)  # as in a notebook
    return Bar.shown


@pytest.mark.parametrize("strategy", ["distill", "llkd", "all"])
def test_a_bar_counts_the_students_of_a_selector(bars, strategy):
    teacher = FrozenEstimator(GaussianNB().fit(X, y))
    few = np.where(np.arange(120) < 20, y, -1)
    LLKDSelector(teacher=teacher, strategy=strategy, random_state=0).fit(X, few)
    (bar,) = bars
    assert bar.desc == "Students"
    # What "distill" tries ends early where nothing pays.
    assert 0 < bar.done <= bar.total if strategy == "distill" else bar.done == bar.total


def test_a_bar_counts_the_gradients_of_a_network(bars):
    model = LLMAttributionRegularizedClassifier(
        attributions={1: [1, 2, 3]}, gamma=1.0, hidden_layer_sizes=(3,), max_epochs=4, alpha=0.1
    )
    model.set_params(batch_size=50).fit(X, y)
    model.set_params(batch_size=None).fit(X, y)
    assert [bar.total for bar in bars] == [4 * 3, None]
    assert [bar.done >= 4 for bar in bars] == [True, True]
    assert bars[0].done == bars[0].total


def test_a_bar_counts_the_rounds_of_generation_or_the_rows_where_their_number_is_known(bars):
    def generator(request):
        rng = np.random.default_rng(request.random_state)
        return pd.DataFrame(rng.normal(size=(8, 3)), columns=list("abc")).to_dict("records")

    frame = pd.DataFrame(X, columns=list("abc"))
    GOLDAugmenter(generator=generator, n_rounds=3, random_state=0).fit(frame, y)
    assert [(bar.desc, bar.done, bar.total) for bar in bars] == [("Generation", 3, 3)]
    GOLDAugmenter(generator=generator, n_samples=30, random_state=0).fit(frame, y)
    assert (bars[1].done, bars[1].total, bars[1].note) == (30, 30, "round 2, 30 rows")
