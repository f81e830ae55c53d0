"""Encode tables of numbers, categories and missing values, for a linear model and for trees."""

from collections import Counter

import numpy as np
from sklearn.utils.validation import _check_feature_names, validate_data

from skllmreg.utils._frames import check_table, is_frame
from skllmreg.utils._labels import is_missing, is_time

MOST_CATEGORIES = 254  # of a column; HistGradientBoosting has 255 bins, one for the missing values


class MixedTable:
    """How the columns of a table are encoded, found on the training rows.

    Trees get numbers, with NaN where a value is missing, and categories as codes; a category that
    is rare or was not seen in training is a missing value. A linear model gets the median for a
    missing number and an indicator for each category, all 0 for a missing one.

    Columns of strings and of pandas' or polars' categories hold categories, all others numbers;
    booleans are 0 and 1.

    Attributes
    ----------
    names : list of str
        Names of the columns, x0, x1, ... where X has none.
    categories : dict of int to list of str
        Categories of the columns that hold some, the most frequent ones first.
    medians : ndarray of shape (n_features,)
    linear_names : list of str
        Names of the linear model's columns: ``<column>_<category>`` for an indicator.
    """

    names: list[str]
    categories: dict[int, list[str]]
    medians: np.ndarray
    linear_names: list[str]

    @classmethod
    def fit(cls, estimator, X):
        """Find the encoding on the training rows; return it with these rows, encoded for trees."""
        columns = _columns(estimator, X, reset=True)
        table = cls()
        table.names = list(
            getattr(estimator, "feature_names_in_", _numbered(estimator.n_features_in_))
        )
        table.categories = {}
        for j, (name, values) in enumerate(zip(table.names, columns, strict=True)):
            if values.dtype == object and _holds_categories(values, name):
                counts = Counter(str(value) for value in values if not is_missing(value))
                table.categories[j] = [name for name, _ in counts.most_common(MOST_CATEGORIES)]
        codes = table._encode(columns)
        known = ~np.isnan(codes).all(axis=0)
        table.medians = np.zeros(len(table.names))
        table.medians[known] = np.nanmedian(codes[:, known], axis=0)
        table.linear_names = [
            linear_name
            for j, name in enumerate(table.names)
            for linear_name in ([f"{name}_{c}" for c in table.categories.get(j, ())] or [name])
        ]
        return table, codes

    def for_trees(self, estimator, X):
        """Numbers and codes of categories, NaN where one is missing: (n_samples, n_features)."""
        return self._encode(_columns(estimator, X, reset=False))

    def _encode(self, columns):
        if isinstance(columns, np.ndarray):
            return columns.T
        out = np.empty((len(columns[0]), len(columns)))
        for j, values in enumerate(columns):
            if j in self.categories:
                code = {category: i for i, category in enumerate(self.categories[j])}
                out[:, j] = [
                    np.nan if is_missing(value) else code.get(str(value), np.nan)
                    for value in values
                ]
            else:
                out[:, j] = _as_numbers(values, self.names[j])
        return out

    def for_linear(self, codes):
        """Turn the output of `for_trees` into the linear model's columns, without NaN."""
        if not self.categories:
            missing = np.isnan(codes)
            return np.where(missing, self.medians, codes) if missing.any() else codes
        parts = []
        for j, median in enumerate(self.medians):
            column = codes[:, j]
            if j in self.categories:
                parts.append((column[:, None] == np.arange(len(self.categories[j]))).astype(float))
            else:
                parts.append(np.where(np.isnan(column), median, column)[:, None])
        return np.hstack(parts)


def _columns(estimator, X, reset):
    """Columns of X: an array (n_features, n_samples) if all are numbers, else a list of arrays."""
    check_table(X)
    if is_frame(X):
        _check_feature_names(estimator, X, reset=reset)
        validate_data(estimator, X, reset=reset, skip_check_array=True)
        if not all(X.shape):
            raise ValueError(f"X has shape {X.shape}; at least one row and column are needed.")
        return [_column(X, name) for name in X.columns]
    X = validate_data(estimator, X, reset=reset, dtype=None, ensure_all_finite=False)
    if X.dtype.kind in "biuf":
        X = X.astype(np.float64)
        _check_finite(X.T, list(getattr(estimator, "feature_names_in_", _numbered(X.shape[1]))))
        return X.T
    return [column.astype(object) for column in X.T]


def _column(X, name):
    """One column of a frame: floats, or objects where it holds anything else."""
    values = np.asarray(X[name])
    if hasattr(X[name].dtype, "categories"):  # numbers may be names of categories, too
        return np.array([v if is_missing(v) else str(v) for v in values.tolist()], dtype=object)
    return values.astype(np.float64 if values.dtype.kind in "biuf" else object)


def _check_finite(columns, names):
    for name, values in zip(names, columns, strict=True):
        if np.isinf(values).any():
            row = int(np.isinf(values).argmax())
            raise ValueError(f"Column {name!r} of X is {values[row]} (infinity) in row {row}.")


def _numbered(n_features):
    return [f"x{i}" for i in range(n_features)]


def _holds_categories(values, name):
    """Whether a column holds strings; a mixture of strings and numbers is an error."""
    kinds = {type(value) for value in values if not is_missing(value)}
    if any(map(is_time, values)):
        raise ValueError(
            f"Column {name!r} of X holds dates or times. Make numbers of them that mean something, "
            "such as the days since an event, the month or the weekday; skrub.DatetimeEncoder "
            "does some of it."
        )
    strings = [issubclass(kind, str) for kind in kinds]
    if any(strings) and not all(strings):
        raise ValueError(
            f"Column {name!r} of X holds both text and numbers; convert it to one of them."
        )
    return any(strings)


def _as_numbers(values, name):
    try:
        if values.dtype == object:
            values = [np.nan if is_missing(value) else value for value in values]
        numbers = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise type(error)(f"Column {name!r} of X does not hold numbers: {error}") from error
    _check_finite([numbers], [name])
    return numbers
