import pytest

from skllmreg._cli import doctor as main
from skllmreg.llm import ChatModel
from tests.loopback import Behavior, _Handler, as_in_a_new_process, completion, error, last


def able(body):
    """A server that can do everything."""
    if "response_format" in body:
        return '{"degrees": 25}'
    if body.get("logprobs"):
        top = [{"token": "yes", "logprob": -0.1}, {"token": "no", "logprob": -2.4}]
        return completion("yes", logprobs={"content": [{**top[0], "top_logprobs": top}]})
    return "yes"


def unable(body):
    """A server that refuses everything."""
    if body.keys() - {"model", "messages"}:
        return error(400, "unsupported")
    return "yes"


def ignorant():
    """A server that takes everything and does nothing of it."""
    texts = iter(range(100))
    return lambda body: f"text {next(texts)}"


@pytest.mark.parametrize(
    ("reply", "findings"),
    [
        (able, ["json_schema  yes", "system turn  yes", "logprobs     yes", "seed         yes"]),
        (
            unable,
            [
                "stream       refused with status 400",
                "json_schema  refused with status 400, asked for by the prompt alone",
                "the schema is in the prompt",
                "logprobs     refused with status 400",
                "shares of votes",
                "seed         refused with status 400",
                "only the cache makes",
            ],
        ),
        (
            ignorant(),
            [
                "json_schema  taken, but not kept to",
                "logprobs     taken, but it gave none",
                "seed         taken, but two answers differ",
            ],
        ),
    ],
)
def test_it_tells_what_the_server_can_do_and_what_falls_back(loopback, capsys, reply, findings):
    loopback.reply = reply
    assert main(["--base-url", loopback.base_url]) == 0
    out = capsys.readouterr().out
    assert "models       tiny" in out
    for finding in findings:
        assert finding in out


def test_a_model_that_is_not_listed_is_told(loopback, capsys):
    loopback.reply = lambda body: error(404, f"no model {body['model']}, {last(body)[:0]}")
    assert main(["--base-url", loopback.base_url, "--model", "huge"]) == 1
    captured = capsys.readouterr()
    assert "huge is not among them" in captured.out
    assert "no model huge" in captured.err


def test_no_server_is_told(capsys):
    assert main(["--base-url", "http://127.0.0.1:9/v1"]) == 1
    assert "cannot be reached" in capsys.readouterr().err


def test_without_a_model_openai_is_not_asked_anything(monkeypatch, capsys):
    monkeypatch.setattr("skllmreg._cli.ChatCompletions.models", lambda *args: ["gpt"])
    assert main([]) == 0
    assert "name one with --model" in capsys.readouterr().out


@pytest.mark.parametrize(
    "models", [{"data": 5}, {"data": [3, {}]}, {"data": [{"id": "\x1b[2J"}]}, '{"data":' * 50_000]
)
def test_a_hostile_server_is_told_without_a_traceback(loopback, monkeypatch, capsys, models):
    monkeypatch.setattr(_Handler, "do_GET", lambda self: self.answer(Behavior(models)))
    loopback.reply = lambda body: error(400, "\x1b[31m") if "seed" in body else "[" * 50_000
    main(["--base-url", loopback.base_url, "--model", "tiny"])
    captured = capsys.readouterr()
    assert "\x1b" not in captured.out + captured.err


def test_it_does_not_send_to_itself(capsys):
    assert main(["--base-url", "http://127.0.0.1:9/v1"]) == 1
    said = capsys.readouterr().err
    assert "Is the server up? Start it, as by `ollama serve`" in said
    assert "doctor" not in said


@pytest.mark.parametrize(("number", "hint"), [(1.0, False), (2.0, True)])
def test_embeddings_are_checked_when_asked_for(loopback, capsys, number, hint):
    def reply(body):
        data = [{"index": i, "embedding": [0.0, number]} for i in range(len(body["input"]))]
        return {"data": data}

    loopback.reply = reply
    assert main(["--base-url", loopback.base_url, "--embeddings"]) == 0
    out = capsys.readouterr().out
    assert "embeddings   tiny gives 2 numbers a text" in out
    assert ("normalize them" in out) == hint
    loopback.reply = lambda body: error(501, "does not support embeddings")
    assert main(["--base-url", loopback.base_url, "--embeddings"]) == 1
    assert "does not support embeddings" in capsys.readouterr().err


def alone(body):
    """A server that tells the log-probability of the chosen token alone."""
    told = {"content": [{"token": "yes", "logprob": -0.7, "top_logprobs": []}]}
    return completion("yes", logprobs=told if body.get("logprobs") else None)


def misspelled(body):
    """A server that tells numbers of tokens in place of the tokens."""
    top = [{"token": f"token_id:{i}", "logprob": -0.7} for i in (5, 6)]
    told = {"content": [{**top[0], "top_logprobs": top}]}
    return completion("yes", logprobs=told if body.get("logprobs") else None)


def refusing(field, status):
    """A server that answers everything but requests with a field."""

    def reply(body):
        roles = {message["role"] for message in body["messages"]}
        return error(status) if field in body or field in roles else able(body)

    return reply


SERVERS = {
    "able": (able, "logprobs     yes", []),
    "ignorant": (lambda body: "yes", "logprobs     taken, but it gave none", ["logprobs"]),
    "chosen alone": (alone, "logprobs     taken, but it gave only those of", ["logprobs"]),
    "misspelled": (misspelled, "logprobs     taken, but it gave those of tokens", ["logprobs"]),
    **{
        str(status): (
            refusing("logprobs", status),
            f"logprobs     refused with status {status}",
            ["logprobs"],
        )
        for status in (400, 401, 402, 403, 500, 502, 503)
    },
    **{
        f"system {status}": (
            refusing("system", status),
            f"system turn  refused with status {status}",
            ["system"],
        )
        for status in (400, 500)
    },
}


@pytest.mark.filterwarnings("ignore::skllmreg.exceptions.ServerLimitWarning")
@pytest.mark.parametrize("server", SERVERS)
def test_it_says_what_a_teacher_finds_out(loopback, monkeypatch, capsys, server):
    monkeypatch.setattr("skllmreg.llm._obtain.FIRST_PAUSE", 0.01)
    loopback.reply, finding, refused = SERVERS[server]
    assert main(["--base-url", loopback.base_url]) == 0
    out = capsys.readouterr().out
    assert finding in out
    as_in_a_new_process()
    chat = ChatModel("tiny", base_url=loopback.base_url, max_retries=1, max_concurrency=1)
    found = chat.label_probabilities([str(i) for i in range(6)], ["yes", "no"], n_samples=1)
    assert list(chat.refused()) == refused
    votes = "shares of votes" in out
    assert found.method[-1] == ("votes" if votes else "logprobs")
