"""The training loop behind `TransformerClassifier`; imported when one is fitted."""

import contextlib

import numpy as np
import torch
from skorch import NeuralNetClassifier
from skorch.callbacks import LRScheduler


class Transformer(torch.nn.Module):
    """A pretrained encoder with a new head for the classes.

    Parameters
    ----------
    model : str
        Name on the Hugging Face hub, or a folder.
    n_classes : int
    """

    def __init__(self, model, n_classes):
        super().__init__()
        from transformers import AutoModelForSequenceClassification

        with quiet():
            self.encoder = AutoModelForSequenceClassification.from_pretrained(
                model, num_labels=n_classes
            )

    def forward(self, sample_weight=None, **tokens):
        """Compute logits; the weights are for the loss alone."""
        return self.encoder(**tokens).logits


@contextlib.contextmanager
def quiet():
    """Without a progress bar and a report that the head is new, which it always is."""
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


class WeightedNet(NeuralNetClassifier):
    """A net whose rows have weights, which travel with X."""

    def get_loss(self, y_pred, y_true, X=None, training=False):
        """Compute the mean of weight times loss."""
        losses = torch.nn.functional.cross_entropy(y_pred, y_true, reduction="none")
        return (losses * X["sample_weight"].to(losses)).mean()

    def infer(self, x, **fit_params):
        """Leave out the padding that no row of the batch needs."""
        length = int(x["attention_mask"].sum(dim=1).max())
        x = {name: v if name == "sample_weight" else v[:, :length] for name, v in x.items()}
        return super().infer(x, **fit_params)


def make_net(model, n_classes, *, max_epochs, batch_size, lr, weight_decay, device):
    """Build the net: AdamW, the learning rate falling linearly to zero."""
    return WeightedNet(
        Transformer,
        module__model=model,
        module__n_classes=n_classes,
        criterion=torch.nn.CrossEntropyLoss,
        optimizer=torch.optim.AdamW,
        optimizer__weight_decay=weight_decay,
        lr=lr,
        max_epochs=max_epochs,
        batch_size=batch_size,
        iterator_train__shuffle=True,
        train_split=None,
        callbacks=[
            LRScheduler(
                policy=torch.optim.lr_scheduler.LinearLR,
                start_factor=1.0,
                end_factor=1 / max_epochs,
                total_iters=max_epochs - 1,
            )
        ],
        device=device,
        verbose=0,
    )


def predict_logits(net, tokens):
    """Compute the logits of tokenized texts, as an array."""
    n = len(tokens["input_ids"])
    tokens = tokens | {"sample_weight": np.ones(n, dtype=np.float32)}
    return np.concatenate([out.cpu().numpy() for out in net.forward_iter(tokens)])


def pick_device(device):
    """Choose the fastest device there is for "auto"."""
    if device != "auto":
        return device
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"
