"""One call of `ChatModel.complete`: from prompts to replies, through cache, budget and threads."""

import json
import logging
import random
import threading
import time
import uuid
import warnings
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any

from skllmreg.exceptions import (
    AnswerNotStoredWarning,
    BudgetExceededError,
    CacheError,
    InvalidReplyError,
    LLMError,
    ReplayMissError,
    RequestError,
)
from skllmreg.llm import _cache, _client, _ledger, _limits
from skllmreg.llm._json import UnusableError, parse_json
from skllmreg.llm._nearest import describe_miss
from skllmreg.llm._prompts import (
    Messages,
    cache_key,
    canonical,
    estimate_tokens,
    number_samples,
)
from skllmreg.llm._reply import Reply
from skllmreg.llm._structured import ask_structured

MAX_REPAIRS = 2
# Seconds between looks at prompts that another process is asking.
POLL = 0.05

_logger = logging.getLogger("skllmreg.llm")


class _StoppedError(Exception):
    """The call has ended while a thread was waiting."""


class _HeldError(Exception):
    """Another process is asking this prompt."""


@dataclass(frozen=True)
class Task:
    index: int
    messages: Messages
    sample: int
    key: str


@dataclass
class Call:
    """What all prompts of one call have in common.

    Parameters
    ----------
    url, api_key_env, timeout, max_retries, max_concurrency :
        Of the ChatModel.
    model : str
        The model that is asked.
    options : dict
        What goes into the request beside model and messages.
    schema : dict or None
        What the reply must follow.
    validate : callable or None
        Further checks of the value.
    store : Store
        With the cache and the ledger.
    account : Account
        Who pays.
    caching, replay : bool
        Whether answers are kept; whether they may come from the cache only.
    expected_completion : int
        Tokens that are reserved for an answer.
    """

    url: str
    api_key_env: str | None
    timeout: float
    max_retries: int
    max_concurrency: int
    model: str
    options: dict[str, Any]
    schema: dict[str, Any] | None
    validate: Callable[[Any], Any] | None
    store: _cache.Store
    account: _ledger.Account
    caching: bool
    replay: bool
    expected_completion: int
    holder: str = field(default_factory=lambda: uuid.uuid4().hex)
    stop: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.identity = canonical([self.url, self.model, self.options, self.schema])

    def tasks(self, conversations: list[Messages]) -> list[Task]:
        samples = number_samples(conversations)
        return [
            Task(i, messages, sample, cache_key(self.identity, messages, sample))
            for i, (messages, sample) in enumerate(zip(conversations, samples, strict=True))
        ]

    def run(self, tasks: list[Task], tick: Callable[[int], object]) -> list[Any]:
        """Answer all tasks; raise at the end what went wrong, with the replies that came."""
        replies: list[Reply | None] = [None] * len(tasks)
        failures: dict[int, LLMError] = {}
        found = self.store.lookup(task.key for task in tasks) if self.caching else {}
        todo: deque[Task] = deque()
        for task in tasks:
            record = found.get(task.key)
            if record is None:
                todo.append(task)
                continue
            try:
                value = self._check(record)
            except (UnusableError, InvalidReplyError):
                todo.append(task)  # a thread goes through its repair rounds
            else:
                replies[task.index] = self._reply([record], value, [0.0], cached=True)
        tick(len(tasks) - len(todo))
        try:
            if todo:
                self._run_threads(todo, replies, failures, tick)
        finally:
            self._count_cached(replies)
        if failures:
            raise self._summary(failures, tasks[min(failures)].key, replies)
        return replies

    def _run_threads(self, todo, replies, failures, tick) -> None:
        """Keep `max_concurrency` threads busy; an error that concerns all prompts ends it."""
        results: SimpleQueue = SimpleQueue()
        held: list[Task] = []
        running, room, fatal = 0, self.max_concurrency, None
        renewed = polled = time.monotonic()
        with ThreadPoolExecutor(self.max_concurrency, "skllmreg") as pool:
            try:
                while todo or held or running:
                    while todo and running < room:
                        task = todo.popleft()
                        pool.submit(self._work, task, room == 1, results)
                        running += 1
                    now = time.monotonic()
                    if now - renewed > _cache.LEASE / 5 and self.caching:
                        self.store.renew(self.holder)
                        renewed = now
                    if held and now - polled > POLL:
                        todo.extend(held)
                        held.clear()
                        polled = now
                        continue
                    try:
                        task, alone, outcome = results.get(
                            timeout=POLL if held else _cache.LEASE / 5
                        )
                    except Empty:
                        continue
                    running -= 1
                    if isinstance(outcome, Reply):
                        replies[task.index] = outcome
                        room = self.max_concurrency
                        tick(1)
                    elif isinstance(outcome, _HeldError):
                        held.append(task)
                    elif isinstance(outcome, InvalidReplyError):
                        failures[task.index] = outcome
                        tick(1)
                    elif isinstance(outcome, BudgetExceededError) and not alone and not fatal:
                        # What is under way may take less than was reserved for it: go on one by
                        # one, and stop when not even that is possible.
                        todo.appendleft(task)
                        room = 1
                    else:
                        fatal = fatal or (task.index, outcome)
                        self.stop.set()
                        todo.clear()
                        held.clear()
            except BaseException:
                self.stop.set()
                raise
        if fatal:
            raise self._explain(*fatal, replies)

    def _work(self, task: Task, alone: bool, results: SimpleQueue) -> None:
        outcome: Any
        try:
            outcome = self._answer(task)
        except Exception as error:
            outcome = error
        results.put((task, alone, outcome))

    def _answer(self, task: Task) -> Reply:
        """Ask, check, and tell the model what was wrong; runs in a thread."""
        messages, key = task.messages, task.key
        records, costs, all_cached = [], [], True
        for n_repairs in range(MAX_REPAIRS + 1):
            record, cost, cached = self._fetch(key, messages, task.sample)
            records.append(record)
            costs.append(cost)
            all_cached &= cached
            try:
                value = self._check(record)
            except UnusableError as error:
                problems = error.problems
            else:
                return self._reply(records, value, costs, cached=all_cached)
            if n_repairs < MAX_REPAIRS:
                messages = self._repair(messages, record["text"], problems)
                key = cache_key(self.identity, messages, task.sample)
        raise _invalid(record, problems, f"after {MAX_REPAIRS} repair rounds it is still wrong")

    def _check(self, record: dict[str, Any]) -> Any:
        """The value of a reply; UnusableError where another try may help."""
        text, reason = record["text"], record["finish_reason"]
        if record["refusal"] or reason == "content_filter":
            problem = record["refusal"] or text or "content filter"
            raise _invalid(record, [str(problem)], "the model refuses to answer")
        if not text:
            hint = ": a larger max_tokens in request_options may help" if reason == "length" else ""
            raise _invalid(record, [f"finish_reason {reason!r}"], f"it is empty{hint}")
        try:
            value = text if self.schema is None else parse_json(text, self.schema)
            return value if self.validate is None else self._validated(value)
        except UnusableError as error:
            if reason == "length":
                raise _invalid(
                    record, error.problems, "it was cut off: raise max_tokens in request_options"
                ) from None
            raise

    def _validated(self, value: Any) -> Any:
        assert self.validate is not None
        try:
            return self.validate(value)
        except UnusableError:
            raise
        except ValueError as error:
            raise UnusableError([str(error)]) from error

    def _repair(self, messages: Messages, text: str, problems: list[str]) -> Messages:
        complaint = "That reply cannot be used:\n" + "\n".join(f"- {p}" for p in problems[:50])
        if self.schema is not None:
            complaint += (
                "\nAnswer again, with nothing but one JSON value that follows this JSON schema:\n"
                + json.dumps(self.schema)
            )
        else:
            complaint += "\nAnswer again."
        return [
            *messages,
            {"role": "assistant", "content": text},
            {"role": "user", "content": complaint},
        ]

    def _reply(self, records, value, costs, *, cached: bool) -> Reply:
        def total(name: str) -> int | None:
            counts = [record[name] for record in records]
            return None if None in counts else sum(counts)

        record = records[-1]
        return Reply(
            text=record["text"],
            value=value,
            model=record["model"] or self.model,
            finish_reason=record["finish_reason"],
            prompt_tokens=total("prompt_tokens"),
            completion_tokens=total("completion_tokens"),
            cost=None if None in costs or self.account.prices is None else sum(costs),
            cached=cached,
            n_repairs=len(records) - 1,
            logprobs=record["logprobs"],
        )

    def _fetch(self, key: str, messages: Messages, sample: int) -> tuple[dict, float | None, bool]:
        """The record of one answer, its cost, and whether it was there already."""
        if self.replay:
            record = self.store.lookup([key]).get(key)
            if record is None:
                raise ReplayMissError(
                    describe_miss(self.store, self.url, self.model, self.options, messages, sample)
                )
            return record, 0.0, True
        if not self.caching:
            record, cost = self._ask(messages)
            return record, cost, False
        found = self.store.lease(key, self.holder)
        if found is _cache.HELD:
            raise _HeldError
        if found is not None:
            return found, 0.0, True
        try:
            record, cost = self._ask(messages)
        except BaseException:
            self.store.release(key, self.holder)
            raise
        request = {
            "messages": messages,
            "options": self.options,
            "schema": self.schema,
            "sample": sample,
        }
        try:
            self.store.put(key, self.url, self.model, request, record)
        except CacheError as error:
            warnings.warn(
                f"An answer was paid for but is not stored: {error}",
                AnswerNotStoredWarning,
                stacklevel=2,
            )
        return record, cost, False

    def _ask(self, messages: Messages) -> tuple[dict[str, Any], float | None]:
        """One answer from the server, with retries where they can succeed."""
        prompt_tokens = estimate_tokens(messages, self.schema)
        for n_failures in range(self.max_retries + 1):
            if self.stop.is_set():
                raise _StoppedError
            reservation = _ledger.reserve(
                self.store, self.account, prompt_tokens, self.expected_completion
            )
            try:
                self._wait_until(reservation.start)
            except _StoppedError:
                _ledger.settle(self.store, self.account, reservation, None, refused=True)
                raise
            sent = time.time()
            try:
                record = ask_structured(
                    self._send, self.url, self.model, messages, self.options, self.schema
                )
            except RequestError as error:
                # A status is a refusal; without one, the answer may be on the bill.
                refused = error.status is not None or not error.transient
                _ledger.settle(self.store, self.account, reservation, None, refused=refused)
                if not error.transient or n_failures == self.max_retries:
                    raise
                self._wait_after(error, sent, n_failures)
            else:
                used = _used_tokens(record, prompt_tokens)
                return record, self._settle_quietly(reservation, used)
        raise AssertionError("unreachable")

    def _settle_quietly(self, reservation, used) -> float | None:
        # The answer is paid for: nothing may keep it from its caller.
        try:
            return _ledger.settle(self.store, self.account, reservation, used)
        except CacheError:
            return self.account.cost(*used)

    def _send(self, body: dict[str, Any]) -> dict[str, Any]:
        return _client.send(self.url, self.api_key_env, self.timeout, body)

    def _wait_after(self, error: RequestError, sent: float, n_failures: int) -> None:
        if (error.retry_after or 0.0) > _limits.LONGEST_PAUSE:
            raise error
        if error.status == 429:
            _ledger.slow_down(self.store, self.account, sent, error.retry_after)
            if (error.retry_after or 0.0) > 30.0:
                _logger.warning("%s asks for a pause of %g s", self.url, error.retry_after)
            return  # the pause is everybody's, and the next reservation knows it
        backoff = min(_limits.FIRST_PAUSE * 2.0**n_failures, 8.0) * random.uniform(0.75, 1.0)
        self._wait_until(time.time() + max(error.retry_after or 0.0, backoff))

    def _wait_until(self, moment: float) -> None:
        """Wait for one's turn, and for the end of a pause that was called meanwhile."""
        while (seconds := moment - time.time()) > 0:
            if self.stop.wait(seconds):
                raise _StoppedError
            moment = max(moment, _ledger.blocked_until(self.store, self.account))

    def _count_cached(self, replies: list[Reply | None]) -> None:
        n_cached = sum(reply is not None and reply.cached for reply in replies)
        if n_cached and not self.replay:
            _ledger.count_cached(self.store, self.account, n_cached)

    def _explain(self, index: int, error: BaseException, replies) -> BaseException:
        """Say what was done and how to go on."""
        if not isinstance(error, LLMError):
            return error
        n_done = sum(reply is not None for reply in replies)
        done = f"{n_done:,} of {len(replies):,} prompts are answered"
        if self.caching and not self.replay:
            done += (
                f" and kept in {self.store.path}: run again, and they cost nothing. "
                if n_done
                else ". "
            )
        else:
            done += ". "
        if isinstance(error, BudgetExceededError):
            done += "A new ChatModel starts a new count; give it a larger budget to go on."
        error.replies = replies
        error.args = (f"Prompt {index}: {error.args[0]} {done}".strip(),)
        return error

    def _summary(self, failures: dict[int, LLMError], key: str, replies) -> LLMError:
        index = min(failures)
        error = failures[index]
        error.replies = replies
        head = f"Prompt {index}: {error.args[0]}"
        if len(failures) > 1:
            head = f"{len(failures):,} of {len(replies):,} replies are unusable. First, {head}"
        if self.caching:
            head += (
                " The reply is kept, and the same request gets it again: change the prompt, or "
                f"`python -m skllmreg cache prune --file {self.store.path} --key {key[:12]}`."
            )
        error.args = (head,)
        return error


def _invalid(record: dict[str, Any], problems: list[str], what: str) -> InvalidReplyError:
    text = record["text"] or ""
    return InvalidReplyError(
        f"The reply cannot be used, {what}: {'; '.join(problems)}. It reads: {text[:500]!r}.",
        reply=text,
        problems=problems,
    )


def _used_tokens(record: dict[str, Any], prompt_tokens: int) -> tuple[int, int]:
    """As counted by the server; estimated where it does not count."""
    completion = record["completion_tokens"]
    if not isinstance(completion, int):
        completion = len((record["text"] or "").encode()) // 3 + 1
    counted = record["prompt_tokens"]
    return (counted if isinstance(counted, int) else prompt_tokens), completion
