r"""Compute the loss of a network whose attributions are aligned with scores.

.. math:: \frac{\sum_i s_i \ell(y_i, f(x_i))}{\sum_i s_i}
          + \gamma \frac{\sum_i r_i (1 - \cos(a(x_i), t(x_i)))}{\sum_i r_i}
          + \frac{\alpha}{2} \sum_l \|W_l\|^2

The attribution a of a row, (n_outputs, n_features), and what it is compared with:

- "gradient": the gradient of the outputs by the inputs, with the direction T of the scores;
- "input_x_gradient", "integrated_gradients": the gradient at the row, or its mean on the way from
  the baseline to the row, times the row's distance from the baseline. A score says what a *larger*
  value does; so it is compared with T times that same distance.

With one output per class, attributions are centered over the classes, as T is: softmax does not
change when the same function is added to all outputs. For a linear f with gradients this is the
objective of the linear model.

Rows without a label have s_i = 0 and count in the second term alone. Biases are not penalized.
"""

import torch
from torch.nn import functional

from skllmreg.nn._attributions import cosines, input_gradients, path_gradients

MIN_LENGTH = 1e-3  # of an attribution: shorter ones do not point fully anywhere


def log_loss(outputs, Y):
    """Return the log-loss of every row; one output is the logit of the second class."""
    if outputs.shape[1] == 1:
        return (functional.softplus(outputs) - Y * outputs)[:, 0]
    return torch.logsumexp(outputs, dim=1) - (Y * outputs).sum(dim=1)


def half_squared_error(outputs, Y):
    """Return half the squared error of every row."""
    return 0.5 * (outputs - Y).square().sum(dim=1)


LOSSES = {"log_loss": log_loss, "squared_error": half_squared_error}


class AlignedLoss(torch.nn.Module):
    """The objective above.

    Parameters
    ----------
    loss : {"log_loss", "squared_error"}
    target : tensor of shape (n_outputs, n_features)
        The direction of the scores; all zero means that there is nothing to align with.
    baseline : tensor of shape (n_features,)
    gamma, alpha : float
    attribution : {"gradient", "input_x_gradient", "integrated_gradients"}
    per_sample : bool
        False compares the mean gradient over the rows, as the code of the LAAT authors does.
    """

    target: torch.Tensor
    baseline: torch.Tensor

    def __init__(self, loss, target, baseline, *, gamma, alpha, attribution, per_sample):
        super().__init__()
        self.loss = LOSSES[loss]
        self.register_buffer("target", target)
        self.register_buffer("baseline", baseline)
        self.gamma = gamma if target.any() else 0.0
        self.alpha = alpha
        self.attribution = attribution
        self.per_sample = per_sample

    def forward(self, module, X, Y, loss_weight, row_weight):
        """Compute the objective on a batch whose weights have mean 1 over all rows."""
        X = X.detach().requires_grad_()
        outputs = module(X)
        value = self.data_loss(outputs, Y, loss_weight)
        if self.gamma:
            value = value + self.gamma * self.misalignment(module, X, outputs, row_weight)
        if self.alpha:
            value = value + self.alpha / 2 * sum(torch.vdot(w, w) for w in weights(module))
        return value

    def data_loss(self, outputs, Y, loss_weight):
        """Return the weighted mean loss."""
        return (loss_weight * self.loss(outputs, Y)).mean()

    def misalignment(self, module, X, outputs, row_weight):
        """Return the weighted mean over the rows of 1 - cos."""
        if self.attribution == "integrated_gradients":
            attributions = path_gradients(module, X, self.baseline)
        else:
            attributions = input_gradients(outputs, X)
        if attributions.shape[1] > 1:
            attributions = attributions - attributions.mean(dim=1, keepdim=True)
        target = self.target[None]
        if self.attribution != "gradient":
            distance = (X.detach() - self.baseline)[:, None]
            attributions, target = attributions * distance, target * distance
        if not self.per_sample:
            attributions = (row_weight[:, None, None] * attributions).mean(dim=0, keepdim=True)
            return 1 - cosines(attributions, target, MIN_LENGTH)[0]
        return (row_weight * (1 - cosines(attributions, target, MIN_LENGTH))).mean()


def weights(module):
    """Trainable parameters that are not biases, each as a vector."""
    return [p.flatten() for p in module.parameters() if p.requires_grad and p.ndim > 1]
