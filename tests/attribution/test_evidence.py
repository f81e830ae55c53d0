import numpy as np
import pytest
from scipy import sparse
from scipy.special import logsumexp

from skllmreg.attribution import _evidence, _laplace
from skllmreg.attribution._evidence import Prior, candidate_priors, fit_candidates, model_average
from skllmreg.attribution._laplace import FeatureSolver, IterativeSolver, RowSolver
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
        + 0.5 * np.sum(V**2 / prior.variance())
        + 0.5 * np.sum(b**2) / _laplace.INTERCEPT_SD**2
    )


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("d", [5, 60])
@pytest.mark.parametrize("solver", [FeatureSolver, RowSolver])
def test_the_fit_is_the_mode_of_the_posterior(n_classes, d, solver):
    X, Y, weight, estimates = problem(d=d, n_classes=n_classes)
    prior = a_prior(X, Y, weight, estimates)
    fit = solver(X, Y, weight).fit(prior)
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
            V + step[1 : 1 + V.size].reshape(V.shape) * np.sqrt(prior.variance()),
            fit.intercept + step[1 + V.size :],
        )
        assert moved > at_mode
    # Stationary in V: the data's pull balances the prior's.
    residual = (probabilities(X @ fit.coef.T + fit.intercept) - Y) * weight[:, None]
    np.testing.assert_allclose(residual.T @ X, -V / prior.variance(), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_evidence_ratios_are_those_of_numerical_integration():
    X, Y, weight, _ = problem(n=12, d=1)
    grid_v, grid_b = np.linspace(-8, 8, 1201), np.linspace(-30, 30, 1201)
    exact, laplace = [], []
    for tau in (0.1, 0.5, 1.0):
        prior = Prior("none", tau, np.zeros((1, 1)), 0.0, 0.0, np.ones(1), np.zeros(1), 0.0)
        eta = X[:, :, None] * (tau * grid_v)
        per_row = [
            log_loss(grid.reshape(-1, 1), np.full((grid.size, 1), label)).reshape(grid.shape)
            for grid, label in zip((row.T + grid_b for row in eta), Y[:, 0], strict=True)
        ]
        loss = np.einsum("i,ivb->vb", weight, per_row)
        log_joint = -loss - 0.5 * grid_v[:, None] ** 2
        log_joint -= 0.5 * (grid_b / _laplace.INTERCEPT_SD) ** 2
        exact.append(logsumexp(log_joint))
        laplace.append(RowSolver(X, Y, weight).fit(prior).log_evidence)
    np.testing.assert_allclose(np.diff(laplace), np.diff(exact), atol=0.1)


@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize("shape", [(40, 6), (20, 50)])
@pytest.mark.parametrize("container", [np.asarray, sparse.csr_array])
def test_all_solvers_find_the_same_fits(n_classes, shape, container):
    X, Y, weight, estimates = problem(*shape, n_classes=n_classes)
    X = container(X)
    priors = candidate_priors(X, weight, Y.shape[1], estimates, AVERAGED_TRANSFORMS)[::7]
    one, other, rough = (
        [solver.fit(prior) for prior in priors]
        for solver in (s(X, Y, weight) for s in (FeatureSolver, RowSolver, IterativeSolver))
    )
    for a, b, c in zip(one, other, rough, strict=True):
        for name in ("coef", "intercept", "slope"):
            np.testing.assert_allclose(getattr(a, name), getattr(b, name), atol=1e-5)
            np.testing.assert_allclose(getattr(a, name), getattr(c, name), atol=5e-3)
        assert a.log_evidence == pytest.approx(b.log_evidence, abs=1e-6)


@pytest.mark.parametrize("solver", [FeatureSolver, RowSolver])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_warm_starts_and_kept_curvatures_change_nothing(solver, n_classes):
    X, Y, weight, estimates = problem(80, 12, n_classes=n_classes)
    priors = candidate_priors(X, weight, Y.shape[1], estimates, AVERAGED_TRANSFORMS)
    warm, start = solver(X, Y, weight), None
    for prior in priors[::3]:
        start = warm.fit(prior, start)
        cold = solver(X, Y, weight).fit(prior)
        np.testing.assert_allclose(start.coef, cold.coef, atol=1e-5)
        assert start.log_evidence == pytest.approx(cold.log_evidence, abs=_laplace.NEAR)


def test_sampled_evidence_is_close_to_the_exact_one():
    X, Y, weight, estimates = problem(200, 10)
    priors = candidate_priors(X, weight, 1, estimates, AVERAGED_TRANSFORMS)[:8]
    exact, sampled = (
        [solver.fit(prior).log_evidence for prior in priors]
        for solver in (FeatureSolver(X, Y, weight), IterativeSolver(X, Y, weight))
    )
    np.testing.assert_allclose(sampled, exact, atol=1.5)


@pytest.mark.parametrize("shape", [(300, 8), (60, 40)])
@pytest.mark.parametrize("sign", [1, -1])
def test_candidates_that_are_left_out_would_not_have_counted(shape, sign):
    X, Y, weight, estimates = problem(*shape)
    Y = (X @ estimates.mean(axis=0).T > 0).astype(float)
    priors = candidate_priors(X, weight, 1, sign * estimates, AVERAGED_TRANSFORMS)
    solver = _laplace.laplace_solver(X, Y, weight)
    kept, fits = fit_candidates(priors, solver.fit)
    assert len(kept) < len(priors)
    _, coef, intercept = model_average(priors, [solver.fit(prior) for prior in priors])
    _, coef_of_kept, intercept_of_kept = model_average(kept, fits)
    np.testing.assert_allclose(coef_of_kept, coef, atol=1e-3)
    np.testing.assert_allclose(intercept_of_kept, intercept, atol=1e-3)


@pytest.mark.parametrize("shape", [(60, 200), (200, 60)])
def test_nothing_of_the_size_of_dense_rows_is_made_of_sparse_ones(shape, monkeypatch):
    monkeypatch.setattr(_laplace, "MAX_DENSE", 10)
    X, Y, weight, estimates = problem(*shape)
    X = sparse.csr_array(X * (np.random.default_rng(0).random(X.shape) < 0.05))
    monkeypatch.setattr(sparse.csr_array, "toarray", None)
    priors = candidate_priors(X, weight, 1, estimates, AVERAGED_TRANSFORMS)
    fit_candidates(priors[:8], _laplace.laplace_solver(X, Y, weight).fit)


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
                 if p.transform == transform).variance()
            for e in (agreed, disputed)
        ]  # fmt: skip
        assert sds[1][0] > 4 * sds[0][0]
        np.testing.assert_allclose(np.diff(sds[1][1:]), 0, atol=1e-12)


@pytest.mark.parametrize("solver", [FeatureSolver, RowSolver, IterativeSolver])
def test_the_mode_is_found_from_far_away(solver):
    X, Y, weight, estimates = problem(30, 5)
    prior = a_prior(X, Y, weight, estimates)
    near = solver(X, Y, weight).fit(prior)
    far = _laplace.Posterior(
        1e3 * np.ones((1, 5)), np.array([-1e3]), 50.0, 0.0, 1, dual=1e3 * np.ones((1, 30))
    )
    found = solver(X, Y, weight).fit(prior, far)
    np.testing.assert_allclose(found.coef, near.coef, atol=1e-2)
    assert found.converged
