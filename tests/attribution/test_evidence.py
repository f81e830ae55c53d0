import numpy as np
import pytest
from scipy import sparse
from scipy.special import logsumexp

from skllmreg.attribution import _evidence
from skllmreg.attribution._evidence import Prior, candidate_priors, fit_candidate
from skllmreg.attribution._loss import encode_labels, log_loss, probabilities
from skllmreg.attribution._scores import AVERAGED_TRANSFORMS


def problem(n=30, d=5, n_classes=2, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d))
    y = np.r_[np.arange(n_classes), rng.integers(n_classes, size=n - n_classes)]
    estimates = rng.integers(-10, 11, (3, 1 if n_classes == 2 else n_classes, d)).astype(float)
    return X, encode_labels(y, n_classes), rng.uniform(0.5, 2, n), estimates


def a_prior(X, Y, weight, estimates, index=5):
    return candidate_priors(X, weight, Y.shape[1], estimates, AVERAGED_TRANSFORMS)[index]


def negative_log_posterior(X, Y, weight, prior, slope, V, b):
    eta = X @ (slope * prior.target + V).T + b
    return (
        weight @ log_loss(eta, Y)
        + 0.5 * ((slope - prior.slope_mean) / prior.slope_sd) ** 2
        + 0.5 * np.sum((V / prior.deviation_sd) ** 2)
        + 0.5 * np.sum(b**2) / _evidence.INTERCEPT_SD**2
    )


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("d", [5, 60])
def test_the_fit_is_the_mode_of_the_posterior(n_classes, d):
    X, Y, weight, estimates = problem(d=d, n_classes=n_classes)
    prior = a_prior(X, Y, weight, estimates)
    fit = fit_candidate(X, Y, weight, prior)
    V = fit.coef - fit.slope * prior.target
    at_mode = negative_log_posterior(X, Y, weight, prior, fit.slope, V, fit.intercept)
    rng = np.random.default_rng(1)
    for _ in range(20):
        step = 1e-3 * rng.normal(size=1 + V.size + len(fit.intercept))
        moved = negative_log_posterior(
            X,
            Y,
            weight,
            prior,
            fit.slope + step[0] * prior.slope_sd,
            V + step[1 : 1 + V.size].reshape(V.shape) * prior.deviation_sd,
            fit.intercept + step[1 + V.size :],
        )
        assert moved > at_mode
    # Stationary in V: the data's pull balances the prior's.
    residual = (probabilities(X @ fit.coef.T + fit.intercept) - Y) * weight[:, None]
    np.testing.assert_allclose(residual.T @ X, -V / prior.deviation_sd**2, rtol=1e-6, atol=1e-9)


def test_evidence_ratios_are_those_of_numerical_integration():
    X, Y, weight, _ = problem(n=12, d=1)
    grid_v, grid_b = np.linspace(-8, 8, 1201), np.linspace(-30, 30, 1201)
    exact, laplace = [], []
    for tau in (0.1, 0.5, 1.0):
        prior = Prior("none", tau, np.zeros((1, 1)), 0.0, 0.0, np.array([tau]), 0.0)
        eta = X[:, :, None] * (tau * grid_v)
        per_row = [
            log_loss(grid.reshape(-1, 1), np.full((grid.size, 1), label)).reshape(grid.shape)
            for grid, label in zip((row.T + grid_b for row in eta), Y[:, 0], strict=True)
        ]
        loss = np.einsum("i,ivb->vb", weight, per_row)
        log_joint = -loss - 0.5 * grid_v[:, None] ** 2
        log_joint -= 0.5 * (grid_b / _evidence.INTERCEPT_SD) ** 2
        exact.append(logsumexp(log_joint))
        laplace.append(fit_candidate(X, Y, weight, prior).log_evidence)
    np.testing.assert_allclose(np.diff(laplace), np.diff(exact), atol=0.1)


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("shape", [(40, 6), (20, 50)])
@pytest.mark.parametrize("container", [np.asarray, sparse.csr_array])
def test_small_and_large_problems_are_solved_alike(n_classes, shape, container, monkeypatch):
    X, Y, weight, estimates = problem(*shape, n_classes=n_classes)
    X = container(X)
    priors = candidate_priors(X, weight, Y.shape[1], estimates, AVERAGED_TRANSFORMS)
    small = [fit_candidate(X, Y, weight, prior) for prior in priors[::7]]
    monkeypatch.setattr(_evidence, "MAX_PARAMETERS", 55 if container is np.asarray else 3)
    large = [_evidence._fit_large(X, Y, weight, prior) for prior in priors[::7]]
    for one, other in zip(small, large, strict=True):
        np.testing.assert_allclose(one.coef, other.coef, atol=2e-3)
        np.testing.assert_allclose(one.intercept, other.intercept, atol=5e-3)


def test_factored_evidence_is_close_to_the_exact_one():
    X, Y, weight, estimates = problem(200, 10)
    priors = candidate_priors(X, weight, 1, estimates, AVERAGED_TRANSFORMS)[:8]
    exact = [fit_candidate(X, Y, weight, prior).log_evidence for prior in priors]
    factored = [_evidence._fit_large(X, Y, weight, prior).log_evidence for prior in priors]
    np.testing.assert_allclose(np.diff(exact), np.diff(factored), atol=0.5)


def test_the_grid_of_priors_has_total_weight_one_per_tau():
    X, Y, weight, estimates = problem()
    priors = candidate_priors(X, weight, 1, estimates, AVERAGED_TRANSFORMS)
    profile = -0.5 * (np.log(_evidence.TAUS / _evidence.TAU_MEDIAN) / _evidence.LOG_TAU_SD) ** 2
    total = np.exp([prior.log_weight for prior in priors]).sum()
    assert total == pytest.approx(np.exp(profile).sum())


def test_disagreement_loosens_the_prior_where_it_is():
    X, Y, weight, _ = problem()
    agreed = np.tile([5.0, 5, 5, 5, 5], (3, 1, 1))
    disputed = agreed.copy()
    disputed[:, 0, 0] = [0, 5, 10]
    for transform in ("expm1(|s|/3)", "expm1(|s|/2)"):
        sds = [
            next(p for p in candidate_priors(X, weight, 1, e, AVERAGED_TRANSFORMS)
                 if p.transform == transform).deviation_sd
            for e in (agreed, disputed)
        ]  # fmt: skip
        assert sds[1][0] > 2 * sds[0][0]
        np.testing.assert_allclose(np.diff(sds[1][1:]), 0, atol=1e-12)


def test_newton_reaches_a_minimum_it_starts_far_from():
    def objective(params):
        return np.logaddexp(0, params @ params) + params[0] * 3, None

    def derivatives(params, _):
        p = 1 / (1 + np.exp(-params @ params))
        gradient = 2 * p * params + np.array([3.0, 0])
        return gradient, 2 * p * np.eye(2) + 4 * p * (1 - p) * np.outer(params, params)

    params, *_ = _evidence.newton(objective, derivatives, np.array([40.0, -30.0]))
    np.testing.assert_allclose(derivatives(params, None)[0], 0, atol=1e-6)
