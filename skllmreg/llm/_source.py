"""Where an answer comes from: the cache, or the server with budget, limits and retries."""

import contextlib
import functools
import logging
import random
import shlex
import threading
import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from skllmreg.exceptions import AnswerNotStoredWarning, CacheError, ReplayMissError, RequestError
from skllmreg.llm import _cache, _client, _ledger, _limits
from skllmreg.llm._keys import stable_identity
from skllmreg.llm._nearest import describe_miss
from skllmreg.llm._prompts import Messages, cache_key, canonical, equal_form, estimate_tokens
from skllmreg.llm._structured import ask_structured
from skllmreg.utils._warn import warn

_logger = logging.getLogger("skllmreg.llm")

# Seconds; who waits longer is told why.
LONG_WAIT = 30.0


class StoppedError(Exception):
    """The call has ended while a thread was waiting."""


class HeldError(Exception):
    """Another process is asking this prompt."""


@dataclass
class Source:
    """One model on one server, with the file that keeps its answers; used by many threads.

    Parameters
    ----------
    url, api_key_env, timeout, max_retries, model :
        Of the ChatModel.
    options : dict
        What goes into the request beside model and messages.
    schema : dict or None
        What the reply must follow.
    store : Store
        With the cache and the ledger.
    account : Account
        Who pays.
    caching, replay : bool
        Whether answers are kept; whether they may come from the cache only.
    expected_completion : int
        Tokens that are reserved for an answer.

    Attributes
    ----------
    n_not_stored : int
        Answers that the cache could not take.
    last_failure : RequestError or None
        Why a request was repeated, last.
    """

    url: str
    api_key_env: str | None
    timeout: float
    max_retries: int
    model: str
    options: dict[str, Any]
    schema: dict[str, Any] | None
    store: _cache.Store
    account: _ledger.Account
    caching: bool
    replay: bool
    expected_completion: int
    holder: str = field(default_factory=lambda: uuid.uuid4().hex)
    stop: threading.Event = field(default_factory=threading.Event)
    n_not_stored: int = 0
    last_failure: RequestError | None = None

    def __post_init__(self) -> None:
        shared = [*stable_identity(self.url, self.model), self.options, self.schema]
        self._identity = canonical(equal_form(shared))
        self._told, self._lock = 0.0, threading.Lock()

    def key(self, messages: Messages, sample: int) -> str:
        return cache_key(self._identity, messages, sample)

    def known(self, keys: Iterable[str]) -> dict[str, dict[str, Any]]:
        """The records of those keys that are in the cache."""
        return self.store.lookup(keys) if self.caching else {}

    def renew(self) -> None:
        """Keep the leases on what is being asked."""
        if self.caching and not self.replay:
            with contextlib.suppress(CacheError):  # at worst another process asks the same
                self.store.renew(self.holder)

    def count_cached(self, n: int) -> None:
        if n and not self.replay:
            with contextlib.suppress(CacheError):  # the answers matter more than their count
                _ledger.count_cached(self.store, self.account, n)

    def fetch(self, messages: Messages, sample: int) -> tuple[dict, float | None, bool]:
        """The record of one answer, its cost, and whether it was there already."""
        key = self.key(messages, sample)
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
            raise HeldError
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
            self.n_not_stored += 1
            warn(
                f"An answer was paid for but is not stored: {error}",
                AnswerNotStoredWarning,
            )
        return record, cost, False

    def _ask(self, messages: Messages) -> tuple[dict[str, Any], float | None]:
        """One answer from the server, with retries where they can succeed."""
        _client.prepare(self.url, self.api_key_env, self.timeout)
        prompt_tokens = estimate_tokens(messages, self.schema)

        def send(body: dict[str, Any]) -> tuple[dict[str, Any], float | None]:
            return self._pay_and_send(body, prompt_tokens)

        for n_failures in range(self.max_retries + 1):
            if self.stop.is_set():
                raise StoppedError
            try:
                return ask_structured(
                    send, self.url, self.model, messages, self.options, self.schema
                )
            except RequestError as error:
                if not error.transient or n_failures == self.max_retries:
                    raise
                self.last_failure = error
                self._wait_after(error, n_failures)
        raise AssertionError("unreachable")

    def _pay_and_send(
        self, body: dict[str, Any], prompt_tokens: int
    ) -> tuple[dict[str, Any], float | None]:
        """One request, counted before it goes out and corrected afterwards."""
        reservation = _ledger.reserve(
            self.store, self.account, prompt_tokens, self.expected_completion
        )
        give_back = functools.partial(_ledger.settle, self.store, self.account, reservation, None)
        try:
            self._wait_until(reservation.start)
        except StoppedError:
            give_back(sent=False, billed=False)
            raise
        started = time.time()
        try:
            record = _client.send(self.url, self.api_key_env, self.timeout, body)
        except RequestError as error:
            give_back(sent=error.sent, billed=error.sent and _may_be_billed(error.status))
            if error.status == 429 and error.transient:
                _ledger.slow_down(self.store, self.account, started, error.retry_after)
            raise
        used = _used_tokens(record, prompt_tokens)
        return record, self._settle_quietly(reservation, used)

    def _settle_quietly(self, reservation, used) -> float | None:
        # The answer is paid for: nothing may keep it from its caller.
        try:
            return _ledger.settle(self.store, self.account, reservation, used)
        except CacheError:
            return self.account.cost(*used)

    def _wait_after(self, error: RequestError, n_failures: int) -> None:
        if error.status == 429:
            return  # the pause is everybody's, and the next reservation knows it
        backoff = min(_limits.FIRST_PAUSE * 2.0**n_failures, 8.0) * random.uniform(0.75, 1.0)
        self._wait_until(time.time() + max(error.retry_after or 0.0, backoff))

    def _wait_until(self, moment: float) -> None:
        """Wait for one's turn, and for the end of a pause that was called meanwhile."""
        while (seconds := moment - time.time()) > 0:
            if seconds > LONG_WAIT:
                self._tell_pause()
            if self.stop.wait(seconds):
                raise StoppedError
            moment = max(moment, _ledger.blocked_until(self.store, self.account))

    def _tell_pause(self) -> None:
        """Say, once for each pause, why nothing happens."""
        end = _ledger.blocked_until(self.store, self.account)
        with self._lock:
            told, self._told = self._told, max(self._told, end)
        if end > max(told, time.time()):
            lift = f"pauses --file {shlex.quote(str(self.store.path))} --lift"
            _logger.warning(
                "%s has asked for a pause (status 429): nothing is sent for %.0f s, until %s. "
                "To go on earlier, interrupt, run `python -m skllmreg cache %s` and start again.",
                self.url,
                end - time.time(),
                time.strftime("%H:%M:%S", time.localtime(end)),
                lift,
            )


def _may_be_billed(status: int | None) -> bool:
    """Whether somebody may have answered: a gateway that gave up does not know."""
    return status is None or status in (502, 504) or status >= 520


def _used_tokens(record: dict[str, Any], prompt_tokens: int) -> tuple[int, int]:
    """As counted by the server; estimated where it does not count."""
    counted, completion = record["prompt_tokens"], record["completion_tokens"]
    if completion is None:
        completion = len((record["text"] or "").encode()) // 3 + 1
    return (prompt_tokens if counted is None else counted), completion
