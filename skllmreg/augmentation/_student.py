"""Train students on labeled and written rows, score energies, and check labels.

Rows are written because the student knows little of their kind, so that a student's doubt alone is
no reason against one: a label is believed unless another one is several times likelier.
"""

from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_y

from skllmreg.augmentation._energy import ood_scores, student_energy
from skllmreg.augmentation._kinds import RowKind
from skllmreg.augmentation._schema import free_text_columns
from skllmreg.students import TextClassifier
from skllmreg.students._calibration import fit_calibration
from skllmreg.students._fitting import (
    fit_student,
    is_net,
    last_step,
    out_of_fold_proba,
    seeded,
    student_proba,
)
from skllmreg.utils._frames import (
    column_values,
    is_frame,
    is_numeric,
    is_pandas,
    joined,
)
from skllmreg.utils._labels import is_missing, is_string, known_target, label_array
from skllmreg.utils._validation import is_text

# What one row of text is worth in a table that has numbers, too.
_TEXT_WORDS = {"sublinear_tf": True, "ngram_range": (1, 2), "token_pattern": r"(?u)\b\w+\b|[?!]"}

# A teacher abstains below this probability.
SURE = 0.7
# A student contradicts where another class is so many times likelier than the label: at 4 times it
# threw out a tenth of the clean rows of a real model, and accuracy fell by .03.
TIMES = 8.0
# The learning dynamics contradict where the mean probability of the label is at most this share of
# 1 / n_classes, and its mean variance at most this share of the range.
MOST_CONFIDENCE, MOST_VARIANCE = 0.6, 0.75
N_FOLDS, N_CHECKPOINTS = 5, 10


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
    if y.ndim == 1:
        known_target(y)
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


class LabelCheck:
    """Say which written rows are hardly of their class.

    Parameters
    ----------
    method : {"teacher", "student", "dynamics"}
        "teacher": its best class is another one, and it is sure. "student": out of fold, it finds
        another class many times likelier; its probabilities are calibrated first. "dynamics":
        while a linear model learns the other folds, the row's label is never likely and hardly
        varies [1]_; the bound on the probability is for any number of classes here, where the paper
        has 0.2.
    data : TrainingRows
        The labeled rows are believed; they train the student, too.
    student : estimator
        Unfitted; cloned.
    teacher : estimator or None
        Has `predict_proba` and `classes_`; fitted.
    random_state : int

    References
    ----------
    .. [1] N. Seedat, N. Huynh, B. van Breugel, M. van der Schaar (2024), "Curated LLM: Synergy of
       LLMs and data curation for tabular augmentation in low-data regimes", ICML,
       arXiv:2312.12112, section 3.2.
    """

    def __init__(self, method, data, student, teacher, random_state):
        self.method, self.data = method, data
        self.student, self.teacher = student, teacher
        self.random_state = random_state
        self._rows: list = []
        self._codes: list[int] = []

    def __call__(self, rows, codes):
        """Check rows.

        Parameters
        ----------
        rows : list
            Valid rows, as generators give them.
        codes : list of int
            Positions of the classes that they were written for.

        Returns
        -------
        list of str
            "" where the label is believed, else why not, as in "the teacher says 'x' (0.97)".
        """
        data = self.data
        doubts = doubt_labels(
            self.method,
            data.kind.to_X(rows),
            np.asarray(codes, dtype=int),
            X_labeled=joined(data.X, data.kind.to_X(self._rows)),
            labeled_codes=np.append(data.codes, self._codes).astype(int),
            classes=data.classes,
            student=seeded(self.student, self.random_state),
            teacher=self.teacher,
            random_state=np.random.RandomState(self.random_state),
        )
        # What is believed now helps to judge what comes later.
        self._rows += [row for row, doubt in zip(rows, doubts, strict=True) if not doubt]
        self._codes += [code for code, doubt in zip(codes, doubts, strict=True) if not doubt]
        return doubts


def make_label_check(method, data, student, teacher, random_state):
    """Resolve `label_check` of `GOLDAugmenter`, and fit the teacher.

    Returns
    -------
    LabelCheck or None
    """
    if method == "auto":
        method = None if teacher is None else "teacher"
    if method is None:
        return None
    if method == "student" and not hasattr(student, "predict_proba"):
        raise ValueError(
            f'label_check="student" needs predict_proba, which {type(last_step(student)).__name__} '
            "does not have."
        )
    if teacher is not None:
        teacher = clone(teacher)
        if "on_refusal" in teacher.get_params(deep=False):
            # Of an `LLMTeacherClassifier`: a row without an answer is not doubted.
            teacher.set_params(on_refusal="abstain")
        teacher.fit(data.X, data.classes[data.codes])
        teacher_classes(teacher, data.classes)
    return LabelCheck(method, data, student, teacher, random_state)


def doubt_labels(
    method, X, codes, *, X_labeled, labeled_codes, classes, student, teacher, random_state
):
    """Say which rows are hardly of their class; see `LabelCheck`.

    Returns
    -------
    list of str
    """
    seed = random_state.randint(2**31 - 1)
    if method == "teacher":
        known, proba, doubted = _by_teacher(teacher, X, classes[codes], classes)
    else:
        known = classes
        data = joined(X_labeled, X), np.append(labeled_codes, codes)
        folds = _folds(codes, np.random.RandomState(seed))
        if method == "student":
            proba, doubted = _by_student(*data, folds, classes, student, seed)
        else:
            proba, doubted = _by_dynamics(*data, folds, len(classes), seed)
    best = proba.argmax(axis=1)
    names = {"teacher": "the teacher says", "student": "the student, not having seen it, says"}
    said = names.get(method, "learning dynamics say")
    return [
        f"{said} {str(known[best[i]])!r} ({proba[i, best[i]]:.2f})" if doubted[i] else ""
        for i in range(len(codes))
    ]


def _by_teacher(teacher, X, y, classes):
    known = teacher_classes(teacher, classes)
    proba = student_proba(teacher, X, known)
    # A teacher may give no probabilities where it does not know.
    proba = np.nan_to_num(np.asarray(proba, dtype=float))
    return known, proba, (known[proba.argmax(axis=1)] != y) & (proba.max(axis=1) >= SURE)


def teacher_classes(teacher, classes):
    """Classes that a fitted teacher tells apart: all of the data's, and maybe others.

    Raises
    ------
    ValueError
        If it does not know one of the data's classes.
    """
    if is_net(last_step(teacher)):
        return classes
    known = np.sort(teacher.classes_)
    if unknown := [label for label in classes.tolist() if label not in known.tolist()]:
        raise ValueError(
            f"The teacher does not know the class {unknown[0]!r}; its classes are "
            f"{str(known.tolist()):.300}."
        )
    return known


def _by_student(X, codes, folds, classes, student, seed):
    n_labeled = len(codes) - len(folds)
    # Labeled rows train every student, and are not scored.
    fold = np.append(np.full(n_labeled, -1), folds)
    proba = out_of_fold_proba(student, X, codes, fold, classes, random_state=seed)[n_labeled:]
    own = codes[n_labeled:]
    # A student fitted to few rows is far too sure, or not sure enough, of rows it has not seen.
    proba = fit_calibration(proba, own, slope_sd=np.inf, floor=1e-9)(proba)
    label = proba[np.arange(len(own)), own]
    return proba, proba.max(axis=1) > TIMES * label


def _by_dynamics(X, codes, folds, n_classes, seed):
    n_labeled = len(codes) - len(folds)
    features = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    if not is_text(X):
        features = table_features(X)
    features = features.fit_transform(X)
    own = codes[n_labeled:]
    mean = np.zeros((len(own), n_classes))
    variance = np.zeros(len(own))
    for train, test in _splits(folds, n_labeled):
        model = SGDClassifier(loss="log_loss", alpha=1e-4, random_state=seed)
        rows = test - n_labeled
        for _ in range(N_CHECKPOINTS):
            model.partial_fit(features[train], codes[train], classes=np.arange(n_classes))
            proba = model.predict_proba(features[test])
            label = proba[np.arange(len(test)), own[rows]]
            mean[rows] += proba / N_CHECKPOINTS
            variance[rows] += label * (1 - label) / N_CHECKPOINTS
    never_likely = mean[np.arange(len(own)), own] <= MOST_CONFIDENCE / n_classes
    return mean, never_likely & (variance <= MOST_VARIANCE * np.ptp(variance))


def _folds(codes, rng):
    """A fold for each row; every class is spread over all of them."""
    folds = np.empty(len(codes), int)
    for k in np.unique(codes):
        own = rng.permutation(np.flatnonzero(codes == k))
        folds[own] = (np.arange(len(own)) + rng.randint(N_FOLDS)) % N_FOLDS
    return folds


def _splits(folds, n_labeled):
    """Positions to train on, the labeled rows always among them, and to test on."""
    for fold in np.unique(folds):
        outside = n_labeled + np.flatnonzero(folds != fold)
        yield np.append(np.arange(n_labeled), outside), n_labeled + np.flatnonzero(folds == fold)
