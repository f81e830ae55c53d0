import contextlib
import io
import sys

import pytest
import tqdm.auto

from skllmreg import GOLDAugmenter, LLKDSelector
from skllmreg.utils import _progress
from skllmreg.utils._progress import progress_bar, verbosity


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
        tick(1, "1 cached")
    assert [bar["delay"] for bar in bars] == [2.0] * shown


def test_nothing_is_shown_to_who_does_not_want_it(bars, monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    with progress_bar(3, False, "Asking") as tick:
        tick(1)
    with verbosity(False), verbosity(None), progress_bar(3, None, "Asking") as tick:
        tick(1)
    assert not bars


def test_a_log_gets_a_line_every_minute(monkeypatch):
    log, now = io.StringIO(), [0.0]
    monkeypatch.setattr(sys, "stderr", log)
    monkeypatch.setattr(_progress.time, "monotonic", lambda: now[0])
    with progress_bar(5000, None, "gpt-4.1-mini") as tick:
        for _ in range(150):
            now[0] += 1.0
            tick(10, "9 sent, 1 cached, $0.02")
    assert log.getvalue().splitlines() == [
        "gpt-4.1-mini: 600 of 5,000 prompts, 60 s, 9 sent, 1 cached, $0.02",
        "gpt-4.1-mini: 1,200 of 5,000 prompts, 120 s, 9 sent, 1 cached, $0.02",
    ]


def test_verbose_estimators_write_to_a_log_at_once(monkeypatch, loopback):
    log = io.StringIO()
    monkeypatch.setattr(sys, "stderr", log)

    def generator(request):
        return [f"{request.label} number {request.number} {i * 77}" for i in range(request.n_rows)]

    texts, labels = ["a parcel", "the bill"] * 3, ["delivery", "refund"] * 3
    model = GOLDAugmenter(generator=generator, n_samples=32, verbose=True, random_state=0)
    model.fit(texts, labels)
    assert log.getvalue().startswith("Generation: 16 of 32 rows, 0 s, round 1, 16 rows")
    LLKDSelector(verbose=True, random_state=0).fit(
        [*texts, *"abcd"], [*labels, *[None] * 4], teacher_proba=[[0.6, 0.4], [0.4, 0.6]] * 5
    )
    assert "Students: 1 of" in log.getvalue()
