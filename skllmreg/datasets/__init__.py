"""Small data that ships with the package."""

from skllmreg.datasets._attributions import load_attributions
from skllmreg.datasets._generation import load_helpdesk_generation
from skllmreg.datasets._messages import load_helpdesk

__all__ = ["load_attributions", "load_helpdesk", "load_helpdesk_generation"]
