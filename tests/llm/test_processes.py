"""Several processes with one cache file."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from skllmreg.llm import ChatModel, _cache
from skllmreg.llm._cache import open_store

ROOT = Path(__file__).parents[2]
ASK = """
import sys
from skllmreg.llm import ChatModel, _cache
_cache.LEASE = 1.0
url, path, n = sys.argv[1:]
chat = ChatModel("tiny", base_url=url, cache=path, max_concurrency=4)
print("ready", flush=True)
sys.stdin.readline()
chat.complete([f"prompt {i}" for i in range(int(n))])
"""


def start(loopback, path, n):
    process = subprocess.Popen(
        [sys.executable, "-c", ASK, loopback.base_url, str(path), str(n)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "ready\n"
    return process


def go(process):
    process.stdin.write("\n")
    process.stdin.flush()


def end(process):
    process.stdin.close()
    process.stdout.close()
    return process.wait(timeout=30)


def test_after_a_kill_only_what_was_under_way_is_sent_twice(loopback, tmp_path, monkeypatch):
    monkeypatch.setattr(_cache, "LEASE", 1.0)
    loopback.latency = 0.02
    path = tmp_path / "cache.sqlite3"
    process = start(loopback, path, 60)
    go(process)
    while len(loopback.requests) < 30:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert end(process) == -signal.SIGKILL
    prompts = [f"prompt {i}" for i in range(60)]
    chat = ChatModel("tiny", base_url=loopback.base_url, cache=path, max_concurrency=4)
    n_sent, n_kept = len(loopback.requests), chat.quote(prompts).cached
    assert n_kept >= n_sent - 4
    replies = chat.complete(prompts)
    assert sum(reply.cached for reply in replies) == n_kept
    assert len(loopback.requests) - n_sent == 60 - n_kept
    assert len(set(loopback.prompts)) == 60


def test_processes_that_ask_the_same_ask_once(loopback, tmp_path):
    loopback.latency = 0.05
    processes = [start(loopback, tmp_path / "cache.sqlite3", 20) for _ in range(4)]
    for process in processes:
        go(process)
    assert [end(process) for process in processes] == [0] * 4
    assert len(loopback.prompts) == len(set(loopback.prompts)) == 20


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_opens_connections_of_its_own(loopback, tmp_path):
    path = tmp_path / "cache.sqlite3"
    chat = ChatModel("tiny", base_url=loopback.base_url, cache=path)
    chat.complete(["a"])
    store = open_store(path)

    def work():
        cached = chat.complete(["a", "b"])[0].cached
        sys.exit(0 if cached and open_store(path) is not store else 1)

    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    child.join(30)
    assert child.exitcode == 0
    assert chat.complete(["b"])[0].cached
