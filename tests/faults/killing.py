"""Kill a process at a random moment, run it again, and count what was asked twice."""

import contextlib
import json
import random
import sqlite3
import time
from collections import Counter
from dataclasses import dataclass

from tests.faults.entries import healthy
from tests.faults.jobs import CONCURRENCY, PATIENCE, processes, work
from tests.loopback import Loopback, last

LATENCY = 0.02
LEASE = 1.0  # seconds that the second run has to wait for; ten are usual


@dataclass(frozen=True)
class Killed:
    """What came of a run that was killed, and of the one after it.

    Parameters
    ----------
    n_needed : int
        Requests of an undisturbed run.
    n_before : int
        Requests when it was killed.
    n_cached : int
        Answers in the cache by then.
    n_again : int
        Requests for answers that were in the cache.
    n_twice : int
        Requests that were sent twice.
    same : bool
        Whether the second run has finished with the result of an undisturbed one.
    """

    n_needed: int
    n_before: int
    n_cached: int
    n_again: int
    n_twice: int
    same: bool

    @property
    def resumed(self):
        return self.same and self.n_again == 0 and self.n_twice <= CONCURRENCY


class Undisturbed:
    """A job's result and requests where nobody is killed."""

    def __init__(self, job, folder):
        self.job = job
        with served() as loopback:
            self.result = run(job, loopback, folder / f"{job}.sqlite3", folder / f"{job}.json")
            self.prompts = Counter(loopback.prompts)


def kill(undisturbed, seed, folder):
    """Kill the job at a random moment, run it again.

    Parameters
    ----------
    undisturbed : Undisturbed
    seed : int
    folder : Path

    Returns
    -------
    Killed
    """
    job, rng = undisturbed.job, random.Random(seed)
    path, out = folder / f"{job}{seed}.sqlite3", folder / f"{job}{seed}.json"
    n_needed = undisturbed.prompts.total()
    with served() as loopback:
        process = start(job, loopback, path, out)
        n_let = rng.randrange(n_needed)
        while len(loopback.requests) < n_let and process.is_alive():
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 2 * LATENCY))
        process.kill()
        process.join()
        while loopback.busy:
            time.sleep(0.001)
        before, cached = Counter(loopback.prompts), prompts_in(path)
        result = run(job, loopback, path, out)
        after = Counter(loopback.prompts) - before
    missing = undisturbed.prompts - cached
    return Killed(
        n_needed=n_needed,
        n_before=before.total(),
        n_cached=cached.total(),
        n_again=(after - missing).total(),
        n_twice=before.total() + after.total() - n_needed,
        same=result == undisturbed.result,
    )


@contextlib.contextmanager
def served():
    loopback = Loopback(latency=LATENCY)
    loopback.reply = healthy
    yield loopback
    loopback.close()


def run(job, loopback, path, out):
    """Run a job to its end; its result."""
    out.unlink(missing_ok=True)
    process = start(job, loopback, path, out)
    process.join(PATIENCE)
    return json.loads(out.read_text()) if process.exitcode == 0 else None


def start(job, loopback, path, out):
    args = (job, loopback.base_url, path, out, None, LEASE)
    process = processes().Process(target=work, args=args)
    process.start()
    return process


def prompts_in(path):
    """What the cache has answers to; it may not be there, or have no table yet."""
    with contextlib.closing(sqlite3.connect(path)) as db:
        if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'entries'").fetchone():
            return Counter()
        requests = [json.loads(text) for (text,) in db.execute("SELECT request FROM entries")]
    return Counter(last(request) for request in requests)
