"""imbalanced-learn's pipelines: samplers before a model that asks, and selectors as samplers."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.preprocessing import StandardScaler

from skllmreg import LLKDSelector, LLMAttributionRegularizedClassifier
from tests.interop.patients import CLASSES, N_ESTIMATES, NUMBERS, SCORES, TASK, patients

over_sampling = pytest.importorskip("imblearn.over_sampling")
make_pipeline = pytest.importorskip("imblearn.pipeline").make_pipeline

table, y = patients()
X = table[NUMBERS]


def test_sampled_rows_keep_the_names_that_an_llm_is_asked_about(llm, loopback):
    rare = np.r_[np.flatnonzero(y == 0), np.flatnonzero(y == 1)[:6]]
    sampler = over_sampling.RandomOverSampler(random_state=0)
    model = LLMAttributionRegularizedClassifier(llm, task=TASK, class_descriptions=CLASSES)
    search = GridSearchCV(
        make_pipeline(sampler, model),
        {"llmattributionregularizedclassifier__gamma": [1.0, "auto"]},
        cv=3,
        error_score="raise",
    ).fit(X.iloc[rare], y[rare])
    assert len(loopback.requests) == N_ESTIMATES
    (gamma,) = search.best_params_.values()
    by_hand = LLMAttributionRegularizedClassifier(attributions=SCORES, gamma=gamma)
    by_hand.fit(*sampler.fit_resample(X.iloc[rare], y[rare]))
    np.testing.assert_array_equal(search.predict_proba(X), by_hand.predict_proba(X))


def test_a_selector_passes_on_the_rows_that_it_chose():
    teacher = FrozenEstimator(GaussianNB().fit(X, y))
    some = np.where(np.arange(len(y)) < 20, y, -1)
    selector = LLKDSelector(teacher=teacher, strategy="llkd", max_teacher_calls=30, random_state=0)
    pipeline = make_pipeline(selector, StandardScaler(), LogisticRegression()).fit(X, some)
    X_chosen, y_chosen = clone(selector).fit_resample(X, some)
    assert len(X_chosen) <= 50
    assert set(y_chosen) == {0, 1}
    scaler = StandardScaler().fit(X_chosen)
    model = LogisticRegression().fit(scaler.transform(X_chosen), y_chosen)
    np.testing.assert_array_equal(
        pipeline.predict_proba(X), model.predict_proba(scaler.transform(X))
    )
