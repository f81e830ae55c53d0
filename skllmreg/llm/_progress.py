"""A progress bar, where somebody looks."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from skllmreg.llm._fork import uncut


@contextmanager
def progress_bar(
    n: int | None, show: bool | None, description: str | None, *, unit: str = "prompt"
) -> Iterator[Callable[[int], object]]:
    """Yield a function that takes how many more are done.

    With `show` None there is a bar only if tqdm is installed, the work takes more than two seconds
    and stderr is a terminal or a notebook's.
    """
    delay = 0.0
    if show is None:
        # The stderr of a notebook says that it is no terminal.
        show = "ipykernel" in sys.modules or (sys.stderr is not None and sys.stderr.isatty())
        delay = 2.0
    tqdm = _tqdm() if show else None
    if tqdm is None:
        yield lambda done: None
        return
    with tqdm(total=n, desc=description, delay=delay, unit=unit) as bar:
        yield bar.update


def _tqdm() -> Any:
    with uncut:
        try:
            from tqdm import tqdm
        except ImportError:
            return None
    return tqdm
