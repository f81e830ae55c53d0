"""The key is sent where it belongs and is found nowhere else."""

import copy
import io
import json
import logging
import pickle
import traceback
from types import ModuleType

import pytest

from skllmreg.exceptions import LLMError, RequestError
from skllmreg.llm import ChatModel, _settings
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
    """Messages, attributes and local variables of an exception and all that hangs on it."""
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
    assert (_settings.read_key(url, None).value == CANARY) is belongs


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


@pytest.mark.parametrize(
    "params",
    [
        {"base_url": f"http://me:{CANARY}@localhost/v1"},
        {"base_url": f"http://localhost/v1?key={CANARY}"},
        {"api_key_env": CANARY},
        {"request_options": {"api_key": CANARY}},
        {"request_options": {"extra_body": {"api_key": CANARY}}},
        {"request_options": {"extra_headers": {"X-Password": CANARY}}},
        {"request_options": {"extra_headers": {"X-Credential": CANARY}}},
        {"request_options": {"extra_query": {"sig": CANARY}}},
    ],
)
def test_a_secret_in_a_parameter_is_refused_and_not_shown(params):
    chat = ChatModel("tiny", **params)
    assert CANARY not in repr(chat)
    with pytest.raises(ValueError, match="environment variable") as caught:
        chat.complete(["a"])
    assert CANARY not in str(caught.value)


def test_repr_hides_headers_that_would_be_refused():
    chat = ChatModel("tiny", request_options={"extra_headers": {"api-key": CANARY, "X-Title": "t"}})
    assert CANARY not in repr(chat)
    assert "X-Title" in repr(chat)
