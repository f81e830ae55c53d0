"""Several processes with one cache file."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from skllmreg.llm import ChatModel, _store
from skllmreg.utils._process import process as this_process

ROOT = Path(__file__).parents[2]
ASK = """
import sys
from skllmreg.llm import ChatModel, _store
_store.LEASE = 1.0
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
    return process.wait(timeout=120)


@pytest.mark.slow
def test_after_a_kill_only_what_was_under_way_is_sent_twice(loopback, tmp_path, monkeypatch):
    monkeypatch.setattr(_store, "LEASE", 1.0)
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


def test_a_request_imports_nothing_that_its_preparation_has_not(loopback):
    # A fork amid an import leaves half a module to the child: the preparation holds forks back.
    code = f"""
import sys
from skllmreg.llm import Request
from skllmreg.llm._transport import ChatCompletions
server = ChatCompletions({loopback.base_url!r})
server.prepare()
before = set(sys.modules)
server.send(Request("tiny", [dict(role="user", content="a")], dict()))
print(sorted(set(sys.modules) - before))
"""
    command = [sys.executable, "-c", code]
    assert subprocess.check_output(command, cwd=ROOT, text=True) == "[]\n"


@pytest.mark.slow
def test_processes_that_ask_the_same_ask_once(loopback, tmp_path):
    loopback.latency = 0.05
    processes = [start(loopback, tmp_path / "cache.sqlite3", 20) for _ in range(4)]
    for process in processes:
        go(process)
    assert [end(process) for process in processes] == [0] * 4
    assert len(loopback.prompts) == len(set(loopback.prompts)) == 20


@pytest.fixture
def fork():
    """Start a forked child; the fork waits for the end of a transaction, whoever is in one."""
    if not hasattr(os, "fork"):
        pytest.skip("needs fork")
    children = []

    def start(work):
        children.append(multiprocessing.get_context("fork").Process(target=work))
        children[-1].start()
        return children[-1]

    yield start
    for child in children:
        child.kill()


def ended(child):
    child.join(30)
    return child.exitcode


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
class TestFork:
    def test_child_and_parent_go_on_with_one_cache(self, loopback, tmp_path, fork):
        chat = ChatModel("tiny", base_url=loopback.base_url, cache=tmp_path / "cache.sqlite3")
        chat.complete(["a"])

        def work():
            sys.exit(0 if chat.complete(["a", "b"])[0].cached else 1)

        assert ended(fork(work)) == 0
        assert chat.complete(["b"])[0].cached

    def test_the_parent_that_ends_first_takes_no_answer_of_the_child_with_it(
        self, loopback, tmp_path, fork
    ):
        chat = ChatModel("tiny", base_url=loopback.base_url, cache=tmp_path / "cache.sqlite3")
        chat.complete(["a"])
        come, go = multiprocessing.Event(), multiprocessing.Event()

        def work():
            chat.complete(["b"])
            come.set()
            go.wait(30)
            chat.complete(["c"])

        child = fork(work)
        assert come.wait(30)
        this_process.reset()  # as at its end
        go.set()
        assert ended(child) == 0
        assert all(reply.cached for reply in chat.complete(["a", "b", "c"]))

    def test_a_fork_amid_requests_leaves_no_lock_behind(self, loopback, tmp_path, fork):
        loopback.latency = 0.005
        chat = ChatModel("tiny", base_url=loopback.base_url, cache=tmp_path / "cache.sqlite3")
        prompts = [f"prompt {i}" for i in range(40)]
        asking = threading.Thread(target=chat.complete, args=(prompts,))
        asking.start()
        children = []
        while asking.is_alive() and len(children) < 5:
            children.append(fork(lambda: chat.complete(prompts)))
            time.sleep(0.01)
        asking.join()
        assert [ended(child) for child in children] == [0] * len(children)
        assert sorted(loopback.prompts) == sorted(prompts)
