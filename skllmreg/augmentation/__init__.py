"""Generation (GOLD): an LLM writes training rows where the student is weak."""

from skllmreg.augmentation._augmenter import GOLDAugmenter
from skllmreg.augmentation._display import GenerationDisplay
from skllmreg.augmentation._energy import energy_score
from skllmreg.augmentation._requests import GenerationRequest
from skllmreg.augmentation._seq2seq import GOLDSeq2SeqAugmenter
from skllmreg.augmentation._targets import (
    answer_in,
    exact_match,
    json_schema,
    matches,
    rouge_l,
    token_f1,
)

__all__ = [
    "GOLDAugmenter",
    "GOLDSeq2SeqAugmenter",
    "GenerationDisplay",
    "GenerationRequest",
    "answer_in",
    "energy_score",
    "exact_match",
    "json_schema",
    "matches",
    "rouge_l",
    "token_f1",
]
