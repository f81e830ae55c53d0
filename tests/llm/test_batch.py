"""Batch jobs: as cheap as they are said to be, and safe whatever the server or the process does."""

import logging
import sqlite3
import threading
from collections import Counter
from contextlib import closing

import pytest

from skllmreg._cli import batches as main
from skllmreg.exceptions import (
    BatchPendingError,
    BudgetExceededError,
    InvalidReplyError,
    RequestError,
    ServerLimitWarning,
)
from skllmreg.llm import ChatModel, _batch, _jobs, _obtain, _store
from skllmreg.llm._transport import ChatCompletions
from tests.batches import Batches
from tests.loopback import Behavior, as_in_a_new_process, completion, error, last

PROMPTS = [f"prompt {i}" for i in range(10)]
SCHEMA = {
    "type": "object",
    "properties": {"n": {"type": "integer"}},
    "required": ["n"],
    "additionalProperties": False,
}


@pytest.fixture(autouse=True)
def _no_long_waits(monkeypatch):
    for name, seconds in (("FIRST_POLL", 0.01), ("LONGEST_POLL", 0.02), ("POLL_FILE", 0.01)):
        monkeypatch.setattr(_batch, name, seconds)
    for module, name, seconds in (
        (_batch, "FIRST_PAUSE", 0.01),
        (_obtain, "FIRST_PAUSE", 0.01),
        (_jobs, "VISIBLE", 0.3),
        (_store, "LEASE", 0.3),
    ):
        monkeypatch.setattr(module, name, seconds)


@pytest.fixture
def batches(loopback):
    return Batches(loopback)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "cache.sqlite3"


def model(batches, path, **params):
    params = {"delivery": "batch", "prices": (1.0, 2.0), "max_retries": 3} | params
    return ChatModel("tiny", base_url=batches.loopback.base_url, cache=path, **params)


def texts(replies):
    return [reply and reply.text for reply in replies]


def rows(path, query):
    with closing(sqlite3.connect(path)) as db:
        return db.execute(query).fetchall()


def bill(path):
    """Requests, tokens of prompts and answers, dollars; and what is still reserved."""
    ((*used, tokens, dollars),) = rows(
        path,
        "SELECT SUM(requests), SUM(prompt_tokens), SUM(completion_tokens), "
        "ROUND(SUM(cost), 9), SUM(reserved_tokens), ROUND(SUM(reserved_cost), 9) FROM ledger",
    )
    assert (tokens, dollars) == (0, 0)
    return used


def all_is_well(batches, path, prompts=PROMPTS):
    """Every prompt is answered, kept and paid for once."""
    assert batches.billed == Counter(prompts)
    assert rows(path, "SELECT COUNT(*) FROM entries") == [(len(prompts),)]
    assert rows(path, "SELECT COUNT(*) FROM job_requests") == [(0,)]
    n = len(prompts)
    return bill(path) == [n, 10 * n, 5 * n, pytest.approx(1e-5 * n)]


def test_answers_are_those_of_a_live_model_at_half_the_price(batches, path):
    replies = model(batches, path).complete(PROMPTS)
    assert texts(replies) == [f"reply to {prompt}" for prompt in PROMPTS]
    assert replies[0].cost == pytest.approx((10 * 1.0 + 5 * 2.0) / 1e6 / 2)
    assert [*dict.fromkeys(batches.steps)] == ["upload", "create", "look", "download"]
    assert all_is_well(batches, path)
    live = model(batches, path, delivery="live").complete(PROMPTS)
    assert texts(live) == texts(replies)
    assert all(reply.cached for reply in live)
    assert not batches.loopback.requests


def test_a_job_asks_what_a_live_request_does(batches, path):
    options = {"max_tokens": 7, "extra_headers": {"X-Title": "t"}, "extra_body": {"top_k": 3}}
    params = {"temperature": 0.5, "request_options": options}
    batches.loopback.reply = lambda body: '{"n": 1}'
    model(batches, path, **params).complete(PROMPTS, schema=SCHEMA)
    (batch,) = batches.batches.values()
    model(batches, path.with_name("other"), delivery="live", **params).complete(
        PROMPTS, schema=SCHEMA
    )
    asked = {item["body"]["messages"][0]["content"]: item["body"] for item in batch["_items"]}
    how_it_comes = {"stream", "stream_options"}
    assert asked == {
        last(body): {name: body[name] for name in body.keys() - how_it_comes}
        for body in batches.loopback.requests
    }
    assert {item["url"] for item in batch["_items"]} == {"/v1/chat/completions"}
    assert all(headers["x-title"] == "t" for headers in batches.headers)
    entries = "SELECT key, request FROM entries ORDER BY key"
    assert rows(path, entries) == rows(path.with_name("other"), entries)


def test_the_key_is_sent_and_nowhere_kept(batches, path, monkeypatch):
    secret = "sk-1234567890-secret"
    monkeypatch.setenv("A_KEY", secret)
    batches.line = lambda item: item | {"echo": secret}
    batches.loopback.reply = lambda body: f"your key is {secret}"
    replies = model(batches, path, api_key_env="A_KEY").complete(PROMPTS)
    assert texts(replies) == ["your key is [key]"] * 10
    assert {headers["authorization"] for headers in batches.headers} == {f"Bearer {secret}"}
    as_in_a_new_process()
    assert secret.encode() not in path.read_bytes()


def test_samples_of_one_prompt_are_requests_of_one_job(batches, path):
    batches.loopback.reply = lambda body: str(sum(batches.billed.values()))
    replies = model(batches, path).complete(["same"] * 5)
    assert sorted(texts(replies)) == list("01234")
    assert batches.n_created == 1


def test_large_calls_are_several_jobs(batches, path, monkeypatch):
    monkeypatch.setattr(_batch, "MOST_REQUESTS", 4)
    model(batches, path).complete(PROMPTS)
    assert sorted(len(batch["_items"]) for batch in batches.batches.values()) == [2, 4, 4]
    assert all_is_well(batches, path)


def test_large_prompts_are_several_jobs(batches, path, monkeypatch):
    monkeypatch.setattr(_batch, "MOST_BYTES", 10_000)
    prompts = [f"{i}" + "x" * 4_000 for i in range(4)]
    model(batches, path).complete(prompts)
    files = [content for content in batches.files.values() if b"custom_id" in content[:20]]
    uploaded = [content for content in files if b'"method"' in content]
    assert [len(content.splitlines()) for content in uploaded] == [2, 2]
    assert all(len(content) <= 10_000 for content in uploaded)
    assert all_is_well(batches, path, prompts)


class TestNotWaiting:
    def test_the_error_says_how_to_go_on_and_a_later_run_does(self, batches, path):
        llm = model(batches, path, batch_wait=False)
        batches.looks = 3
        with pytest.raises(BatchPendingError, match="Run the same code again") as pending:
            llm.complete(PROMPTS)
        assert pending.value.jobs == ["batch_0"]
        assert pending.value.n_pending == 10
        assert texts(pending.value.replies) == [None] * 10
        assert "in_progress" in str(pending.value)
        as_in_a_new_process()
        with pytest.raises(BatchPendingError):
            model(batches, path, batch_wait=False).complete(PROMPTS)
        as_in_a_new_process()
        assert texts(model(batches, path).complete(PROMPTS))[0] == "reply to prompt 0"
        assert batches.n_created == 1
        assert all_is_well(batches, path)

    def test_what_is_answered_comes_with_the_error(self, batches, path):
        model(batches, path).complete(PROMPTS[:3])
        with pytest.raises(BatchPendingError, match="3 of 10 prompts are answered") as pending:
            model(batches, path, batch_wait=False).complete(PROMPTS)
        assert texts(pending.value.replies)[:4] == [f"reply to prompt {i}" for i in range(3)] + [
            None
        ]

    def test_only_what_no_job_has_is_submitted(self, batches, path):
        batches.looks = 2
        for n in (4, 10):
            with pytest.raises(BatchPendingError):
                model(batches, path, batch_wait=False).complete(PROMPTS[:n])
        assert [len(batch["_items"]) for batch in batches.batches.values()] == [4, 6]
        model(batches, path).complete(PROMPTS)
        assert all_is_well(batches, path)

    def test_the_quote_knows_what_is_under_way(self, batches, path):
        llm = model(batches, path, request_options={"max_tokens": 100})
        before = llm.quote(PROMPTS)
        assert (before.requests, before.pending) == (10, 0)
        whole = (before.prompt_tokens + 2 * before.completion_tokens) / 1e6
        assert before.cost == pytest.approx(whole / 2)
        batches.looks = 9
        with pytest.raises(BatchPendingError):
            model(batches, path, batch_wait=False, request_options={"max_tokens": 100}).complete(
                PROMPTS[:4]
            )
        after = llm.quote(PROMPTS)
        assert (after.requests, after.cached, after.pending) == (6, 0, 4)


class Killed(BaseException):
    """What stands for the death of a process: nothing of the package handles it."""


def dies_at(monkeypatch, nth, after):
    """Let the process die before or after its nth exchange with the server."""
    n = 0

    def dying(method):
        def call(self, *args):
            nonlocal n
            n += 1
            if n == nth and not after:
                raise Killed
            result = method(self, *args)
            if n == nth:
                raise Killed
            return result

        return call

    for name in ("post", "get", "upload", "download"):
        monkeypatch.setattr(ChatCompletions, name, dying(getattr(ChatCompletions, name)))


def slow(*values):
    return [pytest.param(value, marks=pytest.mark.slow) for value in values]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("nth", [2, 5, *slow(1, 3, 4)])
def test_a_death_between_two_steps_costs_nothing(nth, after, batches, path, monkeypatch):
    with monkeypatch.context() as dying:
        dies_at(dying, nth, after)
        with pytest.raises(Killed):
            model(batches, path).complete(PROMPTS)
    as_in_a_new_process()
    replies = model(batches, path).complete(PROMPTS)
    assert texts(replies) == [f"reply to {prompt}" for prompt in PROMPTS]
    assert batches.n_created == 1
    assert all_is_well(batches, path)


def test_a_death_while_answers_are_stored_costs_nothing(batches, path, monkeypatch):
    monkeypatch.setattr(_jobs, "AT_ONCE", 3)
    store, n = _jobs.Driver._store, 0

    def dying(self, *args):
        nonlocal n
        n += 1
        if n == 3:
            raise Killed
        return store(self, *args)

    with monkeypatch.context() as patched:
        patched.setattr(_jobs.Driver, "_store", dying)
        with pytest.raises(Killed):
            model(batches, path).complete(PROMPTS)
    assert rows(path, "SELECT COUNT(*) FROM entries") == [(6,)]
    as_in_a_new_process()
    model(batches, path).complete(PROMPTS)
    assert all_is_well(batches, path)


class TestCreation:
    """The server has made a job, or not, and has not said so."""

    LOST = Behavior(reset=True)

    def test_a_lost_answer_is_looked_for(self, batches, path):
        batches.after["create"].append(self.LOST)
        model(batches, path).complete(PROMPTS)
        assert batches.n_created == 1
        assert "list" in batches.steps
        assert all_is_well(batches, path)

    def test_the_list_may_be_late(self, batches, path):
        batches.hidden = 0.15
        batches.after["create"].append(self.LOST)
        model(batches, path).complete(PROMPTS)
        assert batches.n_created == 1
        assert all_is_well(batches, path)

    def test_a_request_that_was_lost_is_repeated(self, batches, path):
        batches.before["create"].append(self.LOST)
        model(batches, path).complete(PROMPTS)
        assert batches.n_created == 1
        assert all_is_well(batches, path)

    def test_servers_that_forget_the_metadata_know_the_file(self, batches, path):
        batches.after["create"].append(self.LOST)
        create = batches._create
        batches._create = lambda **request: (
            create(**request) | (batches.batches["batch_0"].pop("metadata") and {})
        )
        model(batches, path).complete(PROMPTS)
        assert batches.n_created == 1
        assert all_is_well(batches, path)

    def test_it_is_found_among_many(self, batches, path):
        batches.after["create"].append(self.LOST)
        create = batches._create

        def crowded(**request):
            made = create(**request)
            for i in range(150):
                other = {**made, "status": "completed", "metadata": None, "input_file_id": "x"}
                batches.batches[f"other_{i}"] = {**other, "id": f"other_{i}", "_items": []}
            return made

        batches._create = crowded
        model(batches, path).complete(PROMPTS)
        assert batches.steps.count("list") == 2
        assert batches.n_created == 1

    def test_of_two_one_is_cancelled(self, batches, path, monkeypatch):
        """One process slept before its request, and another has created the job meanwhile."""
        monkeypatch.setattr(_jobs, "VISIBLE", 0.0)
        batches.hidden = 0.1
        batches.after["create"] += [self.LOST, self.LOST]
        batches.looks = 10
        model(batches, path).complete(PROMPTS)
        states = [batch["status"] for batch in batches.batches.values()]
        assert states[0] == "completed"
        assert set(states[1:]) == {"cancelling"}


# What the server does: how it is made to, and the number of jobs that it takes.
LINES = {
    "in another order": lambda b: setattr(b, "lines", lambda lines: lines[::-1]),
    "twice": lambda b: setattr(b, "lines", lambda lines: lines * 2),
    "with ids that nobody knows": lambda b: (
        setattr(b, "line", lambda item: item if "prompt" in str(item) else None)
        or setattr(b, "lines", lambda lines: [{**lines[0], "custom_id": "x"}, *lines])
    ),
    "with damaged lines": lambda b: setattr(
        b, "lines", lambda lines: ["no object", {"custom_id": 3}, {"response": None}, *lines]
    ),
}


@pytest.mark.parametrize("fault", LINES)
def test_answers_may_come(fault, batches, path):
    LINES[fault](batches)
    replies = model(batches, path).complete(PROMPTS)
    assert texts(replies) == [f"reply to {prompt}" for prompt in PROMPTS]
    assert batches.n_created == 1
    assert all_is_well(batches, path)


def test_a_line_without_an_end_is_no_answer_and_hides_none(batches, path, monkeypatch):
    monkeypatch.setattr(_jobs, "LARGEST_LINE", 2_000)
    batches.lines = lambda lines: [{"custom_id": "x" * 9_000}, *lines]
    assert None not in texts(model(batches, path).complete(PROMPTS))
    assert all_is_well(batches, path)


def once(status):
    """Let the first batch end with a status, and the others well."""
    return lambda batch: status if batch["id"] == "batch_0" else "completed"


class TestEnds:
    @pytest.mark.parametrize("n_answered", [0, 4])
    def test_of_an_expired_job_the_rest_is_asked_again(self, n_answered, batches, path):
        batches.end, batches.n_answered = once("expired"), n_answered
        model(batches, path).complete(PROMPTS)
        assert [len(b["_items"]) for b in batches.batches.values()] == [10, 10 - n_answered]
        assert all_is_well(batches, path)

    def test_jobs_that_always_expire_end_the_call(self, batches, path):
        batches.end, batches.n_answered = lambda batch: "expired", 0
        with pytest.raises(RequestError, match="expired|in time"):
            model(batches, path).complete(PROMPTS)
        assert batches.n_created == 4
        assert bill(path)[:3] == [0, 0, 0]

    def test_a_job_cancelled_while_it_is_waited_for_ends_the_call(self, batches, path):
        batches.end = once("cancelled")
        with pytest.raises(RequestError, match="5 of 10 prompts are answered and kept"):
            model(batches, path).complete(PROMPTS)
        assert batches.n_created == 1
        model(batches, path).complete(PROMPTS)
        assert [len(b["_items"]) for b in batches.batches.values()] == [10, 5]
        assert all_is_well(batches, path)

    def test_of_a_job_cancelled_before_the_rest_is_asked(self, batches, path):
        batches.end, batches.looks = once("cancelled"), 1
        with pytest.raises(BatchPendingError):
            model(batches, path, batch_wait=False).complete(PROMPTS)
        as_in_a_new_process()
        model(batches, path).complete(PROMPTS)
        assert all_is_well(batches, path)

    def test_a_job_that_fails_validation_names_the_prompt_and_costs_nothing(self, batches, path):
        batches.end = once("failed")
        with pytest.raises(RequestError, match=r"Prompt 1: .*no such model \(line 2\)"):
            model(batches, path).complete(PROMPTS)
        assert bill(path)[:3] == [0, 0, 0]
        model(batches, path).complete(PROMPTS)
        assert all_is_well(batches, path)

    def test_half_of_the_requests_fail_for_once(self, batches, path):
        down = {f"prompt {i}" for i in range(5)}

        def reply(body):
            if last(body) in down:
                down.remove(last(body))
                return error(500, "down")
            return f"reply to {last(body)}"

        batches.loopback.reply = reply
        model(batches, path).complete(PROMPTS)
        assert [len(b["_items"]) for b in batches.batches.values()] == [10, 5]
        assert rows(path, "SELECT COUNT(*) FROM entries") == [(10,)]
        assert bill(path)[1:3] == [100, 50]

    def test_a_refused_prompt_is_named_and_the_others_are_answered(self, batches, path):
        filtered = error(400, "filtered", code="content_filter")
        batches.loopback.reply = lambda body: filtered if last(body) == "prompt 3" else "yes"
        with pytest.raises(InvalidReplyError, match="Prompt 3: The prompt is refused") as failed:
            model(batches, path).complete(PROMPTS)
        assert [*failed.value.failures] == [3]
        assert texts(failed.value.replies).count("yes") == 9
        assert batches.n_created == 1

    def test_an_error_file_alone_is_read(self, batches, path):
        batches.loopback.reply = lambda body: error(400, "no", code="invalid_prompt")
        with pytest.raises(InvalidReplyError, match="10 of 10 replies are unusable"):
            model(batches, path).complete(PROMPTS)
        (batch,) = batches.batches.values()
        assert batch["output_file_id"] is None
        assert bill(path)[:3] == [10, 0, 0]

    def test_a_request_without_a_line_is_named_and_not_paid_for_again_unasked(self, batches, path):
        lost = [*PROMPTS]
        batches.line = lambda item: item if not lost or lost.pop() != "prompt 7" else None
        with pytest.raises(InvalidReplyError, match="Prompt 2: .*without an answer"):
            model(batches, path).complete(PROMPTS)
        assert batches.n_created == 1
        assert None not in texts(model(batches, path).complete(PROMPTS))
        assert batches.n_created == 2

    def test_an_output_file_that_is_gone_is_said_and_not_paid_for_again_unasked(
        self, batches, path
    ):
        batches.gone = {"output"}
        with pytest.raises(RequestError, match="10 are lost. Run again"):
            model(batches, path).complete(PROMPTS)
        assert batches.n_created == 1
        ((requests, reserved),) = rows(path, "SELECT requests, reserved_tokens > 0 FROM ledger")
        assert (requests, reserved) == (10, 1)  # they are on the bill
        batches.gone = set()
        assert None not in texts(model(batches, path).complete(PROMPTS))

    @pytest.mark.parametrize("status", ["200", 200.0, None])
    def test_a_status_of_any_type_is_read(self, batches, path, status):
        def line(item):
            return item | {"response": item["response"] | {"status_code": status}}

        batches.line = line
        assert None not in texts(model(batches, path).complete(PROMPTS))
        assert all_is_well(batches, path)

    @pytest.mark.parametrize("body", [None, "a text", []])
    def test_an_answer_without_a_completion_is_asked_for_again_alone(self, batches, path, body):
        first = iter([True])
        batches.line = lambda item: (
            item | {"response": {"status_code": 200, "body": body}} if next(first, False) else item
        )
        assert None not in texts(model(batches, path).complete(PROMPTS))
        assert (batches.n_created, len(batches.loopback.requests)) == (1, 1)  # repaired live

    @pytest.mark.parametrize("content", [b"", b"<html>busy</html>", b"[]", b"null", b'{"custom_id'])
    def test_an_output_file_that_cannot_be_read_is_asked_for_again(self, batches, path, content):
        batches.before["download"] += [Behavior(content)]
        model(batches, path).complete(PROMPTS)
        assert all_is_well(batches, path)

    @pytest.mark.parametrize("errors", [None, ["down"], {"data": None}, {"data": ["down"]}, "down"])
    def test_a_job_is_refused_in_any_form(self, batches, path, errors):
        batches.end = once("failed")
        finish = batches._finish

        def finish_otherwise(batch, status):
            finish(batch, status)
            batch["errors"] = errors

        batches._finish = finish_otherwise
        said = "down" if "down" in str(errors) else "it gives no reason"
        with pytest.raises(RequestError, match=f"refuses the batch job .*: {said}"):
            model(batches, path).complete(PROMPTS)

    def test_a_new_job_may_not_be_seen_at_once(self, batches, path):
        batches.before["look"] += [error(404, "no such batch")] * 2
        model(batches, path).complete(PROMPTS)
        assert all_is_well(batches, path)

    def test_an_output_file_that_is_late_is_waited_for(self, batches, path):
        batches.before["download"] += [error(404, "not yet"), error(404, "not yet")]
        model(batches, path).complete(PROMPTS)
        assert all_is_well(batches, path)


class TestServer:
    @pytest.mark.parametrize("step", ["upload", "create"])
    def test_a_submission_that_comes_too_fast_is_repeated(self, step, batches, path):
        batches.before[step] += [error(429, "slow down", headers={"Retry-After": "0.01"})] * 2
        model(batches, path).complete(PROMPTS)
        assert batches.n_created == 1
        assert all_is_well(batches, path)

    @pytest.mark.parametrize("step", ["look", *slow("upload", "create", "download")])
    def test_a_server_that_is_down_for_a_while_is_waited_for(self, step, batches, path):
        down = [Behavior(reset=True), error(503, "down"), Behavior("<html>", status=502)]
        batches.before[step] += down
        model(batches, path).complete(PROMPTS)
        assert batches.n_created == 1
        assert all_is_well(batches, path)

    @pytest.mark.parametrize("step", ["look", *slow("create", "download")])
    def test_a_server_that_stays_down_ends_the_call_and_loses_no_job(self, step, batches, path):
        batches.before[step] += [error(503, "down")] * 4
        with pytest.raises(RequestError, match="503"):
            model(batches, path).complete(PROMPTS)
        model(batches, path).complete(PROMPTS)
        assert batches.n_created == 1
        assert all_is_well(batches, path)

    @pytest.mark.parametrize("step", ["upload", "create"])
    def test_a_refused_submission_is_an_error_and_gives_the_budget_back(self, step, batches, path):
        batches.before[step].append(error(400, "no batches here"))
        with pytest.raises(RequestError, match="no batches here"):
            model(batches, path).complete(PROMPTS)
        assert bill(path)[:3] == [0, 0, 0]
        model(batches, path).complete(PROMPTS)
        assert all_is_well(batches, path)

    def test_a_queue_that_is_too_small_for_a_job_gets_smaller_ones(self, batches, path):
        batches.enqueue_limit = 6
        model(batches, path).complete(PROMPTS)
        assert all_is_well(batches, path)

    def test_a_queue_that_is_full_of_jobs_gets_them_one_after_the_other(
        self, batches, path, monkeypatch
    ):
        monkeypatch.setattr(_batch, "MOST_REQUESTS", 2)
        batches.enqueue_limit = 4
        model(batches, path).complete(PROMPTS)
        assert max(len(batch["_items"]) for batch in batches.batches.values()) == 2
        assert all_is_well(batches, path)

    def test_a_queue_that_takes_nothing_is_an_error(self, batches, path):
        batches.enqueue_limit = 0
        with pytest.raises(RequestError, match="Enqueued token limit"):
            model(batches, path).complete(PROMPTS)
        assert bill(path)[:3] == [0, 0, 0]

    def test_what_a_server_refuses_of_our_additions_is_asked_for_without_them(self, batches, path):
        def reply(body):
            if body.get("response_format", {}).get("type") == "json_schema":
                return error(400, "no json_schema")
            return '{"n": 1}'

        batches.loopback.reply = reply
        with pytest.warns(ServerLimitWarning, match="no JSON schema"):
            replies = model(batches, path).complete(PROMPTS, schema=SCHEMA)
        assert [reply.value for reply in replies] == [{"n": 1}] * 10
        assert [len(batch["_items"]) for batch in batches.batches.values()] == [10, 9]
        assert len(batches.loopback.requests) == 2  # of the first prompt, which found it out

    def test_the_waiting_is_announced(self, batches, path, caplog):
        batches.looks = 3
        with caplog.at_level(logging.WARNING, "skllmreg.llm"):
            model(batches, path).complete(PROMPTS)
        assert "1 batch job (in_progress) with 0 of 10 prompts done" in caplog.text


class TestRepairs:
    @pytest.mark.parametrize("way", ["live", "batch"])
    def test_answers_of_no_use_are_asked_for_again(self, way, batches, path):
        batches.loopback.reply = lambda body: '{"n": 1}' if len(body["messages"]) > 1 else "no"
        llm = model(batches, path, batch_repairs=way)
        replies = llm.complete(PROMPTS[:3], schema=SCHEMA)
        assert [(reply.value, reply.n_repairs) for reply in replies] == [({"n": 1}, 1)] * 3
        assert batches.n_created == (2 if way == "batch" else 1)
        assert len(batches.loopback.requests) == (0 if way == "batch" else 3)
        share = 0.5 if way == "batch" else 1.0
        assert replies[0].cost == pytest.approx((0.5 + share) * 2e-5)
        assert sum(usage.cost for usage in llm.usage()) == pytest.approx(3 * (0.5 + share) * 2e-5)

    def test_a_blank_answer_is_asked_for_again(self, batches, path):
        batches.loopback.reply = lambda body: "" if not batches.billed[last(body)] else "yes"
        llm = model(batches, path, batch_repairs="batch")
        assert texts(llm.complete(PROMPTS)) == ["yes"] * 10
        assert batches.n_created == 2
        assert bill(path)[:3] == [20, 200, 100]


class TestBudget:
    @pytest.mark.parametrize(
        "budget", [{"request_budget": 9}, {"token_budget": 1_000}, {"cost_budget": 1e-4}]
    )
    def test_nothing_is_submitted_that_might_exceed_it(self, budget, batches, path):
        with pytest.raises(BudgetExceededError, match="none was submitted"):
            model(batches, path, **budget).complete(PROMPTS)
        assert batches.steps == []
        assert rows(path, "SELECT COUNT(*) FROM ledger") == [(0,)]

    def test_a_job_counts_while_it_is_under_way(self, batches, path):
        llm = model(batches, path, request_budget=10, batch_wait=False)
        with pytest.raises(BatchPendingError):
            llm.complete(PROMPTS)
        with pytest.raises(BudgetExceededError):
            llm.complete(["one more"])

    def test_whoever_collects_it_the_bill_is_of_whoever_submitted_it(self, batches, path):
        llm = model(batches, path, batch_wait=False)
        with pytest.raises(BatchPendingError):
            llm.complete(PROMPTS)
        other = model(batches, path, prices=None)
        other.complete(PROMPTS)
        (mine,) = llm.usage(this_run=True)
        assert (mine.requests, mine.cost) == (10, pytest.approx(1e-4))
        assert sum(usage.requests for usage in other.usage(this_run=True)) == 0


def test_those_who_ask_the_same_share_one_job(batches, path):
    batches.looks = 5
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(texts(model(batches, path).complete(PROMPTS))))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [[f"reply to {prompt}" for prompt in PROMPTS]] * 4
    assert batches.n_created == 1
    assert all_is_well(batches, path)


def test_label_probabilities_take_one_job_and_one_live_answer(batches, path):
    top = [{"token": "yes", "logprob": -0.1}, {"token": "no", "logprob": -2.4}]
    token = {**top[0], "top_logprobs": top}
    batches.loopback.reply = lambda body: completion("yes", logprobs={"content": [token]})
    found = model(batches, path).label_probabilities(PROMPTS, ["yes", "no"])
    assert found.method.tolist() == ["logprobs"] * 10
    assert len(batches.loopback.requests) == 1
    assert [len(batch["_items"]) for batch in batches.batches.values()] == [9]


class TestCommand:
    def submitted(self, batches, path):
        with pytest.raises(BatchPendingError):
            model(batches, path, batch_wait=False).complete(PROMPTS)
        as_in_a_new_process()

    def test_jobs_are_listed_and_collected(self, batches, path, capsys):
        self.submitted(batches, path)
        assert main(["list", "--file", str(path)]) == 0
        assert "batch_0" in capsys.readouterr().out
        assert main(["collect", "--file", str(path)]) == 0
        assert "completed  10 of 10 done" in capsys.readouterr().out
        assert all_is_well(batches, path)
        assert main(["list", "--file", str(path)]) == 0
        assert "0 jobs" in capsys.readouterr().out
        assert main(["list", "--all", "--file", str(path)]) == 0
        assert "batch_0" in capsys.readouterr().out
        assert all(reply.cached for reply in model(batches, path).complete(PROMPTS))

    def test_what_was_answered_of_a_cancelled_job_is_collected(self, batches, path, capsys):
        self.submitted(batches, path)
        batches.n_answered = 3
        assert main(["cancel", "batch_0", "--file", str(path)]) == 0
        batches.batches["batch_0"]["_looks"] = 0
        assert main(["collect", "--file", str(path)]) == 0
        assert rows(path, "SELECT COUNT(*) FROM entries") == [(3,)]
        assert bill(path)[:3] == [3, 30, 15]

    def test_a_job_that_was_not_created_is_cancelled_here(self, batches, path):
        batches.before["create"] += [error(503, "down")] * 4
        with pytest.raises(RequestError):
            model(batches, path).complete(PROMPTS)
        ((name,),) = rows(path, "SELECT id FROM jobs")
        assert main(["cancel", name, "--file", str(path)]) == 0
        assert bill(path)[:3] == [0, 0, 0]
        model(batches, path).complete(PROMPTS)
        assert batches.n_created == 1

    def test_a_job_that_the_server_forgot_keeps_no_other_from_being_collected(
        self, batches, path, capsys, monkeypatch
    ):
        monkeypatch.setattr("skllmreg.llm._jobs.VISIBLE", 0.0)
        self.submitted(batches, path)
        with pytest.raises(BatchPendingError):
            model(batches, path, batch_wait=False).complete(["another prompt"])
        del batches.batches["batch_0"]
        batches.batches["batch_1"]["_looks"] = 0
        assert main(["collect", "--file", str(path)]) == 1
        assert rows(path, "SELECT COUNT(*) FROM entries") == [(1,)]
        assert "batch_0: " in capsys.readouterr().err
        assert main(["cancel", "batch_0", "--file", str(path)]) == 0
        assert main(["collect", "--file", str(path)]) == 0
        assert None not in texts(model(batches, path).complete(PROMPTS))

    def test_a_job_that_is_not_there_is_an_error(self, batches, path):
        self.submitted(batches, path)
        assert main(["cancel", "batch_9", "--file", str(path)]) == 1
        assert main(["cancel", "--file", str(path)]) == 2
        assert main(["list", "--file", str(path.with_name("none"))]) == 1


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"delivery": "post"}, 'delivery is "live" or "batch"'),
        ({"batch_repairs": None}, 'batch_repairs is "live" or "batch"'),
        ({"batch_wait": "no"}, "batch_wait is True or False"),
        ({"cache": None}, "needs a cache"),
        ({"transport": type("T", (), {"send": lambda self, request: None})()}, "transport is None"),
    ],
)
def test_wrong_parameters_are_named(params, words):
    with pytest.raises(ValueError, match=words):
        ChatModel("tiny", **{"delivery": "batch"} | params).complete(["a"])
