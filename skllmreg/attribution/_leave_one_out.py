r"""Average regressions over priors in closed form, weighted by leave-one-out error.

A candidate's coefficients W = a T + V (see :mod:`._evidence`) are those of a ridge regression that
is drawn to the prior's mean instead of to zero. With A the features in coordinates in which the
prior is standard normal (the scores T x among them), everything centered, and noise variance s^2,

.. math:: \hat y = A (A' S A + s^2 I)^{-1} A' S y, \qquad
          e_i^{loo} = \frac{y_i - \hat y_i}{1 - h_i}

with the sample weights S and the leverage h_i. Candidates are weighted by the leave-one-out
log-density of a Gaussian, -n/2 log of the mean square of e^loo, times their prior weight.

References
----------
.. [1] Allen (1974), "The relationship between variable selection and data augmentation and a method
   for prediction", Technometrics 16 (PRESS).
.. [2] Yao, Vehtari, Simpson, Gelman (2018), "Using stacking to average Bayesian predictive
   distributions", Bayesian Analysis 13, section 3.4 (weights by leave-one-out density).
"""

import numpy as np
from scipy import sparse
from scipy.linalg import cho_factor, cho_solve, solve_triangular
from scipy.sparse.linalg import LinearOperator, cg

from skllmreg.attribution._gram import gram, spectrum
from skllmreg.attribution._laplace import MAX_DENSE, Posterior

SLOPES = ((0.5, 1.0),)  # in standard deviations of y per standard deviation of the score
NOISE = 0.5  # share of the variance of y that the features are expected to leave
ROWS = 1000  # of a block whose leverages are computed at once


class GaussianSolver:
    """Fit candidates to a target of mean 0 and variance 1.

    Parameters
    ----------
    X : {ndarray, sparse matrix} of shape (n_samples, n_features)
        Scaled features.
    Y : ndarray of shape (n_samples, 1)
    sample_weight : ndarray of shape (n_samples,)
        A row of weight 2 counts as two rows; one of them is left out.
    """

    def __init__(self, X, Y, sample_weight):
        self.weight, self.total = sample_weight, sample_weight.sum()
        self.mean, self.offset = (sample_weight @ A / self.total for A in (X, Y[:, 0]))
        self.X = X if sparse.issparse(X) else X - self.mean
        self.hidden_mean = self.mean if sparse.issparse(X) else np.zeros(X.shape[1])
        self.target = Y[:, 0] - self.offset
        self.grams = {}
        n, d = X.shape
        self.solve = self._in_features if d < n else self._in_rows
        if min(n, d) > MAX_DENSE:
            self.solve = self._iteratively
        elif d < n:
            self.gram = gram(self.X, sample_weight) - self.total * np.outer(
                self.hidden_mean, self.hidden_mean
            )

    def fit(self, prior, start=None):
        """Find the coefficients under one prior, and its leave-one-out log-density.

        Parameters
        ----------
        prior : Prior
        start : Posterior, default=None
            The fit under a similar prior; only large problems start there.

        Returns
        -------
        Posterior
            Its ``log_evidence`` is the leave-one-out log-density.
        """
        scores = self.times(prior.target[0])
        residual = self.target - prior.slope_mean * scores
        coef, slope, leverage = self.solve(prior, scores, residual, start)
        # A row of weight below 1 is left out whole.
        left_out = np.minimum(self.weight, 1) * (leverage + 1 / self.total)
        errors = (self.target - self.times(coef)) / np.maximum(1 - left_out, 1e-6)
        press = max(self.weight @ errors**2 / self.total, np.finfo(float).tiny)
        return Posterior(
            coef=coef[None],
            intercept=np.atleast_1d(self.offset - self.mean @ coef),
            slope=slope,
            log_evidence=-self.total / 2 * np.log(press),
            n_iter=1,
        )

    def times(self, v):
        """Centered features times v."""
        return self.X @ v - self.hidden_mean @ v

    def transposed_times(self, v):
        return self.X.T @ v - self.hidden_mean * v.sum()

    def _in_features(self, prior, scores, residual, start):
        del start
        sd = np.sqrt(prior.variance())
        right = self.transposed_times(self.weight * residual)
        along = self.gram @ prior.target[0]
        H = np.empty((1 + len(sd), 1 + len(sd)))
        H[1:, 1:] = sd[:, None] * self.gram * sd
        H[0, 1:] = H[1:, 0] = prior.slope_sd * sd * along
        H[0, 0] = prior.slope_sd**2 * prior.target[0] @ along
        H[np.diag_indices_from(H)] += NOISE
        factor = cho_factor(H, lower=True)
        params = cho_solve(factor, np.r_[prior.slope_sd * prior.target[0] @ right, sd * right])
        slope = prior.slope_mean + prior.slope_sd * params[0]
        leverage = np.empty(len(self.weight))
        for first in range(0, len(leverage), ROWS):
            part = slice(first, first + ROWS)
            rows = self.X[part].toarray() if sparse.issparse(self.X) else self.X[part]
            A = np.column_stack([prior.slope_sd * scores[part], (rows - self.hidden_mean) * sd])
            leverage[part] = np.sum(solve_triangular(factor[0], A.T, lower=True) ** 2, axis=0)
        return slope * prior.target[0] + sd * params[1:], slope, leverage

    def _in_rows(self, prior, scores, residual, start):
        del start
        if prior.transform not in self.grams:
            self.grams[prior.transform] = [
                self._centered(gram(self.X.T, variance)) if np.any(variance) else 0.0
                for variance in (prior.base_variance, prior.extra_variance)
            ]
        base, extra = self.grams[prior.transform]
        root = np.sqrt(self.weight)
        along = prior.slope_sd * scores
        B = (prior.tau**2 * base + extra + np.outer(along, along)) * np.outer(root, root)
        B[np.diag_indices_from(B)] += NOISE
        inverse = cho_solve(cho_factor(B, lower=True), np.eye(len(B)))
        dual = root * (inverse @ (root * residual))
        slope = prior.slope_mean + prior.slope_sd * along @ dual
        coef = slope * prior.target[0] + prior.variance() * self.transposed_times(dual)
        return coef, slope, (1 - NOISE * np.diag(inverse)) / self.weight

    def _centered(self, kernel):
        mean = self.weight @ kernel / self.total
        return kernel - mean - mean[:, None] + self.weight @ mean / self.total

    def _iteratively(self, prior, scores, residual, start):
        """By conjugate gradients, with the mean leverage in place of each row's."""
        sd = np.sqrt(prior.variance())
        right = self.transposed_times(self.weight * residual)

        def product(params):
            fitted = self.weight * (
                prior.slope_sd * params[0] * scores + self.times(sd * params[1:])
            )
            back = np.r_[prior.slope_sd * scores @ fitted, sd * self.transposed_times(fitted)]
            return back + NOISE * params

        first = np.zeros(1 + len(sd))
        if start is not None:
            first[1:] = (start.coef[0] - prior.slope_mean * prior.target[0]) / sd
        order = len(first)
        operator = LinearOperator((order, order), matvec=product, dtype=float)
        params, _ = cg(
            operator,
            np.r_[prior.slope_sd * scores @ (self.weight * residual), sd * right],
            x0=first,
            rtol=1e-6,
        )
        slope = prior.slope_mean + prior.slope_sd * params[0]
        nodes, shares = spectrum(self.X, np.sqrt(self.weight), sd)
        freedom = shares @ (nodes / (nodes + NOISE))
        leverage = np.full(len(self.weight), freedom / self.total)
        return slope * prior.target[0] + sd * params[1:], slope, leverage
