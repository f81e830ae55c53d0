"""imbalanced-learn's pipelines: samplers before a model that asks, and selectors as samplers."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.preprocessing import StandardScaler

from skllmreg import GOLDAugmenter, LLKDSelector, LLMAttributionRegularizedClassifier
from tests.interop.patients import CLASSES, N_ESTIMATES, NUMBERS, SCORES, TASK, patients

checks = pytest.importorskip("imblearn.utils.estimator_checks")
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


def rows(request):
    """Write rows of a table in place of an LLM."""
    rng = np.random.RandomState(request.random_state)
    return [dict(zip(NUMBERS, rng.normal(size=3), strict=True)) for _ in range(request.n_rows)]


SELECTOR = LLKDSelector(
    teacher=FrozenEstimator(GaussianNB().fit(X, y)),
    strategy="llkd",
    max_teacher_calls=30,
    random_state=0,
)
FEW = np.where(np.arange(len(y)) < 20, y, -1)


@pytest.mark.parametrize(
    ("sampler", "labels", "n_rows"),
    [
        (SELECTOR, FEW, range(21, 51)),
        (GOLDAugmenter(generator=rows, n_samples=40, random_state=0), y, [len(y) + 40]),
    ],
    ids=["LLKDSelector", "GOLDAugmenter"],
)
def test_the_steps_after_see_the_rows_that_were_chosen_or_written(sampler, labels, n_rows):
    pipeline = make_pipeline(clone(sampler), StandardScaler(), LogisticRegression()).fit(X, labels)
    X_new, y_new = clone(sampler).fit_resample(X, labels)
    assert len(X_new) in n_rows
    assert set(y_new) == {0, 1}
    scaler = StandardScaler().fit(X_new)
    model = LogisticRegression().fit(scaler.transform(X_new), y_new)
    np.testing.assert_array_equal(
        pipeline.predict_proba(X), model.predict_proba(scaler.transform(X))
    )


def rows_of_numbers(request):
    """Write rows of any numeric table, within the range of its columns."""
    rng = np.random.RandomState(request.random_state)
    example = request.seed_examples[0]
    return [{k: v * rng.uniform(0.2, 0.8) for k, v in example.items()} for _ in range(8)]


@pytest.mark.parametrize(
    "sampler",
    [
        LLKDSelector(),
        GOLDAugmenter(generator=rows_of_numbers, n_rounds=1),
    ],
    ids=["LLKDSelector", "GOLDAugmenter"],
)
@pytest.mark.parametrize(
    "check",
    [
        checks.check_target_type,
        checks.check_samplers_one_label,
        checks.check_samplers_fit_resample,
        checks.check_samplers_pandas,
        checks.check_samplers_list,
        checks.check_samplers_2d_target,
        checks.check_samplers_preserve_dtype,
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_the_checks_for_samplers_hold(check, sampler):
    check(type(sampler).__name__, sampler.set_params(random_state=0))


@pytest.mark.filterwarnings("ignore")
def test_sparse_rows_come_back_sparse():
    checks.check_samplers_sparse("LLKDSelector", LLKDSelector())


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_a_y_that_was_a_frame_comes_back_as_one(library):
    frame = pytest.importorskip(library).DataFrame
    labels = frame({"class": FEW})
    _, found = clone(SELECTOR).fit_resample(X, labels)
    assert isinstance(found, frame)
    assert list(found.columns) == ["class"]
    written = GOLDAugmenter(generator=rows, n_samples=4, random_state=0)
    _, found = written.fit_resample(X, frame({"class": y}))
    assert isinstance(found, frame)
    assert len(found) == len(y) + 4
