"""Which rows have no label: one answer for all of this family."""

from numbers import Real

import numpy as np

from skllmreg.utils._labels import is_missing, is_string, label_array


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
        If y holds the string "-1" or "nan", which numpy makes of -1 and NaN beside strings.
    """
    y = label_array(y)
    if y.dtype.kind in "iu":
        return y == -1
    if y.dtype.kind == "f":
        return (y == -1) | np.isnan(y)
    if y.dtype.kind == "O":
        found = np.fromiter(map(_has_no_label, y.ravel()), bool, y.size)
        found = found.reshape(y.shape)
        mistakes = {"-1"}
    else:
        found = np.zeros(y.shape, bool)
        mistakes = {"-1", "nan"}
    if y.dtype.kind in "OU":
        for label in mistakes.intersection(filter(is_string, y.ravel())):
            raise ValueError(
                f"y holds the string {str(label)!r}: with string labels, mark unlabeled rows by "
                "None or -1 in an array of dtype=object."
            )
    return found


def _has_no_label(label):
    if isinstance(label, Real) and not isinstance(label, bool) and label == -1:
        return True
    return is_missing(label)


def known_labels(y, unlabeled):
    """Labels of the labeled rows, in a dtype of their own.

    Integers beside None or ``pd.NA`` come as objects; without these they are integers again.
    """
    labels = label_array(y)[~unlabeled]
    if labels.dtype.kind == "O" and not any(map(is_string, labels)):
        labels = np.array(labels.tolist())
    return labels


def with_unlabeled(labels, rows, n_samples):
    """Put labels at `rows`; the other rows get -1, or None where labels are not numbers."""
    number = np.asarray(labels).dtype.kind in "if"
    y = np.full(n_samples, -1, labels.dtype) if number else np.full(n_samples, None, object)
    y[rows] = labels
    return y
