"""Compute the symmetric cross-entropy, which is robust to wrong labels."""

import math

import torch
from torch.nn import functional


class SymmetricCrossEntropyLoss(torch.nn.CrossEntropyLoss):
    r"""Cross-entropy plus its mirror image, for labels of which some are wrong.

    .. math:: \alpha\,\mathrm{CE}(y, p) + \beta\,\mathrm{RCE}(y, p),\qquad
              \mathrm{RCE} = -\sum_k p_k \log \max(y_k, A)

    with p the softmax of the logits [1]_. For a label y as a class, RCE is
    :math:`-\log A\,(1 - p_y)`, the mean absolute error up to a constant: its gradient fades where
    the model is sure that the label is wrong, while that of the cross-entropy is largest there.

    GOLD trains its final student with it [2]_. Being a ``CrossEntropyLoss``, it has a skorch net
    turn logits into probabilities: ``criterion=SymmetricCrossEntropyLoss, criterion__alpha=0.1``.

    Parameters
    ----------
    alpha : float, default=0.1
        Weight of the cross-entropy; GOLD takes 0.01 to 1 by task.
    beta : float, default=1.0
        Weight of the reverse cross-entropy.
    floor : float, default=1e-4
        A, in place of a zero in the target: :math:`-\log A` is 9.21.
    ignore_index : int, default=-100
        Label of what does not count, such as padding.
    reduction : {"mean", "sum", "none"}, default="mean"
        The mean is over what counts.

    References
    ----------
    .. [1] Wang et al. (2019), "Symmetric cross entropy for robust learning with noisy labels",
       ICCV, equations 5 and 7.
    .. [2] Gholami et al. (2024), "GOLD: Generalized knowledge distillation via out-of-distribution-
       guided language data generation", Findings of NAACL, arXiv:2403.19754.

    Examples
    --------
    >>> import torch
    >>> from skllmreg.nn import SymmetricCrossEntropyLoss
    >>> logits = torch.tensor([[2.0, 0.0, 0.0], [0.0, 3.0, 0.0]])
    >>> loss = SymmetricCrossEntropyLoss(alpha=0.1, beta=1.0)
    >>> round(float(loss(logits, torch.tensor([0, 1]))), 2)
    1.41
    """

    def __init__(self, alpha=0.1, beta=1.0, *, floor=1e-4, ignore_index=-100, reduction="mean"):
        if alpha < 0 or beta < 0 or not 0 < floor < 1:
            raise ValueError(
                "alpha and beta are weights, at least 0, and floor is between 0 and 1; got "
                f"alpha={alpha}, beta={beta}, floor={floor}."
            )
        super().__init__(ignore_index=ignore_index, reduction=reduction)
        self.alpha = alpha
        self.beta = beta
        self.floor = floor

    def forward(self, logits, target):
        """Compute the loss.

        Parameters
        ----------
        logits : tensor of shape (n_samples, n_classes) or (n_samples, n_classes, n_tokens)
        target : tensor of int of shape (n_samples,) or (n_samples, n_tokens)
            Classes; or probabilities, of the shape of the logits.

        Returns
        -------
        tensor
            A number, with ``reduction="none"`` one per label.
        """
        cross_entropy = functional.cross_entropy(
            logits, target, reduction="none", ignore_index=self.ignore_index
        )
        if target.is_floating_point():
            log_target = target.clamp_min(self.floor).log()
            reverse = -(functional.softmax(logits, dim=1) * log_target).sum(dim=1)
            n_counted = reverse.numel()
        else:
            # -log A (1 - p_y), with p_y = exp(-CE): 0 for what is ignored, as its CE is 0.
            reverse = math.log(self.floor) * torch.expm1(-cross_entropy)
            n_counted = (target != self.ignore_index).sum()
        loss = self.alpha * cross_entropy + self.beta * reverse
        if self.reduction == "none":
            return loss
        return loss.sum() if self.reduction == "sum" else loss.sum() / n_counted
