"""Rows that an LLM writes: does feedback pay, what does curation do, and what does a row cost?

Claims (checked at the end):

1. On recorded rows of a real model, curation leaves no repeat and loses nothing (-.005 at most).
2. Of the accepted rows at most 2 % are near-duplicates where the LLM repeats 30 % of its rows.
3. Where labels are checked, at most half of the LLM's share of wrong labels is accepted.

Not a claim but the question: gold less no feedback, and less random feedback, at equal requests and
at equal accepted rows, over the settings of a simulated LLM (`_simulated_llm.py`) that writes rows
of a hidden pool. Real rows are the ceiling; perturbed copies and SMOTE what needs no LLM. Rows that
match a test row are taken out before anybody sees them, and counted.

Records are kept in generation.jsonl as they come; an interrupted run goes on where it was.

    python benchmarks/generation.py [--data ../shared/data] [--seeds 5] [--quick] [--recorded]
        [--report] [--output benchmarks/results]
"""

import json
import os
import time
import warnings
from itertools import product
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import _generation_recorded as recorded
import numpy as np
from _generation_baselines import perturbed, smote
from _generation_data import available, fingerprint, make_task
from _generation_judge import SecondReading, near_duplicates
from _generation_report import claims, figure, report, save
from _results import made_by, options, output_folder
from _simulated_llm import SimulatedLLM, as_rows, key_of
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import f1_score

from skllmreg import GOLDAugmenter
from skllmreg.exceptions import GenerationStoppedWarning

STRATEGIES = ("gold", "random-feedback", "no-feedback")
FOLLOW = {"strong": 0.8, "weak": 0.2}
CENTRAL = (0.15, 0.05)
SETTINGS = [  # share of repeats, share of wrong labels: each alone, and the worst of both
    (repeat, mislabel, follow)
    for repeat, mislabel in [CENTRAL, (0, 0.05), (0.3, 0.05), (0.15, 0), (0.15, 0.15), (0.3, 0.15)]
    for follow in FOLLOW
]
N_ROUNDS, BATCH_SIZE = 3, 8  # two requests of each class: 48 rows of it
DEVELOPMENT = 100  # seeds from here on chose the defaults; those reported are below
FIGURE = Path(__file__).parents[1] / "docs" / "_static" / "generation.png"
THRESHOLDS = (0.7, 0.8, 0.85, 1.0)
CHECKS = (None, "student", "dynamics", "teacher")


class Watched:
    """Passes rows on, but for those of the test set; keeps all that was passed."""

    def __init__(self, llm, test):
        self.llm, self.test = llm, {key_of(row) for row in as_rows(test)}
        self.rows, self.labels, self.n_removed, self.n_requests = [], [], 0, 0

    def __call__(self, request):
        written = self.llm(request)
        rows = [row for row in written if key_of(row) not in self.test]
        self.n_requests += 1
        self.n_removed += len(written) - len(rows)
        self.rows += rows
        self.labels += [request.label] * len(rows)
        return rows

    def wrong(self, rows, labels):
        """Share of rows whose label is not the true one."""
        truth = [self.llm.truth.get(key_of(row)) for row in as_rows(rows)]
        return np.mean([t != k for t, k in zip(truth, labels, strict=True)]) if truth else 0.0


class ClearLLM(SimulatedLLM):
    """What it writes near feedback, or as something novel, says its class as clearly as the rest.

    An afterthought: made when the results of `SimulatedLLM` were known, to see what they hang on.
    """

    def _pick(self, allowed, clarity, strength, rng):
        return super()._pick(allowed, clarity, self.center, rng)


def grow(task, seed, setting, *, kind=SimulatedLLM, **params):
    """One fit on rows of a simulated LLM."""
    llm = kind(task.pool, public=task.X_test, public_labels=task.y_test, **setting)
    written = Watched(llm, task.X_test)
    if params.get("label_check") == "teacher":
        params["teacher"] = FrozenEstimator(SecondReading(llm, task.classes))
    params = {"n_batches": 2 * len(task.classes)} | params
    model = GOLDAugmenter(
        task.student(),
        generator=written,
        n_rounds=N_ROUNDS,
        batch_size=BATCH_SIZE,
        random_state=seed,
        **params,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", GenerationStoppedWarning)
        return model.fit(task.X, task.y), written


def scores(task, predict):
    predicted = predict(task.X_test)
    return {
        "accuracy": np.mean(predicted == task.y_test),
        "f1": f1_score(task.y_test, predicted, average="macro"),
    }


def train(task, rows, labels):
    """Scores of the student on labeled rows and these."""
    X = task.joined(rows)
    return scores(task, task.student().fit(X, np.append(task.y, labels)).predict)


def first_of_each(labels, counts):
    """Positions of the first so many rows of each class, in order."""
    labels = np.asarray(labels)
    return np.sort(np.concatenate([np.flatnonzero(labels == k)[:n] for k, n in counts.items()]))


def compare(task, seed, setting, **params):
    """All strategies of one set, seed and setting of the LLM, as a record of each arm.

    Labels are not checked, so that curation is what needs no teacher.
    """
    fits = {
        s: grow(task, seed, setting, strategy=s, label_check=None, **params) for s in STRATEGIES
    }
    labels = [model.y_generated_ for model, _ in fits.values()]
    fewest = {k: min(np.sum(y == k) for y in labels) for k in task.classes}
    arms = {}
    for strategy, (model, written) in fits.items():
        accepted = as_rows(model.X_generated_)
        equal = first_of_each(model.y_generated_, fewest)
        arms[strategy] = scores(task, model.predict) | {
            "not curated": train(task, written.rows, written.labels),
            "equal rows": train(task, [accepted[i] for i in equal], model.y_generated_[equal]),
            "requests": written.n_requests,
            "written": len(written.rows),
            "accepted": len(accepted),
            "invalid": sum(one.reason == "invalid" for one in model.rejected_),
            "removed": written.n_removed,
            "repeats written": near_duplicates(written.rows, task.X),
            "repeats accepted": near_duplicates(accepted, task.X),
            "wrong written": written.wrong(written.rows, written.labels),
            "wrong accepted": written.wrong(accepted, model.y_generated_),
        }
    return arms


def check_labels(task, seed, mislabel_rate):
    """The ways of checking labels on the same requests."""
    found = {}
    setting = {"mislabel_rate": mislabel_rate, "repeat_rate": 0.15, "follow": FOLLOW["strong"]}
    for check in CHECKS:
        model, written = grow(task, seed, setting, strategy="no-feedback", label_check=check)
        found[check or "none"] = scores(task, model.predict) | {
            "wrong written": written.wrong(written.rows, written.labels),
            "wrong accepted": written.wrong(model.X_generated_, model.y_generated_),
            "accepted": len(model.y_generated_),
            "written": len(written.rows),
        }
    return found


def without_llm(task, seed):
    """The floor, the ceilings, and what needs no LLM, with as many rows as an LLM is asked for."""
    rng = np.random.default_rng([seed, 13])
    n_each = 2 * N_ROUNDS * BATCH_SIZE
    order = rng.permutation(len(task.pool.rows))
    each = dict.fromkeys(task.classes, n_each)
    real = order[first_of_each(task.pool.labels[order], each)]
    found = {
        "labeled rows alone": train(task, [], []),
        "perturbed copies": train(task, *perturbed(task, n_each, rng)),
        "real rows": train(task, [task.pool.rows[i] for i in real], task.pool.labels[real]),
        "whole pool": train(task, task.pool.rows, task.pool.labels),
    }
    predict = smote(task, n_each, seed)
    if predict is not None:
        found["SMOTE"] = scores(task, predict)
    real_repeats = near_duplicates([task.pool.rows[i] for i in real], task.X)
    return {"arms": found, "repeats among real rows": real_repeats}


def growth(task, seed, grid):
    """Yield what was run, and the record of it: the arms over a grid of settings."""
    yield {"part": "without"}, without_llm(task, seed)
    for repeat, mislabel, follow in grid:
        setting = {"repeat_rate": repeat, "mislabel_rate": mislabel, "follow": FOLLOW[follow]}
        about = {"part": "arms", "repeat": repeat, "mislabel": mislabel, "follow": follow}
        yield about, {"arms": compare(task, seed, setting)}
        if (repeat, mislabel) == CENTRAL:
            found = compare(task, seed, setting, **half_novel(task))
            yield about | {"part": "novel requests"}, {"arms": found}


def half_novel(task):
    """As many requests, half of them novel: feedback comes from the novel rows alone."""
    return dict.fromkeys(("n_batches", "n_novel_batches"), len(task.classes))


def afterthought(task, seed, grid):
    """Yield the arms of an LLM whose rows are clear whatever is wished, at the central rates."""
    for follow, heeds in FOLLOW.items():
        rates = {"repeat_rate": CENTRAL[0], "mislabel_rate": CENTRAL[1], "follow": heeds}
        for part, params in (("clear", {}), ("clear, novel requests", half_novel(task))):
            found = compare(task, seed, rates, kind=ClearLLM, **params)
            yield {"part": part, "follow": follow}, {"arms": found}


def checks(task, seed, grid):
    for mislabel in (0.05, 0.15):
        yield {"part": "labels", "mislabel": mislabel}, {"arms": check_labels(task, seed, mislabel)}


def duplicates(task, seed, grid):
    """Yield what thresholds of similarity let through where the LLM repeats itself, and not."""
    for repeat in (0, 0.3):
        setting = {"mislabel_rate": CENTRAL[1], "repeat_rate": repeat, "follow": FOLLOW["strong"]}
        found = {}
        for threshold in THRESHOLDS:
            params = {"label_check": None, "duplicate_threshold": threshold}
            model, written = grow(task, seed, setting, strategy="no-feedback", **params)
            found[str(threshold)] = scores(task, model.predict) | {
                "repeats written": near_duplicates(written.rows, task.X),
                "repeats accepted": near_duplicates(model.X_generated_, task.X),
                "accepted": len(model.y_generated_),
                "written": len(written.rows),
            }
        yield {"part": "duplicates", "repeat": repeat}, {"arms": found}


RUNS = (growth, duplicates, checks, afterthought)


def main():
    parser = options(__doc__, "one set, two seeds, three settings")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0, help=f"{DEVELOPMENT}: development")
    parser.add_argument("--sets", help="names of data sets in the folder, separated by commas")
    parser.add_argument("--recorded", action="store_true", help="only the recorded rows")
    parser.add_argument("--report", action="store_true", help="only tabulate the kept records")
    args = parser.parse_args()
    folder = output_folder(args)
    names = available(args.data, args.sets and args.sets.split(","))
    grid = SETTINGS
    n_seeds = args.seeds
    if args.quick:
        names, n_seeds = names[:1], 2
        grid = SETTINGS[:2] + SETTINGS[-2:-1]
    with_rows = recorded.names_of(args.data)
    marks = {name: fingerprint(args.data, name) for name in {*names, *with_rows}}
    kept = Kept(folder and folder / "generation.jsonl", marks)
    start = time.perf_counter()
    seeds = range(args.first_seed, args.first_seed + n_seeds)
    if args.recorded or not (args.quick or args.report):
        for name in with_rows:
            if not kept.has("recorded", name, None):
                found = {"found": recorded.measure(args.data, name)}
                kept.add([{"runs": "recorded", "set": name, "seed": None} | found])
    parts = () if args.report or args.recorded else RUNS[:-1] if args.quick else RUNS
    for runs, seed, name in product(parts, seeds, names):
        if not kept.has(runs.__name__, name, seed):
            task = make_task(args.data, name, seed)
            about = {"runs": runs.__name__, "set": name, "seed": seed, "is text": task.is_text}
            kept.add([about | what | found for what, found in runs(task, seed, grid)])
            seconds = time.perf_counter() - start
            print(f"{seconds:.0f} s: {name}, seed {seed}, {runs.__name__}", flush=True)
    real = {r["set"]: r["found"] for r in kept.records if r["runs"] == "recorded"}
    records = [r for r in kept.records if r["set"] in names and r["seed"] in seeds]
    verdicts = claims(records, real)
    text = report(records, real, verdicts, made_by("imbalanced-learn"))
    print(text)
    if folder is not None:
        save(folder, text, real, verdicts, made_by("imbalanced-learn"))
        if records:
            figure(records, real, FIGURE if args.output is None else folder / FIGURE.name)


class Kept:
    """Records of whole sets and seeds, kept in a file, so that an interrupted run goes on.

    Records of other data under the same name are left out: `marks` tell.
    """

    def __init__(self, path, marks):
        self.path, self.marks, self.records = path, marks, []
        if path is not None and path.exists():
            records = [json.loads(line) for line in path.read_text().splitlines()]
            self.records = [r for r in records if r["data"] == marks.get(r["set"])]

    def has(self, runs, name, seed):
        return any((r["runs"], r["set"], r["seed"]) == (runs, name, seed) for r in self.records)

    def add(self, records):
        records = json.loads(json.dumps(records, default=float), parse_float=rounded)
        records = [r | {"data": self.marks[r["set"]]} for r in records]
        self.records += records
        if self.path is not None:
            with self.path.open("a") as file:
                file.writelines(json.dumps(r) + "\n" for r in records)


def rounded(number):
    return float(f"{float(number):.4g}")


if __name__ == "__main__":
    main()
