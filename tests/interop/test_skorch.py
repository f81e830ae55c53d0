"""Nets of the user's own: as the student of a selector, as the module of a classifier."""

import joblib
import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.preprocessing import StandardScaler
from skorch import NeuralNetClassifier
from skorch.callbacks import EarlyStopping

from skllmreg import LLKDSelector, LLMAttributionRegularizedClassifier, UnlabeledSplit
from tests.interop.patients import CLASSES, N_ESTIMATES, NUMBERS, SCORES, TASK, patients

table, y = patients()
X = table[NUMBERS]
X32 = StandardScaler().fit_transform(X).astype(np.float32)


class Mlp(torch.nn.Module):
    """Starts from the same weights whoever else, in this thread or another, draws numbers."""

    def __init__(self, n_hidden=4):
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(3, n_hidden), torch.nn.ReLU(), torch.nn.Linear(n_hidden, 2)
        )
        generator = torch.Generator().manual_seed(0)
        for weights in self.parameters():
            torch.nn.init.normal_(weights, generator=generator)

    def forward(self, X):
        return self.layers(X)


def linear(n_features, n_outputs):
    return torch.nn.Linear(n_features, n_outputs).double()


@pytest.mark.parametrize("backend", [pytest.param("loky", marks=pytest.mark.slow), "threading"])
def test_a_search_over_a_nets_own_parameters_is_the_serial_one(backend):
    net = NeuralNetClassifier(
        Mlp,
        criterion=torch.nn.CrossEntropyLoss,
        max_epochs=5,
        verbose=0,
        callbacks=[EarlyStopping(patience=3)],
    )
    serial = GridSearchCV(
        LLKDSelector(net, strategy="llkd", random_state=0),
        {"estimator__lr": [0.01, 0.5], "estimator__module__n_hidden": [2, 8]},
        cv=UnlabeledSplit(3),
        error_score="raise",
    )
    parallel = clone(serial)
    some = np.where(np.arange(len(y)) < 30, y, -1)
    proba = np.where(y[:, None] == [0, 1], 0.8, 0.2)
    serial.fit(X32, some, teacher_proba=proba)
    with joblib.parallel_config(backend, n_jobs=2):
        parallel.fit(X32, some, teacher_proba=proba)
    for search in (serial, parallel):
        assert type(search.best_estimator_.estimator_.module_) is Mlp
    np.testing.assert_array_equal(
        parallel.cv_results_["mean_test_score"], serial.cv_results_["mean_test_score"]
    )
    np.testing.assert_allclose(parallel.predict_proba(X32), serial.predict_proba(X32), rtol=1e-5)


def test_a_search_over_modules_asks_once_and_ends_where_the_linear_model_does(llm, loopback):
    asking = LLMAttributionRegularizedClassifier(
        llm, task=TASK, class_descriptions=CLASSES, gamma=1.0, max_epochs=300, random_state=0
    )
    search = GridSearchCV(asking, {"module": [linear, None]}, cv=3, error_score="raise").fit(X, y)
    assert len(loopback.requests) == N_ESTIMATES
    scores = search.cv_results_["mean_test_score"]
    assert scores[0] == scores[1]
    recorded = LLMAttributionRegularizedClassifier(attributions=SCORES, gamma=1.0).fit(X, y)
    np.testing.assert_allclose(search.predict_proba(X), recorded.predict_proba(X), atol=2e-3)
