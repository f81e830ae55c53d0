"""Models that are not a `ChatModel`: any object with `complete`, other transports, the fake."""

import json
import threading

import numpy as np
import pytest
from sklearn.base import clone

from skllmreg import (
    ChatModel,
    GOLDAugmenter,
    LLMAttributionRegularizedClassifier,
    elicit_attributions,
)
from skllmreg.exceptions import InvalidReplyError, LLMError, RequestError
from skllmreg.llm import LanguageModel, Record, as_chat
from skllmreg.llm.testing import FakeChat
from tests.faults.entries import CLASSES, LABELS, SCHEMA, TASK, TEXTS, X, filled, teacher


class Plain:
    """Nothing but `complete`, and a lock, which cannot be copied."""

    def __init__(self, answer):
        self.answer, self.calls, self.lock = answer, [], threading.Lock()

    def complete(self, prompts, *, schema=None):
        with self.lock:
            self.calls.append(prompts)
            return [self.answer(prompt, schema) for prompt in prompts]


def sensible(prompt, schema):
    """What follows the schema, or the right class."""
    text = prompt if isinstance(prompt, str) else prompt[-1]["content"]
    if schema is not None:
        return filled(schema, text)
    return "refund" if "back" in text.rpartition("<<<")[2] else "delivery"


def test_it_is_a_language_model_and_so_is_chat_model():
    assert isinstance(Plain(sensible), LanguageModel)
    assert isinstance(ChatModel("tiny"), LanguageModel)
    assert not isinstance("gpt-4o", LanguageModel)


def test_it_scores_features():
    llm = Plain(sensible)
    scores = elicit_attributions(llm, task=TASK, feature_names=["age", "bmi"], n_estimates=2)
    assert scores.mean() == {"age": 3, "bmi": 3}
    assert LLMAttributionRegularizedClassifier(llm, task=TASK).fit(X, list("abab")).predict(X).size


@pytest.mark.parametrize("confidence", ["auto", "votes", "stated"])
def test_it_labels_texts(confidence):
    labeled = teacher(Plain(sensible), confidence=confidence)
    assert labeled.predict_proba(TEXTS).shape == (4, 2)
    if confidence != "stated":
        assert labeled.predict(TEXTS).tolist() == LABELS


def test_it_writes_rows():
    model = GOLDAugmenter(
        llm=Plain(sensible), task=TASK, class_descriptions=CLASSES, n_rounds=1, random_state=0
    )
    assert len(model.fit(TEXTS, LABELS).X_generated_)


def test_what_it_lacks_is_said_before_anything_is_asked():
    llm = Plain(sensible)
    with pytest.raises(ValueError, match="Plain has no label_probabilities.*count votes"):
        teacher(llm, confidence="logprobs").predict_proba(TEXTS)

    class Short:
        def complete(self, prompts):
            raise AssertionError

    with pytest.raises(TypeError, match=r"complete\(prompts, \*, schema=None\)"):
        elicit_attributions(Short(), task=TASK, feature_names=["age"])
    assert llm.calls == []


def test_its_own_label_probabilities_are_used():
    class Sure(Plain):
        def label_probabilities(self, prompts, labels, **options):
            return as_chat(FakeChat(lambda messages: "refund")).label_probabilities(
                prompts, labels, method="votes"
            )

    assert teacher(Sure(None)).predict(TEXTS).tolist() == ["refund"] * 4


def test_a_wrong_answer_is_asked_for_again_with_the_problem():
    def answer(prompt, schema):
        return {"score": 3} if isinstance(prompt, list) else "no JSON"

    llm = Plain(answer)
    (reply,) = as_chat(llm).complete(["a"], schema=SCHEMA)
    assert (reply.value, reply.n_repairs) == ({"score": 3}, 1)
    assert [m["role"] for m in llm.calls[1][0]] == ["user", "assistant", "user"]
    assert "no JSON object" in llm.calls[1][0][-1]["content"]


def test_none_is_a_prompt_without_an_answer():
    llm = Plain(lambda prompt, schema: None if prompt == "b" else prompt.upper())
    with pytest.raises(InvalidReplyError, match="Prompt 1: The model gave no answer") as caught:
        as_chat(llm).complete(["a", "b", "c"])
    assert [reply and reply.text for reply in caught.value.replies] == ["A", None, "C"]


def test_other_exceptions_end_the_call():
    def fail(prompt, schema):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        as_chat(Plain(fail)).complete(["a"])


def test_as_many_answers_as_prompts_are_wanted():
    llm = Plain(None)
    llm.complete = lambda prompts, *, schema=None: ["x"]
    with pytest.raises(LLMError, match="gave 1 answers to 2 prompts"):
        as_chat(llm).complete(["a", "b"])


class Shouting:
    """A transport: any way to ask a model, here by capital letters."""

    def __init__(self):
        self.seen = []

    def send(self, request):
        self.seen.append(request)
        if request.schema is not None and request.schema_form < 2:
            raise RequestError("no forms", status=400, sent=True)
        text = request.messages[-1]["content"].upper()
        return Record(text if request.schema is None else json.dumps({"score": 3}))


def test_another_transport_gets_cache_budget_and_weaker_forms():
    transport = Shouting()
    chat = ChatModel("shouting", transport=transport, request_budget=5)
    assert [reply.text for reply in chat.complete(["a", "b"])] == ["A", "B"]
    assert chat.complete(["a"])[0].cached
    with pytest.warns(match="no JSON schema"):
        assert chat.complete(["c"], schema=SCHEMA)[0].value == {"score": 3}
    assert [request.schema_form for request in transport.seen] == [0, 0, 0, 1, 2]


def test_a_transport_without_send_is_refused():
    with pytest.raises(ValueError, match="transport has a method send"):
        ChatModel("x", transport=object()).complete(["a"])


def test_the_history_of_a_fake_has_what_clones_asked():
    fake = FakeChat([dict.fromkeys(("age", "bmi"), 3)] * 5)
    model = clone(LLMAttributionRegularizedClassifier(fake, task=TASK, n_estimates=5))
    model.fit(X, ["ill", "well"] * 2)
    assert len(fake.history) == 5
    assert all(request.schema for request in fake.history)


def test_a_fake_that_has_no_reply_left_says_for_which_prompt():
    with pytest.raises(LLMError, match="no reply left for: 'b'"):
        FakeChat(["x"]).complete(["a", "b"])


def test_a_fake_raises_what_is_in_its_queue():
    fake = FakeChat(["x", RequestError("no key", status=401)])
    with pytest.raises(RequestError, match="no key"):
        fake.complete(["a", "b"])
    assert np.array_equal(fake.prompts, ["a", "b"])
