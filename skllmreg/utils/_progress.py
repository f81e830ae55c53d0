"""Show a progress bar where somebody looks."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from skllmreg.utils._process import process


@contextmanager
def progress_bar(
    n: int | None, show: bool | None, description: str | None, *, unit: str = "prompt"
) -> Iterator[Callable[[int], object]]:
    """Yield a function that takes how many more units are done.

    Parameters
    ----------
    n : int or None
        Total number of units; None if it is not known.
    show : bool or None
        None shows a bar only where the work takes more than two seconds and stderr is a terminal
        or a notebook's.
    description : str or None
        Words in front of the bar.
    unit : str, default="prompt"
        Name of one unit.
    """
    delay = 0.0
    if show is None:
        # The stderr of a notebook says that it is no terminal.
        show = "ipykernel" in sys.modules or (sys.stderr is not None and sys.stderr.isatty())
        delay = 2.0
    if not show:
        yield lambda done: None
        return
    with process.lock:
        from tqdm.auto import tqdm
    with tqdm(total=n, desc=description, delay=delay, unit=unit) as bar:
        yield bar.update
