import pickle

import joblib
import pytest
from sklearn.base import clone

from skllmreg.exceptions import BudgetExceededError, RequestError
from skllmreg.llm import ChatModel, _obtain
from skllmreg.llm._store import open_store
from tests.loopback import Behavior, completion, error


def names(n, prefix="prompt"):
    return [f"{prefix} {i}" for i in range(n)]


def test_a_request_budget_is_never_exceeded_and_what_came_is_kept(loopback):
    chat = ChatModel("tiny", base_url=loopback.base_url, request_budget=5)
    with pytest.raises(BudgetExceededError, match="request_budget=5") as caught:
        chat.complete(names(20))
    assert len(loopback.requests) == 5
    assert sum(reply is not None for reply in caught.value.replies) == 5
    assert "5 of 20 prompts are answered and kept in" in str(caught.value)
    assert "A new ChatModel starts a new count" in str(caught.value)
    more = ChatModel("tiny", base_url=loopback.base_url, request_budget=15)
    assert sum(reply.cached for reply in more.complete(names(20))) == 5


def test_cached_answers_take_nothing_of_the_budget(loopback):
    ChatModel("tiny", base_url=loopback.base_url).complete(names(5))
    chat = ChatModel("tiny", base_url=loopback.base_url, request_budget=1, prices=(1, 1))
    replies = chat.complete([*names(5), "new"])
    assert [reply.cost for reply in replies] == [0.0] * 5 + [pytest.approx(15e-6)]
    (row,) = chat.usage(this_run=True)
    assert (row.requests, row.cached, row.cost) == (1, 5, pytest.approx(15e-6))


@pytest.mark.parametrize("copy", [clone, lambda chat: pickle.loads(pickle.dumps(chat))])
def test_copies_share_the_budget(loopback, copy):
    chat = ChatModel("tiny", base_url=loopback.base_url, request_budget=5)
    chat.complete(names(3, "first"))
    with pytest.raises(BudgetExceededError):
        copy(chat).complete(names(3, "second"))
    assert len(loopback.requests) == 5


def test_new_objects_start_afresh(loopback):
    for prefix in "ab":
        chat = ChatModel("tiny", base_url=loopback.base_url, request_budget=3)
        chat.complete(names(3, prefix))


def _complete(chat, prefix):
    try:
        return sum(reply is not None for reply in chat.complete(names(10, prefix)))
    except BudgetExceededError as error:
        return sum(reply is not None for reply in error.replies)


@pytest.mark.parametrize("backend", [pytest.param("loky", marks=pytest.mark.slow), "threading"])
def test_workers_share_the_budget(loopback, tmp_path, backend):
    # The cache is named: workers keep the environment of the test that they were started for.
    cache = tmp_path / "named.sqlite3"
    chat = ChatModel("tiny", base_url=loopback.base_url, request_budget=12, cache=cache)
    done = joblib.Parallel(2, backend=backend)(
        joblib.delayed(_complete)(clone(chat), prefix) for prefix in "ab"
    )
    assert sum(done) == len(loopback.requests) == 12


def test_a_token_budget_with_max_tokens_is_never_exceeded(loopback):
    chat = ChatModel(
        "tiny",
        base_url=loopback.base_url,
        token_budget=100,
        request_options={"max_tokens": 5},
    )
    with pytest.raises(BudgetExceededError, match="token_budget=100"):
        chat.complete(["x"] * 50)
    (row,) = chat.usage()
    assert row.prompt_tokens + row.completion_tokens <= 100
    # What was reserved for requests under way comes back: the budget is used up to the last one.
    assert row.requests == 6


def test_a_cost_budget_is_kept_in_dollars(loopback):
    chat = ChatModel(
        "tiny",
        base_url=loopback.base_url,
        cost_budget=0.001,
        prices={"tiny": (10.0, 20.0)},
        request_options={"max_completion_tokens": 5},
        max_concurrency=1,
    )
    with pytest.raises(BudgetExceededError, match=r"cost_budget=0.001 .* and \$0.00"):
        chat.complete(names(10))
    (row,) = chat.usage()
    assert row.cost == pytest.approx(row.requests * 200e-6)
    assert row.cost <= 0.001


def test_a_request_budget_holds_for_requests_that_fail_and_names_the_last_failure(
    loopback, monkeypatch
):
    monkeypatch.setattr(_obtain, "FIRST_PAUSE", 0.01)
    loopback.reply = lambda body: error(500, "out of memory")
    chat = ChatModel("tiny", base_url=loopback.base_url, request_budget=2)
    with pytest.raises(BudgetExceededError, match="last failure was: .* status 500: out of memory"):
        chat.complete(["a"])
    assert len(loopback.requests) == chat.usage()[0].requests == 2


def test_a_host_that_cannot_be_reached_takes_nothing_of_the_budget(monkeypatch):
    monkeypatch.setattr(_obtain, "FIRST_PAUSE", 0.01)
    chat = ChatModel("tiny", base_url="http://127.0.0.1:9/v1", request_budget=1, max_retries=2)
    with pytest.raises(RequestError, match="cannot be reached .*Connect call failed"):
        chat.complete(["a"])
    assert chat.usage()[0].requests == 0


@pytest.mark.parametrize(
    ("fault", "billed"),
    [
        (error(503), False),
        (error(504), True),
        (error(520), True),
        (error(522), False),
        (error(524), True),
        (error(529), False),
        (Behavior(reset=True), True),
    ],
)
def test_tokens_stay_reserved_where_an_answer_may_have_been_billed(loopback, fault, billed):
    loopback.reply = lambda body: fault
    chat = ChatModel("tiny", base_url=loopback.base_url, max_retries=0, request_budget=9)
    with pytest.raises(RequestError):
        chat.complete(["a"])
    ((reserved,),) = open_store("default").read("SELECT reserved_tokens FROM ledger")
    assert (reserved > 0) is billed


def test_weaker_forms_of_a_request_count(loopback):
    loopback.reply = lambda body: error(400, "no form") if "response_format" in body else "3"
    chat = ChatModel("counted", base_url=loopback.base_url, request_budget=2)
    with pytest.raises(BudgetExceededError):
        chat.complete(["a"], schema={"type": "integer"})
    assert len(loopback.requests) == 2


def test_quote_says_what_complete_then_takes(loopback):
    chat = ChatModel(
        "tiny",
        base_url=loopback.base_url,
        prices=(1.0, 2.0),
        request_options={"max_tokens": 100},
    )
    chat.complete(["a"])
    quote = chat.quote(["a", "a", "b"])
    assert (quote.requests, quote.cached, quote.completion_tokens) == (2, 1, 200)
    assert quote.cost == pytest.approx((quote.prompt_tokens + 2 * 200) / 1e6)
    assert quote.basis == "max_tokens of request_options"
    assert len(loopback.requests) == 1


def test_quote_learns_the_length_of_answers_from_the_ledger(loopback):
    chat = ChatModel("tiny", base_url=loopback.base_url)
    assert "guess" in chat.quote(["a"]).basis
    chat.complete(["a"])
    quote = chat.quote(["b"])
    assert (quote.completion_tokens, quote.basis) == (5, "the mean of 1 earlier requests")
    assert quote.cost is None


def test_tokens_are_estimated_where_the_server_counts_none(loopback):
    loopback.reply = lambda body: completion("x" * 30, usage=None)
    chat = ChatModel("tiny", base_url=loopback.base_url)
    assert chat.complete(["a"])[0].prompt_tokens is None
    (row,) = chat.usage()
    assert row.completion_tokens == 11
    assert row.prompt_tokens > 0
