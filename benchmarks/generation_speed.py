"""What looking at generated texts costs: energies and duplicates of 10,000, and what is found.

Claims (checked at the end): the energies of all texts take at most 1.5 times as long as one TF-IDF
transform (words and pairs of words) plus one decision_function over them; comparing each text with
all others takes at most three seconds, and finds all pairs.

The texts are those of trec, emotion and banking77, and copies of them with up to 70 % of their
words replaced by others of the data set, 15 % of them with none. Both sides are run in turns; the
result is the median of the ratios of neighbors, as other work on the machine slows both. Times are
one core's (CPU time). The near-duplicates that are found are compared with those found by comparing
every pair, on a part of the texts.

    python benchmarks/generation_speed.py [--data ../shared/data] [--quick]
        [--output benchmarks/results]
"""

import json
import os
import re
import statistics
import sys
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from _generation_data import available, rows_of
from _results import made_by, options, output_folder
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from skllmreg.augmentation._duplicates import TextIndex
from skllmreg.augmentation._energy import student_energy
from skllmreg.students import TextClassifier

THRESHOLD, MOST, MOST_SECONDS = 0.8, 1.5, 3.0
N_TRAINING, N_COMPARED = 3000, 3000
TEXTS = ("trec", "emotion", "banking77")


def grown(texts, n, rng):
    """Make as many texts of few, alike in varying degrees."""
    words = [word for text in texts for word in text.split()]
    made = list(texts[:n])
    while len(made) < n:
        copy = texts[rng.integers(len(texts))].split()
        if rng.random() > 0.15:
            n_changed = max(1, int(len(copy) * rng.uniform(0, 0.7)))
            for i in rng.integers(len(copy), size=n_changed):
                copy[i] = words[rng.integers(len(words))]
        made.append(" ".join(copy))
    return [made[i] for i in rng.permutation(n)]


def seconds(work):
    start = time.process_time()
    work()
    return time.process_time() - start


def all_pairs(texts):
    """Which texts are duplicates or near-duplicates, by comparing each with all that stay."""
    kept, seen, repeated = [], set(), []
    for text in texts:
        words = re.findall(r"\w+", text.lower())
        found = set(words)
        near = any(len(found & k) >= THRESHOLD * len(found | k) - 1e-9 for k in kept)
        repeated.append(near or tuple(words) in seen)
        seen.add(tuple(words))
        if not repeated[-1]:
            kept.append(found)
    return repeated


def measure(student, default, texts, repeats):
    """Times of both sides, in turns."""
    features, linear = student[:-1], student[-1]
    rows = []
    for _ in range(repeats):
        rows.append(
            {
                "plain": seconds(lambda: linear.decision_function(features.transform(texts))),
                "energy": seconds(lambda: student_energy(student, texts)),
                "duplicates": seconds(lambda: TextIndex(THRESHOLD).add(texts)),
            }
        )
    ratios = [row["energy"] / row["plain"] for row in rows]
    found = {key: statistics.median(row[key] for row in rows) for key in rows[0]}
    print({key: round(value, 2) for key, value in found.items()}, np.round(ratios, 2), flush=True)
    energy = seconds(lambda: student_energy(default, texts))
    plain = seconds(lambda: default.decision_function(texts))
    return found | {
        "ratio": statistics.median(ratios),
        "ratios": ratios,
        "default_ratio": energy / plain,
        "words": float(np.mean([len(text.split()) for text in texts])),
    }


def main():
    args = options(__doc__, "a tenth of the texts").parse_args()
    n, repeats = (1_000, 3) if args.quick else (10_000, 5)
    numbers = {}
    for name in available(args.data, TEXTS):
        rng = np.random.default_rng(0)
        real, labels = rows_of(args.data, name)
        real = [str(text) for text in real]
        texts = grown(real, n, rng)
        chosen = rng.permutation(len(real))[:N_TRAINING]
        X, y = [real[i] for i in chosen], np.asarray(labels)[chosen]
        tfidf = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
        student = make_pipeline(tfidf, LogisticRegression(C=10, tol=1e-2)).fit(X, y)
        default = TextClassifier(random_state=0).fit(X, y)
        found = measure(student, default, texts, repeats)
        statuses = TextIndex(THRESHOLD).add(texts)
        found["found"] = {key: statuses.count(key) for key in ("duplicate", "near-duplicate")}
        part = texts[:N_COMPARED]
        found["agrees"] = [bool(s) for s in TextIndex(THRESHOLD).add(part)] == all_pairs(part)
        numbers[name] = found
    lines = [report(numbers, n)]
    made = made_by()
    lines.append(f"Made by `{made['command']}` (cores {made['cores']}, numpy {made['numpy']}).\n")
    held = all(
        r["ratio"] <= MOST and r["duplicates"] <= MOST_SECONDS and r["agrees"]
        for r in numbers.values()
    )
    lines.append(
        f"Claims: a ratio of at most {MOST}, at most {MOST_SECONDS:g} s for the duplicates, all "
        f"pairs found: {'hold' if held else 'DO NOT HOLD'}.\n"
    )
    print("\n".join(lines))
    folder = output_folder(args)
    if folder is not None:
        (folder / "generation_speed.md").write_text("\n".join(lines))
        content = {"made_by": made, "n_texts": n, "threshold": THRESHOLD, "results": numbers}
        (folder / "generation_speed.json").write_text(json.dumps(content, indent=1) + "\n")
    return 0 if held else 1


def report(numbers, n):
    rows = [
        f"# Energies and duplicates of {n:,} texts",
        "",
        "Seconds of one core: `plain` is one TF-IDF transform (words and pairs) and one "
        "decision_function; the ratio is energy / plain. The last columns: the same "
        "for the default student, which reads parts of words, too; what was refused.",
        "",
        "| texts | words each | plain | energy | duplicates | ratio | default student | refused |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, r in numbers.items():
        rows.append(
            f"| {name} | {r['words']:.0f} | {r['plain']:.2f} | {r['energy']:.2f} | "
            f"{r['duplicates']:.2f} | {r['ratio']:.2f} | {r['default_ratio']:.2f} | "
            f"{sum(r['found'].values()) / n:.0%} |"
        )
    return "\n".join([*rows, ""])


if __name__ == "__main__":
    sys.exit(main())
