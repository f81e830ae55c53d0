import json

import numpy as np
import pytest

from skllmreg import ChatModel
from skllmreg.augmentation._kinds import Texts
from skllmreg.augmentation._requests import AttributeGrid
from skllmreg.augmentation._writers import propose_attributes
from skllmreg.exceptions import InvalidReplyError
from tests.loopback import last

VALUES = {"topic": {"a": ["t1", "t2", "t3", "t4"], "b": ["u"]}, "style": ["s1", "s2"]}


def grid(values=VALUES):
    return AttributeGrid(values, np.random.RandomState(0))


@pytest.fixture
def propose(loopback):
    def ask(classes=("a", "b c\n")):
        chat = ChatModel("tiny", base_url=loopback.base_url, max_retries=0)
        kind = Texts(np.array(["a text"], dtype=object))
        values = propose_attributes(
            chat, task="Sort.", classes=list(classes), class_descriptions=None, kind=kind
        )
        return AttributeGrid(values, np.random.RandomState(0))

    return ask


def test_all_values_have_their_turn_before_one_comes_again():
    dealt, drawn = grid(), []
    for _ in range(4):
        drawn += dealt.draw("a", 6)["topic"].split("; ")
    assert [drawn.count(topic) for topic in ("t1", "t2", "t3", "t4")] == [2] * 4
    assert set(drawn[:4]) == {"t1", "t2", "t3", "t4"}


def test_a_request_of_more_rows_gets_more_values():
    assert [len(grid().draw("a", n)["topic"].split("; ")) for n in (1, 3, 6, 12, 100)] == [
        1,
        1,
        2,
        4,
        4,
    ]


def test_rows_near_others_keep_their_subject():
    assert grid().draw("a", 6, near=True).keys() == {"style"}


def test_a_class_without_values_gets_the_others_only():
    assert grid().draw("unknown", 6).keys() == {"style"}


@pytest.mark.parametrize("listed", ["text", [], [3], {"a": []}, {"a": "text"}, None])
def test_what_is_no_list_of_texts_is_an_error_that_names_it(listed):
    with pytest.raises(ValueError, match=r"attributes\['mood'\] is a list of texts"):
        grid({"mood": listed})


def test_the_llm_is_asked_once_and_its_keys_become_labels(propose, loopback):
    loopback.reply = lambda body: json.dumps(
        {
            "topic": {"a": ["one", " two\n\u200b", "two"], "feature_2": ["x" * 999]},
            "style": ["s"],
            "length": ["l"],
        }
    )
    for _ in range(2):
        proposed = propose()
    assert proposed.values["topic"]["a"] == ["one", "two"]
    assert len(proposed.values["topic"]["b c\n"][0]) <= 200
    assert proposed.draw("b c\n", 3).keys() == {"topic", "style", "length"}
    assert len(loopback.requests) == 1
    assert 'feature_2 (for "b c")' in last(loopback.requests[0])


def test_labels_that_are_numbers_are_found_again(propose, loopback):
    loopback.reply = lambda body: json.dumps(
        {"topic": {"0": ["none"], "1": ["some"]}, "style": ["s"], "length": ["l"]}
    )
    assert propose([0, 1]).draw(1, 3)["topic"] == "some"


@pytest.mark.parametrize(
    "reply",
    [
        "no idea",
        '{"topic": {}, "style": [], "length": []}',
        '{"topic": {"a": [""], "feature_2": ["x"]}, "style": ["s"], "length": ["l"]}',
        '{"topic": {"a": [1], "feature_2": ["x"]}, "style": ["s"], "length": ["l"]}',
    ],
)
def test_a_reply_without_values_is_repaired_or_an_error(propose, loopback, reply):
    loopback.reply = lambda body: reply
    with pytest.raises(InvalidReplyError):
        propose()
    assert len(loopback.requests) == 3
