"""Ask a chat model: `ChatModel`, the public value that holds which model, how, and for how much."""

import math
import uuid
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from skllmreg.llm import _ledger
from skllmreg.llm._batch import BatchJobs
from skllmreg.llm._engine import Answering
from skllmreg.llm._obtain import Live
from skllmreg.llm._probabilities import label_probabilities
from skllmreg.llm._settings import (
    Settings,
    as_conversations,
    estimate_tokens,
)
from skllmreg.llm._store import open_store
from skllmreg.llm._transport import ChatCompletions
from skllmreg.llm._values import (
    LabelProbabilities,
    ModelValue,
    Question,
    Quote,
    Reply,
    Usage,
)
from skllmreg.utils._json import check_schema

GUESSED_COMPLETION = 256


class ChatModel(ModelValue):
    """A model behind any server that speaks OpenAI's chat completions.

    A plain value: it holds its parameters and nothing else, so that it clones, copies, pickles,
    compares and prints; connections and the open cache file belong to the process. The key is read
    from the environment when a call is made.

    Parameters
    ----------
    model : str
        Name of the model as the server knows it.
    base_url : str, default=None
        Address of the server, such as ``"http://localhost:8000/v1"``; None is OpenAI.
        ``OPENAI_BASE_URL`` and the other variables of the openai package are ignored.
    api_key_env : str, default=None
        Name of the environment variable that holds the key; it is sent to `base_url`. With None,
        ``OPENAI_API_KEY`` is sent to OpenAI's own address, and a dummy key anywhere else.
    temperature : float, default=None
        None leaves it to the server.
    request_options : dict, default=None
        More fields of the request, such as ``{"max_tokens": 200, "seed": 0}``; also
        ``extra_headers``. They are part of the cache key.
    max_concurrency : int, default=8
        Requests at the same time; fewer, for a while, after one that has timed out.
    requests_per_minute, tokens_per_minute : float, default=None
        Limits, shared by all processes that use the same cache file.
    timeout : float, default=60.0
        Seconds for which a server may be silent: without a word of this answer, or of one that was
        asked for before it and may be first in line. A request that times out is repeated with
        twice the time. An answer that keeps coming may take ten times as long.
    max_retries : int, default=5
        How often a request is repeated where that can help: 408, 409, 429, 5xx, lost connections,
        malformed replies. Retry-After is honored up to an hour.
    request_budget : int, default=None
        Requests that this object and its copies may send in all, in this and other processes;
        repetitions and weaker forms of a request count, too.
    token_budget : int, default=None
        Tokens, of prompts and answers, that they may take.
    cost_budget : float, default=None
        Dollars that they may cost; needs `prices`.
    prices : tuple of float or dict of such, default=None
        Dollars per million prompt tokens and per million completion tokens, or
        ``{model: (prompt, completion)}``.
    cache : str, path or None, default="default"
        File that keeps the answers and the ledger. "default" is ``SKLLMREG_CACHE``, else
        ``skllmreg/llm.sqlite3`` in the user's folder for caches. None keeps nothing.
    mode : {"live", "replay"}, default="live"
        With "replay", answers come from the cache alone, and the file is not changed.
    transport : object, default=None
        What asks the model in place of HTTP: its method ``send(request)`` takes a
        :class:`Request`, from several threads at once, and returns a :class:`Record` or raises a
        :class:`~skllmreg.exceptions.RequestError`. None is OpenAI's chat completions at
        `base_url`. Cache, budgets, retries and repairs are the same for all transports.
    delivery : {"live", "batch"}, default="live"
        With "batch", what the cache lacks is asked for by batch jobs (OpenAI's files and batches),
        which a server answers within a day at half of `prices`. A job is written down in the cache
        file and survives this process: the same call, in any later process, goes on with it. The
        answers are those of a live model, and shared with it; but a live call does not wait for a
        job that has its prompts. Rates and `max_concurrency` are for live requests.
    batch_wait : bool, default=True
        Whether a call waits for its jobs. If False, it submits them, takes what is done, and raises
        a :class:`~skllmreg.exceptions.BatchPendingError` as long as something is missing.
    batch_repairs : {"live", "batch"}, default="live"
        How an answer of no use is asked for again: at once, at the full price, or in a next job.

    Notes
    -----
    A budget belongs to the constructed object and all its copies, whether made by
    :func:`sklearn.base.clone`, by pickling or for the workers of ``n_jobs``; a new object starts
    afresh. Tokens and cost are reserved before a request is sent, with the number of
    ``max_tokens`` (or ``max_completion_tokens``) in `request_options` for its answer; without it,
    answers longer than expected may exceed the budget by what is under way.

    Examples
    --------
    >>> from skllmreg.llm import ChatModel
    >>> chat = ChatModel("llama3.2", base_url="http://localhost:11434/v1", temperature=0)
    >>> chat
    ChatModel('llama3.2', base_url='http://localhost:11434/v1', temperature=0)
    >>> replies = chat.complete(["What is the capital of France?"])  # doctest: +SKIP
    >>> replies[0].text  # doctest: +SKIP
    'Paris.'
    """

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        api_key_env: str | None = None,
        temperature: float | None = None,
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
        transport: Any = None,
        delivery: str = "live",
        batch_wait: bool = True,
        batch_repairs: str = "live",
    ) -> None:
        self.model = model
        self.base_url = base_url
        self.api_key_env = api_key_env
        self.temperature = temperature
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
        self.transport = transport
        self.delivery = delivery
        self.batch_wait = batch_wait
        self.batch_repairs = batch_repairs
        self._run = uuid.uuid4().hex

    def complete(
        self,
        prompts: Iterable[Any],
        *,
        schema: dict[str, Any] | None = None,
        accept: dict[str, Any] | None = None,
        validate: Callable[[Any], Any] | None = None,
        progress: bool | None = None,
        description: str | None = None,
    ) -> list[Reply]:
        """Answer prompts, in their order, each paid for once.

        Parameters
        ----------
        prompts : list of (str or list of {"role", "content"})
            A prompt that occurs several times is answered by as many independent samples.
        schema : dict, default=None
            JSON schema of the answer: objects, arrays, numbers with bounds, strings, booleans,
            enums.
        accept : dict, default=None
            A laxer schema than the one asked for, where a part of an answer is of use as well.
        validate : callable, default=None
            Takes the value of a reply (the text without a schema) and returns what becomes
            `Reply.value`; a ValueError says to the model what is wrong.
        progress : bool, default=None
            None shows a bar after two seconds if stderr is a terminal.
        description : str, default=None
            What the bar says.

        Returns
        -------
        replies : list of Reply

        Raises
        ------
        InvalidReplyError
            At the end, if a reply is still wrong after two repair rounds, was cut off (without a
            schema, or within its JSON), or is a refusal, or if the server refuses a prompt (it is
            too long, or filtered) while it answers others; the other prompts are answered first.
        NoAnswerError
            After some 20 replies, if all of them are unusable; an `InvalidReplyError`.
        BatchPendingError
            With ``batch_wait=False``, while jobs are not done.
        BudgetExceededError, CacheError, ReplayMissError, RequestError
            As soon as it happens; what is under way is waited for and kept. A server that refuses
            all prompts is a `RequestError`, too.

        All of them carry `replies`, with None for what is missing.
        """
        if accept is not None and schema is None:
            raise ValueError("accept= goes with schema=, which the LLM is asked for.")
        for name, given in (("schema", schema), ("accept", accept)):
            if given is not None:
                check_schema(given, name)
        obtain = self._obtain(Question(schema))
        answering = Answering(obtain, accept or schema, validate)
        return answering.run(as_conversations(prompts), progress, description)

    def label_probabilities(
        self,
        prompts: Iterable[Any],
        labels: list[str],
        *,
        n_samples: int = 5,
        method: str = "auto",
        answer_with: str = "auto",
        progress: bool | None = None,
        description: str | None = None,
    ) -> LabelProbabilities:
        """Probabilities of labels as the answer to each prompt.

        Parameters
        ----------
        prompts : list of (str or list of {"role", "content"})
            Each ends with the question. How to answer is said first, in a system turn: what the
            prompts of a call share stays at their beginning, where servers keep it.
        labels : list of str
            What the model chooses from.
        n_samples : int, default=5
            Answers for each prompt where votes are counted; one at temperature 0.
        method : {"auto", "logprobs", "votes"}, default="auto"
            "logprobs": the probabilities of the tokens with which the answer names a label,
            renormalized over the labels. A label among none of the likely tokens that the server
            tells has probability 0. "votes": shares among `n_samples` answers. "auto": the former,
            and the latter for prompts where the server tells no log-probabilities.
        answer_with : {"auto", "name", "code"}, default="auto"
            "name": the label itself, which small models do better. "code": a letter for each label,
            or a number where there are more than 26, which are voted on. "auto": the names if they
            can be told apart by their first tokens in any vocabulary: two names in ASCII letters
            that share at most their first two letters, and of which neither begins the other.
        progress, description
            As in `complete`.

        Returns
        -------
        LabelProbabilities
            With the probabilities and the method of each row.

        Raises
        ------
        InvalidReplyError
            At the end, if a prompt is refused or its answer is not a label after two repair rounds:
            `failures` has these by position, `replies` the rows of the others.
        """
        return label_probabilities(
            self,
            as_conversations(prompts),
            labels,
            n_samples=n_samples,
            method=method,
            answer_with=answer_with,
            progress=progress,
            description=description,
        )

    def quote(self, prompts: Iterable[Any], *, schema: dict[str, Any] | None = None) -> Quote:
        """Estimate what `complete` would take; nothing is sent.

        Parameters
        ----------
        prompts, schema
            As for `complete`.

        Returns
        -------
        Quote

        Examples
        --------
        >>> from skllmreg.llm import ChatModel
        >>> chat = ChatModel("tiny", prices=(0.4, 1.6), cache=None)
        >>> chat.quote(["What is the capital of France?"] * 100).requests
        100
        """
        if schema is not None:
            check_schema(schema, "schema")
        obtain = self._obtain(Question(schema))
        tasks = Answering(obtain).plan(as_conversations(prompts))
        found = obtain.known(task.key for task in tasks)
        missing = [task for task in tasks if task.key not in found]
        pending = obtain.pending(task.key for task in missing)
        missing = [task for task in missing if task.key not in pending]
        prompt_tokens = sum(estimate_tokens(task.messages, schema) for task in missing)
        n_each, basis = self._expected_completion(obtain.store, obtain.settings)
        return Quote(
            requests=len(missing),
            cached=len(tasks) - len(missing) - len(pending),
            prompt_tokens=prompt_tokens,
            completion_tokens=n_each * len(missing),
            cost=obtain.settings.cost(prompt_tokens, n_each * len(missing)),
            basis=basis,
            pending=len(pending),
            seconds=_ledger.seconds_for(
                obtain.store, obtain.settings, len(missing), prompt_tokens + n_each * len(missing)
            ),
        )

    def usage(self, *, this_run: bool = False) -> list[Usage]:
        """What the ledger of the cache file says, by day and model.

        Parameters
        ----------
        this_run : bool, default=False
            Only what this object and its copies have used.

        Returns
        -------
        list of Usage

        Examples
        --------
        >>> from skllmreg.llm import ChatModel
        >>> ChatModel("tiny", cache=None).usage(this_run=True)
        []
        """
        store = open_store(self.cache, read_only=self.mode == "replay")
        return _ledger.usage(store, self._run if this_run else None)

    def refused(self) -> dict[str, str]:
        """What the server of this model is known not to take, and what that costs.

        It is found out by the way, where a request is refused and answered without an addition,
        and is forgotten after a day.

        Returns
        -------
        dict of str to str
            "schema", "system", "stream" and "logprobs" are possible names.

        Examples
        --------
        >>> from skllmreg.llm import ChatModel
        >>> ChatModel("tiny", cache=None).refused()
        {}
        """
        levels = self._obtain(Question()).additions.refused()
        return {name: _ledger.LESS[name][level] for name, level in levels.items()}

    def _obtain(self, question: Question, *, live: bool = False) -> Live:
        """Check all parameters, and open what answers come from."""
        try:
            settings = Settings(**self._params(), run=self._run)
        except ValueError as error:
            # Without the frames in whose variables a key may be that is refused here.
            raise error.with_traceback(None) from None
        store = open_store(self.cache, read_only=settings.replay)
        transport = self.transport or ChatCompletions(settings.url, settings.api_key_env)
        if live:
            settings = replace(settings, delivery="live")
        kind = BatchJobs if settings.delivery == "batch" and not settings.replay else Live
        expected = self._expected_completion(store, settings)[0]
        return kind(settings, question, store, transport, expected)

    def _expected_completion(self, store: Any, settings: Settings) -> tuple[int, str]:
        options = settings.options
        for name in ("max_completion_tokens", "max_tokens"):
            if isinstance(options.get(name), int):
                return options[name], f"{name} of request_options"
        mean, n = _ledger.mean_completion(store, settings)
        if n and mean:
            return math.ceil(mean), f"the mean of {n:,} earlier requests"
        return GUESSED_COMPLETION, f"a guess of {GUESSED_COMPLETION} for each answer"
