import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skllmreg.augmentation import GenerationRequest
from skllmreg.augmentation._kinds import MOST_SHOWN, kind_of
from skllmreg.augmentation._pairs import InputTarget
from skllmreg.augmentation._writers import attributes_question, read_attributes, rows_question
from skllmreg.utils._json import check_schema, is_closed
from skllmreg.utils._text import clean_text

FRAME = pd.DataFrame({"age": [20, 40], "city": pd.Categorical(["Rome", "Oslo"])})
TEXTS, TABLE = kind_of(np.array(["a text"], dtype=object)), kind_of(FRAME)
PAIRS = kind_of(pd.DataFrame({"premise": ["It rains."], "claim": ["It is wet."]}))
FIELDS = pd.DataFrame({"question": ["Who?"], "context": ["Ada came."]})
KINDS = [TEXTS, TABLE, PAIRS, InputTarget(FIELDS, ["Ada"]), InputTarget(["1 May"], ["05-01"])]


def ask(kind=TEXTS, **changes):
    request = GenerationRequest(**({"label": "a", "n_rows": 7} | changes))
    return rows_question("Tell a from b.", request, ["a", "b"], {"b": "the others"}, kind)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_have_a_closed_schema_that_the_edge_knows(kind):
    answer = kind.json_schema()
    check_schema(answer)
    assert is_closed(answer)


@pytest.mark.parametrize("kind", KINDS[:3])
def test_attributes_have_a_closed_schema_that_the_edge_knows(kind):
    _, answer, _ = attributes_question("Tell a from b.", ["a", "b"], {}, kind)
    check_schema(answer)
    assert is_closed(answer)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_shown_of_a_row_is_what_its_answer_gives(kind):
    for row in kind.rows:
        assert kind.from_json(json.loads(kind.show(row))) == row
        assert not kind.problem(row)


def test_a_prompt_says_how_many_of_which_class_and_what_the_others_are():
    prompt = ask()
    assert 'Write 7 new texts of the class "a"' in prompt
    assert '- "b": the others' in prompt
    assert "examples of the class" not in prompt


def test_each_part_of_a_request_has_its_words():
    plain = ask()
    parts = {
        "seed_examples": (["a seed"], '"a seed"'),
        "feedback": (["unfamiliar"], "Write near them"),
        "novel": (True, "Go far from the examples"),
        "batch": (["just now"], "were written just now"),
        "attributes": ({"topic": "x; y"}, "- topic: x; y"),
    }
    for name, (value, words) in parts.items():
        assert words not in plain
        assert words in ask(**{name: value})


def test_what_does_not_change_the_rows_does_not_change_the_prompt():
    assert ask() == ask(round=3, number=9, random_state=1)


def test_rows_of_a_table_are_shown_as_the_answer_has_them():
    prompt = ask(TABLE, seed_examples=[{"age": 20, "city": "Rome"}])
    assert '{"age": 20, "city": "Rome"}' in prompt
    assert '"city": one of "Oslo", "Rome"' in prompt


@given(text=st.text())
def test_an_example_cannot_end_its_quotation(text):
    prompt = ask(seed_examples=[text])
    (line,) = [line for line in prompt.split("\n") if line.startswith('"')]
    assert json.loads(line) == text[:MOST_SHOWN].encode("utf-8", "backslashreplace").decode()


@given(text=st.text(min_size=1))
def test_texts_of_the_user_stay_on_their_lines_and_can_be_sent(text):
    def n_lines(text):
        request = GenerationRequest(text, 1, attributes={text: text})
        prompt = rows_question(text, request, [text, "other"], {text: text}, TEXTS)
        assert prompt.encode()
        return len(prompt.split("\n"))

    assert n_lines(text) == n_lines("text")


@given(
    st.dictionaries(
        st.sampled_from(["topic", "style"]),
        st.lists(st.text(max_size=20), max_size=4)
        | st.dictionaries(st.sampled_from("ab"), st.lists(st.text(max_size=20)), max_size=2),
    )
)
def test_proposed_attributes_are_clean_or_refused(value):
    lists = [
        texts
        for listed in value.values()
        for texts in (listed.values() if isinstance(listed, dict) else [listed])
    ]
    if not all(any(map(clean_text, texts)) for texts in lists):
        with pytest.raises(ValueError, match="holds no text"):
            read_attributes(value)
        return
    for listed in read_attributes(value).values():
        for texts in listed.values() if isinstance(listed, dict) else [listed]:
            assert all(text and "\n" not in text for text in texts)
