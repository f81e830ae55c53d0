"""Keep answers, leases on what is being asked, the ledger and the state of limits in one file.

One sqlite3 file for all threads, worker processes and runs. Values are JSON. Nothing in it is a
secret, yet prompts may hold private data: the file belongs to its owner alone.
"""

import difflib
import heapq
import json
import os
import shlex
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from skllmreg.exceptions import CacheError
from skllmreg.llm._settings import Messages, Settings
from skllmreg.llm._values import Record, read_stored
from skllmreg.utils._process import process

APPLICATION_ID = 0x736B6C6C  # "skll"
SCHEMA_VERSION = 2
SCHEMA = """
CREATE TABLE IF NOT EXISTS entries (
    key TEXT PRIMARY KEY, created REAL NOT NULL, server TEXT NOT NULL, model TEXT NOT NULL,
    request TEXT NOT NULL, reply TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS leases (
    key TEXT PRIMARY KEY, holder TEXT NOT NULL, expires REAL NOT NULL);
CREATE TABLE IF NOT EXISTS ledger (
    day TEXT NOT NULL, run TEXT NOT NULL, server TEXT NOT NULL, model TEXT NOT NULL,
    requests INTEGER NOT NULL DEFAULT 0, cached INTEGER NOT NULL DEFAULT 0,
    prompt_tokens INTEGER NOT NULL DEFAULT 0, completion_tokens INTEGER NOT NULL DEFAULT 0,
    cost REAL, reserved_tokens INTEGER NOT NULL DEFAULT 0, reserved_cost REAL NOT NULL DEFAULT 0,
    PRIMARY KEY (day, run, server, model));
CREATE TABLE IF NOT EXISTS limits (name TEXT PRIMARY KEY, state TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY, created REAL NOT NULL, state TEXT NOT NULL, info TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS job_requests (
    key TEXT PRIMARY KEY, job TEXT NOT NULL, prompt_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL, sample INTEGER NOT NULL, messages TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS requests_of_job ON job_requests (job);
"""

# Seconds after which the lease of a holder that no longer renews it is taken over.
LEASE = 10.0
# Seconds by which the clock may go back between two runs; what was written later is damaged.
CLOCK_ERROR = 2.0
# Seconds to wait for another process that is writing.
BUSY = 30.0
# After such a wait, the answers that are under way do not wait as long again.
BUSY_AGAIN = 0.5
HELD = object()


def default_path() -> Path:
    """SKLLMREG_CACHE, else the platform's folder for caches."""
    if named := os.environ.get("SKLLMREG_CACHE"):
        return Path(named).expanduser()
    home = Path.home()
    if sys.platform == "win32":
        folder = Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    elif sys.platform == "darwin":
        folder = home / "Library" / "Caches"
    else:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")
    return folder / "skllmreg" / "llm.sqlite3"


def prune_command(path: str | os.PathLike[str] | None, *keys: str) -> str:
    """The command line that removes entries."""
    named = " ".join(key[:12] for key in keys)
    return f"python -m skllmreg cache prune --file {shlex.quote(str(path))} --key {named}"


def open_store(cache: str | os.PathLike[str] | None, *, read_only: bool = False) -> "Store":
    """The store behind the `cache` parameter of a ChatModel, one per process and file."""
    path = None
    if cache is not None:
        path = default_path() if cache == "default" else Path(cache).expanduser()
        path = (path / "llm.sqlite3" if path.is_dir() else path).absolute()
    name = ("store", path, read_only and path is not None)
    with process.lock:
        store = process.opened.get(name)
        if store is None or not store.is_current():  # the file was removed or replaced
            if store is not None:
                store.close()
            store = process.opened[name] = Store(path, read_only=name[-1])
        return store


class Store:
    """One cache file; its connection is shared by the threads of a process.

    Parameters
    ----------
    path : Path or None
        None keeps everything in memory.
    read_only : bool
        Leave the file exactly as it is, as a replay from a committed file must. Others may change
        it meanwhile: each look at it is a connection of its own.
    """

    def __init__(self, path: Path | None, *, read_only: bool = False) -> None:
        self.path = path
        self.read_only = read_only
        self.lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._waits = BUSY
        self.read("SELECT 1")  # raises now where it cannot be used

    @property
    def _db(self) -> sqlite3.Connection:
        """The connection, made anew after a fork; for who holds the lock."""
        if self._connection is None:
            self._connection = self._connect()
            self._identity = self._stat()
        return self._connection

    def _connect(self) -> sqlite3.Connection:
        if self.read_only:
            assert self.path is not None
            if not self.path.exists():
                raise CacheError(f"There is no cache file {self.path}.")
            if not self.path.stat().st_size:
                raise CacheError(f"The cache file {self.path} is empty: nothing was recorded.")
            # A file without a write-ahead log is read without leaving one behind.
            how = "mode=ro" if self._has_log() else "immutable=1"
            name = f"{self.path.as_uri()}?{how}"
        elif self.path is None:
            name = ":memory:"
        else:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # sqlite gives the files beside it the permissions of this one.
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
            name = self.path.as_uri()
        db = sqlite3.connect(
            name, timeout=BUSY, isolation_level=None, check_same_thread=False, uri=True
        )
        try:
            self._prepare_patiently(db)
            # With the write-ahead log, what is committed survives the death of the process; only
            # the loss of power may cost the last answers, never the file.
            db.execute("PRAGMA synchronous = NORMAL")
        except BaseException:
            db.close()
            raise
        return db

    def _prepare_patiently(self, db: sqlite3.Connection) -> None:
        """Wait while others are opening the file for the first time: here sqlite does not."""
        deadline = time.monotonic() + BUSY
        while True:
            try:
                return self._prepare(db)
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
                if db.in_transaction:
                    db.execute("ROLLBACK")
                time.sleep(0.02)

    def _prepare(self, db: sqlite3.Connection) -> None:
        db.execute("BEGIN")  # all three as of one moment: others may be creating the tables
        ((n_tables,),) = db.execute("SELECT COUNT(*) FROM sqlite_master")
        ((found,),) = db.execute("PRAGMA application_id")
        ((version,),) = db.execute("PRAGMA user_version")
        db.execute("COMMIT")
        if found != APPLICATION_ID and (n_tables or self.read_only):
            raise CacheError(
                f"{self.path} is a database of something else, not a cache of this package: "
                "give another path."
            )
        if version > SCHEMA_VERSION:
            raise CacheError(
                f"{self.path} was written by a newer version of this package: upgrade the "
                "package, or give another path."
            )
        if self.read_only or (found == APPLICATION_ID and version == SCHEMA_VERSION):
            return
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("BEGIN IMMEDIATE")
        for statement in SCHEMA.split(";"):
            db.execute(statement)
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        db.execute("COMMIT")

    def _stat(self) -> tuple[int, int] | None:
        if self.path is None:
            return None
        stat = os.stat(self.path)
        return stat.st_dev, stat.st_ino

    def _has_log(self) -> bool:
        return os.path.exists(f"{self.path}-wal")

    def _state(self) -> tuple[Any, ...]:
        """What changes when another process writes."""
        assert self.path is not None
        stat = os.stat(self.path)
        return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, self._has_log()

    def is_current(self) -> bool:
        """Whether the path still names the file that is open."""
        if self.read_only or self.path is None:
            return True
        try:
            return self._stat() == self._identity
        except OSError:
            return False

    def close(self) -> None:
        """Fold the write-ahead log into the file; the next use opens it again."""
        with self.lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    # sqlite keeps a list of the files that a process has open, with their locks. A forked child
    # would inherit the list but not the locks: it would write into a log that its parent may
    # remove. So no file is open, and no thread is at work on one, while the process forks.

    def before_fork(self) -> None:
        self.lock.acquire()
        if self.path is not None:
            self.close()

    def after_fork(self, in_child: bool) -> None:
        self.lock.release()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn errors of the database and the file system into one that says what to do."""
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            text = str(error)
            if "locked" in text or "busy" in text:
                advice = f"Another process has held it for {BUSY:g} s: end it, or use another path."
                self._wait_for_others(min(BUSY, BUSY_AGAIN))
            elif "full" in text or "No space" in text:
                advice = "Free some space, delete the file, or use another path."
            elif "malformed" in text or "not a database" in text or "JSON" in text:
                advice = "Move the file away; a new one is made."
            else:
                advice = (
                    "Is it, and its folder, writable, and within the limits of size? Set "
                    "SKLLMREG_CACHE or cache=... ."
                )
            raise CacheError(f"The cache file {self.path} cannot be used: {text}. {advice}") from (
                error
            )

    def _wait_for_others(self, seconds: float) -> None:
        self._waits = seconds
        if self._connection is not None:
            self._connection.execute(f"PRAGMA busy_timeout = {1000 * seconds:.0f}")

    def read(self, query: str, values: Any = ()) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        with self.lock, self._explained():
            if not self.read_only:
                return self._db.execute(query, values).fetchall()
            while True:
                before = self._state() if self.path and self.path.exists() else None
                try:
                    with closing(self._connect()) as db:
                        rows = db.execute(query, values).fetchall()
                except sqlite3.DatabaseError:
                    if before == self._state():
                        raise
                else:
                    # "immutable" takes no lock: what was read while others wrote may be torn.
                    if before == self._state():
                        return rows

    def compact(self) -> None:
        """Give the space of removed entries back to the file system."""
        with self.lock, self._explained():
            self._db.execute("VACUUM")

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction, alone in the file."""
        with self.lock, self._explained():
            self._db.execute("BEGIN IMMEDIATE")
            if self._waits < BUSY:
                self._wait_for_others(BUSY)
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:  # some errors have rolled back already
                    self._db.execute("ROLLBACK")
                raise

    def lookup(self, keys: Iterable[str]) -> dict[str, Record]:
        """The records of those keys that are answered."""
        keys = list(keys)
        found: dict[str, Record] = {}
        for first in range(0, len(keys), 500):
            some = keys[first : first + 500]
            marks = ",".join("?" * len(some))
            for key, reply in self.read(
                f"SELECT key, reply FROM entries WHERE key IN ({marks})", some
            ):
                found[key] = self._load(key, reply)
        return found

    def _load(self, key: str, reply: str) -> Record:
        try:
            record = read_stored(json.loads(reply))
        except (ValueError, RecursionError):
            record = None
        if record is None:
            raise CacheError(
                f"The entry {key[:12]} of the cache file {self.path} is damaged: "
                f"`{prune_command(self.path, key)}` removes it."
            )
        return record

    def lease(self, key: str, holder: str) -> Any:
        """Take the right to ask: None; else the record that is there by now; else HELD."""
        # A lease that ends later than it can was given by a clock that was ahead.
        taken = "SELECT 1 FROM leases WHERE key = ? AND holder != ? AND expires BETWEEN ? AND ?"
        if found := self.lookup([key]):  # writers are alone: look first
            return found[key]
        now = time.time()
        if self.read(taken, (key, holder, now, now + LEASE + CLOCK_ERROR)):
            return HELD
        with self.writing() as db:
            if reply := db.execute("SELECT reply FROM entries WHERE key = ?", (key,)).fetchone():
                return self._load(key, reply[0])
            now = time.time()
            if db.execute(taken, (key, holder, now, now + LEASE + CLOCK_ERROR)).fetchone():
                return HELD
            db.execute("INSERT OR REPLACE INTO leases VALUES (?, ?, ?)", (key, holder, now + LEASE))
        return None

    def renew(self, holder: str) -> None:
        with self.writing() as db:
            db.execute(
                "UPDATE leases SET expires = ? WHERE holder = ?", (time.time() + LEASE, holder)
            )

    def release(self, key: str, holder: str) -> None:
        with self.writing() as db:
            db.execute("DELETE FROM leases WHERE key = ? AND holder = ?", (key, holder))

    def put(
        self, key: str, server: str, model: str, request: dict[str, Any], record: Record
    ) -> None:
        """Keep an answer; the first one stays, so that everybody sees the same."""
        entry = (key, time.time(), server, model, json.dumps(request), json.dumps(record.to_json()))
        with self.writing() as db:
            db.execute("INSERT OR IGNORE INTO entries VALUES (?, ?, ?, ?, ?, ?)", entry)
            db.execute("DELETE FROM leases WHERE key = ?", (key,))


# Comparing texts is slow: only the last entries of a large cache, only their beginnings, and with
# regard to the order of letters only those that have the same letters.
N_COMPARED = 500
N_CANDIDATES = 10
LENGTH = 2_000

Entry = tuple[str, str, dict[str, Any]]


def describe_miss(
    store: Store,
    settings: Settings,
    options: dict[str, Any],
    messages: Messages,
    sample: int,
) -> str:
    """A message that shows the missing prompt and how the nearest one differs."""
    text, url, model = messages[-1]["content"], settings.url, settings.model
    head = (
        f"No answer in {store.path} for sample {sample} of this prompt to {model!r}, and "
        f'mode="replay" asks nobody: {text[:300]!r}.'
    )
    near_entry = _same_messages(store, messages, model) or _nearest(store, text, model)
    if near_entry is None:
        return f"{head} The cache is empty."
    near_url, near_model, near = near_entry
    differs = [
        f"{name} is {there!r:.200} there, {here!r:.200} here"
        for name, there, here in (
            ("the server", near_url, url),
            ("the model", near_model, model),
            ("the options", near["options"], options),
            ("the sample", near["sample"], sample),
        )
        if there != here
    ]
    if near["messages"] == messages:
        return f"{head} The same prompt is there, but {'; '.join(differs) or 'the schema differs'}."
    there = near["messages"][-1]["content"]
    if there == text:
        return f"{head} The nearest has the same last message after another conversation."
    at = next(
        (i for i, (a, b) in enumerate(zip(there, text, strict=False)) if a != b),
        min(len(there), len(text)),
    )
    return (
        f"{head} The nearest differs from character {at} on: {there[max(at - 20, 0) : at + 80]!r} "
        f"there, {text[max(at - 20, 0) : at + 80]!r} here."
    )


def _same_messages(store: Store, messages: Messages, model: str) -> Entry | None:
    """An entry with exactly these messages, wherever it is; of the same model if there is one."""
    beginning = json.dumps({"messages": messages})[:-1] + ","  # as `put` writes requests
    rows = store.read(
        "SELECT server, model, request FROM entries WHERE substr(request, 1, ?) = ? "
        "ORDER BY model = ? DESC, created DESC LIMIT 1",
        (len(beginning), beginning, model),
    )
    return _entry(rows[0]) if rows else None


def _nearest(store: Store, text: str, model: str) -> Entry | None:
    """Of the newest entries, the one whose last message is most like the text."""
    rows = store.read(
        "SELECT server, model, request FROM entries ORDER BY created DESC LIMIT ?", (N_COMPARED,)
    )
    matcher = difflib.SequenceMatcher(autojunk=False)
    matcher.set_seq2(text[:LENGTH])

    def likeness(entry: Entry, ratio: Callable[[], float]) -> tuple[float, bool]:
        matcher.set_seq1(entry[2]["messages"][-1]["content"][:LENGTH])
        return ratio(), entry[1] == model

    some = heapq.nlargest(
        N_CANDIDATES, map(_entry, rows), key=lambda entry: likeness(entry, matcher.quick_ratio)
    )
    return max(some, key=lambda entry: likeness(entry, matcher.ratio), default=None)


def _entry(row: tuple[str, str, str]) -> Entry:
    return row[0], row[1], json.loads(row[2])
