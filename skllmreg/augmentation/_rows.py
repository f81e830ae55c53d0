"""Rows in the forms in which users, students and generators take them."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from skllmreg.augmentation._schema import TableSchema
from skllmreg.utils._frames import is_frame


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
    if not is_frame(X) and X.ndim == 1:
        if feature_descriptions:
            raise ValueError("feature_descriptions are of a table's columns; X is texts.")
        return Labeled(X, codes, classes, X.tolist(), None)
    schema = TableSchema.from_frame(X, feature_descriptions)
    rows = schema.rows(X)
    if len(schema.columns) == 1 and isinstance(next(iter(rows[0].values())), str):
        name = schema.columns[0].name
        texts = f"X[{name!r}]" if is_frame(X) else "X[:, 0]"
        raise ValueError(f"X is a table of one column, {name!r}, of texts: pass {texts}.")
    return Labeled(X, codes, classes, rows, schema)
