"""Linear model drawn to an LLM's scores, and gradient boosting, blended by the number of rows.

With few rows trees know nothing, and the linear model knows what the LLM knows. With many rows
trees find what no linear model can. The blend is on the scale of the logits (of the target in a
regression),

    (1 - q) linear + q trees,

which was better than boosting from the linear model's logits. Whether trees find more than the
linear model depends on the task. So q minimizes the loss of the blend on rows that neither part
was fitted to, with a prior around q0 = n^1.5 / (n^1.5 + h^1.5) that is wider the more rows there
are. q0 is one half at h = `HALF_WAY` + 2 d rows: of many columns, trees of few rows find the wrong
ones. Below `FEWEST_ROWS` rows q is 0. Trees of few rows have to be small
and few, or their logits are far too large; both grow with the number of rows. The constants were
chosen on other splits of the six data sets than those of ``benchmarks/attribution_boosting.py``.

The trees are constrained to rise (or fall) with each column whose score is strong, as far as the
training rows bear it out. A wrong constraint costs more than a right one brings, since it is hard.
"""

import numpy as np
from scipy.stats import rankdata
from sklearn.model_selection import KFold, StratifiedKFold

from skllmreg.attribution._loss import HALF_SQUARED_ERROR

HALF_WAY = 130.0  # rows, beside two for each column, at which both models have the same weight
FEWEST_ROWS = 40  # with at least 10 rows in a leaf, fewer make next to no split
STRONG_SCORE = 3.0  # mean score from which on a column's sign may become a constraint
MANY_ROWS = 1000  # from which on trees of the usual size pay
N_FOLDS = 5  # out of which the loss is measured; from `ENOUGH_ROWS` rows on, the first is enough
ENOUGH_ROWS = 3000
PRIOR_ROWS = 2400.0  # the prior's weight of (q - q0)^2 is that over n, in nats


def tree_weight(n_rows, n_features):
    """Weight of the trees beside the linear model that is to be expected."""
    half_way = HALF_WAY + 2 * n_features
    return 0.0 if n_rows < FEWEST_ROWS else float(1 / (1 + (half_way / n_rows) ** 1.5))


def choose_tree_weight(linear, trees, Y, sample_weight, loss, n_rows, usual):
    """Find the weight of the trees that suits rows which neither part was fitted to.

    Parameters
    ----------
    linear, trees : ndarray of shape (n_samples, n_outputs)
        Outputs of the two parts: logits, or predictions of a target.
    Y : ndarray of shape (n_samples, n_outputs)
    sample_weight : ndarray of shape (n_samples,)
    loss : Loss
        Of a regression, its mean counts by its logarithm: the noise is not known.
    n_rows : float
        That both parts can learn from.
    usual : float
        The weight to be expected, see `tree_weight`.

    Returns
    -------
    float
    """
    grid = np.linspace(0, 1, 41)
    mean = np.array(
        [
            np.average(loss.value((1 - q) * linear + q * trees, Y), weights=sample_weight)
            for q in grid
        ]
    )
    if loss is HALF_SQUARED_ERROR:
        mean = 0.5 * np.log(np.maximum(mean, np.finfo(float).tiny))
    prior = PRIOR_ROWS / n_rows * (grid - usual) ** 2
    return float(grid[np.argmin(n_rows * mean + prior)])


def folds(X, labels, n_rows, n_classes):
    """Rows to fit to and rows to measure on, several times; nothing where a class is too small.

    Equal rows are on one side: what was learned by heart would look like knowledge.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
    labels : ndarray of shape (n_samples,)
        Indices of the classes, or a target.
    n_rows : float
        By weight.
    n_classes : int
        0 for a target.

    Returns
    -------
    list of (ndarray of int, ndarray of int)
    """
    numbers: dict[bytes, int] = {}
    kinds = np.array([numbers.setdefault(row.tobytes(), len(numbers)) for row in X])
    firsts = np.unique(kinds, return_index=True)[1]
    y = labels[firsts]
    smallest = np.bincount(y, minlength=n_classes).min() if n_classes else len(y)
    if smallest < 2 * N_FOLDS:
        return []
    make = StratifiedKFold if n_classes else KFold
    parts = [test for _, test in make(N_FOLDS, shuffle=True, random_state=0).split(y[:, None], y)]
    measured = [np.isin(kinds, test) for test in parts[: 1 if n_rows >= ENOUGH_ROWS else N_FOLDS]]
    return [(np.flatnonzero(~held_out), np.flatnonzero(held_out)) for held_out in measured]


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
