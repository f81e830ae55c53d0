"""Estimate what fits and searches ask of language models: run them with made-up answers, and count.

Every model in an estimator is replaced by a stand-in that notes what it is asked, looks up what the
cache has, and makes up the rest. So whatever an estimator does with its model is counted, in
pipelines and searches as well, and nothing is sent.
"""

import copy
import hashlib
import json
import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from skllmreg.exceptions import LLMError
from skllmreg.llm._adapt import as_chat
from skllmreg.llm._chat import GUESSED_COMPLETION, ChatModel
from skllmreg.llm._embed import EmbeddingModel
from skllmreg.llm._engine import Answering
from skllmreg.llm._ledger import seconds_for
from skllmreg.llm._probabilities import asked_for_labels, most_logprobs
from skllmreg.llm._settings import (
    Messages,
    as_conversations,
    canonical,
    estimate_tokens,
    number_samples,
)
from skllmreg.llm._values import (
    LabelProbabilities,
    Question,
    Quote,
    Reply,
    Task,
    answer_tokens,
)
from skllmreg.utils._progress import verbosity

# How often an answer is made up until it passes the checks of its reader.
TRIES = 40
# Parameters that hold functions of the user's, which may ask a model themselves.
FUNCTIONS = ("generator", "answer_check")
BASIS = (
    "made-up answers of the form that is asked for, all of them accepted; repairs, refused rows "
    "and thinking aloud come on top"
)


class Counter:
    """Requests and tokens that a stand-in has noted.

    Attributes
    ----------
    requests, cached, pending, prompt_tokens, completion_tokens : int
    """

    def __init__(self) -> None:
        self.requests = self.cached = self.pending = 0
        self.prompt_tokens = self.completion_tokens = 0
        self.seen: set[str] = set()

    def note(self, key: str, where: str, prompt_tokens: int, completion_tokens: int) -> None:
        """Count a prompt, once where it has a key: its answer would be kept.

        Parameters
        ----------
        key : str
            "" for an answer that is not kept.
        where : {"cached", "pending", ""}
            Where the answer is, or is to come, already.
        prompt_tokens, completion_tokens : int
        """
        if key and key in self.seen:
            return
        self.seen.add(key)
        self.cached += where == "cached"
        self.pending += where == "pending"
        if where:
            return
        self.requests += 1
        self.prompt_tokens += prompt_tokens
        self.completion_tokens += completion_tokens

    def quote(self, settings: Any, store: Any) -> Quote:
        """Put the counts into a quote, at the prices and the pace of a model."""
        n_tokens = self.prompt_tokens + self.completion_tokens
        return Quote(
            requests=self.requests,
            cached=self.cached,
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.completion_tokens,
            cost=settings.cost(self.prompt_tokens, self.completion_tokens),
            basis=BASIS,
            pending=self.pending,
            seconds=seconds_for(store, settings, self.requests, n_tokens),
        )


class StandIn(ChatModel):
    """A model that notes what it is asked and makes up the answers that the cache lacks.

    Parameters
    ----------
    llm : ChatModel or LanguageModel
        The model that it stands in for; it is never asked.
    """

    def __init__(self, llm: Any) -> None:
        self.real = as_chat(llm)
        super().__init__(
            self.real.model,
            temperature=self.real.temperature,
            cache=self.real.cache,
            delivery=self.real.delivery,
        )
        self.counter = Counter()

    def __deepcopy__(self, memo: Any) -> "StandIn":
        return self

    def refused(self) -> dict[str, str]:
        return self.real.refused()

    def usage(self, *, this_run: bool = False) -> list[Any]:
        return []

    def total(self) -> Quote:
        """What was noted so far."""
        obtain = self.real._obtain(Question())
        return self.counter.quote(obtain.settings, obtain.store)

    def note(
        self, conversations: list[Messages], question: Question, texts: Sequence[str | None]
    ) -> list[bool]:
        """Count prompts; return which of them the cache can answer.

        Parameters
        ----------
        conversations : list of list of {"role", "content"}
        question : Question
        texts : sequence of (str or None)
            The made-up answers, for their length; None for one of usual length.
        """
        obtain = self.real._obtain(question)
        store, settings = obtain.store, obtain.settings
        tasks: list[Task] = Answering(obtain).plan(conversations)
        stored = obtain.known(task.key for task in tasks)
        pending = obtain.pending(task.key for task in tasks)
        usual = GUESSED_COMPLETION
        if store is not None:
            usual = self.real._expected_completion(store, settings)[0]
        for task, text in zip(tasks, texts, strict=True):
            n_tokens = usual if text is None else min(usual_limit(settings), answer_tokens(text))
            prompt_tokens = estimate_tokens(task.messages, question.schema)
            key = task.key if store is not None and settings.caching else ""
            where = "pending" if task.key in pending else ""
            where = "cached" if task.key in stored else where
            self.counter.note(key, where, prompt_tokens, n_tokens)
        return [task.key in stored for task in tasks]

    def complete(
        self,
        prompts: Any,
        *,
        schema: Any = None,
        accept: Any = None,
        validate: Any = None,
        progress: Any = None,
        description: Any = None,
    ) -> list[Reply]:
        """Make up answers, all different, that the schema and the check let pass."""
        conversations, replies = as_conversations(prompts), []
        for messages, sample in zip(conversations, number_samples(conversations), strict=True):
            text = value = "made up"
            if schema is not None:
                text, value = made_up(schema, _rng(messages, sample), validate)
            replies.append(Reply(text, value, self.model, "stop", 0, 0, cost=0.0, cached=False))
        texts = [None if schema is None else reply.text for reply in replies]
        known = self.note(conversations, Question(schema), texts)
        if known and all(known):
            checks = {"schema": schema, "accept": accept, "validate": validate}
            replies = self._replayed("complete", conversations, **checks) or replies
        return replies

    def label_probabilities(
        self,
        prompts: Any,
        labels: list[str],
        *,
        n_samples: int = 5,
        method: str = "auto",
        answer_with: str = "auto",
        progress: Any = None,
        description: Any = None,
    ) -> LabelProbabilities:
        """Make up probabilities of labels."""
        conversations, labels = as_conversations(prompts), [str(label) for label in labels]
        asked, reader = asked_for_labels(conversations, labels, n_samples, method, answer_with)
        wanted = 0 if method == "votes" else most_logprobs(reader)
        if wanted:
            additions = getattr(self.real._obtain(Question()), "additions", None)
            wanted = 0 if additions is None else additions.allowed_logprobs(wanted)
        n_each = 1 if wanted or self.temperature == 0 else n_samples
        repeated = [messages for messages in asked for _ in range(n_each)]
        text = max(reader.codes or reader.labels, key=len)
        known = self.note(repeated, Question(top_logprobs=wanted), [text] * len(repeated))
        proba = np.array([_rng(m).dirichlet(np.full(len(labels), 0.3)) for m in asked])
        by, cached = np.full(len(asked), "logprobs" if wanted else "votes"), np.zeros(len(asked))
        rows = np.flatnonzero(np.reshape(known, (len(asked), n_each)).all(axis=1))
        if len(rows):
            options = {"n_samples": n_samples, "method": method, "answer_with": answer_with}
            found = self._replayed(
                "label_probabilities", [conversations[i] for i in rows], labels, **options
            )
            if found is not None:
                proba[rows], by[rows], cached[rows] = found.probabilities, found.method, True
        return LabelProbabilities(proba.reshape(len(asked), len(labels)), by, cached.astype(bool))

    def _replayed(self, name: str, *args: Any, **options: Any) -> Any:
        """What the cache answers, where it has all of it and all of it is of use."""
        real = self.real
        replay = ChatModel(**(real._params() | {"mode": "replay"}))
        try:
            return getattr(replay, name)(*args, **options)
        except LLMError:
            return None


class StandInEmbedding(EmbeddingModel):
    """An embedding model that notes what it is asked, and makes up all vectors.

    Parameters
    ----------
    model : EmbeddingModel
    """

    def __init__(self, model: EmbeddingModel) -> None:
        super().__init__(model.model, dimensions=model.dimensions, cache=None)
        self.real, self.counter = model, Counter()

    def __deepcopy__(self, memo: Any) -> "StandInEmbedding":
        return self

    def total(self) -> Quote:
        vectors = self.real._vectors()
        return self.counter.quote(vectors.settings, vectors.store)

    def embed(self, texts: Any, *, progress: bool | None = None) -> np.ndarray:
        texts, vectors = list(texts), self.real._vectors()
        keys = {text: vectors.key_of(text) for text in texts}
        stored = vectors.known(keys.values())
        fresh = [text for text, key in keys.items() if key not in self.counter.seen]
        new = [text for text in fresh if keys[text] not in stored]
        self.counter.seen.update(keys.values())
        self.counter.cached += len(fresh) - len(new)
        self.counter.requests += math.ceil(len(new) / self.real.batch_size)
        messages = [{"role": "user", "content": text} for text in new]
        self.counter.prompt_tokens += estimate_tokens(messages)
        made = [_rng([{"content": text}]).normal(size=self.dimensions or 64) for text in texts]
        return np.array(made, dtype=np.float32).reshape(len(texts), -1)


class StandInFunction:
    """Takes the place of a function of the user's, which might ask a model itself."""

    def __call__(self, items: Any) -> list[None]:
        return [None] * len(items)

    def __deepcopy__(self, memo: Any) -> "StandInFunction":
        return self


def is_stand_in(value: Any) -> bool:
    """Whether a fit is a rehearsal, by its `llm` or `generator`."""
    return isinstance(value, StandIn | StandInFunction)


class Quotes:
    """Estimator that says beforehand what its `fit` takes."""

    def quote(self, X: Any, y: Any = None, **fit_params: Any) -> Quote:
        """Estimate what `fit` would ask of the LLM; nothing is sent.

        A copy is fitted with made-up answers where the cache has none, which takes the time of a
        fit without the waiting. Calls that are allowed are all spent, and all rows that are
        written are accepted.

        Parameters
        ----------
        X, y, **fit_params
            As for `fit`.

        Returns
        -------
        Quote
        """
        from sklearn.base import clone

        return rehearse(clone(self), lambda model: model.fit(X, y, **fit_params))


def quote_search(
    search: Any,
    X: Any,
    y: Any = None,
    *,
    cv: Any = None,
    scoring: Any = None,
    groups: Any = None,
    **fit_params: Any,
) -> Quote:
    """Estimate what a search, a cross-validation or any fit would ask of LLMs; nothing is sent.

    Everything runs once, one fit after the other, with made-up answers where the cache has none:
    it takes the time of the search without the waiting for the LLM. What several folds and settings
    ask alike is counted once, where the model has a cache. Functions of yours other than
    `generator` and `answer_check` are called.

    Parameters
    ----------
    search : estimator
        A search such as :class:`~sklearn.model_selection.GridSearchCV`, a pipeline, or an
        estimator.
    X, y
        As for its `fit`.
    cv : int, splitter or iterable, default=None
        Quote :func:`~sklearn.model_selection.cross_val_score` of the estimator. None: its `fit`.
    scoring : str or callable, default=None
        As for `cross_val_score`; only with `cv`.
    groups : array-like of shape (n_samples,), default=None
        As for `cross_val_score`; only with `cv`.
    **fit_params
        As for `fit`.

    Returns
    -------
    Quote
        Of all models together.

    Examples
    --------
    >>> from sklearn.model_selection import GridSearchCV
    >>> from skllmreg import ChatModel, LLMTeacherClassifier
    >>> from skllmreg.llm import quote_search
    >>> teacher = LLMTeacherClassifier(
    ...     ChatModel("gpt-4.1-mini", prices=(0.4, 1.6), cache=None),
    ...     task="Sort messages to the help desk.",
    ...     class_descriptions={"refund": "wants money back", "delivery": "asks for a parcel"},
    ... )
    >>> texts = ["Where is my parcel?", "Refund me", "It is late", "Money back!"] * 3
    >>> labels = ["delivery", "refund"] * 6
    >>> search = GridSearchCV(teacher, {"calibration": [None, "batch"]}, cv=3)
    >>> quote_search(search, texts, labels).requests
    24
    """

    def run(model: Any) -> None:
        if cv is None:
            model.fit(X, y, **fit_params)
            return
        from sklearn.model_selection import cross_validate

        params = fit_params or None
        scores = {"scoring": scoring, "groups": groups, "params": params, "error_score": "raise"}
        cross_validate(model, X, y, cv=cv, **scores)

    return rehearse(search, run)


def rehearse(estimator: Any, run: Callable[[Any], Any]) -> Quote:
    """Run something with a copy of an estimator whose models are stand-ins.

    Parameters
    ----------
    estimator : estimator
        Left as it is.
    run : callable
        Takes the copy.
    """
    import joblib

    stand_ins, memo = _stand_ins(estimator)
    copied = copy.deepcopy(estimator, memo)
    for one in _parts(copied):
        if isinstance(getattr(one, "model", None), StandInEmbedding) and hasattr(one, "cache"):
            one.cache = None  # made-up vectors are kept nowhere
        if getattr(one, "error_score", "raise") != "raise":
            one.error_score = "raise"  # a fit that fails would count as little
    # Other processes could not tell what they have counted.
    sequential = joblib.parallel_config(backend="sequential")
    with warnings.catch_warnings(), verbosity(False), sequential:
        warnings.simplefilter("ignore")
        run(copied)
    return add_quotes([one.total() for one in stand_ins])


def add_quotes(quotes: list[Quote]) -> Quote:
    """Sum up quotes of several models; what one cannot say, the sum cannot."""

    def total(name: str) -> Any:
        values = [getattr(quote, name) for quote in quotes]
        return None if None in values else sum(values)

    if not quotes:
        return Quote(0, 0, 0, 0, 0.0, "no model is asked", seconds=0.0)
    names = ["requests", "cached", "pending", "prompt_tokens", "completion_tokens"]
    names += ["cost", "seconds"]
    return Quote(**{name: total(name) for name in names}, basis=BASIS)


def _parts(estimator: Any) -> list[Any]:
    """The estimator and all estimators in it, fitted ones, and those in lists and grids as well."""
    found: list[Any] = []
    todo, seen = [estimator], set()
    while todo:
        one = todo.pop()
        if id(one) in seen or isinstance(one, str | bytes | int | float | type | np.ndarray):
            continue
        seen.add(id(one))
        if isinstance(one, dict):
            todo += one.values()
        elif isinstance(one, list | tuple):
            todo += one
        elif hasattr(one, "get_params"):
            found.append(one)
            todo += vars(one).values()
    return found


def _stand_ins(estimator: Any) -> tuple[list[Any], dict[int, Any]]:
    """A stand-in for each model in an estimator, and which objects a deep copy takes for which."""
    stand_ins: dict[int, Any] = {}
    memo: dict[int, Any] = {}
    values: list[tuple[str, Any]] = []
    for one in _parts(estimator):
        for name, value in vars(one).items():
            listed = value if isinstance(value, list | tuple) else [value]
            if isinstance(value, dict):
                nested = [v if isinstance(v, list | tuple) else [v] for v in value.values()]
                listed = [v for some in nested for v in some]
            values += [(name, v) for v in listed]
        for name in getattr(one, "_shared_by_clones", ()):
            value = getattr(one, name)
            if value is not None and not hasattr(value, "get_params"):
                memo[id(value)] = value  # as in a clone
    for name, value in values:
        if isinstance(value, type) or id(value) in stand_ins:
            continue
        if isinstance(value, EmbeddingModel):
            stand_ins[id(value)] = StandInEmbedding(value)
        elif hasattr(value, "complete"):
            stand_ins[id(value)] = StandIn(value)
        elif name in FUNCTIONS and callable(value):
            memo[id(value)] = StandInFunction()
    return list(stand_ins.values()), memo | stand_ins


def made_up(
    schema: dict[str, Any], rng: np.random.Generator, validate: Any = None
) -> tuple[str, Any]:
    """A text that a schema lets pass, and what the check behind it makes of it."""
    problem: ValueError | None = None
    for attempt in range(1, TRIES + 1):
        value = _instance(schema, rng, attempt)
        try:
            return json.dumps(value), value if validate is None else validate(value)
        except ValueError as error:
            problem = error
    raise ValueError(f"No answer can be made up that is of use: {problem}") from problem


def _instance(schema: dict[str, Any], rng: np.random.Generator, attempt: int) -> Any:
    """A value that follows a schema; of later attempts, with smaller numbers and shorter lists."""
    if choices := schema.get("enum"):
        return choices[rng.integers(len(choices))]
    if "const" in schema:
        return schema["const"]
    if options := schema.get("anyOf"):
        return _instance(options[0], rng, attempt)
    kind = schema.get("type")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "object":
        return {k: _instance(s, rng, attempt) for k, s in schema.get("properties", {}).items()}
    if kind == "array":
        least = schema.get("minItems", 0)
        n = max(least, min(schema.get("maxItems", 8), 8) if attempt == 1 else least)
        if attempt == 2:
            n = max(least, 1)
        return [_instance(schema.get("items", {}), rng, attempt) for _ in range(n)]
    if kind in ("integer", "number"):
        low, high = schema.get("minimum", 0), schema.get("maximum", 1)
        value = low + (max(high, low) - low) * rng.random() ** attempt
        return round(value) if kind == "integer" else round(float(value), 3)
    if kind == "boolean":
        return bool(rng.integers(2))
    if kind == "null":
        return None
    return " ".join(f"word{n}" for n in rng.integers(1000, size=4))


def usual_limit(settings: Any) -> int:
    """The limit on the tokens of an answer that the user has set."""
    limits = [settings.options.get(name) for name in ("max_completion_tokens", "max_tokens")]
    return min([limit for limit in limits if isinstance(limit, int)], default=2**31)


def _rng(messages: Any, sample: int = 0) -> np.random.Generator:
    """Draws that are the same for the same prompt, as answers of a cache are."""
    digest = hashlib.sha256(f"{canonical(messages)} {sample}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big"))
