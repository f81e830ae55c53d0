"""Warnings point at the line of the user, whatever lies between."""

import warnings

import numpy as np
import pytest
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline

from skllmreg import LLKDSelector, LLMAttributionRegularizedClassifier

X = np.random.default_rng(0).normal(size=(20, 3))
y = (X[:, 0] > 0).astype(int)
PLAIN = LLMAttributionRegularizedClassifier()


@pytest.mark.parametrize(
    "fit",
    [
        lambda: PLAIN.fit(X, y),
        lambda: make_pipeline(PLAIN).fit(X, y),
        lambda: cross_val_score(PLAIN, X, y, cv=2),
        lambda: LLKDSelector().fit_resample(X, y),
    ],
    ids=["fit", "in a pipeline", "in cross-validation", "from a method that calls fit"],
)
def test_a_warning_points_at_the_line_of_the_user(fit):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit()
    assert {warning.filename for warning in caught} == {__file__}
