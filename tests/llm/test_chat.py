import copy
import pickle
import subprocess
import sys

import numpy as np
import pytest
from sklearn.base import BaseEstimator, clone

from skllmreg.exceptions import RequestError
from skllmreg.llm import ChatModel
from tests.loopback import Behavior, completion, last


class Holder(BaseEstimator):
    def __init__(self, llm=None):
        self.llm = llm


COPIES = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda chat: pickle.loads(pickle.dumps(chat)),
    "clone": clone,
    "clone in an estimator": lambda chat: clone(Holder(chat)).llm,
}


@pytest.mark.parametrize("how", COPIES)
def test_copies_are_equal_and_share_the_run_of_the_budget(how):
    chat = ChatModel("tiny", base_url="http://localhost/v1", request_options={"seed": 1})
    other = COPIES[how](chat)
    assert other == chat
    assert hash(other) == hash(chat)
    assert other._run == chat._run


def test_new_objects_are_equal_and_have_runs_of_their_own():
    assert ChatModel("tiny") == ChatModel("tiny")
    assert ChatModel("tiny")._run != ChatModel("tiny")._run
    assert ChatModel("tiny") != ChatModel("tiny", temperature=0)
    assert ChatModel("tiny") != "tiny"


def test_repr_shows_what_is_not_default_and_evaluates_to_an_equal_object():
    chat = ChatModel("tiny", temperature=0.5, max_concurrency=2)
    assert repr(chat) == "ChatModel('tiny', temperature=0.5, max_concurrency=2)"
    assert eval(repr(chat)) == chat


def test_a_used_model_still_copies(loopback):
    chat = ChatModel("tiny", base_url=loopback.base_url)
    chat.complete(["a"])
    assert pickle.loads(pickle.dumps(chat)).complete(["a"])[0].cached


def test_importing_the_edge_imports_no_openai():
    code = "import sys, skllmreg.llm; sys.exit('openai' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_order_is_kept_whatever_comes_first(loopback):
    loopback.reply = lambda body: Behavior(
        completion(last(body)), delay=0.1 if last(body) == "0" else 0.0
    )
    replies = ChatModel("tiny", base_url=loopback.base_url).complete([str(i) for i in range(20)])
    assert [reply.text for reply in replies] == [str(i) for i in range(20)]


def test_concurrency_is_reached_and_not_exceeded(loopback):
    loopback.latency = 0.05
    chat = ChatModel("tiny", base_url=loopback.base_url, max_concurrency=3)
    chat.complete([str(i) for i in range(12)])
    assert loopback.most_busy == 3


def test_each_occurrence_of_a_prompt_is_a_sample_of_its_own(loopback):
    answers = iter(range(100))
    loopback.reply = lambda body: str(next(answers))
    chat = ChatModel("tiny", base_url=loopback.base_url)
    first = [reply.text for reply in chat.complete(["a", "b", "a", "a"])]
    assert len(set(first)) == 4
    again = chat.complete(["a", "a", "b", "a", "a"])
    assert [r.text for r in again][:4] == [first[0], first[2], first[1], first[3]]
    assert [r.cached for r in again] == [True] * 4 + [False]


def test_request_holds_what_was_asked_for_and_nothing_else(loopback):
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    chat = ChatModel(
        "tiny",
        base_url=loopback.base_url,
        temperature=0.5,
        request_options={"seed": 1, "top_k": 3, "extra_headers": {"X-Title": "test"}},
    )
    chat.complete([messages])
    assert loopback.requests == [
        {"model": "tiny", "messages": messages, "temperature": 0.5, "seed": 1, "top_k": 3}
        | {"stream": True, "stream_options": {"include_usage": True}}
    ]
    assert loopback.seen[0][1]["x-title"] == "test"


@pytest.mark.parametrize(
    "change",
    [
        {"temperature": 0},
        {"request_options": {"seed": 2}},
        {"model": "other"},
        {"base_url": "http://localhost:1/v1"},
    ],
)
def test_what_changes_the_answer_changes_the_key(loopback, change):
    params = {"model": "tiny", "base_url": loopback.base_url}
    ChatModel(**params).complete(["a"])
    assert ChatModel(**params).quote(["a"]).cached == 1
    assert ChatModel(**params | change).quote(["a"]).cached == 0


def test_what_does_not_change_the_answer_keeps_the_key(loopback):
    ChatModel("tiny", base_url=loopback.base_url).complete(["a"])
    other = ChatModel("tiny", base_url=loopback.base_url + "/", timeout=1, max_concurrency=2)
    assert other.complete(["a"])[0].cached


def test_equal_values_have_the_same_key(loopback):
    params = {"base_url": loopback.base_url, "request_options": {"top_p": 1.0}}
    ChatModel("tiny", temperature=0, **params).complete(["a"])
    params["request_options"] = {"top_p": 1}
    assert ChatModel("tiny", temperature=0.0, **params).complete(["a"])[0].cached


def test_prompts_may_be_any_iterable_of_strings(loopback):
    replies = ChatModel("tiny", base_url=loopback.base_url).complete(np.array(["a", "b"]))
    assert [reply.text for reply in replies] == ["reply to a", "reply to b"]
    assert ChatModel("tiny", base_url=loopback.base_url).complete([]) == []


@pytest.mark.parametrize(
    ("prompts", "error", "match"),
    [
        ("one", TypeError, "put it in a list"),
        ([None], TypeError, "Prompt 0 is neither"),
        (["a", []], TypeError, "Prompt 1 is neither"),
        ([[{"role": "user"}]], TypeError, "Prompt 0 is neither"),
        ([[{"role": "robot", "content": "a"}]], ValueError, "role 'robot'"),
        ([[{"role": "user", "content": 3}]], TypeError, "content that is not a string"),
        (["a", "\ud800"], ValueError, "Prompt 1 holds a character"),
    ],
)
def test_wrong_prompts_are_named(prompts, error, match):
    with pytest.raises(error, match=match):
        ChatModel("tiny", base_url="http://localhost:1/v1").complete(prompts)


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({"model": ""}, "name of a model"),
        ({"mode": "fast"}, "mode is"),
        ({"timeout": 0}, "timeout is a positive number"),
        ({"max_concurrency": 0}, "max_concurrency is a whole number, 1 or more"),
        ({"cache": None, "request_budget": 1}, "counted in the cache file"),
        ({"cache": None, "mode": "replay"}, "needs a cache"),
        ({"cost_budget": 1.0}, "needs prices"),
        ({"cost_budget": 1.0, "prices": {"other": (1, 1)}}, "no price of 'tiny'"),
        ({"request_options": {"n": 2}}, "must not set 'n'"),
        ({"request_options": {"extra_headers": {"Authorization": "x"}}}, "looks like a secret"),
        ({"max_retries": -1}, "max_retries is a whole number, 0"),
        ({"max_retries": "3"}, "max_retries is a whole number"),
        ({"max_retries": None}, "max_retries is a whole number"),
        ({"max_concurrency": 2.5}, "max_concurrency is a whole number"),
        ({"timeout": "5"}, "timeout is a positive number, got '5'"),
        ({"request_budget": "5"}, "request_budget is a whole number"),
        ({"cost_budget": float("nan"), "prices": (1, 1)}, "cost_budget is a number"),
        ({"temperature": float("nan")}, "temperature is a number"),
        ({"prices": (1,)}, "prices is "),
        ({"prices": (-1, 1)}, "prices is "),
        ({"prices": 3}, "prices is "),
        ({"prices": {"tiny": "cheap"}}, "prices is "),
        ({"cache": 5}, "cache is "),
        ({"request_options": ["seed"]}, "request_options is a dict"),
        ({"request_options": {"seed": np.int64(1)}}, "request_options cannot be sent as JSON"),
        ({"base_url": "http://localhost:99999/v1"}, "base_url is an address"),
        ({"base_url": "localhost:8000"}, "base_url is an address"),
        ({"base_url": "http://me:pw@localhost/v1"}, "carries a user"),
        ({"base_url": "http://localhost/v1?key=1"}, "carries a user"),
    ],
)
def test_wrong_parameters_are_named(params, match):
    with pytest.raises(ValueError, match=match):
        ChatModel(**{"model": "tiny"} | params).complete(["a"])


def test_openai_without_a_key_says_what_to_set():
    with pytest.raises(RequestError, match="OPENAI_API_KEY is not set"):
        ChatModel("gpt").complete(["a"])


def test_progress_is_shown_on_demand(loopback, capsys):
    pytest.importorskip("tqdm")
    chat = ChatModel("tiny", base_url=loopback.base_url)
    chat.complete(["a"], progress=True, description="Asking")
    assert "Asking" in capsys.readouterr().err
    chat.complete(["b"])
    assert capsys.readouterr().err == ""
