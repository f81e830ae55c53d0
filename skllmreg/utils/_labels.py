"""Read labels and cells in the forms in which users and other tools pass them."""

import datetime

import numpy as np
from sklearn.utils._missing import is_pandas_na


def label_array(y):
    """Labels as an array in which each is what it was.

    Of a list of strings and NaN numpy makes the string "nan"; of integers that a series holds
    beside a missing one, floats.
    """
    labels = y.to_list() if hasattr(y, "to_list") else y
    if not isinstance(labels, list | tuple):
        return np.asarray(labels)
    n_strings = sum(map(is_string, labels))
    return np.array(labels, dtype=object if 0 < n_strings < len(labels) else None)


def known_target(y):
    """Refuse targets that cannot be learned: dates and times, and rows without a label.

    Parameters
    ----------
    y : array-like of shape (n_samples,)

    Returns
    -------
    y, or an array where it is a series
    """
    y = label_array(y) if hasattr(y, "to_list") else y
    values = np.asarray(y)
    if values.dtype.kind not in "mMOU" or values.ndim != 1:
        return y
    for i, label in enumerate(values[:1] if values.dtype.kind in "mM" else values.tolist()):
        if is_missing(label) or (is_string(label) and not label.strip()):
            raise ValueError(
                f"Row {i} of y has no label: it holds {label!r}. This estimator learns from "
                "labeled rows: leave the others out; LLKDSelector learns from them, too."
            )
        if is_time(label):
            raise ValueError(
                f"y holds dates or times, such as {label} in row {i}. For a regression give "
                "numbers, such as days since a date; for classes give strings, as by "
                "y.astype(str)."
            )
    return y


def is_time(value):
    """Whether a value is a date, a time or a duration, of Python, numpy or pandas."""
    return isinstance(
        value, datetime.date | datetime.time | datetime.timedelta | np.datetime64 | np.timedelta64
    )


def is_missing(value):
    """Whether a single value is None, NaN, NaT or pandas.NA."""
    if value is None or is_pandas_na(value):
        return True
    differs = value != value  # of an array, an array
    return isinstance(differs, bool | np.bool_) and bool(differs)


def is_string(label):
    """Whether a label is a str, numpy's too."""
    return isinstance(label, str)


def about_numbers(labels, keys=()):
    """Say where labels 0, 1, ... may come from, if they are such and the keys are others."""
    if list(labels) != list(range(len(labels))) or {*map(str, keys)} & {*map(str, labels)}:
        return ""
    return (
        " (If these are not your labels: cross_val_predict, StackingClassifier and other tools "
        "number the sorted labels before they fit. Add the numbers as keys.)"
    )
