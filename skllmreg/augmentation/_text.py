"""Texts from strangers, in one clean form."""

import unicodedata

# What joins and separates letters in some scripts and in emoji; other characters of its kind are
# invisible, turn the direction of writing or hide messages.
_JOINERS = "\u200c\u200d"
_UNWANTED = {"Cc", "Cf", "Cs", "Co", "Cn"}
# Letters by their kind, and blank.
_FILLERS = dict.fromkeys(map(ord, "\u115f\u1160\u3164\uffa0"))


def clean_text(text):
    """Bring a text into one form: composed letters, plain spaces, nothing invisible.

    Parameters
    ----------
    text : str

    Returns
    -------
    str
        Can be encoded; lines are kept, runs of other white space are a space.
    """
    if not text.isprintable():
        text = "".join(c for c in text if c.isspace() or _is_wanted(c))
    text = unicodedata.normalize("NFC", text.translate(_FILLERS))
    lines = (" ".join(line.split()) for line in text.splitlines())
    return "\n".join(line for line in lines if line)


def shown(value):
    """A value in a message: short, on one line, whatever it is."""
    try:
        text = repr(value[:80] if isinstance(value, str) else value)
    except Exception:  # a value of a stranger: its repr may do anything
        text = f"<{type(value).__name__}>"
    return text if len(text) <= 60 else text[:57] + "..."


def _is_wanted(character):
    return character in _JOINERS or unicodedata.category(character) not in _UNWANTED
