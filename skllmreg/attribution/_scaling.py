"""Location and scale of the features and the target, made for very few rows."""

import numpy as np
from scipy import sparse
from scipy.special import polygamma

# Next to the smallest numbers there are, a column is zero: its coefficient would overflow.
SMALLEST = 1e-300
SURE_ROWS = 10


def feature_scaling(X, sample_weight):
    """Find what to subtract from each column and what to divide it by.

    The scale is part of the prior: it turns scores into coefficients. So it has to be sensible
    for two rows already:

    - the standard deviation, but not less than ``rms / 2**n``: two rows that are nearly equal in a
      column say little about its scale. With ten rows the floor is a thousandth of the root mean
      square and rarely met; from there it falls faster, ``rms / 2**(n**2 / 10)``, out of the way of
      columns far from zero, such as times;
    - for a column with two values, half their distance whatever their frequencies: a rare category
      is not blown up;
    - a column that is constant here: 2 if it may be an indicator (all 0 or all 1), so that the
      LLM's word on an unseen category counts, with a quarter of a seen one's weight, since it may
      be a count just as well; otherwise infinite, which takes it out of the model.

    With fewer than `SURE_ROWS` rows, features that seem to be standardized already, by rows that
    are not here, keep that scale (see `_shared_scale`).

    Parameters
    ----------
    X : {ndarray, sparse matrix} of shape (n_samples, n_features)
    sample_weight : ndarray of shape (n_samples,)
        A row of weight 2 counts as two rows.

    Returns
    -------
    location : ndarray of shape (n_features,)
        The mean; zero for sparse X, which stays sparse.
    scale : ndarray of shape (n_features,)
        Positive, may be infinite.
    """
    total = sample_weight.sum()
    low, high = X.min(axis=0), X.max(axis=0)
    if sparse.issparse(X):
        low, high = low.toarray().ravel(), high.toarray().ravel()
    indicator = np.isin(low, (0, 1)) & np.isin(high, (0, 1))
    # Squares of very large or small values overflow or vanish. A power of two leaves all bits.
    peak = np.maximum(np.maximum(-low, high), SMALLEST)
    unit = np.ldexp(1.0, np.frexp(peak)[1] - 1)
    X, low, high = scaled(X, 0.0, unit), low / unit, high / unit
    mean = X.T @ (sample_weight / total)
    squares = X.multiply(X) if sparse.issparse(X) else X * X
    rms = np.sqrt(squares.T @ (sample_weight / total))
    if sparse.issparse(X):
        scale = np.sqrt(np.maximum(rms**2 - mean**2, 0))
        # (x - low)(x - high) without the constant: zero for both values if one of them is zero.
        inner = np.asarray((squares - X.multiply(low + high)).astype(bool).sum(axis=0)).ravel()
        inner += low * high != 0
    else:
        scale = np.sqrt(((X - mean) ** 2).T @ (sample_weight / total))
        inner = np.sum((low < X) & (high > X), axis=0)
    scale = np.where(inner == 0, (high - low) / 2, scale)
    constant = (high - low <= 10 * np.finfo(float).eps * rms) | (peak == SMALLEST)
    # Weights are counts, so that two equal rows are one of weight 2; but not of less than a row.
    n_rows = min(max(total, len(sample_weight)), 1000)
    floor = 0.5 ** min(n_rows * max(1.0, n_rows / 10), 1000)
    scale = np.maximum(scale, rms * floor)
    scale = np.where(constant, np.where(indicator, 2.0, np.inf), unit * scale)
    if n_rows < SURE_ROWS and not sparse.issparse(X):
        scale = _shared_scale(unit * mean, unit * rms, scale, indicator, n_rows)
    return np.zeros_like(mean) if sparse.issparse(X) else unit * mean, scale


def _shared_scale(mean, rms, scale, exempt, n_rows):
    """Draw scales to 1 where the features seem to be standardized already, by more rows than these.

    Then all numbers of X have a mean of about 0 and a mean square of about 1, and the scales vary
    as they do by chance: the logarithm of a standard deviation from n rows has the variance
    trigamma((n - 1) / 2) / 4. Beyond twice that, the scales are taken as they are.

    Parameters
    ----------
    mean, rms, scale : ndarray of shape (n_features,)
        Weighted mean, root mean square and scale of each column.
    exempt : ndarray of bool of shape (n_features,)
        Columns that are not measurements.
    n_rows : float
    """
    varied = np.isfinite(scale) & ~exempt
    if varied.sum() < 3:
        return scale
    mean, rms = mean[~exempt].mean(), np.sqrt(np.mean(rms[~exempt] ** 2))
    if not (abs(mean) < 0.5 and 0.5 < rms < 2):
        return scale
    by_chance = polygamma(1, max(n_rows - 1, 1) / 2) / 4
    own = np.clip(2 * (1 - by_chance / max(np.log(scale[varied]).var(), 1e-300)), 0, 1)
    shared = scale.copy()
    shared[varied] **= own
    # A column that does not vary here has the common scale, the less so the less there is one.
    if own < 1:
        shared[np.isinf(scale)] = 1 / (1 - own)
    return shared


def target_scaling(y, sample_weight):
    """Find the mean and the standard deviation of a target; the latter is 0 if it is constant."""
    mean = np.average(y, weights=sample_weight)
    size = np.abs(y - mean).max()
    if size <= 10 * np.finfo(float).eps * np.abs(y).max():
        return mean, 0.0
    return mean, size * np.sqrt(np.average(((y - mean) / size) ** 2, weights=sample_weight))


def scaled(X, location, scale):
    """Subtract the location and divide by the scale; sparse X stays sparse."""
    if sparse.issparse(X):
        return (X @ sparse.diags_array(1 / scale)).tocsr()
    return (X - location) / scale
