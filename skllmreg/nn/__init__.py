"""The one private network, and the losses in torch; imported where a network is fitted."""

from skllmreg.nn._symmetric import SymmetricCrossEntropyLoss

__all__ = ["SymmetricCrossEntropyLoss"]
