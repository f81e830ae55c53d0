"""State of the process: what is opened once, what was said once, and what a fork must not cut.

A forked child has one thread. What the other threads of its parent held at that moment, such as the
lock of a module that they were importing, is held in the child for ever. So a process forks only
while it holds `process.lock`, and everything that was opened is asked before and after.
"""

import atexit
import os
import threading
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


process = Process()
atexit.register(process.reset)

if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=process.before_fork,
        after_in_parent=lambda: process.after_fork(False),
        after_in_child=lambda: process.after_fork(True),
    )
