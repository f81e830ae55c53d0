"""What the student learns from: the labeled rows, joined with rows that were written."""

from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
from sklearn.compose import make_column_transformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_y

from skllmreg.augmentation._energy import ood_scores, student_energy
from skllmreg.augmentation._kinds import RowKind
from skllmreg.augmentation._schema import free_text_columns
from skllmreg.students import TextClassifier
from skllmreg.students._fitting import fit_student, is_net, student_proba
from skllmreg.utils._frames import (
    column_values,
    is_frame,
    is_numeric,
    is_pandas,
    joined,
)
from skllmreg.utils._labels import is_missing, is_string, label_array
from skllmreg.utils._validation import is_text

# What one row of text is worth in a table that has numbers, too.
_TEXT_WORDS = {"sublinear_tf": True, "ngram_range": (1, 2), "token_pattern": r"(?u)\b\w+\b|[?!]"}


@dataclass(frozen=True)
class TrainingRows:
    """The labeled rows, and how a student learns them with others.

    Parameters
    ----------
    X : array of texts, or table
        As the student takes them.
    codes : ndarray of int of shape (n_samples,)
        Positions of their classes.
    classes : ndarray of shape (n_classes,)
    kind : RowKind
    """

    X: Any
    codes: np.ndarray
    classes: Any
    kind: RowKind

    @property
    def labels(self):
        """Return the classes as a list."""
        return self.classes.tolist()

    def generated_X(self, rows):
        """Return rows of a generator as `X_generated_`."""
        return self.kind.to_X(rows)

    def generated_y(self, rows, codes):
        """Return the labels of rows as `y_generated_`."""
        return self.classes[np.array(codes, dtype=int)]

    def fit(self, student, rows, codes, random_state, *, kept=None):
        """Fit a seeded clone to the labeled rows and these, or train on one that is kept."""
        X = joined(self.X, self.kind.to_X(rows))
        y = np.append(self.codes, np.asarray(codes, dtype=int))
        if kept is not None:
            return train_on(kept, X, y, self.classes)
        return fit_student(student, X, y, self.classes, random_state=random_state)

    def unfamiliar(self, fitted, rows, temperature):
        """Return the energies of rows under a fitted student."""
        return student_energy(fitted, self.kind.to_X(rows), temperature=temperature)

    def outlying(self, detector, known, rows):
        """Return how far rows lie outside of the labeled and other known ones."""
        X = joined(self.X, self.kind.to_X(known))
        return ood_scores(detector, None, self.kind.to_X(rows), X)

    def losses(self, student, rows, codes, random_state):
        """Return, for each labeled row, what a student of other rows alone makes of it.

        Returns
        -------
        ndarray of shape (n_samples,)
            Probability of the likeliest other class less that of its own, from -1 to 1; above 0 it
            is wrong.
        """
        codes = np.asarray(codes, dtype=int)
        if len(np.unique(codes)) < len(self.classes):
            return np.full(len(self.codes), np.nan)
        X = self.kind.to_X(rows)
        fitted = fit_student(student, X, codes, self.classes, random_state=random_state)
        proba = np.array(student_proba(fitted, self.X, self.classes), dtype=float)
        at = np.arange(len(self.codes)), self.codes
        own = proba[at]
        proba[at] = -np.inf
        return proba.max(axis=1) - own


def check_labels(estimator, y):
    """Validate labels: a class for each row, of one type.

    Parameters
    ----------
    estimator : estimator
        Named in errors.
    y : array-like of shape (n_samples,)

    Returns
    -------
    ndarray of shape (n_samples,)
    """
    y = label_array(y)
    labels = y.tolist() if y.ndim == 1 else []
    if missing := [i for i, label in enumerate(labels) if is_missing(label)]:
        raise ValueError(
            f"Row {missing[0]} of y has no label. GOLDAugmenter learns from labeled rows: leave "
            "the others out; LLKDSelector learns from them, too."
        )
    if len({is_string(label) for label in labels}) > 1:
        raise ValueError("y holds texts beside other labels: make all of them texts, or none.")
    y = _check_y(y, estimator=estimator)
    check_classification_targets(y)
    return y


def default_student(X, text_columns="auto", encoder=None):
    """Build a linear model on texts, on several texts, or on columns of one scale."""
    texts = [] if is_text(X) else free_text_columns(X, text_columns)
    if is_text(X) or 1 < len(texts) == len(column_values(X)):
        return TextClassifier(encoder)
    return make_pipeline(table_features(X, texts), LogisticRegression())


def joined_texts(X):
    """Return the texts of each row in one, a line each."""
    cells = X.to_numpy() if hasattr(X, "to_numpy") else np.asarray(X)
    return ["\n".join("" if is_missing(cell) else str(cell) for cell in row) for row in cells]


def table_features(X, texts=()):
    """Build features of columns: numbers standardized, texts as words, the rest one-hot."""
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    if is_frame(X):
        names = list(X.columns)
        numeric = [name for name in names if is_numeric(X[name].dtype)]
    elif is_numeric(X.dtype):
        return numbers
    else:  # of objects: by what they are
        names = list(range(X.shape[1]))
        texts = [j for j in names if f"x{j}" in texts]
        numeric = [j for j in names if all(isinstance(v, Real) or is_missing(v) for v in X[:, j])]
        numbers = make_pipeline(FunctionTransformer(as_floats), numbers)
    other = [name for name in names if name not in numeric and name not in texts]
    one_hot = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    parts = [(numbers, numeric), (make_pipeline(FunctionTransformer(none_for_na), one_hot), other)]
    if texts:
        words = make_pipeline(FunctionTransformer(joined_texts), TfidfVectorizer(**_TEXT_WORDS))
        parts += [(words, [name]) for name in texts]
    return make_column_transformer(*parts)


def as_floats(X):
    """Return numbers among objects as numbers."""
    return replace_missing(X, np.nan).astype(float)


def none_for_na(X):
    """Put None in place of pandas.NA, which the encoder does not sort."""
    if is_pandas(X):
        return X.astype(object).where(X.notna(), None)
    if not isinstance(X, np.ndarray) or X.dtype.kind != "O":
        return X
    return replace_missing(X, None)


def replace_missing(X, value):
    """Return a copy of an array of objects with one kind of missing value."""
    X = np.array(X, dtype=object)
    X[np.vectorize(is_missing, otypes=[bool])(X)] = value
    return X


def train_on(student, X, codes, classes):
    """Train a fitted student further."""
    if is_net(student):
        return student.partial_fit(X, np.asarray(codes, dtype=np.int64))
    return student.partial_fit(X, classes[codes])
