"""Students for texts, for any of the families."""

from skllmreg.students._text import TextClassifier

__all__ = ["TextClassifier"]
