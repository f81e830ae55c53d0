"""Rows as users pass them: checked, never copied without need."""

import numpy as np
from sklearn.utils.validation import validate_data

from skllmreg.utils._frames import is_frame


def check_texts(X):
    """Return texts as an array of objects; an entry that is none is an error that names it."""
    if isinstance(X, str) or np.ndim(X) != 1:
        raise ValueError("X is a sequence of texts: a list, an array or a series of str.")
    X = np.asarray(X, dtype=object)
    if not len(X):
        raise ValueError("Found array with 0 sample(s): X is empty.")
    for i, text in enumerate(X):
        if not isinstance(text, str):
            raise ValueError(f"Row {i} of X is {text!r:.50}, not a str.")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"Row {i} of X holds half of a surrogate pair, at character {error.start}: "
                'text.encode("utf-8", "replace").decode() takes its place.'
            ) from None
    return X


def check_rows(estimator, X, *, reset, allow_nd=False):
    """Validate X as far as it is not for the student to do so.

    Parameters
    ----------
    estimator : estimator
        Whose X it is; gets ``n_features_in_`` and ``feature_names_in_`` of tables.
    X : {array-like, sparse matrix, data frame} of shape (n_samples, n_features), or texts
    reset : bool
        Whether this is `fit`.
    allow_nd : bool, default=False
        Whether rows may have more than one dimension, as images have.

    Returns
    -------
    Data frames as they are, texts as an array of objects, the rest as an array or CSR matrix.
    """
    # A single string, and a list of nothing, are more likely meant for texts than for tables.
    empty = getattr(X, "ndim", 1) == 1 and hasattr(X, "__len__") and not len(X)
    if is_text(X) or isinstance(X, str) or empty:
        return check_texts(X)
    if is_frame(X):
        validate_data(estimator, X, skip_check_array=True, reset=reset)
        return X
    return validate_data(
        estimator,
        X,
        accept_sparse="csr",
        dtype=None,
        ensure_all_finite=False,
        reset=reset,
        allow_nd=allow_nd,
    )


def is_text(X):
    """Whether X is a sequence of texts; some may be missing."""
    if isinstance(X, str) or not hasattr(X, "__len__") or is_frame(X):
        return False
    if getattr(X, "ndim", 1) != 1 or not len(X):
        return False
    if isinstance(X, np.ndarray) and X.dtype.kind != "O":
        return X.dtype.kind == "U"
    return any(isinstance(text, str) for text in X)


def text_columns(X):
    """Return the columns of texts in X, each validated; of a sequence of texts the one it is.

    Parameters
    ----------
    X : sequence of str, or data frame or array of str of shape (n_samples, n_columns)

    Returns
    -------
    list of ndarray of object
    """
    if is_frame(X):
        return [_check_column(X[name], repr(name)) for name in X.columns]
    if getattr(X, "ndim", 1) == 2:
        return [_check_column(X[:, j], str(j)) for j in range(X.shape[1])]
    return [check_texts(X)]


def _check_column(texts, name):
    try:
        return check_texts(texts)
    except ValueError as error:
        raise ValueError(str(error).replace("of X", f"of column {name} of X")) from None


def is_table(X):
    """Whether X has columns."""
    return is_frame(X) or getattr(X, "ndim", 1) == 2


def column_names(X, n_columns):
    """Return the names of columns of texts; None for a sequence of texts."""
    if is_frame(X):
        return [str(name) for name in X.columns]
    return [f"x{j}" for j in range(n_columns)] if getattr(X, "ndim", 1) == 2 else None
