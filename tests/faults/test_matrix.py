"""Every way to reach an LLM under every fault: what is seen, what is kept, what a new run costs."""

import contextlib
import re
import shlex
import sqlite3
import time

import pytest

from skllmreg import GOLDAugmenter
from skllmreg._cli import cache as cache_command
from skllmreg._cli import doctor
from skllmreg.exceptions import CacheError, NoAttributesWarning, RequestError
from skllmreg.llm import ChatModel, _ledger, _obtain, _store, _transport
from skllmreg.llm._store import open_store
from tests.faults.entries import ENTRIES, LABELS, TASK, TEXTS, healthy
from tests.faults.faults import COUNTS, FAULTS, GUIDE, guide_with_table
from tests.loopback import Loopback, as_in_a_new_process, error

FAST = ("ChatModel.complete with a schema",)  # the other ways are among the slow tests


class Bench:
    """A server that can be told to fail, a cache file, and runs that know nothing of each other."""

    good = staticmethod(healthy)
    now = staticmethod(time.monotonic)

    def __init__(self, entry, fault, path):
        self.entry, self.fault, self.path = entry, fault, path
        self.broken = False
        self.first = 1 if fault.lasting else 2  # request that the fault hits
        self.n = self.n_sent = 0
        self.start()

    def start(self, port=0):
        self.loopback = Loopback(port=port)
        self.loopback.reply = self.answer

    def restart(self):
        self.start(self.loopback.server.server_port)

    def answer(self, body):
        self.n += 1
        self.n_sent += 1
        struck = self.broken and not self.fault.later and self.n >= self.first
        return (struck and self.fault.strike(self, body)) or healthy(body)

    def run(self, **params):
        """Run in what stands for a new process, and return the number of requests."""
        as_in_a_new_process()
        self.n = 0
        params = {"max_retries": 1, "max_concurrency": 1, "temperature": 0} | params
        url, path = self.loopback.base_url, self.path
        self.entry.run(ChatModel("tiny", base_url=url, cache=path, **params))

    def count(self, what):
        with contextlib.closing(sqlite3.connect(self.path)) as db:
            ((n,),) = db.execute(f"SELECT {what}")
        return n


@pytest.fixture(autouse=True)
def _no_long_waits(monkeypatch):
    monkeypatch.setattr(_obtain, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(_ledger, "SLOWEST", 1000.0)
    monkeypatch.setattr(_store, "BUSY", 0.05)
    monkeypatch.setattr(_store, "LEASE", 0.3)


@pytest.fixture
def bench(entry, fault, tmp_path, monkeypatch):
    monkeypatch.setattr(_transport, "LONGEST", FAULTS[fault].longest)
    bench = Bench(ENTRIES[entry], FAULTS[fault], tmp_path / "cache.sqlite3")
    yield bench
    bench.loopback.close()


@pytest.mark.parametrize(
    "entry",
    [pytest.param(name, marks=() if name in FAST else pytest.mark.slow) for name in ENTRIES],
)
@pytest.mark.parametrize("fault", FAULTS)
def test_cell(bench):
    entry, fault = bench.entry, bench.fault
    cell = fault.cell(entry.reads)
    kept, again = (COUNTS[name](entry.n, entry.m, entry.k) for name in (cell.kept, cell.again))
    if fault.later:
        bench.run()
        open_store(bench.path).close()
        fault.strike(bench, None)

    bench.broken = True
    with told(cell) as error:
        bench.run(**fault.params)
    if cell.sees in (RequestError, CacheError) and not fault.later:
        assert "prompts are answered" in str(error.value)
    if kept or not fault.later:
        assert bench.count("COUNT(*) FROM entries WHERE json_valid(reply)") == kept
        assert bench.count("SUM(requests) FROM ledger") == bench.n_sent

    fault.mend(bench)
    bench.broken = fault.lasting
    if cell.command:
        with told(cell):
            bench.run()
        assert bench.n == 0
        follow_advice(error.value)
    with told(cell) if fault.lasting and cell.sees else contextlib.nullcontext():
        bench.run()
    assert bench.n == again


@contextlib.contextmanager
def told(cell):
    """The error, and the warning, that a cell names."""
    with contextlib.ExitStack() as stack:
        if cell.warns:
            words = "not stored" if cell.sees else cell.words
            stack.enter_context(pytest.warns(cell.warns, match=re.escape(words)))
        if cell.sees:
            yield stack.enter_context(pytest.raises(cell.sees, match=re.escape(cell.words)))
        else:
            yield


def follow_advice(error):
    """Run the command that stands in the error's message."""
    words = shlex.split(re.search(r"`python -m skllmreg cache (.*?)`", str(error))[1])
    assert cache_command(words) == 0


@pytest.mark.parametrize(("stopped", "n_listed"), [("proposals", 0), ("rows", 1)])
def test_a_content_filter_does_not_end_generation(stopped, n_listed, loopback):
    """A prompt that it stops is a reply of no use; without attributes rows are written, too."""
    filtered = error(400, "filtered", code="content_filter")
    nth = {"proposals": 1, "rows": 2}[stopped]
    loopback.reply = lambda body: filtered if len(loopback.requests) == nth else healthy(body)
    llm = ChatModel("tiny", base_url=loopback.base_url, cache=None, max_concurrency=1)
    model = GOLDAugmenter(llm=llm, task=TASK, n_rounds=2, n_batches=1, random_state=0)
    warns = (
        pytest.warns(NoAttributesWarning) if stopped == "proposals" else contextlib.nullcontext()
    )
    with warns:
        model.fit(TEXTS, LABELS)
    assert model.termination_condition_ == "n_rounds"
    assert model.n_requests_ == 2
    listed = [row.detail for row in model.rejected_ if row.reason == "reply"]
    assert len(listed) == n_listed
    assert all("status 400: filtered" in detail for detail in listed)


SERVER_FAULTS = [name for name, fault in FAULTS.items() if fault.cell("text").sees is RequestError]


@pytest.mark.parametrize("fault", SERVER_FAULTS)
def test_the_doctor_tells_it_and_keeps_nothing(fault, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(_transport, "LONGEST", FAULTS[fault].longest)
    bench = Bench(None, FAULTS[fault], tmp_path / "cache.sqlite3")
    timeout = str(bench.fault.params.get("timeout", 30))
    command = ["--base-url", bench.loopback.base_url, "--model", "tiny", "--timeout", timeout]
    bench.broken, bench.first = True, 1
    assert doctor(command) == 1
    assert bench.fault.cell("text").words in capsys.readouterr().err
    bench.fault.mend(bench)
    bench.broken = False
    assert doctor(command) == 0
    assert "json_schema  yes" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []
    bench.loopback.close()


@pytest.mark.skipif(not GUIDE.exists(), reason="needs the docs")
def test_the_guide_shows_this_table():
    assert GUIDE.read_text() == guide_with_table(), "run `python -m tests.faults.faults`"
