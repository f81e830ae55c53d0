"""The private skorch net, and the modules it trains."""

import contextlib
import copy

import numpy as np
import torch
from skorch import NeuralNet
from skorch.callbacks import Callback, EarlyStopping, PassthroughScoring
from skorch.dataset import Dataset
from skorch.helper import predefined_split

PATIENCE = 10  # epochs without a better validation loss before early stopping
PREDICTED_ROWS = 8192  # at a time


class Predictor(torch.nn.Module):
    """A module, its outputs made two-dimensional, on top of a linear model that stays as it is."""

    coef: torch.Tensor
    intercept: torch.Tensor

    def __init__(self, module, coef, intercept):
        super().__init__()
        self.module = module
        like = next(module.parameters())
        self.register_buffer("coef", torch.as_tensor(coef).to(like))
        self.register_buffer("intercept", torch.as_tensor(intercept).to(like))

    def forward(self, X):
        outputs = self.module(X)
        n_outputs = len(self.intercept)
        if outputs.shape == (len(X),) and n_outputs == 1:
            outputs = outputs[:, None]
        if outputs.shape != (len(X), n_outputs):
            raise ValueError(
                f"The module turns {len(X)} rows into outputs of shape {tuple(outputs.shape)}; "
                f"expected {(len(X), n_outputs)}: one logit for two classes, one per class for "
                "more, one number for a regression."
            )
        return outputs + X @ self.coef.T + self.intercept


def multilayer_perceptron(n_features, hidden_layer_sizes, n_outputs):
    """Build layers of SiLU units: gradients of ReLU jump, and teach nothing about where."""
    sizes = [n_features, *hidden_layer_sizes]
    layers: list[torch.nn.Module] = []
    for n_in, n_out in zip(sizes[:-1], sizes[1:], strict=True):
        layers += [torch.nn.Linear(n_in, n_out), torch.nn.SiLU()]
    layers.append(torch.nn.Linear(sizes[-1], n_outputs))
    return torch.nn.Sequential(*layers)


def build_network(module, hidden_layer_sizes, coef, intercept, device):
    """Make the network that is to be trained; an instance of the user's is copied.

    The linear model to which it is added, (n_outputs, n_features) and (n_outputs,), may be zero.
    """
    n_outputs, n_features = coef.shape
    if module is None:
        network = multilayer_perceptron(n_features, hidden_layer_sizes, n_outputs)
        if torch.device(device).type == "cpu":
            # The order of rows or of sums then makes no difference; elsewhere it is too slow.
            network = network.double()
        if coef.any():
            torch.nn.init.zeros_(network[-1].weight)
            torch.nn.init.zeros_(network[-1].bias)
    elif isinstance(module, torch.nn.Module):
        network = copy.deepcopy(module)
    else:
        network = module(n_features, n_outputs)
    if not isinstance(network, torch.nn.Module):
        raise TypeError(
            f"module(n_features, n_outputs) returned {type(network).__name__}; it must be a "
            "torch.nn.Module, or a class or function that makes one of these two numbers."
        )
    if not any(p.requires_grad for p in network.parameters()):
        raise ValueError("The module has no parameters to train.")
    return Predictor(network, coef, intercept)


class AttributionNet(NeuralNet):
    """Net whose loss takes gradients by the inputs, and whose rows carry weights.

    The columns of y are the targets, the weight in the loss and the weight in the alignment.
    """

    @property
    def _default_callbacks(self):
        return [
            ("train_loss", PassthroughScoring("train_loss", on_train=True)),
            ("valid_loss", PassthroughScoring("valid_loss")),
        ]

    def get_iterator(self, dataset, training=False):
        """Take batches as slices of tensors: a DataLoader would collect them row by row."""
        return Batches(dataset.X, dataset.y, self.batch_size, shuffle=training)

    def train_step_single(self, batch, **fit_params):
        """Differentiate the objective by the weights alone: the inputs are variables in it."""
        self._set_training(True)
        X, y = batch
        loss = self.criterion_(self.module_, X, *unpack(y))
        if loss.isnan():
            raise ValueError(
                "The loss of the network is NaN. Are there very large values in X (standardize=True"
                " scales them)? Else the module is at fault, or learning_rate is too large."
            )
        loss.backward(inputs=[p for p in self.module_.parameters() if p.requires_grad])
        return {"loss": loss.detach(), "y_pred": None}

    def get_loss(self, y_pred, y_true, *args, **kwargs):
        """Loss of the validation rows: that of their labels."""
        Y, loss_weight, _ = unpack(y_true)
        return self.criterion_.data_loss(y_pred, Y, loss_weight)


class Batches:
    """Batches of rows; in another order on each pass where there are several, if asked to."""

    def __init__(self, X, y, batch_size, *, shuffle):
        self.X, self.y = X, y
        self.batch_size = len(X) if batch_size == -1 else batch_size
        self.shuffle = shuffle and self.batch_size < len(X)

    def __iter__(self):
        rows = torch.arange(len(self.X))
        if self.shuffle:
            rows = torch.randperm(len(self.X))
        for batch in rows.to(self.X.device).split(self.batch_size):
            yield self.X[batch], self.y[batch]


def tensors(arrays, like):
    """Tensors of the arrays, of the type and on the device of a network."""
    return [torch.as_tensor(array).to(like.coef) for array in arrays]


def pack(network, X, Y, loss_weight, row_weight):
    """Make tensors of rows as the net takes them; the weights get a mean of 1."""
    weights = [weight * (len(X) / weight.sum()) for weight in (loss_weight, row_weight)]
    return tensors((X, np.column_stack([Y, *weights])), like=network)


def unpack(y):
    """Undo `pack`."""
    return y[:, :-2], y[:, -2], y[:, -1]


@contextlib.contextmanager
def seeded(seed, device):
    """Seed torch, and give the caller's process its own random state back."""
    on_gpu = torch.device(device).type == "cuda"
    with torch.random.fork_rng(devices=range(torch.cuda.device_count()) if on_gpu else []):
        (torch.manual_seed if on_gpu else torch.default_generator.manual_seed)(seed)
        yield


class Ticks(Callback):
    """Tells that one more step is done, also of those that L-BFGS takes within an epoch."""

    def __init__(self, tick):
        self.tick = tick

    def on_grad_computed(self, net, **kwargs):
        """Called for every gradient."""
        self.tick(1)


def train(
    network, loss, rows, validation, *, batch_size, learning_rate, max_epochs, tol, device, tick
):
    """Train a module: by L-BFGS on all rows at once, or by Adam on batches.

    Parameters
    ----------
    network : Predictor
    loss : AlignedLoss
    rows, validation : tuple of arrays (X, Y, weight in the loss, weight in the alignment)
        With `validation`, training ends when its loss no longer falls, and the best network is
        kept; None trains to the end.
    batch_size : int or None
        None for L-BFGS.
    learning_rate : float
        Of Adam.
    max_epochs : int
        Passes over the rows; iterations of L-BFGS.
    tol : float
        Largest entry of the gradient at the solution, of L-BFGS; it also ends when the objective
        changes by less.
    device : str
    tick : callable
        Takes 1 after every gradient.

    Returns
    -------
    net : AttributionNet
    n_iter : int
    """
    options: dict = {"optimizer": torch.optim.Adam, "lr": learning_rate, "batch_size": batch_size}
    n_steps = max_epochs
    if batch_size is None:
        # All iterations are one epoch of skorch, unless there is something to do between them.
        at_once = 1 if validation else max_epochs
        n_steps = max_epochs // at_once
        options = {
            "optimizer": torch.optim.LBFGS,
            "lr": 1.0,
            "batch_size": -1,
            "optimizer__line_search_fn": "strong_wolfe",
            "optimizer__max_iter": at_once,
            "optimizer__history_size": 10,
            "optimizer__tolerance_grad": tol,
            "optimizer__tolerance_change": tol,
        }
    network = network.to(device)
    held_out = Dataset(*pack(network, *validation)) if validation else None
    stopping = [EarlyStopping(patience=PATIENCE, load_best=True)] if validation else []
    net = AttributionNet(
        network,
        criterion=loss,
        max_epochs=n_steps,
        train_split=predefined_split(held_out) if held_out else None,
        callbacks=[Ticks(tick), *stopping],
        verbose=0,
        device=device,
        **options,
    ).fit(*pack(network, *rows))
    n_iter = len(net.history)
    if batch_size is None and not validation:
        first = next(p for p in net.module_.parameters() if p.requires_grad)
        n_iter = net.optimizer_.state[first]["n_iter"]
    net.trim_for_prediction()
    return net, n_iter


def predict(net, X):
    """Outputs of a fitted net for an array of rows, as an array of (n_samples, n_outputs)."""
    (rows,) = tensors((X,), like=net.module_)
    with torch.no_grad():
        chunks = [net.module_(chunk) for chunk in rows.split(PREDICTED_ROWS)]
    return torch.cat(chunks).cpu().numpy().astype(np.float64)
