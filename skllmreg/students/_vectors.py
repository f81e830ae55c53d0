"""Keep the vectors of texts: in the process, and in a file that processes share.

The file is one sqlite3 database of float32 blobs. Its keys are digests of the encoder's identity
and the text; it holds no texts, no code and nothing that is unpickled. Vectors can always be
computed again, so a file that cannot be used costs time and a warning, never a result.
"""

import hashlib
import os
import sqlite3
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from skllmreg.exceptions import VectorCacheWarning
from skllmreg.utils._warn import warn

MEMORY_BYTES = 1 << 30  # vectors and texts kept in the process for one encoder
FILE_BYTES = 4 << 30
APPLICATION_ID = 0x736B6C76  # "sklv"
# Seconds to wait for another process: while it writes, and while it encodes the same texts.
BUSY = 30
PATIENCE = 600
_PER_QUERY = 500


def cache_path(cache):
    """Return the file behind the parameter `cache` of an encoder, or None."""
    if cache is None:
        return None
    path = _default_folder() if cache == "default" else Path(cache).expanduser()
    return (path / "embeddings.sqlite3" if path.is_dir() or cache == "default" else path).absolute()


def _default_folder():
    if named := os.environ.get("SKLLMREG_CACHE"):
        path = Path(named).expanduser()
        return path if path.is_dir() else path.parent
    home = Path.home()
    if sys.platform == "win32":
        folder = Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    elif sys.platform == "darwin":
        folder = home / "Library" / "Caches"
    else:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")
    return folder / "skllmreg"


class VectorMemory:
    """Vectors by text, those not used for longest forgotten first."""

    def __init__(self):
        self.lock = threading.RLock()
        self.owner = None
        self._vectors = {}
        self._n_bytes = 0

    def get(self, texts):
        """Return {text: vector} for the known ones among distinct texts."""
        found = {}
        for text in texts:
            vector = self._vectors.pop(text, None)
            if vector is not None:
                self._vectors[text] = found[text] = vector  # now the last in line
        return found

    def put(self, vectors):
        """Keep {text: vector} of texts that are not kept yet."""
        for text, vector in vectors.items():
            self._vectors[text] = vector
            self._n_bytes += _size(text, vector)
        while self._n_bytes > MEMORY_BYTES:
            text = next(iter(self._vectors))
            self._n_bytes -= _size(text, self._vectors.pop(text))


def _size(text, vector):
    return vector.nbytes + len(text)


class VectorFile:
    """Vectors of one encoder in a file.

    Parameters
    ----------
    path : Path
    identity : str
        What the vectors depend on besides the texts.
    """

    def __init__(self, path, identity):
        self.path = path
        self.usable = True
        self._salt = hashlib.blake2b(identity.encode(), digest_size=32).digest()
        self._digest = hashlib.blake2b(self._salt, digest_size=16)
        self._db: Any = None

    def __enter__(self):
        with self._or_warn():
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Vectors give away what texts are about: the file is its owner's alone.
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
            self._db = sqlite3.connect(self.path, timeout=BUSY, isolation_level=None)
            self._prepare()
        return self

    def __exit__(self, *error):
        if self._db is not None:
            self._db.close()

    def _prepare(self):
        ((found,),) = self._db.execute("PRAGMA application_id")
        ((n_tables,),) = self._db.execute("SELECT COUNT(*) FROM sqlite_master")
        if found == APPLICATION_ID:
            return
        if n_tables:
            self._db.close()
            raise ValueError(
                f"cache={str(self.path)!r} is a database of something else: give another path."
            )
        self._db.execute("PRAGMA journal_mode = WAL")
        with self._writing():
            self._db.execute(
                "CREATE TABLE IF NOT EXISTS vectors "
                "(key BLOB NOT NULL UNIQUE, vector BLOB NOT NULL)"
            )
            self._db.execute(f"PRAGMA application_id = {APPLICATION_ID}")

    @contextmanager
    def _writing(self):
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    @contextmanager
    def _or_warn(self):
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            self.usable = False
            warn(
                f"The cache file {self.path} cannot be used: {error}. Vectors are computed anew "
                "and kept in this process only; move the file away, or set cache=... .",
                VectorCacheWarning,
            )

    def _key(self, text):
        digest = self._digest.copy()
        digest.update(text.encode())
        return digest.digest()

    def get(self, texts):
        """Return {text: vector} for the known ones among distinct texts."""
        found: dict[str, np.ndarray] = {}
        if not self.usable:
            return found
        with self._or_warn():
            for first in range(0, len(texts), _PER_QUERY):
                keys = {self._key(text): text for text in texts[first : first + _PER_QUERY]}
                marks = ",".join("?" * len(keys))
                query = f"SELECT key, vector FROM vectors WHERE key IN ({marks})"
                for key, blob in self._db.execute(query, list(keys)):
                    found[keys[key]] = np.frombuffer(blob, "<f4")
        return found

    def put(self, vectors):
        """Keep {text: vector}; the oldest make room where the file is full."""
        if not self.usable:
            return
        rows = [(self._key(t), v.astype("<f4").tobytes()) for t, v in vectors.items()]
        with self._or_warn(), self._writing():
            self._db.executemany("INSERT OR IGNORE INTO vectors VALUES (?, ?)", rows)
            if self._n_bytes() > FILE_BYTES:
                # A quarter at a time: sqlite fills the pages again, the file does not grow.
                self._db.execute(
                    "DELETE FROM vectors WHERE rowid <= (SELECT rowid FROM vectors ORDER BY rowid "
                    "LIMIT 1 OFFSET (SELECT COUNT(*) / 4 FROM vectors))"
                )

    def _n_bytes(self):
        query = (
            "SELECT (page_count - freelist_count) * page_size "
            "FROM pragma_page_count, pragma_freelist_count, pragma_page_size"
        )
        return self._db.execute(query).fetchone()[0]

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Let one process at a time encode for this file and encoder.

        The lock is one on an empty database beside the file: the operating system releases it
        when its holder ends, however it ends.
        """
        if not self.usable:
            yield
            return
        path = f"{self.path}-{self._salt.hex()[:12]}.lock"
        with ExitStack() as stack:
            with self._or_warn():
                lock = sqlite3.connect(path, timeout=PATIENCE, isolation_level=None)
                stack.enter_context(closing(lock)).execute("BEGIN EXCLUSIVE")
            yield


def encode_once(texts, encode, memory, file, *, chunk_size, tick):
    """Compute the vectors of distinct texts, or look them up.

    Parameters
    ----------
    texts : list of str
    encode : callable
        From a list of n texts to an array of shape (n, d).
    memory : VectorMemory
    file : VectorFile or None
    chunk_size : int
        Texts that are encoded, and then kept, at a time.
    tick : callable
        Takes how many more texts are done.

    Returns
    -------
    ndarray of float32 of shape (len(texts), d)
    """
    # The lock is held while encoding: of two threads with the same texts one encodes them, and
    # few tokenizers can be used by two threads at once.
    with memory.lock:
        found = memory.get(texts)
        missing = [text for text in texts if text not in found]
        tick(len(found))
        with file if file is not None and missing else nullcontext():
            for first in range(0, len(missing), chunk_size):
                some = missing[first : first + chunk_size]
                new = _encode_chunk(some, encode, file)
                memory.put(new)
                found |= new
                tick(len(some))
    sizes = sorted({len(vector) for vector in found.values()})
    if len(sizes) > 1:
        raise ValueError(
            f"The encoder's vectors are of different lengths, such as {sizes[0]} and {sizes[1]}: "
            "cache_id has to be another one for each encoder."
        )
    return np.array([found[text] for text in texts])


def _encode_chunk(texts, encode, file):
    if file is None:
        return _vectors_by_text(texts, encode)
    found = file.get(texts)
    if len(found) < len(texts):
        with file.alone():
            # Another process may have been at work on the same texts.
            found |= file.get([text for text in texts if text not in found])
            new = _vectors_by_text([text for text in texts if text not in found], encode)
            file.put(new)
            found |= new
    return found


def _vectors_by_text(texts, encode):
    # A copy of each row: a view would keep the whole array in memory.
    return {t: v.copy() for t, v in zip(texts, encode(texts), strict=True)} if texts else {}
