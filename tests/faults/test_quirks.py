"""Other servers' habits, through everything that asks a model."""

import numpy as np
import pytest

from skllmreg import GOLDAugmenter, LLMAttributionRegularizedClassifier, LLMFeatureSelector
from skllmreg.exceptions import InvalidReplyError
from skllmreg.llm import ChatModel
from tests.faults.entries import CLASSES, LABELS, SCHEMA, TASK, TEXTS, X, healthy, teacher
from tests.faults.quirks import FOR_ALL, FOR_ONE

pytestmark = pytest.mark.filterwarnings("ignore::skllmreg.exceptions.ServerLimitWarning")


@pytest.fixture
def llm(loopback, monkeypatch):
    monkeypatch.setattr("skllmreg.llm._obtain.FIRST_PAUSE", 0.01)
    return ChatModel("tiny", base_url=loopback.base_url, max_concurrency=1, temperature=0)


def generate(llm, **params):
    model = GOLDAugmenter(
        llm=llm, task=TASK, class_descriptions=CLASSES, n_rounds=1, n_batches=2, random_state=0
    )
    return model.set_params(**params).fit(TEXTS, LABELS)


USES = {
    "complete": lambda llm: [r.text for r in llm.complete(["a", "b", "c"])],
    "complete with a schema": lambda llm: [
        r.value for r in llm.complete(list("abc"), schema=SCHEMA)
    ],
    "teacher": lambda llm: teacher(llm).predict(TEXTS).tolist(),
    "teacher, as stated": lambda llm: (
        teacher(llm, confidence="stated").predict_proba(TEXTS).tolist()
    ),
    "attribution": lambda llm: (
        LLMFeatureSelector(llm, task=TASK, n_estimates=3).fit(X).get_support().tolist()
    ),
    "generation": lambda llm: len(generate(llm).X_generated_),
}

FAST = ("teacher",)


@pytest.mark.parametrize(
    "use",
    [pytest.param(use, marks=() if use in FAST else pytest.mark.slow) for use in USES],
)
@pytest.mark.parametrize("quirk", FOR_ALL)
def test_the_result_is_that_of_a_server_without_the_quirk(loopback, llm, quirk, use):
    loopback.reply = healthy
    expected = USES[use](ChatModel("other", base_url=loopback.base_url, temperature=0))
    asked = []

    def answer(body):
        asked.append(body)
        return FOR_ALL[quirk].answer(body, len(asked)) or healthy(body)

    loopback.reply = answer
    found = USES[use](llm)
    if use == "complete" and "thoughts in the text" in quirk:
        found = [text.rpartition("</think>")[2].strip() for text in found]
    assert found == expected
    n_asked = len(asked)
    assert USES[use](llm) == found or use == "complete"
    assert len(asked) == n_asked  # it was paid for once


def refuses_second(quirk):
    """Refuses the second prompt that it sees, in whatever form, whenever it comes."""
    seen = []

    def answer(body):
        # The same in the weaker forms, in which the schema stands first or turns are joined.
        prompt = "\n\n".join(message["content"] for message in body["messages"])
        if prompt.startswith("Answer with nothing but one JSON"):
            prompt = prompt.partition("\n\n")[2]
        if prompt not in seen:
            seen.append(prompt)
        return FOR_ONE[quirk].answer if seen.index(prompt) == 1 else healthy(body)

    return answer


@pytest.mark.parametrize("quirk", FOR_ONE)
class TestOneRefusedPrompt:
    def test_of_complete_is_named_and_the_others_are_answered(self, loopback, llm, quirk):
        loopback.reply, llm.max_retries = refuses_second(quirk), 1
        with pytest.raises(InvalidReplyError, match="Prompt 1: The prompt is refused") as caught:
            llm.complete(["a", "bad", "c"])
        assert [reply is None for reply in caught.value.replies] == [False, True, False]

    def test_of_a_teacher_names_the_row_or_is_abstained_from(self, loopback, llm, quirk):
        loopback.reply, llm.max_retries = refuses_second(quirk), 1
        with pytest.raises(InvalidReplyError, match="Row 1: The prompt is refused"):
            teacher(llm).predict_proba(TEXTS)
        proba = teacher(llm, on_refusal="abstain").predict_proba(TEXTS)
        assert np.isnan(proba).all(axis=1).tolist() == [False, True, False, False]
        # Alone, the row is treated as it is among others.
        alone = teacher(llm, on_refusal="abstain").predict_proba(TEXTS[1:2])
        assert np.isnan(alone).all()

    def test_of_attribution_says_what_the_server_said(self, loopback, llm, quirk):
        loopback.reply, llm.max_retries = refuses_second(quirk), 1
        model = LLMAttributionRegularizedClassifier(llm, task=TASK, n_estimates=1)
        with pytest.raises(InvalidReplyError, match="Prompt 1: The prompt is refused"):
            model.fit(X, ["ill", "well", "so so", "ill"])

    def test_of_a_generator_is_passed_over(self, loopback, llm, quirk):
        loopback.reply, llm.max_retries = refuses_second(quirk), 1
        model = generate(llm, n_batches=3)
        assert len(model.X_generated_) > 0
        assert [row.reason for row in model.rejected_] == ["reply"]
        assert "http://127.0.0.1" in model.rejected_[0].detail
