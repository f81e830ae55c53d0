"""Obtain the answers to prompts: from the cache, else from a model, in threads.

`Live` keeps to budgets and limits, repeats what can succeed, asks for less where a server refuses
what this package adds, and stores an answer the moment it arrives. What an answer is worth is
decided elsewhere: another way to obtain answers, such as a batch job, needs the same few methods.
"""

import contextlib
import functools
import logging
import math
import random
import shlex
import threading
import time
import uuid
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from queue import Empty, SimpleQueue
from typing import Any

from skllmreg.exceptions import (
    AnswerNotStoredWarning,
    BudgetExceededError,
    CacheError,
    LLMError,
    NoBudgetWarning,
    ReplayMissError,
    RequestError,
)
from skllmreg.llm import _ledger, _store
from skllmreg.llm._miss import describe_miss
from skllmreg.llm._replies import (
    FEW_LOGPROBS,
    Additions,
    is_about_key,
    is_error_in_answer,
    may_be_about_additions,
    may_be_billed,
    may_pass_soon,
)
from skllmreg.llm._settings import (
    Messages,
    Settings,
    cache_key,
    canonical,
    equal_form,
    estimate_tokens,
    is_loopback,
)
from skllmreg.llm._values import Obtained, Question, Record, Request, Task
from skllmreg.utils._process import process
from skllmreg.utils._warn import warn

logger = logging.getLogger("skllmreg.llm")

# Requests of a model without a budget from which a warning says what they take.
MANY_REQUESTS = 100
# Seconds; a longer wait is explained.
LONG_WAIT = 5.0
# Seconds before the first repetition of a request.
FIRST_PAUSE = 0.5
# A repetition gets twice the time of a request that timed out, and no more than this times the
# first one's.
MOST_PATIENCE = 4
# Seconds between looks at prompts that another process is asking.
POLL = 0.05


class StoppedError(Exception):
    """The call has ended while a thread was waiting."""


class HeldError(Exception):
    """Another process is asking this prompt."""


@dataclass
class Live:
    """Answers of one model, used by many threads.

    Parameters
    ----------
    settings : Settings
    question : Question
    store : Store
        With the cache, the ledger and the limits.
    transport : object
        Its method ``send(request) -> Record`` asks the model.
    expected_completion : int
        Tokens that are reserved for an answer.

    Attributes
    ----------
    news : list of (str, type of warning)
        What the user is to be warned of, by the thread that has called.
    n_not_stored : int
        Answers that the cache could not take.
    last_failure : RequestError or None
        Why a request was repeated, last.
    """

    settings: Settings
    question: Question
    store: _store.Store
    transport: Any
    expected_completion: int
    news: list[tuple[str, type[Warning]]] = field(default_factory=list)
    n_not_stored: int = 0
    last_failure: RequestError | None = None

    def __post_init__(self) -> None:
        self.stop = threading.Event()
        self._holder = uuid.uuid4().hex
        self._todo: deque[Task] = deque()
        self._held: list[Task] = []
        self._identities: dict[int, str] = {}
        self._explained, self._lock = 0.0, threading.Lock()
        self._gate = threading.Lock()
        self._n_answers = 0
        self._concurrency = process.concurrency(self.settings.account)
        streams = getattr(self.transport, "streams", False)
        self.additions = Additions(self.settings, self.question, self.store, streams, self.news)

    def options(self, top_logprobs: int) -> dict[str, Any]:
        """Fields of a request that its answer depends on, beside model and messages."""
        extra = {"logprobs": True, "top_logprobs": top_logprobs} if top_logprobs else {}
        return {**self.settings.options, **extra}

    def key(self, messages: Messages, sample: int, top_logprobs: int | None = None) -> str:
        top = self.question.top_logprobs if top_logprobs is None else top_logprobs
        if top not in self._identities:
            settings = self.settings
            shared = [*settings.identity, self.options(top), self.question.schema]
            self._identities[top] = canonical(equal_form(shared))
        return cache_key(self._identities[top], messages, sample)

    def known(self, keys: Iterable[str]) -> dict[str, Record]:
        return self.store.lookup(keys) if self.settings.caching else {}

    def pending(self, keys: Iterable[str]) -> set[str]:
        """Which prompts wait for an answer already."""
        return set()

    def count_cached(self, n: int) -> None:
        """Note in the ledger how many answers cost nothing."""
        if n and not self.settings.replay:
            with contextlib.suppress(CacheError):  # the answers matter more than their count
                _ledger.count_cached(self.store, self.settings, n)

    def warn_of_news(self) -> None:
        """Warn of what was found out, in the thread that has called."""
        for text, category in self.news:
            warn(text, category)
        self.news.clear()

    def warn_of_cost(self, tasks: list[Task]) -> None:
        """Say what a model without a budget is about to send, once it is much.

        The ledger counts what all copies have sent: the folds of a search, and its workers, too.
        """
        settings, name = self.settings, ("no budget", self.settings.run)
        free = settings.replay or settings.transport is not None or is_loopback(settings.url)
        if free or settings.has_budget or not tasks or name in process.noted:
            return
        sent = sum(row.requests for row in _ledger.usage(self.store, settings.run))
        if sent + len(tasks) < MANY_REQUESTS:
            return
        process.noted.add(name)
        prompts = sum(estimate_tokens(task.messages, self.question.schema) for task in tasks)
        answers = self.expected_completion * len(tasks)
        cost = settings.cost(prompts, answers)
        dollars = "" if cost is None else f", about ${cost:,.4f}"
        warn(
            f"{settings.model} has no budget. This call sends {len(tasks):,} requests with "
            f"{prompts:,} tokens and expects {answers:,} tokens of answers{dollars}; "
            f"{sent:,} requests were sent before. `quote` and `llm.quote_search` say beforehand "
            "what a call, a fit or a search takes; request_budget or cost_budget end it in time.",
            NoBudgetWarning,
        )

    # In the thread that iterates.

    def submit(self, task: Task) -> None:
        if task.earlier:
            self._todo.appendleft(task)  # finish what was begun
        else:
            self._todo.append(task)

    def spread(self, n: int) -> list[int]:
        """Ask next about `n` prompts spread over those not asked yet, the last among them."""
        size = len(self._todo)
        places = sorted({(i + 1) * size // n - 1 for i in range(n)}, reverse=True) if size else []
        chosen = [self._todo[place] for place in places if place >= 0]
        for task in chosen:
            self._todo.remove(task)
        self._todo.extendleft(reversed(chosen))
        return [task.index for task in chosen]

    def halt(self) -> None:
        self._end()
        self._todo.clear()
        self._held.clear()

    def _end(self) -> None:
        self.stop.set()
        if hasattr(self.transport, "end"):
            self.transport.end()

    def outcomes(self) -> Iterator[tuple[Task, Obtained | Exception]]:
        if not self._todo:
            return
        results: SimpleQueue = SimpleQueue()
        running, room = 0, self.settings.max_concurrency
        renewed = polled = time.monotonic()
        with ThreadPoolExecutor(room, "skllmreg") as pool:
            try:
                while self._todo or self._held or running:
                    now = time.monotonic()
                    if now - renewed > _store.LEASE / 5:
                        self._renew()
                        renewed = now
                    if self._held and now - polled > POLL:
                        self._todo.extend(self._held)
                        self._held.clear()
                        polled = now
                    # Some wait in the pool, so that a thread need not wait to be handed its next.
                    while self._todo and running < (2 * room if room > 1 else 1):
                        pool.submit(self._work, self._todo.popleft(), room == 1, results)
                        running += 1
                    try:
                        task, alone, outcome = results.get(timeout=POLL)
                    except Empty:
                        continue
                    running -= 1
                    if isinstance(outcome, HeldError):
                        self._held.append(task)
                    elif isinstance(outcome, BudgetExceededError) and not alone:
                        # What is under way may take less than was reserved for it: go on one by
                        # one, and stop when not even that is possible.
                        self._todo.appendleft(task)
                        room = 1
                    else:
                        if isinstance(outcome, Obtained):
                            room = self.settings.max_concurrency
                        yield task, outcome
                    if self.stop.is_set():
                        self.halt()
            except BaseException:  # an interrupt, above all: wait for what is under way, no more
                self._end()
                raise

    def _renew(self) -> None:
        """Keep the leases on what is being asked."""
        if self.settings.caching and not self.settings.replay:
            with contextlib.suppress(CacheError):  # at worst another process asks the same
                self.store.renew(self._holder)

    # Asking. All of this happens in a thread of the pool.

    def _work(self, task: Task, alone: bool, results: SimpleQueue) -> None:
        try:
            if self.stop.is_set():
                raise StoppedError
            results.put((task, alone, self._obtain(task)))
        except Exception as error:
            results.put((task, alone, error))

    def _obtain(self, task: Task) -> Obtained:
        """One answer, out of the cache or into it."""
        if self.settings.replay:
            if record := self.store.lookup([task.key]).get(task.key):
                return Obtained(record, 0.0, True, task.key)
            options = self.options(self.question.top_logprobs)
            raise ReplayMissError(
                describe_miss(self.store, self.settings, options, task.messages, task.sample)
            )
        if not self.settings.caching:
            return self.ask(task)
        found = self.store.lease(task.key, self._holder)
        if found is _store.HELD:
            raise HeldError
        if found is not None:
            return Obtained(found, 0.0, True, task.key)
        try:
            answer = self.ask(task)
        except BaseException:
            self.store.release(task.key, self._holder)
            raise
        if not answer.record.is_blank and not answer.cached:
            self._keep(task, answer)
        if answer.record.is_blank or answer.key != task.key:
            self.store.release(task.key, self._holder)
        return answer

    def _keep(self, task: Task, answer: Obtained) -> None:
        messages, sample, settings = task.messages, task.sample, self.settings
        asked = (self.question.top_logprobs, FEW_LOGPROBS, 0)
        top = next(n for n in asked if self.key(messages, sample, n) == answer.key)
        schema, options = self.question.schema, self.options(top)
        request = {"messages": messages, "options": options, "schema": schema, "sample": sample}
        try:
            self.store.put(answer.key, settings.url, settings.model, request, answer.record)
        except CacheError as error:
            self.n_not_stored += 1
            what = f"An answer was paid for but is not stored: {error}"
            self.news.append((what, AnswerNotStoredWarning))

    def ask(self, task: Task) -> Obtained:
        """One answer from the model, repeated where that can succeed, with less where it must."""
        if hasattr(self.transport, "prepare"):
            self.transport.prepare()
        n_failures, patience = 0, 1
        while True:
            if self.stop.is_set():
                raise StoppedError
            n_answers = self._n_answers
            asked: list[Request] = []
            refused: list[RequestError] = []
            for form in self._forms(task.messages):
                # A wrong key is not tried in all forms: with what was asked, and with no more.
                if refused and is_about_key(refused[-1]) and form.has_additions:
                    continue
                request = replace(form, timeout=form.timeout * patience)
                asked.append(request)
                # An answer without log-probabilities is that of the request without them.
                key = self.key(task.messages, task.sample, request.top_logprobs)
                if key != task.key and (record := self.known([key]).get(key)):
                    return Obtained(record, 0.0, True, key)
                try:
                    record, cost = self._send(request)
                except RequestError as error:
                    refused.append(error)
                    if not self._may_take_less(request, error, n_failures):
                        break
                else:
                    self._n_answers += 1
                    self.additions.learn(task.messages, asked, refused, record)
                    return Obtained(record, cost, False, key, tuple(refused))
            last = refused[-1]
            if len(refused) > 1 and not last.transient:
                self.additions.come_whole()  # it is not the stream that is refused
            most = self.settings.max_retries
            # An error within an answer may as well be about the prompt.
            most = min(most, 1) if is_error_in_answer(last) else most
            if not last.transient or n_failures >= most:
                raise last
            self.last_failure = last
            if last.code == "timeout":
                patience = min(2 * patience, MOST_PATIENCE)
            self._wait_after(last, n_failures)
            # While a server answers others, its refusals are about the pace alone.
            n_failures += not (last.status == 429 and self._n_answers > n_answers)

    def _may_take_less(self, request: Request, error: RequestError, n_failures: int) -> bool:
        """Whether to ask once with less; a failure that may pass, for one of its repetitions."""
        if not may_be_about_additions(error) or (is_about_key(error) and not request.has_additions):
            return False
        turn = min(1, self.settings.max_retries) if may_pass_soon(error) else 0
        return not error.transient or n_failures == turn

    def _send(self, request: Request) -> tuple[Record, float | None]:
        """One request, counted before it goes out and corrected afterwards."""
        prompt_tokens = estimate_tokens(request.messages, request.schema)
        with self._place(request):
            reservation = self._reserve(prompt_tokens)
            settle = functools.partial(_ledger.settle, self.store, self.settings, reservation)
            began = time.monotonic()
            try:
                record = self.transport.send(request)
                if not isinstance(record, Record):
                    settle((0, 0))
                    name = type(self.transport).__name__
                    raise LLMError(f"{name}.send returned {record!r:.100}; a Record is wanted.")
            except RequestError as error:
                if error.code == "timeout":
                    self.additions.took(math.inf)
                settle(None, sent=error.sent, billed=error.sent and may_be_billed(error.status))
                if error.status == 429 and error.transient:
                    started, pause = reservation.started, error.retry_after
                    _ledger.slow_down(self.store, self.settings, started, pause)
                raise
            self.additions.took(time.monotonic() - began)
        used = record.used_tokens(prompt_tokens)
        try:
            return record, settle(used)
        except CacheError:  # the answer is paid for: nothing may keep it from its caller
            return record, self.settings.cost(*used)

    @contextlib.contextmanager
    def _place(self, request: Request) -> Iterator[None]:
        """A place among the requests that the server gets at once."""
        while not (entered := self._concurrency.enter(LONG_WAIT / 10)):
            if self.stop.is_set():
                raise StoppedError
        outcome = None
        try:
            yield
            outcome = True
        except RequestError as error:
            if error.code == "timeout" or error.status in (408, 504, 524):  # a gateway's
                outcome = False
            raise
        finally:
            if self._concurrency.leave(entered, outcome):
                logger.warning(
                    "%s did not answer within timeout=%g s. It is asked again, with more time and "
                    "%d at once until answers come. If it is slow rather than gone, raise timeout "
                    "or lower max_concurrency.",
                    self.settings.url,
                    request.timeout,
                    self._concurrency.limit,
                )

    def _forms(self, messages: Messages) -> Iterator[Request]:
        return self.additions.forms(messages)

    def _reserve(self, prompt_tokens: int) -> _ledger.Reservation:
        """Count a request as soon as limits and pauses let it start."""
        store, settings, completion = self.store, self.settings, self.expected_completion
        reservation = _ledger.reserve(store, settings, prompt_tokens, completion)
        if isinstance(reservation, _ledger.Reservation):
            return reservation
        with self._gate:  # the other threads would all wake up for the same start
            while True:
                if self.stop.is_set():
                    raise StoppedError
                reservation = _ledger.reserve(store, settings, prompt_tokens, completion)
                if isinstance(reservation, _ledger.Reservation):
                    return reservation
                self._wait_for_start(reservation)

    def _wait_for_start(self, seconds: float) -> None:
        """Wait until a request may start, but look again soon: a pause can be lifted."""
        self._announce(seconds)
        self._wait(min(seconds, LONG_WAIT))

    def _wait_after(self, error: RequestError, n_failures: int) -> None:
        """Wait before a request is repeated."""
        if error.status == 429:
            return  # the pause is everybody's, and the next reservation knows it
        backoff = min(FIRST_PAUSE * 2.0**n_failures, 8.0) * random.uniform(0.75, 1.0)
        seconds = max(error.retry_after or 0.0, backoff)
        if error.status is not None:
            self._announce(seconds, error)
        self._wait(seconds)

    def _wait(self, seconds: float) -> None:
        if self.stop.wait(seconds):
            raise StoppedError

    def _announce(self, seconds: float, error: RequestError | None = None) -> None:
        """Say, once for each long pause, why nothing happens."""
        if seconds <= LONG_WAIT:
            return
        settings, now = self.settings, time.time()
        if error is not None:
            why, end = f"answered with status {error.status}", now + seconds
        elif (end := _ledger.blocked_until(self.store, settings)) > now:
            why = "has asked for a pause (status 429)"
        else:
            why, end = "is asked as slowly as its refusals or requests_per_minute want", now + 3600
        with self._lock:
            explained, self._explained = self._explained, max(self._explained, end)
        if end <= explained:
            return
        lift = f"pauses --file {shlex.quote(str(self.store.path))} --lift"
        logger.warning(
            "%s %s: the next request goes out in %.0f s, at %s. To go on earlier, interrupt, run "
            "`python -m skllmreg cache %s` and start again.",
            settings.url,
            why,
            seconds,
            time.strftime("%H:%M:%S", time.localtime(now + seconds)),
            lift,
        )
