"""`TextClassifier`: a linear model of words and sentence vectors, for texts."""

from copy import copy
from numbers import Integral, Real
from typing import Any

import numpy as np
from scipy import sparse
from scipy.special import softmax
from sklearn.base import ClassifierMixin, clone
from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer
from sklearn.linear_model import SGDClassifier
from sklearn.pipeline import Pipeline, make_pipeline, make_union
from sklearn.utils import check_random_state, compute_sample_weight
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    _check_sample_weight,
    check_consistent_length,
    check_is_fitted,
    column_or_1d,
    validate_data,
)

from skllmreg.students._sentence_encoder import SentenceEncoder
from skllmreg.students._soft_logistic import FEW_ROWS, LogisticProblem
from skllmreg.utils._doc_link import DocLinkMixin
from skllmreg.utils._labels import known_target
from skllmreg.utils._shared import SharedByClones
from skllmreg.utils._validation import is_table, text_columns

# Fewer distinct texts are too few to choose the strength of the penalty by.
LEAST_ROWS, DEFAULT_C = 50, 10.0


class TextClassifier(DocLinkMixin, ClassifierMixin, SharedByClones):
    """Linear classifier of texts: words and parts of words, beside a sentence encoder's vectors.

    Without an encoder it is a bag of hashed words and parts of words, weighted by their rarity,
    trained by stochastic gradient descent on the log-loss, in seconds for 10,000 short texts on one
    core. With an encoder, it is a logistic regression on the encoder's vectors and these words side
    by side. Vectors know what is meant, words how it is said; where one of them says little, the
    penalty leaves the decision to the other.

    Parameters
    ----------
    encoder : SentenceEncoder, other transformer, or model of a SentenceEncoder, default=None
        What turns texts into vectors: a :class:`SentenceEncoder`, any transformer of texts, or what
        a SentenceEncoder takes as its `model` (a folder, a name, a function). None uses words
        alone.
    C : "auto" or float, default="auto"
        Inverse strength of the penalty; used only with an encoder. "auto" chooses among 1, 3, 10,
        30 and 100 by the log-loss of rows that are held out; 10 for fewer than 50 distinct texts.
    word_ngrams : tuple of int, default=(1, 2)
        Least and most words of a feature.
    char_ngrams : tuple of int or None, default=(2, 4)
        Least and most characters of a feature inside a word, robust to spelling; None for none.
    n_features : int, default=2**18
        Columns for words, and for parts of words. Less memory, more collisions with fewer.
    alpha : float, default=1e-5
        Weight of the ridge; used only without an encoder.
    max_iter : int, default=20
        Passes over the training rows; used only without an encoder.
    class_weight : dict or "balanced", default=None
        Weights of the classes; "balanced" gives all the same total weight.
    random_state : int, RandomState instance or None, default=None
        Seeds the order of the rows, or which of them are held out for the choice of C.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    features_ : list of Pipeline
        From texts to a sparse matrix of words, for each column of texts.
    linear_ : SGDClassifier
        Only without an encoder.
    encoder_ : transformer or None
        The fitted encoder.
    C_ : float
        The inverse strength of the penalty; only with an encoder.
    coef_ : ndarray of shape (n_outputs, n_vector_features + n_word_features)
        Only with an encoder. One output for two classes, otherwise one for each class; of the
        columns for words only those of words that occur in the training texts.
    intercept_ : ndarray of shape (n_outputs,)
    n_features_in_ : int
        Number of columns of texts; only for frames and arrays with columns.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)

    Notes
    -----
    Of a table with several columns of texts, each column has words of its own. For what an encoder
    adds see :class:`SentenceEncoder`: vectors of each column, and differences and products of two.

    With an encoder a text that occurs several times, as it does where soft labels are rows with
    weights, is one row with a distribution over the classes.

    Examples
    --------
    >>> from skllmreg.students import TextClassifier
    >>> texts = ["My parcel is late", "Where is my parcel?", "I want my money back", "Refund me"]
    >>> model = TextClassifier(random_state=0).fit(texts, ["parcel", "parcel", "money", "money"])
    >>> model.predict(["Is the parcel on its way?"])
    array(['parcel'], dtype='<U6')

    With a sentence encoder (``pip install 'skllmreg[text]'``):

    >>> model = TextClassifier("sentence-transformers/all-MiniLM-L6-v2")
    >>> model.fit(texts, ["parcel", "parcel", "money", "money"]).predict(
    ...     ["Has the package been sent?"]
    ... )  # doctest: +SKIP
    array(['parcel'], dtype='<U6')
    """

    _parameter_constraints: dict = {
        "encoder": [
            HasMethods(["fit", "transform"]),
            *SentenceEncoder._parameter_constraints["model"],
        ],
        "C": [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither")],
        "word_ngrams": [tuple],
        "char_ngrams": [tuple, None],
        "n_features": [Interval(Integral, 1, None, closed="left")],
        "alpha": [Interval(Real, 0, None, closed="neither")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "class_weight": [dict, StrOptions({"balanced"}), None],
        "random_state": ["random_state"],
    }

    _shared_by_clones = ("encoder",)

    def __init__(
        self,
        encoder=None,
        *,
        C="auto",
        word_ngrams=(1, 2),
        char_ngrams=(2, 4),
        n_features=2**18,
        alpha=1e-5,
        max_iter=20,
        class_weight=None,
        random_state=None,
    ):
        self.encoder = encoder
        self.C = C
        self.word_ngrams = word_ngrams
        self.char_ngrams = char_ngrams
        self.n_features = n_features
        self.alpha = alpha
        self.max_iter = max_iter
        self.class_weight = class_weight
        self.random_state = random_state

    def fit(self, X, y, sample_weight=None):
        """Fit to texts.

        Parameters
        ----------
        X : sequence of str of shape (n_samples,), or table of shape (n_samples, n_columns)
            Texts, or columns of texts.
        y : array-like of shape (n_samples,)
        sample_weight : array-like of shape (n_samples,), default=None

        Returns
        -------
        self
        """
        self._validate_params()
        columns, y = text_columns(X), column_or_1d(known_target(y), warn=True)
        check_consistent_length(columns[0], y, sample_weight)
        check_classification_targets(y)
        if is_table(X):
            validate_data(self, X, skip_check_array=True)
        # Soft labels repeat a text per class: its features are computed, and counted, once.
        position: dict[tuple, int] = {}
        rows = [position.setdefault(row, len(position)) for row in zip(*columns, strict=True)]
        distinct = [np.array(column, dtype=object) for column in zip(*position, strict=True)]
        self.features_ = [self._features().fit(column) for column in distinct]
        if self.encoder is None:
            self._fit_words(distinct, rows, y, sample_weight)
        else:
            self._fit_with_encoder(distinct, rows, y, sample_weight)
        return self

    def _fit_words(self, distinct, rows, y, sample_weight):
        words = self._words(distinct)
        # The weights of words that do not occur would stay 0, and be most of the memory.
        self._kept = np.flatnonzero(words.getnnz(axis=0))
        self.linear_ = SGDClassifier(
            loss="log_loss",
            alpha=self.alpha,
            max_iter=self.max_iter,
            tol=None,
            class_weight=self.class_weight,
            random_state=self.random_state,
        ).fit(words[:, self._kept][rows], y, sample_weight=sample_weight)
        self.classes_ = self.linear_.classes_
        self.encoder_: Any = None

    def _fit_with_encoder(self, distinct, rows, y, sample_weight):
        weight = _check_sample_weight(sample_weight, y, dtype=np.float64)
        if self.class_weight is not None:
            weight = weight * compute_sample_weight(self.class_weight, y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"y holds one class, {self.classes_[0]!r}; a classifier needs two.")
        mass = np.zeros((len(distinct[0]), len(self.classes_)))
        np.add.at(mass, (rows, codes), weight)
        used = np.flatnonzero(mass.sum(axis=1))
        mass = mass[used]
        distinct = [column[used] for column in distinct]

        self.encoder_ = clone(as_transformer(self.encoder)).fit(as_rows(distinct))
        words = self._words(distinct)
        # In many texts, a word that only one of them has says nothing about others.
        enough = 2 if len(used) > FEW_ROWS else 1
        self._kept = np.flatnonzero(words.getnnz(axis=0) >= enough)
        problem = LogisticProblem(
            [self._vectors(distinct), words[:, self._kept]],
            mass / mass.sum(axis=1, keepdims=True),
            mass.sum(axis=1),
        )
        self.C_ = self.C
        if self.C == "auto":
            rng = check_random_state(self.random_state)
            self.C_ = problem.best_strength(rng) if len(used) >= LEAST_ROWS else DEFAULT_C
        self.coef_, self.intercept_ = problem.fit(self.C_)

    def predict(self, X):
        """Predict the classes of texts.

        Parameters
        ----------
        X : like in `fit`

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        decision = self.decision_function(X)
        chosen = decision.argmax(axis=1) if decision.ndim == 2 else (decision > 0).astype(int)
        return self.classes_[chosen]

    def predict_proba(self, X):
        """Compute the classes' probabilities.

        Parameters
        ----------
        X : like in `fit`

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
        """
        if self._has_encoder():
            decision = self.decision_function(X)
            if decision.ndim == 1:
                decision = np.column_stack([np.zeros_like(decision), decision])
            return softmax(decision, axis=1)
        return self.linear_.predict_proba(self._words(self._columns(X))[:, self._kept])

    def decision_function(self, X):
        """Compute the logits: of ``classes_[1]``, or of each class.

        Parameters
        ----------
        X : like in `fit`

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_classes)
            Without an encoder, the logits of each class against the rest.
        """
        has_encoder, columns = self._has_encoder(), self._columns(X)
        words = self._words(columns)[:, self._kept]
        if not has_encoder:
            return self.linear_.decision_function(words)
        vectors = self._vectors(columns)
        coef, n = self.coef_.T, vectors.shape[1]
        decision = vectors @ coef[:n] + words @ coef[n:] + self.intercept_
        return decision[:, 0] if decision.shape[1] == 1 else decision

    def _has_encoder(self):
        check_is_fitted(self, "classes_")
        return self.encoder_ is not None

    def _columns(self, X):
        columns = text_columns(X)
        if is_table(X) and hasattr(self, "n_features_in_"):
            validate_data(self, X, skip_check_array=True, reset=False)
        if len(columns) != len(self.features_):
            raise ValueError(
                f"X has {len(columns)} columns of texts; the model was fitted on "
                f"{len(self.features_)}."
            )
        return columns

    def _words(self, columns):
        """Compute the words of texts, (n_samples, n_columns * 2 * n_features)."""
        parts = [one.transform(texts) for one, texts in zip(self.features_, columns, strict=True)]
        return parts[0] if len(parts) == 1 else sparse.hstack(parts, format="csr")

    def _vectors(self, columns):
        return np.asarray(self.encoder_.transform(as_rows(columns)), dtype=np.float64)

    def _features(self):
        shared = {"n_features": self.n_features, "alternate_sign": False, "norm": None}
        # Single characters and question marks are words too: in short texts they tell much.
        parts = [
            HashingVectorizer(
                ngram_range=self.word_ngrams, token_pattern=r"(?u)\b\w+\b|[?!]", **shared
            )
        ]
        if self.char_ngrams is not None:
            parts.append(
                HashingVectorizer(ngram_range=self.char_ngrams, analyzer="char_wb", **shared)
            )
        return make_pipeline(make_union(*parts), TfidfTransformer(sublinear_tf=True))

    def __getstate__(self):
        """Save what the texts have touched: of half a million hashed words, a few thousand."""
        state = dict(super().__getstate__())
        if "features_" in state:
            state["features_"] = [_packed(features) for features in state["features_"]]
        return state

    def __setstate__(self, state):
        super().__setstate__(state)
        for features in state.get("features_", ()):
            usual, index, values = features[-1].idf_
            features[-1].idf_ = np.full(features[-1].n_features_in_, usual)
            features[-1].idf_[index] = values

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.two_d_array = False
        return tags


def _packed(features):
    """Copy a pipeline with the weights of words: the usual one, and where another one is."""
    *before, (name, weights) = features.steps
    weights, idf = copy(weights), weights.idf_
    index = np.flatnonzero(idf != idf.max())
    weights.idf_ = idf.max(), index, idf[index]
    return Pipeline([*before, (name, weights)])


def as_rows(columns):
    """Join columns of texts to what an encoder takes: texts, or an array with columns."""
    return columns[0] if len(columns) == 1 else np.column_stack(columns)


def encoder_of(estimator):
    """Return the SentenceEncoder that a student begins with, or None."""
    while isinstance(estimator, Pipeline):
        estimator = estimator.steps[0][1]
    if isinstance(estimator, TextClassifier):
        estimator = as_transformer(estimator.encoder)
    return estimator if isinstance(estimator, SentenceEncoder) else None


def as_transformer(encoder):
    """Make a SentenceEncoder of what is not a transformer; None stays None."""
    if encoder is None or hasattr(encoder, "transform"):
        return encoder
    return SentenceEncoder(encoder)
