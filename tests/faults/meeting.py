"""Many who ask the same at the same time: each of these counts what the server got."""

import multiprocessing
import os
import signal
import time

import joblib
import numpy as np
from sklearn.model_selection import GridSearchCV

from skllmreg import ChatModel, LLKDSelector, LLMAttributionRegularizedClassifier, UnlabeledSplit
from tests.faults.entries import TASK, X, teacher
from tests.faults.jobs import PATIENCE, processes, work
from tests.faults.killing import served

N_PROMPTS = 50


class DeadlockError(Exception):
    """Somebody was not done when all patience was; the stacks are on stderr."""


def search(backend, folder):
    """Two grid searches with one LLM: of scores that all folds share, and of labels of texts."""
    with served() as loopback, joblib.parallel_backend(backend, n_jobs=2):
        llm = ChatModel("tiny", base_url=loopback.base_url, cache=folder / "cache.sqlite3")
        scored = LLMAttributionRegularizedClassifier(llm, task=TASK, n_estimates=3)
        GridSearchCV(scored, {"gamma": [0.1, 1.0]}, cv=2, n_jobs=2).fit(X, ["ill", "well"] * 2)
        texts = [f"Where is {what} {i}?" for i in range(10) for what in ("parcel", "money back")]
        y = np.array(["delivery", "refund"] * 4 + [None] * 12, dtype=object)
        labeled = LLKDSelector(teacher=teacher(llm), strategy="all", random_state=0)
        grid = {"labels": ["hard", "soft"]}
        GridSearchCV(labeled, grid, cv=UnlabeledSplit(2), n_jobs=2).fit(texts, y)
        return len(loopback.requests), 3 + 12


def meet(context, n_processes, folder, job="complete"):
    """Processes that ask the same cold prompts at the same moment."""
    with served() as loopback:
        gate = context.Barrier(n_processes)
        args = (job, loopback.base_url, folder / "cache.sqlite3", None, gate)
        together = [context.Process(target=work, args=args) for _ in range(n_processes)]
        for process in together:
            process.start()
        finish(together)
        return len(loopback.requests), N_PROMPTS


def finish(together):
    for process in together:
        process.join(PATIENCE)
    codes = [process.exitcode for process in together]
    stuck = [process for process in together if process.exitcode is None]
    for number in (signal.SIGUSR1, signal.SIGKILL) if stuck else ():
        for process in stuck:
            os.killpg(process.pid, number)
        time.sleep(1)  # to write the stacks
    if stuck:
        raise DeadlockError(codes)
    if any(codes):
        raise RuntimeError(f"exit codes {codes}")


SPAWN = multiprocessing.get_context("spawn")
MEETINGS = {
    "two processes": lambda folder: meet(processes(), 2, folder),
    "forks amid requests": lambda folder: meet(processes(), 2, folder, "forks"),
    "grid searches, n_jobs=2, threading": lambda folder: search("threading", folder),
    "grid searches, n_jobs=2, loky": lambda folder: search("loky", folder),
    "sixteen processes": lambda folder: meet(processes(), 16, folder),
    "spawned processes": lambda folder: meet(SPAWN, 2, folder),
    # Nothing is imported yet: neither the client nor what it imports, and runs, on first use.
    "forks amid imports": lambda folder: meet(SPAWN, 2, folder, "forks"),
}
