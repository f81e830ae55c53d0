"""The thresholds of LLKD: what counts as a confident teacher and as a needy student."""

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


def class_means(values, codes, n_classes, absent=None):
    """Mean of all values, and of each class's.

    Parameters
    ----------
    values : ndarray of shape (n_samples,)
    codes : ndarray of int of shape (n_samples,)
    n_classes : int
    absent : ndarray of shape (n_classes,), default=None
        What stands for the mean of a class without a row; None is the mean of all.

    Returns
    -------
    mean : float
    by_class : ndarray of shape (n_classes,)
    """
    counts = np.bincount(codes, minlength=n_classes)
    sums = np.bincount(codes, weights=values, minlength=n_classes)
    mean = float(sums.sum() / len(values))
    absent = mean if absent is None else absent
    return mean, np.where(counts > 0, sums / np.maximum(counts, 1), absent)


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
    largest = by_class.max()
    return mean * by_class / largest if largest > 0 else np.full_like(by_class, mean)


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
        mean, by_class = class_means(values, codes, n_classes, self.by_class)
        if self.mean is None:
            self.mean, self.by_class = mean, by_class
        else:
            self.mean += (1 - self.momentum) * (mean - self.mean)
            self.by_class = self.by_class + (1 - self.momentum) * (by_class - self.by_class)
        return self.mean, self.by_class
