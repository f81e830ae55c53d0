"""Bring text into the forms that prompts, messages and rows need."""

import re
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

_WORDS = re.compile(r"\d+(?:[.,/:]\d+)*|\w+(?:'\w+)*|[^\w\s.,;:!?'\"]")


def single_line(text):
    """Collapse all white space of a text to single spaces; for prompts."""
    return " ".join(str(text).split())


def short_line(text: str, width: int = 90) -> str:
    """Cut a text to one printable line; a terminal would obey control characters."""
    line = "".join(c if c.isprintable() else " " for c in " ".join(text[: 4 * width].split()))
    return line if len(line) <= width else line[: width - 3] + "..."


def on_one_line(text: str) -> str:
    """Escape what could begin a line or is invisible; for lists in prompts."""
    return "".join(
        c
        if c.isprintable() or c in _JOINERS or unicodedata.category(c) == "Zs"
        else c.encode("unicode_escape").decode()
        for c in text
    )


def sendable(text):
    """Escape halves of surrogate pairs, which UTF-8 cannot encode, as JSON does."""
    return text.encode("utf-8", "backslashreplace").decode()


def answer_keys(names):
    """Key in the answer for each name: the name itself if a model can copy it without fail.

    Not so long names, and those with quotes, line breaks, invisible characters, or letters outside
    of ASCII, which look alike or are normalized on the way.

    Parameters
    ----------
    names : iterable of str

    Returns
    -------
    dict of str to str
        By name.
    """
    keys, taken = {}, set(names)
    for i, name in enumerate(names, start=1):
        key = name
        if not _is_plain(name):
            key = f"feature_{i}"
            while key in taken:
                key += "_"
            taken.add(key)
        keys[name] = key
    return keys


def _is_plain(name):
    return (
        0 < len(name) <= 64
        and name.isascii()
        and name.isprintable()
        and name == single_line(name)
        and not set('"\\`') & set(name)
    )


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
    """Clean a text; anything else is returned as it is."""
    return clean_text(value) if isinstance(value, str) else value


def words(text):
    """Words, numbers and signs in lower case; the punctuation of sentences is left out.

    Brackets and operators stay: ``(7 - 3) * 2`` is not ``7 - (3 * 2)``.
    """
    return _WORDS.findall(unicodedata.normalize("NFKC", text).casefold())


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


def short_repr(value):
    """Write a value for a message: short, on one line, whatever it is."""
    try:
        text = repr(value[:80] if isinstance(value, str) else value)
    except Exception:  # the repr of an unknown type may do anything
        text = f"<{type(value).__name__}>"
    return text if len(text) <= 60 else text[:57] + "..."


def _is_wanted(character):
    return character in _JOINERS or unicodedata.category(character) not in _UNWANTED
