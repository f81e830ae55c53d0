"""Show progress: a bar in a terminal or notebook, a line a minute elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from skllmreg.utils._process import process

# Seconds before a bar is shown, and between two lines where there is not a terminal.
BAR_AFTER, LINE_EVERY = 2.0, 60.0

_verbose: ContextVar[bool | None] = ContextVar("verbose", default=None)


@contextmanager
def verbosity(verbose: bool | None) -> Iterator[None]:
    """Decide for all progress within a `with` block whether it is shown; None decides nothing."""
    token = _verbose.set(_verbose.get() if verbose is None else bool(verbose))
    try:
        yield
    finally:
        _verbose.reset(token)


@contextmanager
def progress_bar(
    n: int | None, show: bool | None, description: str | None, *, unit: str = "prompt"
) -> Iterator[Callable[..., object]]:
    """Yield a function that takes how many more units are done, and a note.

    Parameters
    ----------
    n : int or None
        Total number of units; None if it is not known.
    show : bool or None
        None is what `verbosity` has decided; without that, a bar is shown where the work takes
        more than two seconds and stderr is a terminal or a notebook's, and elsewhere a line every
        minute.
    description : str or None
        Words in front of the bar.
    unit : str, default="prompt"
        Name of one unit.
    """
    show = _verbose.get() if show is None else show
    # The stderr of a notebook says that it is not a terminal.
    looks = "ipykernel" in sys.modules or (sys.stderr is not None and sys.stderr.isatty())
    if show is False or sys.stderr is None:
        yield lambda done, note="": None
    elif not looks:
        yield _Lines(n, description, unit, at_once=bool(show))
    else:
        with process.lock:
            from tqdm.auto import tqdm
        delay = 0.0 if show else BAR_AFTER
        with tqdm(total=n, desc=description, delay=delay, unit=unit) as bar:

            def tick(done: int, note: str = "") -> None:
                if note:
                    bar.set_postfix_str(note, refresh=False)
                bar.update(done)

            yield tick


class _Lines:
    """Writes a line every minute.

    Parameters
    ----------
    n : int or None
        Total number of units.
    description, unit : str
    at_once : bool
        Whether the first line comes with the first unit, and not after a minute.
    """

    def __init__(self, n: int | None, description: str | None, unit: str, *, at_once: bool) -> None:
        self.n, self.description, self.unit = n, description, unit
        self.began = time.monotonic()
        self.last = -LINE_EVERY if at_once else self.began
        self.done = 0

    def __call__(self, done: int, note: str = "") -> None:
        self.done += done
        now = time.monotonic()
        if now - self.last < LINE_EVERY:
            return
        self.last = now
        of = "" if self.n is None else f" of {self.n:,}"
        line = f"{self.description}: {self.done:,}{of} {self.unit}s, {now - self.began:,.0f} s"
        sys.stderr.write(f"{line}{f', {note}' if note else ''}\n")
