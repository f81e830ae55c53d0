"""Read and build data frames of pandas and polars, importing neither before it is used."""

import numpy as np
from sklearn.utils import _safe_indexing


def is_frame(X):
    """Whether X is a data frame of pandas or polars."""
    return hasattr(X, "columns")


def check_table(X):
    """Refuse what is nearly a table: names of several levels, and a list of dicts."""
    if getattr(getattr(X, "columns", None), "nlevels", 1) > 1:
        raise ValueError(
            "The columns of X have names of several levels: give them simple ones, as by "
            "X.columns = X.columns.map('_'.join)."
        )
    if isinstance(X, list | tuple) and X and isinstance(X[0], dict):
        raise TypeError("X is a list of dicts; pandas.DataFrame(X) makes a table of it.")


def is_pandas(X):
    """Whether X is a data frame or series of pandas."""
    return hasattr(X, "iloc")


def is_polars(X):
    """Whether X is a data frame or series of polars."""
    return hasattr(X, "to_arrow")


def is_enum(dtype):
    """Whether it is the dtype of polars with declared categories."""
    return type(dtype).__name__ == "Enum"


def is_numeric(dtype):
    """Whether a column of this dtype, of pandas or polars, holds numbers."""
    return dtype.kind in "biuf" if hasattr(dtype, "kind") else dtype.is_numeric()


def column_name(X, j):
    """Name of column `j`: its label in a frame, its position in an array."""
    return list(X.columns)[j] if is_frame(X) else j


def column_dtype(X, name):
    """NumPy dtype of a column where there is one for it, else the dtype of the frame."""
    dtype = X[name].dtype if is_frame(X) else np.asarray(X).dtype
    if hasattr(dtype, "is_numeric") and not is_enum(dtype):  # polars
        dtype = np.asarray(X[name][:0]).dtype
    return getattr(dtype, "numpy_dtype", dtype)


def column_values(X):
    """Values of each column of a table, as arrays of objects by the column's name."""
    if is_frame(X):
        check_table(X)
        if len(set(X.columns)) < len(X.columns):
            raise ValueError("Two columns of X have the same name.")
        return {name: np.asarray(X[name], dtype=object) for name in X.columns}
    X = np.asarray(X)
    return {f"x{i}": X[:, i].astype(object) for i in range(X.shape[1])}


def table_rows(X):
    """Rows of any table as a list of ``{column: value}``."""
    columns = column_values(X)
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def iterate_rows(X):
    """Iterate over the rows of a data frame as tuples of Python values.

    Short floats stay short: as Python floats they would show digits of noise.
    """
    columns = [*np.asarray(X, dtype=object).T]
    for i in range(len(columns)):
        column = _safe_indexing(X, i, axis=1)
        if str(column.dtype).lower() in ("float16", "float32"):
            columns[i] = np.asarray(column)
    return zip(*columns, strict=True)


def no_rows(X):
    """Return the table without its rows: what is left are the columns and their dtypes."""
    return X[:0] if is_frame(X) else np.asarray(X)[:0]


def frame_like(template, names, rows):
    """Make a table of rows with the type, columns and dtypes of another.

    Parameters
    ----------
    template : data frame or ndarray of shape (n_samples, n_features)
    names : list of length n_features
        Keys of the rows, in the order of the columns.
    rows : list of dict

    Returns
    -------
    data frame or ndarray of shape (n_rows, n_features)
    """
    if not is_frame(template):
        cells = [[row.get(name) for name in names] for row in rows]
        # Strings of a fixed length: the longest decides.
        dtype = str if template.dtype.kind == "U" else template.dtype
        return np.array(cells, dtype=dtype).reshape(len(rows), len(names))
    values = {name: [row.get(name) for row in rows] for name in names}
    if is_polars(template):
        return type(template)(values, schema=template.schema)
    import pandas as pd

    # Column by column: all at once, integers beside a missing one pass through floats.
    dtypes = list(template.dtypes)
    columns = [pd.Series(values[n], dtype=t) for n, t in zip(names, dtypes, strict=True)]
    frame = pd.DataFrame(dict(enumerate(columns)))
    frame.columns = template.columns
    return frame


def joined(old, new, *, keep_index=False):
    """Append rows or labels; the result is of the type that the old ones are.

    Parameters
    ----------
    old, new : rows, or labels
    keep_index : bool, default=False
        Whether the old rows of pandas keep their index, and the new ones get labels that it does
        not have; otherwise the index starts anew.
    """
    if isinstance(old, list | tuple):
        return type(old)([*old, *np.asarray(new).tolist()])
    if is_pandas(old):
        import pandas as pd

        if old.ndim == 2 and np.ndim(new) == 1:  # labels in a frame of one column
            return joined(old.iloc[:, 0], new, keep_index=keep_index).to_frame()
        index = longer_index(old.index, len(new)) if keep_index else None
        if old.ndim == 1:
            if isinstance(old.dtype, pd.CategoricalDtype):
                strange = [value for value in dict.fromkeys(new) if value not in old.cat.categories]
                old = old.cat.add_categories(strange)
            new = pd.Series(new, dtype=old.dtype, name=old.name)
        result = pd.concat([old, new], ignore_index=True)
        return result if index is None else result.set_axis(index, axis=0)
    if is_polars(old) and is_frame(old):
        if np.ndim(new) == 1:
            return joined(old.to_series(), new).to_frame()
        return old.vstack(new)
    if is_polars(old):
        new = type(old)(old.name, np.asarray(new).tolist())
        if is_enum(old.dtype) and not new.is_in(old.dtype.categories).all():
            old = old.cast(new.dtype)  # an enumeration of the old texts
        return old.clone().extend(new.cast(old.dtype))
    old, new = np.asarray(old), np.asarray(new)
    if old.ndim == 2 and new.ndim == 1:
        old = old.ravel()
    # Strings of a fixed length: the longest decides.
    return np.concatenate([old, new.astype(str if old.dtype.kind == "U" else old.dtype)])


def longer_index(index, n):
    """Append `n` new labels to an index of pandas: numbers to integers, else generated_0, ...

    Parameters
    ----------
    index : pandas.Index
    n : int

    Returns
    -------
    pandas.Index
    """
    import pandas as pd

    if index.nlevels > 1:
        others = [""] * (index.nlevels - 1)
        tuples = [*index, *((f"generated_{i}", *others) for i in range(n))]
        return pd.MultiIndex.from_tuples(tuples, names=index.names)
    if pd.api.types.is_integer_dtype(index.dtype):
        first = max(index, default=-1) + 1
        return pd.Index([*index, *range(first, first + n)], name=index.name)
    taken = set(map(str, index))
    free = (f"generated_{i}" for i in range(n + len(taken)))
    more = [label for label in free if label not in taken][:n]
    return pd.Index([*index, *more], name=index.name, dtype=object)


def labels_like(y, labels, rows):
    """Labels of some rows in the container that y is: list, array, series, frame of one column.

    Parameters
    ----------
    y : array-like, Series or data frame of shape (n_samples,) or (n_samples, 1)
    labels : ndarray of shape (n_rows,)
    rows : ndarray of int of shape (n_rows,)
        Their positions in y; containers of pandas keep the index there.
    """
    if isinstance(y, list | tuple):
        return type(y)(labels.tolist())
    if is_pandas(y) and y.ndim == 2:
        return type(y)({y.columns[0]: labels}, index=y.index[rows])
    if is_pandas(y):
        return type(y)(labels, index=y.index[rows], name=y.name)
    if is_polars(y) and is_frame(y):
        return type(y)({y.columns[0]: labels})
    if is_polars(y):
        return type(y)(y.name, labels)
    return labels


def to_floats(table):
    """Values of an array or frame as floats, those of the nullable dtypes of pandas too."""
    if is_pandas(table):
        return table.to_numpy(dtype=float, na_value=np.nan)
    return np.asarray(table, dtype=float)
