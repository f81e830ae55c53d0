"""The threads that ask: who is sent when, who waits, and when all stop."""

import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any

from skllmreg.exceptions import BudgetExceededError, InvalidReplyError
from skllmreg.llm import _cache
from skllmreg.llm._prompts import Messages
from skllmreg.llm._reply import Reply
from skllmreg.llm._source import HeldError, Source

# Seconds between looks at prompts that another process is asking.
POLL = 0.05


@dataclass(frozen=True)
class Task:
    """One prompt, its place in the call, and its place in the cache."""

    index: int
    messages: Messages
    sample: int
    key: str


@dataclass
class Crew:
    """Threads that work off tasks.

    Parameters
    ----------
    answer : callable
        From a task to its reply; runs in a thread.
    source : Source
        Whose leases are kept alive, and who is told to stop.
    size : int
        Threads.
    todo : deque of Task
        What is to be done; empty at the end.
    replies : list
        Where the replies go.
    tick : callable
        Told of each task that is done.

    Attributes
    ----------
    failures : list of (Task, InvalidReplyError)
        Replies that could not be used; the others go on.
    fatal : (Task, Exception) or None
        The error that stopped everybody.
    """

    answer: Callable[[Task], Reply]
    source: Source
    size: int
    todo: deque[Task]
    replies: list[Any]
    tick: Callable[[int], object]
    failures: list[tuple[Task, InvalidReplyError]] = field(default_factory=list)
    fatal: tuple[Task, Exception] | None = None

    def work(self) -> None:
        self._results: SimpleQueue = SimpleQueue()
        self._held: list[Task] = []
        self._running, self._room = 0, self.size
        self._renewed = self._polled = time.monotonic()
        with ThreadPoolExecutor(self.size, "skllmreg") as pool:
            try:
                while self.todo or self._held or self._running:
                    self._look_after_leases()
                    self._hand_out(pool)
                    try:
                        result = self._results.get(timeout=POLL)
                    except Empty:
                        continue
                    self._running -= 1
                    self._take(*result)
            except BaseException:  # an interrupt, above all: wait for what is under way, no more
                self.source.stop.set()
                raise

    def _look_after_leases(self) -> None:
        now = time.monotonic()
        if now - self._renewed > _cache.LEASE / 5:
            self.source.renew()
            self._renewed = now
        if self._held and now - self._polled > POLL:
            self.todo.extend(self._held)
            self._held.clear()
            self._polled = now

    def _hand_out(self, pool: Executor) -> None:
        while self.todo and self._running < self._room:
            pool.submit(self._run, self.todo.popleft(), self._room == 1)
            self._running += 1

    def _run(self, task: Task, alone: bool) -> None:
        try:
            self._results.put((task, alone, self.answer(task)))
        except Exception as error:
            self._results.put((task, alone, error))

    def _take(self, task: Task, alone: bool, outcome: Reply | Exception) -> None:
        if isinstance(outcome, Reply):
            self.replies[task.index] = outcome
            self._room = self.size
            self.tick(1)
        elif isinstance(outcome, InvalidReplyError):
            self.failures.append((task, outcome))
            self.tick(1)
        elif self.fatal:
            pass  # the aftermath of the stop
        elif isinstance(outcome, HeldError):
            self._held.append(task)
        elif isinstance(outcome, BudgetExceededError) and not alone:
            # What is under way may take less than was reserved for it: go on one by one, and stop
            # when not even that is possible.
            self.todo.appendleft(task)
            self._room = 1
        else:
            self.fatal = task, outcome
            self.source.stop.set()
            self.todo.clear()
            self._held.clear()
