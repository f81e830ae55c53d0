"""The default text student: raw strings into a linear model, on any CPU."""

from numbers import Integral, Real

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer
from sklearn.linear_model import SGDClassifier
from sklearn.pipeline import make_pipeline, make_union
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_consistent_length, check_is_fitted, column_or_1d

from skllmreg.utils._doc_link import DocLinkMixin
from skllmreg.utils._validation import check_texts


class TextClassifier(DocLinkMixin, ClassifierMixin, BaseEstimator):
    """Linear classifier of texts: hashed words and parts of words, weighted by their rarity.

    Trained by stochastic gradient descent on the log-loss, in seconds for 10,000 short texts on one
    core. Memory is bounded: there is no vocabulary to grow.

    Parameters
    ----------
    word_ngrams : tuple of int, default=(1, 2)
        Least and most words of a feature.
    char_ngrams : tuple of int or None, default=(2, 4)
        Least and most characters of a feature inside a word, robust to spelling; None for none.
    n_features : int, default=2**18
        Columns for words, and for parts of words. Less memory, more collisions with fewer.
    alpha : float, default=1e-5
        Weight of the ridge.
    max_iter : int, default=20
        Passes over the training rows.
    class_weight : dict or "balanced", default=None
    random_state : int, RandomState instance or None, default=None

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    features_ : Pipeline
        From texts to a sparse matrix.
    linear_ : SGDClassifier

    Examples
    --------
    >>> from skllmreg.students import TextClassifier
    >>> texts = ["My parcel is late", "Where is my parcel?", "I want my money back", "Refund me"]
    >>> model = TextClassifier(random_state=0).fit(texts, ["parcel", "parcel", "money", "money"])
    >>> model.predict(["Is the parcel on its way?"])
    array(['parcel'], dtype='<U6')
    """

    _parameter_constraints: dict = {
        "word_ngrams": [tuple],
        "char_ngrams": [tuple, None],
        "n_features": [Interval(Integral, 1, None, closed="left")],
        "alpha": [Interval(Real, 0, None, closed="neither")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "class_weight": [dict, StrOptions({"balanced"}), None],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        *,
        word_ngrams=(1, 2),
        char_ngrams=(2, 4),
        n_features=2**18,
        alpha=1e-5,
        max_iter=20,
        class_weight=None,
        random_state=None,
    ):
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
        X : sequence of str of shape (n_samples,)
        y : array-like of shape (n_samples,)
        sample_weight : array-like of shape (n_samples,), default=None

        Returns
        -------
        self
        """
        self._validate_params()
        X, y = check_texts(X), column_or_1d(y, warn=True)
        check_consistent_length(X, y, sample_weight)
        check_classification_targets(y)
        # Soft labels repeat a text per class: its features are computed, and counted, once.
        texts, rows = np.unique(X, return_inverse=True)
        self.features_ = self._features().fit(texts)
        self.linear_ = SGDClassifier(
            loss="log_loss",
            alpha=self.alpha,
            max_iter=self.max_iter,
            tol=None,
            class_weight=self.class_weight,
            random_state=self.random_state,
        ).fit(self.features_.transform(texts)[rows], y, sample_weight=sample_weight)
        self.classes_ = self.linear_.classes_
        return self

    def predict(self, X):
        """Predict the classes of texts.

        Parameters
        ----------
        X : sequence of str of shape (n_samples,)

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        features = self._transform(X)
        return self.linear_.predict(features)

    def predict_proba(self, X):
        """Compute the classes' probabilities.

        Parameters
        ----------
        X : sequence of str of shape (n_samples,)

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
        """
        features = self._transform(X)
        return self.linear_.predict_proba(features)

    def decision_function(self, X):
        """Compute the logits: of ``classes_[1]``, or of each class against the rest.

        Parameters
        ----------
        X : sequence of str of shape (n_samples,)

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_classes)
        """
        features = self._transform(X)
        return self.linear_.decision_function(features)

    def _transform(self, X):
        check_is_fitted(self)
        return self.features_.transform(check_texts(X))

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

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.two_d_array = False
        return tags
