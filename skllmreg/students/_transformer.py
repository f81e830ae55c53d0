"""`TransformerClassifier`: a pretrained transformer that selects rows while it trains."""

from numbers import Integral, Real

import numpy as np
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    _check_sample_weight,
    check_consistent_length,
    check_is_fitted,
    column_or_1d,
)

from skllmreg.utils._doc_link import DocLinkMixin
from skllmreg.utils._progress import progress_bar
from skllmreg.utils._validation import check_texts


class TransformerClassifier(DocLinkMixin, ClassifierMixin, BaseEstimator):
    """Fine-tune a pretrained transformer on texts; needs ``pip install 'skllmreg[transformers]'``.

    A linear head on the mean of the last hidden states, trained together with the encoder. Soft
    labels are learned as they are, no text is repeated for them; under a
    :class:`~skllmreg.LLKDSelector` the paper's rule is applied in every batch of one training.

    Parameters
    ----------
    model : str, default="distilroberta-base"
        Name on the Hugging Face hub, or a folder with model and tokenizer: any encoder that
        ``AutoModel`` loads, sentence encoders too. A head that it has, for whatever classes, is
        left out.
    loss : {"ce", "symmetric"}, default="ce"
        Cross-entropy, or :class:`~skllmreg.nn.SymmetricCrossEntropyLoss`, which wrong labels pull
        less at.
    alpha : float, default=0.1
        Weight of the cross-entropy in the symmetric loss.
    freeze_encoder : bool, default=False
        Train the head alone. Texts are then encoded once for all epochs, so that an epoch costs
        next to nothing: raise `max_epochs`. (:class:`TextClassifier` with an `encoder` is the same
        with the optimum of the head, and words beside.)
    max_length : int, default=128
        Maximum number of tokens of a text; longer ones are cut at the end.
    max_epochs : int, default=3
        Passes over the training texts.
    batch_size : int, default=16
        Texts in an optimization step.
    lr : float, default=5e-5
        Largest learning rate of the encoder in AdamW: it is reached after a tenth of the steps and
        then falls linearly to zero. The head's is 10 times as large, and 200 times where the
        encoder is frozen.
    weight_decay : float, default=0.01
        Decoupled weight decay of AdamW.
    early_stopping : bool, default=False
        Hold out `validation_fraction` of the texts, end the training when their loss has not
        fallen for `n_iter_no_change` epochs, and keep the weights of the best epoch.
    validation_fraction : float, default=0.1
        Share of the training texts that are held out; used only with `early_stopping`.
    n_iter_no_change : int, default=2
        Epochs to wait for a lower loss; used only with `early_stopping`.
    device : str, default="auto"
        "auto" is a GPU where there is one.
    random_state : int, RandomState instance or None, default=None
        Seeds the new head, the order of the rows and dropout.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    net_ : skorch.NeuralNetClassifier
        The trained net; ``net_.history`` has the losses of each epoch.
    tokenizer_ : transformers tokenizer
    n_steps_ : int
        Number of optimization steps.
    learned_share_ : ndarray of shape (n_samples,)
        Share of a text's presentations in which it was learned from: 1 without a rule of
        selection; under one, NaN for texts held out by `early_stopping`.

    Examples
    --------
    >>> from skllmreg import LLKDSelector
    >>> from skllmreg.students import TransformerClassifier
    >>> student = TransformerClassifier("sentence-transformers/all-MiniLM-L6-v2", max_epochs=2)
    >>> LLKDSelector(student, strategy="llkd", max_teacher_calls=500).fit(
    ...     texts, y, teacher_proba=proba
    ... )  # doctest: +SKIP
    """

    _parameter_constraints: dict = {
        "model": [str],
        "loss": [StrOptions({"ce", "symmetric"})],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "freeze_encoder": ["boolean"],
        "max_length": [Interval(Integral, 2, None, closed="left")],
        "max_epochs": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "lr": [Interval(Real, 0, None, closed="neither")],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "device": [str],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        model="distilroberta-base",
        *,
        loss="ce",
        alpha=0.1,
        freeze_encoder=False,
        max_length=128,
        max_epochs=3,
        batch_size=16,
        lr=5e-5,
        weight_decay=0.01,
        early_stopping=False,
        validation_fraction=0.1,
        n_iter_no_change=2,
        device="auto",
        random_state=None,
    ):
        self.model = model
        self.loss = loss
        self.alpha = alpha
        self.freeze_encoder = freeze_encoder
        self.max_length = max_length
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.lr = lr
        self.weight_decay = weight_decay
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
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
        y = column_or_1d(y, warn=True)
        check_classification_targets(y)
        classes, codes = np.unique(y, return_inverse=True)
        return self.fit_distributions(
            X, np.eye(len(classes))[codes], classes=classes, sample_weight=sample_weight
        )

    def fit_distributions(
        self, X, target, *, classes, sample_weight=None, rule=None, codes=None, start=None
    ):
        """Fine-tune the model to shares of the classes.

        Parameters
        ----------
        X : sequence of str of shape (n_samples,)
        target : ndarray of shape (n_samples, n_classes)
            Shares of the classes, such as a teacher's probabilities.
        classes : ndarray of shape (n_classes,)
        sample_weight : array-like of shape (n_samples,), default=None
        rule : callable, default=None
            ``rule(codes, weight, need)`` weighs the rows of a batch, 0 for not selected, by the
            teacher's labels, their weights and the entropies of this model (1 for a uniform one).
        codes : ndarray of int of shape (n_samples,), default=None
            The teacher's labels, as positions in `classes`, for the rule; -1 for rows that always
            count.
        start : fitted TransformerClassifier, default=None
            Go on from its weights, for one epoch, in place of those of `model`.

        Returns
        -------
        self
        """
        self._validate_params()
        X, target = check_texts(X), np.asarray(target, dtype=np.float64)
        check_consistent_length(X, target)
        weight = _check_sample_weight(sample_weight, X, dtype=np.float32)
        try:
            from transformers import AutoTokenizer
        except ImportError as error:
            raise ImportError(
                "TransformerClassifier needs transformers: pip install 'skllmreg[transformers]'."
            ) from error

        from skllmreg.nn._net import seeded
        from skllmreg.students._net import fit_net
        from skllmreg.students._transformer_net import Transformer, make_net, pick_device, run

        self.classes_ = classes
        # The net cuts what a whole batch has no tokens for, at the end.
        self.tokenizer_ = AutoTokenizer.from_pretrained(self.model, padding_side="right")
        tokens, device = self._tokens(X), pick_device(self.device)
        seed = check_random_state(self.random_state).randint(2**31 - 1)
        with (
            seeded(seed, device),
            progress_bar(None, None, "Fine-tune", unit="step") as tick,
        ):
            module = start.net_.module_ if start else Transformer(self.model, len(classes))
            if self.freeze_encoder:
                module.to(device).eval()
                tokens = {"features": run(module.embed, tokens, device)}
            net = make_net(
                module,
                target.argmax(axis=1),
                loss=self.loss,
                alpha=self.alpha,
                frozen=self.freeze_encoder,
                n_epochs=1 if start else self.max_epochs,
                batch_size=self.batch_size,
                lr=self.lr,
                weight_decay=self.weight_decay,
                validation=self.validation_fraction if self.early_stopping else None,
                patience=self.n_iter_no_change,
                seed=seed,
                device=device,
                tick=tick,
            )
            self.net_, self.learned_share_ = fit_net(
                net, tokens, target, weight, rule=rule, codes=codes
            )
        self.n_steps_ = sum(len(epoch["batches"]) for epoch in self.net_.history)
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
        from skllmreg.students._transformer_net import run

        module = self.net_.module_.eval()
        return run(module, self._tokens(check_texts(X)), self.net_.device)

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
