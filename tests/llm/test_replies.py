"""Structured replies: forms of the request, repair rounds, validation."""

import time
import warnings

import pytest

from skllmreg.exceptions import InvalidReplyError, ServerLimitWarning
from skllmreg.llm import ChatModel
from tests.loopback import as_in_a_new_process, completion, error, last

SCHEMA = {
    "type": "object",
    "properties": {"score": {"type": "integer", "minimum": -10, "maximum": 10}},
    "required": ["score"],
    "additionalProperties": False,
}


@pytest.fixture
def chat(loopback):
    return ChatModel("tiny", base_url=loopback.base_url)


def test_a_good_reply_is_parsed(loopback, chat):
    loopback.reply = lambda body: '{"score": 3}'
    (reply,) = chat.complete(["a"], schema=SCHEMA)
    assert reply.value == {"score": 3}
    assert reply.n_repairs == 0
    sent = loopback.requests[0]["response_format"]
    assert sent["type"] == "json_schema"
    assert sent["json_schema"]["schema"] == SCHEMA
    assert sent["json_schema"]["strict"] is True


@pytest.mark.filterwarnings("ignore::skllmreg.exceptions.ServerLimitWarning")
@pytest.mark.parametrize("refused", [["json_schema"], ["json_schema", "json_object"]])
@pytest.mark.parametrize("status", [400, 422, 501])
def test_a_refused_form_falls_back_tells_the_schema_and_is_remembered(
    loopback, chat, refused, status
):
    def reply(body):
        form = body.get("response_format", {}).get("type")
        return error(status, "response_format") if form in refused else '{"score": 3}'

    loopback.reply = reply
    assert chat.complete(["a"], schema=SCHEMA)[0].value == {"score": 3}
    assert len(loopback.requests) == len(refused) + 1
    assert '"minimum": -10' in last(loopback.requests[-1])
    chat.complete(["b"], schema=SCHEMA)
    assert len(loopback.requests) == len(refused) + 2
    assert sum(row.requests for row in chat.usage()) == len(refused) + 2


def test_a_refusal_that_is_not_about_the_form_is_raised_and_not_remembered(loopback, chat):
    loopback.reply = lambda body: error(400, "prompt too long")
    with pytest.raises(InvalidReplyError, match="prompt too long"):
        chat.complete(["a"], schema=SCHEMA)
    assert chat.refused() == {}


REFUSALS = {
    400: "unknown field response_format",
    403: "structured outputs are not in your plan",
    404: "not found",
    405: "no",
    415: "unsupported media",
    422: "extra inputs are not permitted",
    500: 'response_format type must be "text" or "json_object"',
    501: "not implemented",
}


@pytest.mark.filterwarnings("ignore::skllmreg.exceptions.ServerLimitWarning")
@pytest.mark.parametrize("status", REFUSALS)
def test_whatever_the_status_a_form_that_is_refused_is_asked_for_weaker(loopback, chat, status):
    """A 500 may pass: it has to refuse the form twice before that is remembered."""
    refused = error(status, REFUSALS[status])
    loopback.reply = lambda body: refused if "response_format" in body else '{"score": 3}'
    for n in range(3):
        assert chat.complete([str(n)], schema=SCHEMA)[0].value == {"score": 3}
    assert len(loopback.requests) == (7 if status == 500 else 5)
    assert list(chat.refused()) == ["schema"]


def test_a_passing_500_switches_nothing_off(loopback, chat):
    loopback.reply = lambda body: '{"score": 3}'
    for n in range(3):
        loopback.failures.append(error(500))
        chat.complete([f"{n} fails once"], schema=SCHEMA)
        chat.complete([f"{n} is well"], schema=SCHEMA)
    assert chat.refused() == {}
    assert "json_schema" in str(loopback.requests[-1])


def test_what_a_server_refuses_is_said_once_with_its_cost_and_forgotten_after_a_day(
    loopback, monkeypatch
):
    loopback.reply = lambda body: error(400) if "response_format" in body else '{"score": 3}'
    chat = ChatModel("tiny", base_url=loopback.base_url)
    with pytest.warns(ServerLimitWarning, match="takes no JSON schema.*more repairs.*status 400"):
        chat.complete(["a"], schema=SCHEMA)
    as_in_a_new_process()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        chat.complete(["b"], schema=SCHEMA)
    assert len(loopback.requests) == 4
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 86_401)
    assert chat.refused() == {}


def test_a_bad_reply_is_repaired_and_the_replay_repeats_it_for_free(loopback, chat):
    def reply(body):
        return '{"score": 3}' if len(body["messages"]) == 5 else '{"score": 11}'

    loopback.reply = reply
    (live,) = chat.complete(["a"], schema=SCHEMA)
    assert (live.value, live.n_repairs, live.prompt_tokens) == ({"score": 3}, 2, 30)
    assert [m["role"] for m in loopback.requests[-1]["messages"]] == [
        "user",
        "assistant",
        "user",
        "assistant",
        "user",
    ]
    assert "score is 11, not from -10 to 10" in last(loopback.requests[-1])
    for mode in ("live", "replay"):
        again = ChatModel("tiny", base_url=loopback.base_url, mode=mode)
        (reply_,) = again.complete(["a"], schema=SCHEMA)
        assert (reply_.value, reply_.n_repairs, reply_.cached) == ({"score": 3}, 2, True)
    assert len(loopback.requests) == 3


def test_after_two_repair_rounds_the_error_carries_reply_and_problems(loopback, chat):
    loopback.reply = lambda body: '{"score": "high", "why": 1}'
    with pytest.raises(InvalidReplyError, match="after 2 repair rounds") as caught:
        chat.complete(["a"], schema=SCHEMA)
    assert caught.value.reply == '{"score": "high", "why": 1}'
    assert len(caught.value.problems) == 2
    assert caught.value.replies == [None]
    assert len(loopback.requests) == 3


def test_samples_are_repaired_each_for_itself(loopback, chat):
    repaired = iter([1, 2])

    def reply(body):
        return f'{{"score": {next(repaired)}}}' if len(body["messages"]) > 1 else "none"

    loopback.reply = reply
    for _ in range(2):
        replies = chat.complete(["a", "a"], schema=SCHEMA)
        assert sorted(reply.value["score"] for reply in replies) == [1, 2]


def test_a_truncated_reply_is_not_repaired(loopback, chat):
    loopback.reply = lambda body: completion('{"score": ', finish_reason="length")
    with pytest.raises(InvalidReplyError, match="cut off: raise max_tokens"):
        chat.complete(["a"], schema=SCHEMA)
    assert len(loopback.requests) == 1


@pytest.mark.parametrize("validate", [None, str.strip])
def test_truncated_prose_is_an_error(loopback, chat, validate):
    loopback.reply = lambda body: completion("Once upon", finish_reason="length")
    with pytest.raises(InvalidReplyError, match="cut off: raise max_tokens"):
        chat.complete(["a"], validate=validate)


def test_validate_makes_the_value_and_its_errors_reach_the_model(loopback, chat):
    loopback.reply = lambda body: '{"score": 4}' if len(body["messages"]) > 1 else '{"score": 3}'

    def validate(value):
        if value["score"] % 2:
            raise ValueError("score must be even")
        return value["score"] / 2

    assert chat.complete(["a"], schema=SCHEMA, validate=validate)[0].value == 2
    assert "score must be even" in last(loopback.requests[-1])


def test_validate_without_a_schema_gets_the_text(loopback, chat):
    loopback.reply = lambda body: "7"
    assert chat.complete(["a"], validate=int)[0].value == 7


def test_logprobs_are_kept_where_asked_for(loopback):
    told = {"content": [{"token": "ok", "logprob": -0.1, "bytes": [1], "top_logprobs": []}]}
    loopback.reply = lambda body: completion("ok", logprobs=told)
    options = {"logprobs": True}
    chat = ChatModel("tiny", base_url=loopback.base_url, request_options=options)
    expected = [{"token": "ok", "logprob": -0.1, "top_logprobs": []}]
    assert chat.complete(["a"])[0].logprobs == expected
    assert chat.complete(["a"])[0].logprobs == expected
