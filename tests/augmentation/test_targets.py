import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skllmreg.augmentation import (
    answer_in,
    exact_match,
    json_schema,
    matches,
    rouge_l,
    token_f1,
)

SLOTS = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "n": {"type": "integer", "minimum": 1}},
    "required": ["city"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("target", "inside"),
    [
        ("the red house", True),
        ("Red  House.", True),
        ("house the", False),
        ("re", False),
        ("", False),
        ("12", True),
        ("1", False),
    ],
)
def test_an_extracted_answer_stands_in_its_input_as_whole_words(target, inside):
    text = "He lives in 'the red house' since 12 May."
    assert (answer_in()(text, target) is None) == inside
    assert (answer_in("context")({"context": text, "question": "Where?"}, target) is None) == inside


def test_an_input_without_the_field_is_a_reason_and_no_error():
    assert "'context'" in answer_in("context")({"question": "Where?"}, "there")
    assert answer_in("context")("a text alone", "text")


@pytest.mark.parametrize(("target", "fits"), [("2024-05-03", True), ("on 2024-05-03", False)])
def test_the_whole_target_has_to_match(target, fits):
    assert (matches(r"\d{4}-\d\d-\d\d")("x", target) is None) == fits


@pytest.mark.parametrize(
    ("target", "problem"),
    [
        ('{"city": "Oslo", "n": 2}', None),
        ('{"town": "Oslo"}', "city is missing"),
        ('{"city": "Oslo", "n": 0}', "n"),
        ('Here it is: {"city": "Oslo"}', "not JSON"),
        ('{"city": "Oslo"', "not JSON"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_a_target_is_one_json_value_of_the_schema(target, problem):
    found = json_schema(SLOTS)("to Oslo", target)
    assert found is None if problem is None else problem in found


def test_a_schema_that_cannot_be_checked_is_an_error_at_once():
    with pytest.raises(ValueError, match="type"):
        json_schema({"anyOf": []})


@pytest.mark.parametrize(
    ("true", "found", "same"),
    [
        ("The Eiffel Tower", "eiffel tower.", 1),
        ("2024-05-03", "2024-05-08", 0),
        ("( 7 - 3 ) * 2", "(7-3)*2", 1),
        ("(7 - 3) * 2", "7 - (3 * 2)", 0),
        ("-3.5", "3.5", 0),
        ("a", "the", 0),
    ],
)
def test_exact_match_passes_over_spelling_and_nothing_else(true, found, same):
    assert exact_match(true, found) == exact_match(found, true) == same


def test_scores_of_words_are_those_of_their_definitions():
    assert token_f1("one two three", "two three four five") == pytest.approx(2 * 2 / 7)
    assert rouge_l("one two three", "three two one") == pytest.approx(2 * 1 / 6)
    assert token_f1("one two three", "three two one") == 1


@given(st.text(max_size=40), st.text(max_size=40))
def test_scores_are_symmetric_and_between_zero_and_one(a, b):
    for metric in (exact_match, token_f1, rouge_l):
        assert metric(a, a) == 1
        assert 0 <= metric(a, b) == metric(b, a) <= 1


@given(st.recursive(st.integers() | st.text(), st.lists, max_leaves=9), st.text(max_size=20))
def test_no_target_breaks_a_check(value, text):
    for check in (json_schema(SLOTS), matches("a*"), answer_in()):
        for target in (text, json.dumps(value)):
            assert check(text, target) is None or isinstance(check(text, target), str)
