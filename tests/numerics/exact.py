"""The objectives of the linear models in 30 digits, and their minima by Newton's method.

Written from the formulas in the heads of `_aligned`, `_laplace` and `_leave_one_out`, with plain
loops and full Hessians: slow, for a dozen rows. Arrays of mpmath numbers are object arrays, so
that the formulas read as in numpy.
"""

import mpmath
import numpy as np

DIGITS = 30


def exactly(array):
    """The same numbers, to be computed with in many digits."""
    return np.vectorize(mpmath.mpf, otypes=[object])(np.asarray(array, dtype=float))


def probabilities(eta):
    if eta.shape[1] == 1:
        return np.array([[1 / (1 + mpmath.exp(-e[0]))] for e in eta])
    weights = np.array([[mpmath.exp(e - max(row)) for e in row] for row in eta])
    return weights / weights.sum(axis=1, keepdims=True)


def log_loss(eta, Y):
    others = 1 if eta.shape[1] == 1 else 0  # the first of two classes has the logit 0
    normalizer = [mpmath.log(others + sum(mpmath.exp(e) for e in row)) for row in eta]
    return np.array(normalizer) - (eta * Y).sum(axis=1)


def loss_derivatives(loss, A, Y, weight, B):
    """Value, gradient and Hessian of the weighted loss by the coefficients B (n_outputs, size)."""
    eta = A @ B.T
    n_outputs, size = B.shape
    if loss == "squared":
        P, curvature = eta, lambda k, m: np.array([mpmath.mpf(k == m)] * len(A))
        value = weight @ ((eta - Y) ** 2).sum(axis=1) / 2
    else:
        P = probabilities(eta)
        value = weight @ log_loss(eta, Y)

        def curvature(k, m):
            return P[:, k] * ((k == m) - P[:, m])

    gradient = ((P - Y).T * weight) @ A
    hessian = np.block(
        [
            [A.T @ ((weight * curvature(k, m))[:, None] * A) for m in range(n_outputs)]
            for k in range(n_outputs)
        ]
    )
    return value, gradient.ravel(), hessian


def aligned(loss, X, Y, weight, target, *, gamma, alpha):
    """The objective of `fit_aligned`, as a function of the coefficients with intercepts last."""
    X, Y, target = exactly(X), exactly(Y), exactly(target)
    weight = exactly(weight)
    weight = weight / weight.sum()
    A = np.column_stack([X, exactly(np.ones(len(X)))])
    n_outputs, size = len(target), A.shape[1]
    is_slope = np.tile(np.arange(size) < size - 1, n_outputs)
    # Softmax does not mind a number added to all intercepts: keep that direction still.
    still = np.outer(~is_slope, ~is_slope) if n_outputs > 1 else 0

    def objective(params):
        value, gradient, hessian = loss_derivatives(
            loss, A, Y, weight, params.reshape(n_outputs, size)
        )
        w, t = params[is_slope], target.ravel()
        value, hessian = value + alpha * (w @ w) / 2, hessian + still
        gradient[is_slope] += alpha * w
        ridge = alpha * exactly(np.eye(len(w)))
        if gamma:
            r, along = mpmath.sqrt(w @ w), w @ t
            value += gamma * (1 - along / r)
            gradient[is_slope] -= gamma * (t / r - along * w / r**3)
            ridge += gamma * (
                (np.outer(t, w) + np.outer(w, t) + along * exactly(np.eye(len(w)))) / r**3
                - 3 * along * np.outer(w, w) / r**5
            )
        hessian[np.ix_(is_slope, is_slope)] += ridge
        return value, gradient, hessian

    return objective


def candidate(X, Y, weight, prior, intercept_sd):
    """Minus the log-posterior of `_laplace`, where all but the intercepts are standardized.

    The parameters are the slope, then the deviations and the intercept of each output. Every
    deviation has its own place here, also where there are more features than rows.
    """
    X, Y, weight = exactly(X), exactly(Y), exactly(weight)
    target, sd = exactly(prior.target), exactly(np.sqrt(prior.variance()))
    n_outputs, n_features = target.shape
    size = n_features + 1
    precision = exactly(np.ones(1 + n_outputs * size))
    precision[size::size] = 1 / mpmath.mpf(intercept_sd) ** 2

    # The linear predictors of all outputs, as a matrix of all parameters: row by row.
    design = np.empty((n_outputs, len(X), len(precision)), dtype=object)
    design[:] = mpmath.mpf(0)
    for k in range(n_outputs):
        design[k, :, 0] = prior.slope_sd * (X @ target[k])
        design[k, :, 1 + k * size : 1 + (k + 1) * size] = np.column_stack(
            [X * sd, exactly(np.ones(len(X)))]
        )
    offset = prior.slope_mean * (X @ target.T)

    def objective(params):
        eta = offset + (design @ params).T
        P = probabilities(eta)
        value = weight @ log_loss(eta, Y) + precision @ params**2 / 2
        gradient = precision * params
        hessian = np.diag(precision)
        for k in range(n_outputs):
            gradient = gradient + design[k].T @ (weight * (P - Y)[:, k])
            for m in range(n_outputs):
                curvature = weight * P[:, k] * ((k == m) - P[:, m])
                hessian = hessian + design[k].T @ (curvature[:, None] * design[m])
        return value, gradient, hessian

    return objective


def minimum(objective, start, n_steps=10):
    """Newton's method from a point nearby, until the gradient is nothing to 20 digits."""
    params = exactly(start)
    for _ in range(n_steps):
        value, gradient, hessian = objective(params)
        if max(abs(gradient)) < mpmath.mpf(10) ** -20:
            return params, value, hessian
        step = mpmath.lu_solve(mpmath.matrix(hessian), mpmath.matrix(gradient))
        params = params - np.array(list(step))
    raise AssertionError(f"no minimum was found: the gradient is {float(max(abs(gradient))):.3g}")


def log_determinant(matrix):
    return mpmath.log(mpmath.det(mpmath.matrix(matrix)))


def ridge(A, y, weight, penalty):
    """Coefficients and intercept of a ridge regression, by its normal equations."""
    A = np.column_stack([A, exactly(np.ones(len(A)))])
    gram = A.T @ (weight[:, None] * A)
    gram[:-1, :-1] += penalty * exactly(np.eye(len(gram) - 1))
    solution = mpmath.lu_solve(mpmath.matrix(gram), mpmath.matrix(A.T @ (weight * y)))
    solution = np.array(list(solution))
    return solution[:-1], solution[-1]
