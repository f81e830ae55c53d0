"""Whatever a model or a server writes, it is refused, or becomes numbers and strings."""

import contextlib
import json
import os

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skllmreg import ChatModel, GOLDAugmenter, describe_features, elicit_attributions
from skllmreg.attribution._prompts import description_question, score_question, target_goal
from skllmreg.augmentation._kinds import kind_of
from skllmreg.augmentation._writers import attributes_question, read_attributes
from skllmreg.exceptions import GenerationError, InvalidReplyError
from skllmreg.selection._prompts import read_stated, stated_schema
from skllmreg.utils._json import UnusableError, parse_json
from skllmreg.utils._text import clean_text
from tests.hostile.strategies import TEXTS, replies
from tests.loopback import completion

TASK = "Sort messages."
CLASSES = ["a", "a b", "A"]
TABLE = pd.DataFrame({"age": [1, 2, 3], "größe": [0.5, 1.5, 2.5], "sex": ["f", "m", "f"]})
KIND = kind_of(TABLE)
SCORES = score_question(TASK, target_goal(), {"age": "Years", "half \ud83d": ""})
DESCRIPTIONS = description_question(TASK, ["age", "{x}"])
STATED = stated_schema(CLASSES)
MESSAGES = kind_of(np.array(["Where is it?"], dtype=object))
WRITTEN, ROWS = (
    {
        "type": "object",
        "properties": {"rows": {"type": "array", "items": kind.json_schema()}},
        "required": ["rows"],
    }
    for kind in (MESSAGES, KIND)
)
ATTRIBUTES = attributes_question(TASK, CLASSES, None, MESSAGES)[1]


def a_score(value):
    return type(value) is int and -10 <= value <= 10


def clean_rows(value):
    rows = [KIND.from_json(row) for row in value["rows"]]
    return [row for row in rows if not KIND.problem(row)]


# What reads a reply, and what is true of all that it lets pass.
READERS = {
    "scores": (
        SCORES.schema,
        SCORES.read,
        lambda found: set(found) == {"age", "half \ud83d"} and all(map(a_score, found.values())),
    ),
    "descriptions": (
        DESCRIPTIONS.schema,
        DESCRIPTIONS.read,
        lambda found: all(isinstance(text, str) for text in found.values()),
    ),
    "stated probabilities": (
        STATED,
        read_stated,
        lambda found: list(found) and abs(sum(found.values()) - 1) < 1e-9,
    ),
    "texts": (
        WRITTEN,
        lambda value: [clean_text(row) for row in value["rows"]],
        lambda found: all(isinstance(text, str) for text in found),
    ),
    "rows of a table": (
        ROWS,
        clean_rows,
        lambda found: KIND.to_X(found).dtypes.tolist() == TABLE.dtypes.tolist(),
    ),
    "attributes": (
        ATTRIBUTES,
        read_attributes,
        lambda found: all(isinstance(text, str) for text in found["style"]),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("reader", READERS)
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_a_reply_is_read_whole_or_refused(reader, data):
    schema, read, holds = READERS[reader]
    text = data.draw(replies(schema))
    with contextlib.suppress(UnusableError, ValueError):  # a reader's ValueError asks again
        found = read(parse_json(text, schema))
        assert holds(found)


def test_code_and_paths_in_a_reply_stay_text(loopback, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    smuggled = "__import__('os').system('touch smuggled')"
    answer = {"a": smuggled, "b": "../../smuggled", "c": "{0.__class__}"}
    loopback.reply = lambda body: json.dumps(answer)
    llm = ChatModel("tiny", base_url=loopback.base_url)
    assert describe_features(llm, task=TASK, feature_names=list("abc")) == answer
    assert not [name for name in os.listdir() if "smuggled" in name]


HOSTILE = {
    "ten megabytes": "x" * 10**7,
    "ten megabytes of JSON": json.dumps({"age": "x" * 10**7}),
    "a hundred thousand keys": json.dumps({f"k{i}": 1 for i in range(100_000)}),
    "a deep nest": "[" * 100_000,
    "control characters in a key": json.dumps({"\x1b[2J\x07": 1}),
    "control characters in a value": json.dumps({"age": "\x1b[2J\x07"}),
}


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=[pytest.mark.slow] if kind.startswith("ten megabytes") else [])
        for kind in HOSTILE
    ],
)
def test_the_error_about_a_hostile_reply_is_short_and_printable(loopback, kind):
    loopback.reply = lambda body: HOSTILE[kind]
    llm = ChatModel("tiny", base_url=loopback.base_url, cache=None)
    with pytest.raises(InvalidReplyError) as caught:
        elicit_attributions(llm, task=TASK, feature_names=["age"], n_estimates=1)
    message = str(caught.value)
    assert len(message) < 10_000
    assert message.isprintable()
    assert caught.value.reply


def test_the_error_about_a_refusal_is_printable(loopback):
    loopback.reply = lambda body: completion("", message={"refusal": "No\x1b[2J!\n" + "x" * 10**6})
    with pytest.raises(InvalidReplyError) as caught:
        ChatModel("tiny", base_url=loopback.base_url, cache=None).complete(["a"])
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("container", ["texts", "table"])
def test_generated_rows_of_any_content_are_data(container):
    """Every text, and things that are no text, come back as rows or are refused with a reason."""
    odd = [*TEXTS, "x" * 10**6, None, 7, b"bytes", ["list"], {"age": "7"}, float("nan"), object()]
    if container == "table":
        odd = [{"age": 2, "größe": value, "sex": value} for value in odd] + odd
    X = ["Where is it?", "Late again", "Money back", "Refund me"]
    if container == "table":
        X = pd.concat([TABLE, TABLE], ignore_index=True)
    y = np.arange(len(X)) % 2
    model = GOLDAugmenter(
        generator=lambda request: odd, batch_size=len(odd), n_rounds=1, random_state=0
    )
    with contextlib.suppress(GenerationError):
        model.fit(X, y)
    n_asked = 2 * len(odd)
    assert len(model.X_generated_) + len(model.rejected_) >= n_asked
    if container == "texts":
        assert all(isinstance(text, str) and text.strip() for text in model.X_generated_)
        "".join(model.X_generated_).encode()
    else:
        assert model.X_generated_.dtypes.tolist() == X.dtypes.tolist()
