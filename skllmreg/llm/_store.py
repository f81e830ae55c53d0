"""Keep answers, leases on what is being asked, the ledger and the state of limits in one file.

One sqlite3 file for all threads, worker processes and runs. Values are JSON. Nothing in it is a
secret, yet prompts may hold private data: the file belongs to its owner alone.
"""

import contextlib
import errno
import json
import os
import shlex
import sqlite3
import stat
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from skllmreg.exceptions import CacheError
from skllmreg.llm._values import Record, read_stored
from skllmreg.utils._json import LARGEST_RESPONSE, load_json
from skllmreg.utils._process import process
from skllmreg.utils._text import short_line

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
        return _expanded(named)
    home = _expanded("~")
    if sys.platform == "win32":
        folder = Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    elif sys.platform == "darwin":
        folder = home / "Library" / "Caches"
    else:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")
    return folder / "skllmreg" / "llm.sqlite3"


def _expanded(path: str | os.PathLike[str]) -> Path:
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise CacheError(
            f"{error} The cache file has no place there: set SKLLMREG_CACHE, or cache=..., to a "
            "path of its own."
        ) from None


def prune_command(path: str | os.PathLike[str] | None, *keys: str) -> str:
    """The command line that removes entries."""
    named = " ".join(key[:12] for key in keys)
    return f"python -m skllmreg cache prune --file {shlex.quote(str(path))} --key {named}"


def open_store(cache: str | os.PathLike[str] | None, *, read_only: bool = False) -> "Store":
    """The store behind the `cache` parameter of a ChatModel, one per process and file."""
    path = None
    if cache is not None:
        path = default_path() if cache == "default" else _expanded(cache)
        path = (path / "llm.sqlite3" if os.path.isdir(path) else path).absolute()
    name = ("store", path, read_only and path is not None)
    with process.lock:
        store = process.opened.get(name)
        if store is None or not store.is_current():  # the file was removed or replaced
            if store is not None:
                store.close()
            store = process.opened[name] = Store(path, read_only=name[-1])
        return store


@cache
def _own_parts() -> frozenset[tuple[str, str, str]]:
    """The tables of a cache file."""
    with closing(sqlite3.connect(":memory:")) as db:
        db.executescript(SCHEMA)
        return frozenset(_parts(db))


def _parts(db: sqlite3.Connection) -> set[tuple[str, str, str]]:
    """Tables, views, triggers and indexes of a file, and how each was made; not those of sqlite."""
    rows = db.execute(
        "SELECT CAST(type AS TEXT), CAST(name AS TEXT), CAST(sql AS TEXT) FROM sqlite_master "
        "WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\' OR type NOT IN ('table', 'index')"
    )
    return {(kind, name, " ".join((sql or "").split())) for kind, name, sql in rows}


def _check_locks(folder: Path) -> None:
    """Raise where files cannot be locked, as on some network drives: sqlite would wait for ever."""
    try:
        import fcntl
    except ImportError:  # on Windows
        return
    with tempfile.TemporaryFile(dir=folder) as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL):
                raise CacheError(
                    f"The folder {folder} has no file locks ({error.strerror}), without which a "
                    "cache file cannot be shared: put it on a local disk, by SKLLMREG_CACHE or "
                    "cache=... ."
                ) from None


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
            if not os.path.exists(self.path):
                raise CacheError(f"There is no cache file {self.path}.")
            if not self._is_file():
                raise CacheError(f"{self.path} is not a file.")
            if not self.path.stat().st_size:
                raise CacheError(f"The cache file {self.path} is empty: nothing was recorded.")
            # A file without a write-ahead log is read without leaving one behind.
            how = "mode=ro" if self._has_log() else "immutable=1"
            name = f"{self.path.as_uri()}?{how}"
        elif self.path is None:
            name = ":memory:"
        else:
            self._make_private_file()
            name = self.path.as_uri()
        db = sqlite3.connect(
            name, timeout=BUSY, isolation_level=None, check_same_thread=False, uri=True
        )
        try:
            # Texts that are no UTF-8, and functions that a file brings along, are not ours.
            db.text_factory = lambda text: text.decode(errors="replace")
            db.execute("PRAGMA trusted_schema = OFF")
            self._prepare_patiently(db)
            # With the write-ahead log, what is committed survives the death of the process; only
            # the loss of power may cost the last answers, never the file.
            db.execute("PRAGMA synchronous = NORMAL")
        except BaseException:
            db.close()
            raise
        return db

    def _is_file(self) -> bool:
        return stat.S_ISREG(os.stat(self.path).st_mode)  # type: ignore[arg-type]

    def _make_private_file(self) -> None:
        """Make the file if there is none, and keep it, and those beside it, to its owner."""
        assert self.path is not None
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Only a new file is opened: closing it would take the locks of another connection.
        with contextlib.suppress(FileExistsError):
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        if not self._is_file():
            raise CacheError(f"{self.path} is not a file.")
        for name in (self.path, f"{self.path}-wal", f"{self.path}-shm"):
            with contextlib.suppress(FileNotFoundError, PermissionError):  # or another's
                if os.stat(name).st_mode & 0o077 and os.name == "posix":
                    os.chmod(name, 0o600)
        _check_locks(self.path.parent)

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
        found_parts = _parts(db)
        ((found,),) = db.execute("PRAGMA application_id")
        ((version,),) = db.execute("PRAGMA user_version")
        db.execute("COMMIT")
        if found != APPLICATION_ID and (found_parts or self.read_only):
            raise CacheError(
                f"{self.path} is a database of something else, not a cache of this package: "
                "give another path."
            )
        if version > SCHEMA_VERSION:
            raise CacheError(
                f"{self.path} was written by a newer version of this package: upgrade the "
                "package, or give another path."
            )
        # What a view or a trigger does is anybody's guess, and may have no end.
        if strange := sorted({name for _, name, _ in found_parts - _own_parts()}):
            raise CacheError(
                f"{self.path} has parts that this package does not make "
                f"({short_line(', '.join(strange))}): move the file away; a new one is made."
            )
        current = found == APPLICATION_ID and version == SCHEMA_VERSION
        missing = sorted({name for _, name, _ in _own_parts() - found_parts})
        if current and missing:
            raise CacheError(
                f"{self.path} lacks its {', '.join(missing)}: move the file away; a new one "
                "is made."
            )
        if current or self.read_only:
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
        found = os.stat(self.path)
        return found.st_dev, found.st_ino

    def _has_log(self) -> bool:
        return os.path.exists(f"{self.path}-wal")

    def _state(self) -> tuple[Any, ...]:
        """What changes when another process writes."""
        assert self.path is not None
        found = os.stat(self.path)
        return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, self._has_log()

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
                f"SELECT key, CAST(reply AS TEXT) FROM entries WHERE key IN ({marks})", some
            ):
                found[key] = self._load(key, reply)
        return found

    def _load(self, key: str, reply: str) -> Record:
        try:
            record = read_stored(load_json(reply, LARGEST_RESPONSE))
        except ValueError:
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
            if reply := db.execute(
                "SELECT CAST(reply AS TEXT) FROM entries WHERE key = ?", (key,)
            ).fetchone():
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
