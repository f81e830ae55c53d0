"""cloudpickle, as Dask and loky use it: estimators with lambdas for parameters, fitted and not."""

import pickle
import subprocess
import sys

import cloudpickle
import numpy as np
import pytest
import torch
from sklearn.base import BaseEstimator, clone
from sklearn.frozen import FrozenEstimator
from sklearn.naive_bayes import GaussianNB

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
    LLMTeacherClassifier,
)
from tests.interop.patients import CLASSES, NUMBERS, SCORES, patients

table, y = patients()
X = table[NUMBERS]
INPUTS, TARGETS = ["1 red", "2 blue"], ["red 1", "blue 2"]
quiet = pytest.mark.filterwarnings("ignore::skllmreg.exceptions.NoLLMWarning")


def rows_like(request):
    """Write rows of a table in place of an LLM."""
    rng = np.random.RandomState(request.random_state)
    return [dict(zip(NUMBERS, rng.normal(size=3), strict=True)) for _ in range(request.n_rows)]


def pairs_like(request):
    """Write inputs and targets in place of an LLM."""
    numbers = [10 * request.number + i for i in range(request.n_rows)]
    return [{"input": f"{i} green", "target": f"green {i}"} for i in numbers]


ESTIMATORS = [
    LLMAttributionRegularizedClassifier(attributions=SCORES, score_transform=lambda s: s**3),
    LLMAttributionRegularizedClassifier(
        attributions=SCORES,
        gamma=1.0,
        module=lambda n_features, n_outputs: torch.nn.Linear(n_features, n_outputs),
        random_state=0,
    ),
    LLMAttributionRegularizedRegressor(attributions=SCORES, score_transform=lambda s: s**3),
    LLMCascadeClassifier(GaussianNB(), random_state=0),
    LLMFeatureSelector(attributions=SCORES, k=2),
    LLMAttributionBoostingClassifier(),
    LLMAttributionBoostingRegressor(),
    LLMShapeTransformer(shapes={"age": [[-10, -1.0], [0, 1.0], [10, -0.5]]}),
    LLMTeacherClassifier(class_descriptions=CLASSES, n_examples=3, random_state=0),
    LLKDSelector(teacher=FrozenEstimator(GaussianNB().fit(X, y)), random_state=0),
    GOLDAugmenter(generator=lambda request: rows_like(request), n_samples=20, random_state=0),
    GOLDSeq2SeqAugmenter(generator=lambda request: pairs_like(request), random_state=0),
]


def fit(model):
    return (
        model.fit(INPUTS, TARGETS) if isinstance(model, GOLDSeq2SeqAugmenter) else model.fit(X, y)
    )


def result(model):
    """What a fitted model makes of the rows; a teacher would ask an LLM: its examples."""
    if isinstance(model, GOLDSeq2SeqAugmenter):
        return model.predict(INPUTS)
    for use in ("examples_", "predict_proba", "predict", "transform"):
        if hasattr(model, use):
            value = getattr(model, use)
            return np.asarray(value(X) if callable(value) else value)
    raise AssertionError(model)


def test_every_public_estimator_is_tried():
    public = [getattr(skllmreg, name) for name in skllmreg.__all__]
    public = {c for c in public if isinstance(c, type) and issubclass(c, BaseEstimator)}
    assert {type(model) for model in ESTIMATORS} == public


@quiet
@pytest.mark.parametrize("model", ESTIMATORS, ids=lambda model: type(model).__name__)
def test_an_unfitted_copy_fits_to_the_same(model):
    copy = pickle.loads(cloudpickle.dumps(model))
    assert not vars(copy).keys() - vars(model).keys()
    np.testing.assert_array_equal(result(fit(clone(model))), result(fit(copy)))


@pytest.mark.slow
@quiet
def test_fitted_models_predict_the_same_in_another_process(tmp_path):
    fitted = [fit(clone(model)) for model in ESTIMATORS]
    expected = [result(model) for model in fitted]
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    (tmp_path / "models").write_bytes(cloudpickle.dumps((result, fitted)))
    code = (
        "import pickle; result, models = pickle.load(open('models', 'rb'))\n"
        "pickle.dump([result(model) for model in models], open('results', 'wb'))"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    found = pickle.loads((tmp_path / "results").read_bytes())
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
