r"""Fit multinomial logistic regression to distributions over the classes.

.. math:: \min_{W, b} \; \sum_i w_i \, \mathrm{CE}(t_i, \mathrm{softmax}(W x_i + b))
          + \frac{1}{2 C} \|W\|^2

with the weight :math:`w_i` of a row and the shares :math:`t_i` of its classes; for two classes the
logit of the first is 0, and W has one row. With hard targets this is scikit-learn's
``LogisticRegression(C=C)``. A soft target takes part as it is: no row is repeated for its classes.

Few rows are first replaced by the Cholesky factor L of their Gram matrix, :math:`X X^T = L L^T`: a
model on L has the same outputs and the same penalty, and no more columns than rows.
"""

import numpy as np
from scipy.linalg import cholesky, solve_triangular
from scipy.optimize import minimize

# With more rows the factor costs more than it saves, and one held-out part says enough.
FEW_ROWS = 2000
N_FOLDS = 3
STRENGTHS = (1.0, 3.0, 10.0, 30.0, 100.0)
MAX_ITER = 500


class LogisticProblem:
    """Rows and their targets, for any strength of the penalty.

    Parameters
    ----------
    blocks : list of {ndarray, csr_matrix} of shape (n_samples, n_columns)
        Columns of X, side by side.
    target : ndarray of shape (n_samples, n_classes)
        Shares of the classes.
    weight : ndarray of shape (n_samples,)
    tol : float, default=2e-3
        Largest entry of the gradient at the solution, as a share of the largest one at zero: with
        many classes and rare words all entries are small from the start.
    """

    def __init__(self, blocks, target, weight, tol=2e-3):
        self.blocks = self.columns = blocks
        self.target = target
        self.weight = weight
        self.tol = tol
        self._start: tuple | None = None
        self.few = len(target) <= FEW_ROWS
        if self.few:
            gram = sum(_dense(block @ block.T) for block in blocks)
            # Equal rows, and more rows than columns, make it singular.
            gram[np.diag_indices_from(gram)] += 1e-7 * max(np.trace(gram) / len(gram), 1e-30)
            self.factor = cholesky(gram, lower=True)
            self.columns = [self.factor]

    def fit(self, C):
        """Minimize the objective.

        Returns
        -------
        coef : ndarray of shape (n_outputs, n_features)
        intercept : ndarray of shape (n_outputs,)
            One output for two classes, else one for each class.
        """
        rows = np.arange(len(self.target))
        solution, bias = self._solve(C, rows, self._start, self.tol)
        if self.few:
            dual = solve_triangular(self.factor, solution, lower=True, trans=1)
            solution = np.vstack([block.T @ dual for block in self.blocks])
        return solution.T, bias

    def best_strength(self, rng):
        """Choose C among `STRENGTHS` by the loss of rows that are held out.

        With few rows each is held out once. C grows until the loss does not fall any more.
        """
        fold = folds(self.target.argmax(axis=1), N_FOLDS if self.few else 5, rng)
        parts = range(N_FOLDS) if self.few else range(1)
        starts = dict.fromkeys(parts)
        best, lowest = STRENGTHS[0], np.inf
        for C in STRENGTHS:
            loss = 0.0
            for part in parts:
                train, test = np.flatnonzero(fold != part), np.flatnonzero(fold == part)
                starts[part] = solution, bias = self._solve(C, train, starts[part], 10 * self.tol)
                outputs = _outputs([block[test] for block in self.columns], solution, bias)
                loss += self.weight[test] @ _losses(outputs, self.target[test])[0]
            if loss >= lowest:
                break
            best, lowest = C, loss
            self._start = starts[0]  # `fit` has not far to go from there
        return best

    def _solve(self, C, rows, start, tol):
        columns = [block[rows] for block in self.columns]
        target, weight = self.target[rows], self.weight[rows] / self.weight[rows].sum()
        penalty = 1 / (C * self.weight[rows].sum())
        n_outputs = target.shape[1] if target.shape[1] > 2 else 1
        shape = sum(block.shape[1] for block in columns), n_outputs

        def objective(flat):
            solution, bias = flat[:-n_outputs].reshape(shape), flat[-n_outputs:]
            losses, residual = _losses(_outputs(columns, solution, bias), target)
            residual = (weight[:, None] * residual)[:, -n_outputs:]
            value = weight @ losses + penalty / 2 * np.vdot(solution, solution)
            slope = np.vstack([block.T @ residual for block in columns]) + penalty * solution
            return value, np.append(slope, residual.sum(axis=0))

        zero = np.zeros((shape[0] + 1) * n_outputs)
        steepest = np.abs(objective(zero)[1]).max()
        found = minimize(
            objective,
            zero if start is None else np.append(*start),
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": MAX_ITER, "gtol": tol * steepest, "ftol": 1e-12},
        ).x
        return found[:-n_outputs].reshape(shape), found[-n_outputs:]


def folds(labels, n_folds, rng):
    """Number the folds so that each has its share of every class."""
    order = rng.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    fold = np.empty(len(labels), int)
    fold[order] = np.arange(len(labels)) % n_folds
    return fold


def _dense(matrix):
    return matrix.toarray() if hasattr(matrix, "toarray") else matrix


def _outputs(columns, solution, bias):
    """Logits of all classes, (n_samples, n_classes)."""
    edges = np.cumsum([0, *(block.shape[1] for block in columns)])
    outputs = bias + sum(
        block @ solution[i:j] for block, i, j in zip(columns, edges[:-1], edges[1:], strict=True)
    )
    return np.hstack([np.zeros_like(outputs), outputs]) if outputs.shape[1] == 1 else outputs


def _losses(outputs, target):
    """Cross-entropy of each row, and its gradient by the outputs."""
    shifted = outputs - outputs.max(axis=1, keepdims=True)
    exponentials = np.exp(shifted)
    sums = exponentials.sum(axis=1, keepdims=True)
    losses = np.log(sums[:, 0]) - (target * shifted).sum(axis=1)
    return losses, exponentials / sums - target
