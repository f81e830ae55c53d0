"""What remembering the vectors of 100,000 distinct texts costs: once, again, and from the file.

The encoder only makes numbers, 384 for each text, so that what is measured is the cache: seconds of
one core, which other work on the machine does not change. all-MiniLM-L6-v2 takes 5 milliseconds of
one core for a short text; they are added to the first pass for the claims (checked at the end): the
first pass is linear in the number of texts, and the second at least 50 times as fast.

    python benchmarks/text_cache.py [--quick] [--output benchmarks/results]
"""

import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from _results import made_by, options, output_folder

from skllmreg.students import SentenceEncoder, _encoders

SECONDS, N_FEATURES = 0.005, 384


def encode(texts):
    return np.random.default_rng(len(texts)).normal(size=(len(texts), N_FEATURES))


def megabytes():
    """Largest memory of the process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(n, folder):
    texts = [
        f"{i} is the number of this text, which has some twelve words in all" for i in range(n)
    ]
    encoder = SentenceEncoder(encode, cache=folder / f"{n}.sqlite3", cache_id="noise")
    found = {"texts": n}
    before = megabytes()
    for name in ("first", "second", "file"):
        if name == "file":  # as another process, which has the file alone
            _encoders._memories.clear()
        start = time.process_time()
        encoder.transform(texts)
        found[name] = time.process_time() - start
    found["MB memory"] = megabytes() - before
    found["MB file"] = (folder / f"{n}.sqlite3").stat().st_size / 2**20
    return found


def main():
    args = options(__doc__, "a tenth of the texts").parse_args()
    scale = 10 if args.quick else 1
    with tempfile.TemporaryDirectory() as folder:
        rows = [measure(n // scale, Path(folder)) for n in (10_000, 30_000, 100_000)]
    lines = [
        "# Vectors of many texts",
        "",
        "Seconds of one core for each pass, without the encoder; memory on top of the row before.",
    ]
    lines += ["", "| " + " | ".join(rows[0]) + " |", "|" + "---|" * len(rows[0])]
    lines += ["| " + " | ".join(f"{v:,.2f}" for v in row.values()) + " |" for row in rows]
    held = all(row["first"] + SECONDS * row["texts"] >= 50 * row["second"] for row in rows)
    per_text = [row["first"] / row["texts"] for row in rows]
    held &= max(per_text) < 1.5 * min(per_text)
    made = made_by()
    lines += ["", f"Claims: {'hold' if held else 'DO NOT HOLD'}.", ""]
    lines += [f"Made by `{made['command']}` (cores {made['cores']}).", ""]
    text = "\n".join(lines)
    print(text)
    if (folder := output_folder(args)) is not None:
        (folder / "text_cache.md").write_text(text)
        (folder / "text_cache.json").write_text(json.dumps({"made_by": made, "rows": rows}) + "\n")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
