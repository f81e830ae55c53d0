"""Validate tables of numbers, and name the column of what is not a number."""

import math

import numpy as np
from scipy import sparse
from sklearn.utils.validation import validate_data

from skllmreg.utils._frames import check_table, column_name
from skllmreg.utils._labels import is_time


def validate_numbers(estimator, X, y="no_validation", **options):
    """Validate X, and y if there is one; what is not a finite number is named.

    Parameters
    ----------
    estimator : estimator
        Gets ``n_features_in_`` and ``feature_names_in_``, or is held against them.
    X : {array-like, sparse matrix, data frame} of shape (n_samples, n_features)
    y : array-like of shape (n_samples,), default="no_validation"
    **options
        Of `validate_data`.

    Returns
    -------
    X : {ndarray, CSR matrix} of float64
    y : ndarray
        If y is given; of float64 with ``y_numeric=True``.
    """
    check_table(X)
    try:
        checked = validate_data(estimator, X, y, accept_sparse="csr", dtype=np.float64, **options)
        if options.get("y_numeric"):
            return checked[0], checked[1].astype(np.float64)
        return checked
    except (TypeError, ValueError) as error:
        if "Input X contains" in str(error) or "NAType" in str(error):
            raise ValueError(f"{_not_finite_in(X)}{error}") from error
        if "could not convert" not in str(error) and "DType" not in str(error):
            raise
        what = _text_in(X)
        if what is None and options.get("y_numeric"):
            text = _first_text(np.ravel(np.asarray(y, dtype=object)))
            what = text and f"y holds text such as {text!r:.50}; for classes there is a classifier."
        if what is None:
            raise
        raise ValueError(what) from error


def _not_finite_in(X):
    """Say where the first NaN or infinity is, row by row."""
    if sparse.issparse(X):
        return ""
    for i, row in enumerate(np.asarray(X, dtype=object)):
        for j, value in enumerate(row):
            if not _is_finite(value):
                return f"Column {column_name(X, j)!r} of X is {value} in row {i}. "
    return ""


def _is_finite(value):
    try:
        return math.isfinite(float(value))
    except TypeError:  # None, pd.NA
        return False


def _text_in(X):
    """Say where there is text, or a time, in place of numbers; None if there is none."""
    rows = np.asarray(X, dtype=object)
    if rows.ndim == 1 and (text := _first_text(rows)) is not None:
        return (
            f"X holds texts such as {text!r:.50}, not a table of numbers. LLKDSelector and "
            "skllmreg.students.TextClassifier learn from texts."
        )
    for j in range(rows.shape[1] if rows.ndim == 2 else 0):
        if is_time(rows[0, j]):
            return (
                f"Column {column_name(X, j)!r} of X holds dates or times; numbers are needed. Make "
                "some that mean something, such as the days since an event, the month or the "
                "weekday; skrub.DatetimeEncoder does some of it."
            )
        if (text := _first_text(rows[:, j])) is not None:
            return (
                f"Column {column_name(X, j)!r} of X holds text such as {text!r:.50}; numbers are "
                "needed. Encode it, as by OneHotEncoder(sparse_output=False) in a "
                'ColumnTransformer with .set_output(transform="pandas"), which keeps the names.'
            )
    return None


def _first_text(values):
    """The first string that is not a number."""
    for value in values:
        if isinstance(value, str):
            try:
                float(value)
            except ValueError:
                return value
    return None
