"""Labels and cells as users pass them, and as other tools change them: for all families."""

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
