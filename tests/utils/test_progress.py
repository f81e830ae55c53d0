import contextlib
import io
import sys

import pytest
import tqdm.auto

from skllmreg.utils._progress import progress_bar


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def bars(monkeypatch):
    """The parameters of all bars that are made."""
    made, silent = [], tqdm.auto.tqdm(disable=True)

    @contextlib.contextmanager
    def bar(**params):
        made.append(params)
        yield silent

    monkeypatch.setattr(tqdm.auto, "tqdm", bar)
    return made


@pytest.mark.parametrize(
    ("stderr", "notebook", "shown"),
    [(Terminal(), False, True), (io.StringIO(), True, True), (io.StringIO(), False, False)],
    ids=["terminal", "notebook", "pipe"],
)
def test_a_bar_is_for_who_looks_and_waits(bars, monkeypatch, stderr, notebook, shown):
    monkeypatch.setattr(sys, "stderr", stderr)
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    if notebook:
        monkeypatch.setitem(sys.modules, "ipykernel", None)
    with progress_bar(3, None, "Asking") as tick:
        tick(1)
    assert [bar["delay"] for bar in bars] == [2.0] * shown


def test_nothing_is_shown_to_who_does_not_want_it(bars):
    with progress_bar(3, False, "Asking") as tick:
        tick(1)
    assert not bars
