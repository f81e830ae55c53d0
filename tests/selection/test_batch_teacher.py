"""A teacher whose LLM answers by batch jobs: one round, and fits that go on where they stopped."""

import math

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from skllmreg import ChatModel, LLKDSelector, LLMTeacherClassifier, UnlabeledSplit
from skllmreg.exceptions import BatchPendingError
from skllmreg.llm import _batch
from tests.batches import Batches
from tests.loopback import as_in_a_new_process, completion, last

TEXTS = np.array(
    [f"{what} number {i}" for i in range(30) for what in ("Parcel", "Refund")], dtype=object
)
LABELS = np.array([str(text.split()[0].lower()) for text in TEXTS], dtype=object)
FEW = np.where(np.arange(60) < 12, LABELS, None)


@pytest.fixture
def batches(loopback, monkeypatch):
    monkeypatch.setattr(_batch, "FIRST_POLL", 0.01)
    monkeypatch.setattr(_batch, "LONGEST_POLL", 0.02)

    def reply(body):
        label = "parcel" if "Parcel" in last(body) else "refund"
        top = [{"token": t, "logprob": math.log(p)} for t, p in ((label, 0.9), ("x", 0.1))]
        return completion(label, logprobs={"content": [{**top[0], "top_logprobs": top}]})

    loopback.reply = reply
    return Batches(loopback)


def teacher(batches, **params):
    llm = ChatModel("tiny", base_url=batches.loopback.base_url, delivery="batch", **params)
    described = {"parcel": "about a parcel", "refund": "about money"}
    return LLMTeacherClassifier(llm, task="Sort messages.", class_descriptions=described)


def selector(batches, llm=None, **params):
    params = {"max_teacher_calls": 30, "random_state": 0} | params
    student = make_pipeline(TfidfVectorizer(), LogisticRegression())
    return LLKDSelector(student, teacher=teacher(batches, **llm or {}), **params)


def n_asked(batches):
    return sum(len(batch["_items"]) for batch in batches.batches.values())


@pytest.mark.parametrize("y", [None, FEW], ids=["no labels", "few labels"])
def test_a_fit_takes_one_job_and_one_live_answer(y, batches):
    model = selector(batches).fit(TEXTS, y)
    assert batches.n_created == 1
    assert len(batches.loopback.requests) == 1
    assert n_asked(batches) + 1 == model.n_teacher_calls_ == 30
    assert len(model.history_) == 1
    assert model.score(TEXTS, LABELS) == 1.0


def test_rounds_that_are_asked_for_are_jobs(batches):
    model = selector(batches, n_rounds=2).fit(TEXTS, FEW)
    assert len(model.history_) == batches.n_created == 2


def test_fit_again_goes_on_in_another_process(batches):
    batches.looks = 2
    model = selector(batches, {"batch_wait": False})
    for _ in range(2):
        with pytest.raises(BatchPendingError):
            model.fit(TEXTS, FEW)
        as_in_a_new_process()
    while True:
        try:
            model = selector(batches, {"batch_wait": False}).fit(TEXTS, FEW)
            break
        except BatchPendingError:
            as_in_a_new_process()
    assert batches.n_created == 1
    assert n_asked(batches) + len(batches.loopback.requests) == 30
    waited = selector(batches).fit(TEXTS, FEW)
    np.testing.assert_array_equal(model.predict_proba(TEXTS), waited.predict_proba(TEXTS))
    assert batches.n_created == 1


def test_rows_that_each_fit_would_draw_anew_are_refused_before_anything_is_sent(batches):
    with pytest.raises(ValueError, match="set random_state"):
        selector(batches, {"batch_wait": False}, random_state=None).fit(TEXTS, FEW)
    assert not batches.steps
    assert not batches.loopback.seen


class TestSearch:
    def search(self, batches, **params):
        model = selector(batches, {"batch_wait": False}, max_teacher_calls=None)
        grid = {"strategy": ["distill", "llkd"]}
        return GridSearchCV(model, grid, cv=UnlabeledSplit(3), **params)

    def test_a_pending_job_is_an_error_and_no_score(self, batches):
        batches.looks = 3
        with pytest.raises(BatchPendingError):
            self.search(batches, error_score="raise").fit(TEXTS, FEW)

    def test_after_a_prefetch_nothing_is_pending(self, batches):
        asking = teacher(batches)
        asking.predict_proba(TEXTS)  # waits
        n_created = batches.n_created
        search = self.search(batches, error_score="raise").fit(TEXTS, FEW)
        assert np.isfinite(search.cv_results_["mean_test_score"]).all()
        assert batches.n_created == n_created

    def test_a_frozen_teacher_is_known_to_answer_by_jobs(self, batches):
        model = LLKDSelector(
            teacher=FrozenEstimator(teacher(batches)), max_teacher_calls=20, random_state=0
        )
        assert len(model.fit(TEXTS, FEW).history_) == 1
