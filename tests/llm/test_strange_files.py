"""Cache files that are not as they should be, and places for them: the error says what to do."""

import contextlib
import errno
import os
import shutil
import socket
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from skllmreg._cli import cache as main
from skllmreg.exceptions import AnswerNotStoredWarning, CacheError, ReplayMissError
from skllmreg.llm import ChatModel, _store
from tests.loopback import as_in_a_new_process

posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX")


@pytest.fixture
def path(loopback, tmp_path):
    """A cache file with one answer, closed."""
    path = tmp_path / "cache.sqlite3"
    ChatModel("tiny", base_url=loopback.base_url, cache=path).complete(["a"])
    as_in_a_new_process()
    return path


def chat(loopback, path, **params):
    return ChatModel("tiny", base_url=loopback.base_url, cache=path, **params)


def change(path, *statements):
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        for statement in statements:
            db.execute(statement)


ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT"
STRANGE = {
    "a view for a table": [
        "ALTER TABLE entries RENAME TO old",
        f"CREATE VIEW entries AS {ENDLESS} i AS key, i AS created, '' AS server, '' AS model, "
        "'{}' AS request, '{}' AS reply FROM n",
    ],
    "a further view": [f"CREATE VIEW more AS {ENDLESS} i FROM n"],
    "a trigger": [
        "CREATE TRIGGER entries_forged AFTER INSERT ON entries BEGIN UPDATE entries SET reply = "
        "replace(reply, 'reply', 'forged'); END"
    ],
    "an index over an expression": ["CREATE INDEX i ON entries (abs(created))"],
    "a generated column": ["ALTER TABLE entries ADD COLUMN more TEXT AS (hex(key))"],
    "a further table": ["CREATE TABLE more (a)"],
    "a virtual table": ["CREATE VIRTUAL TABLE more USING fts5(a)"],
    "no table": ["DROP TABLE entries"],
    "another table": ["DROP TABLE leases", "CREATE TABLE leases (key TEXT)"],
}


@pytest.mark.parametrize("what", STRANGE)
def test_a_file_with_parts_that_are_not_ours_is_refused_before_it_is_used(
    loopback, path, capsys, what
):
    change(path, *STRANGE[what])
    before = path.read_bytes()
    for mode in ("live", "replay"):
        with pytest.raises(CacheError, match="[Mm]ove the file away"):
            chat(loopback, path, mode=mode).complete(["a", "b"])
    for action in ("list", "export", "usage", "pauses"):
        assert main([action, "--file", str(path)]) == 1
    assert capsys.readouterr().err.count("ove the file away") == 4
    assert path.read_bytes() == before
    assert len(loopback.seen) == 1


ODD = ["x'ff00'", "x'7b7d'", "NULL", "9e999", "-1", "'\u2028text'", "'[[[' || hex(zeroblob(9))"]
COLUMNS = {
    "entries": ["key", "created", "server", "model", "request", "reply"],
    "leases": ["key", "holder", "expires"],
    "ledger": ["day", "run", "server", "model", "requests", "cached", "prompt_tokens"]
    + ["completion_tokens", "cost", "reserved_tokens", "reserved_cost"],
    "limits": ["name", "state"],
}


@pytest.mark.slow
@pytest.mark.parametrize("table", COLUMNS)
def test_values_of_odd_types_are_an_error_or_ignored(loopback, path, capsys, table):
    """Whatever stands in a cell, nothing but the package's own errors comes out."""
    llm = chat(loopback, path, max_retries=0, requests_per_minute=1e6)
    llm.complete(["b"])
    as_in_a_new_process()
    whole = path.read_bytes()
    for column in COLUMNS[table]:
        for value in ODD:
            as_in_a_new_process()
            path.write_bytes(whole)
            try:
                change(path, f"UPDATE OR REPLACE {table} SET {column} = {value}")
            except sqlite3.IntegrityError:  # NULL
                continue
            for prompts in (["a"], ["c"]):
                with contextlib.suppress(CacheError):
                    assert llm.complete(prompts)[0].text.startswith("reply to")
                    llm.usage()
                    llm.quote(["d"])
            for action in ("list", "export", "usage", "pauses"):
                assert main([action, "--file", str(path)]) in (0, 1)
            with pytest.raises((ReplayMissError, CacheError)):
                chat(loopback, path, mode="replay").complete(["not there"])
            capsys.readouterr()


# Rights.


@posix
def test_files_that_existed_with_wider_rights_are_narrowed(loopback, path):
    open_elsewhere = sqlite3.connect(path)  # keeps the log and its index in place
    open_elsewhere.execute("SELECT * FROM entries").fetchall()
    open_elsewhere.execute("PRAGMA journal_mode = WAL")
    files = [path, Path(f"{path}-wal"), Path(f"{path}-shm")]
    for file in files:
        file.touch()
        file.chmod(0o666)
    chat(loopback, path).complete(["b"])
    assert [stat.S_IMODE(file.stat().st_mode) for file in files] == [0o600] * 3
    open_elsewhere.close()


@posix
def test_a_replay_leaves_the_rights_of_a_file_alone(loopback, path):
    path.chmod(0o644)
    chat(loopback, path, mode="replay").complete(["a"])
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


# Places.


def test_a_file_system_without_locks_is_told_at_once(loopback, path, monkeypatch):
    fcntl = pytest.importorskip("fcntl")

    def lockf(*args):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", lockf)
    with pytest.raises(CacheError, match="no file locks.*local disk"):
        chat(loopback, path).complete(["b"])
    assert len(loopback.seen) == 1
    assert chat(loopback, path, mode="replay").complete(["a"])[0].cached


HOMELESS = """
import os
from skllmreg.exceptions import CacheError, RequestError
from skllmreg.llm import ChatModel
try:  # what is loaded late is loaded now: the other user may not see Python's own folder
    ChatModel("tiny", base_url="http://127.0.0.1:1/v1", cache=None, max_retries=0).complete(["a"])
except RequestError:
    pass
os.setuid(54321)  # nobody's
for cache in ("default", "~/cache.sqlite3", "~nobody-of-that-name/cache.sqlite3"):
    try:
        ChatModel("tiny", base_url="http://127.0.0.1:1/v1", cache=cache).complete(["a"])
    except CacheError as error:
        print(error)
"""


@posix
@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="needs another user")
def test_a_user_without_a_home_gets_an_error_that_says_what_to_set():
    environment = {k: v for k, v in os.environ.items() if k not in ("HOME", "SKLLMREG_CACHE")}
    command = [sys.executable, "-c", HOMELESS]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.stderr == ""
    assert done.stdout.count("set SKLLMREG_CACHE, or cache=...") == 3


def test_without_a_home_the_error_says_what_to_set(loopback, monkeypatch, capsys):
    def nowhere(self):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", nowhere)
    monkeypatch.delenv("SKLLMREG_CACHE")
    with pytest.raises(CacheError, match="set SKLLMREG_CACHE, or cache="):
        ChatModel("tiny", base_url=loopback.base_url).complete(["a"])
    assert main(["list"]) == 1
    assert "set SKLLMREG_CACHE" in capsys.readouterr().err
    assert not loopback.seen


READ_ONLY = """
import os, sys
from skllmreg.exceptions import CacheError, RequestError
from skllmreg.llm import ChatModel
try:  # what is loaded late is loaded now: the other user may not see Python's own folder
    ChatModel("tiny", base_url="http://127.0.0.1:1/v1", cache=None, max_retries=0).complete(["a"])
except RequestError:
    pass
os.setuid(54321)  # nobody's
for cache in sys.argv[2:]:
    try:
        ChatModel("tiny", base_url=sys.argv[1], cache=cache).complete(["a"])
    except CacheError as error:
        print(error)
chat = ChatModel("tiny", base_url=sys.argv[1], cache=sys.argv[2], mode="replay")
print(chat.complete(["a"])[0].text)
"""


@posix
@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="needs another user")
def test_a_folder_that_cannot_be_written_is_told(loopback, path):
    folder = Path("/var/tmp/skllmreg-read-only")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o755)
    shutil.copy(path, folder / "cache.sqlite3").chmod(0o644)
    names = [folder / "cache.sqlite3", folder / "new.sqlite3", folder / "more" / "new.sqlite3"]
    command = [sys.executable, "-c", READ_ONLY, loopback.base_url, *map(str, names)]
    done = subprocess.run(command, capture_output=True, text=True)
    shutil.rmtree(folder)
    assert done.stderr == ""
    assert done.stdout.count("Is it, and its folder, writable") == 3
    assert done.stdout.endswith("reply to a\n")
    assert len(loopback.seen) == 1


@pytest.mark.parametrize("mode", ["live", "replay"])
@pytest.mark.parametrize("kind", ["text", "fifo", "device", "long", "zero", "in a file", "socket"])
def test_a_path_that_is_no_cache_file_is_told(loopback, tmp_path, kind, mode):
    path = tmp_path / "cache.sqlite3"
    if kind == "text":
        path.write_text("This is not a database, " * 100)
    elif kind == "zero":
        path.write_bytes(bytes(8192))
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "device":
        path = Path("/dev/null")
    elif kind == "long":
        path = tmp_path / ("x" * 300)
    elif kind == "in a file":
        path.write_text("")
        path = path / "cache.sqlite3"
    else:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(path))
    with pytest.raises(CacheError) as caught:
        chat(loopback, path, mode=mode).complete(["a"])
    assert str(path)[:200] in str(caught.value)
    assert not loopback.seen


def test_an_answer_that_was_paid_for_survives_a_file_that_loses_its_tables(loopback, path):
    llm = chat(loopback, path)
    llm.complete(["b"])

    def drop(body):
        change(path, "DROP TABLE entries")
        return "paid"

    loopback.reply = drop
    with pytest.warns(AnswerNotStoredWarning, match="no such table"):
        assert llm.complete(["c"])[0].text == "paid"


def test_opening_a_file_twice_in_a_process_takes_no_locks_away(loopback, path):
    """POSIX locks of a process end when it closes any descriptor of the file."""
    store = _store.Store(path)
    with store.writing():
        _store.Store(path)
        code = (
            f"import sqlite3; sqlite3.connect({str(path)!r}, timeout=0).execute('BEGIN IMMEDIATE')"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "database is locked" in done.stderr
    store.close()
