r"""A network drawn to the scores: from the estimators' arrays to the net in torch and back.

With a numeric gamma the network is all there is, and its attributions are drawn to the scores.

With ``gamma="auto"`` the linear model comes first: it has found from the labels how far to trust
the scores. The network is added to it and learns what it leaves. Of n rows, by weight, and d
features:

- the gradients of the sum are drawn to the linear model's coefficients with the weight
  `PSEUDO_ROWS` / n: the linear model counts like that many rows;
- the network's weights have a Gaussian prior with a precision of `DECAY` sqrt(d): the decay is that
  over n. With few rows it holds the network, whose last layer starts at zero, at exactly zero, and
  what remains is the linear model; a product of two layers comes to life only if it gains more than
  that, as with a nuclear norm. sqrt(d), because d inputs of unit variance add up to so much noise.
"""

import numpy as np
from scipy import sparse
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state

from skllmreg.attribution._scaling import scaled

PSEUDO_ROWS = 20.0
DECAY = 1.5


def has_network(estimator):
    """Tell whether the parameters ask for a network; the linear model needs no torch."""
    return estimator.module is not None or len(hidden_sizes(estimator)) > 0


def hidden_sizes(estimator):
    """Return the checked sizes of the hidden layers."""
    sizes = np.atleast_1d(estimator.hidden_layer_sizes)
    if sizes.size and not (np.issubdtype(sizes.dtype, np.integer) and np.all(sizes > 0)):
        raise ValueError(
            f"hidden_layer_sizes must be positive integers, got {estimator.hidden_layer_sizes!r}."
        )
    return sizes.tolist()


def fit_network(model, X, Y, sample_weight, X_unlabeled, *, loss, target, linear):
    """Fit the network of an estimator.

    Parameters
    ----------
    model : estimator
        For its parameters.
    X : {ndarray, sparse matrix} of shape (n_samples, n_features)
        Scaled features.
    Y : ndarray of shape (n_samples, n_outputs)
    sample_weight : ndarray of shape (n_samples,)
    X_unlabeled : like X, or None
        Rows of which only the attributions count.
    loss : {"log_loss", "squared_error"}
    target : ndarray of shape (n_outputs, n_features)
        Direction of the scores, of length 1 or zero.
    linear : tuple of (coef, intercept), or None
        The linear model to which the network is added, with ``gamma="auto"``.

    Returns
    -------
    net : skorch net
    gamma : float
    n_iter : int
    """
    # The first line that needs torch.
    from skllmreg.nn import _net
    from skllmreg.nn._loss import AlignedLoss

    if not model.per_sample and model.attribution != "gradient":
        raise ValueError(
            f"per_sample=False needs attribution='gradient': the mean over the rows of "
            f"{model.attribution!r}, which is relative to the mean row, is about zero."
        )
    n_outputs, n_features = target.shape
    rng = check_random_state(model.random_state)
    if linear is None:
        coef, intercept = np.zeros_like(target), np.zeros(n_outputs)
        gamma, alpha = float(model.gamma), model.alpha
    else:
        coef, intercept = linear
        target = coef / (np.linalg.norm(coef) or 1.0)
        total = sample_weight.sum()
        gamma, alpha = PSEUDO_ROWS / total, DECAY * np.sqrt(n_features) / total
    X, held_out = dense(X), None
    if model.early_stopping:
        rows, held = train_test_split(
            np.arange(len(X)),
            test_size=model.validation_fraction,
            random_state=rng.randint(2**31 - 1),
            stratify=Y if loss == "log_loss" else None,
        )
        held_out = X[held], Y[held], sample_weight[held], sample_weight[held]
        X, Y, sample_weight = X[rows], Y[rows], sample_weight[rows]
    row_weight = sample_weight
    if X_unlabeled is not None:
        n = X_unlabeled.shape[0]
        X, Y = np.vstack([X, dense(X_unlabeled)]), np.vstack([Y, np.zeros((n, n_outputs))])
        sample_weight, row_weight = np.r_[sample_weight, np.zeros(n)], np.r_[row_weight, np.ones(n)]
    mean_row = row_weight @ X / row_weight.sum()

    with _net.seeded(rng.randint(2**31 - 1), model.device):
        network = _net.build_network(
            model.module, hidden_sizes(model), coef, intercept, device=model.device
        )
        objective = AlignedLoss(
            loss,
            *_net.tensors((target, mean_row), like=network),
            gamma=gamma,
            alpha=alpha,
            attribution=model.attribution,
            per_sample=model.per_sample,
        )
        net, n_iter = _net.train(
            network,
            objective,
            (X, Y, sample_weight, row_weight),
            held_out,
            batch_size=model.batch_size,
            learning_rate=model.learning_rate,
            max_epochs=model.max_epochs,
            tol=model.tol,
            device=model.device,
        )
    return net, gamma, n_iter


def network_outputs(net, X, location, scale):
    """Outputs of a fitted network for rows in their own units, (n_samples, n_outputs)."""
    from skllmreg.nn._net import predict

    return predict(net, dense(scaled(X, location, scale)))


def dense(X):
    """A network takes arrays."""
    return X.toarray() if sparse.issparse(X) else X
