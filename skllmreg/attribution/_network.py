r"""Fit a network drawn to the scores: from the estimators' arrays to the net in torch and back.

With a numeric gamma the network is all there is, and its attributions are drawn to the scores.

With ``gamma="auto"`` the linear model comes first: it has found from the labels how far to trust
the scores. The network is added to it and learns what it leaves. Of n rows, by weight, and d
features:

- the gradients of the sum are drawn to the linear model's coefficients with the weight
  `PSEUDO_ROWS` / n: the linear model counts like that many rows;
- the weights have a Gaussian prior of precision c sqrt(d), a decay of that over n. sqrt(d), because
  d inputs of unit variance add up to so much noise. A product of two layers under such a prior
  comes to life only if it gains more than it costs, as with a nuclear norm: with few rows the
  network, whose last layer starts at zero, stays there, and the model is the linear one;
- c is the first of `DECAYS`. From `MIN_ROWS_TO_CHOOSE` rows on it is the one with less loss on a
  third of the rows, held out: where the labels are far from linear, the first one may see nothing.

The constants were chosen on splits of seven data sets other than those that the results are shown
for (see ``benchmarks/attribution_mlp.py``), the second decay on two moons and two circles.
"""

import numpy as np
from scipy import sparse
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state

from skllmreg.attribution._loss import HALF_SQUARED_ERROR, LOG_LOSS
from skllmreg.attribution._scaling import scaled
from skllmreg.utils._progress import progress_bar

LOSSES = {"log_loss": LOG_LOSS, "squared_error": HALF_SQUARED_ERROR}
PSEUDO_ROWS = 40.0
DECAYS = (1.5, 0.3)
MIN_ROWS_TO_CHOOSE = 100


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

    _check_alignment(model)
    rng = check_random_state(model.random_state)
    seed = rng.randint(2**31 - 1)
    n_outputs, n_features = target.shape
    gamma, alphas = model.gamma, [model.alpha]
    coef, intercept = linear or (np.zeros_like(target), np.zeros(n_outputs))
    if linear is not None:
        total = sample_weight.sum()
        target = coef / (np.linalg.norm(coef) or 1.0)
        gamma = PSEUDO_ROWS / total
        alphas = [decay * np.sqrt(n_features) / total for decay in DECAYS]

    def fitted(rows, alpha, held_out=None):
        X, Y, loss_weight, row_weight = with_unlabeled(rows, X_unlabeled)
        mean_row = row_weight @ X / row_weight.sum()
        with _net.seeded(seed, model.device):
            network = _net.build_network(
                model.module, hidden_sizes(model), coef, intercept, device=model.device
            )
            objective = AlignedLoss(
                loss,
                *_net.tensors((target, mean_row), like=network),
                gamma=gamma,
                alpha=alpha,
                attribution=model.alignment,
                per_sample=model.per_sample,
            )
            with progress_bar(_n_steps(model, len(X)), None, "Network", unit="gradient") as tick:
                return _net.train(
                    network,
                    objective,
                    (X, Y, loss_weight, row_weight),
                    None if held_out is None else with_unlabeled(held_out, None),
                    batch_size=model.batch_size,
                    learning_rate=model.learning_rate,
                    max_epochs=model.max_epochs,
                    tol=model.tol,
                    device=model.device,
                    tick=tick,
                )

    def loss_elsewhere(alpha, rows, elsewhere):
        X, Y, weight = elsewhere
        net, _ = fitted(rows, alpha)
        return np.average(LOSSES[loss].value(_net.predict(net, X), Y), weights=weight)

    rows, held_out = (dense(X), Y, sample_weight), None
    if model.early_stopping:
        rows, held_out = split(rows, model.validation_fraction, loss, rng)
    alpha = alphas[0]
    if len(alphas) > 1 and len(Y) >= MIN_ROWS_TO_CHOOSE:
        parts = split(rows, 1 / 3, loss, rng)
        alpha = min(alphas, key=lambda alpha: loss_elsewhere(alpha, *parts))
    net, n_iter = fitted(rows, alpha, held_out)
    return net, float(gamma), n_iter


def _check_alignment(model):
    if not model.per_sample and model.alignment != "gradient":
        raise ValueError(
            f"per_sample=False needs alignment='gradient': the mean over the rows of "
            f"{model.alignment!r}, which is relative to the mean row, is about zero."
        )


def _n_steps(model, n_rows):
    """Number of gradients that training takes; None for L-BFGS, where nobody knows."""
    if model.batch_size is None:
        return None
    return model.max_epochs * -(-n_rows // model.batch_size)


def split(rows, share, loss, rng):
    """Split rows (X, Y, weight) in two, the second with that share; classes keep theirs."""
    classes = rows[1] if loss == "log_loss" else None
    if classes is not None and np.unique(classes, axis=0, return_counts=True)[1].min() < 2:
        classes = None  # a class of one row cannot be in both parts
    seed = rng.randint(2**31 - 1)
    parts = train_test_split(*rows, test_size=share, random_state=seed, stratify=classes)
    return parts[::2], parts[1::2]


def with_unlabeled(rows, X_unlabeled):
    """Append rows without weight in the loss: X, Y, weight in the loss, in the alignment."""
    X, Y, weight = rows
    if X_unlabeled is None:
        return X, Y, weight, weight
    more = dense(X_unlabeled)
    return (
        np.vstack([X, more]),
        np.vstack([Y, np.zeros((len(more), Y.shape[1]))]),
        np.r_[weight, np.zeros(len(more))],
        np.r_[weight, np.ones(len(more))],
    )


def network_outputs(net, X, location, scale):
    """Outputs of a fitted network for rows in their own units, (n_samples, n_outputs)."""
    from skllmreg.nn._net import predict

    return predict(net, dense(scaled(X, location, scale)))


def dense(X):
    """A network takes arrays."""
    return X.toarray() if sparse.issparse(X) else X
