"""No key is found in anything that the package shows, keeps or hands on, whatever happens.

`tests/llm/test_secrets.py` holds the edge's own cases: what is sent where, and every way in which a
server can echo a key. Here all of the package goes through the usual ones.
"""

import io
import logging
import pickle
import re
import traceback
import warnings
from pathlib import Path

import cloudpickle
import joblib
import pytest
from sklearn.base import BaseEstimator, clone
from sklearn.utils import estimator_html_repr

from skllmreg import ChatModel, GOLDAugmenter, LLMAttributionRegularizedClassifier
from skllmreg.__main__ import main
from skllmreg.exceptions import GenerationError, LLMError
from tests.faults.entries import CLASSES, ENTRIES, LABELS, TASK, TEXTS, X, healthy, teacher
from tests.loopback import Behavior, completion, error

NAMED = "sk-canary-0123456789"  # in the variable that api_key_env names
AMBIENT = "sk-ambient-9876543210"  # in OPENAI_API_KEY, which is for OpenAI alone
HEADER = "sk-header-5555555555"  # in request_options, where it is refused
CANARIES = (NAMED, AMBIENT, HEADER)
ROOT = Path(__file__).parents[1]


def generate(llm):
    """Have rows written."""
    model = GOLDAugmenter(
        llm=llm, task=TASK, class_descriptions=CLASSES, n_rounds=1, max_requests=2, random_state=0
    )
    return model.fit(TEXTS, LABELS)


CALLS = {name: entry.run for name, entry in ENTRIES.items()} | {"GOLDAugmenter.fit": generate}
FAULTS = {
    "nothing": lambda body: healthy(body),
    "401 that echoes the key": lambda body: error(401, f"Incorrect API key provided: {NAMED}"),
    "an answer that echoes the key": lambda body: completion(f"Your key is {NAMED}"),
    "500": lambda body: error(500),
    "reset": lambda body: Behavior(reset=True),
    "never-ending": lambda body: Behavior(drip=0.02),
    "redirect": lambda body: Behavior(status=307, headers={"Location": f"/v1?key={NAMED}"}),
}


@pytest.fixture(autouse=True)
def _keys(monkeypatch):
    monkeypatch.setenv("MY_KEY", NAMED)
    monkeypatch.setenv("OPENAI_API_KEY", AMBIENT)


@pytest.fixture
def log():
    """All that any logger says, at DEBUG."""
    stream = io.StringIO()
    root, handler = logging.getLogger(), logging.StreamHandler(stream)
    names = [name for name in root.manager.loggerDict if not name.startswith("matplotlib")]
    levels = {logger: logger.level for logger in [root, *map(logging.getLogger, names)]}
    for logger in levels:
        logger.setLevel(logging.DEBUG)
    root.addHandler(handler)
    yield stream
    root.removeHandler(handler)
    for logger, level in levels.items():
        logger.setLevel(level)


@pytest.fixture
def llm(loopback, tmp_path):
    return ChatModel(
        "tiny",
        base_url=loopback.base_url,
        api_key_env="MY_KEY",
        cache=tmp_path / "cache.sqlite3",
        max_retries=0,
        max_concurrency=2,
        prices=(1, 1),
    )


def told_by(error):
    """What a debugger or a crash report shows of an exception: its text and all local variables."""
    while error is not None:
        frames = traceback.walk_tb(error.__traceback__)
        for frame in traceback.StackSummary.extract(frames, capture_locals=True):
            if frame.filename != __file__:  # whose variables hold the canaries
                yield f"{frame} {frame.locals}"
        yield f"{error} {vars(error)} {pickle.dumps(error)}"
        error = error.__cause__ or error.__context__


def told_by_result(result, tmp_path):
    """What is printed, shown in a notebook and kept of what a call returns."""
    yield repr(result)
    for dump in (pickle.dumps, cloudpickle.dumps):
        yield repr(dump(result))
    joblib.dump(result, tmp_path / "result.joblib")
    if isinstance(result, BaseEstimator):
        yield estimator_html_repr(result)
        yield f"{result.get_params()} {clone(result)} {vars(result)}"
    elif hasattr(result, "_repr_html_"):
        yield result._repr_html_()


def told_by_commands(base_url, cache, capsys):
    """What the command line writes about a cache and a server."""
    for action in ("list", "export", "usage", "pauses"):
        main(["cache", action, "--file", str(cache)])
    main(["doctor", "--base-url", base_url, "--api-key-env", "MY_KEY", "--timeout", "0.3"])
    yield "".join(capsys.readouterr())


def assert_no_canary(texts, tmp_path):
    for text in texts:
        for canary in CANARIES:
            assert canary not in text
    for file in tmp_path.rglob("*"):
        content = file.read_bytes() if file.is_file() else b""
        assert not any(canary.encode() in content for canary in CANARIES), file


@pytest.mark.parametrize(
    "fault",
    [pytest.param(name, marks=() if "401" in name else pytest.mark.slow) for name in FAULTS],
)
@pytest.mark.parametrize("call", CALLS)
def test_no_key_is_found_after_any_call(loopback, llm, tmp_path, log, call, fault):
    loopback.reply = FAULTS[fault]
    llm.timeout = 0.2 if fault == "never-ending" else 30.0
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            told = list(told_by_result(CALLS[call](llm), tmp_path))
        except (LLMError, GenerationError) as caught:
            told = list(told_by(caught))
    told += [str(w.message) for w in warned]
    told += [log.getvalue(), repr(llm), repr(llm.usage()), repr(pickle.dumps(llm))]
    assert_no_canary(told, tmp_path)  # with the write-ahead log, which is there while it is open
    assert any(name.name.endswith("-wal") for name in tmp_path.iterdir())
    sent = [headers["authorization"] for _, headers, _ in loopback.seen]
    assert sent or fault == "never-ending"
    assert set(sent) <= {f"Bearer {NAMED}"}
    assert AMBIENT not in repr(loopback.seen)


@pytest.mark.parametrize("fault", FAULTS)
def test_no_key_is_found_in_what_the_commands_write(loopback, llm, tmp_path, capsys, log, fault):
    llm.complete(["a"], progress=True)
    loopback.reply = FAULTS[fault]
    told = list(told_by_commands(loopback.base_url, llm.cache, capsys))
    assert "tiny" in told[0]
    assert_no_canary([*told, log.getvalue()], tmp_path)


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": HEADER},
        {"X-Upstream-Token": HEADER},
        {"X-Upstream": f"Bearer {HEADER}"},
        {"X-Upstream": HEADER},
    ],
)
@pytest.mark.parametrize(
    "make",
    [
        lambda llm: LLMAttributionRegularizedClassifier(llm, task=TASK).fit(X, list("abab")),
        lambda llm: teacher(llm).predict_proba(["a"]),
    ],
)
def test_a_key_in_a_header_is_refused_and_not_shown(loopback, llm, tmp_path, log, make, headers):
    llm.request_options = {"extra_headers": headers}
    with pytest.raises(ValueError, match="looks like a secret") as caught:
        make(llm)
    told = [*told_by(caught.value), repr(llm), log.getvalue()]
    told.append(estimator_html_repr(teacher(llm)))
    assert_no_canary(told, tmp_path)
    assert not loopback.seen


def test_a_harmless_header_is_sent(loopback, llm):
    llm.request_options = {"extra_headers": {"X-Title": "Basic research"}}
    llm.complete(["a"])
    assert loopback.seen[0][1]["x-title"] == "Basic research"


# Tokens as their makers write them: OpenAI, Anthropic, GitHub, Hugging Face, AWS, a private key.
TOKEN = re.compile(
    r"sk-(proj-|ant-)?[A-Za-z0-9_]{24,}|gh[pousr]_[A-Za-z0-9]{30,}|hf_[A-Za-z0-9]{30,}"
    r"|AKIA[0-9A-Z]{16}|-----BEGIN [A-Z ]*PRIVATE KEY"
)
SHOWN = ("docs", "examples", "benchmarks", "skllmreg", "README.md", "CHANGES.md", "SECURITY.md")


@pytest.mark.parametrize("place", SHOWN)
def test_no_token_is_in_what_is_published(place):
    files = [ROOT / place, *(ROOT / place).rglob("*")]
    for file in files:
        text = file.read_bytes().decode("latin-1") if file.is_file() else ""
        for canary in (TOKEN, *map(re.compile, CANARIES)):
            assert not canary.search(text), file
