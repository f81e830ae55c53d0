"""Measure how well linear predictors agree with what they should predict."""

import numpy as np


def mean_auc(Y, eta, sample_weight):
    """ROC AUC of the linear predictors, the mean over the outputs.

    As :func:`sklearn.metrics.roc_auc_score`, whose checks take longer than a whole fit.

    Parameters
    ----------
    Y : ndarray of shape (n_samples, n_outputs)
        0 or 1; a column without both counts as chance.
    eta : array-like of shape (n_samples, n_outputs)
    sample_weight : ndarray of shape (n_samples,)

    Returns
    -------
    float
    """
    sample_weight = sample_weight / sample_weight.sum()
    aucs = []
    for labels, scores in zip(Y.T, np.asarray(eta).T, strict=True):
        _, rank = np.unique(scores, return_inverse=True)
        positive = np.bincount(rank, sample_weight * labels)
        negative = np.bincount(rank, sample_weight * (1 - labels))
        below = np.cumsum(negative) - negative / 2  # ties count half
        pairs = positive.sum() * negative.sum()
        aucs.append(positive @ below / pairs if pairs else 0.5)
    return float(np.mean(aucs))


def correlation(a, b, sample_weight):
    """Weighted correlation; 0 if one of them is constant."""
    sample_weight = sample_weight / sample_weight.sum()
    a, b = (x - np.average(x, weights=sample_weight) for x in (a, b))
    size = np.sqrt((sample_weight @ a**2) * (sample_weight @ b**2))
    return float(sample_weight @ (a * b) / size) if size > 0 else 0.0
