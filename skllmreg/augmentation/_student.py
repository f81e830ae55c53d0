"""The student: by default, seeded, fitted."""

from numbers import Real

import numpy as np
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from skllmreg.students import TextClassifier
from skllmreg.utils._frames import is_frame, is_numeric, is_pandas
from skllmreg.utils._labels import is_missing
from skllmreg.utils._validation import is_text


def default_student(X):
    """Linear, on texts or on columns that are brought to one scale."""
    if is_text(X):
        return TextClassifier()
    return make_pipeline(table_features(X), LogisticRegression())


def table_features(X):
    """Numbers of columns: numeric ones standardized, the rest one-hot."""
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    if is_frame(X):
        names = list(X.columns)
        numeric = [name for name in names if is_numeric(X[name].dtype)]
    elif is_numeric(X.dtype):
        return numbers
    else:  # of objects: by what they are
        names = list(range(X.shape[1]))
        numeric = [j for j in names if all(isinstance(v, Real) or is_missing(v) for v in X[:, j])]
        numbers = make_pipeline(FunctionTransformer(as_floats), numbers)
    other = [name for name in names if name not in numeric]
    one_hot = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    return make_column_transformer(
        (numbers, numeric), (make_pipeline(FunctionTransformer(none_for_na), one_hot), other)
    )


def as_floats(X):
    """Numbers among objects as numbers."""
    return replace_missing(X, np.nan).astype(float)


def none_for_na(X):
    """None in place of pandas.NA, which the encoder does not sort."""
    if is_pandas(X):
        return X.astype(object).where(X.notna(), None)
    if not isinstance(X, np.ndarray) or X.dtype.kind != "O":
        return X
    return replace_missing(X, None)


def replace_missing(X, value):
    """A copy of an array of objects with one kind of missing value."""
    X = np.array(X, dtype=object)
    X[np.vectorize(is_missing, otypes=[bool])(X)] = value
    return X
