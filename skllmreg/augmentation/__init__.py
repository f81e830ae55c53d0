"""Generation (GOLD): an LLM writes training rows where the student is weak."""

from skllmreg.augmentation._augmenter import GOLDAugmenter
from skllmreg.augmentation._display import GenerationDisplay
from skllmreg.augmentation._energy import energy_score
from skllmreg.augmentation._request import GenerationRequest

__all__ = ["GOLDAugmenter", "GenerationDisplay", "GenerationRequest", "energy_score"]
