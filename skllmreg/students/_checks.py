"""What students ask of their rows."""

import numpy as np


def check_texts(X):
    """Return texts as an array of objects; an entry that is no str is an error that names it."""
    if isinstance(X, str) or np.ndim(X) != 1:
        raise ValueError("X is a sequence of texts: a list, an array or a series of str.")
    X = np.asarray(X, dtype=object)
    for i, text in enumerate(X):
        if not isinstance(text, str):
            raise ValueError(f"Row {i} of X is {text!r:.50}, not a str.")
    return X
