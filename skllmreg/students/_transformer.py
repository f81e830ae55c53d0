"""A pretrained transformer as a student."""

from numbers import Integral, Real

import numpy as np
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    _check_sample_weight,
    check_consistent_length,
    check_is_fitted,
    column_or_1d,
)

from skllmreg.utils._doc_link import DocLinkMixin
from skllmreg.utils._validation import check_texts


class TransformerClassifier(DocLinkMixin, ClassifierMixin, BaseEstimator):
    """Fine-tune a pretrained transformer on texts; needs ``pip install 'skllmreg[transformers]'``.

    Parameters
    ----------
    model : str, default="distilroberta-base"
        Name on the Hugging Face hub, or a folder with model and tokenizer.
    max_length : int, default=128
        Tokens of a text that are read.
    max_epochs : int, default=3
    batch_size : int, default=16
    lr : float, default=5e-5
        Learning rate at the start; it falls linearly.
    weight_decay : float, default=0.01
    device : str, default="auto"
        "auto" is a GPU where there is one.
    random_state : int, RandomState instance or None, default=None
        Seeds the new head, the order of the rows and dropout.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    net_ : skorch.NeuralNetClassifier
    tokenizer_ : transformers tokenizer

    Examples
    --------
    >>> from skllmreg import LLKDSelector
    >>> from skllmreg.students import TransformerClassifier
    >>> student = TransformerClassifier("distilroberta-base", max_epochs=2)
    >>> LLKDSelector(student, max_teacher_calls=500).fit(
    ...     texts, y, teacher_proba=proba
    ... )  # doctest: +SKIP
    """

    _parameter_constraints: dict = {
        "model": [str],
        "max_length": [Interval(Integral, 2, None, closed="left")],
        "max_epochs": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "lr": [Interval(Real, 0, None, closed="neither")],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "device": [str],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        model="distilroberta-base",
        *,
        max_length=128,
        max_epochs=3,
        batch_size=16,
        lr=5e-5,
        weight_decay=0.01,
        device="auto",
        random_state=None,
    ):
        self.model = model
        self.max_length = max_length
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.lr = lr
        self.weight_decay = weight_decay
        self.device = device
        self.random_state = random_state

    def fit(self, X, y, sample_weight=None):
        """Fine-tune the model.

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
        check_consistent_length(X, y)
        check_classification_targets(y)
        weight = _check_sample_weight(sample_weight, X, dtype=np.float32)
        try:
            from transformers import AutoTokenizer
        except ImportError as error:
            raise ImportError(
                "TransformerClassifier needs transformers: pip install 'skllmreg[transformers]'."
            ) from error

        from skllmreg.nn._net import seeded
        from skllmreg.students._transformer_net import make_net, pick_device

        self.classes_, codes = np.unique(y, return_inverse=True)
        # The net cuts what a whole batch has no tokens for, at the end.
        self.tokenizer_ = AutoTokenizer.from_pretrained(self.model, padding_side="right")
        device = pick_device(self.device)
        with seeded(check_random_state(self.random_state).randint(2**31 - 1), device):
            self.net_ = make_net(
                self.model,
                len(self.classes_),
                max_epochs=self.max_epochs,
                batch_size=self.batch_size,
                lr=self.lr,
                weight_decay=self.weight_decay,
                device=device,
            )
            self.net_.fit(self._tokens(X) | {"sample_weight": weight}, codes)
        return self

    def predict_proba(self, X):
        """Compute the classes' probabilities.

        Parameters
        ----------
        X : sequence of str of shape (n_samples,)

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
        """
        return softmax(self._logits(X), axis=1)

    def decision_function(self, X):
        """Compute the logits: of ``classes_[1]`` against ``classes_[0]``, or of each class.

        Parameters
        ----------
        X : sequence of str of shape (n_samples,)

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_classes)
        """
        logits = self._logits(X)
        return logits[:, 1] - logits[:, 0] if logits.shape[1] == 2 else logits

    def predict(self, X):
        """Predict the classes of texts.

        Parameters
        ----------
        X : sequence of str of shape (n_samples,)

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        proba = self.predict_proba(X)
        return self.classes_[proba.argmax(axis=1)]

    def _logits(self, X):
        check_is_fitted(self)
        from skllmreg.students._transformer_net import predict_logits

        return predict_logits(self.net_, self._tokens(check_texts(X)))

    def _tokens(self, X):
        """Tokenize: {"input_ids", "attention_mask", ...}, padded to the longest text."""
        max_length = min(self.max_length, self.tokenizer_.model_max_length)
        found = self.tokenizer_(X.tolist(), padding=True, truncation=True, max_length=max_length)
        return {name: np.asarray(values) for name, values in found.items()}

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.two_d_array = False
        return tags
