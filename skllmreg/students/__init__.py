"""Students for texts, for any of the families."""

from skllmreg.students._text import TextClassifier
from skllmreg.students._transformer import TransformerClassifier

__all__ = ["TextClassifier", "TransformerClassifier"]
