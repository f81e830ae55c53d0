"""Validate rows as users pass them, without copying where possible."""

import numpy as np
from sklearn.utils.validation import check_consistent_length, validate_data

from skllmreg.utils._frames import check_table, is_frame


def check_texts(X, name="X"):
    """Return texts as an array of objects; an error names the row, and X as `name`."""
    if isinstance(X, str) or np.ndim(X) != 1:
        raise ValueError(f"{name} is a sequence of texts: a list, an array or a series of str.")
    X = np.asarray(X, dtype=object)
    if not len(X):
        raise ValueError(f"Found array with 0 sample(s): {name} is empty.")
    for i, text in enumerate(X):
        if not isinstance(text, str):
            raise ValueError(f"Row {i} of {name} is {text!r:.50}, not a str.")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"Row {i} of {name} holds half of a surrogate pair, at character {error.start}: "
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
    if isinstance(X, list | tuple):
        check_table(X)
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
        return [check_texts(X[name], f"column {name!r} of X") for name in X.columns]
    if getattr(X, "ndim", 1) == 2:
        return [check_texts(X[:, j], f"column {j} of X") for j in range(X.shape[1])]
    return [check_texts(X)]


def check_texts_and_targets(X, y):
    """Validate inputs and targets, as many of each, all of them texts."""
    X, y = check_texts(X), check_texts(y, "y")
    check_consistent_length(X, y)
    return X, y


def is_table(X):
    """Whether X has columns."""
    return is_frame(X) or getattr(X, "ndim", 1) == 2


def column_names(X, n_columns):
    """Return the names of columns of texts; None for a sequence of texts."""
    if is_frame(X):
        return [str(name) for name in X.columns]
    return [f"x{j}" for j in range(n_columns)] if getattr(X, "ndim", 1) == 2 else None
