import math

import numpy as np
import pytest

from skllmreg.exceptions import InvalidReplyError, LLMError, RequestError
from skllmreg.llm import ChatModel, _labels
from tests.loopback import completion, error, last

LABELS = ["cat", "dog", "fish"]


@pytest.fixture(autouse=True)
def _forget_servers(monkeypatch):
    monkeypatch.setattr(_labels, "_without_logprobs", set())


@pytest.fixture
def chat(loopback):
    return ChatModel("tiny", base_url=loopback.base_url)


def told(*tokens):
    """Log-probabilities of one position; the first token is the one that was chosen."""
    top = [{"token": token, "logprob": math.log(p), "bytes": None} for token, p in tokens]
    return completion(tokens[0][0], logprobs={"content": [{**top[0], "top_logprobs": top}]})


def test_logprobs_are_renormalized_over_the_labels(loopback, chat):
    loopback.reply = lambda body: told(("B", 0.5), (" A", 0.1), ("A", 0.15), ("The", 0.2))
    found = chat.label_probabilities(["Which?"] * 2, LABELS)
    np.testing.assert_allclose(found.probabilities, [[1 / 3, 2 / 3, 0]] * 2)
    assert found.method.tolist() == ["logprobs"] * 2
    assert last(loopback.requests[0]).startswith("Which?\n\nA: cat\nB: dog\nC: fish\n")
    assert loopback.requests[0]["logprobs"] is True


@pytest.mark.parametrize(
    "answer", [lambda: error(400, "logprobs not supported"), lambda: completion("A")]
)
def test_without_logprobs_votes_are_counted_and_it_is_said(loopback, chat, answer):
    letters = iter("AABAC" * 2)

    def reply(body):
        return answer() if "logprobs" in body else next(letters)

    loopback.reply = reply
    found = chat.label_probabilities(["Which?", "What?"], LABELS)
    np.testing.assert_allclose(found.probabilities.sum(axis=1), 1)
    assert found.method.tolist() == ["votes", "votes"]
    np.testing.assert_allclose(found.probabilities.sum(axis=0) * 5, [6, 2, 2])


@pytest.mark.parametrize(
    "answer", [lambda: error(400, "logprobs not supported"), lambda: completion("A")]
)
def test_the_replay_counts_the_same_votes(loopback, chat, answer):
    loopback.reply = lambda body: answer() if "logprobs" in body else "B"
    live = chat.label_probabilities(["Which?"], LABELS)
    _labels._without_logprobs.clear()
    replay = ChatModel("tiny", base_url=loopback.base_url, mode="replay")
    again = replay.label_probabilities(["Which?"], LABELS)
    np.testing.assert_array_equal(again.probabilities, live.probabilities)
    assert again.method.tolist() == ["votes"]


@pytest.mark.parametrize("answer", [error(400), "B"])
def test_that_a_server_tells_no_logprobs_is_remembered(loopback, chat, answer):
    loopback.reply = lambda body: answer if "logprobs" in body else "B"
    chat.label_probabilities(["a"], LABELS, n_samples=1)
    chat.label_probabilities(["b"], LABELS, n_samples=1)
    assert sum("logprobs" in body for body in loopback.requests) == 1


def test_a_400_that_is_not_about_logprobs_is_raised_and_not_remembered(loopback, chat):
    loopback.reply = lambda body: error(400, "prompt too long")
    with pytest.raises(RequestError, match="prompt too long"):
        chat.label_probabilities(["a"], LABELS)
    assert _labels._without_logprobs == set()


def test_a_400_amid_answers_asks_nobody_for_votes(loopback):
    chat = ChatModel("tiny", base_url=loopback.base_url, max_concurrency=1)
    loopback.reply = lambda body: (
        error(400, "too long") if "long" in last(body) else told(("A", 0.9))
    )
    with pytest.raises(RequestError, match="Prompt 2: .*too long"):
        chat.label_probabilities(["a", "b", "long", "c"], LABELS)
    assert len(loopback.requests) == 3


def test_a_row_whose_answer_is_no_letter_is_asked_for_votes(loopback, chat):
    def reply(body):
        if "logprobs" not in body:
            return "C"
        return told(("Hmm", 0.9), ("A", 0.1)) if "odd" in last(body) else told(("A", 0.9))

    loopback.reply = reply
    found = chat.label_probabilities(["plain", "odd"], LABELS, n_samples=2)
    assert found.method.tolist() == ["logprobs", "votes"]
    np.testing.assert_allclose(found.probabilities, [[1, 0, 0], [0, 0, 1]])


def test_thoughts_before_a_vote_are_passed_over(loopback, chat):
    loopback.reply = lambda body: "<think>A or B?</think>\n\nB"
    found = chat.label_probabilities(["Which?"], LABELS, method="votes", n_samples=1)
    assert found.probabilities[0, 1] == 1


def test_a_vote_that_is_no_letter_is_repaired_and_never_guessed(loopback, chat):
    loopback.reply = lambda body: "**B**" if len(body["messages"]) > 1 else "A dog, I think"
    found = chat.label_probabilities(["a"], LABELS, method="votes", n_samples=1)
    assert found.probabilities.tolist() == [[0, 1, 0]]
    loopback.reply = lambda body: "dunno"
    with pytest.raises(InvalidReplyError, match="one of A, B, C is wanted"):
        chat.label_probabilities(["b"], LABELS, method="votes")


def test_all_votes_of_no_use_can_be_removed_by_one_command(loopback, chat):
    loopback.reply = lambda body: completion(None, message={"refusal": "No."})
    with pytest.raises(InvalidReplyError) as caught:
        chat.label_probabilities(["a", "b"], LABELS, method="votes", n_samples=2)
    assert len(set(caught.value.keys)) == len(loopback.requests) == 4
    assert all(key[:12] in str(caught.value) for key in caught.value.keys)


@pytest.mark.parametrize(
    "refusal",
    [
        lambda: error(400, "filtered", code="content_filter"),
        lambda: error(400, "too long", code="context_length_exceeded"),
        lambda: error(400, "This model's maximum context length is 4096 tokens.", code=400),
        lambda: completion(None, finish_reason="content_filter"),
        lambda: completion(None, message={"refusal": "I must not."}),
    ],
)
@pytest.mark.parametrize("method", ["auto", "logprobs", "votes"])
def test_a_prompt_that_is_refused_is_named_and_the_others_are_answered(
    loopback, chat, method, refusal
):
    def reply(body):
        if "bad" in last(body):
            return refusal()
        return told(("A", 0.9), ("B", 0.1)) if "logprobs" in body else "A"

    loopback.reply = reply
    with pytest.raises(InvalidReplyError, match="Prompt 2: ") as caught:
        chat.label_probabilities(["a", "b", "bad", "c"], LABELS, method=method, n_samples=2)
    assert list(caught.value.failures) == [2]
    rows = caught.value.replies
    assert rows.pop(2) is None
    first = 1 if method == "votes" else 0.9
    np.testing.assert_allclose(rows, [[first, 1 - first, 0]] * 3)
    assert sum("bad" not in prompt for prompt in loopback.prompts) == 3 * (1 + (method == "votes"))
    assert _labels._without_logprobs == set()


def test_many_labels_are_numbered_and_voted_on(loopback, chat):
    loopback.reply = lambda body: "27"
    found = chat.label_probabilities(["a"], [f"label {i}" for i in range(30)])
    assert found.probabilities.argmax() == 26
    assert found.method.tolist() == ["votes"]
    with pytest.raises(ValueError, match="too many for letters"):
        chat.label_probabilities(["a"], [str(i) for i in range(30)], method="logprobs")


def test_at_temperature_zero_one_vote_is_enough(loopback):
    loopback.reply = lambda body: "A"
    chat = ChatModel("tiny", base_url=loopback.base_url, temperature=0)
    chat.label_probabilities(["a"], LABELS, method="votes")
    assert len(loopback.requests) == 1


def test_logprobs_on_demand_raise_where_there_are_none(loopback, chat):
    loopback.reply = lambda body: error(400, "logprobs not supported")
    with pytest.raises(RequestError, match="not supported"):
        chat.label_probabilities(["a"], LABELS, method="logprobs")
    loopback.reply = lambda body: "A"
    with pytest.raises(LLMError, match="use votes"):
        chat.label_probabilities(["a"], LABELS, method="logprobs")


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({"labels": ["a"]}, "two or more different"),
        ({"labels": ["a", "a"]}, "two or more different"),
        ({"method": "guess"}, "method is"),
        ({"n_samples": 0}, "n_samples is 1 or more"),
    ],
)
def test_wrong_parameters_are_named(chat, params, match):
    with pytest.raises(ValueError, match=match):
        chat.label_probabilities(**{"prompts": ["x"], "labels": LABELS} | params)


def test_no_prompts_have_no_probabilities(chat):
    assert chat.label_probabilities([], LABELS).probabilities.shape == (0, 3)


@pytest.mark.parametrize(
    ("labels", "codes"),
    [
        (["B", "C"], ["B", "C"]),
        (["dog", "A"], ["B", "A"]),
        (["b", "a"], ["A", "B"]),
        ([str(i) for i in range(30)], ["30", *(str(i) for i in range(1, 30))]),
    ],
)
def test_a_label_that_is_a_code_is_its_own(labels, codes):
    assert _labels._codes(labels) == codes


def test_an_answer_that_is_a_label_and_a_code_means_the_label(loopback, chat):
    loopback.reply = lambda body: "B"
    found = chat.label_probabilities(["Which vitamin?"], ["B", "C"], method="votes")
    assert found.probabilities.tolist() == [[1.0, 0.0]]
