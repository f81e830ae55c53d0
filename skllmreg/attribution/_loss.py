"""Losses of a linear predictor and their derivatives, and how classes enter them.

Shapes: ``eta`` and ``Y`` are (n_samples, n_outputs). Two classes have one output, the logit of
``classes_[1]``; more have one output per class, through softmax; a regression has one output.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit, logsumexp, softmax
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets


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


def encode_classes(y, sample_weight, class_weight, class_prior):
    """Find the classes, and weigh the rows by them.

    Parameters
    ----------
    y : ndarray of shape (n_samples,)
    sample_weight : ndarray of shape (n_samples,)
    class_weight, class_prior
        As in :class:`LLMAttributionRegularizedClassifier`.

    Returns
    -------
    classes : ndarray of shape (n_classes,)
    codes : ndarray of int of shape (n_samples,)
        Index of each row's class.
    sample_weight : ndarray of shape (n_samples,)
    """
    check_classification_targets(y)
    classes, codes = np.unique(y, return_inverse=True)
    if len(classes) < 2:
        raise ValueError(
            f"Rows of at least two classes are needed; y has one class: {classes.tolist()[0]!r}."
        )
    if class_weight == "balanced" and class_prior is not None:
        raise ValueError(
            'class_weight="balanced" and class_prior both set the classes\' shares: use one.'
        )
    by_class = compute_class_weight(class_weight, classes=classes, y=y, sample_weight=sample_weight)
    return classes, codes, sample_weight * by_class[codes]


def prior_shift(class_prior, classes, Y, sample_weight):
    """Log of the ratios of `class_prior` to the shares in training, a number for each output.

    Parameters
    ----------
    class_prior : array-like of shape (n_classes,), dict or None
        None shifts nothing.
    classes : ndarray of shape (n_classes,)
    Y : ndarray of shape (n_samples, n_outputs)
    sample_weight : ndarray of shape (n_samples,)

    Returns
    -------
    ndarray of shape (n_outputs,)
    """
    if class_prior is None:
        return np.zeros(Y.shape[1])
    prior = class_shares(class_prior, classes)
    share = sample_weight @ Y / sample_weight.sum()
    if len(share) == 1:
        return logit(prior[1:]) - logit(share)
    return np.log(prior / share)


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
