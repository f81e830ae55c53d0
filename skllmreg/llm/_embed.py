"""Turn texts into vectors by a server: `EmbeddingModel`."""

import base64
import functools
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from skllmreg.exceptions import InvalidReplyError, LLMError, ReplayMissError, RequestError
from skllmreg.llm import _ledger
from skllmreg.llm._engine import unusable_replies
from skllmreg.llm._miss import describe_miss
from skllmreg.llm._obtain import HeldError, Live
from skllmreg.llm._settings import Messages, Settings, cache_key, canonical, equal_form
from skllmreg.llm._store import HELD, open_store
from skllmreg.llm._transport import ChatCompletions
from skllmreg.llm._values import (
    ModelValue,
    Obtained,
    Question,
    Record,
    Request,
    Task,
    Usage,
    as_count,
)
from skllmreg.utils._progress import progress_bar
from skllmreg.utils._text import short_line

# So many refused texts, and none that is embedded, are not about the texts.
ENOUGH = 3


class EmbeddingModel(ModelValue):
    """An embedding model behind any server that has OpenAI's route for embeddings.

    Each text is sent once, whatever runs, processes and workers ask for it: vectors are kept in the
    same file, with the same budgets and limits, as the answers of a :class:`~skllmreg.ChatModel`.

    Parameters
    ----------
    model : str
        Name of the model as the server knows it.
    base_url : str, default=None
        Address of the server, such as that of a :class:`LocalServer`; None is OpenAI.
    api_key_env : str, default=None
        Name of the environment variable that holds the key, as for a ChatModel.
    dimensions : int, default=None
        Length of the vectors, for models that can shorten them.
    batch_size : int, default=64
        Number of texts in a request.
    request_options : dict, default=None
        More fields of the request; also ``extra_headers``. They are part of the cache key.
    max_concurrency, requests_per_minute, tokens_per_minute, timeout, max_retries :
        As for a ChatModel. A request has up to `batch_size` texts.
    request_budget, token_budget, cost_budget, prices :
        As for a ChatModel; of `prices`, the first number counts.
    cache, mode :
        As for a ChatModel.

    Examples
    --------
    >>> from skllmreg.llm import EmbeddingModel
    >>> EmbeddingModel("text-embedding-3-small", dimensions=256)
    EmbeddingModel('text-embedding-3-small', dimensions=256)
    >>> model = EmbeddingModel("nomic-embed-text", base_url="http://localhost:11434/v1")
    >>> model.embed(["Where is my parcel?"]).shape  # doctest: +SKIP
    (1, 768)
    """

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        api_key_env: str | None = None,
        dimensions: int | None = None,
        batch_size: int = 64,
        request_options: dict[str, Any] | None = None,
        max_concurrency: int = 8,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        timeout: float = 60.0,
        max_retries: int = 5,
        request_budget: int | None = None,
        token_budget: int | None = None,
        cost_budget: float | None = None,
        prices: tuple[float, float] | dict[str, tuple[float, float]] | None = None,
        cache: Any = "default",
        mode: str = "live",
    ) -> None:
        self.model = model
        self.base_url = base_url
        self.api_key_env = api_key_env
        self.dimensions = dimensions
        self.batch_size = batch_size
        self.request_options = request_options
        self.max_concurrency = max_concurrency
        self.requests_per_minute = requests_per_minute
        self.tokens_per_minute = tokens_per_minute
        self.timeout = timeout
        self.max_retries = max_retries
        self.request_budget = request_budget
        self.token_budget = token_budget
        self.cost_budget = cost_budget
        self.prices = prices
        self.cache = cache
        self.mode = mode
        self._run = uuid.uuid4().hex

    def embed(self, texts: Iterable[str], *, progress: bool | None = None) -> np.ndarray:
        """Embed texts.

        Parameters
        ----------
        texts : list of str
            A text that is there twice is sent once.
        progress : bool, default=None
            None shows a bar after two seconds if stderr is a terminal.

        Returns
        -------
        ndarray of float32 of shape (n_texts, n_dimensions)
            As the server gives them; most give vectors of length 1.

        Raises
        ------
        InvalidReplyError
            At the end, if the server refuses a text, such as one that is too long, while it embeds
            others: `failures` has these by position, `replies` the vectors of the others.
        BudgetExceededError, CacheError, ReplayMissError, RequestError
            As soon as it happens; vectors that have arrived are kept.
        """
        texts = _checked(texts)
        vectors = self._vectors()
        different = [*dict.fromkeys(texts)]
        first = {text: i for i, text in reversed([*enumerate(texts)])}
        missing = vectors.recall(different)
        vectors.count_cached(len(different) - len(missing))
        failures: dict[int, InvalidReplyError] = {}
        with progress_bar(
            len(missing), progress, f"Embedding by {self.model}", unit="text"
        ) as tick:
            vectors.split(missing, self.batch_size)
            for task, outcome in vectors.outcomes():
                if isinstance(outcome, Obtained):
                    tick(len(task.messages))
                elif not _is_about_texts(outcome):
                    vectors.halt()
                    raise outcome
                elif len(task.messages) > 1:  # find out which of the texts it is about
                    vectors.split([m["content"] for m in task.messages], len(task.messages) // 2)
                else:
                    if len(failures) + 1 >= ENOUGH and not vectors.found:
                        vectors.halt()
                        raise outcome
                    text = task.messages[0]["content"]
                    failures[first[text]] = InvalidReplyError(
                        f"The server refuses it: {outcome}", problems=[str(outcome)]
                    )
        vectors.warn_of_news()
        if failures:
            found = [vectors.found.get(text) for text in texts]
            raise unusable_replies("Text", dict(sorted(failures.items())), found)
        return self._stack([vectors.found[text] for text in texts])

    def _stack(self, vectors: list[np.ndarray]) -> np.ndarray:
        lengths = sorted({len(vector) for vector in vectors})
        if len(lengths) > 1 or (self.dimensions and lengths and lengths != [self.dimensions]):
            wanted = f"{self.dimensions} numbers" if self.dimensions else "vectors of one length"
            raise LLMError(
                f"{self.model!r} gave vectors of {' and '.join(map(str, lengths))} numbers in "
                f"place of {wanted}: not every model takes `dimensions`."
            )
        length = lengths[0] if lengths else self.dimensions or 0
        return np.array(vectors, dtype=np.float32).reshape(len(vectors), length)

    def usage(self, *, this_run: bool = False) -> list[Usage]:
        """What the ledger of the cache file says, by day and model; see `ChatModel.usage`.

        Parameters
        ----------
        this_run : bool, default=False
            Only what this object and its copies have used.

        Returns
        -------
        list of Usage
        """
        store = open_store(self.cache, read_only=self.mode == "replay")
        return _ledger.usage(store, self._run if this_run else None)

    def _vectors(self) -> "Vectors":
        """Check all parameters, and open what vectors come from."""
        for name in ("dimensions", "batch_size"):
            value = getattr(self, name)
            if name == "dimensions" and value is None:
                continue
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name} is a whole number, 1 or more, got {value!r:.100}.")
        try:
            settings = self._settings()
        except ValueError as error:
            # Without the frames in whose variables a key may be that is refused here.
            raise error.with_traceback(None) from None
        store = open_store(self.cache, read_only=settings.replay)
        transport = Embeddings(settings.url, settings.api_key_env)
        return Vectors(settings, Question(), store, transport, 0)

    def _settings(self) -> Settings:
        params = self._params()
        dimensions = params.pop("dimensions")
        del params["batch_size"]
        if dimensions is not None:
            options = self.request_options
            if options is None or isinstance(options, dict):  # else it is refused as it is
                params["request_options"] = {**(options or {}), "dimensions": int(dimensions)}
        return Settings(**params, run=self._run)


def _checked(texts: Iterable[str]) -> list[str]:
    if isinstance(texts, (str, bytes)):
        raise TypeError(f"texts is a list of texts, got a single {type(texts).__name__}.")
    texts = list(texts)
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(f"Text {i} is not a str: {text!r:.100}.")
        if not text.strip():
            raise ValueError(f"Text {i} is blank: there is nothing to embed.")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"Text {i} holds a character that UTF-8 cannot encode, at position {error.start}."
            ) from None
    return texts


def _is_about_texts(error: Exception) -> bool:
    """Whether others of the texts may be taken; a key or the route is refused for all of them."""
    return isinstance(error, RequestError) and error.status in (400, 413, 422, 500)


@dataclass
class Vectors(Live):
    """Vectors of one model: requests have several texts, the cache has one in each entry.

    Attributes
    ----------
    found : dict of str to ndarray
        What is known so far, by text.
    """

    found: dict[str, np.ndarray] = field(default_factory=dict)

    @functools.cached_property
    def _identity(self) -> str:
        shared = [*self.settings.identity, self.options(0), None]
        return canonical(equal_form(shared))

    def options(self, top_logprobs: int) -> dict[str, Any]:
        # A chat model of the same name would answer the same text with words.
        return {"embedding": True, **self.settings.options}

    def key(self, messages: Messages, sample: int, top_logprobs: int | None = None) -> str:
        return cache_key(self._identity, messages, sample)

    def key_of(self, text: str) -> str:
        return self.key([_message(text)], 0)

    def recall(self, texts: list[str]) -> list[str]:
        """Take what the cache has, and return the texts that it lacks."""
        keys = {text: self.key_of(text) for text in texts}
        known = self.known(keys.values())
        for text, key in keys.items():
            if key in known:
                self.found[text] = _decode(known[key].text)
        return [text for text in texts if text not in self.found]

    def split(self, texts: list[str], size: int) -> None:
        """Submit requests for texts, so many in each, before those that were submitted earlier."""
        parts = [texts[i : i + size] for i in range(0, len(texts), size)]
        tasks = [Task(0, [_message(t) for t in part], 0, self.key_of(part[0])) for part in parts]
        self._todo.extendleft(reversed(tasks))

    def _forms(self, messages: Messages) -> Iterator[Request]:
        settings = self.settings
        yield Request(settings.model, messages, settings.options, settings.timeout)

    def _obtain(self, task: Task) -> Obtained:
        """Vectors of several texts, out of the cache or into it."""
        texts = [message["content"] for message in task.messages]
        if self.settings.replay:
            missing = next(m for m in task.messages if m["content"] not in self.found)
            raise ReplayMissError(
                describe_miss(self.store, self.settings, self.options(0), [missing], 0)
            )
        if not self.settings.caching:
            return self._embed(task, texts)
        mine, held = [], False
        for text in texts:
            lease = self.store.lease(self.key_of(text), self._holder)
            if lease is None:
                mine.append(text)
            elif lease is HELD:
                held = True  # another process is asking
            else:
                self.found[text] = _decode(lease.text)
        answer = Obtained(Record(""), 0.0, True, task.key)
        if mine:
            try:
                answer = self._embed(task, mine)
            finally:
                for text in mine:
                    if text not in self.found:
                        self.store.release(self.key_of(text), self._holder)
        if held:
            raise HeldError
        return answer

    def _embed(self, task: Task, texts: list[str]) -> Obtained:
        """Ask for vectors, and keep each for itself."""
        answer = self.ask(replace(task, messages=[_message(text) for text in texts]))
        for text, line in zip(texts, (answer.record.text or "").split("\n"), strict=True):
            if self.settings.caching:
                entry = replace(answer, record=Record(line, model=answer.record.model))
                one = replace(task, messages=[_message(text)], key=self.key_of(text))
                self._keep(one, replace(entry, key=one.key))
            self.found[text] = _decode(line)
        return answer


class Embeddings(ChatCompletions):
    """The embeddings of one server: the messages of a request are its texts."""

    def send(self, request: Request) -> Record:
        """Post texts; the text of the record has a line for each vector."""
        texts = [message["content"] for message in request.messages]
        body = {"model": request.model, "input": texts, **request.options}
        try:
            payload = self.post("/embeddings", body, request.timeout)
        except RequestError as error:
            if error.status == 501 and "--embeddings" in str(error):
                error.args = (f"{error} That is, LocalServer(..., embeddings=True).",)
            # llama.cpp says so of a text that is too long: the others are tried without it.
            error.transient &= error.status != 500 or len(texts) == 1
            raise
        lines = _read_lines(payload.get("data"))
        if len(lines) != len(texts) or None in lines:
            said = short_line(str(payload), 200)
            raise RequestError(
                f"{self.url} answered without {len(texts)} embeddings: {said}. Is "
                f"{request.model!r} an embedding model?",
                sent=True,
            )
        usage = payload.get("usage")
        tokens = usage.get("prompt_tokens") if isinstance(usage, dict) else None
        return Record(
            "\n".join(map(str, lines)),
            model=payload["model"] if isinstance(payload.get("model"), str) else None,
            prompt_tokens=as_count(tokens),
            completion_tokens=0,
        )


def _read_lines(data: Any) -> list[str | None]:
    """The vectors in the order of their texts, each as a line of text; None for what is not one."""
    items = [item for item in data if isinstance(item, dict)] if isinstance(data, list) else []
    items.sort(key=lambda item: as_count(item.get("index")) or 0)
    return [_encode(item.get("embedding")) for item in items]


def _message(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def _encode(vector: Any) -> str | None:
    """A vector as text: its numbers as 32-bit floats in base64; None if it is not one."""
    try:
        if isinstance(vector, str):  # some servers send just that
            vector = np.frombuffer(base64.b64decode(vector), dtype="<f4")
        numbers = np.asarray(vector, dtype="<f4")
    except (TypeError, ValueError):
        return None
    if numbers.ndim != 1 or not numbers.size or not np.isfinite(numbers).all():
        return None
    return base64.b64encode(numbers.tobytes()).decode()


def _decode(text: str | None) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text or ""), dtype="<f4")
