"""Run a language model from a GGUF file with llama.cpp's server in a child process.

Also ``python -m skllmreg serve``.
"""

import argparse
import collections
import functools
import hashlib
import importlib.util
import json
import math
import mmap
import os
import queue
import re
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from numbers import Integral
from pathlib import Path
from typing import Any

from skllmreg.exceptions import LLMError
from skllmreg.utils._progress import progress_bar

# An interrupt is for the parent: a cell of a notebook is stopped, its server is not. The child
# imports what its parent can import, as a process that multiprocessing spawns does.
_CHILD = (
    "import signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN); sys.path[:] = {path!r}; "
    "from skllmreg.llm import _local; _local._serve({settings!r})"
)
_READY = "skllmreg-server "
_CHUNK = 2**22  # bytes that are hashed between two steps of the progress bar
_PATIENCE = 5.0  # seconds that a child gets to end by itself
# Memory that llama.cpp may fill with the prompts that its slots had before; its default is 8 GB.
_PROMPT_CACHE_MIB = 512


class LocalServer:
    """A model from a GGUF file, served on this machine by llama.cpp.

    A context manager: the model is loaded on entry, and its memory is free again after exit. The
    server is a child process that ends with this one, also when this one is killed; it listens on
    the loopback address alone. It needs ``pip install 'skllmreg[local]'`` (xllamacpp: llama.cpp,
    compiled for the usual platforms).

    Parameters
    ----------
    path : str or path
        A GGUF file; of one that is split, the first part.
    n_parallel : int, default=4
        Requests that are answered at the same time. More of them wait for their turn.
    n_threads : int, default=None
        Threads that compute. None is one for each physical core that this process may use.
    context : int, default=4096
        Tokens of a prompt and its answer together, for each of the parallel requests.
    embeddings : bool, default=None
        Serve embeddings, too. None does so where the file is an embedding model. With True, a chat
        model gives the mean of its last layer's vectors; it reads prompts more slowly then, and
        takes memory for ``context`` times its vocabulary.
    port : int, default=0
        Port to listen on; 0 takes a free one.

    Attributes
    ----------
    url : str
        The `base_url` for :class:`~skllmreg.ChatModel` and :class:`~skllmreg.llm.EmbeddingModel`.
        It contains a hash of the file and the context.
    model : str
        Name of the model, from the name of the file.

    Notes
    -----
    The cache of replies knows the model by the content of its file and by `context`, not by the
    port or the file's name: tomorrow's server finds today's replies, and another file under the
    same name does not. The other parameters affect speed, not replies.

    Examples
    --------
    >>> from skllmreg.llm import ChatModel, LocalServer
    >>> with LocalServer("SmolLM2-135M-Instruct.Q4_1.gguf") as server:  # doctest: +SKIP
    ...     chat = ChatModel(server.model, base_url=server.url, temperature=0)
    ...     chat.complete(["What is the capital of France?"])[0].text
    'The capital of France is Paris.'
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        n_parallel: int = 4,
        n_threads: int | None = None,
        context: int = 4096,
        embeddings: bool | None = None,
        port: int = 0,
    ) -> None:
        self.path = path
        self.n_parallel = n_parallel
        self.n_threads = n_threads
        self.context = context
        self.embeddings = embeddings
        self.port = port
        self._url: str | None = None
        self._stop: weakref.finalize | None = None

    def __repr__(self) -> str:
        where = f"serving at {self._url}" if self._url else "not started"
        return f"<LocalServer {os.fspath(self.path)!r}, {where}>"

    def __reduce__(self) -> Any:
        raise TypeError(
            "A LocalServer belongs to the process that started it and cannot be pickled. Give "
            "other processes its url, or a ChatModel that has it."
        )

    @property
    def model(self) -> str:
        """Name of the model, from the name of the file."""
        return re.sub(r"-\d{5}-of-\d{5}$", "", Path(self.path).stem)

    @property
    def url(self) -> str:
        """Address of the running server."""
        if self._url is None:
            raise LLMError(
                f"The server of {os.fspath(self.path)!r} is not running: use "
                "`with LocalServer(...) as server:`, or call start()."
            )
        return self._url

    def __enter__(self) -> "LocalServer":
        return self.start()

    def __exit__(self, *error: object) -> None:
        self.close()

    def start(self) -> "LocalServer":
        """Load the model and serve it; for a notebook, where a ``with`` block does not fit.

        Returns
        -------
        self

        Raises
        ------
        FileNotFoundError, ValueError
            The file is missing, or not a GGUF; a parameter is wrong.
        ImportError
            xllamacpp is not installed.
        LLMError
            The server did not start, for the reason that llama.cpp gives.
        """
        if self._url is not None:
            return self
        self._check()
        path = Path(self.path).expanduser().resolve()
        prefix = f"/gguf-{_hash(path)[:16]}-{self.context}"
        is_encoder = _declares_pooling(path)
        settings = {
            "path": str(path),
            "model": self.model,
            "prefix": prefix,
            "port": self.port,
            "n_parallel": self.n_parallel,
            "n_threads": self.n_threads or _n_cores(),
            "context": self.context,
            "embeddings": is_encoder if self.embeddings is None else bool(self.embeddings),
            "mean_pooling": not is_encoder,
            "parent": os.getpid(),
        }
        code = _CHILD.format(path=[p or os.getcwd() for p in sys.path], settings=settings)
        pipe = subprocess.PIPE
        child = subprocess.Popen(
            [sys.executable, "-c", code], stdin=pipe, stdout=pipe, stderr=pipe, text=True
        )
        self._stop = weakref.finalize(self, _stop, child, os.getpid())
        try:
            self._url = _wait_until_ready(child, path) + prefix + "/v1"
        except BaseException:
            self.close()
            raise
        return self

    def close(self) -> None:
        """End the server; what it is answering is lost."""
        self._url = None
        if self._stop is not None:
            self._stop()

    def _check(self) -> None:
        for name, lowest in (("n_parallel", 1), ("n_threads", 1), ("context", 1), ("port", 0)):
            value = getattr(self, name)
            if value is None and name == "n_threads":
                continue
            if not isinstance(value, Integral) or isinstance(value, bool) or value < lowest:
                raise ValueError(f"{name} is a whole number, {lowest} or more, got {value!r:.100}.")
        if self.port > 65535:
            raise ValueError(f"port is at most 65535, got {self.port}.")
        path = Path(self.path).expanduser()
        if not path.is_file():
            what = "is a folder" if path.is_dir() else "does not exist"
            raise FileNotFoundError(f"The model {str(path)!r} {what}; a GGUF file is needed.")
        with path.open("rb") as file:
            if file.read(4) != b"GGUF":
                raise ValueError(
                    f"{str(path)!r} is not a GGUF file, which llama.cpp needs. Models on the "
                    "Hugging Face hub often have a sister repository whose name ends in -GGUF."
                )
        if importlib.util.find_spec("xllamacpp") is None:
            raise ImportError(
                "LocalServer needs xllamacpp, which contains llama.cpp: "
                "pip install 'skllmreg[local]'."
            )


def _n_cores() -> int:
    import joblib

    return joblib.cpu_count(only_physical_cores=True)


def _parts(path: Path) -> list[Path]:
    """All files of a model; one unless it is split."""
    split = re.fullmatch(r"(.*-)(\d{5})(-of-(\d{5}))", path.stem)
    if split is None:
        return [path]
    names = (f"{split[1]}{i + 1:05}{split[3]}{path.suffix}" for i in range(int(split[4])))
    parts = [path.with_name(name) for name in names]
    if missing := [part.name for part in parts if not part.is_file()]:
        raise FileNotFoundError(f"The model {str(path)!r} lacks its part {missing[0]!r}.")
    return parts


def _hash(path: Path) -> str:
    """SHA-256 of a model, once per process for a file that does not change."""
    stats = [(part, part.stat()) for part in _parts(path)]
    return _hash_of(tuple((part, stat.st_size, stat.st_mtime_ns) for part, stat in stats))


@functools.lru_cache(maxsize=64)
def _hash_of(files: tuple[tuple[Path, int, int], ...]) -> str:
    digest = hashlib.sha256()
    n_chunks = sum(math.ceil(size / _CHUNK) for _, size, _ in files)
    with progress_bar(n_chunks, None, f"Reading {files[0][0].name}", unit="chunk") as tick:
        for path, _, _ in files:
            for chunk in _chunks(path):
                digest.update(chunk)
                tick(1)
    return digest.hexdigest()


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk


def _declares_pooling(path: Path) -> bool:
    """Whether it is an embedding model: its metadata says how token vectors become one."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        # A key, then its type: a 32-bit integer. Names and sizes come before the vocabulary.
        return data.find(b".pooling_type\x04\x00\x00\x00", 0, 2**20) >= 0


def _wait_until_ready(child: subprocess.Popen[str], path: Path) -> str:
    """Address of the child's server; an LLMError with what llama.cpp says if it ends instead."""
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    log: collections.deque[str] = collections.deque(maxlen=200)
    # The pipes are read for as long as the child lives, else it would stop at a full one.
    threads = [
        threading.Thread(target=_drain, args=(child.stdout, lines.put), daemon=True),
        threading.Thread(target=_drain, args=(child.stderr, log.append), daemon=True),
    ]
    for thread in threads:
        thread.start()
    with progress_bar(None, None, f"Loading {path.name}", unit="s") as tick:
        while True:
            try:
                line = lines.get(timeout=1.0)
            except queue.Empty:
                tick(1)
                if child.poll() is None:
                    continue
                break
            if line.startswith(_READY):
                return line.removeprefix(_READY).strip()
            if not line:
                break
    child.wait()
    threads[1].join(_PATIENCE)
    raise LLMError(f"llama.cpp could not serve {str(path)!r}: {_reason([*log], child.returncode)}")


def _drain(pipe: Any, take: Any) -> None:
    with pipe:
        for line in pipe:
            take(line)
    take("")


def _reason(log: list[str], status: int) -> str:
    """What llama.cpp's log says went wrong: its first errors, without the time and the place."""
    errors = [m[1] for line in log if (m := re.match(r"[\d.]+ E [^:]*: *(.*\S)", line))]
    if not errors:
        errors = [line.strip() for line in log if line.strip()][-1:]
    said = "; ".join([*dict.fromkeys(errors)][:2]) or "it said nothing"
    return f"{said} (exit status {status})."


def _stop(child: subprocess.Popen[str], owner: int) -> None:
    if os.getpid() != owner:
        return  # a forked copy of the process must not end its parent's server
    assert child.stdin is not None
    try:
        child.stdin.close()
        child.wait(_PATIENCE)
    except (OSError, subprocess.TimeoutExpired):
        # While it loads a model it does not see that its input was closed.
        child.kill()
        child.wait()


def _serve(settings: dict[str, Any]) -> None:
    """What the child process does."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path, params.model_alias = settings["path"], {settings["model"]}
    params.hostnames, params.port = ["127.0.0.1"], settings["port"]
    params.api_prefix = settings["prefix"]
    params.n_parallel = settings["n_parallel"]
    params.n_ctx = settings["n_parallel"] * settings["context"]
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = settings["n_threads"]
    params.cache_ram_mib = _PROMPT_CACHE_MIB
    params.use_jinja = True  # the chat template of the file
    params.verbosity = 2  # warnings
    params.ui = False
    params.cors_origins = ""  # no web page may read what is served here
    if settings["embeddings"]:
        params.embedding = True
        # A text is embedded in one batch, so that a batch holds as much as the context.
        params.n_batch = params.n_ubatch = settings["context"]
        if settings["mean_pooling"]:
            params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    server = xllamacpp.Server(params)
    print(f"{_READY}{server.listening_address}", flush=True)
    # The parent never writes: the pipe ends when the parent closes it or is no more. Its forked
    # workers may keep it open, so its process id is looked at as well.
    threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
    while os.getppid() == settings["parent"]:
        time.sleep(0.5)
    os._exit(0)


def main(argv: Sequence[str] | None = None) -> int:
    """Serve a model until interrupted; 0 if it could be served."""
    parser = argparse.ArgumentParser(
        prog="python -m skllmreg serve",
        description="Serve a GGUF model on this machine until interrupted (Ctrl-C).",
    )
    parser.add_argument("path", help="the GGUF file")
    parser.add_argument("--port", type=int, default=8080, help="default: 8080; 0: a free one")
    parser.add_argument("--parallel", type=int, default=4, help="requests at the same time")
    parser.add_argument("--threads", type=int, help="default: one for each physical core")
    parser.add_argument("--context", type=int, default=4096, help="tokens of prompt and answer")
    parser.add_argument("--embeddings", action="store_true", default=None, help="serve them, too")
    args = parser.parse_args(argv)
    try:
        with LocalServer(
            args.path,
            n_parallel=args.parallel,
            n_threads=args.threads,
            context=args.context,
            embeddings=args.embeddings,
            port=args.port,
        ) as server:
            model = json.dumps(server.model)
            print(f"ChatModel({model}, base_url={json.dumps(server.url)})", flush=True)
            threading.Event().wait()
    except KeyboardInterrupt:
        return 0
    except (ImportError, LLMError, OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0
