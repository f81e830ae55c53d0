"""Fine-tune a sequence-to-sequence transformer: texts in, texts out, and the energy of both."""

from numbers import Integral, Real

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from skllmreg.utils._doc_link import DocLinkMixin
from skllmreg.utils._validation import check_texts, check_texts_and_targets


class Seq2SeqTransformer(DocLinkMixin, BaseEstimator):
    r"""Train an encoder-decoder on pairs of texts; needs ``pip install 'skllmreg[transformers]'``.

    Works with every model of ``AutoModelForSeq2SeqLM``, such as T5 and BART: a pretrained one, or
    one trained from scratch from its configuration, which for short, regular texts (dates, slots)
    is small enough for a CPU.

    Parameters
    ----------
    model : str or transformers.PretrainedConfig
        Name on the Hugging Face hub, or a folder with model and tokenizer. Of a configuration, such
        as ``T5Config(d_model=64, ...)``, the weights are drawn at random; its vocabulary gets the
        size of the tokenizer's.
    tokenizer : "characters", str or transformers tokenizer, default=None
        "characters" takes each character as a token. None is the tokenizer of the model's folder,
        and "characters" for a configuration.
    loss : {"ce", "symmetric"}, default="ce"
        Loss of each target token: cross-entropy, or
        :class:`~skllmreg.nn.SymmetricCrossEntropyLoss`, which wrong targets pull less at.
    alpha : float, default=0.1
        Weight of the cross-entropy in the symmetric loss; GOLD [1]_ takes 0.01 to 1 by task.
    max_input, max_target : int, default=256 and 64
        Maximum number of tokens of an input and of a target; longer ones are cut at the end.
    max_epochs : int, default=10
        Passes over the training pairs.
    batch_size : int, default=16
        Pairs in an optimization step. Pairs of like length are put into the same batch.
    lr : float, default=3e-4
        Largest learning rate of AdamW: it is reached after a twentieth of the steps, and then falls
        linearly to zero. Small models from a configuration bear 3e-3.
    weight_decay : float, default=0.01
        Decoupled weight decay of AdamW.
    device : str, default="auto"
        "auto" is a GPU where there is one.
    random_state : int, RandomState instance or None, default=None
        Seeds the weights that are not pretrained, the order of the pairs and dropout.

    Attributes
    ----------
    model_ : transformers.PreTrainedModel
        The trained model.
    tokenizer_ : object
        The tokenizer, with its alphabet.
    loss_curve_ : list of float
        Mean loss of each epoch.

    References
    ----------
    .. [1] Gholami et al. (2024), "GOLD: Generalized knowledge distillation via out-of-distribution-
       guided language data generation", Findings of NAACL, arXiv:2403.19754.

    Examples
    --------
    >>> from transformers import T5Config
    >>> from skllmreg.students import Seq2SeqTransformer
    >>> config = T5Config(d_model=32, d_kv=16, d_ff=64, num_layers=1, num_heads=2)
    >>> model = Seq2SeqTransformer(config, max_epochs=2, lr=3e-3, device="cpu", random_state=0)
    >>> X, y = ["3 May 2024", "4 June 2024"], ["2024-05-03", "2024-06-04"]
    >>> model.fit(X, y).energy(X, y).shape
    (2,)
    """

    _parameter_constraints: dict = {
        "model": [str, object],
        "tokenizer": [str, object, None],
        "loss": [StrOptions({"ce", "symmetric"})],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "max_input": [Interval(Integral, 2, None, closed="left")],
        "max_target": [Interval(Integral, 2, None, closed="left")],
        "max_epochs": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "lr": [Interval(Real, 0, None, closed="neither")],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "device": [str],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        model,
        *,
        tokenizer=None,
        loss="ce",
        alpha=0.1,
        max_input=256,
        max_target=64,
        max_epochs=10,
        batch_size=16,
        lr=3e-4,
        weight_decay=0.01,
        device="auto",
        random_state=None,
    ):
        self.model = model
        self.tokenizer = tokenizer
        self.loss = loss
        self.alpha = alpha
        self.max_input = max_input
        self.max_target = max_target
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.lr = lr
        self.weight_decay = weight_decay
        self.device = device
        self.random_state = random_state

    def fit(self, X, y):
        """Train from the pretrained, or from random, weights.

        Parameters
        ----------
        X : sequence of str of shape (n_samples,)
            Inputs.
        y : sequence of str of shape (n_samples,)
            Targets.

        Returns
        -------
        self
        """
        self._validate_params()
        self.__dict__.pop("model_", None)
        return self._fit(X, y)

    def partial_fit(self, X, y):
        """Train on, from the weights that an earlier fit has left, for `max_epochs`.

        Parameters
        ----------
        X, y
            As for `fit`. Characters that the first fit has not seen are unknown.

        Returns
        -------
        self
        """
        self._validate_params()
        return self._fit(X, y)

    def _fit(self, X, y):
        X, y = check_texts_and_targets(X, y)
        try:
            import transformers  # noqa: F401
        except ImportError as error:
            raise ImportError(
                "Seq2SeqTransformer needs transformers: pip install 'skllmreg[transformers]'."
            ) from error
        from skllmreg.nn._net import seeded
        from skllmreg.students import _seq2seq_net as net
        from skllmreg.students._transformer_net import pick_device

        device = pick_device(self.device)
        with seeded(check_random_state(self.random_state).randint(2**31 - 1), device):
            if not hasattr(self, "model_"):
                texts = [*X, *y]
                self.tokenizer_ = net.make_tokenizer(self.tokenizer, self.model, texts)
                self.model_ = net.make_model(self.model, self.tokenizer_).to(device)
            self.loss_curve_ = net.train(
                self.model_,
                self._encoded(X, y),
                loss=self.loss,
                alpha=self.alpha,
                max_epochs=self.max_epochs,
                batch_size=self.batch_size,
                lr=self.lr,
                weight_decay=self.weight_decay,
            )
        return self

    def predict(self, X):
        """Write the targets of inputs, the likeliest token at each step.

        Parameters
        ----------
        X : sequence of str of shape (n_samples,)

        Returns
        -------
        ndarray of str objects of shape (n_samples,)
        """
        check_is_fitted(self)
        from skllmreg.students._seq2seq_net import write

        encoded = self.tokenizer_.inputs(check_texts(X).tolist(), self.max_input)
        found = write(self.model_, encoded, self.max_target, self.batch_size)
        return np.array([self.tokenizer_.text(tokens) for tokens in found] + [None], object)[:-1]

    def energy(self, X, y, temperature=1.0):
        r"""Compute the energy of pairs; higher is more out of distribution.

        .. math:: E(x, y) = -\frac{T}{|y|} \sum_{i=1}^{|y|} \log \sum_v \exp(f_v(x, y_{<i}) / T)

        with the logits f of the vocabulary at each token of the target, the end of the text among
        them. Tokens are given, not written ("teacher forcing"), and padding does not count.

        Parameters
        ----------
        X : sequence of str of shape (n_samples,)
        y : sequence of str of shape (n_samples,)
        temperature : float, default=1.0
            T.

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        check_is_fitted(self)
        from skllmreg.students._seq2seq_net import energies

        X, y = check_texts_and_targets(X, y)
        if not temperature > 0:
            raise ValueError(f"The temperature must be positive, got {temperature}.")
        return energies(self.model_, self._encoded(X, y), self.batch_size, temperature)

    def score(self, X, y):
        """Compute the share of inputs whose predicted target is the true one, letter for letter.

        Parameters
        ----------
        X, y : sequence of str of shape (n_samples,)

        Returns
        -------
        float
        """
        y = check_texts(y, "y")
        return float(np.mean(self.predict(X) == y))

    def _encoded(self, X, y):
        return (
            self.tokenizer_.inputs(X.tolist(), self.max_input),
            self.tokenizer_.targets(y.tolist(), self.max_target),
        )

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.two_d_array = False
        tags.target_tags.required = True
        return tags
