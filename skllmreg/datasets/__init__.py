"""Small data that ships with the package."""

from skllmreg.datasets._attributions import load_attributions

__all__ = ["load_attributions"]
