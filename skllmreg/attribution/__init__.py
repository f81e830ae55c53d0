"""Models drawn to an LLM's scores of their features (LAAT, arXiv:2502.20268)."""

from skllmreg.attribution._classifier import LLMAttributionRegularizedClassifier

__all__ = ["LLMAttributionRegularizedClassifier"]
