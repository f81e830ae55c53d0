"""Outputs of a skorch net before the softmax."""

import numpy as np
import torch

# Their nets end in probabilities; skorch takes the logarithm for NLLLoss itself.
ON_PROBABILITIES = (torch.nn.NLLLoss, torch.nn.BCELoss)


def check_logits(net):
    """Raise if a net, fitted or not, has no logits to give."""
    criterion = net.criterion if isinstance(net.criterion, type) else type(net.criterion)
    if issubclass(criterion, ON_PROBABILITIES):
        raise ValueError(
            f"A net with {criterion.__name__} puts out probabilities, of which the energy is "
            "always about the same. Let its module end in logits, with criterion="
            "torch.nn.CrossEntropyLoss (BCEWithLogitsLoss for one output), or give an outlier "
            "detector as ood_score."
        )


def net_logits(net, X):
    """Logits of a fitted net.

    Returns
    -------
    ndarray of shape (n_samples,) or (n_samples, n_outputs)
    """
    outputs = []
    for output in net.forward_iter(X, training=False):
        output = output[0] if isinstance(output, tuple) else output
        outputs.append(output.detach().cpu().double().numpy())
    logits = np.concatenate(outputs)
    return logits[:, 0] if logits.ndim == 2 and logits.shape[1] == 1 else logits
