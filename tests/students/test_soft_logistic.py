"""Logistic regression on distributions: with hard targets it is scikit-learn's."""

import numpy as np
import pytest
from scipy import sparse
from sklearn.linear_model import LogisticRegression

from skllmreg.students import _soft_logistic
from skllmreg.students._soft_logistic import STRENGTHS, LogisticProblem, folds


def problem_of(n_classes, *, n=80, seed=0):
    rng = np.random.default_rng(seed)
    dense = rng.normal(size=(n, 4))
    words = sparse.random(n, 30, density=0.2, random_state=seed, format="csr")
    target = rng.dirichlet(np.full(n_classes, 0.3), size=n)
    target[:n_classes] = np.eye(n_classes)
    return [dense, words], target, rng.uniform(0.5, 2, size=n)


@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize("few", [0, 2000])
def test_hard_targets_give_the_logistic_regression_of_scikit_learn(n_classes, few, monkeypatch):
    monkeypatch.setattr(_soft_logistic, "FEW_ROWS", few)
    blocks, target, weight = problem_of(n_classes)
    codes = target.argmax(axis=1)
    found = LogisticProblem(blocks, np.eye(n_classes)[codes], weight, tol=1e-8).fit(3.0)
    X = sparse.hstack(blocks, format="csr")
    model = LogisticRegression(C=3.0, tol=1e-8, max_iter=5000).fit(X, codes, weight)
    np.testing.assert_allclose(found[0], model.coef_, atol=2e-4)
    np.testing.assert_allclose(
        found[1] - found[1].mean() * (n_classes > 2),
        model.intercept_ - model.intercept_.mean() * (n_classes > 2),
        atol=2e-4,
    )


@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize("few", [0, 2000])
def test_soft_targets_are_rows_repeated_with_their_shares_as_weights(n_classes, few, monkeypatch):
    monkeypatch.setattr(_soft_logistic, "FEW_ROWS", few)
    blocks, target, weight = problem_of(n_classes)
    coef, _ = LogisticProblem(blocks, target, weight, tol=1e-8).fit(3.0)
    rows, codes = np.nonzero(target)
    X = sparse.hstack(blocks, format="csr")[rows]
    model = LogisticRegression(C=3.0, tol=1e-8, max_iter=5000)
    model.fit(X, codes, target[rows, codes] * weight[rows])
    np.testing.assert_allclose(coef, model.coef_, atol=2e-4)


def test_repeated_rows_and_columns_of_zeros_are_no_problem():
    blocks = [np.zeros((6, 2)), sparse.csr_matrix(np.tile([[1.0, 0.0], [0.0, 1.0]], (3, 1)))]
    target = np.tile(np.eye(2), (3, 1))
    coef, intercept = LogisticProblem(blocks, target, np.ones(6)).fit(10.0)
    assert np.isfinite(coef).all()
    assert (coef[0, 2] < 0) & (coef[0, 3] > 0)
    assert abs(intercept[0]) < 0.01


def test_every_fold_has_its_share_of_every_class():
    labels = np.repeat([0, 1, 2], [30, 9, 3])
    fold = folds(labels, 3, np.random.RandomState(0))
    assert all(np.bincount(fold[labels == c]).tolist() == [n] * 3 for c, n in enumerate((10, 3, 1)))


def test_noise_asks_for_a_stronger_penalty_than_signal():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 20)) / 20**0.5
    signal = np.eye(2)[(X[:, 0] > 0).astype(int)]
    noise = np.eye(2)[rng.integers(2, size=300)]
    found = [
        LogisticProblem([X], target, np.ones(300)).best_strength(np.random.RandomState(0))
        for target in (signal, noise)
    ]
    assert found[0] == STRENGTHS[-1]
    assert found[1] == STRENGTHS[0]
