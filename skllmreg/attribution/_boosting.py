"""Linear model drawn to an LLM's scores, and gradient boosting, blended by the number of rows.

With few rows trees know nothing, and the linear model knows what the LLM knows. With many rows
trees find what no linear model can. The blend is on the scale of the logits (of the target in a
regression),

    (1 - q) linear + q trees,    q = n^1.5 / (n^1.5 + `HALF_WAY`^1.5), 0 below `FEWEST_ROWS` rows,

which was better than boosting from the linear model's logits. Trees of few rows have to be small
and few, or their logits are far too large; both grow with the number of rows. The constants were
chosen on other splits of the six data sets than those of ``benchmarks/attribution_boosting.py``.

The trees are constrained to rise (or fall) with each column whose score is strong, as far as the
training rows bear it out. A wrong constraint costs more than a right one brings, since it is hard.
"""

import numpy as np
from scipy.stats import rankdata

HALF_WAY = 150.0  # rows at which both models have the same weight
FEWEST_ROWS = 40  # with at least 10 rows in a leaf, fewer make next to no split
STRONG_SCORE = 3.0  # mean score from which on a column's sign may become a constraint
MANY_ROWS = 1000  # from which on trees of the usual size pay


def tree_weight(n_rows):
    """Weight of the trees beside the linear model."""
    return 0.0 if n_rows < FEWEST_ROWS else float(1 / (1 + (HALF_WAY / n_rows) ** 1.5))


def tree_sizes(n_rows):
    """Number of iterations, and of leaves of a tree."""
    if n_rows < MANY_ROWS:
        return int(np.clip(n_rows / 3, 75, 200)), 4
    return int(np.clip(n_rows / 25, 200, 500)), 31


def rows_that_count(codes, sample_weight):
    """Number of rows by weight; with classes of unequal size, of equal ones that tell as much.

    The variance of a difference between two classes goes with the sum of 1 / n over the classes.
    """
    if codes is None:
        return float(sample_weight.sum())
    by_class = np.bincount(codes, sample_weight)
    return float(len(by_class) ** 2 / np.sum(1 / by_class))


def monotone_signs(X, y, sample_weight, scores):
    """Sign of each column's constraint: 1, -1, or 0 for none.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        NaN where a value is missing.
    y : ndarray of shape (n_samples,)
        The target, or 1 for the class that the scores speak for.
    sample_weight : ndarray of shape (n_samples,)
    scores : ndarray of shape (n_features,)
        Mean scores; 0 for a column that may not be constrained.

    Returns
    -------
    ndarray of int of shape (n_features,)
    """
    signs = np.zeros(X.shape[1], dtype=int)
    for j in np.flatnonzero(np.abs(scores) >= STRONG_SCORE):
        known = ~np.isnan(X[:, j])
        sign = int(np.sign(scores[j]))
        if sign * rank_correlation(X[known, j], y[known], sample_weight[known]) > 0:
            signs[j] = sign
    return signs


def rank_correlation(x, y, sample_weight):
    """Spearman's correlation with weights; 0 where there is none."""
    if not len(x) or np.ptp(x) == 0 or np.ptp(y) == 0:
        return 0.0
    x, y = rankdata(x), rankdata(y)
    x, y = (v - np.average(v, weights=sample_weight) for v in (x, y))
    return float(np.sum(sample_weight * x * y) / np.sqrt(np.sum(x**2) * np.sum(y**2)))
