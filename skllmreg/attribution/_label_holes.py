r"""Find groups of training rows that lack a class, or that have one side of a target only.

Where no woman was ever diagnosed, no ill woman is among the training rows. The labels then say
that being a woman protects. A model that follows them explains the missing rows by a large
coefficient; since one tau is shared by all columns, that also frees all others from the prior.

A *hole* is a group of rows, ``x_j <= threshold`` or ``x_j > threshold``, in which a class is far
rarer than a model expects that is bound to the scores (small tau). Groups of 10 to 90 % of the
rows are scanned; the count of the class, compared with a binomial one [1]_, has to be significant
when corrected for the number of groups scanned (Bonferroni), and a small share of what is
expected: an ordinary effect that the scores do not know of is significant, too, with many rows.

What is done about it is in the hands of the prior: a column that indicates the group, with a wide
prior of its own, takes over what the labels say of the group. The evidence then judges the scores
by the rest. The model leaves the column out when it predicts: the group is scored as if it had
nothing special.

References
----------
.. [1] Hoeffding (1956), "On the distribution of the number of successes in independent trials",
   Annals of Mathematical Statistics 27: the tails of the binomial bound those of unequal chances.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse
from scipy.special import betainc, ndtr

MIN_SHARE = 0.1  # of the rows in a group, and outside
MAX_HOLES = 3
INDICATOR_VARIANCE = 25.0  # of a hole's own coefficient
N_CUTS = 9
MAX_ROWS_FOR_CUTS = 1000


@dataclass(frozen=True)
class Scan:
    """Which columns are scanned, and what counts as a hole; the defaults are for all columns."""

    columns: list[int]
    significance: float = 0.01
    min_expected: float = 8  # rows of the class in a group
    max_ratio: float = 0.15  # of observed to expected rows
    min_shift: float = 1.5  # of a regression's mean residual, in standard deviations


def make_scans(label_holes, names):
    """Scans that `label_holes` asks for: all columns at once, or the named ones in turn.

    Parameters
    ----------
    label_holes : "auto", list of column names or None
    names : list
        Names or numbers of the columns.

    Returns
    -------
    list of Scan
    """
    if label_holes is None:
        return []
    if label_holes == "auto":
        return [Scan(list(range(len(names))))]
    for column in label_holes:
        if column not in names:
            raise ValueError(
                f"label_holes names a column {column!r}, which X does not have; its columns "
                f"are {', '.join(map(repr, names[:10]))}{' ...' * (len(names) > 10)}."
            )
    # A column that the user names needs less of a sign.
    named = {"significance": 1.0, "min_expected": 2, "max_ratio": 0.7, "min_shift": 0.3}
    return [Scan([names.index(column)], **named) for column in label_holes]


@dataclass(frozen=True)
class LabelHole:
    """A group of training rows that lacks a class.

    Attributes
    ----------
    column : int
    threshold : float
        In units of the column.
    above : bool
        Whether the group is ``x > threshold``, and not ``x <= threshold``.
    output : int
        Index of the class; of a regression 0 where large targets are missing, 1 where small ones.
    observed, expected : float
        Rows of the class in the group, by weight; of a regression the shift of
        its residuals.
    p_value : float
        Of so few rows by chance, times the number of groups scanned.
    """

    column: int
    threshold: float
    above: bool
    output: int
    observed: float
    expected: float
    p_value: float

    def rows(self, X):
        """Whether rows of X are in the group, (n_samples,)."""
        values = X[:, [self.column]]
        values = values.toarray()[:, 0] if sparse.issparse(values) else values[:, 0]
        return values > self.threshold if self.above else values <= self.threshold


def find_hole(X, Y, expected, sample_weight, scan):
    """Find the group that lacks a class most clearly.

    Parameters
    ----------
    X : {ndarray, sparse matrix} of shape (n_samples, n_features)
        Features in units of their own. Of sparse columns zero is the only threshold.
    Y : ndarray of shape (n_samples, n_classes)
        0 or 1.
    expected : ndarray of shape (n_samples, n_classes)
        Probabilities under a model that is bound to the scores.
    sample_weight : ndarray of shape (n_samples,)
    scan : Scan

    Returns
    -------
    LabelHole or None
    """
    weighted = sample_weight[:, None] * np.hstack([Y, expected, np.ones((len(Y), 1))])

    def judge(sums):
        """P values of observed counts by group and class, and which of them can be holes."""
        observed, chance, size = np.split(sums, [Y.shape[1], 2 * Y.shape[1]], axis=-1)
        share = size / sample_weight.sum()
        usable = (share >= MIN_SHARE) & (share <= 1 - MIN_SHARE) & (chance >= scan.min_expected)
        rate = np.clip(chance / np.maximum(size, 1e-300), 1e-300, 1 - 1e-12)
        p = betainc(np.maximum(size - observed, 1e-9), observed + 1, 1 - rate)
        return p, usable, usable & (observed <= scan.max_ratio * chance)

    best = _best_group(X, weighted, scan.columns, judge)
    if best is None:
        return None
    (column, threshold, above, output), sums, p, n_scanned = best
    p_value = float(min(1.0, n_scanned * p))
    if p_value > scan.significance:
        return None
    observed, chance = sums[output], sums[Y.shape[1] + output]
    return LabelHole(column, threshold, above, output, float(observed), float(chance), p_value)


def find_shifted_group(X, residual, sample_weight, scan):
    """Find the group whose residuals of a regression are shifted most clearly against the others.

    Parameters
    ----------
    X, sample_weight, scan
        As for `find_hole`. Groups are of half the rows at most: of two complements, one cannot be
        told from the other.
    residual : ndarray of shape (n_samples,)
        What a model that is bound to the scores leaves.

    Returns
    -------
    LabelHole or None
        Its ``observed`` is the group's mean residual less that of the other rows, in standard
        deviations within the two; ``expected`` is 0.
    """
    total, mean = sample_weight.sum(), np.average(residual, weights=sample_weight)
    variance = np.average((residual - mean) ** 2, weights=sample_weight)
    if variance == 0 or total < scan.min_expected:
        return None
    weighted = sample_weight[:, None] * np.column_stack([residual - mean, np.ones(len(residual))])

    def shift(sums):
        size = np.maximum(sums[..., 1], 1e-9 * total)
        others = np.maximum(total - size, 1e-9 * total)
        difference = sums[..., 0] / size * total / others
        within = variance - size * others / total**2 * difference**2
        return difference / np.sqrt(np.maximum(within, 1e-9 * variance))

    def judge(sums):
        size = sums[..., 1:]
        usable = (size >= MIN_SHARE * total) & (size <= total / 2) & (size >= scan.min_expected)
        both = np.stack([shift(sums), -shift(sums)], axis=-1)
        p = ndtr(both * np.sqrt(size * np.maximum(1 - size / total, 0)))
        return p, usable & np.ones(2, dtype=bool), usable & (both <= -scan.min_shift)

    best = _best_group(X, weighted, scan.columns, judge)
    if best is None:
        return None
    (column, threshold, above, output), sums, p, n_scanned = best
    p_value = float(min(1.0, n_scanned * p))
    if p_value > scan.significance:
        return None
    return LabelHole(column, threshold, above, output, float(shift(sums)), 0.0, p_value)


def _best_group(X, weighted, columns, judge):
    """Find the group and output of the smallest p value among those that can be holes."""
    columns = np.asarray(columns)
    total = weighted.sum(axis=0)
    cuts = _cuts(X, columns)
    groups = []  # below and above each cut: (2, n_columns, n_sums)
    for cut in cuts:
        below = _sums_below(X, columns, cut, weighted)
        groups.append(np.stack([below, total - below]))
    sums = np.stack(groups)
    p, usable, candidates = judge(sums)
    # Equal cuts of a column are one group.
    new = np.vstack([np.ones((1, len(columns)), dtype=bool), np.diff(cuts, axis=0) != 0])
    usable, candidates = (flags & new[:, None, :, None] for flags in (usable, candidates))
    if not candidates.any():
        return None
    place = np.unravel_index(np.argmin(np.where(candidates, p, np.inf)), p.shape)
    cut, above, j, output = map(int, place)
    found = (int(columns[j]), float(cuts[cut, j]), bool(above), output)
    best = found, sums[cut, above, j], p[place], int(usable.sum())
    if sparse.issparse(X):
        return best
    # The threshold was one of a few quantiles; now it may be any value of the column.
    order = np.argsort(X[:, columns[j]], kind="stable")
    values, below = X[order, columns[j]], np.cumsum(weighted[order], axis=0)
    last = np.append(np.diff(values) > 0, False)
    sums = total - below if above else below
    p, _, candidates = judge(sums)
    fine = np.where(candidates[:, output] & last, p[:, output], np.inf)
    i = int(fine.argmin())
    if fine[i] < best[2]:
        best = (found[0], float(values[i]), found[2], output), sums[i], fine[i], best[3]
    return best


def _cuts(X, columns):
    """Thresholds to try, (n_cuts, n_columns)."""
    if sparse.issparse(X):
        return np.zeros((1, len(columns)))
    rows = X[:: -(-len(X) // MAX_ROWS_FOR_CUTS)]
    quantiles = np.linspace(0, 1, N_CUTS + 2)[1:-1]
    return np.quantile(rows[:, columns], quantiles, axis=0, method="inverted_cdf")


def _sums_below(X, columns, cut, weighted):
    """Sums of the rows that are not above the cut, (n_columns, n_sums)."""
    if sparse.issparse(X):
        return weighted.sum(axis=0) - (X[:, columns] > 0).astype(float).T @ weighted
    return (X[:, columns] <= cut).astype(float).T @ weighted


def with_indicators(priors, n_indicators):
    """Extend priors to columns beside the features, which have a wide prior of their own."""

    def extended(prior):
        targets = np.zeros((len(prior.target), n_indicators))
        return replace(
            prior,
            target=np.hstack([prior.target, targets]),
            base_variance=np.r_[prior.base_variance, np.zeros(n_indicators)],
            extra_variance=np.r_[prior.extra_variance, np.full(n_indicators, INDICATOR_VARIANCE)],
        )

    return [extended(prior) for prior in priors]
