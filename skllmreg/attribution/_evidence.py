r"""How far to trust the scores, from the data: an average over priors, weighted by evidence.

A *candidate* is a Gaussian prior on the coefficients of scaled features,

.. math:: W = a T + V, \quad a \sim N(\mu, (3\mu/8)^2), \quad
          V_{kj} \sim N(0, \tau^2 D_j + \delta_{j})

with the direction T of the transformed scores, made so that the score T x has unit spread over
the rows; a slope `a` that is positive by almost three standard deviations, without which one row
per class could flip the sign; and deviations V that are larger for features the LLM finds relevant
(D_j grows with T_j^2, mean 1) and for those its estimates disagree on (delta_j, the variance of T_j
over the estimates). Small tau means "trust the LLM". The candidates are a grid of tau for each of
several score transforms, with a moderate slope and a steep one, and a grid without the scores
(T = 0): the plain ridge, which is what remains if the scores turn out to be wrong.

Each candidate is fitted to its posterior mode and weighted by its Laplace evidence times a prior
weight (log-normal in tau); the model is the weighted mean of the fits. This is Bayesian model
averaging [1]_ with the evidence of MacKay [2]_.

The constants were chosen on seven data sets, by splits other than those that show the results;
``benchmarks/attribution_prior.py`` judges them with each data set left out in turn.

References
----------
.. [1] Hoeting, Madigan, Raftery, Volinsky (1999), "Bayesian model averaging: a tutorial",
   Statistical Science 14, equations 1-3.
.. [2] MacKay (1992), "The evidence framework applied to classification networks", Neural
   Computation 4, equation 4.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy import sparse
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize
from scipy.special import softmax

from skllmreg.attribution._loss import curvature, log_loss, probabilities
from skllmreg.attribution._scores import target_direction

SLOPES = ((0.8, 0.9), (2.4, 0.1))  # means with prior weights: most tasks, and easy ones
SLOPE_SD = 3 / 8  # relative to the mean
TAUS = np.geomspace(0.01, 1, 8)
TAU_MEDIAN, LOG_TAU_SD = 0.05, 1.0
PLAIN_FACTOR = 4.0  # the plain ridge has these times the taus: nothing else carries its signal
PLAIN_WEIGHT = 0.05  # prior weight of "the scores are worthless"
BASE_VARIANCE = 0.2  # share of the deviation's variance that does not depend on relevance
PSEUDO_ROWS = 10  # weight of "features are uncorrelated" when the spread of T x is estimated
INTERCEPT_SD = 10.0
MAX_PARAMETERS = 1500  # of a dense Hessian


@dataclass(frozen=True)
class Prior:
    """One candidate's prior on the coefficients (n_outputs, n_features) of scaled features."""

    transform: str
    tau: float
    target: np.ndarray  # of the size that the slope refers to
    slope_mean: float
    slope_sd: float
    deviation_sd: np.ndarray  # (n_features,)
    log_weight: float


@dataclass(frozen=True)
class Posterior:
    """One candidate's fit."""

    coef: np.ndarray
    intercept: np.ndarray
    slope: float
    log_evidence: float
    n_iter: int
    converged: bool = True


def candidate_priors(X, sample_weight, n_outputs, estimates, transforms, slopes=SLOPES):
    """Make the grid of priors; see the head of this file.

    Parameters
    ----------
    X : {ndarray, sparse matrix} of shape (n_samples, n_features)
        Scaled features.
    sample_weight : ndarray of shape (n_samples,)
    n_outputs : int
    estimates : ndarray of shape (n_estimates, n_outputs, n_features) or None
        The LLM's scores; None leaves the plain ridge alone.
    transforms : dict of str to (callable, float)
        Score transforms with their prior weights.
    slopes : tuple of (float, float)
        Prior means of the slope, with prior weights.

    Returns
    -------
    list of Prior
    """
    n_features, total = X.shape[1], sample_weight.sum()
    # A new row is farther out than the rows that made the scale: the factor between the standard
    # deviation of `total` rows and the predictive one.
    shrink = np.sqrt(max(total - 1, 0.5) / (total + 1))
    # With an output per class, what counts is the difference of two of them.
    deviation = shrink / np.sqrt(min(n_outputs, 2))
    grid = [(tau, -0.5 * (np.log(tau / TAU_MEDIAN) / LOG_TAU_SD) ** 2) for tau in TAUS]
    priors = []
    useful = estimates is not None and np.any(estimates)
    for name, (transform, weight) in transforms.items() if useful else ():
        target = target_direction(estimates.mean(axis=0), transform)
        each = np.stack([target_direction(scores, transform) for scores in estimates])
        size = _score_spread(np.asarray(X @ target.T), sample_weight)
        relevance = n_features * np.sum(target**2, axis=0)
        base = BASE_VARIANCE + (1 - BASE_VARIANCE) * relevance
        disagreement = each.var(axis=0).sum(axis=0) / size**2
        for (slope, slope_weight), (tau, log_weight) in product(slopes, grid):
            priors.append(
                Prior(
                    transform=name,
                    tau=tau,
                    target=target / size,
                    slope_mean=shrink * slope,
                    slope_sd=shrink * slope * SLOPE_SD,
                    deviation_sd=deviation * np.sqrt(tau**2 * base + disagreement),
                    log_weight=log_weight + np.log((1 - PLAIN_WEIGHT) * weight * slope_weight),
                )
            )
    for tau, log_weight in grid:
        priors.append(
            Prior(
                transform="none",
                tau=PLAIN_FACTOR * tau,
                target=np.zeros((n_outputs, n_features)),
                slope_mean=0.0,
                slope_sd=0.0,
                deviation_sd=np.full(n_features, deviation * PLAIN_FACTOR * tau),
                log_weight=log_weight + np.log(PLAIN_WEIGHT),
            )
        )
    return priors


def _score_spread(scores, sample_weight):
    """Spread of the scores T x over the rows, drawn to that of uncorrelated features.

    Several outputs count by the mean square of the differences between two of them.
    """
    n_outputs, total = scores.shape[1], sample_weight.sum()
    pairs = 1 if n_outputs == 1 else 2 * n_outputs / (n_outputs - 1)
    centered = scores - sample_weight @ scores / total
    observed = np.mean(sample_weight @ centered**2) / total
    uncorrelated = 1 / n_outputs  # |T| = 1
    return np.sqrt(pairs * (total * observed + PSEUDO_ROWS * uncorrelated) / (total + PSEUDO_ROWS))


def fit_candidate(X, Y, sample_weight, prior):
    """Find the posterior mode under one prior, and its evidence.

    Everything happens in coordinates in which the prior is standard normal: the slope, the
    deviations and the intercepts, in this order.
    """
    if 1 + Y.shape[1] * (min(X.shape) + 1) > MAX_PARAMETERS:
        return _fit_large(X, Y, sample_weight, prior)
    features, back = whitened(X, prior.deviation_sd)
    A = np.column_stack([features, np.ones(len(features))])
    penalty = np.r_[np.ones(features.shape[1]), 1 / INTERCEPT_SD**2]
    scores = np.asarray(X @ prior.target.T)
    n_outputs = Y.shape[1]

    def unpack(params):
        slope = prior.slope_mean + prior.slope_sd * params[0]
        return slope, params[1:].reshape(n_outputs, -1)

    def objective(params):
        slope, B = unpack(params)
        eta = slope * scores + A @ B.T
        value = sample_weight @ log_loss(eta, Y) + 0.5 * (params[0] ** 2 + np.sum(penalty * B**2))
        return value, eta

    def derivatives(params, eta):
        _, B = unpack(params)
        P = probabilities(eta)
        residual = (P - Y) * sample_weight[:, None]
        gradient = np.r_[
            prior.slope_sd * np.vdot(residual, scores) + params[0],
            (residual.T @ A + penalty * B).ravel(),
        ]
        size = A.shape[1]
        hessian = np.diag(np.r_[1.0, np.tile(penalty, n_outputs)])
        for k in range(n_outputs):
            rows = slice(1 + k * size, 1 + (k + 1) * size)
            for m in range(n_outputs):
                columns = slice(1 + m * size, 1 + (m + 1) * size)
                weight = sample_weight * curvature(P, k, m)
                hessian[rows, columns] += A.T @ (weight[:, None] * A)
                with_slope = prior.slope_sd * (weight * scores[:, m]) @ A
                hessian[rows, 0] += with_slope
                hessian[0, rows] += with_slope
                hessian[0, 0] += prior.slope_sd**2 * weight @ (scores[:, k] * scores[:, m])
        return gradient, hessian

    params, value, factor, n_iter, converged = newton(
        objective, derivatives, np.zeros(1 + n_outputs * A.shape[1])
    )
    slope, B = unpack(params)
    return Posterior(
        coef=slope * prior.target + back(B[:, :-1]),
        intercept=B[:, -1],
        slope=slope,
        log_evidence=-value - np.log(np.diag(factor[0])).sum(),
        n_iter=n_iter,
        converged=converged,
    )


def newton(objective, derivatives, params, max_iter=100):
    """Minimize a strictly convex function by damped Newton steps.

    Returns the minimizer, the minimum, the Cholesky factor of the Hessian one (last, tiny) step
    before it, the number of steps, and whether they were enough.
    """
    value, state = objective(params)
    for n_iter in range(1, max_iter + 1):
        gradient, hessian = derivatives(params, state)
        factor = cho_factor(hessian, lower=True)
        step = cho_solve(factor, gradient)
        decrement = gradient @ step
        # Near the solution the decrease drowns in rounding; there a full step is right.
        near = decrement < max(1e-9, 4 * np.finfo(float).eps * abs(value))
        length = 1.0
        while True:
            trial = params - length * step
            trial_value, trial_state = objective(trial)
            if trial_value <= value - 1e-4 * length * decrement or near:
                break
            length /= 2
            if length < 1e-10:
                return params, value, factor, n_iter, False
        params, value, state = trial, trial_value, trial_state
        if near:  # convergence is quadratic: the step just made ends it
            break
    return params, value, factor, n_iter, bool(near)


def whitened(X, deviation_sd):
    """Features whose coefficients have unit prior variance, and the way back to those of X.

    With more features than rows only the span of the rows matters: as many features as rows do.
    """
    if X.shape[1] <= X.shape[0]:
        dense = X.toarray() if sparse.issparse(X) else X
        return dense * deviation_sd, lambda B: B * deviation_sd
    if sparse.issparse(X):
        X = X @ sparse.diags_array(deviation_sd)
        values, vectors = np.linalg.eigh((X @ X.T).toarray())
        keep = values > values[-1] * len(values) * np.finfo(float).eps
        features = vectors[:, keep] * np.sqrt(values[keep])
        return (
            features,
            lambda B: (X.T @ (vectors[:, keep] / np.sqrt(values[keep]) @ B.T)).T * deviation_sd,
        )
    span, triangle = np.linalg.qr((X * deviation_sd).T)
    return triangle.T, lambda B: (B @ span.T) * deviation_sd


def _fit_large(X, Y, sample_weight, prior):
    """Do the same where a dense Hessian is too large: quasi-Newton and a factored evidence.

    The curvature is taken as (mean over rows of the curvature by the outputs) x (that of the
    features): the Kronecker-factored Laplace approximation (Ritter, Botev, Barber 2018).
    """
    n_outputs, n_features = Y.shape[1], X.shape[1]
    scores = np.asarray(X @ prior.target.T)

    def unpack(params):
        V, b = np.split(params[1:], [n_outputs * n_features])
        slope = prior.slope_mean + prior.slope_sd * params[0]
        return slope, V.reshape(n_outputs, n_features), b

    def objective(params):
        slope, V, b = unpack(params)
        eta = slope * scores + np.asarray(X @ (V * prior.deviation_sd).T) + b
        residual = (probabilities(eta) - Y) * sample_weight[:, None]
        value = sample_weight @ log_loss(eta, Y) + 0.5 * (
            params[0] ** 2 + np.vdot(V, V) + np.vdot(b, b) / INTERCEPT_SD**2
        )
        gradient = np.r_[
            prior.slope_sd * np.vdot(residual, scores) + params[0],
            ((X.T @ residual).T * prior.deviation_sd + V).ravel(),
            residual.sum(axis=0) + b / INTERCEPT_SD**2,
        ]
        return value, gradient

    result = minimize(
        objective,
        np.zeros(1 + n_outputs * (n_features + 1)),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": 500, "gtol": 1e-6 * sample_weight.sum(), "ftol": 1e-10},
    )
    slope, V, b = unpack(result.x)
    coef = slope * prior.target + V * prior.deviation_sd
    P = probabilities(np.asarray(X @ coef.T) + b)
    mean_curvature = (
        np.array(
            [
                [sample_weight @ curvature(P, k, m) for m in range(n_outputs)]
                for k in range(n_outputs)
            ]
        )
        / sample_weight.sum()
    )
    outputs = np.maximum(np.linalg.eigvalsh(mean_curvature), 0)
    log_det = np.log1p(np.outer(outputs, _gram_spectrum(X, sample_weight, prior))).sum()
    evidence = -result.fun - 0.5 * log_det
    return Posterior(coef, b, slope, evidence, result.nit, converged=result.status != 1)


def _gram_spectrum(X, sample_weight, prior):
    """Eigenvalues of the features' weighted Gram matrix, or its diagonal where that is too large.

    The diagonal gives an upper bound of the determinant (Hadamard).
    """
    if min(X.shape) > MAX_PARAMETERS:
        squares = X.multiply(X) if sparse.issparse(X) else X * X
        return prior.deviation_sd**2 * (squares.T @ sample_weight)
    half = sparse.diags_array(np.sqrt(sample_weight)) @ X @ sparse.diags_array(prior.deviation_sd)
    gram = half @ half.T if X.shape[0] < X.shape[1] else half.T @ half
    return np.maximum(np.linalg.eigvalsh(gram.toarray() if sparse.issparse(gram) else gram), 0)


def model_average(priors, posteriors):
    """Weights of the candidates, and the mean of their coefficients and intercepts."""
    weights = softmax(
        [prior.log_weight + fit.log_evidence for prior, fit in zip(priors, posteriors, strict=True)]
    )
    coef = np.einsum("c,ckj->kj", weights, [fit.coef for fit in posteriors])
    intercept = weights @ [fit.intercept for fit in posteriors]
    return weights, coef, intercept
