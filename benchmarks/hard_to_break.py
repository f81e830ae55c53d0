"""Kills, crowds at one cache, and fuzzed replies: is anything lost, paid twice, stuck or raised?

Claims:

1. SIGKILL at a random moment of elicitation, annotation and generation, 50 times each: the next run
   finishes with the result of an undisturbed one, no answer that was in the cache is sent for
   again, and at most the requests under way (`max_concurrency`) are sent twice.
2. Grid searches with ``n_jobs=2`` (loky and threading), two and sixteen processes, and forks amid
   requests and amid imports, with the same cold prompts, 100 times each: the server gets each
   prompt once, and nobody waits for ever.
3. 100,000 generated replies for each parser: each is read as a value that keeps to the rules, or
   refused by the error that is documented.

    python benchmarks/hard_to_break.py [--quick] [--sections kill concurrency fuzz] [--rows ...]

`--quick` is for continuous integration: smaller numbers, no files. `--rows` makes some rows anew
and keeps the others; a run that is stopped has counted up to there. What is run here is in
``tests/faults``; the suite runs a few of each.
"""

import argparse
import collections
import json
import os
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(1, str(Path(__file__).parents[1]))

from _results import made_by, output_folder

from tests.faults.fuzzing import PARSERS, fuzz
from tests.faults.jobs import JOBS
from tests.faults.killing import Undisturbed, kill
from tests.faults.meeting import MEETINGS

TITLE = "# Hard to break: kills, crowds at one cache, fuzzed replies\n"


def measure_kill(folder, jobs, quick):
    """SIGKILL at random moments."""
    for job in jobs:
        undisturbed = Undisturbed(job, folder)
        killed = [kill(undisturbed, seed, folder) for seed in range(3 if quick else 50)]
        yield (
            job,
            {
                "runs": len(killed),
                "resumed": sum(one.resumed for one in killed),
                "requests": undisturbed.prompts.total(),
                "sent when killed, mean": sum(one.n_before for one in killed) / len(killed),
                "in the cache, mean": sum(one.n_cached for one in killed) / len(killed),
                "cached and sent again": sum(one.n_again for one in killed),
                "sent twice, most": max(one.n_twice for one in killed),
                "sent twice, mean": sum(one.n_twice for one in killed) / len(killed),
            },
        )


def measure_concurrency(folder, names, quick):
    """Many who ask the same."""
    for name in names:
        outcomes: collections.Counter = collections.Counter()
        start = time.perf_counter()
        for i in range(1 if quick else 100):
            here = folder / f"{name} {i}"
            here.mkdir()
            try:
                n_requests, n_wanted = MEETINGS[name](here)
            except Exception as error:  # a deadlock, or a process that failed: counted
                outcomes[f"{type(error).__name__}: {error}"] += 1
            else:
                outcomes["exact" if n_requests == n_wanted else f"{n_requests} requests"] += 1
            seconds = (time.perf_counter() - start) / outcomes.total()
            other = {outcome: n for outcome, n in outcomes.items() if outcome != "exact"}
            row = {"runs": outcomes.total(), "exact": outcomes["exact"], "other": other}
            yield name, row | {"seconds a run": seconds}


def measure_fuzz(folder, names, quick):
    """Generated replies."""
    for name in names:
        start = time.perf_counter()
        row = fuzz(name, 2_000 if quick else 100_000, seed=0)
        yield name, row | {"seconds": time.perf_counter() - start}


SECTIONS = {
    "kill": (measure_kill, JOBS),
    "concurrency": (measure_concurrency, MEETINGS),
    "fuzz": (measure_fuzz, PARSERS),
}


def tables(results):
    """One table for each section."""
    text = ""
    for section, rows in results.items():
        names = list(dict.fromkeys(name for row in rows.values() for name in row))
        text += f"\n## {SECTIONS[section][0].__doc__.strip()}\n\n| | {' | '.join(names)} |\n"
        text += "|---" * (len(names) + 1) + "|\n"
        for name, row in rows.items():
            text += f"| {name} | {' | '.join(shown(row.get(key)) for key in names)} |\n"
    return text


def shown(value):
    if isinstance(value, dict):
        return "; ".join(f"{n} x {what}" for what, n in value.items()) or "none"
    return f"{value:.2f}" if isinstance(value, float) else f"{value:,}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="small numbers; no files")
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--rows", nargs="+", metavar="NAME", help="names of rows; all by default")
    parser.add_argument("--output", type=Path, help="folder of the results")
    args = parser.parse_args()
    folder = output_folder(args)
    kept = folder / "hard_to_break.json" if folder else None
    results = json.loads(kept.read_text())["results"] if kept and kept.exists() else {}
    for section in args.sections:
        measure, names = SECTIONS[section]
        names = [name for name in names if not args.rows or name in args.rows]
        results.setdefault(section, {})
        with tempfile.TemporaryDirectory() as name:
            for row_name, row in measure(Path(name), names, args.quick):
                results[section][row_name] = row
                if folder:  # each time: some take an hour
                    write(kept, results)
        print(tables({section: results[section]}), flush=True)


def write(path, results):
    made = made_by("openai") | {"load average at the end": f"{os.getloadavg()[0]:.0f}"}
    rest = ", ".join(f"{key} {value}" for key, value in made.items() if key != "command")
    path.write_text(json.dumps({"made_by": made, "results": results}, indent=1) + "\n")
    path.with_suffix(".md").write_text(
        f"{TITLE}{tables(results)}\nMade by `{made['command']}` ({rest}).\n"
    )


if __name__ == "__main__":
    main()
