"""Share open files, connections and notices within a process, and keep them intact over a fork.

A forked child has one thread. What the other threads of its parent held at that moment, such as the
lock of a module that they were importing, is held in the child for ever. So a process forks only
while it holds `process.lock`, and everything that was opened is asked before and after.
"""

import atexit
import math
import os
import threading
import time
from collections.abc import Hashable
from typing import Any


class Process:
    """Files and connections that all objects of a process share.

    Attributes
    ----------
    lock : RLock
        Held while something is opened or imported on first use, and by a fork.
    opened : dict
        By name, objects with `close()`, `before_fork()` and `after_fork(in_child)`.
    noted : set
        What need not be said, or found out, a second time.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.opened: dict[Hashable, Any] = {}
        self.noted: set[Hashable] = set()

    def concurrency(self, name: str) -> "ConcurrencyLimit":
        """The limit of a server, shared by all that ask it."""
        with self.lock:
            return self.opened.setdefault(("concurrency", name), ConcurrencyLimit())

    def reset(self) -> None:
        """Close everything and forget everything, as in a new process."""
        with self.lock:
            for resource in self.opened.values():
                resource.close()
            self.opened.clear()
            self.noted.clear()

    def before_fork(self) -> None:
        self.lock.acquire()
        for resource in self.opened.values():
            resource.before_fork()

    def after_fork(self, in_child: bool) -> None:
        for resource in self.opened.values():
            resource.after_fork(in_child)
        self.lock.release()


class ConcurrencyLimit:
    """How many requests at once a server gets from this process, found out from what comes of them.

    There is none before the first timeout. A timeout halves it, and it grows by one for as many
    answers as it allows at once: additive increase, multiplicative decrease [1]_.

    References
    ----------
    .. [1] Chiu, Jain (1989), "Analysis of the increase and decrease algorithms for congestion
       avoidance in computer networks", Computer Networks and ISDN Systems 17(1).
    """

    def __init__(self) -> None:
        self.limit = math.inf
        self.n_open = 0
        self._halved = 0.0
        self._changed = threading.Condition()

    def enter(self, seconds: float) -> float:
        """Wait for a place; the moment of entry, or 0 where there was none in so many seconds."""
        with self._changed:
            if not self._changed.wait_for(lambda: self.n_open < max(self.limit, 1.0), seconds):
                return 0.0
            self.n_open += 1
            return time.monotonic()

    def leave(self, entered: float, outcome: bool | None) -> bool:
        """Give a place back; whether the limit was halved.

        Parameters
        ----------
        entered : float
            What `enter` returned.
        outcome : bool or None
            True for an answer, False for a timeout, None for what says nothing about the load.
        """
        with self._changed:
            # Requests that time out together halve it once.
            halve = outcome is False and entered >= self._halved
            if halve:
                self.limit = max(1.0, min(self.limit, self.n_open) // 2)
                self._halved = time.monotonic()
            elif outcome:
                self.limit += 1.0 / self.limit
            self.n_open -= 1
            self._changed.notify_all()
            return halve

    def close(self) -> None:
        pass

    def before_fork(self) -> None:
        pass

    def after_fork(self, in_child: bool) -> None:
        if in_child:  # which has none of the threads that are in here
            self.n_open, self._changed = 0, threading.Condition()


process = Process()
atexit.register(process.reset)

if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=process.before_fork,
        after_in_parent=lambda: process.after_fork(False),
        after_in_child=lambda: process.after_fork(True),
    )
