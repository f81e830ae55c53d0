"""The thresholds of LLKD: what counts as a confident teacher and as a needy student."""

import math

import numpy as np


def uncertainty(proba):
    """Entropy over its largest possible value, from 0 to 1.

    Parameters
    ----------
    proba : ndarray of shape (n_samples, n_classes)

    Returns
    -------
    ndarray of shape (n_samples,)
    """
    p = np.clip(proba, 1e-12, 1)
    return -(p * np.log(p)).sum(axis=1) / np.log(max(p.shape[1], 2))


def class_means(values, codes, n_classes):
    """Mean of all values, and of each class's; of a class without a row, that of all.

    Parameters
    ----------
    values : ndarray of shape (n_samples,)
    codes : ndarray of int of shape (n_samples,)
    n_classes : int

    Returns
    -------
    mean : float
    by_class : ndarray of shape (n_classes,)
    """
    counts, sums, mean = _counts_and_sums(values, codes, n_classes)
    return mean, np.where(counts > 0, sums / np.maximum(counts, 1), mean)


def _counts_and_sums(values, codes, n_classes):
    counts = np.bincount(codes, minlength=n_classes)
    sums = np.bincount(codes, weights=values, minlength=n_classes)
    return counts, sums, math.fsum(sums.tolist()) / len(values)


def thresholds(mean, by_class):
    r"""The threshold of each class: :math:`\tau(k) = \tau s_k / \max_j s_j`.

    Parameters
    ----------
    mean : float
        The global threshold.
    by_class : ndarray of shape (n_classes,)
        Means of the classes; none above 0 leaves the global threshold to all.

    Returns
    -------
    ndarray of shape (n_classes,)
    """
    largest = max(by_class.tolist())
    return by_class * (mean / largest) if largest > 0 else np.full_like(by_class, mean)


class MovingMeans:
    """Global and class means as exponential moving averages.

    The first update sets them: no value has to be guessed for the start. A class without a row
    keeps its mean.

    Parameters
    ----------
    momentum : float
        Share of the past, in [0, 1); 0 forgets it.
    """

    def __init__(self, momentum):
        self.momentum = momentum
        self.mean = self.by_class = None

    def update(self, values, codes, n_classes):
        """Take in the values of a batch or round and return the means, as `class_means` does."""
        if self.mean is None:
            self.mean, self.by_class = class_means(values, codes, n_classes)
        else:
            counts, sums, mean = _counts_and_sums(values, codes, n_classes)
            self.mean += (1 - self.momentum) * (mean - self.mean)
            # Sum of the deviations: 0 where there is no row.
            step = sums - counts * self.by_class
            step /= np.maximum(counts, 1)
            self.by_class = self.by_class + (1 - self.momentum) * step
        return self.mean, self.by_class
