"""A progress bar, where somebody looks."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress_bar(
    n: int, show: bool | None, description: str | None
) -> Iterator[Callable[[int], object]]:
    """Yield a function that takes how many more are done.

    With `show` None there is a bar only if tqdm is installed, stderr is a terminal and the work
    takes more than two seconds.
    """
    try:
        from tqdm import tqdm
    except ImportError:
        tqdm = None
    if tqdm is None or show is False:
        yield lambda done: None
        return
    disable = None if show is None else False  # None: unless stderr is a terminal
    delay = 2.0 if show is None else 0.0
    with tqdm(total=n, desc=description, disable=disable, delay=delay, unit="prompt") as bar:
        yield bar.update
