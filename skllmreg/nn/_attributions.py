"""Attributions of a network: how much, and in which direction, each input moves each output."""

import torch
from torch.nn import functional

PATH_STEPS = 8  # of the integral along the path, by the midpoint rule


def input_gradients(outputs, X):
    """Gradients of the outputs by the rows they belong to, themselves functions of the weights.

    Parameters
    ----------
    outputs : tensor of shape (n_samples, n_outputs)
        Computed row by row from X.
    X : tensor of shape (n_samples, n_features)

    Returns
    -------
    tensor of shape (n_samples, n_outputs, n_features)
    """
    return torch.stack(
        [
            torch.autograd.grad(output.sum(), X, create_graph=True)[0]
            for output in outputs.unbind(dim=1)
        ],
        dim=1,
    )


def path_gradients(predict, X, baseline):
    """Mean of the gradients along the straight line from the baseline to every row.

    The rows' distance from the baseline times this is their integrated gradient (Sundararajan,
    Taly, Yan 2017, equation 1).
    """
    steps = (torch.arange(PATH_STEPS, dtype=X.dtype, device=X.device) + 0.5) / PATH_STEPS
    points = baseline + steps[:, None, None] * (X.detach() - baseline)
    points = points.reshape(-1, X.shape[1]).requires_grad_()
    gradients = input_gradients(predict(points), points)
    return gradients.reshape(PATH_STEPS, len(X), *gradients.shape[1:]).mean(dim=0)


def cosines(attributions, target, floor):
    """Cosine of every attribution with its target, over outputs and features together.

    Parameters
    ----------
    attributions, target : tensors of shape (n_samples or 1, n_outputs, n_features)
    floor : float
        What the length of an attribution is taken to be if it is less: one of zero, such as that
        of a row at which all units are dead, has cosine 0 and a gradient towards the target.

    Returns
    -------
    tensor of shape (n_samples,)
    """
    attributions, target = attributions.flatten(1), target.flatten(1)
    length = torch.linalg.vector_norm(attributions, dim=1).clamp_min(floor)
    target = functional.normalize(target, dim=1, eps=torch.finfo(target.dtype).tiny)
    inner = attributions @ target[0] if len(target) == 1 else (attributions * target).sum(dim=1)
    return inner / length
