import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skllmreg.utils._json import UnusableError, check_schema, is_closed, parse_json

SCORES = {
    "type": "object",
    "properties": {
        "age": {"type": "integer", "minimum": -10, "maximum": 10},
        "height": {"type": "number", "minimum": 0},
        "name": {"type": "string"},
        "sure": {"type": "boolean"},
        "label": {"type": "string", "enum": ["yes", "no"]},
        "rows": {"type": "array", "items": {"type": "integer"}, "minItems": 1, "maxItems": 3},
    },
    "required": ["age"],
    "additionalProperties": False,
}
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@pytest.mark.parametrize(
    "text",
    [
        '{"age": 3}',
        ' \n{"age": 3}\n',
        '```json\n{"age": 3}\n```',
        'Sure!\n```\n{"age": 3}\n```\nAnything else?',
        'The answer is {"age": 3}, as {you} asked.',
        '{"age": 3.0}',
        '<think>{"age": 9}, or [1]?\n```\n{"age": 5}\n```</think>\n{"age": 3}',
        'It may be {"age": 9}.\n</think>\n```json\n{"age": 3}\n```',
    ],
)
def test_one_value_is_found_bare_fenced_or_in_prose(text):
    value = parse_json(text, SCORES)
    assert value == {"age": 3}
    assert isinstance(value["age"], int)


@pytest.mark.parametrize("around", ["{}", "```json\n{}\n```", "Here: {}", "<think>hm</think>{}"])
def test_what_ends_a_thought_may_stand_in_a_string(around):
    text = around.replace("{}", json.dumps({"says": "a </think> b"}))
    assert parse_json(text, {"type": "object"}) == {"says": "a </think> b"}


@pytest.mark.parametrize("text", ['<think>{"age": 9}</think>', '<think>{"age": 9}</think> None.'])
def test_thoughts_are_no_answer(text):
    with pytest.raises(UnusableError, match="no JSON object"):
        parse_json(text, SCORES)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{}", "age is missing"),
        ('{"age": 1, "agee": 2}', "agee was not asked for (did you mean 'age'?)"),
        ('{"age": 1, "age": 2}', "the key 'age' is given more than once"),
        ('{"age": "3"}', "age is of the wrong type: integer is wanted, got '3'"),
        ('{"age": true}', "age is of the wrong type: integer is wanted, got True"),
        ('{"age": 2.5}', "age is of the wrong type: integer is wanted, got 2.5"),
        ('{"age": null}', "age is of the wrong type: integer is wanted, got None"),
        ('{"age": 11}', "age is 11, not from -10 to 10"),
        ('{"age": 1, "height": -1}', "height is -1, not at least 0"),
        ('{"age": 1, "height": 1e999}', "height is of the wrong type: number is wanted, got inf"),
        ('{"age": 1, "sure": 1}', "sure is of the wrong type: boolean is wanted, got 1"),
        ('{"age": 1, "label": "maybe"}', "label is 'maybe', not one of ['yes', 'no']"),
        ('{"age": 1, "rows": []}', "rows has 0 items, not from 1 to 3"),
        (
            '{"age": 1, "rows": [1, "2"]}',
            "rows[1] is of the wrong type: integer is wanted, got '2'",
        ),
        ('[{"age": 1}]', "the reply is of the wrong type: object is wanted, got [{'age': 1}]"),
        ('{"age": 1} or {"age": 2}', "one JSON value is wanted, there are 2"),
    ],
)
def test_each_problem_is_named(text, problem):
    with pytest.raises(UnusableError) as caught:
        parse_json(text, SCORES)
    assert caught.value.problems == [problem]


@pytest.mark.parametrize("text", ["", "none", "[1]x", "as {you} asked"])
def test_what_is_no_json_is_said_to_be_none(text):
    with pytest.raises(UnusableError, match="no JSON object in the reply"):
        parse_json(text, SCORES)


@pytest.mark.parametrize(
    "text",
    [
        '{"age": NaN}',
        '{"age": 1',
        '{"draft": {"age": 9}, "final": {"age": 1',
        'So: [{"age": 9}, {"age": ',
        '```json\n{"old": {"age": 9}, \n```',
        '{"age":' * 100_000,
        "[" * 100_000,
    ],
)
def test_a_broken_value_is_told_and_nothing_is_taken_from_inside_it(text):
    with pytest.raises(UnusableError, match="is broken|nested too deeply"):
        parse_json(text, SCORES)


def test_nothing_is_taken_from_inside_a_value_of_another_kind():
    with pytest.raises(UnusableError, match="no JSON array in the reply"):
        parse_json('Here: {"rows": [1, 2]}.', {"type": "array"})


def test_half_of_a_surrogate_pair_is_replaced():
    assert parse_json('{"age": 1, "name": "\\ud800!"}', SCORES)["name"] == "?!"


def test_all_problems_are_named_at_once():
    with pytest.raises(UnusableError) as caught:
        parse_json('{"age": 99, "x": 1, "sure": "yes"}', SCORES)
    assert len(caught.value.problems) == 3


@pytest.mark.parametrize("text", ["[" * 50_000, '{"age": ' * 50_000, "9" * 5_000])
def test_hostile_texts_are_refused(text):
    with pytest.raises(UnusableError):
        parse_json(text, {"type": "array"} if text[0] == "[" else SCORES)


@pytest.mark.slow
@given(st.text())
def test_no_text_crashes_the_parser(text):
    with contextlib.suppress(UnusableError):
        assert "age" in parse_json(text, SCORES)


@given(ANY_JSON)
def test_no_json_crashes_the_parser_and_what_passes_is_valid(value):
    with contextlib.suppress(UnusableError):
        passed = parse_json(json.dumps(value), SCORES)
        assert -10 <= passed["age"] <= 10
        assert passed.keys() <= SCORES["properties"].keys()


@given(
    st.fixed_dictionaries(
        {"age": st.integers(-10, 10)},
        optional={
            "height": st.floats(0, allow_nan=False, allow_infinity=False),
            "name": st.text(),
            "label": st.sampled_from(["yes", "no"]),
            "rows": st.lists(st.integers(), min_size=1, max_size=3),
        },
    ),
    st.sampled_from(["{}", "```json\n{}\n```", "Here you are: {}. Bye"]),
)
def test_every_valid_value_comes_back_whatever_is_around_it(value, around):
    text = json.dumps(value)
    if "```" not in text or around == "{}":
        assert parse_json(around.replace("{}", text), SCORES) == value


@pytest.mark.parametrize(
    ("schema", "match"),
    [
        ({}, "needs a type"),
        ({"type": "null"}, "needs a type"),
        ({"type": "string", "pattern": "a"}, "keywords not known here"),
        ({"type": "object", "required": ["a"]}, "requires what it does not describe"),
        ({"type": "object", "properties": {"a": {"type": "date"}}}, r"properties\['a'\]"),
        ({"type": "array", "items": {"type": "any"}}, "schema.items"),
    ],
)
def test_schemas_that_are_not_understood_are_refused(schema, match):
    with pytest.raises(ValueError, match=match):
        check_schema(schema)


def test_only_closed_schemas_are_sent_as_strict():
    assert not is_closed(SCORES)
    assert is_closed({**SCORES, "required": list(SCORES["properties"])})
    assert not is_closed({"type": "array", "items": {"type": "object"}})
