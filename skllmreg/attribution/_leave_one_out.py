r"""The same average over priors for a regression: closed form, weighted by leave-one-out error.

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
from scipy.linalg import cho_factor, cho_solve

from skllmreg.attribution._evidence import Posterior, whitened

SLOPES = ((0.5, 1.0),)  # in standard deviations of y per standard deviation of the score
NOISE = 0.5  # share of the variance of y that the features are expected to leave


def fit_gaussian(X, Y, sample_weight, prior):
    """Fit one candidate to a target of mean 0 and variance 1.

    Parameters
    ----------
    X : {ndarray, sparse matrix} of shape (n_samples, n_features)
        Scaled features.
    Y : ndarray of shape (n_samples, 1)
    sample_weight : ndarray of shape (n_samples,)
        A row of weight 2 counts as two rows; one of them is left out.
    prior : Prior

    Returns
    -------
    Posterior
        Its ``log_evidence`` is the leave-one-out log-density.
    """
    total = sample_weight.sum()
    scores = np.asarray(X @ prior.target.T)[:, 0]
    features, back = whitened(X, prior.deviation_sd)
    A = np.column_stack([prior.slope_sd * scores, features])
    residual = Y[:, 0] - prior.slope_mean * scores
    mean, offset = sample_weight @ A / total, sample_weight @ residual / total
    A, residual = A - mean, residual - offset
    gram = (A.T * sample_weight) @ A + NOISE * np.eye(A.shape[1])
    factor = cho_factor(gram, lower=True)
    params = cho_solve(factor, A.T @ (sample_weight * residual))
    leverage = np.einsum("ij,ji->i", A, cho_solve(factor, A.T)) + 1 / total
    # A row of weight below 1 is left out whole.
    left_out = np.minimum(sample_weight, 1) * leverage
    errors = (residual - A @ params) / np.maximum(1 - left_out, 1e-6)
    press = max(sample_weight @ errors**2 / total, np.finfo(float).tiny)
    slope = prior.slope_mean + prior.slope_sd * params[0]
    return Posterior(
        coef=slope * prior.target + back(params[None, 1:]),
        intercept=np.atleast_1d(offset - mean @ params),
        slope=slope,
        log_evidence=-total / 2 * np.log(press),
        n_iter=1,
    )
