"""Open a sentence encoder by name, or take one as an object, and say what identifies it."""

import functools
import hashlib
import os
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from skllmreg.students._vectors import VectorMemory
from skllmreg.utils._text import short_line

DEFAULT_MODEL = "sentence-transformers/all-MiniLM-L6-v2"

# Vectors of this process: by the identity of the encoder, or by the object it is.
_memories: dict[object, VectorMemory] = {}
_lock = threading.RLock()


@dataclass(frozen=True)
class Encoder:
    """A function from texts to vectors.

    Parameters
    ----------
    encode : callable
        From a list of n texts to an array of shape (n, d).
    memory : VectorMemory
    identity : str or None
        What the vectors depend on besides the texts; None where that is not known, so that no
        vector may outlive the process.
    """

    encode: Callable
    memory: VectorMemory
    identity: str | None = None


def open_encoder(model, *, cache_id, batch_size, device):
    """Make an `Encoder` of what `SentenceEncoder` takes as its model; weights are loaded late."""
    if model is None:
        model = DEFAULT_MODEL
    if isinstance(model, str | os.PathLike):
        name = os.fspath(model)
        revision, identity = _identify(name, device)
        encode = functools.partial(_encode_by_name, name, revision, identity, device, batch_size)
        # The device is in the key because a memory's lock is for one copy of the weights.
        if cache_id is not None:
            identity = f"{cache_id}:{identity}"
        return Encoder(encode, _memory((identity, device)), identity)
    if hasattr(model, "embed"):
        # It has a cache of its own, by the name of the model and its server.
        return Encoder(model.embed, _memory_of(model), cache_id)
    if hasattr(model, "encode"):
        return Encoder(model.encode, _memory_of(model), cache_id)
    if callable(model):
        return Encoder(
            functools.partial(_in_batches, model, batch_size), _memory_of(model), cache_id
        )
    raise TypeError(
        f"model is {model!r:.60}: give the name or folder of a sentence-transformers model, an "
        "EmbeddingModel, an object with encode, or a function from texts to an array."
    )


def check_vectors(vectors, texts):
    """Validate what an encoder returned for n texts; an ndarray of float32 of shape (n, d)."""
    n = len(texts)
    if hasattr(vectors, "detach"):  # a tensor, on whatever device
        vectors = vectors.detach().cpu().float().numpy()
    vectors = np.asarray(vectors, dtype=np.float32)
    if vectors.ndim != 2 or len(vectors) != n or not vectors.shape[1]:
        raise ValueError(
            f"The encoder turned {n} texts into an array of shape {vectors.shape}; expected one "
            f"row for each text: ({n}, d)."
        )
    if not np.isfinite(vectors).all():
        text = texts[int(np.argmin(np.isfinite(vectors).all(axis=1)))]
        raise ValueError(
            f"The encoder's vector of the text {short_line(text)!r} is not finite: leave such "
            "texts out, or replace them by what the encoder can read."
        )
    return vectors


def _in_batches(function, batch_size, texts):
    parts = [texts[i : i + batch_size] for i in range(0, len(texts), batch_size)]
    return np.concatenate([check_vectors(function(part), part) for part in parts])


def _memory(key):
    with _lock:
        return _memories.setdefault(key, VectorMemory())


def _memory_of(model):
    """The memory of an object, which ends with it."""
    # A bound method is a new object at each access; its owner is not.
    owner = getattr(model, "__self__", model)
    key = id(owner), getattr(model, "__func__", None)
    with _lock:
        if key not in _memories:
            _memories[key] = VectorMemory()
            try:
                weakref.finalize(owner, _memories.pop, key, None)
            except TypeError:  # no weak references to it: it stays, so that its id does
                _memories[key].owner = owner
        return _memories[key]


def _after_fork_in_child():
    """Forget locks that threads of the parent hold."""
    global _lock
    _lock = threading.RLock()
    for memory in _memories.values():
        memory.lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def _identify(name, device):
    """Return (revision on the hub or None, identity) of a model; fetch it if it is not here."""
    folder = Path(name).expanduser()
    if folder.is_dir():
        return None, f"{folder.name}:{_digest(folder)}"
    if _looks_like_path(name):
        raise FileNotFoundError(f"There is no folder {name!r}.")
    revision = _revision(name)
    if revision is None:
        _load(name, None, name, device)  # the download
        revision = _revision(name)
    # A model that leaves no revision behind was put together anew by this process.
    return revision, f"{name}@{revision}" if revision else f"{name}:{os.getpid()}"


def _looks_like_path(name):
    return name.count("/") > 1 or name.startswith((".", "~", "/")) or "\\" in name


def _digest(folder):
    """Digest of all files of a folder; read again only if one of them changed."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    stats = tuple((str(p), s.st_size, s.st_mtime_ns, s.st_ino) for p in files for s in [p.stat()])
    return _digest_of_files(folder, stats)


@functools.lru_cache(maxsize=32)
def _digest_of_files(folder, stats):
    digest = hashlib.sha256()
    for path, *_ in stats:
        with open(path, "rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        digest.update(f"{Path(path).relative_to(folder).as_posix()}\0{content}\n".encode())
    return digest.hexdigest()


def _revision(name):
    """The commit of a hub model that is on this machine, or None."""
    _sentence_transformers()
    from huggingface_hub import snapshot_download

    # As sentence-transformers does, look for a name without owner among its own models, too.
    for repository in (name,) if "/" in name else (f"sentence-transformers/{name}", name):
        try:
            return Path(snapshot_download(repository, local_files_only=True)).name
        except (OSError, ValueError):
            continue
    return None


def _encode_by_name(name, revision, identity, device, batch_size, texts):
    model = _load(name, revision, identity, device)
    return model.encode(texts, batch_size=batch_size, show_progress_bar=False)


@functools.lru_cache(maxsize=4)
def _load(name, revision, identity, device):
    """Load a model once per process; `identity` is here for folders whose content changes."""
    from skllmreg.students._transformer_net import quiet

    library = _sentence_transformers()
    with quiet():
        try:
            return library.SentenceTransformer(
                str(Path(name).expanduser()), revision=revision, device=device
            )
        except (OSError, ValueError) as error:
            if Path(name).expanduser().is_dir():
                what = "the folder holds no model that sentence-transformers can load"
            else:
                what = "it is not a folder, and the Hugging Face hub has no such model or is away"
            raise ValueError(f"SentenceEncoder cannot load {name!r}: {what}. {error}") from error


def _sentence_transformers():
    try:
        import sentence_transformers
    except ImportError as error:
        raise ImportError(
            "An encoder that is a name or a folder needs sentence-transformers: "
            "pip install 'skllmreg[text]'."
        ) from error
    return sentence_transformers
