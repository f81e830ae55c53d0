"""Real teachers: the default strategy less random rows at equal calls, and what a cascade covers.

Teachers: probabilities that language models gave, recorded row by row (emotion and helpdesk: a
large one, on helpdesk nearly perfect; `recorded/`: small ones that run on a laptop, weak and sure
of themselves: record_teachers.py).
Students: logistic regression on the vectors of a sentence encoder, and a linear model on TF-IDF,
each at two strengths. Labeled rows: ten of each class (three where there are more than ten
classes), and for two of the students also none at all. Seeds draw the labeled rows and the
strategies' chance. All is measured on the sets' own test files; of helpdesk on a third of its rows.

Claims (checked at the end): in no cell is the paired 95 % interval of "distill" less random rows
wholly below -.005, in accuracy or in macro-F1, with labeled rows or without; and the mean over the
cells with labeled rows is ahead by .006 and .018.

Records are kept in selection_real.jsonl as they come; an interrupted run goes on where it was.

    python benchmarks/selection_real.py --encoder FOLDER [--data ../shared/data] [--seeds 10]
        [--first-seed 0] [--sets emotion-llm ...] [--report] [--output benchmarks/results]
"""

import json
import os
import time
import warnings
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from _results import made_by, options, output_folder
from _texts import READERS
from scipy.stats import t as student_t
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.metrics import f1_score

from skllmreg import LLKDSelector, LLMCascadeClassifier
from skllmreg.students import SentenceEncoder

SETS = {  # name: text set, file of the answers (None: the large model's, beside the data)
    "emotion-llm": ("emotion", None),
    "helpdesk-llm": ("helpdesk", None),
    "trec-qwen-0.5b": ("trec", "trec-qwen-0.5b.jsonl"),
    "banking77-qwen-0.5b": ("banking77", "banking77-qwen-0.5b.jsonl"),
}
STUDENTS = {
    "encoder, C=1": ("encoder", lambda seed, **p: LogisticRegression(C=1, **p)),
    "encoder, C=30": ("encoder", lambda seed, **p: LogisticRegression(C=30, **p)),
    "words, alpha=3e-4": (
        "words",
        lambda seed, **p: SGDClassifier(
            loss="log_loss", alpha=3e-4, max_iter=10, tol=None, random_state=seed, **p
        ),
    ),
    "words, alpha=1e-5": (
        "words",
        lambda seed, **p: SGDClassifier(
            loss="log_loss", alpha=1e-5, max_iter=10, tol=None, random_state=seed, **p
        ),
    ),
}
BUDGETS = (0.1, 0.3, 1.0)
# Students that are also trained without a labeled row, and what their cells are called.
COLD = {"encoder, C=30": "encoder, C=30, no labels", "words, alpha=1e-5": "words, 1e-5, no labels"}
BALANCED = {"class_weight": "balanced"}
ARMS = {  # name: parameters of the selector, of the student
    "random": ({"strategy": "random"}, {}),
    "random, balanced": ({"strategy": "random"}, BALANCED),
    "margin": ({"strategy": "margin"}, {}),
    "distill": ({}, {}),
}


class RealSet:
    """Rows that a real teacher has answered, and test rows, with both kinds of features."""

    def __init__(self, name, data, encoder):
        source, answers = SETS[name]
        if source == "helpdesk":
            train, test, rows, proba, classes = helpdesk(data)
        else:
            read, ending = READERS[source]
            folder = Path(data) / "text" / source
            train, test = (read(folder / f"{part}.{ending}") for part in ("train", "test"))
            rows, proba, classes = answers_of(data, answers)
        self.proba = proba / proba.sum(axis=1, keepdims=True)
        self.classes = np.array(classes)
        test = [(text, label) for text, label in test if label in set(classes)]
        texts = [np.array([text for text, _ in some], dtype=object) for some in (train, test)]
        texts[0] = texts[0][rows]
        code = {label: k for k, label in enumerate(classes)}
        self.y = np.array([code[train[i][1]] for i in rows])
        self.y_test = np.array([code[label] for _, label in test])
        words = TfidfVectorizer(
            ngram_range=(1, 2), min_df=2, sublinear_tf=True, token_pattern=r"(?u)\b\w+\b|\?"
        ).fit(texts[0])
        self.X = {
            "encoder": [SentenceEncoder(encoder, device="cpu").transform(some) for some in texts],
            "words": [words.transform(some) for some in texts],
        }


def answers_of(data, name):
    """Rows, probabilities and classes of a recording; rows without an answer are left out."""
    if name is None:
        path = Path(data) / "text" / "emotion" / "teacher.jsonl"
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        classes = sorted({label for line in lines for label in line["a"]})
        proba = [[(x["a"].get(c, 0) + x["b"].get(c, 0)) / 2 for c in classes] for x in lines]
        return [line["row"] for line in lines], np.array(proba), classes
    text = (Path(__file__).parent / "recorded" / name).read_text(encoding="utf-8")
    heading, *lines = map(json.loads, text.splitlines())
    rows, proba = [line["row"] for line in lines], np.array([line["proba"] for line in lines])
    there = np.isfinite(proba).all(axis=1) & (proba.sum(axis=1) > 0)
    return [r for r, ok in zip(rows, there, strict=True) if ok], proba[there], heading["classes"]


def helpdesk(data):
    """Two thirds of the messages with the large model's answers, and a third to test on."""
    path = Path(data) / "text" / "helpdesk" / "messages.jsonl"
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    order = np.random.default_rng(0).permutation(len(lines))
    train, test = ([lines[i] for i in part] for part in np.split(order, [2 * len(order) // 3]))
    classes = sorted({line["label"] for line in lines})
    proba = np.array([[line["teacher"].get(c, 0) for c in classes] for line in train])
    pairs = [[(line["text"], line["label"]) for line in part] for part in (train, test)]
    return *pairs, list(range(len(train))), proba, classes


def labeled_rows(data, seed):
    """Labels with -1 for most rows: a few of each class are known."""
    rng, n_each = np.random.default_rng([seed, 7]), 10 if len(data.classes) <= 10 else 3
    y = np.full(len(data.y), -1)
    for k in range(len(data.classes)):
        rows = rng.permutation(np.flatnonzero(data.y == k))[:n_each]
        y[rows] = k
    return y


def run(name, data, seed):
    """Measure all arms of one set and seed, as records."""
    y, records = labeled_rows(data, seed), []
    for student in STUDENTS:
        records += cells(name, data, seed, student, student, y)
        if student in COLD:
            records += cells(name, data, seed, student, COLD[student], np.full(len(y), -1))
    return records + cascades(name, data, seed)


def cells(name, data, seed, student, called, y):
    """Measure all arms and budgets of one student, trained with these labels."""
    records, (features, make) = [], STUDENTS[student]
    (X, X_test), n_pool = data.X[features], int((y == -1).sum())
    for budget in BUDGETS:
        for arm, (params, own) in ARMS.items():
            if budget == 1 and arm == "margin":
                continue  # all rows are asked about: as "random"
            start = time.process_time()
            model = LLKDSelector(
                make(seed, **own),
                max_teacher_calls=None if budget == 1 else round(budget * n_pool),
                random_state=seed,
                **params,
            ).fit(X, y, teacher_proba=data.proba, classes=np.arange(len(data.classes)))
            predicted = model.predict(X_test)
            records.append(
                {"set": name, "seed": seed, "student": called, "budget": budget, "arm": arm}
                | {
                    "accuracy": np.mean(predicted == data.y_test),
                    "f1": f1_score(data.y_test, predicted, average="macro"),
                    "calls": model.n_teacher_calls_,
                    "seconds": time.process_time() - start,
                    "refinement": model.refinement_,
                }
            )
    return records


def cascades(name, data, seed):
    """Fit a cascade to two thirds of the rows, and look at the other answers."""
    order = np.random.default_rng([seed, 8]).permutation(len(data.y))
    rows, fresh = np.split(order, [2 * len(order) // 3])
    said, records = data.proba.argmax(axis=1), []
    for budget in (1.0, 0.5):
        X = data.X["encoder"][0]
        student = LLKDSelector(LogisticRegression(C=30), random_state=seed)
        model = LLMCascadeClassifier(
            student,
            n_calibration=min(300, len(rows) // 3),
            max_teacher_calls=None if budget == 1 else max(len(rows) // 2, min(400, len(rows))),
            random_state=seed,
        ).fit(X[rows], teacher_proba=data.proba[rows], classes=np.arange(len(data.classes)))
        alone = ~model.defer(X[fresh])
        differs = alone & (model.estimator_.predict(X[fresh]) != said[fresh])
        records.append(
            {"set": name, "seed": seed, "student": "encoder, C=30", "arm": "cascade"}
            | {"budget": budget, "coverage": np.mean(alone), "disagreement": np.mean(differs)}
            | {"alone": differs.sum() / max(alone.sum(), 1), "bound": model.disagreement_bound_}
        )
    return records


def paired(records, cell, arm, metric):
    """Mean difference to random rows over the seeds, and half of its 95 % interval."""

    def by_seed(arm):
        return {
            r["seed"]: r[metric]
            for r in records
            if (r["set"], r["student"], r["budget"], r["arm"]) == (*cell, arm)
        }

    own, random = by_seed(arm), by_seed("random")
    if not own:
        return None
    difference = np.array([own[s] - random[s] for s in sorted(own)])
    n = len(difference)
    half = student_t.ppf(0.975, n - 1) * difference.std(ddof=1) / np.sqrt(n) if n > 1 else np.nan
    return np.mean(list(random.values())), difference.mean(), half


def report(records, made):
    """Tables of all cells, the means, and the claims."""
    rest = ", ".join(f"{key} {value}" for key, value in made.items() if key != "command")
    plain = [r for r in records if r["arm"] != "cascade"]
    warm, cold = (
        [r for r in plain if (r["student"] in COLD.values()) == is_cold]
        for is_cold in (False, True)
    )
    lines = ["# Learning from real teachers", "", f"Made by `{made['command']}` ({rest})."]
    lines += ["", "The sets are public, and the models may have read them. Differences to random"]
    lines += ["rows (all rows with soft labels at 100 %) at equal calls, ± half of the paired 95 %"]
    lines += ["interval; accuracy / macro-F1.", ""]
    lines += [
        "## With ten labeled rows of each class (three where there are more than ten classes)"
    ]
    table, found = table_of(warm)
    lines += ["", *table, "", *means_of(found)]
    table_cold, found_cold = table_of(cold)
    lines += ["", "## Without a labeled row", "", *table_cold, "", *means_of(found_cold)]
    lines += ["", *cascade_table(records), "", "## Claims", "", *claims(found, found_cold)]
    return "\n".join(lines) + "\n"


def table_of(records):
    """A table of the cells, and (mean, half of the interval) by cell, arm and metric."""
    arms = [arm for arm in ARMS if arm != "random"]
    lines = ["| teacher | student | calls | seeds | random rows | " + " | ".join(arms) + " |"]
    lines += ["|" + "---|" * (5 + len(arms))]
    found = {}
    for cell in dict.fromkeys((r["set"], r["student"], r["budget"]) for r in records):
        shown = []
        for arm in arms:
            pairs = [paired(records, cell, arm, metric) for metric in ("accuracy", "f1")]
            if None in pairs:
                shown.append("–")
                continue
            shown.append(" / ".join(f"{mean:+.3f} ± {half:.3f}" for _, mean, half in pairs))
            for metric, (base, mean, half) in zip(("accuracy", "f1"), pairs, strict=True):
                found[cell, arm, metric] = mean, half
                found[cell, "random", metric] = base, 0.0
        bases = " / ".join(f"{found[cell, 'random', m][0]:.3f}" for m in ("accuracy", "f1"))
        n = len({r["seed"] for r in records if r["set"] == cell[0]})
        lines.append(
            f"| {cell[0]} | {cell[1]} | {cell[2]:.0%} | {n} | {bases} | " + " | ".join(shown) + " |"
        )
    return lines, found


def mean_of(found, arm, metric, name=None):
    """Mean difference over the cells, of all teachers or of one."""
    return np.mean(
        [v[0] for (c, a, m), v in found.items() if (a, m) == (arm, metric) and name in (None, c[0])]
    )


def means_of(found):
    """Means over the cells, of all teachers and of each."""
    lines, names = ["Mean over the cells:", ""], dict.fromkeys(cell[0] for cell, _, _ in found)
    for arm in [arm for arm in ARMS if arm != "random"]:
        for name in (None, *names):
            a, f = (mean_of(found, arm, m, name) for m in ("accuracy", "f1"))
            head = f"- {arm}" if name is None else f"  - {name}"
            lines.append(f"{head}: {a:+.3f} accuracy, {f:+.3f} macro-F1")
    return lines


def cascade_table(records):
    """What the cascade's student may answer, and how far it disagrees on fresh rows."""
    lines = ["## Cascade at 5 % disagreement, confidence .95", "", "Student: encoder, C=30; 300"]
    lines += ["calibration rows (a third, of fewer than 900); fresh: a third of the recorded rows."]
    lines += ["", "| teacher | calls | student answers | disagreement of all | among its own |"]
    lines += ["|---|---|---|---|---|"]
    cascades = [r for r in records if r["arm"] == "cascade"]
    for name, budget in dict.fromkeys((r["set"], r["budget"]) for r in cascades):
        own = [r for r in cascades if (r["set"], r["budget"]) == (name, budget)]
        mean = {m: np.mean([r[m] for r in own]) for m in ("coverage", "disagreement", "alone")}
        lines.append(
            f"| {name} | {'all' if budget == 1 else 'half'} | {mean['coverage']:.0%} | "
            f"{mean['disagreement']:.1%} | {mean['alone']:.1%} |"
        )
    return lines


def claims(found, found_cold):
    """Lines that say which claims hold."""
    lines = []
    for what, some in (("with labels", found), ("without labels", found_cold)):
        own = [
            (mean + half, mean, half, cell, m)
            for (cell, a, m), (mean, half) in some.items()
            if a == "distill"
        ]
        high, mean, half, cell, metric = min(own)
        says = f"worst cell {mean:+.3f} ± {half:.3f} ({', '.join(map(str, cell))}, {metric})"
        lines.append((f"{what}, no interval of distill wholly below -.005", says, high >= -0.005))
    for metric, least in (("accuracy", 0.006), ("f1", 0.018)):
        mean = mean_of(found, "distill", metric)
        lines.append((f"mean {metric} ahead by {least}", f"{mean:+.3f}", mean >= least))
    return [f"- {'pass' if ok else 'FAIL'}: {text}: {says}" for text, says, ok in lines]


def main():
    parser = options(__doc__, "one seed")
    parser.add_argument("--encoder", help="folder or name of a sentence encoder")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first-seed", type=int, default=0)
    recorded = Path(__file__).parent / "recorded"
    there = [name for name, (_, file) in SETS.items() if not file or (recorded / file).exists()]
    parser.add_argument("--sets", nargs="+", choices=SETS, default=there)
    parser.add_argument("--report", action="store_true", help="only tabulate the kept records")
    args = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    folder = output_folder(args)
    path = folder and folder / "selection_real.jsonl"
    records = []
    if path is not None and path.exists():
        records = [json.loads(line) for line in path.read_text().splitlines()]
    loaded = {}
    n_seeds = 0 if args.report else 1 if args.quick else args.seeds
    for seed in range(args.first_seed, args.first_seed + n_seeds):
        for name in args.sets:
            if any((r["set"], r["seed"]) == (name, seed) for r in records):
                continue
            if name not in loaded:
                loaded[name] = RealSet(name, args.data, args.encoder)
            new = json.loads(json.dumps(run(name, loaded[name], seed), default=float))
            records += new
            print(f"{name}, seed {seed}", flush=True)
            if path is not None:
                with path.open("a") as file:
                    file.writelines(json.dumps(r) + "\n" for r in new)
    text = report(records, made_by())
    print(text)
    if folder is not None:
        (folder / "selection_real.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
