"""Rows in the forms in which users, students and generators take them."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from skllmreg.augmentation._schema import TableSchema, is_enum


@dataclass(frozen=True)
class Labeled:
    """The labeled rows.

    Parameters
    ----------
    X : array of texts, or table
        As the student takes them.
    codes : ndarray of int of shape (n_samples,)
        Positions of their classes.
    classes : ndarray of shape (n_classes,)
    rows : list of str, or of {column: value}
        As generators take them.
    schema : TableSchema or None
        None for texts.
    """

    X: Any
    codes: np.ndarray
    classes: np.ndarray
    rows: list
    schema: TableSchema | None

    def as_X(self, rows):
        """Rows of a generator as the student takes them."""
        if self.schema is not None:
            return self.schema.to_frame(rows)
        return np.array(rows, dtype=object)


def labeled(X, codes, classes, feature_descriptions):
    """Take checked rows in; of a table the schema is learned."""
    if not hasattr(X, "columns") and X.ndim == 1:
        if feature_descriptions:
            raise ValueError("feature_descriptions are of a table's columns; X is texts.")
        return Labeled(X, codes, classes, X.tolist(), None)
    schema = TableSchema.from_frame(X, feature_descriptions)
    rows = schema.rows(X)
    if len(schema.columns) == 1 and isinstance(next(iter(rows[0].values())), str):
        name = schema.columns[0].name
        texts = f"X[{name!r}]" if hasattr(X, "columns") else "X[:, 0]"
        raise ValueError(f"X is a table of one column, {name!r}, of texts: pass {texts}.")
    return Labeled(X, codes, classes, rows, schema)


def joined(old, new):
    """Append rows or labels; the result is of the type that the old ones are.

    Index labels of pandas start anew: generated rows have none.
    """
    if isinstance(old, list | tuple):
        return type(old)([*old, *np.asarray(new).tolist()])
    if hasattr(old, "iloc"):
        import pandas as pd

        if old.ndim == 1:
            if isinstance(old.dtype, pd.CategoricalDtype):
                strange = [value for value in dict.fromkeys(new) if value not in old.cat.categories]
                old = old.cat.add_categories(strange)
            new = pd.Series(new, dtype=old.dtype, name=old.name)
        return pd.concat([old, new], ignore_index=True)
    if hasattr(old, "vstack"):  # polars: a frame, or
        return old.vstack(new)
    if hasattr(old, "extend"):  # a series
        new = type(old)(old.name, np.asarray(new).tolist())
        if is_enum(old.dtype) and not new.is_in(old.dtype.categories).all():
            old = old.cast(new.dtype)  # an enumeration of the old texts
        return old.clone().extend(new.cast(old.dtype))
    old, new = np.asarray(old), np.asarray(new)
    # Strings of a fixed length: the longest decides.
    return np.concatenate([old, new.astype(str if old.dtype.kind == "U" else old.dtype)])
