"""What servers do wrong, and what becomes of it."""

import dataclasses
import re
import shlex
import socket

import pytest

from skllmreg._cli import cache as main
from skllmreg.exceptions import InvalidReplyError, LLMError, NoAnswerError, RequestError
from skllmreg.llm import ChatModel, _ledger, _obtain, _store, _transport
from tests.loopback import Behavior, completion, error, last

HTML = Behavior("\ufeff<!DOCTYPE html><title>Log in</title>", headers={"Content-Type": "text/html"})
HEALED = {
    "429": error(429),
    "429 with Retry-After": error(429, headers={"Retry-After": "0.01"}),
    "429 with Retry-After in ms": error(429, headers={"Retry-After-Ms": "10"}),
    "429 with a date": error(429, headers={"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}),
    "408": error(408),
    "500": error(500),
    "503 with a page": Behavior("<html>busy</html>", 503),
    "reset": Behavior(reset=True),
    "truncated body": Behavior(completion("lost"), cut=30),
    "malformed JSON": Behavior('{"choices": ['),
    "slow": Behavior(completion("late"), delay=1.0),
    "never-ending": Behavior(drip=0.01),
    "an error with status 200": Behavior({"error": {"message": "odd"}}),
    "429 with status 200": Behavior({"error": {"message": "slow down", "code": 429}}),
    "too deep": Behavior("[" * 100_000),
}
FATAL = {
    "401": (error(401, "bad key"), "api_key_env names the variable"),
    "403": (error(403), "status 403"),
    "404": (error(404, "no such model"), "doctor --base-url"),
    "redirect": (Behavior(status=307, headers={"Location": "http://x/"}), "redirects to"),
    "no quota": (error(429, "pay", code="insufficient_quota"), "status 429: pay"),
    "told not to": (error(500, headers={"x-should-retry": "false"}), "status 500"),
    "HTML with status 200": (HTML, "a web page in place of JSON"),
    "another API": (Behavior({"result": 3}), "without a list of choices"),
    "choices of no use": (Behavior({"choices": [3]}), "without a list of choices"),
}


@pytest.fixture(autouse=True)
def _no_long_waits(monkeypatch):
    monkeypatch.setattr(_obtain, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(_ledger, "SLOWEST", 1000.0)
    monkeypatch.setattr(_transport, "LONGEST", 2)


@pytest.fixture
def chat(loopback):
    return ChatModel("tiny", base_url=loopback.base_url)


@pytest.mark.parametrize("fault", HEALED)
def test_passing_faults_are_tried_again(loopback, chat, fault):
    if fault in ("slow", "never-ending"):
        chat.timeout = 0.3
    n = 1 if fault == "an error with status 200" else 2
    loopback.failures.extend([HEALED[fault]] * n)
    assert chat.complete(["a"])[0].text == "reply to a"
    assert loopback.prompts == ["a"] * (n + 1)


OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
GZIP = (
    OK
    + b"Content-Encoding: gzip\r\nContent-Length: 9999\r\n\r\n\x1f\x8b\x08\x08"
    + bytes(5)
    + b"\x03"
)
DRIPS = {
    "a header line": Behavior(raw=OK + b"X-A: ", dripped=b"a"),
    "header lines": Behavior(raw=OK, dripped=b"X: a\r\n"),
    "100 Continue": Behavior(raw=b"", dripped=b"HTTP/1.1 100 Continue\r\n\r\n"),
    "the header of gzip": Behavior(raw=GZIP, dripped=b"a"),
    "the extension of a chunk": Behavior(
        raw=OK + b"Transfer-Encoding: chunked\r\n\r\n1;", dripped=b"a"
    ),
    "the body of a 500": Behavior(status=500),
    "the body of a 400": Behavior(status=400),
}


@pytest.mark.parametrize("what", DRIPS)
def test_what_is_no_part_of_an_answer_is_no_sign_of_life_whatever_drips(loopback, chat, what):
    loopback.reply = lambda body: dataclasses.replace(DRIPS[what], drip=0.02)
    chat.max_retries, chat.timeout = 0, 0.2
    with pytest.raises(
        RequestError, match=r"(did not answer|sent no more of its reply) within 0.2 s"
    ):
        chat.complete(["a"])


def test_a_huge_error_is_not_read_to_its_end(loopback, chat, monkeypatch):
    monkeypatch.setattr(_transport, "LARGEST_REPLY", 1000)
    loopback.reply = lambda body: Behavior("x" * 10**6, status=400)
    chat.max_retries = 0
    with pytest.raises(RequestError, match="more than 1,000 bytes"):
        chat.complete(["a"])


@pytest.mark.parametrize("fault", FATAL)
def test_lasting_faults_are_told_at_once(loopback, chat, fault):
    behavior, match = FATAL[fault]
    loopback.reply = lambda body: behavior
    with pytest.raises(RequestError, match=match):
        chat.complete(["a"])
    refused_as_a_stream = fault in ("403", "404", "told not to")
    assert loopback.prompts == ["a"] * (1 + refused_as_a_stream)


def test_retries_end(loopback, chat):
    chat.max_retries = 2
    loopback.reply = lambda body: error(500, "down")
    with pytest.raises(RequestError, match="Prompt 0: .* status 500: down"):
        chat.complete(["a"])
    assert len(loopback.requests) == 4  # the first of them as a stream, and whole


def test_no_server_says_so_and_names_the_doctor():
    chat = ChatModel("tiny", base_url="http://127.0.0.1:9/v1", max_retries=1)
    with pytest.raises(RequestError, match="cannot be reached .* doctor --base-url"):
        chat.complete(["a"])


def test_a_server_that_takes_no_connection_in_time_says_so():
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = [socket.create_connection(full.getsockname()) for _ in range(1)]
        url = f"http://127.0.0.1:{full.getsockname()[1]}/v1"
        chat = ChatModel("tiny", base_url=url, timeout=0.3, max_retries=0)
        with pytest.raises(RequestError, match=r"within 0.3 s"):
            chat.complete(["a"])
        waiting[0].close()


@pytest.mark.parametrize("seconds", [300, 3000])
def test_retry_after_above_the_limit_of_the_sdk_is_honored(loopback, chat, monkeypatch, seconds):
    waits = skipped_waits(monkeypatch)
    loopback.failures.append(error(429, headers={"Retry-After": str(seconds)}))
    assert chat.complete(["a"])[0].text == "reply to a"
    assert seconds - 10 <= waits[0] <= seconds


class WaitingError(Exception):
    pass


def skipped_waits(monkeypatch, lift=True):
    """Seconds that were to be waited; the pause is lifted then, or the call interrupted."""
    waits = []

    def wait(self, seconds):
        waits.append(seconds)
        if not lift:
            raise WaitingError
        _ledger.lift_pauses(self.store)

    monkeypatch.setattr(_obtain.Live, "_wait_for_start", wait)
    return waits


def test_a_pause_concerns_every_object_with_the_same_cache(loopback, chat, monkeypatch):
    waits = skipped_waits(monkeypatch, lift=False)
    loopback.failures.append(error(429, headers={"Retry-After": "500"}))
    with pytest.raises(WaitingError):
        chat.complete(["a"])
    with pytest.raises(WaitingError):
        ChatModel("tiny", base_url=loopback.base_url).complete(["b"])
    assert waits == pytest.approx([500, 500], abs=10)


def test_a_refusal_of_one_key_does_not_stop_another(loopback, monkeypatch):
    waits = skipped_waits(monkeypatch, lift=False)
    monkeypatch.setenv("FIRST_KEY", "first-key-of-some-length")
    monkeypatch.setenv("OTHER_KEY", "other-key-of-some-length")
    loopback.failures.append(error(429, headers={"Retry-After": "500"}))
    with pytest.raises(WaitingError):
        ChatModel("tiny", base_url=loopback.base_url, api_key_env="FIRST_KEY").complete(["a"])
    ChatModel("tiny", base_url=loopback.base_url, api_key_env="OTHER_KEY").complete(["b"])
    assert len(waits) == 1


def test_retry_after_of_hours_is_told_at_once(loopback, chat):
    loopback.failures.append(error(429, "come back tomorrow", headers={"Retry-After": "80000"}))
    with pytest.raises(RequestError, match="come back tomorrow. It wants .* again in 22.2 hours"):
        chat.complete(["a"])


def test_a_long_pause_is_explained_once_and_can_be_lifted(loopback, chat, caplog, capsys):
    obtain = chat._obtain(_obtain.Question())
    _ledger.slow_down(obtain.store, obtain.settings, 0.0, 3000.0)
    obtain.stop.wait = lambda seconds: obtain.stop.is_set() or bool(obtain.stop.set())
    for _ in range(2):
        with pytest.raises(_obtain.StoppedError):
            obtain._reserve(1)
        obtain.stop.clear()
    (told,) = [r.getMessage() for r in caplog.records if r.name == "skllmreg.llm"]
    assert "status 429" in told
    command = shlex.split(told.split("`")[1])[4:]
    assert main(command[:-1]) == 0
    assert "tiny  3,000 s" in capsys.readouterr().out
    assert main(command) == 0
    assert main(command[:-1]) == 0
    assert "3,000 s" not in capsys.readouterr().out.partition("lifted")[2]
    assert chat.complete(["a"])[0].text == "reply to a"


def test_an_error_keeps_what_came_and_stops_the_rest(loopback):
    chat = ChatModel("tiny", base_url=loopback.base_url, max_concurrency=1)
    loopback.reply = lambda body: error(401) if last(body) == "2" else "fine"
    with pytest.raises(
        RequestError, match=r"2 of 5 prompts are answered and kept in .*sqlite3"
    ) as e:
        chat.complete([str(i) for i in range(5)])
    assert [reply and reply.text for reply in e.value.replies] == ["fine", "fine", None, None, None]
    assert loopback.prompts == ["0", "1", "2"]
    loopback.reply = lambda body: "now fine"
    replies = chat.complete([str(i) for i in range(5)])
    assert [reply.cached for reply in replies] == [True, True, False, False, False]


@pytest.mark.parametrize(
    ("payload", "match"),
    [
        (completion(None, message={"refusal": "I must not."}), "refuses to answer: I must not."),
        (completion("", finish_reason="content_filter"), "refuses to answer: content filter"),
    ],
)
def test_a_refusal_is_an_answer_and_not_paid_for_again(loopback, chat, payload, match):
    loopback.reply = lambda body: payload
    for _ in range(2):
        with pytest.raises(InvalidReplyError, match=match):
            chat.complete(["a"])
    assert len(loopback.requests) == 1


BLANK = {
    "nothing": (completion(None), "it is empty .finish_reason 'stop'", 3),
    "white space": (completion(" \n"), "it is empty", 3),
    "no choices": (completion() | {"choices": []}, "it is empty .finish_reason 'no choices'", 3),
    "cut off": (completion("", finish_reason="length"), "it is empty: a larger max_tokens", 1),
    "thoughts": (
        completion("", message={"reasoning_content": "Well, ..."}),
        "the model has thought and not answered",
        3,
    ),
    "thoughts, cut off": (
        completion("", message={"reasoning_content": "Well"}, finish_reason="length"),
        "has thought and not answered: a larger max_tokens",
        1,
    ),
}


@pytest.mark.parametrize("what", BLANK)
def test_a_blank_answer_is_repeated_as_it_was_and_never_kept(loopback, chat, what):
    payload, match, n_requests = BLANK[what]
    loopback.reply = lambda body: payload
    with pytest.raises(InvalidReplyError, match=match):
        chat.complete(["a"])
    assert [body["messages"] for body in loopback.requests] == [
        [{"role": "user", "content": "a"}]
    ] * n_requests
    loopback.reply = lambda body: "now"
    assert chat.complete(["a"])[0].text == "now"


def test_one_answer_of_no_use_does_not_keep_the_others_from_being_answered(loopback, chat):
    loopback.reply = lambda body: completion("") if last(body) in "14" else "fine"
    with pytest.raises(
        InvalidReplyError, match=r"2 of 6 replies are unusable. First, Prompt 1"
    ) as e:
        chat.complete([str(i) for i in range(6)])
    assert [reply is None for reply in e.value.replies] == [False, True, False, False, True, False]


def test_one_command_removes_all_replies_of_no_use(loopback, chat, capsys):
    no = completion(None, message={"refusal": "No."})
    loopback.reply = lambda body: no if last(body) in "14" else "fine"
    with pytest.raises(InvalidReplyError) as caught:
        chat.complete([str(i) for i in range(6)])
    command = re.search(r"`python -m skllmreg (.*?)`", str(caught.value))[1]
    assert main(shlex.split(command)[1:]) == 0
    assert capsys.readouterr().out.startswith("2 entries removed")
    assert caught.value.keys == [key for e in caught.value.failures.values() for key in e.keys]
    loopback.reply = lambda body: "fine"
    assert [reply.cached for reply in chat.complete([str(i) for i in range(6)])].count(False) == 2


def test_a_command_names_not_too_many_replies(loopback, chat):
    no = completion(None, message={"refusal": "No."})
    loopback.reply = lambda body: "yes" if last(body) == "61" else no
    chat.complete(["61"])
    named = r"(?s)--key( \w{12}){8}` removes the first 8 of the 61 in the error's `keys`\."
    with pytest.raises(InvalidReplyError, match=named) as caught:
        chat.complete([str(i) for i in range(62)])
    assert len(caught.value.keys) == 61


@pytest.mark.parametrize("n", [2, 5, 60])
def test_a_server_that_refuses_all_prompts_ends_the_call_in_its_own_words(loopback, n):
    loopback.reply = lambda body: error(400, "Unsupported parameter: 'temperature'")
    chat = ChatModel("o1", base_url=loopback.base_url, temperature=0.1, max_concurrency=2)
    with pytest.raises(RequestError, match="Unsupported parameter: 'temperature'.* All .* refused"):
        chat.complete([str(i) for i in range(n)])
    assert len(loopback.requests) <= 26  # some as a stream, and whole


REFUSED = {
    "DeepSeek": error(400, "Content Exists Risk", type="invalid_request_error"),
    "Qwen": error(400, "Input may be unsafe", code="data_inspection_failed"),
    "Anthropic": error(400, "prompt is too long: 210000 tokens > 200000 maximum"),
    "Azure": error(400, "Input tokens exceed the configured limit of 272000 tokens"),
    "nginx": Behavior("<html><title>413 Request Entity Too Large</title></html>", 413),
    "TGI": Behavior({"error": "Input validation error: too long", "error_type": "validation"}, 422),
    "a status that is not about prompts": error(403, "no"),
    "a 500 for one prompt": error(500, "template failed"),
}


@pytest.mark.parametrize("server", REFUSED)
@pytest.mark.parametrize("position", [0, 2])
def test_a_prompt_that_is_refused_while_others_are_answered_is_its_own_failure(
    loopback, chat, server, position
):
    prompts = ["a", "b"]
    prompts.insert(position, "bad")
    chat.max_concurrency, chat.max_retries = 1, 1
    loopback.reply = lambda body: REFUSED[server] if last(body) == "bad" else "fine"
    with pytest.raises(InvalidReplyError, match=f"Prompt {position}: The prompt is refused") as e:
        chat.complete(prompts)
    assert list(e.value.failures) == [position]
    assert [reply and reply.text for reply in e.value.replies].count("fine") == 2


@pytest.mark.parametrize("server", ["DeepSeek", "nginx", "TGI"])
def test_a_call_of_one_prompt_reports_that_prompt(loopback, chat, server):
    loopback.reply = lambda body: REFUSED[server]
    with pytest.raises(InvalidReplyError, match="Prompt 0: The prompt is refused"):
        chat.complete(["bad"])
    assert len(loopback.requests) == 2  # as a stream, and whole


def test_what_an_earlier_call_has_shown_is_not_forgotten(loopback, chat):
    loopback.reply = lambda body: REFUSED["Azure"] if "bad" in last(body) else "fine"
    chat.complete(["a"])
    with pytest.raises(InvalidReplyError, match="2 of 2 replies") as caught:
        chat.complete(["bad 1", "bad 2"])
    assert list(caught.value.failures) == [0, 1]


UNFINISHED = {
    "error": "ended its answer with finish_reason 'error'",
    "insufficient_system_resource": "not the end of an answer",
    "model_length": "the context of the model is full",
    "a word that nobody knows": "not the end of an answer",
}


@pytest.mark.parametrize("reason", UNFINISHED)
def test_an_answer_that_did_not_end_as_one_is_not_kept(loopback, chat, reason):
    chat.max_retries = 1
    loopback.reply = lambda body: completion("half an ans", finish_reason=reason)
    with pytest.raises(LLMError, match=UNFINISHED[reason]):
        chat.complete(["a"])
    passing = reason in ("error", "insufficient_system_resource")
    assert len(loopback.requests) == 1 + passing
    loopback.reply = lambda body: "whole"
    assert chat.complete(["a"])[0].text == "whole"


def test_an_error_within_a_choice_is_an_error(loopback, chat):
    inner = {"code": 502, "message": "Provider disconnected"}
    payload = completion("half", finish_reason="error")
    payload["choices"][0]["error"] = inner
    loopback.failures.append(Behavior(payload))
    assert chat.complete(["a"])[0].text == "reply to a"
    assert len(loopback.requests) == 2


@pytest.mark.parametrize("reason", ["stop", "STOP", "eos_token", "end_turn", None])
def test_the_words_for_a_good_end_of_other_servers_are_known(loopback, chat, reason):
    loopback.reply = lambda body: completion("whole", finish_reason=reason)
    assert chat.complete(["a"])[0].finish_reason == reason


def test_replies_that_are_all_unusable_end_the_call_early(loopback, chat):
    loopback.reply = lambda body: "hello"
    with pytest.raises(NoAnswerError, match=r"first \d+ of 60 replies are all unusable.*hello"):
        chat.complete([str(i) for i in range(60)], schema={"type": "integer"})
    assert len(loopback.requests) <= 3 * (20 + 8 + 8)  # enough, under way, handed out


def test_an_interrupt_stops_and_keeps_what_is_under_way(loopback, monkeypatch):
    loopback.latency = 0.1
    chat = ChatModel("tiny", base_url=loopback.base_url, max_concurrency=2)

    def interrupt(self, holder):
        raise KeyboardInterrupt

    monkeypatch.setattr(_store, "LEASE", 0.1)
    monkeypatch.setattr(_store.Store, "renew", interrupt)
    with pytest.raises(KeyboardInterrupt):
        chat.complete([str(i) for i in range(50)])
    assert chat.quote([str(i) for i in range(50)]).cached == len(loopback.requests) <= 4
