"""Prompts without an answer: what is named, what ends a call, and what it costs."""

import re

import numpy as np
import pytest

from skllmreg import LLMTeacherClassifier
from skllmreg.exceptions import InvalidReplyError, LLMError, NoAnswerError, RequestError
from skllmreg.llm import ChatModel, Record, as_chat
from skllmreg.llm.testing import FakeChat
from tests.faults.entries import logprobs
from tests.loopback import Behavior, completion, error, last

LABELS = ["refund", "delivery"]
DESCRIPTIONS = {"refund": "wants money back", "delivery": "asks for a parcel"}
TEXTS = [f"message {i}." for i in range(60)]


@pytest.fixture(autouse=True)
def _no_long_waits(monkeypatch):
    monkeypatch.setattr("skllmreg.llm._obtain.FIRST_PAUSE", 0.01)


@pytest.fixture
def chat(loopback):
    return ChatModel("tiny", base_url=loopback.base_url, temperature=0)


def teacher(llm, **params):
    return LLMTeacherClassifier(llm, task="Sort.", class_descriptions=DESCRIPTIONS, **params)


def good(body):
    told = logprobs("delivery", "refund") if body.get("logprobs") else None
    return completion("delivery", logprobs=told)


def number(body):
    return int(re.search(r"message (\d+)\.", last(body))[1])


CONTEXT = "the request exceeds the available context size, try increasing it"
FAILURES = {
    "400": error(400, "Content Exists Risk"),
    "llama.cpp's context": error(400, CONTEXT, code=400, type="exceed_context_size_error"),
    "blank": completion(""),
    "filtered": completion("", finish_reason="content_filter"),
    "null for choices": Behavior({"choices": None}),
    "an error with status 200": Behavior({"error": {"message": "blocked"}}),
}


FAST = ("400", "null for choices")


def some_slow(names):
    return [pytest.param(n, marks=() if n in FAST else pytest.mark.slow) for n in names]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::skllmreg.exceptions.ServerLimitWarning")
@pytest.mark.parametrize("failure", some_slow(FAILURES))
@pytest.mark.parametrize("confidence", ["auto", "votes"])
@pytest.mark.parametrize("bad", [range(20), range(20, 60)], ids=["first", "rest"])
def test_sorted_rows_that_fail_are_named_and_the_others_are_answered(
    loopback, chat, failure, confidence, bad
):
    loopback.reply = lambda body: FAILURES[failure] if number(body) in bad else good(body)
    with pytest.raises(InvalidReplyError, match=f"First, Row {bad[0]}: ") as caught:
        teacher(chat, confidence=confidence).predict_proba(TEXTS)
    assert sorted(caught.value.failures) == list(bad)
    proba = teacher(chat, confidence=confidence, on_refusal="abstain").predict_proba(TEXTS)
    assert np.flatnonzero(np.isnan(proba[:, 0])).tolist() == list(bad)


@pytest.mark.parametrize("failure", [*some_slow(FAILURES), "hello"])
@pytest.mark.parametrize("on_refusal", ["raise", "abstain"])
def test_a_server_that_fails_on_all_rows_is_asked_about_some_twenty(
    loopback, chat, failure, on_refusal
):
    loopback.reply = lambda body: FAILURES.get(failure, completion("hello"))
    kinds = (NoAnswerError, RequestError)
    with pytest.raises(kinds):
        teacher(chat, confidence="votes", on_refusal=on_refusal).predict(TEXTS)
    rows = {number(body) for body in loopback.requests if "message" in last(body)}
    assert len(rows) <= 45  # eight threads, each with one more at hand


class Mute:
    """Has nothing but `complete`, and nothing to say."""

    def __init__(self, answer="hello"):
        self.answer, self.n_asked = answer, 0

    def complete(self, prompts, *, schema=None):
        self.n_asked += len(prompts)
        return [self.answer for _ in prompts]


@pytest.mark.parametrize("on_refusal", ["raise", "abstain"])
@pytest.mark.parametrize("confidence", ["auto", "stated"])
def test_a_mute_object_is_asked_twenty_prompts_and_their_repairs(on_refusal, confidence):
    llm = Mute()
    with pytest.raises(NoAnswerError):
        teacher(llm, confidence=confidence, on_refusal=on_refusal).predict(TEXTS)
    assert llm.n_asked == 60


def test_an_object_is_asked_about_others_than_the_first():
    class Sorted:
        def complete(self, prompts, *, schema=None):
            return [
                "delivery" if int(p[1]["content"].split()[2][:-1]) > 40 else "?" for p in prompts
            ]

    predicted = teacher(Sorted(), n_samples=1, on_refusal="abstain").predict(TEXTS)
    assert predicted.tolist() == [None] * 41 + ["delivery"] * 19


@pytest.mark.parametrize(
    ("answers", "match"),
    [
        (lambda prompts: [b"delivery"] * len(prompts), "answered a prompt with b'delivery'"),
        (lambda prompts: "delivery", "returned 'delivery'; a list"),
        (lambda prompts: None, "returned None; a list"),
    ],
)
def test_what_an_object_must_not_return_is_said(answers, match):
    llm = Mute()
    llm.complete = lambda prompts, *, schema=None: answers(prompts)
    with pytest.raises(LLMError, match=match):
        as_chat(llm).complete(["a", "b"])


def test_an_object_may_return_a_generator():
    llm = Mute()
    llm.complete = lambda prompts, *, schema=None: (prompt.upper() for prompt in prompts)
    assert [reply.text for reply in as_chat(llm).complete(["a", "b"])] == ["A", "B"]


def test_what_a_transport_must_not_return_is_said():
    class Wrong:
        def send(self, request):
            return "delivery"

    with pytest.raises(LLMError, match="send returned 'delivery'; a Record is wanted"):
        ChatModel("wrong", transport=Wrong(), cache=None).complete(["a"])


def test_one_fake_knows_nothing_of_another():
    """The first tells no log-probabilities, the second does."""
    with pytest.warns(match="gave none"):
        teacher(FakeChat(lambda messages: "delivery")).predict(["x"])
    told = logprobs("delivery", "refund")["content"]
    fake = FakeChat(lambda messages: Record("delivery", logprobs=told))
    assert teacher(fake).answers(["x"]).method.tolist() == ["logprobs"]
    assert fake.refused() == {}


THOUGHTS = [
    "<think>maybe delivery",
    "<think>maybe delivery</think>\n",
    '<reasoning>{"score": 3}</reasoning>',
    "[THINK]maybe delivery[/THINK]",
    "<seed:think>delivery</seed:think>",
    "<|channel|>analysis<|message|>delivery",
]


@pytest.mark.parametrize("text", THOUGHTS)
@pytest.mark.parametrize("schema", [None, {"type": "object"}])
def test_a_thought_is_no_answer_and_is_not_kept(loopback, chat, text, schema):
    loopback.reply = lambda body: text
    with pytest.raises(InvalidReplyError, match="has thought and not answered"):
        chat.complete(["a"], schema=schema)
    assert chat.quote(["a"], schema=schema).cached == 0
    with pytest.raises(InvalidReplyError, match="has thought and not answered"):
        chat.label_probabilities(["a"], LABELS, method="votes")


@pytest.mark.parametrize(
    "text",
    [
        "[THINK]refund?[/THINK]delivery",
        "<thinking>refund</thinking>\ndelivery",
        "<seed:think>refund</seed:think>delivery",
        "◁think▷refund◁/think▷delivery",
        "<|channel|>analysis<|message|>refund<|end|><|start|>assistant"
        "<|channel|>final<|message|>delivery<|return|>",
        "<think>refund</think><think>no</think>delivery",
        [{"type": "thinking", "text": "refund"}, {"type": "text", "text": "delivery"}],
        [{"type": "reasoning", "text": "refund"}, {"type": "text", "text": "delivery"}],
        ["deli", "very"],
        {"text": "delivery"},
    ],
)
def test_the_answer_is_what_comes_after_the_thoughts(loopback, chat, text):
    loopback.reply = lambda body: completion(text)
    found = chat.label_probabilities(["a"], LABELS, method="votes")
    assert found.probabilities.tolist() == [[0, 1]]


def test_the_text_of_a_completion_is_read(loopback, chat):
    loopback.reply = lambda body: {"choices": [{"text": "delivery", "finish_reason": "stop"}]}
    assert chat.complete(["a"])[0].text == "delivery"


def test_a_reason_to_end_that_is_no_word_is_no_end_of_an_answer(loopback, chat):
    loopback.reply = lambda body: completion("half", finish_reason=7)
    with pytest.raises(LLMError, match="finish_reason '7'"):
        chat.complete(["a"])


@pytest.mark.filterwarnings("ignore::skllmreg.exceptions.ServerLimitWarning")
@pytest.mark.parametrize("status", [200, 401, 402, 502, 503, 504, 529])
def test_additions_that_draw_the_status_of_a_key_or_a_gateway_are_left_out(loopback, chat, status):
    """Twice, where it may be over at the next try."""
    refused = Behavior({"error": {"message": "logprobs are not in your plan"}}, status)
    loopback.reply = lambda body: refused if "logprobs" in body else good(body)
    chat.max_concurrency = 1
    for n in range(3):
        assert teacher(chat).predict([f"{n}"]).tolist() == ["delivery"]
    assert list(chat.refused()) == ["logprobs"]


def test_a_wrong_key_is_tried_once_without_additions(loopback, chat):
    loopback.reply = lambda body: error(401, "wrong key")
    chat.max_concurrency = 1
    with pytest.raises(RequestError, match="wrong key"):
        teacher(chat).predict(TEXTS)
    assert [body.get("logprobs", False) for body in loopback.requests] == [True, False]


def test_a_gateway_that_fails_now_and_then_switches_nothing_off(loopback, chat):
    """Every second request with log-probabilities fails twice, and the one without is answered."""
    asked = []

    def reply(body):
        asked.append(number(body))
        bad = number(body) % 2 and asked.count(number(body)) <= 2
        return error(503) if bad and "logprobs" in body else good(body)

    loopback.reply, chat.max_concurrency = reply, 1
    teacher(chat).predict(TEXTS[:8])
    assert chat.refused() == {}
