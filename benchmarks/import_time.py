"""Time to import: what `import skllmreg` adds to the interpreter's own start.

Claim: at most 50 ms; the package loads what is used when it is used. For comparison, what the first
model and scikit-learn alone add. Fresh interpreters take turns, and their CPU time counts, so that
other work on the machine does not; the first turn, which fills the disk's cache, is left out.

    python benchmarks/import_time.py [--repeats 15] [--quick] [--output benchmarks/results]
"""

import os
import resource
import statistics
import subprocess
import sys

from _results import made_by, options, output_folder, save

NAME = "import_time"
CLAIM = 50.0
STATEMENTS = {
    "the interpreter": "pass",
    "import skllmreg": "import skllmreg",
    "import sklearn.linear_model": "import sklearn.linear_model",
    "the classifier": "from skllmreg import LLMAttributionRegularizedClassifier",
}


def cpu_milliseconds(statement):
    """CPU time of a fresh interpreter that runs a statement."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": ""}
    subprocess.run([sys.executable, "-c", statement], check=True, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return 1000 * (after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)


def measure(repeats):
    """Milliseconds of each statement above the interpreter's start, which comes as it is."""
    taken = {name: [] for name in STATEMENTS}
    for repeat in range(-1, repeats):
        for name, statement in STATEMENTS.items():
            value = cpu_milliseconds(statement)
            if repeat >= 0:
                taken[name].append(value)
    start, *rest = taken
    above = {
        name: statistics.median(a - b for a, b in zip(taken[name], taken[start], strict=True))
        for name in rest
    }
    return {start: statistics.median(taken[start]), **above}


def main():
    parser = options(__doc__, "fewer repeats")
    parser.add_argument("--repeats", type=int, default=15)
    args = parser.parse_args()
    milliseconds = measure(3 if args.quick else args.repeats)
    start, ours, *others = milliseconds
    verdict = "PASS" if milliseconds[ours] <= CLAIM else "FAIL"
    lines = [f"{start}: {milliseconds[start]:.1f} ms"]
    lines.append(f"+ {ours}: {milliseconds[ours]:.1f} ms (claim: {CLAIM:.0f}): {verdict}")
    lines += [f"+ {name}: {milliseconds[name]:.1f} ms" for name in others]
    made = made_by()
    rest = ", ".join(f"{key} {value}" for key, value in made.items())
    text = f"# Time to import\n\nMade by {rest}.\n\n```text\n" + "\n".join(lines) + "\n```\n"
    print(text)
    rounded = {name: round(value, 2) for name, value in milliseconds.items()}
    save(output_folder(args), NAME, text, made, {"milliseconds": rounded})


if __name__ == "__main__":
    main()
