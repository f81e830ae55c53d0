"""Which new rows the LLM is shown again: those in a band of how unfamiliar they are."""

import numpy as np

# A class with fewer rows than this is judged by the limits of all: the default band of a quarter
# would hold none of three or two.
FEWEST_ROWS = 4


def band_limits(scores, codes, n_classes, quantiles):
    """Limits of the band, for each class by its own rows where these are enough.

    Parameters
    ----------
    scores : ndarray of shape (n_rows,)
        Higher is more out of distribution. What is above the band is taken for noise.
    codes : ndarray of int of shape (n_rows,)
        Positions of the rows' classes.
    n_classes : int
    quantiles : tuple of float
        Of the scores, at which the band begins and ends.

    Returns
    -------
    ndarray of shape (n_classes, 2)
    """
    limits = np.tile(np.quantile(scores, quantiles), (n_classes, 1))
    for k in range(n_classes):
        own = scores[codes == k]
        if len(own) >= FEWEST_ROWS:
            limits[k] = np.quantile(own, quantiles)
    return limits


def choose_feedback(scores, codes, n_classes, quantiles):
    """Rows of each class inside its band.

    Returns
    -------
    chosen : list of ndarray of int
        For each class; empty where it has no row in the band. Of so few rows that none is in one,
        it is the one that is nearest to its band.
    limits : ndarray of shape (n_classes, 2)
    """
    limits = band_limits(scores, codes, n_classes, quantiles)
    low, high = limits[codes].T
    inside = (scores >= low) & (scores <= high)
    if not inside.any():
        inside[np.argmin(np.maximum(low - scores, scores - high))] = True
    return [np.flatnonzero(inside & (codes == k)) for k in range(n_classes)], limits
