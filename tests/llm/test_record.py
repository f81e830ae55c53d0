"""What servers send in place of what they should; a bad field counts as absent."""

import pytest

from skllmreg.llm import ChatModel
from skllmreg.llm._replies import page_text
from tests.loopback import completion


@pytest.fixture
def chat(loopback):
    return ChatModel("tiny", base_url=loopback.base_url, max_retries=0)


@pytest.mark.parametrize("count", ["12", {}, [], -5, 10**30, True, float("nan"), float("inf")])
def test_a_count_that_is_none_is_absent_and_the_ledger_estimates(loopback, chat, count):
    loopback.reply = lambda body: completion(
        "x" * 30, usage={"prompt_tokens": count, "completion_tokens": count}
    )
    (reply,) = chat.complete(["a"])
    assert reply.prompt_tokens is reply.completion_tokens is None
    assert chat.usage()[0].completion_tokens == 11
    assert chat.complete(["a"])[0].cached


def test_a_whole_number_may_have_a_point(loopback, chat):
    loopback.reply = lambda body: completion(usage={"prompt_tokens": 10.0})
    assert chat.complete(["a"])[0].prompt_tokens == 10


@pytest.mark.parametrize("schema", [None, {"type": "object"}])
def test_half_of_a_surrogate_pair_is_replaced(loopback, chat, schema):
    loopback.reply = lambda body: completion(
        '{"\ud800": 1}' if len(body["messages"]) > 1 else "\ud800"
    )
    (reply,) = chat.complete(["a"], schema=schema)
    assert "?" in reply.text


@pytest.mark.parametrize(("field", "value"), [("model", {"a": 1}), ("model", 3)])
def test_a_field_of_the_wrong_type_is_absent(loopback, chat, field, value):
    loopback.reply = lambda body: completion("x", **{field: value})
    assert chat.complete(["a"])[0].model == "tiny"


def test_content_in_parts_is_joined(loopback, chat):
    parts = [{"type": "text", "text": "Hello "}, {"type": "image"}, {"text": "world"}, 3]
    loopback.reply = lambda body: completion(parts)
    assert chat.complete(["a"])[0].text == "Hello world"


@pytest.mark.parametrize(
    "token",
    [
        {"token": None, "logprob": -0.1},
        {"token": "A", "logprob": None},
        {"token": "A", "logprob": "-1"},
        {"token": "A", "logprob": float("nan")},
        {"token": "A", "logprob": -1, "top_logprobs": [{"token": [], "logprob": -1}]},
        {"token": "A", "logprob": -1, "top_logprobs": 5},
    ],
)
def test_malformed_log_probabilities_are_none_and_votes_are_counted(loopback, chat, token):
    loopback.reply = lambda body: completion("A", logprobs={"content": [token]})
    found = chat.label_probabilities(["q"], ["1", "2"], n_samples=2)
    assert found.method.tolist() == ["votes"]
    assert found.probabilities.tolist() == [[1.0, 0.0]]


def test_an_answer_to_one_letter_may_be_cut_off_after_it(loopback):
    top = [{"token": "A", "logprob": 0.0}, {"token": "B", "logprob": -40.0}]
    token = {**top[0], "top_logprobs": top}
    loopback.reply = lambda body: completion(
        "A", finish_reason="length", logprobs={"content": [token]}
    )
    chat = ChatModel("tiny", base_url=loopback.base_url, request_options={"max_tokens": 1})
    for method in ("logprobs", "votes"):
        found = chat.label_probabilities(["q"], ["1", "2"], method=method)
        assert found.probabilities[0] == pytest.approx([1.0, 0.0])


def test_of_a_web_page_only_the_beginning_is_read():
    assert page_text("<style>p{}</style><h1>502</h1> Bad <b>gateway") == "502 Bad gateway"
    assert page_text("<p>" * 4_000 + "its end") == ""
