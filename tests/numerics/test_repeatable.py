"""The same model again, and with any number of threads in the linear algebra."""

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from skllmreg import LLMAttributionRegularizedClassifier, LLMAttributionRegularizedRegressor

pytestmark = pytest.mark.slow

SCORES = np.random.default_rng(1).integers(-10, 11, 60)
MODELS = [
    LLMAttributionRegularizedClassifier(),
    LLMAttributionRegularizedClassifier(gamma=1.0),
    LLMAttributionRegularizedClassifier(hidden_layer_sizes=8, gamma=1.0, random_state=0),
    LLMAttributionRegularizedRegressor(),
    LLMAttributionRegularizedRegressor(gamma=1.0),
]


def coefficients(model, n_threads):
    """What a model has learned from enough rows for the threads to share the work."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 60))
    y = (X @ SCORES / 10 + rng.normal(size=300) > 0).astype(int)
    model.set_params(attributions=SCORES)
    with threadpool_limits(n_threads):
        model.fit(X, y)
        return model.predict(X) if model.coef_ is None else model.coef_


@pytest.mark.parametrize("model", MODELS, ids=repr)
def test_runs_and_threads_give_the_same_model(model):
    coef = coefficients(model, 1)
    np.testing.assert_array_equal(coefficients(model, 1), coef)
    np.testing.assert_allclose(coefficients(model, 2), coef, rtol=1e-6, atol=1e-8)
