import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from skllmreg.attribution._agreement import correlation, mean_auc


@pytest.mark.parametrize("n_distinct", [3, 1000])
def test_mean_auc_is_that_of_scikit_learn(n_distinct):
    rng = np.random.default_rng(0)
    Y = np.eye(3)[rng.permutation(np.arange(60) % 3)]
    eta = rng.integers(n_distinct, size=(60, 3)) / 7
    weight = rng.uniform(0.1, 3, 60)
    expected = [roc_auc_score(Y[:, k], eta[:, k], sample_weight=weight) for k in range(3)]
    assert mean_auc(Y, eta, weight) == pytest.approx(np.mean(expected), rel=1e-12)


def test_correlation_counts_weights_as_rows():
    rng = np.random.default_rng(0)
    a, b, weight = rng.normal(size=20), rng.normal(size=20), rng.integers(1, 4, 20)
    expected = np.corrcoef(np.repeat(a, weight), np.repeat(b, weight))[0, 1]
    assert correlation(a, b, weight) == pytest.approx(expected)
    assert correlation(a, np.ones(20), weight) == 0
