"""The key is sent where it belongs and is found nowhere else."""

import contextlib
import copy
import io
import json
import logging
import pickle
import re
import traceback
from types import ModuleType

import pytest

from skllmreg.__main__ import main
from skllmreg.exceptions import LLMError, ReplayMissError, RequestError
from skllmreg.llm import ChatModel, EmbeddingModel
from skllmreg.llm._secrets import read_key
from skllmreg.llm._store import open_store
from skllmreg.llm._transport import ChatCompletions
from skllmreg.utils._process import process
from tests.loopback import Behavior, completion, error

CANARY = "sk-canary-0123456789"
AMBIENT = "ambient-canary"
FAULTS = {
    "nothing": None,
    "401 that echoes the key": error(401, f"Incorrect API key provided: {CANARY}"),
    "400": error(400),
    "500": error(500),
    "reset": Behavior(reset=True),
    "HTML": Behavior(f"<html>{CANARY}</html>"),
    "never-ending": Behavior(drip=0.02),
    "a reply that echoes the key": completion(f"Your key is {CANARY}"),
    "a reply that echoes the key in parts": completion(
        [{"type": "text", "text": part} for part in (CANARY[:8], CANARY[8:])]
    ),
    "an escaped key": Behavior(
        json.dumps(completion(f"Your key is {CANARY}")).replace("sk-canary", r"\u0073k-canary")
    ),
    "an escaped key in an error": Behavior(
        json.dumps({"error": {"message": CANARY, "code": CANARY, "type": CANARY}}).replace(
            "sk-canary", r"\u0073k-canary"
        ),
        400,
    ),
    "an escaped key in broken JSON": Behavior(r'{"a": "\u0073k-canary-0123456789'),
    "400 with a list": Behavior(json.dumps([CANARY]), 400),
    "headers": Behavior(completion("ok"), headers={"X-Echo": f"Bearer {CANARY}"}),
    "a status line": Behavior(
        raw=f"HTTP/1.1 200 OK {CANARY}\r\nContent-Length: 2\r\n\r\n{{}}".encode()
    ),
    "a malformed status line": Behavior(raw=f"HTTP {CANARY}\r\n\r\n".encode()),
    "an unusable reply that echoes the key": completion("", message={"refusal": CANARY}),
}


@pytest.fixture
def log():
    """All that any logger says, at DEBUG."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    root = logging.getLogger()
    names = [
        "openai",
        "openai._base_client",
        "httpx",
        "httpx2",
        "httpcore",
        "httpcore2",
        "skllmreg",
    ]
    loggers = [root, *map(logging.getLogger, names)]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.DEBUG)
    root.addHandler(handler)
    yield stream
    root.removeHandler(handler)
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


def everything_in(error):
    """Messages, attributes and local variables of an exception and of its causes."""
    seen = []
    while error is not None:
        seen += [traceback.format_exception(error), repr(vars(error)), pickle.dumps(error)]
        for frame, _ in traceback.walk_tb(error.__traceback__):
            if frame.f_code.co_filename != __file__:
                values = [v for v in frame.f_locals.values() if not isinstance(v, ModuleType)]
                seen += [repr(values), *(repr(vars(v)) for v in values if hasattr(v, "__dict__"))]
        error = error.__cause__ or error.__context__
    return repr(seen)


@pytest.mark.parametrize("fault", FAULTS)
def test_no_log_repr_pickle_traceback_cache_or_ledger_has_the_key(
    loopback, tmp_path, monkeypatch, log, fault
):
    monkeypatch.setenv("MY_KEY", CANARY)
    chat = ChatModel(
        "tiny",
        base_url=loopback.base_url,
        api_key_env="MY_KEY",
        cache=tmp_path / "cache.sqlite3",
        timeout=0.3,
        max_retries=0,
        prices=(1, 1),
    )
    if FAULTS[fault] is not None:
        loopback.reply = lambda body: FAULTS[fault]
    told = ""
    try:
        told = repr(chat.complete(["a"]))
    except LLMError as caught:
        told = everything_in(caught)
    assert CANARY not in told
    assert loopback.seen[0][1]["authorization"] == f"Bearer {CANARY}"
    assert log.getvalue()
    assert CANARY not in log.getvalue()
    assert CANARY not in repr(chat) + repr(chat.usage()) + repr(vars(chat))
    assert CANARY.encode() not in pickle.dumps(chat) + pickle.dumps(copy.deepcopy(chat))
    files = list(tmp_path.iterdir())
    assert files
    for file in files:
        assert CANARY.encode() not in file.read_bytes()


def test_nothing_ambient_goes_out(loopback, monkeypatch):
    for name in (
        "OPENAI_API_KEY",
        "OPENAI_ADMIN_KEY",
        "OPENAI_ORG_ID",
        "OPENAI_PROJECT_ID",
        "OPENAI_WEBHOOK_SECRET",
        "AZURE_OPENAI_API_KEY",
        "AZURE_OPENAI_AD_TOKEN",
    ):
        monkeypatch.setenv(name, AMBIENT)
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://{AMBIENT}/v1")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", f"X-A: {AMBIENT}\nAuthorization: {AMBIENT}")
    process.reset()
    ChatModel("tiny", base_url=loopback.base_url).complete(["a"])
    ChatCompletions(loopback.base_url).models(1.0)
    assert len(loopback.seen) == 2
    assert AMBIENT not in json.dumps(loopback.seen)
    assert loopback.seen[0][1]["authorization"] == "Bearer no-key"


def test_proxies_of_the_environment_are_not_asked_for_the_loopback(loopback, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    process.reset()
    assert ChatModel("tiny", base_url=loopback.base_url, max_retries=0).complete(["a"])


@pytest.mark.parametrize(
    ("url", "belongs"),
    [
        ("https://api.openai.com/v1", True),
        ("https://eu.api.openai.com/v1", True),
        ("http://api.openai.com/v1", False),
        ("https://api.openai.com.evil.org/v1", False),
        ("https://evil-api.openai.com/v1", False),
        ("https://evil.org/api.openai.com/v1", False),
    ],
)
def test_the_ambient_key_is_for_openai_alone(monkeypatch, url, belongs):
    monkeypatch.setenv("OPENAI_API_KEY", CANARY)
    assert (read_key(url, None).value == CANARY) is belongs


def test_a_redirect_is_not_followed(loopback, monkeypatch):
    monkeypatch.setenv("MY_KEY", CANARY)
    headers = {"Location": loopback.base_url.replace("127.0.0.1", "localhost")}
    loopback.reply = lambda body: Behavior(status=308, headers=headers)
    with pytest.raises(RequestError, match="redirects to"):
        ChatModel("tiny", base_url=loopback.base_url, api_key_env="MY_KEY").complete(["a"])
    assert len(loopback.seen) == 1


@pytest.mark.parametrize("key", [f"{CANARY}\n", f"{CANARY} ", f"\u201c{CANARY}\u201d"])
def test_a_key_that_cannot_be_sent_is_told_without_showing_it(monkeypatch, key):
    monkeypatch.setenv("MY_KEY", key)
    with pytest.raises(RequestError, match="MY_KEY holds a space") as caught:
        ChatModel("tiny", api_key_env="MY_KEY").complete(["a"])
    told = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    assert not any(CANARY in repr(frame.locals) for frame in told.stack if frame.name != KEY_TEST)
    assert CANARY not in str(caught.value)


KEY_TEST = test_a_key_that_cannot_be_sent_is_told_without_showing_it.__name__


def test_a_dummy_key_that_is_a_word_is_left_in_answers(loopback, monkeypatch):
    monkeypatch.setenv("LOCAL", "EMPTY")
    loopback.reply = lambda body: "The cell is EMPTY."
    chat = ChatModel("tiny", base_url=loopback.base_url, api_key_env="LOCAL")
    assert chat.complete(["a"])[0].text == "The cell is EMPTY."


# Secrets where none belongs: in any parameter, under any name of a secret, at any depth.

HEX = "d41d8cd98f00b204e9800998ecf8427e"  # a key that looks like nothing else


def options(*paths):
    """Request options that hold a key at the end of each path; a number is a place in a list."""
    for path in paths:
        value = HEX
        for name in reversed(path):
            value = [0] * name + [value] if isinstance(name, int) else {name: value}
        yield value


NAMES = """
api_key apikey apiKey API-Key x-api-key OPENAI_API_KEY private_key privateKey bearer_token
session_token sessionToken access_token refreshToken id_token client_secret clientSecret
password passwd db_password passphrase pwd authorization Proxy-Authorization auth X-Auth cookie
Set-Cookie credential credentials secret secrets token X-Token tokens key account_key
subscription-key Ocp-Apim-Subscription-Key connection_string signature sig jwt signing_key
webhook_secret encryption_key x-goog-api-key aws_secret_access_key X-Amz-Security-Token dsn
""".split()  # noqa: SIM905
PLACES = [
    ("extra_headers", "X-Upstream-Key"),
    ("extra_query", "sig"),
    ("extra_body", "api_key"),
    ("tools", 0, "headers", "Authorization"),
    ("tools", 1, "authorization"),
    ("data_sources", 0, "parameters", "authentication", "key"),
    ("data_sources", 0, "parameters", "authentication", "access_token"),
    ("data_sources", 2, "parameters", "connection_string"),
    ("extra_body", "a", 0, "b", 0, "c", "private_key"),
    ("metadata", "session_tokens", 1),
    ("extra_body", "credentials", "user"),
]
VALUES = [
    CANARY,
    f"Bearer {HEX}",
    f"Basic {HEX}==",
    f"https://me:{HEX}@host/path",
    f"http://host/path?api_key={HEX}",
    f"https://host/?a=1&sig={HEX}",
    f"postgres://me:{HEX}@db/name",
    f"postgres://me:pa/ss{HEX}@db/name",
    f'{{"nested": {{"api_key": "{HEX}"}}}}',
    f"The key is hf_{HEX}.",
    "-----BEGIN PRIVATE KEY-----\n" + HEX,
    [["Authorization", HEX]],
    [("x-api-key", HEX)],
    [{"name": "Authorization", "value": HEX}],
    {"key": "password", "value": HEX},
    {f"Bearer {HEX}": 1},
    f"Bearer {HEX}".encode(),
]
OPTIONS = [
    *options(*[(name,) for name in NAMES], *PLACES),
    *({"tools": [{"function": {"x": value}}]} for value in VALUES),
]
URLS = [
    f"http://me:{HEX}@localhost/v1",
    f"http://{HEX}@localhost/v1",
    f"http://localhost/v1?key={HEX}",
    f"http://localhost/v1#{HEX}",
    f"http://me:pa/{HEX}@localhost/v1",
    f"http://me/{HEX}@localhost/v1",
    f"http://me:{HEX}",
    f"http://me%3A{HEX}%40localhost/v1",
    f"http:/me:{HEX}@localhost/v1",
    f"http:\\\\me:{HEX}@localhost/v1",
    f"http://me:a\n{HEX}@localhost/v1",
    f"http://localhost/v1?a\n{HEX}",
    f"me:{HEX}@localhost/v1",
    f"ftp://me:{HEX}@localhost/v1",
    f"http://localhost/v1;key={HEX}",
    f"http://localhost/api_key={HEX}/v1",
    f"http://localhost/{CANARY}/v1",
    f"//me:{HEX}@localhost",
    f"http://me:{HEX}@[::1/v1",
    f"http://[{HEX}",
    CANARY,
    f"Bearer {HEX}",
]
VARIABLES = [CANARY, f"hf_{HEX}", f"gsk_{HEX}", HEX, "AKIA" + HEX[:16].upper(), f"x_{HEX}", "a b"]
REFUSED = [
    *({"request_options": value} for value in OPTIONS),
    {"request_options": [("api_key", HEX)]},
    {"request_options": CANARY},
    *({"base_url": url} for url in URLS),
    *({"api_key_env": name} for name in [*VARIABLES, CANARY.encode()]),
    {"model": CANARY},
    {"model": f"https://me:{HEX}@host/model"},
]


def told_by(error):
    """What a crash report shows: the error, and local variables of all frames but the test's."""
    shown = traceback.TracebackException.from_exception(error, capture_locals=True)
    frames = [(frame.line, frame.locals) for frame in shown.stack if frame.filename != __file__]
    return f"{error} {vars(error)} {pickle.dumps(error)} {frames}"


REFUSAL = "environment variable|request_options|base_url"


def assert_is_nowhere(text):
    for canary in (CANARY, CANARY.encode(), HEX, HEX.upper(), HEX[:16].upper()):
        assert str(canary) not in str(text)


@pytest.mark.parametrize("params", REFUSED, ids=range(len(REFUSED)))
def test_a_secret_in_a_parameter_is_refused_and_not_shown(params, tmp_path, log):
    cache = tmp_path / "cache.sqlite3"
    chat = ChatModel(**({"model": "tiny", "cache": cache} | params))
    for one in (chat, pickle.loads(pickle.dumps(chat)), copy.deepcopy(chat)):
        assert_is_nowhere(repr(one))
        for call in (one.complete, one.quote, lambda prompts, one=one: one.refused()):
            with pytest.raises(ValueError, match=REFUSAL) as caught:
                call(["a"])
            assert_is_nowhere(told_by(caught.value))
    assert_is_nowhere(pickle.dumps(chat))
    assert_is_nowhere(log.getvalue())
    assert not list(tmp_path.iterdir())
    vectors = {"model": "tiny", "cache": cache} | params
    with pytest.raises(ValueError, match=REFUSAL) as caught:
        EmbeddingModel(**vectors).embed(["a"])
    assert_is_nowhere(told_by(caught.value))
    assert_is_nowhere(repr(EmbeddingModel(**vectors)))


SCHEMA = {
    "type": "object",
    "properties": {"password": {"type": "string"}, "key": {"type": "string"}},
}
HARMLESS = [
    {"max_tokens": 10, "max_completion_tokens": 10, "prompt_cache_key": "team-1", "seed": 1},
    {"stop": ["key", "token"], "logit_bias": {"1": -100}, "user": "me", "top_logprobs": 5},
    {"tools": [{"type": "function", "function": {"name": "get_key", "parameters": SCHEMA}}]},
    {"metadata": {"topic": "passwords", "keywords": "a, b"}, "reasoning": {"max_tokens": 5}},
    {"extra_body": {"skip_special_tokens": False, "eos_token": "</s>", "stop_token_ids": [1, 2]}},
    {"thinking": {"type": "enabled", "budget_tokens": 1024}, "service_tier": "auto"},
    {"extra_headers": {"X-Title": "Basic research", "HTTP-Referer": "https://host:8080/a/@b"}},
    {"extra_body": {"pairs": [{"key": "color", "value": "red"}], "api_key": None}},
    {"extra_body": {"url": "https://user.host/path?a=b", "note": "Bearer of good news"}},
    {"extra_query": {"api-version": "2024-10-21"}},
]


@pytest.mark.parametrize("options", HARMLESS, ids=range(len(HARMLESS)))
def test_options_that_only_sound_like_secrets_are_sent(loopback, options):
    chat = ChatModel("tiny", base_url=loopback.base_url, request_options=options)
    assert chat.complete(["a"])[0].text
    assert repr(options) in repr(chat)
    assert pickle.loads(pickle.dumps(chat)) == chat == copy.deepcopy(chat)


GOOD_URLS = [
    "http://localhost:8000/v1",
    "https://name.openai.azure.com/openai/deployments/gpt-4o",
    "https://gateway.ai.host.com/v1/0123456789abcdef0123456789abcdef/gateway/openai",
    "http://[::1]:8080/v1",
    "http://host_with_underscores/v1",
    "https://aiplatform.host.com/v1/projects/my-project/locations/us-central1/endpoints/openapi",
]


@pytest.mark.parametrize("url", GOOD_URLS)
def test_an_address_without_a_secret_is_taken_and_shown(url):
    chat = ChatModel("tiny", base_url=url, cache=None)
    assert chat.refused() == {}
    assert repr(url) in repr(chat)


@pytest.mark.parametrize("url", ["localhost:8000/v1", "htp://localhost/v1", "http://host:0/v1"])
def test_an_address_that_is_merely_wrong_is_shown(url):
    with pytest.raises(ValueError, match=re.escape(url)):
        ChatModel("tiny", base_url=url).complete(["a"])


@pytest.mark.parametrize("name", ["MY_KEY", "openai_key_2", "LITELLM_MASTER_KEY", "KeyOfMine"])
def test_a_variable_that_is_not_set_is_named(name):
    with pytest.raises(RequestError, match=f"variable {name} is not set"):
        ChatModel("tiny", api_key_env=name).complete(["a"])


def test_a_variable_that_is_set_may_be_called_as_it_likes(loopback, monkeypatch):
    monkeypatch.setenv(f"x_{HEX}", CANARY)
    chat = ChatModel("tiny", base_url=loopback.base_url, api_key_env=f"x_{HEX}")
    chat.complete(["a"])
    assert loopback.seen[0][1]["authorization"] == f"Bearer {CANARY}"


def test_options_within_themselves_are_refused():
    options = {"a": [1]}
    options["a"].append(options)
    chat = ChatModel("tiny", request_options=options)
    assert len(repr(chat)) < 2000
    with pytest.raises(ValueError, match="cannot be sent as JSON"):
        chat.complete(["a"])


# The command line.


@pytest.mark.parametrize("name", VARIABLES)
@pytest.mark.parametrize("option", ["--api-key-env", "--api-key", "--key", "--base-url"])
def test_a_key_on_the_command_line_is_not_repeated(loopback, capsys, option, name):
    address = [] if option == "--base-url" else ["--base-url", loopback.base_url]
    with contextlib.suppress(SystemExit):  # argparse knows no such option
        assert main(["doctor", *address, "--model", "tiny", option, name]) == 1
    said = "".join(capsys.readouterr())
    if name not in (HEX, "a b", f"x_{HEX}") or option.startswith("--api"):
        assert name not in said
    assert not loopback.seen


@pytest.mark.parametrize("url", URLS)
def test_a_password_in_an_address_on_the_command_line_is_not_repeated(capsys, url):
    assert main(["doctor", "--base-url", url, "--model", "tiny"]) == 1
    assert_is_nowhere("".join(capsys.readouterr()))


def test_a_key_that_an_older_version_has_kept_is_masked_in_exports(loopback, tmp_path, capsys):
    chat = ChatModel("tiny", base_url=loopback.base_url, cache=tmp_path / "cache.sqlite3")
    chat.complete(["a"])
    kept = {"tools": [{"headers": {"Authorization": HEX}}], "seed": 1}
    request = {"messages": [{"role": "user", "content": "a"}], "options": kept, "sample": 0}
    with open_store(chat.cache).writing() as db:
        db.execute("UPDATE entries SET request = ?", (json.dumps(request),))
    assert main(["cache", "export", "--file", str(chat.cache)]) == 0
    exported = json.loads(capsys.readouterr().out)
    assert exported["request"]["options"]["seed"] == 1
    assert_is_nowhere(exported)
    replay = ChatModel("other", base_url=loopback.base_url, cache=chat.cache, mode="replay")
    with pytest.raises(ReplayMissError) as caught:
        replay.complete(["a"])
    assert_is_nowhere(caught.value)


# What a server, or the environment, says.


def test_a_server_that_echoes_the_key_in_the_names_of_models_or_with_vectors(
    loopback, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("MY_KEY", CANARY)
    loopback.models = [f"model of {CANARY}"]
    command = ["--base-url", loopback.base_url, "--api-key-env", "MY_KEY"]
    main(["doctor", *command])
    assert "[key]" in (said := "".join(capsys.readouterr()))
    assert CANARY not in said
    vector = {"data": [{"index": 0, "embedding": [1.0, 2.0]}], "model": f"of {CANARY}"}
    for text, reply in (("a", vector), ("b", {"data": [{"embedding": CANARY}]})):
        loopback.reply = lambda body, reply=reply: Behavior(reply)
        model = EmbeddingModel(
            "tiny", base_url=loopback.base_url, api_key_env="MY_KEY", cache=tmp_path / "c.sqlite3"
        )
        told = []
        try:
            model.embed([text])
        except LLMError as error:
            told = told_by(error)
        assert CANARY not in told
    for file in tmp_path.iterdir():
        assert CANARY.encode() not in file.read_bytes()


@pytest.mark.parametrize("proxy", [f"http://me:pa/{HEX}@host:1", f"other://me:{HEX}@host:1"])
def test_a_proxy_that_cannot_be_used_is_an_error_without_its_password(monkeypatch, proxy, log):
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    monkeypatch.setenv("MY_KEY", CANARY)
    process.reset()
    chat = ChatModel("tiny", base_url="https://host.invalid/v1", api_key_env="MY_KEY")
    chat.max_retries = 0
    with pytest.raises(RequestError) as caught:
        chat.complete(["a"])
    assert_is_nowhere(told_by(caught.value))
    assert_is_nowhere(log.getvalue())
    process.reset()
