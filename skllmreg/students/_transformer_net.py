"""The module and training loop behind `TransformerClassifier`; imported when one is fitted."""

import contextlib
import math
from functools import partial

import numpy as np
import torch
from skorch import NeuralNetClassifier
from skorch.callbacks import Callback, EarlyStopping, LRScheduler
from skorch.dataset import ValidSplit

from skllmreg.nn import SymmetricCrossEntropyLoss

# The head starts from random weights, the encoder from trained ones.
HEAD_LR = 10.0  # times the learning rate
HEAD_LR_ALONE = 200.0  # of a frozen encoder
WARM_UP = 0.1  # share of the steps in which the learning rate grows
LARGEST_GRADIENT = 1.0
PREDICTED_ROWS = 64


class Transformer(torch.nn.Module):
    """A pretrained encoder, the mean of its last hidden states, and a new linear head.

    Parameters
    ----------
    model : str
        Name on the Hugging Face hub, or a folder. A head it may have is left out.
    n_classes : int
    """

    def __init__(self, model, n_classes):
        super().__init__()
        from transformers import AutoModel

        with quiet():
            # Checkpoints in half precision cannot be trained as they are.
            self.encoder = AutoModel.from_pretrained(model).float()
        self.dropout = torch.nn.Dropout(0.1)
        self.head = torch.nn.Linear(self.encoder.config.hidden_size, n_classes)

    def embed(self, attention_mask, **tokens):
        """Average the last hidden states over the tokens that are not padding."""
        states = self.encoder(attention_mask=attention_mask, **tokens).last_hidden_state
        mask = attention_mask[..., None].to(states)
        return (states * mask).sum(dim=1) / mask.sum(dim=1)

    def forward(self, features=None, **tokens):
        """Compute logits from tokens, or from what `embed` made of them."""
        features = self.embed(**tokens) if features is None else features
        return self.head(self.dropout(features))


@contextlib.contextmanager
def quiet():
    """Silence the progress bar and the report of weights that are new or left out."""
    from transformers.utils import logging

    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()


class TokenNet(NeuralNetClassifier):
    """A net on tokens that leaves out the padding that no row of a batch needs."""

    def infer(self, x, **fit_params):
        """Cut the batch after its longest text."""
        if "attention_mask" in x:
            length = int(x["attention_mask"].sum(dim=1).max())
            x = {name: values[:, :length] for name, values in x.items()}
        return super().infer(x, **fit_params)

    def on_grad_computed(self, net, named_parameters, **kwargs):
        """Keep a step from a batch of outliers within bounds."""
        super().on_grad_computed(net, named_parameters, **kwargs)
        torch.nn.utils.clip_grad_norm_(self.module_.parameters(), LARGEST_GRADIENT)


class Ticks(Callback):
    """Count the optimization steps."""

    def __init__(self, tick):
        self.tick = tick

    def on_batch_end(self, net, training=False, **kwargs):
        """Called after each batch."""
        if training:
            self.tick(1)

    def __getstate__(self):
        return {"tick": None}  # a fitted net is pickled without the bar


def learning_rate(step, n_steps):
    """Return the share of the learning rate: it grows for a tenth of the steps, then falls to 0."""
    n_warm = max(1, math.ceil(WARM_UP * n_steps))
    return min((step + 1) / n_warm, max(0.0, (n_steps - step) / max(1, n_steps - n_warm)))


def make_net(
    module,
    labels,
    *,
    loss,
    alpha,
    frozen,
    n_epochs,
    batch_size,
    lr,
    weight_decay,
    validation,
    patience,
    seed,
    device,
    tick,
):
    """Build the net: AdamW, the learning rate growing and then falling linearly.

    Parameters
    ----------
    module : Transformer
    labels : ndarray of int of shape (n_samples,)
        Most probable classes, of which the validation rows get their share.
    loss : {"ce", "symmetric"}
    alpha : float
        Weight of the cross-entropy in the symmetric loss.
    frozen : bool
        Whether the head alone is trained.
    n_epochs, batch_size, lr, weight_decay
        As in `TransformerClassifier`.
    validation : float or None
        Share of the rows whose loss ends the training; None trains for all epochs.
    patience : int
        Epochs without a lower loss.
    seed : int
    device : str
    tick : callable
        Takes 1 after each optimization step.
    """
    n_train, callbacks, split = len(labels), [("ticks", Ticks(tick))], None
    if validation is not None:
        n_valid = math.ceil(validation * len(labels))
        counts = np.unique(labels, return_counts=True)[1]
        stratified = counts.min() > 1 and n_valid >= len(counts)
        split = ValidSplit(validation, stratified=bool(stratified), random_state=seed)
        n_train -= n_valid
        callbacks.append(("stop", EarlyStopping(patience=patience, load_best=True)))
    n_steps = n_epochs * max(1, math.ceil(n_train / batch_size))
    schedule = partial(learning_rate, n_steps=n_steps)
    callbacks.append(
        (
            "schedule",
            LRScheduler(torch.optim.lr_scheduler.LambdaLR, lr_lambda=schedule, step_every="batch"),
        )
    )
    module.encoder.requires_grad_(not frozen)
    criterion: dict = {"criterion": torch.nn.CrossEntropyLoss}
    if loss == "symmetric":
        criterion = {"criterion": SymmetricCrossEntropyLoss, "criterion__alpha": alpha}
    return TokenNet(
        module,
        optimizer=torch.optim.AdamW,
        optimizer__weight_decay=weight_decay,
        optimizer__param_groups=[("head.*", {"lr": lr * (HEAD_LR_ALONE if frozen else HEAD_LR)})],
        lr=lr,
        max_epochs=n_epochs,
        batch_size=batch_size,
        iterator_train__shuffle=True,
        train_split=split,
        callbacks=callbacks,
        device=device,
        verbose=0,
        **criterion,
    )


def run(function, tokens, device):
    """Apply a function to tokenized texts in batches, the longest first; an array of its rows."""
    lengths = tokens["attention_mask"].sum(axis=1)
    order = np.argsort(-lengths, kind="stable")
    outputs = []
    with torch.inference_mode():
        for rows in np.array_split(order, math.ceil(len(order) / PREDICTED_ROWS)):
            length = lengths[rows[0]]
            batch = {
                name: torch.from_numpy(values[rows, :length]).to(device)
                for name, values in tokens.items()
            }
            outputs.append(function(**batch).cpu().numpy())
    found = np.concatenate(outputs)
    back = np.empty_like(found)
    back[order] = found
    return back


def pick_device(device):
    """Choose the fastest device there is for "auto"."""
    if device != "auto":
        return device
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"
