"""Searches on every backend of joblib: the serial result, each question paid for once."""

import math

import joblib
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from skllmreg import (
    LLKDSelector,
    LLMAttributionRegularizedClassifier,
    LLMTeacherClassifier,
    UnlabeledSplit,
)
from tests.interop.patients import CLASSES, N_ESTIMATES, NUMBERS, SCORES, TASK, patients
from tests.loopback import completion, last

table, y = patients()
X = table[NUMBERS]
TEXTS = [f"{what} number {i}" for i in range(20) for what in ("Parcel", "Refund")]
LABELS = np.where(np.arange(40) < 12, np.arange(40) % 2, -1)


@pytest.fixture(scope="module")
def dask_cluster():
    """Two worker processes on this machine, listening on the loopback alone."""
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address=None,
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@pytest.fixture(
    params=[
        "threading",
        pytest.param("loky", marks=pytest.mark.slow),
        pytest.param("dask", marks=pytest.mark.slow),
    ]
)
def two_workers(request):
    if request.param == "dask":
        request.getfixturevalue("dask_cluster")
    with joblib.parallel_config(request.param, n_jobs=2):
        yield


def test_a_search_pays_once_for_all_workers(two_workers, llm, loopback):
    loopback.latency = 0.05  # long enough for the workers to want the same answer
    asking = LLMAttributionRegularizedClassifier(llm, task=TASK, class_descriptions=CLASSES)
    grid = {"gamma": [0.1, 1.0, "auto"]}
    found = GridSearchCV(asking, grid, cv=4, error_score="raise").fit(X, y)
    assert len(loopback.requests) == N_ESTIMATES
    # The ledger of the cache knows what the workers sent on behalf of this ChatModel.
    assert sum(row.requests for row in llm.usage(this_run=True)) == N_ESTIMATES
    recorded = LLMAttributionRegularizedClassifier(attributions=SCORES)
    with joblib.parallel_config(n_jobs=1):
        expected = GridSearchCV(recorded, grid, cv=4).fit(X, y)
    np.testing.assert_allclose(
        found.cv_results_["mean_test_score"], expected.cv_results_["mean_test_score"]
    )
    np.testing.assert_allclose(found.predict_proba(X), expected.predict_proba(X))


def message(body):
    """The message that a request is about: the last quoted part of its prompt."""
    return last(body).rpartition("<<<\n")[2].partition("\n>>>")[0]


def by_logprobs(body):
    """The code of the message's class, and how sure that is."""
    letter = "A" if "Parcel" in message(body) else "B"
    token = {"token": letter, "logprob": math.log(0.9)}
    rival = {"token": "AB"[letter == "A"], "logprob": math.log(0.1)}
    return completion(letter, logprobs={"content": [{**token, "top_logprobs": [token, rival]}]})


def test_a_teacher_is_paid_once_for_each_text_by_all_workers(two_workers, llm, loopback):
    loopback.reply, loopback.latency = by_logprobs, 0.01
    teacher = LLMTeacherClassifier(
        llm, task="Sort messages.", class_descriptions={0: "about a parcel", 1: "about a refund"}
    )
    student = make_pipeline(TfidfVectorizer(), LogisticRegression())
    search = GridSearchCV(
        LLKDSelector(student, teacher=teacher, random_state=0),
        {"strategy": ["distill", "llkd"]},
        cv=UnlabeledSplit(3),
        error_score="raise",
    ).fit(TEXTS, LABELS)
    assert sorted(message(body) for body in loopback.requests) == sorted(TEXTS)
    teacher.llm.mode = "replay"
    with joblib.parallel_config(n_jobs=1):
        expected = clone(search).fit(TEXTS, LABELS)
    np.testing.assert_array_equal(
        search.cv_results_["mean_test_score"], expected.cv_results_["mean_test_score"]
    )
    np.testing.assert_array_equal(search.predict_proba(TEXTS), expected.predict_proba(TEXTS))
