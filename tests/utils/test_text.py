import pytest
from hypothesis import given
from hypothesis import strategies as st

from skllmreg.utils._text import clean_text, harmless, short_repr


@given(st.text())
def test_clean_texts_stay_and_can_be_shown_and_encoded(text):
    clean = clean_text(text)
    assert clean_text(clean) == clean == clean.strip()
    assert clean.encode().decode() == clean
    assert all(c.isprintable() or c in "\n\u200c\u200d" for c in clean)


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("  a\t b\u00a0c \r\n\n d ", "a b c\nd"),
        ("a\x00b\x1b[31mc", "ab[31mc"),
        ("\u202eevil\u202c \ufeffx\u200bz", "evil xz"),
        ("cafe\u0301", "caf\u00e9"),
        ("half \ud800 pair", "half pair"),
        ("\u3164 \u115f\u1160\uffa0", ""),
        ("hid\U000e0041den", "hidden"),
        ("\U0001f469\u200d\U0001f680", "\U0001f469\u200d\U0001f680"),
    ],
)
def test_what_is_invisible_goes_and_lines_stay(text, clean):
    assert clean_text(text) == clean


class Hostile:
    def __repr__(self):
        raise RuntimeError


@pytest.mark.parametrize(
    "value",
    ["x" * 10**6, 10**5000, Hostile(), {"a": ["b"] * 10**4}],
    ids=["long", "number", "hostile", "nested"],
)
def test_anything_can_be_shown_in_short(value):
    assert len(short_repr(value)) <= 60


def test_marks_that_pile_up_on_a_letter_are_capped():
    pile = "a" + "\u0301\u0327" * 100_000
    assert len(clean_text(pile)) <= 31
    assert clean_text(clean_text(pile)) == clean_text(pile)
    hidden = "a" + ("\u0301" * 15 + "\u0316" * 15 + "\u3164") * 2000
    assert len(clean_text(hidden)) <= 31
    assert clean_text(clean_text(hidden)) == clean_text(hidden)
    text = "re\u0301sume\u0301 " * 300
    assert clean_text(text) == " ".join(["r\u00e9sum\u00e9"] * 300)


def test_what_steers_a_terminal_is_written_out():
    assert harmless("a\nb\x1b[2J\u202e") == "a\nb\\x1b[2J\\u202e"
