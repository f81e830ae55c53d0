"""Losses of a linear predictor and their derivatives, and how classes enter them.

Shapes: ``eta`` and ``Y`` are (n_samples, n_outputs). Two classes have one output, the logit of
``classes_[1]``; more have one output per class, through softmax; a regression has one output.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit, logsumexp, softmax


@dataclass(frozen=True)
class Loss:
    """A loss per row.

    Its gradient is `mean` (what `eta` predicts `Y` to be) less `Y`; `intercept` inverts `mean`.
    """

    value: Callable
    mean: Callable
    intercept: Callable


def encode_labels(y, n_classes):
    """Turn class indices into the 0/1 array of shape (n_samples, n_outputs)."""
    onehot = np.eye(n_classes)[y]
    return onehot[:, 1:] if n_classes == 2 else onehot


def class_shares(prior, classes):
    """Check `class_prior` and bring it into the order of the classes."""
    labels = classes.tolist()
    if isinstance(prior, dict):
        if set(prior) != set(labels):
            raise ValueError(
                f"class_prior needs a share for each class, {', '.join(map(repr, labels))}; "
                f"it has {', '.join(map(repr, prior))}."
            )
        prior = [prior[label] for label in labels]
    shares = np.asarray(prior, dtype=float)
    if shares.shape != (len(labels),) or not np.all(shares > 0) or abs(shares.sum() - 1) > 1e-3:
        raise ValueError(
            f"class_prior must be {len(labels)} positive shares that sum to 1, in the order of "
            f"classes_ ({', '.join(map(repr, labels))}); got {prior!r}."
        )
    return shares / shares.sum()


def log_loss(eta, Y):
    """Return the log-loss of every row, shape (n_samples,)."""
    normalizer = np.logaddexp(0, eta[:, 0]) if eta.shape[1] == 1 else logsumexp(eta, axis=1)
    return normalizer - np.einsum("ik,ik->i", Y, eta)


def probabilities(eta):
    """Return what `Y` is expected to be, shape (n_samples, n_outputs)."""
    return expit(eta) if eta.shape[1] == 1 else softmax(eta, axis=1)


LOG_LOSS = Loss(
    log_loss, probabilities, lambda mean: logit(mean) if len(mean) == 1 else np.log(mean)
)
HALF_SQUARED_ERROR = Loss(
    lambda eta, Y: 0.5 * np.sum((eta - Y) ** 2, axis=1), lambda eta: eta, lambda mean: mean
)
