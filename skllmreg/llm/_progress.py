"""A progress bar, where somebody looks."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress_bar(
    n: int, show: bool | None, description: str | None
) -> Iterator[Callable[[int], object]]:
    """Yield a function that takes how many more are done.

    With `show` None there is a bar only if tqdm is installed, the work takes more than two seconds
    and stderr is a terminal or a notebook's.
    """
    try:
        from tqdm import tqdm
    except ImportError:
        tqdm = None
    if tqdm is None or show is False:
        yield lambda done: None
        return
    # None: unless stderr is a terminal. That of a notebook says that it is none.
    disable = None if show is None and "ipykernel" not in sys.modules else False
    delay = 2.0 if show is None else 0.0
    with tqdm(total=n, desc=description, disable=disable, delay=delay, unit="prompt") as bar:
        yield bar.update
