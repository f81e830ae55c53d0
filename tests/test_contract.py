"""Every estimator passes scikit-learn's checks, with no failure expected.

The defaults are checked by `make test`, boosting and other parameters by `make test-slow`.
"""

import pytest
from sklearn.base import BaseEstimator
from sklearn.utils.estimator_checks import parametrize_with_checks

import skllmreg
from skllmreg import (
    GOLDAugmenter,
    GOLDSeq2SeqAugmenter,
    LLKDSelector,
    LLMAttributionBoostingClassifier,
    LLMAttributionBoostingRegressor,
    LLMAttributionRegularizedClassifier,
    LLMAttributionRegularizedRegressor,
    LLMCascadeClassifier,
    LLMFeatureSelector,
    LLMShapeTransformer,
)

pytestmark = pytest.mark.filterwarnings(
    "ignore::skllmreg.exceptions.NoLLMWarning",
    "ignore::skllmreg.exceptions.PriorConflictWarning",
)

DEFAULTS = [
    GOLDAugmenter(),
    GOLDSeq2SeqAugmenter(),
    LLKDSelector(),
    LLMCascadeClassifier(),
    LLMAttributionRegularizedClassifier(),
    LLMAttributionRegularizedRegressor(),
    LLMFeatureSelector(),
    LLMShapeTransformer(),
]
# Each fit grows trees on several folds.
BOOSTING = [LLMAttributionBoostingClassifier(), LLMAttributionBoostingRegressor()]
VARIANTS = [
    GOLDAugmenter(strategy="gold"),
    LLKDSelector(strategy="llkd", labels="hard"),
    LLMAttributionRegularizedClassifier(gamma=1.0, tol=1e-9),
    LLMAttributionRegularizedClassifier(standardize=False, class_weight="balanced"),
    LLMAttributionRegularizedClassifier(hidden_layer_sizes=(8,), max_epochs=5),
    LLMAttributionRegularizedClassifier(hidden_layer_sizes=(8,), max_epochs=5, gamma=1.0),
    LLMAttributionRegularizedRegressor(gamma=1.0, tol=1e-9),
    LLMAttributionRegularizedRegressor(hidden_layer_sizes=(8,), max_epochs=5),
    LLMFeatureSelector(k=1),
]
# There is no plain model to fall back on: it labels nothing without an LLM.
NEEDS_LLM = {"LLMTeacherClassifier"}


@pytest.fixture(autouse=True)
def _array_api(monkeypatch):
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")  # or the check of dispatch skips itself


@parametrize_with_checks(DEFAULTS)
def test_the_defaults_pass_the_checks_of_scikit_learn(estimator, check):
    check(estimator)


@pytest.mark.slow
@parametrize_with_checks(BOOSTING + VARIANTS)
def test_boosting_and_other_parameters_pass_the_checks_of_scikit_learn(estimator, check):
    check(estimator)


def test_every_public_estimator_is_checked():
    public = {name: getattr(skllmreg, name) for name in skllmreg.__all__}
    estimators = {
        name
        for name, value in public.items()
        if isinstance(value, type) and issubclass(value, BaseEstimator)
    }
    assert {type(model).__name__ for model in DEFAULTS + BOOSTING} == estimators - NEEDS_LLM
