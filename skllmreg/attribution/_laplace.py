r"""Fit logistic regressions under many Gaussian priors, each with its Laplace evidence.

For the linear predictors :math:`\eta = X W' + b` a prior of :mod:`._evidence` is a Gaussian process
over the rows,

.. math:: \eta \sim N(\mu s, C), \qquad C = K + \sigma^2 s s' + \nu^2 1 1',
          \qquad K = X \, \mathrm{diag}(\tau^2 D + \delta) \, X'

with the scores :math:`s = X T'`. Its mode and its evidence,

.. math:: \log Z = - \min_\eta \left( \sum_i w_i \ell_i(\eta) + \frac{1}{2} (\eta - \mu s)' C^{-1}
          (\eta - \mu s) \right) - \frac{1}{2} \log \det (I + C R)

with the curvature R of the loss at the mode, are found in the space of the features or of the rows,
whichever is smaller [1]_, or iteratively where both are large. What is costly is shared:

- the kernels K are sums of two Gram matrices per score transform, whatever tau and slope are;
- in the space of features one weighted Gram matrix serves all candidates whose fits are near;
- a factorization is kept while the steps that it yields converge fast;
- every fit starts at the one before, whose tau is next to it.

References
----------
.. [1] Rasmussen, Williams (2006), "Gaussian Processes for Machine Learning", section 3.4.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse
from scipy.linalg import cho_factor, cho_solve
from scipy.linalg.blas import dsyr
from scipy.sparse.linalg import LinearOperator, cg

from skllmreg.attribution._gram import gram, spectrum
from skllmreg.attribution._loss import log_loss, probabilities

INTERCEPT_SD = 10.0
MAX_DENSE = 2000  # order of the largest matrix that is factorized
MAX_ITER = 100
FAST = 0.3  # ratio of two decrements beyond which a factorization is renewed
NEAR = 0.05  # bound of the change of log-determinants (in nats) up to which a curvature is reused
CHUNK = 2**22  # numbers in one block of the rows, where the Hessian has many


@dataclass(frozen=True)
class Posterior:
    """One candidate's fit."""

    coef: np.ndarray  # (n_outputs, n_features)
    intercept: np.ndarray  # (n_outputs,)
    slope: float
    log_evidence: float
    n_iter: int
    converged: bool = True
    dual: np.ndarray | None = None  # (n_outputs, n_samples): where the next fit starts


def laplace_solver(X, Y, sample_weight):
    """Choose the space in which the fits are cheapest, and the solver with ``fit(prior, start)``.

    Parameters
    ----------
    X : {ndarray, sparse matrix} of shape (n_samples, n_features)
        Scaled features.
    Y : ndarray of shape (n_samples, n_outputs)
    sample_weight : ndarray of shape (n_samples,)
    """
    (n, d), n_outputs = X.shape, Y.shape[1]
    in_features, in_rows = n_outputs * (d + 1), n_outputs * n
    if min(in_features, in_rows) > MAX_DENSE:
        return IterativeSolver(X, Y, sample_weight)
    # Multiplications of a weighted Gram matrix and a factorization, and of a factorization alone.
    if in_features**2 * (n + in_features / 3) < in_rows**3 / 3:
        return FeatureSolver(X, Y, sample_weight)
    return RowSolver(X, Y, sample_weight)


class NewtonSolver(ABC):
    """Newton's method with a Hessian that is renewed only when it has to be."""

    TOLERANCE = 1e-9  # of the decrease that is left

    def __init__(self, X, Y, sample_weight):
        self.X, self.Y, self.weight = X, Y, sample_weight
        self.curvature: Any = None
        self.curved_at: Any = None  # the probabilities that it belongs to
        self.freedom = min(X.shape) * Y.shape[1]

    def fit(self, prior, start=None):
        """Find the posterior mode under one prior, and its evidence.

        Parameters
        ----------
        prior : Prior
        start : Posterior, default=None
            The fit under a similar prior.

        Returns
        -------
        Posterior
        """
        self.use(prior)
        params = self.initial(start)
        value, gradient, P = self.evaluate(params)
        factor = self.factor(P)
        before, converged, n_iter = np.inf, False, 0
        while not converged and n_iter < MAX_ITER:
            n_iter += 1
            step = self.solve(factor, gradient)
            decrement = self.product(gradient, step)
            if decrement > FAST * before:
                factor = self.factor(P, renew=True)
                step = self.solve(factor, gradient)
                decrement = self.product(gradient, step)
            before = decrement
            # Near the solution the decrease drowns in rounding; there a full step is right.
            converged = bool(decrement < max(self.TOLERANCE, 4 * np.finfo(float).eps * abs(value)))
            params, value, gradient, P, length = self._search(
                params, value, step, 0 if converged else decrement
            )
            if length < 1e-10:
                break
        factor = self.factor(P, keep=factor)
        return self.posterior(params, -value - self.half_log_det(factor), n_iter, converged)

    def _search(self, params, value, step, decrement):
        """Halve the step until the value falls by a share of what is to be expected."""
        length = 1.0
        while True:
            trial = params - length * step
            found = self.evaluate(trial)
            if not decrement or found[0] <= value - 1e-4 * length * decrement or length < 1e-10:
                return trial, *found, length
            length /= 2

    def moved(self, P):
        """Bound of the change of the log-determinant since the curvature was computed."""
        if self.curved_at is None:
            return np.inf
        old, new = (self.weight @ (Q * (1 - Q)) for Q in (self.curved_at, P))
        change = self.weight @ np.abs(P * (1 - P) - self.curved_at * (1 - self.curved_at))
        return 0.5 * self.freedom * np.max(change / np.maximum(np.minimum(old, new), 1e-300))

    def product(self, gradient, step):
        """Compute by how much the step lowers the objective, twice."""
        return np.vdot(gradient, step)

    @abstractmethod
    def use(self, prior):
        """Prepare for a prior."""

    @abstractmethod
    def initial(self, start):
        """Make the parameters to start from, of another prior's fit or None."""

    @abstractmethod
    def evaluate(self, params):
        """Return the objective, its gradient, and the probabilities."""

    @abstractmethod
    def factor(self, P, renew=False, keep=None):
        """Factorize the Hessian; `keep` is returned if it is near enough, unless `renew`."""

    @abstractmethod
    def solve(self, factor, gradient):
        """Return the Newton step, whose opposite lowers the objective."""

    @abstractmethod
    def half_log_det(self, factor):
        """Compute half the log-determinant of the evidence."""

    @abstractmethod
    def posterior(self, params, log_evidence, n_iter, converged):
        """Make a `Posterior` of the parameters at the mode."""


class FeatureSolver(NewtonSolver):
    """In coordinates in which the prior is standard normal: slope, deviations and intercepts.

    ``params`` is (1 + n_outputs * (n_features + 1),).
    """

    def __init__(self, X, Y, sample_weight):
        super().__init__(X, Y, sample_weight)
        ones = np.ones((X.shape[0], 1))
        self.A = sparse.hstack([X, ones], format="csr") if sparse.issparse(X) else np.c_[X, ones]

    def use(self, prior):
        self.prior = prior
        sd = np.sqrt(prior.variance())
        self.sd = np.tile(np.r_[sd, INTERCEPT_SD], (self.Y.shape[1], 1))
        self.target = np.column_stack([prior.target, np.zeros(self.Y.shape[1])])

    def initial(self, start):
        if start is None:
            return np.zeros(1 + self.sd.size)
        prior = self.prior
        slope = (start.slope - prior.slope_mean) / prior.slope_sd if prior.slope_sd else 0.0
        slope = np.clip(slope, -3, 3)  # the prior's slope may be another one
        W = np.column_stack([start.coef, start.intercept])
        rest = W - (prior.slope_mean + prior.slope_sd * slope) * self.target
        return np.r_[slope, (rest / self.sd).ravel()]

    def coefficients(self, params):
        slope = self.prior.slope_mean + self.prior.slope_sd * params[0]
        return slope, slope * self.target + self.sd * params[1:].reshape(self.sd.shape)

    def evaluate(self, params):
        W = self.coefficients(params)[1]
        eta = self.A @ W.T
        P = probabilities(eta)
        residual = (P - self.Y) * self.weight[:, None]
        value = self.weight @ log_loss(eta, self.Y) + 0.5 * params @ params
        by_coef = (self.A.T @ residual).T
        gradient = np.r_[
            self.prior.slope_sd * np.vdot(by_coef, self.target), (self.sd * by_coef).ravel()
        ]
        return value, gradient + params, P

    def factor(self, P, renew=False, keep=None):
        if renew or self.moved(P) > NEAR:
            self.curvature, self.curved_at = self.hessian(P), P
        elif keep is not None:
            return keep
        sd, slope_sd = self.sd.ravel(), self.prior.slope_sd
        along = self.curvature @ self.target.ravel()
        H = np.empty((1 + sd.size, 1 + sd.size))
        np.multiply(self.curvature, sd, out=H[1:, 1:])
        H[1:, 1:] *= sd[:, None]
        H[0, 1:] = H[1:, 0] = slope_sd * sd * along
        H[0, 0] = slope_sd**2 * self.target.ravel() @ along
        H[np.diag_indices_from(H)] += 1
        return cho_factor(H, lower=True, overwrite_a=True, check_finite=False)

    def hessian(self, P):
        """Hessian of the loss by coefficients and intercepts, output by output."""
        n_outputs, size = self.sd.shape
        H = np.zeros((n_outputs * size, n_outputs * size))
        rows = max(1, CHUNK // (n_outputs * size))
        for first in range(0, len(P), rows):
            part = slice(first, first + rows)
            A, p, weight = self.A[part], P[part], self.weight[part, None]
            if n_outputs == 1:
                H += gram(A, (weight * p * (1 - p))[:, 0])
                continue
            for k in range(n_outputs):
                block = slice(k * size, (k + 1) * size)
                H[block, block] += gram(A, (weight * p[:, [k]])[:, 0])
            H -= gram(_stacked(A, p), weight[:, 0])
        return H

    def solve(self, factor, gradient):
        return cho_solve(factor, gradient, check_finite=False)

    def half_log_det(self, factor):
        return np.log(np.diag(factor[0])).sum()

    def posterior(self, params, log_evidence, n_iter, converged):
        slope, W = self.coefficients(params)
        return Posterior(W[:, :-1], W[:, -1], slope, log_evidence, n_iter, converged)


def _stacked(A, p):
    """Rows times each of their probabilities, side by side."""
    if sparse.issparse(A):
        return sparse.hstack([A.multiply(p[:, [k]]) for k in range(p.shape[1])], format="csr")
    return (p[:, :, None] * A[:, None, :]).reshape(len(A), -1)


class RowSolver(NewtonSolver):
    """In the space of the rows: ``eta = mean + C params``, params (n_outputs, n_samples)."""

    def __init__(self, X, Y, sample_weight):
        super().__init__(X, Y, sample_weight)
        self.kernels = {}

    def use(self, prior):
        self.prior = prior
        if prior.transform not in self.kernels:
            parts = (prior.base_variance, prior.extra_variance)
            self.kernels[prior.transform] = [
                gram(self.X.T, variance) if np.any(variance) else 0.0 for variance in parts
            ]
        base, extra = self.kernels[prior.transform]
        self.kernel = prior.tau**2 * base
        self.kernel += extra + INTERCEPT_SD**2
        self.scores = np.asarray(self.X @ prior.target.T).T

    def initial(self, start):
        """Return the best multiple of the start, which belongs to another tau or slope."""
        if start is None:
            return np.zeros(self.Y.T.shape)
        mean, deviation = self.prior.slope_mean * self.scores, self.times_prior(start.dual)
        size, length = np.vdot(start.dual, deviation), 1.0
        for _ in range(5):
            P = probabilities((mean + length * deviation).T).T
            slope = np.vdot(self.weight * (P - self.Y.T), deviation) + length * size
            variance = np.sum(P * deviation**2, axis=0) - np.sum(P * deviation, axis=0) ** 2
            length = np.clip(length - slope / (self.weight @ variance + size), 0.1, 2.0)
        return length * start.dual

    def times_prior(self, params):
        return params @ self.kernel + self.prior.slope_sd**2 * (
            np.vdot(self.scores, params) * self.scores
        )

    def evaluate(self, params):
        deviation = self.times_prior(params)
        eta = (self.prior.slope_mean * self.scores + deviation).T
        P = probabilities(eta)
        residual = ((P - self.Y) * self.weight[:, None]).T
        value = self.weight @ log_loss(eta, self.Y) + 0.5 * np.vdot(params, deviation)
        return value, params + residual, P

    def product(self, gradient, step):
        return np.vdot(gradient, self.times_prior(step))

    def factor(self, P, renew=False, keep=None):
        if keep is not None and self.moved(P) <= NEAR:
            return keep
        self.curved_at = P
        n, n_outputs = P.shape
        if n_outputs == 1:
            root = np.sqrt(self.weight * (P * (1 - P))[:, 0])[None, :, None]
            B = self.kernel * root[0]
            B *= root[0, :, 0]
        else:
            # sqrt(p) (I - sqrt(p) sqrt(p)') is a root of a row's curvature.
            half = np.sqrt(P)
            root = np.eye(n_outputs)[:, None, :] - half.T[:, :, None] * half
            root *= np.sqrt(self.weight[:, None]) * half
            flat = root.reshape(n_outputs * n, n_outputs)
            B = flat @ flat.T
            B.reshape(n_outputs, n, n_outputs, n)[...] *= self.kernel[None, :, None, :]
        if self.prior.slope_sd:
            along = self.prior.slope_sd * np.einsum("kia,ai->ki", root, self.scores).ravel()
            B = dsyr(1.0, along, a=B.T, lower=1, overwrite_a=True).T
        B[np.diag_indices_from(B)] += 1
        return root, cho_factor(B.T, lower=True, overwrite_a=True, check_finite=False)

    def solve(self, factor, gradient):
        root, factor = factor
        right = np.einsum("kia,ai->ki", root, self.times_prior(gradient))
        inner = cho_solve(factor, right.ravel(), check_finite=False).reshape(right.shape)
        return gradient - np.einsum("kia,ki->ai", root, inner)

    def half_log_det(self, factor):
        return np.log(np.diag(factor[1][0])).sum()

    def posterior(self, params, log_evidence, n_iter, converged):
        prior = self.prior
        slope = prior.slope_mean + prior.slope_sd**2 * np.vdot(self.scores, params)
        coef = slope * prior.target + (self.X.T @ params.T).T * prior.variance()
        intercept = INTERCEPT_SD**2 * params.sum(axis=1)
        return Posterior(coef, intercept, slope, log_evidence, n_iter, converged, dual=params)


class IterativeSolver(NewtonSolver):
    """Where both spaces are large: steps by conjugate gradients, and an estimated determinant.

    The determinant needs the spectrum of the features' weighted Gram matrix, which is sampled by
    products with X alone. With several outputs the curvature is taken as its mean over the rows
    times the rows' weights (Kronecker-factored, [1]_).

    ``params`` is (1 + n_outputs * (n_features + 1),) as in `FeatureSolver`.

    References
    ----------
    .. [1] Ritter, Botev, Barber (2018), "A scalable Laplace approximation for neural networks".
    """

    TOLERANCE = 1e-5
    N_CONJUGATE = 50

    def __init__(self, X, Y, sample_weight):
        super().__init__(X, Y, sample_weight)
        self.X_transposed = X.T.tocsr() if sparse.issparse(X) else X.T

    def use(self, prior):
        self.prior = prior
        self.sd = np.sqrt(prior.variance())
        self.scores = np.asarray(self.X @ prior.target.T)

    def unpack(self, params):
        V, b = np.split(params[1:], [self.Y.shape[1] * len(self.sd)])
        return self.prior.slope_sd * params[0], V.reshape(-1, len(self.sd)), INTERCEPT_SD * b

    def initial(self, start):
        if start is None:
            return np.zeros(1 + self.Y.shape[1] * (len(self.sd) + 1))
        V = (start.coef - self.prior.slope_mean * self.prior.target) / self.sd
        return np.r_[0.0, V.ravel(), start.intercept / INTERCEPT_SD]

    def predictors(self, params):
        """Linear predictors without the prior's mean, (n_samples, n_outputs)."""
        slope, V, b = self.unpack(params)
        return slope * self.scores + self.X @ (V * self.sd).T + b

    def transposed(self, residual):
        """Transpose of what `predictors` does."""
        return np.r_[
            self.prior.slope_sd * np.vdot(residual, self.scores),
            ((self.X_transposed @ residual).T * self.sd).ravel(),
            INTERCEPT_SD * residual.sum(axis=0),
        ]

    def evaluate(self, params):
        eta = self.prior.slope_mean * self.scores + self.predictors(params)
        self.P = probabilities(eta)
        gradient = self.transposed((self.P - self.Y) * self.weight[:, None]) + params
        value = self.weight @ log_loss(eta, self.Y) + 0.5 * params @ params
        return value, gradient, self.P

    def factor(self, P, renew=False, keep=None):
        return P

    def solve(self, factor, gradient):
        """Solve roughly with the Hessian at the present point."""
        P, weight = self.P, self.weight[:, None]

        def hessian_times(params):
            change = P * self.predictors(params)
            share = change if P.shape[1] == 1 else change.sum(axis=1, keepdims=True)
            return self.transposed(weight * (change - P * share)) + params

        operator = LinearOperator((len(gradient),) * 2, matvec=hessian_times, dtype=float)
        return cg(operator, gradient, rtol=0.1, maxiter=self.N_CONJUGATE)[0]

    def half_log_det(self, factor):
        P, weight = factor, self.weight
        beside = np.full((len(P), 1), INTERCEPT_SD)
        if P.shape[1] == 1:
            beside = np.c_[beside, self.prior.slope_sd * self.scores]
            nodes, shares = spectrum(self.X, np.sqrt(weight * (P * (1 - P))[:, 0]), self.sd, beside)
            return 0.5 * shares @ np.log1p(nodes)
        weighted = P * (weight / weight.sum())[:, None]
        outputs = np.linalg.eigvalsh(np.diag(weighted.sum(axis=0)) - weighted.T @ P)
        nodes, shares = spectrum(self.X, np.sqrt(weight), self.sd, beside)
        log_det = shares @ np.log1p(np.outer(nodes, np.maximum(outputs, 0))).sum(axis=1)
        variance = np.sum(P * self.scores**2, axis=1) - np.sum(P * self.scores, axis=1) ** 2
        return 0.5 * (log_det + np.log1p(self.prior.slope_sd**2 * weight @ variance))

    def posterior(self, params, log_evidence, n_iter, converged):
        slope, V, b = self.unpack(params)
        slope += self.prior.slope_mean
        coef = slope * self.prior.target + V * self.sd
        return Posterior(coef, b, slope, log_evidence, n_iter, converged)
