"""Answers that come as streams: signs of life, what they are made of, and servers without them."""

import json
import threading
import time

import pytest

from skllmreg.exceptions import InvalidReplyError, RequestError, ServerLimitWarning
from skllmreg.llm import ChatModel, _obtain, _replies, _transport
from skllmreg.utils._process import ConcurrencyLimit, process
from tests.faults.entries import SCHEMA, healthy, logprobs
from tests.loopback import Behavior, as_in_a_new_process, chunks, completion, error, last


@pytest.fixture(autouse=True)
def _no_long_waits(monkeypatch):
    monkeypatch.setattr(_obtain, "FIRST_PAUSE", 0.01)


@pytest.fixture
def chat(loopback):
    return ChatModel("tiny", base_url=loopback.base_url)


@pytest.fixture
def all_streamed(monkeypatch):
    """However soon answers come."""
    monkeypatch.setattr(_replies, "QUICK", 0.0)


def streamed(body, payload=None, **changes):
    """The answer of a server that streams where it is asked to."""
    payload = payload or completion(f"reply to {last(body)}")
    return Behavior(events=chunks(payload), **changes) if body.get("stream") else payload


PAYLOADS = {
    "a text": completion("Hello, wörld: 一二三, that is all."),
    "a text with log-probabilities": completion("cat", logprobs=logprobs("cat", "dog")),
    "cut off": completion("half an ans", finish_reason="length"),
    "a refusal": completion(None, message={"refusal": "I must not."}),
    "thoughts": completion("5", message={"reasoning_content": "Well, two and three."}),
    "nothing": completion(""),
    "cached tokens": completion("a")
    | {"usage": {"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": 8}}},
}


@pytest.mark.parametrize("what", PAYLOADS)
def test_a_stream_gives_the_record_of_the_same_answer_sent_whole(what):
    payload = PAYLOADS[what]
    text = "".join(chunks(payload))
    gathered = _replies.read_payload(text, "http://x", str)
    assert gathered["usage"] == payload["usage"]
    record = _replies.read_record(gathered, "http://x", str)
    whole = _replies.read_record(payload, "http://x", str)
    assert (record.text or None) == (whole.text or None)
    assert {**vars(record), "text": None} == {**vars(whole), "text": None}


def test_of_several_choices_the_first_is_read():
    bodies = [
        {"choices": [{"index": i, "delta": {"content": text}, "finish_reason": None}]}
        for i, text in [(1, "b1"), (0, "a1 "), (1, "b2"), (0, "a2")]
    ]
    bodies += [{"choices": [{"index": i, "delta": {}, "finish_reason": "stop"}]} for i in (1, 0)]
    text = "".join(f"data: {json.dumps(body)}\n\n" for body in bodies)
    record = _replies.read_record(_replies.read_payload(text, "http://x", str), "http://x", str)
    assert record.text == "a1 a2"


SPELLINGS = {
    "CRLF": lambda events: [event.replace("\n", "\r\n") for event in events],
    "CR": lambda events: [event.replace("\n", "\r") for event in events],
    "no space after data": lambda events: [event.replace("data: ", "data:") for event in events],
    "comments": lambda events: [": alive\n\n" + event for event in events],
    "names and numbers": lambda events: [f"event: x\nid: 1\n{event}" for event in events],
    "a byte at a time": lambda events: list("".join(events)),
    "data over several lines": lambda events: [
        event.replace(', "choices"', ',\ndata: "choices"') for event in events
    ],
    "a filter's chunk first": lambda events: [
        'data: {"choices": [], "prompt_filter_results": []}\n\n',
        *events,
    ],
    "chunks after the end": lambda events: [
        *events[:-1],
        'data: {"choices": [{"index": 0, "delta": {}, "finish_reason": null}]}\n\n',
        events[-1],
    ],
    "no [DONE]": lambda events: events[:-1],
    "no blank line at the end": lambda events: [*events[:-1], "data: [DONE]"],
    "the connection is left open": lambda events: [*events, 5.0],
    "the connection breaks after the end": lambda events: [*events[:-1], "data: {"],
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_streams_are_read_however_they_are_spelled(loopback, chat, spelling):
    chat.timeout = 3.0
    events = SPELLINGS[spelling](chunks(completion("the answer \u2028 of [DONE] words")))
    cut = 0 if spelling == "the connection breaks after the end" else None
    loopback.reply = lambda body: Behavior(events=events, cut=cut)
    (reply,) = chat.complete(["a"])
    assert reply.text == "the answer \u2028 of [DONE] words"
    assert (reply.finish_reason, reply.prompt_tokens, reply.completion_tokens) == ("stop", 10, 5)
    assert len(loopback.requests) == 1


BROKEN = {
    "without an end": chunks(completion("half"))[:3],
    "in the midst of a chunk": [*chunks(completion("half"))[:2], "data: {"],
    "with nothing": [],
    "with an error": [
        *chunks(completion("half"))[:2],
        'data: {"error": {"message": "engine died", "type": "server_error"}}\n\n',
    ],
    "with an error of vLLM and an end": [
        *chunks(completion("half"))[:2],
        'data: {"object": "error", "message": "engine died", "code": 503}\n\n',
        "data: [DONE]\n\n",
    ],
    "with an error of llama.cpp": [
        *chunks(completion("half"))[:2],
        'error: {"message": "engine died", "code": 503}\n\n',
    ],
}


@pytest.mark.parametrize("cut", [None, 0])
@pytest.mark.parametrize("how", BROKEN)
def test_a_stream_that_breaks_off_is_no_answer_and_asked_for_again(loopback, chat, how, cut):
    loopback.failures.append(Behavior(events=BROKEN[how], cut=cut))
    assert chat.complete(["a"])[0].text == "reply to a"
    assert len(loopback.requests) == 2


def test_an_error_in_place_of_a_stream_is_the_refusal_of_its_prompt(loopback, chat):
    fault = {"message": "too long", "code": 400, "type": "exceed_context_size_error"}
    refusal = Behavior(events=[f"data: {json.dumps({'error': fault})}\n\n"])
    loopback.reply = lambda body: refusal if last(body) == "bad" else streamed(body)
    with pytest.raises(InvalidReplyError, match="Prompt 1: The prompt is refused.*too long"):
        chat.complete(["a", "bad", "c"])


@pytest.mark.slow
def test_what_keeps_coming_is_waited_for_beyond_the_timeout(loopback, chat):
    """Words and comments are signs of life; they take three times the timeout together."""
    chat.timeout, chat.max_retries = 1.0, 0
    events = chunks(completion("one two three four five"), n=5)
    paced = [part for event in events[:7] for part in (0.2, ": alive\n\n", 0.2, event)]
    loopback.reply = lambda body: Behavior(events=[*paced, *events[7:]])
    began = time.monotonic()
    assert chat.complete(["a"])[0].text == "one two three four five"
    assert time.monotonic() - began > 2.0


def test_a_stream_that_never_ends_is_given_up(loopback, chat, monkeypatch):
    monkeypatch.setattr(_transport, "LONGEST", 0.02)
    chat.timeout, chat.max_retries = 20.0, 0
    loopback.reply = lambda body: Behavior(events=[": alive\n\n", 0.05] * 100)
    with pytest.raises(RequestError, match=r"still sending its reply: .* within 0.4 s"):
        chat.complete(["a"])


def test_a_stream_that_falls_silent_is_given_up(loopback, chat):
    chat.timeout, chat.max_retries = 0.5, 0
    loopback.reply = lambda body: Behavior(events=[*chunks(completion("half"))[:2], 2.0])
    with pytest.raises(RequestError, match=r"sent no more .* within 0.5 s.*raise timeout"):
        chat.complete(["a"])


def test_a_server_that_ignores_stream_is_used_as_it_is(loopback, chat, all_streamed):
    assert [reply.text for reply in chat.complete(list("abc"))] == [f"reply to {c}" for c in "abc"]
    assert [body["stream_options"] for body in loopback.requests] == [{"include_usage": True}] * 3
    assert chat.refused() == {}


def test_answers_that_come_soon_are_asked_for_whole(loopback):
    chat = ChatModel("tiny", base_url=loopback.base_url, max_concurrency=1)
    loopback.reply = streamed
    assert len(chat.complete(list("abc"))) == 3
    assert ["stream" in body for body in loopback.requests] == [True, False, False]


def test_answers_that_take_long_are_asked_for_as_streams_again(loopback):
    chat = ChatModel("tiny", base_url=loopback.base_url, max_concurrency=1, timeout=4.0)
    loopback.reply = lambda body: (
        streamed(body) if last(body) != "b" else Behavior(completion("slow"), delay=0.3)
    )
    assert len(chat.complete(list("abc"))) == 3
    assert ["stream" in body for body in loopback.requests] == [True, False, True]


def test_how_an_answer_came_is_no_part_of_its_key(loopback, chat):
    loopback.reply = streamed
    chat.complete(["a"])
    assert loopback.requests[0]["stream"]
    as_in_a_new_process()
    replay = ChatModel("tiny", base_url=loopback.base_url, mode="replay")
    assert replay.complete(["a"])[0].text == "reply to a"


REFUSALS = {
    "400": error(400, "Unrecognized request argument supplied: stream"),
    "422 without JSON": Behavior("extra fields not permitted", 422),
    "404 as a page": Behavior("<html>no</html>", 404),
    "500": error(500, "Internal Server Error"),
    "501": error(501, "not implemented"),
}


@pytest.mark.parametrize("field", ["stream", "stream_options"])
@pytest.mark.parametrize("how", REFUSALS)
def test_what_is_refused_of_a_stream_is_found_out_and_remembered(
    loopback, chat, all_streamed, how, field
):
    chat.max_concurrency = 1
    loopback.reply = lambda body: REFUSALS[how] if field in body else streamed(body)
    with pytest.warns(ServerLimitWarning, match="The server takes no stream"):
        replies = chat.complete(list("abcdef"))
    assert [reply.text for reply in replies] == [f"reply to {c}" for c in "abcdef"]
    # A prompt is asked for again at each of the two steps, and before where a failure may pass.
    n_steps = 2 if field == "stream" else 1
    assert len(loopback.requests) == 6 + n_steps + (how == "500")
    as_in_a_new_process()
    n_before = len(loopback.requests)
    chat.complete(list("xyz"))
    assert len(loopback.requests) == n_before + 3
    assert {body.get("stream") for body in loopback.requests[n_before:]} == {
        None if field == "stream" else True
    }


def test_a_stream_is_not_given_up_for_a_schema_that_is_refused(loopback, chat, all_streamed):
    chat.max_concurrency = 1

    def answer(body):
        if "response_format" in body:
            return error(400, "no")
        return Behavior(events=chunks(healthy(body))) if body.get("stream") else healthy(body)

    loopback.reply = answer
    with pytest.warns(ServerLimitWarning, match="takes no JSON schema"):
        chat.complete(list("ab"), schema=SCHEMA)
    assert list(chat.refused()) == ["schema"]
    assert loopback.requests[-1]["stream"]


class Slots:
    """A server that works on so many requests at once; the others wait in its queue, silently."""

    def __init__(self, n, seconds):
        self.slots, self.seconds = threading.Semaphore(n), seconds

    def __call__(self, body):
        with self.slots:
            time.sleep(self.seconds)
        return completion(f"reply to {last(body)}")


@pytest.mark.slow
def test_who_stands_in_the_servers_queue_waits_while_those_before_are_served(loopback):
    """Eight at once, one place: the last is answered after twice the timeout."""
    loopback.reply = Slots(1, 1.0)
    chat = ChatModel("tiny", base_url=loopback.base_url, timeout=4.0)
    assert len(chat.complete([str(i) for i in range(8)])) == 8
    assert len(loopback.requests) == 8


@pytest.mark.slow
def test_a_request_that_was_lost_is_not_kept_waiting_by_those_after_it(loopback):
    loopback.reply = lambda body: Behavior(
        completion("x"), delay=60.0 if len(loopback.requests) == 1 else 0.1
    )
    chat = ChatModel("tiny", base_url=loopback.base_url, timeout=0.6, max_concurrency=2)
    began = time.monotonic()
    chat.complete([str(i) for i in range(20)])
    assert time.monotonic() - began < 30


@pytest.mark.slow
def test_a_repetition_is_given_more_time_and_the_log_names_timeout(loopback, chat, caplog):
    """An answer that takes 0.9 s, asked for with 0.3 s, 0.6 s and 1.2 s."""
    chat.timeout = 0.3
    loopback.reply = lambda body: Behavior(completion("late"), delay=0.9)
    assert chat.complete(["a"])[0].text == "late"
    assert len(loopback.requests) == 3
    said = [r.getMessage() for r in caplog.records if r.name == "skllmreg.llm"]
    assert "timeout=0.3 s" in said[0]
    assert "raise timeout" in said[0]


@pytest.mark.slow
def test_fewer_are_asked_at_once_after_a_timeout(loopback):
    """A server that answers two at once, and forgets whoever comes beyond."""

    def answer(body):
        return Behavior(completion("x"), delay=1.0 if loopback.busy > 2 else 0.05)

    loopback.reply = answer
    chat = ChatModel("tiny", base_url=loopback.base_url, timeout=0.3, max_concurrency=8)
    assert len(chat.complete([str(i) for i in range(8)])) == 8
    limit = process.concurrency(chat._obtain(_replies.Question()).settings.account)
    assert limit.limit < 8


def test_a_limit_is_halved_once_for_those_that_time_out_together_and_grows_again():
    limit = ConcurrencyLimit()
    places = [limit.enter(0.0) for _ in range(8)]
    assert all(places)
    assert [limit.leave(place, False) for place in places] == [True] + [False] * 7
    assert limit.limit == 4
    places = [limit.enter(0.0) for _ in range(5)]
    assert [place > 0 for place in places] == [True] * 4 + [False]
    for place in places[:4]:
        limit.leave(place, True)
    assert 4.9 < limit.limit < 5
    for _ in range(10):  # one is always asked
        limit.leave(limit.enter(0.0), False)
    assert limit.limit == 1


def test_a_call_that_has_ended_waits_for_what_is_under_way_no_longer_than_the_timeout(loopback):
    endless = Behavior(events=[": alive\n\n", 0.1] * 1_000)
    loopback.reply = lambda body: error(401, "bad key") if last(body) == "b" else endless
    loopback.latency = 0.2
    chat = ChatModel("tiny", base_url=loopback.base_url, timeout=1.0, max_concurrency=2)
    began = time.monotonic()
    with pytest.raises(RequestError, match="bad key"):
        chat.complete(["a", "b"])
    assert time.monotonic() - began < 50
