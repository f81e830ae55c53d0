"""What the edge to the LLM costs, and what it saves, against a server on this machine.

Claims (each measured here):

1. 1,000 prompts at 100 ms latency, 32 at once: at most 1.10 times the time of the bare openai
   client with 32 threads; at least 10 times the throughput of scikit-llm's classifier at its best
   number of workers; from the cache at least 100 times faster than live; below 300 MB.
2. SIGKILL half-way through 200 prompts, then again: no answer that was in the cache is sent again,
   and at most `max_concurrency` prompts are sent twice.
3. 16 processes with the same 50 cold prompts: the server sees 50.
4. Look-ups from 4 processes in a cache of 100,000 entries: at least 5,000 a second in all.
5. 3,000 prompts, 64 at once, with the cache: at least 0.9 times the rate of the bare client with 64
   threads; the peak of memory at 20,000 prompts is that at 2,000 and what their replies take.

The server is a process of its own, so that it shares no interpreter with the client; so is every
client that is timed. scikit-llm wants older versions of openai and pandas than this package: it is
installed into a virtual environment in a temporary folder (needs the package index),
or used from one that exists (--scikit-llm-python).

    python benchmarks/llm_edge.py [--quick] [--only NAME ...] [--scikit-llm-python PYTHON]

`--quick` is for continuous integration: smaller numbers, no scikit-llm, no files. `--only` repeats
some of the experiments, and keeps the results of the others.
"""

import argparse
import asyncio
import json
import os
import platform
import random
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
REPLY = '{"label": "positive"}'
CONCURRENCY = 32
READING = """\
scikit-llm builds a client for each request, so that it is bound by the processor and suffers most
from other work on the machine: with a load below 1 at the start it came to 39 prompts/s, so that
ChatModel had 7.5 times its throughput with 32 at once.
"""


# The server: as little as possible, so that the client is what is measured.


class Protocol(asyncio.Protocol):
    latency = 0.1
    prompts: list = []

    def connection_made(self, transport):
        self.transport, self.data = transport, b""

    def data_received(self, data):
        self.data += data
        while (end := self.data.find(b"\r\n\r\n")) >= 0:
            head = self.data[:end].decode().lower()
            lines = [line for line in head.split("\r\n") if line.startswith("content-length:")]
            stop = end + 4 + (int(lines[0].partition(":")[2]) if lines else 0)
            if len(self.data) < stop:
                return
            body, self.data = self.data[end + 4 : stop], self.data[stop:]
            if head.startswith("get"):
                self.answer({"prompts": self.prompts})
            else:
                self.prompts.append(json.loads(body)["messages"][-1]["content"])
                asyncio.get_running_loop().call_later(self.latency, self.answer, COMPLETION)

    def answer(self, payload):
        body = json.dumps(payload).encode()
        head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length:"
        if not self.transport.is_closing():
            self.transport.write(f"{head} {len(body)}\r\n\r\n".encode() + body)


COMPLETION = {
    "id": "1",
    "object": "chat.completion",
    "created": 0,
    "model": "tiny",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": REPLY},
            "finish_reason": "stop",
            "logprobs": None,
        }
    ],
    "usage": {"prompt_tokens": 30, "completion_tokens": 6, "total_tokens": 36},
}


def serve(latency):
    async def run():
        Protocol.latency = latency
        server = await asyncio.get_running_loop().create_server(Protocol, "127.0.0.1", 0)
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()

    asyncio.run(run())


class Server:
    """The server process; `prompts()` is what it has been asked so far."""

    def __init__(self, latency):
        self.process = start("serve", latency)
        self.url = f"http://127.0.0.1:{int(self.process.stdout.readline())}/v1"

    def prompts(self):
        with urllib.request.urlopen(self.url) as response:
            return json.load(response)["prompts"]

    def __enter__(self):
        return self

    def __exit__(self, *args):
        self.process.kill()
        self.process.communicate()


def start(*args, python=sys.executable):
    """This script again, in a process of its own."""
    command = [python, __file__, *map(str, args)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def ask(*args, python=sys.executable):
    """What such a process prints, as JSON."""
    process = start(*args, python=python)
    out, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(f"{args} failed with status {process.returncode}")
    return json.loads(out)


# The clients. Each warms up with one request of its own, and times the rest.


def texts(n, prefix="text"):
    return [f"Is this review positive or negative? {prefix} {i}" for i in range(n)]


def timed(work):
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def cpu_seconds():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def client_ours(url, path, n, concurrency=CONCURRENCY):
    from skllmreg.llm import ChatModel

    chat = ChatModel("tiny", base_url=url, cache=path, max_concurrency=concurrency)
    chat.complete(["warm up"])
    cpu = cpu_seconds()
    live, replies = timed(lambda: chat.complete(texts(n)))
    cpu = cpu_seconds() - cpu
    assert len(replies) == n
    assert not any(reply.cached for reply in replies)
    cached = []
    for _ in range(5):
        seconds, replies = timed(lambda: chat.complete(texts(n)))
        assert all(reply.cached for reply in replies)
        cached.append(seconds)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (
        2**20 if sys.platform == "darwin" else 2**10
    )
    return {
        "live": live,
        "cached": statistics.median(cached),
        "memory_mb": memory,
        "cpu": cpu,
    }


def client_bare(url, n, concurrency=CONCURRENCY):
    import openai

    client = openai.OpenAI(api_key="no-key", base_url=url)

    def one(text):
        messages = [{"role": "user", "content": text}]
        return client.chat.completions.create(model="tiny", messages=messages)

    def run(prompts):
        with ThreadPoolExecutor(concurrency) as pool:
            return [r.choices[0].message.content for r in pool.map(one, prompts)]

    run(["warm up"])
    cpu = cpu_seconds()
    seconds, replies = timed(lambda: run(texts(n)))
    assert replies == [REPLY] * n
    return {"live": seconds, "cpu": cpu_seconds() - cpu}


def client_scikit_llm(url, n, workers):
    import warnings

    from skllm.config import SKLLMConfig
    from skllm.models.gpt.classification.zero_shot import ZeroShotGPTClassifier

    warnings.simplefilter("ignore")
    SKLLMConfig.set_gpt_url(url)
    SKLLMConfig.set_openai_key("no-key")
    SKLLMConfig.set_openai_org("none")
    model = ZeroShotGPTClassifier(model="custom_url::tiny")
    model.fit(None, ["positive", "negative"])
    model.predict(["warm up"])
    seconds, labels = timed(lambda: model.predict(texts(n), num_workers=workers))
    assert list(labels) == ["positive"] * n
    return {"live": seconds}


def complete(url, path, n, concurrency, at=0.0):
    from skllmreg.llm import ChatModel

    chat = ChatModel("tiny", base_url=url, cache=path, max_concurrency=concurrency)
    while time.time() < at:
        time.sleep(0.001)
    return {"cached": sum(reply.cached for reply in chat.complete(texts(n)))}


def fill(path, n):
    """Put `n` answers into a cache, as if they had been asked for."""
    from skllmreg.llm import ChatModel
    from skllmreg.llm._engine import Answering
    from skllmreg.llm._settings import as_conversations
    from skllmreg.llm._values import Question

    chat = ChatModel("tiny", base_url="http://127.0.0.1:1/v1", cache=path)
    obtain = chat._obtain(Question())
    record = {"text": REPLY, "refusal": None, "finish_reason": "stop", "model": "tiny"}
    record |= {"prompt_tokens": 30, "completion_tokens": 6, "logprobs": None}
    rows = [
        (
            task.key,
            time.time(),
            obtain.settings.url,
            "tiny",
            json.dumps({"messages": task.messages, "options": {}, "schema": None, "sample": 0}),
            json.dumps(record),
        )
        for task in Answering(obtain).plan(as_conversations(texts(n)))
    ]
    with obtain.store.writing() as db:
        db.executemany("INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?)", rows)


def look_up(path, n, at, seconds, seed):
    """Look-ups within some seconds, through the public method, a hundred at a time."""
    from skllmreg.llm import ChatModel

    chat = ChatModel("tiny", base_url="http://127.0.0.1:1/v1", cache=path, max_retries=0)
    chat.complete(texts(1))
    prompts, rng, done = texts(n), random.Random(seed), 0
    while time.time() < at:
        time.sleep(0.001)
    while time.time() < at + seconds:
        replies = chat.complete(rng.sample(prompts, 100))
        assert all(reply.cached for reply in replies)
        done += len(replies)
    return {"done": done}


# The experiments.


def measure_throughput(folder, n, repeats):
    ours, bare = [], []
    with Server(latency=0.1) as server:
        for i in range(repeats):
            bare.append(ask("bare", server.url, n)["live"])
            ours.append(ask("ours", server.url, folder / f"throughput{i}.sqlite3", n))
    live = statistics.median(row["live"] for row in ours)
    cached = statistics.median(row["cached"] for row in ours)
    return {
        "prompts": n,
        "repeats": repeats,
        "bare_seconds": statistics.median(bare),
        "ours_seconds": live,
        "bare_all": bare,
        "ours_all": [row["live"] for row in ours],
        "cached_seconds": cached,
        "ratio_to_bare": live / statistics.median(bare),
        "cache_speedup": live / cached,
        "memory_mb": max(row["memory_mb"] for row in ours),
    }


def measure_crowd(folder, n, repeats, concurrency=64):
    """The two clients by turns; the ratios are those of neighbors in time."""
    ours, bare = [], []
    with Server(latency=0.1) as server:
        for i in range(repeats):
            arms = [
                lambda: bare.append(ask("bare", server.url, n, concurrency)),
                lambda i=i: ours.append(
                    ask("ours", server.url, folder / f"crowd{i}.sqlite3", n, concurrency)
                ),
            ]
            for arm in arms if i % 2 else reversed(arms):
                arm()
    pairs = list(zip(ours, bare, strict=True))
    ratios = {name: [b[name] / o[name] for o, b in pairs] for name in ("live", "cpu")}
    return {
        "prompts": n,
        "max_concurrency": concurrency,
        "repeats": repeats,
        "bare": bare,
        "ours": ours,
        "rate_to_bare": statistics.median(ratios["live"]),
        "rate_to_bare_all": ratios["live"],
        "cpu_of_bare": statistics.median(ratios["cpu"]),
    }


def measure_memory(folder, sizes, concurrency=64):
    """Peaks of memory, live and cached, and what the replies themselves take of it."""
    from skllmreg.llm import Reply

    reply = Reply(REPLY, REPLY, "tiny", "stop", 30, 6, None, False)
    each = sum(map(sys.getsizeof, (reply, reply.text, texts(1)[0]))) + 3 * 8
    with Server(latency=0.0) as server:
        peaks = {
            n: ask("ours", server.url, folder / f"memory{n}.sqlite3", n, concurrency)["memory_mb"]
            for n in sizes
        }
    return {"peak_mb": peaks, "reply_bytes": each}


def measure_scikit_llm(folder, python, n):
    """Throughput of both for several numbers of workers, the better of two runs each."""
    theirs, ours = {}, {}
    with Server(latency=0.1) as server:
        for workers in (8, 16, 32, 64, 128):
            path = folder / f"workers{workers}-"
            theirs[workers] = max(
                n / ask("scikit-llm", server.url, n, workers, python=python)["live"]
                for _ in range(2)
            )
            ours[workers] = max(
                1000 / ask("ours", server.url, f"{path}{i}", 1000, workers)["live"]
                for i in range(2)
            )
    code = "from importlib.metadata import version as v; print(v('scikit-llm'), v('openai'))"
    versions = subprocess.check_output([python, "-c", code], text=True).split()
    return {
        "prompts": n,
        "per_second_by_workers": theirs,
        "ours_per_second_by_workers": ours,
        "scikit-llm": versions[0],
        "openai": versions[1],
    }


def make_scikit_llm(folder):
    subprocess.check_call([sys.executable, "-m", "venv", folder / "venv"])
    python = folder / "venv" / "bin" / "python"
    subprocess.check_call([python, "-m", "pip", "install", "-q", "scikit-llm"])
    return str(python)


def measure_kill(folder, n, concurrency=16):
    path = folder / "kill.sqlite3"
    with Server(latency=0.1) as server:
        first = start("complete", server.url, path, n, concurrency)
        while len(server.prompts()) < n // 2:
            time.sleep(0.005)
        first.send_signal(signal.SIGKILL)
        first.communicate()
        sent = server.prompts()
        seconds, second = timed(lambda: ask("complete", server.url, path, n, concurrency))
        again = server.prompts()[len(sent) :]
    return {
        "prompts": n,
        "max_concurrency": concurrency,
        "sent_before_kill": len(sent),
        "in_cache_after_kill": second["cached"],
        "sent_by_second_run": len(again),
        "sent_twice": len(set(sent) & set(again)),
        "in_cache_and_sent_again": len(again) - (n - second["cached"]),
        "second_run_seconds": seconds,
    }


def measure_single_flight(folder, n_processes, n):
    path = folder / "flight.sqlite3"
    with Server(latency=0.1) as server:
        at = time.time() + 1.0 + 0.4 * n_processes
        processes = [start("complete", server.url, path, n, 8, at) for _ in range(n_processes)]
        for process in processes:
            process.communicate()
            assert process.returncode == 0
        seen = server.prompts()
    return {
        "processes": n_processes,
        "prompts": n,
        "requests": len(seen),
        "distinct": len(set(seen)),
    }


def measure_lookups(folder, n, n_processes=4, seconds=5.0):
    path = folder / "lookups.sqlite3"
    fill(path, n)
    at = time.time() + 3.0
    processes = [start("look-up", path, n, at, seconds, seed) for seed in range(n_processes)]
    done = sum(json.loads(process.communicate()[0])["done"] for process in processes)
    return {"entries": n, "processes": n_processes, "per_second": done / seconds}


def table(results):
    throughput, kill = results["throughput"], results["kill"]
    flight, lookups = results["single_flight"], results["lookups"]
    rows = [
        (
            f"{throughput['prompts']:,} prompts, 100 ms, {CONCURRENCY} at once: bare client",
            f"{throughput['bare_seconds']:.2f} s",
            "",
        ),
        ("the same with ChatModel", f"{throughput['ours_seconds']:.2f} s", ""),
        ("ratio to the bare client", f"{throughput['ratio_to_bare']:.3f}", "<= 1.10"),
        (
            "from the cache",
            f"{1000 * throughput['cached_seconds']:.1f} ms, {throughput['cache_speedup']:.0f} x",
            ">= 100 x",
        ),
        ("peak memory", f"{throughput['memory_mb']:.0f} MB", "< 300 MB"),
    ]
    if crowd := results.get("crowd"):
        rows.append(
            (
                f"{crowd['prompts']:,} prompts, {crowd['max_concurrency']} at once: rate, "
                "as a share of the bare client's, median of pairs",
                f"{crowd['rate_to_bare']:.2f}",
                ">= 0.90",
            )
        )
    if memory := results.get("memory"):
        (few, small), (many, large) = memory["peak_mb"].items()
        rows.append(
            (
                f"peak memory at {int(few):,} and at {int(many):,} prompts",
                f"{small:.0f} MB, {large:.0f} MB",
                f"the replies take {memory['reply_bytes']} bytes each",
            )
        )
    if other := results.get("scikit_llm"):
        theirs, best = (
            max(other[name].values())
            for name in ("per_second_by_workers", "ours_per_second_by_workers")
        )
        ours = throughput["prompts"] / throughput["ours_seconds"]
        rows += [
            ("scikit-llm, best number of workers", f"{theirs:.1f} prompts/s", ""),
            (
                f"ChatModel, {CONCURRENCY} at once",
                f"{ours:.1f} prompts/s, {ours / theirs:.1f} x",
                f">= 10 x (with {CONCURRENCY} at once no client has more than "
                f"{CONCURRENCY / 0.1:.0f} prompts/s)",
            ),
            (
                "ChatModel, best max_concurrency",
                f"{best:.1f} prompts/s, {best / theirs:.1f} x",
                ">= 10 x",
            ),
        ]
    rows += [
        (
            f"killed after {kill['sent_before_kill']} of {kill['prompts']}: cached, sent again",
            str(kill["in_cache_and_sent_again"]),
            "0",
        ),
        ("killed: sent twice", str(kill["sent_twice"]), f"<= {kill['max_concurrency']}"),
        (
            f"{flight['processes']} processes x the same {flight['prompts']} prompts: requests",
            str(flight["requests"]),
            str(flight["prompts"]),
        ),
        (
            f"look-ups, {lookups['processes']} processes, {lookups['entries']:,} entries",
            f"{lookups['per_second']:,.0f} /s",
            ">= 5,000 /s",
        ),
    ]
    lines = ["| what | measured | claim |", "|---|---|---|"]
    return "\n".join(lines + [f"| {' | '.join(row)} |" for row in rows])


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="small numbers, no scikit-llm")
    parser.add_argument("--only", nargs="+", help="names of experiments")
    parser.add_argument("--scikit-llm-python", help="interpreter that has scikit-llm installed")
    args = parser.parse_args()
    load = os.getloadavg()[0]
    quick = args.quick

    def scikit_llm(folder):
        python = args.scikit_llm_python or make_scikit_llm(folder)
        return measure_scikit_llm(folder, python, 200)

    experiments = {
        "throughput": lambda f: measure_throughput(f, 200 if quick else 1000, 1 if quick else 5),
        "crowd": lambda f: measure_crowd(f, 500 if quick else 3000, 1 if quick else 5),
        "memory": lambda f: measure_memory(f, (200, 500) if quick else (2_000, 20_000)),
        "kill": lambda f: measure_kill(f, 100 if quick else 200),
        "single_flight": lambda f: measure_single_flight(f, 4 if quick else 16, 50),
        "lookups": lambda f: measure_lookups(
            f, 2_000 if quick else 100_000, seconds=1.0 if quick else 5.0
        ),
        "scikit_llm": scikit_llm,
    }
    if quick:
        del experiments["scikit_llm"]
    path = RESULTS / "llm_edge.json"
    results = json.loads(path.read_text()) if args.only and not quick else {}
    with tempfile.TemporaryDirectory() as name:
        for experiment in args.only or experiments:
            results[experiment] = experiments[experiment](Path(name))
            print(experiment, json.dumps(results[experiment]), flush=True)
    if quick:
        return
    print(table(results))
    import openai

    from skllmreg import __version__

    results["versions"] = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "load average of other work at the start": round(load, 1),
        "skllmreg": __version__,
        "openai": openai.__version__,
    }
    RESULTS.mkdir(exist_ok=True)
    path.write_text(json.dumps(results, indent=2) + "\n")
    notes = "\n".join(f"- {name}: {value}" for name, value in results["versions"].items())
    notes += f"\n- scikit-llm: {results['scikit_llm']['scikit-llm']}"
    notes += f" (with openai {results['scikit_llm']['openai']})"
    for name, key in (
        ("scikit-llm", "per_second_by_workers"),
        ("ChatModel", "ours_per_second_by_workers"),
    ):
        rates = ", ".join(f"{n}: {rate:.1f}" for n, rate in results["scikit_llm"][key].items())
        notes += f"\n- {name}, prompts per second by number of workers: {rates}"
    (RESULTS / "llm_edge.md").write_text(
        f"# The edge to the LLM\n\nMade by `python benchmarks/llm_edge.py`.\n\n{table(results)}\n\n"
        f"{notes}\n\n{READING}"
    )


COMMANDS = {
    "serve": lambda latency: serve(float(latency)),
    "bare": lambda url, n, concurrency=CONCURRENCY: client_bare(url, int(n), int(concurrency)),
    "ours": lambda url, path, n, concurrency=CONCURRENCY: client_ours(
        url, path, int(n), int(concurrency)
    ),
    "scikit-llm": lambda url, n, workers: client_scikit_llm(url, int(n), int(workers)),
    "complete": lambda url, path, n, concurrency, at=0: complete(
        url, path, int(n), int(concurrency), float(at)
    ),
    "look-up": lambda path, n, at, seconds, seed: look_up(
        path, int(n), float(at), float(seconds), int(seed)
    ),
}

if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1] in COMMANDS:
        print(json.dumps(COMMANDS[sys.argv[1]](*sys.argv[2:])))
    else:
        main()
