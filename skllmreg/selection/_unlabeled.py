"""Which rows have no label: one answer for the whole package."""

from numbers import Real

import numpy as np


def is_unlabeled(y):
    """Find the rows without a label: -1, None, NaN or ``pd.NA``.

    Parameters
    ----------
    y : array-like of shape (n_samples,)

    Returns
    -------
    ndarray of bool of shape (n_samples,)

    Raises
    ------
    ValueError
        If y holds the string "-1", which numpy makes of -1 beside strings.
    """
    y = np.asarray(y)
    if y.dtype.kind in "iu":
        return y == -1
    if y.dtype.kind == "f":
        return (y == -1) | np.isnan(y)
    if y.dtype.kind == "O":
        found = np.fromiter((_is_missing(label) for label in y.ravel()), bool, y.size)
        found = found.reshape(y.shape)
        strings = [label for label in y.ravel() if isinstance(label, str) and label == "-1"]
    else:
        found = np.zeros(y.shape, bool)
        strings = y[y == "-1"] if y.dtype.kind == "U" else []
    if len(strings):
        raise ValueError(
            "y holds the string '-1': with string labels, mark unlabelled rows by None or -1 in an "
            "array of dtype=object."
        )
    return found


def _is_missing(label):
    if label is None or type(label).__name__ == "NAType":
        return True
    return (
        isinstance(label, Real) and not isinstance(label, bool) and (label == -1 or label != label)
    )


def known_labels(y, unlabeled):
    """Labels of the labelled rows, in a dtype of their own.

    Integers beside None or ``pd.NA`` come as objects; without these they are integers again.
    """
    labels = np.asarray(y)[~unlabeled]
    if labels.dtype.kind == "O" and not any(isinstance(label, str) for label in labels):
        labels = np.array(labels.tolist())
    return labels


def with_unlabeled(labels, rows, n_samples):
    """Put labels at `rows`; the other rows get -1, or None where labels are not numbers."""
    number = np.asarray(labels).dtype.kind in "if"
    y = np.full(n_samples, -1, labels.dtype) if number else np.full(n_samples, None, object)
    y[rows] = labels
    return y
