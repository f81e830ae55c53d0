r"""Linear model with a fixed weight on the alignment of its coefficients with the scores.

The objective, for coefficients W (n_outputs, n_features) and a target direction T of length 1:

.. math:: \frac{\sum_i s_i \ell(y_i, W x_i + b)}{\sum_i s_i} + \gamma (1 - \cos(W, T))
          + \frac{\alpha}{2} \|W\|^2

with the Frobenius inner product in the cosine. For a linear model this is the regularizer of LAAT
[1]_, whose weight is 2/d times its gamma. With several classes the minimizer is centered over the
classes by itself (T is, the ridge wants it and the loss does not mind), so that softmax's free
gauge does not matter.

The cosine ignores the length of W. Where the labels contradict the scores, the objective would
therefore like W -> 0 along T: no loss on the alignment, log 2 on the labels. So W = r V/|V| with
r >= `MIN_LENGTH`, and the length is one variable of the search. Such an objective has two valleys;
both are searched.

References
----------
.. [1] Vukadin, Šilić, Delač (2025), arXiv:2502.20268, equation of the attribution loss.
"""

import numpy as np
from scipy.optimize import Bounds, minimize

MIN_LENGTH = 1e-3


def fit_aligned(X, Y, sample_weight, target, loss, *, gamma, alpha, max_iter, tol):
    """Minimize the objective from the direction of the scores, and from that of the labels.

    Parameters
    ----------
    X : {ndarray, sparse matrix} of shape (n_samples, n_features)
    Y : ndarray of shape (n_samples, n_outputs)
    sample_weight : ndarray of shape (n_samples,)
    target : ndarray of shape (n_outputs, n_features)
        Of length 1; all zero means that there is nothing to align with.
    loss : Loss
    gamma, alpha : float
    max_iter : int
    tol : float
        Largest entry of the gradient at the solution.

    Returns
    -------
    coef : ndarray of shape (n_outputs, n_features)
    intercept : ndarray of shape (n_outputs,)
    n_iter : int
    converged : bool
    """
    n_outputs, n_features = Y.shape[1], X.shape[1]
    weight = sample_weight / sample_weight.sum()

    def mean_loss(W, b):
        """Return the mean loss with its gradients by W and b."""
        eta = np.asarray(X @ W.T) + b
        residual = (loss.mean(eta) - Y) * weight[:, None]
        return weight @ loss.value(eta, Y), (X.T @ residual).T, residual.sum(axis=0)

    def plain(params):
        W, b = np.split(params, [n_outputs * n_features])
        W = W.reshape(n_outputs, n_features)
        value, dW, db = mean_loss(W, b)
        return value + alpha / 2 * np.vdot(W, W), np.r_[(dW + alpha * W).ravel(), db]

    def aligned(params):
        V, length, b = np.split(params, [n_outputs * n_features, n_outputs * n_features + 1])
        V = V.reshape(n_outputs, n_features)
        size = np.linalg.norm(V)
        direction = V / size
        value, dW, db = mean_loss(length * direction, b)
        # 1 - cos without the cancellation that would drown the loss where gamma is large.
        value += gamma / 2 * np.sum((direction - target) ** 2) + alpha / 2 * length[0] ** 2
        dU = length * dW - gamma * target
        # The length of V is free: its gradient has no part along V.
        dV = (dU - np.vdot(dU, direction) * direction) / size
        return value, np.r_[dV.ravel(), np.vdot(dW, direction) + alpha * length, db]

    def search_plain():
        start = np.zeros(n_outputs * (n_features + 1))
        result, converged = _search(plain, start, -np.inf, max_iter, tol)
        W, b = np.split(result.x, [n_outputs * n_features])
        return W.reshape(n_outputs, n_features), b, result.nit, converged

    if gamma == 0 or not np.any(target):
        return search_plain()
    # |V| is free and scales its part of the Hessian, gamma / |V|^2: this is near that of the rest.
    size = max(1.0, 3 * np.sqrt(gamma))
    starts = [np.r_[size * target.ravel(), 1.0, np.zeros(n_outputs)]]
    base_rates = np.zeros((n_outputs, n_features)), loss.intercept(weight @ Y)
    if np.vdot(mean_loss(*base_rates)[1], target) >= 0:
        # The labels contradict the scores. On the way from the scores' direction to that of the
        # labels the length may get stuck at its bound: the way from the labels' side counts too.
        W, b, *_ = search_plain()
        if slope := np.linalg.norm(W):
            starts.append(np.r_[size * W.ravel() / slope, max(slope, MIN_LENGTH), b])
    lower = np.full(len(starts[0]), -np.inf)
    lower[n_outputs * n_features] = MIN_LENGTH
    result, converged = min(
        (_search(aligned, start, lower, max_iter, tol) for start in starts),
        key=lambda found: found[0].fun,
    )
    V, length, b = np.split(result.x, [n_outputs * n_features, n_outputs * n_features + 1])
    V = V.reshape(n_outputs, n_features)
    return length * V / np.linalg.norm(V), b, result.nit, converged


def _search(function, start, lower, max_iter, tol):
    """Minimize by L-BFGS-B.

    Parameters
    ----------
    function : callable
        Returns a value and its gradient.
    start : ndarray
    lower : float or ndarray
        Lower bounds.
    max_iter : int
    tol : float
        Largest entry of the gradient at the solution.

    Returns
    -------
    result : OptimizeResult
    converged : bool
    """
    options = {
        "maxiter": max_iter,
        "maxfun": 2 * max_iter,
        "gtol": tol,
        "ftol": 0,  # `tol` decides
        "maxcor": 20,
    }
    result = minimize(
        function, start, jac=True, method="L-BFGS-B", bounds=Bounds(lower), options=options
    )
    free = result.jac[result.x > lower]  # at a bound the gradient need not vanish
    # It also stops where rounding hides all progress: near enough, or not.
    return result, bool(result.status != 1 and np.abs(free).max() < 100 * tol)
