"""Kill a run of batch jobs with SIGKILL at random moments, until it has its answers."""

import hashlib
import json
import random
import sqlite3
import time
from contextlib import closing

from skllmreg.llm import ChatModel, _batch, _jobs, _store
from tests.batches import Batches
from tests.faults.jobs import PATIENCE, processes
from tests.loopback import Loopback

# Steps at the server and seconds after which a run is killed, at most.
MOST_STEPS, MOST_SECONDS = 5, 1.5


def prompts(n):
    return [f"What is this message about? Number {i} of the table." for i in range(n)]


def work(url, path, n, n_jobs, out):
    """Answer all prompts by jobs, and write down what came."""
    _store.LEASE, _jobs.VISIBLE = 1.0, 2.0
    _batch.FIRST_POLL, _batch.LONGEST_POLL, _batch.MOST_REQUESTS = 0.05, 0.2, -(-n // n_jobs)
    llm = ChatModel("tiny", base_url=url, cache=path, delivery="batch", prices=(1.0, 2.0))
    out.write_text(json.dumps(digest(reply.text for reply in llm.complete(prompts(n)))))


def digest(texts):
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()


def survive(n, n_jobs, n_kills, seed, folder):
    """Kill the run `n_kills` times, then let it end; what the server and the cache have then.

    Parameters
    ----------
    n, n_jobs : int
        Prompts, and the jobs that they are spread over.
    n_kills, seed : int
    folder : Path

    Returns
    -------
    dict of str to int or float
    """
    rng, loopback = random.Random(seed), Loopback()
    batches = Batches(loopback)
    batches.looks, batches.seconds, batches.hidden = 0, 1.0, 0.5
    path, out = folder / "jobs.sqlite3", folder / "jobs.json"
    start, killed = time.perf_counter(), []
    while len(killed) < n_kills and not out.exists():
        child = begin(loopback.base_url, path, n, n_jobs, out)
        step = len(batches.steps) + rng.randrange(MOST_STEPS)
        while len(batches.steps) < step and child.is_alive():
            time.sleep(0.001)
        time.sleep(rng.uniform(0, MOST_SECONDS))
        if child.is_alive():
            child.kill()
            killed.append((batches.steps or ["nothing"])[-1])
        child.join()
    if not out.exists():
        child = begin(loopback.base_url, path, n, n_jobs, out)
        child.join(PATIENCE + n / 100)
    loopback.close()
    with closing(sqlite3.connect(path)) as db:
        (kept,) = db.execute("SELECT COUNT(*) FROM entries").fetchone()
        (left,) = db.execute("SELECT COUNT(*) FROM job_requests").fetchone()
        ledger = db.execute(
            "SELECT SUM(requests), SUM(prompt_tokens), SUM(completion_tokens), SUM(cost), "
            "SUM(reserved_tokens) FROM ledger"
        ).fetchone()
    names = ("requests", "prompt tokens", "completion tokens", "dollars", "tokens still reserved")
    expected = digest(f"reply to {prompt}" for prompt in prompts(n))
    return {
        "prompts": n,
        "jobs": n_jobs,
        "kills": len(killed),
        "steps before a kill": len(set(killed)),
        "jobs created": batches.n_created,
        "answered by the server": batches.billed.total(),
        "answered twice": sum(count > 1 for count in batches.billed.values()),
        "kept": kept,
        "left": left,
        "right": out.exists() and json.loads(out.read_text()) == expected,
        **dict(zip(names, ledger, strict=True)),
        "seconds": time.perf_counter() - start,
    }


def begin(*args):
    child = processes().Process(target=work, args=args)
    child.start()
    return child


def is_exact(row):
    """Whether every answer was collected once, and the bill is that of one run."""
    n = row["prompts"]
    return (
        row["right"]
        and (row["answered by the server"], row["answered twice"]) == (n, 0)
        and (row["kept"], row["left"], row["requests"]) == (n, 0, n)
        and (row["prompt tokens"], row["completion tokens"]) == (10 * n, 5 * n)
        and row["tokens still reserved"] == 0
        and abs(row["dollars"] - 1e-5 * n) < 1e-9 * n
    )
