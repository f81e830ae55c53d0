"""What the linear models report is the minimum, and the evidence is the evidence."""

import warnings

import mpmath
import numpy as np
import pytest

from skllmreg import LLMAttributionRegularizedClassifier, LLMAttributionRegularizedRegressor
from skllmreg.attribution import _laplace, _leave_one_out
from skllmreg.attribution._evidence import candidate_priors
from skllmreg.attribution._loss import encode_labels
from skllmreg.attribution._scores import AVERAGED_TRANSFORMS, target_direction
from tests.numerics import exact


@pytest.fixture(autouse=True)
def _many_digits():
    with mpmath.workdps(exact.DIGITS):
        yield


def problem(kind, n_classes=2):
    """A dozen rows of every kind that is hard: X, codes of y, scores (n_outputs, n_features)."""
    rng = np.random.default_rng(3)
    n, d = {"more features than rows": (4, 5)}.get(kind, (12, 3))
    X = rng.normal(size=(n, d))
    scores = rng.integers(-9, 10, size=(1 if n_classes == 2 else n_classes, d)).astype(float)
    y = np.arange(n) % n_classes
    if kind == "separable":
        y = np.argsort(np.argsort(X[:, 0])) * n_classes // n
    if kind == "contradicting scores":
        X[:, 0] += 2.0 * y
        scores[-1, 0], scores[0, 0] = (-9, 9) if n_classes > 2 else (-9, -9)
    if kind == "scores of zero":
        scores[:] = 0
    if kind == "collinear columns":
        X[:, 1] = X[:, 0] + 1e-9 * X[:, 1]
    if kind == "a single row of a class":
        y = np.where(np.arange(n) < n_classes - 1, np.arange(n) + 1, 0)
    weight = np.ones(n)
    if kind == "weights of 0.001 and 1000":
        weight[::3], weight[1::3] = 1e-3, 1e3
    return X, y, scores, weight


KINDS = [
    "ordinary",
    "separable",
    "contradicting scores",
    *(
        pytest.param(kind, marks=pytest.mark.slow)
        for kind in (
            "scores of zero",
            "collinear columns",
            "more features than rows",
            "a single row of a class",
            "weights of 0.001 and 1000",
        )
    ),
]


@pytest.mark.parametrize("gamma", [0.0, 0.3, 30.0])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("task", ["two classes", "three classes", "regression"])
def test_a_numeric_gamma_finds_a_minimum_of_the_objective(kind, task, gamma):
    n_classes = 3 if task == "three classes" else 2
    X, y, scores, weight = problem(kind, n_classes)
    options = {"gamma": gamma, "score_transform": "identity", "standardize": False, "tol": 1e-8}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of contradicting scores
        warnings.simplefilter("error", category=RuntimeWarning)
        if task == "regression":
            y = (y - np.average(y, weights=weight)) / 0.7
            y = y / np.sqrt(np.average(y**2, weights=weight))
            model = LLMAttributionRegularizedRegressor(attributions=scores, **options)
            loss, Y = "squared", y[:, None]
        else:
            given = scores if n_classes == 2 else dict(enumerate(scores))
            model = LLMAttributionRegularizedClassifier(attributions=given, **options)
            loss, Y = "log", encode_labels(y, n_classes)
        model.fit(X, y, sample_weight=weight)
    coef, intercept = np.atleast_2d(model.coef_), np.atleast_1d(model.intercept_)
    found = np.column_stack([coef, intercept]).ravel()
    target = target_direction(scores, np.asarray)
    if not target.any():
        gamma = 0.0
    objective = exact.aligned(loss, X, Y, weight, target, gamma=gamma, alpha=model.alpha)
    value, gradient, _ = objective(exact.exactly(found))
    if np.linalg.norm(coef) < 1.0001e-3:  # the least length there is: the gradient is not zero
        slopes = np.array(gradient, dtype=float).reshape(len(coef), -1)[:, :-1]
        assert np.vdot(slopes, coef) > 0
        return
    _, least, _ = exact.minimum(objective, found)
    assert 0 <= value - least < 1e-10 * max(abs(least), 1)
    assert max(abs(gradient)) < 1e-6


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_classes", [2, 3])
def test_modes_and_evidence_of_the_candidates(kind, n_classes):
    X, y, scores, weight = problem(kind, n_classes)
    Y = encode_labels(y, n_classes)
    estimates = np.stack([scores, np.clip(scores + 1, -10, 10)])
    priors = candidate_priors(X, weight, Y.shape[1], estimates, AVERAGED_TRANSFORMS)
    for prior in priors[:: len(priors) // 2]:
        fit = _laplace.laplace_solver(X, Y, weight).fit(prior)
        objective = exact.candidate(X, Y, weight, prior, _laplace.INTERCEPT_SD)
        z = (fit.slope - prior.slope_mean) / prior.slope_sd if prior.slope_sd else 0.0
        V = (fit.coef - fit.slope * prior.target) / np.sqrt(prior.variance())
        found = np.r_[z, np.column_stack([V, fit.intercept]).ravel()]
        best, least, hessian = exact.minimum(objective, found)
        value, *_ = objective(exact.exactly(found))
        assert abs(value - least) < 1e-10 * max(abs(least), 1)
        np.testing.assert_allclose(found, np.array(best, float), atol=1e-4)
        # Of the priors' normalizing constants only that of the intercepts is not 1 here.
        evidence = -least - exact.log_determinant(hessian) / 2
        evidence -= Y.shape[1] * np.log(_laplace.INTERCEPT_SD)
        assert abs(fit.log_evidence - evidence) < _laplace.NEAR


@pytest.mark.parametrize(
    "kind", ["ordinary", "collinear columns", "more features than rows", "scores of zero"]
)
def test_coefficients_and_leave_one_out_density_of_a_regression(kind):
    X, y, scores, weight = problem(kind)
    y = X[:, 0] + 0.3 * y
    y = (y - y.mean()) / y.std()
    priors = candidate_priors(
        X, weight, 1, scores[None], AVERAGED_TRANSFORMS, slopes=_leave_one_out.SLOPES
    )
    for prior in priors[:: len(priors) // 2]:
        fit = _leave_one_out.GaussianSolver(X, y[:, None], weight).fit(prior)
        points = exact.exactly(X)
        given = points @ exact.exactly(prior.target[0])
        A = np.column_stack(
            [prior.slope_sd * given, points * exact.exactly(np.sqrt(prior.variance()))]
        )
        left, ones = exact.exactly(y) - prior.slope_mean * given, exact.exactly(weight)
        noise = mpmath.mpf(_leave_one_out.NOISE)
        params, intercept = exact.ridge(A, left, ones, noise)
        slope = prior.slope_mean + prior.slope_sd * params[0]
        coef = slope * exact.exactly(prior.target[0]) + params[1:] * np.sqrt(prior.variance())
        np.testing.assert_allclose(fit.coef[0], np.array(coef, float), rtol=1e-8, atol=1e-10)
        assert abs(fit.intercept[0] - intercept) < 1e-10
        squares = []
        for i in range(len(y)):
            rest = np.arange(len(y)) != i
            params, intercept = exact.ridge(A[rest], left[rest], ones[rest], noise)
            squares.append((left[i] - A[i] @ params - intercept) ** 2)
        density = -len(y) * mpmath.log(sum(squares) / len(y)) / 2
        assert abs(fit.log_evidence - density) < 1e-8 * max(abs(density), 1)
