"""Sample selection (LLKD): learn the right rows from a teacher, with few calls."""

from skllmreg.selection._cascade import LLMCascadeClassifier
from skllmreg.selection._llm_teacher import LLMTeacherClassifier
from skllmreg.selection._report import CascadeDisplay, SelectionDisplay
from skllmreg.selection._selector import LLKDSelector
from skllmreg.selection._unlabeled import UnlabeledSplit
from skllmreg.students._calibration import expected_calibration_error

__all__ = [
    "CascadeDisplay",
    "LLKDSelector",
    "LLMCascadeClassifier",
    "LLMTeacherClassifier",
    "SelectionDisplay",
    "UnlabeledSplit",
    "expected_calibration_error",
]
