"""Texts from strangers, in one clean form."""

import unicodedata

# What joins and separates letters in some scripts and in emoji; other characters of its kind are
# invisible, turn the direction of writing or hide messages.
_JOINERS = "\u200c\u200d"
_UNWANTED = {"Cc", "Cf", "Cs", "Co", "Cn"}
# Letters by their kind, and blank.
_FILLERS = dict.fromkeys(map(ord, "\u115f\u1160\u3164\uffa0"))

# Of a text of so many characters at most, composing it takes no time worth a look at its marks.
_LONG = 1000
_MOST_MARKS = 30


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
    text = text.translate(_FILLERS)
    if len(text) > _LONG and not text.isascii():
        text = _without_piles(text)
    text = unicodedata.normalize("NFC", text)
    lines = (" ".join(line.split()) for line in text.splitlines())
    return "\n".join(line for line in lines if line)


def clean_if_text(value):
    """Clean a text; what is none stays what it is."""
    return clean_text(value) if isinstance(value, str) else value


def harmless(text):
    """A text of a stranger in a message: what would steer the terminal is written out."""
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)


def _without_piles(text):
    """Drop the marks beyond the 30th on one letter.

    No script piles up as many (Unicode Standard Annex 15, "Stream-Safe Text Format"), and the time
    to compose them grows with their square.
    """
    kept, n_marks = [], 0
    for character in text:
        n_marks = n_marks + 1 if unicodedata.combining(character) else 0
        if n_marks <= _MOST_MARKS:
            kept.append(character)
    return "".join(kept)


def shown(value):
    """A value in a message: short, on one line, whatever it is."""
    try:
        text = repr(value[:80] if isinstance(value, str) else value)
    except Exception:  # a value of a stranger: its repr may do anything
        text = f"<{type(value).__name__}>"
    return text if len(text) <= 60 else text[:57] + "..."


def _is_wanted(character):
    return character in _JOINERS or unicodedata.category(character) not in _UNWANTED
