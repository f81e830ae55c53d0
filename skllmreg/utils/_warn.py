"""Issue warnings that point at the user's line."""

import sys
import warnings

# Packages whose frames may lie between the user's line and ours: pipelines, searches, workers.
_INTERNAL = {"skllmreg", "sklearn", "joblib"}


def warn(message, category=UserWarning):
    """Issue a warning that points at the innermost frame outside of these packages.

    Parameters
    ----------
    message : str
    category : type of Warning, default=UserWarning
    """
    frame, level = sys._getframe(1), 2
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] in _INTERNAL:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)
