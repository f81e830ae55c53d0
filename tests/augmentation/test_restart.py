"""What an LLM has written is never paid for twice, and never lost."""

import json
import warnings

import numpy as np
import pytest
from sklearn.frozen import FrozenEstimator

from skllmreg import ChatModel, GOLDAugmenter, LLMTeacherClassifier
from skllmreg.exceptions import (
    BudgetExceededError,
    GenerationError,
    GenerationStoppedWarning,
    NoAttributesWarning,
    RequestError,
    UndescribedClassWarning,
)
from skllmreg.students import TextClassifier
from tests.augmentation.writers import TEXTS, TOPICS, WORDS
from tests.loopback import completion, error, last


@pytest.fixture
def server(loopback):
    """Writes eight rows of the class asked for, never the same."""
    rng = np.random.RandomState(0)

    def reply(body):
        (label,) = [k for k in WORDS if f'of the class "{k}"' in last(body)]
        rows = [
            " ".join([*rng.choice(WORDS[label], 3), *map(str, rng.randint(10**8, size=6))])
            for _ in range(8)
        ]
        return json.dumps({"rows": rows})

    loopback.reply = reply
    return loopback


def augmenter(server, tmp_path, *, n_rounds=3, llm=None, **params):
    llm = {"cache": tmp_path and tmp_path / "answers"} | (llm or {})
    chat = ChatModel("tiny", base_url=server.base_url, max_retries=0, **llm)
    return GOLDAugmenter(
        llm=chat,
        task="Sort messages.",
        n_rounds=n_rounds,
        n_novel_batches=2,
        attributes=None,
        random_state=0,
        **params,
    )


def test_a_second_fit_asks_for_nothing_and_gives_the_same(server, tmp_path):
    one = augmenter(server, tmp_path).fit(TEXTS, TOPICS)
    n_sent = len(server.requests)
    two = augmenter(server, tmp_path).fit(TEXTS, TOPICS)
    assert n_sent == len(server.requests) == one.n_requests_ == 12
    np.testing.assert_array_equal(one.X_generated_, two.X_generated_)
    np.testing.assert_array_equal(one.ood_scores_, two.ood_scores_)


def test_all_requests_of_a_round_are_sent_at_the_same_time(server, tmp_path):
    server.latency = 0.05
    augmenter(server, tmp_path, n_rounds=1).fit(TEXTS, TOPICS)
    assert server.most_busy > 1


def test_a_spent_budget_keeps_what_there_is_and_a_larger_one_goes_on_from_there(server, tmp_path):
    model = augmenter(server, tmp_path, llm={"request_budget": 6})
    with pytest.warns(GenerationStoppedWarning, match="48 rows: the budget"):
        model.fit(TEXTS, TOPICS)
    assert model.termination_condition_ == "budget"
    assert model.n_requests_ == 6
    assert len(model.X_generated_) == 48
    assert model.score(TEXTS, TOPICS) > 0.5
    whole = augmenter(server, tmp_path).fit(TEXTS, TOPICS)
    assert len(server.requests) == 12
    assert set(model.X_generated_) <= set(whole.X_generated_)


def test_a_budget_for_no_request_is_an_error(server, tmp_path):
    model = augmenter(server, tmp_path, llm={"token_budget": 1})
    with pytest.raises(BudgetExceededError, match=r"single request for rows\. .*token_budget=1"):
        model.fit(TEXTS, TOPICS)


def test_a_server_that_fails_later_leaves_the_rows_and_a_fit_that_goes_on(server, tmp_path):
    reply = server.reply
    server.reply = lambda body: error(500) if len(server.requests) > 6 else reply(body)
    model = augmenter(server, tmp_path, llm={"max_concurrency": 1})
    with pytest.raises(RequestError):
        model.fit(TEXTS, TOPICS)
    # Two requests of the second round were answered before.
    assert len(model.X_generated_) == 48
    assert [entry["requests"] for entry in model.history_] == [4, 2]
    assert model.termination_condition_ == "error"
    server.reply, n_failed = reply, len(server.requests) - 6
    assert len(augmenter(server, tmp_path).fit(TEXTS, TOPICS).X_generated_) == 96
    assert len(server.requests) - n_failed == 12


def test_what_a_failing_round_brought_is_kept_without_a_cache_too(server):
    reply = server.reply
    server.reply = lambda body: error(500) if len(server.requests) > 6 else reply(body)
    model = augmenter(server, None, llm={"max_concurrency": 1, "cache": None})
    with pytest.raises(RequestError):
        model.fit(TEXTS, TOPICS)
    assert len(model.X_generated_) == 48


@pytest.mark.parametrize("proposed", ["Topics differ.", "{}", '{"topic": {}, "style": []}'])
def test_without_usable_attributes_rows_are_written_without(server, tmp_path, proposed):
    reply = server.reply
    asks = "Say what they differ in"
    server.reply = lambda body: proposed if asks in str(body["messages"]) else reply(body)
    model = augmenter(server, tmp_path, n_rounds=1).set_params(attributes="auto")
    with pytest.warns(NoAttributesWarning, match="attributes=") as caught:
        model.fit(TEXTS, TOPICS)
    assert caught[0].filename == __file__
    assert len(model.X_generated_) == 32


def test_a_teacher_of_other_classes_is_refused_before_anything_is_paid_for(server, tmp_path):
    teacher = FrozenEstimator(TextClassifier().fit(TEXTS, ["parcel"] * 4 + ["bills"] * 4))
    model = augmenter(server, tmp_path, teacher=teacher).set_params(attributes="auto")
    with pytest.raises(ValueError, match="teacher does not know the class 'money'.*'bills'"):
        model.fit(TEXTS, TOPICS)
    assert not server.requests


def test_cost_and_tokens_of_every_round_are_told(server, tmp_path):
    params = {"llm": {"prices": (1.0, 2.0)}}
    model = augmenter(server, tmp_path, **params).fit(TEXTS, TOPICS)
    each = 4 * (10 * 1.0 + 5 * 2.0) / 1e6
    for entry in model.history_:
        assert (entry["prompt_tokens"], entry["completion_tokens"]) == (40, 20)
        assert entry["cost"] == pytest.approx(each)
        assert entry["cost_per_row"] == pytest.approx(each / entry["accepted"])
    again = augmenter(server, tmp_path, **params).fit(TEXTS, TOPICS)
    assert [entry["cost"] for entry in again.history_] == [0, 0, 0]


def test_an_llm_needs_a_task(server, tmp_path):
    model = augmenter(server, tmp_path).set_params(task=None)
    with pytest.raises(ValueError, match="needs a task="):
        model.fit(TEXTS, TOPICS)
    with pytest.raises(ValueError, match="not both"):
        model.set_params(generator=print).fit(TEXTS, TOPICS)


def test_numbers_for_classes_need_descriptions(server, tmp_path):
    server.reply = lambda body: json.dumps({"rows": [str(i) * 9 for i in range(len(server.seen))]})
    y = [0, 0, 0, 0, 1, 1, 1, 1]
    model = augmenter(server, tmp_path, n_rounds=1)
    with pytest.warns(UndescribedClassWarning, match="rows of 0, 1"):
        model.fit(TEXTS, y)
    described = {0: "parcels", 1: "money"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.set_params(class_descriptions=described | {"parcel": "parcels"}).fit(TEXTS, y)


def test_rows_that_the_teacher_refuses_to_judge_are_not_doubted(server, tmp_path):
    write = server.reply

    def reply(body):
        if "of the class" in last(body):
            return write(body)
        return error(400, "filtered", code="content_filter") if "77" in last(body) else "money"

    server.reply = reply
    model = augmenter(server, tmp_path, n_rounds=1)
    teacher = LLMTeacherClassifier(
        model.llm, task="Sort messages.", class_descriptions=dict.fromkeys(WORDS, "a topic")
    ).set_params(confidence="votes", n_samples=1)
    model.set_params(teacher=teacher).fit(TEXTS, TOPICS)
    refused = [row for row in model.X_generated_ if "77" in row]
    assert refused
    doubted = [one.row for one in model.rejected_ if one.detail.startswith("the teacher")]
    assert doubted
    assert not any("77" in row for row in doubted)


def with_teacher(loopback, budget=None):
    """An augmenter whose rows another LLM has to believe; each has a bill of its own."""

    def reply(body):
        if "Write" not in last(body):
            return completion("money")
        words = [f"parcel {len(loopback.requests)} number {i} {i * 7} is late" for i in range(4)]
        return completion(json.dumps({"rows": words}))

    loopback.reply = reply
    writes, judges = (
        ChatModel(
            name, base_url=loopback.base_url, prices=(1.0, 2.0), request_budget=n, max_concurrency=1
        )
        for name, n in (("writer", None), ("judge", budget))
    )
    teacher = LLMTeacherClassifier(
        judges,
        task="Sort.",
        class_descriptions={"money": "pays", "parcel": "waits"},
        confidence="votes",
        n_samples=1,
    )
    return (
        writes,
        judges,
        GOLDAugmenter(
            llm=writes, teacher=teacher, task="Sort.", attributes=None, n_rounds=1, batch_size=4
        ),
    )


def test_the_teachers_calls_are_part_of_the_cost(loopback):
    writes, judges, model = with_teacher(loopback)
    model.fit(TEXTS, TOPICS)
    bills = [sum(u.cost for u in llm.usage(this_run=True)) for llm in (writes, judges)]
    assert min(bills) > 0
    assert model.history_[0]["cost"] == pytest.approx(sum(bills))


def test_an_error_says_that_the_teachers_budget_was_spent_and_shows_the_replies(loopback):
    *_, model = with_teacher(loopback, budget=2)
    with pytest.raises(GenerationError, match=r"request_budget=2 (.|\n)*--- label: not checked\n"):
        model.fit(TEXTS, TOPICS)
    assert model.termination_condition_ == "budget"
