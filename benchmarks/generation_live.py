"""Does feedback pay with a real model? Arms of `GOLDAugmenter` at equal requests, live.

A language model from a GGUF file writes rows through `LocalServer`. Every arm has the same labeled
rows, the same requests in its first round (whose answers are shared) and as many requests in each
later round:

- none: the same prompts again, with other seed examples and attributes;
- random: rows of the round before, from anywhere, are shown;
- band: those in the band of energy (GOLD);
- novel: as band, from requests for other topics that show rows of their round (the paper);
- errors: labeled rows that a student of the written rows gets wrong;
- coverage: labeled rows that are farthest from the written ones.

The student of the rounds is the best that a user would take (with a sentence encoder where one is
given); accuracy and macro-F1 on real test rows are for it and for a bag of words. Beside the
arms: the labeled rows alone, as many real rows more, and the model itself, zero-shot. Written rows
that stand in the test part are taken out and counted.

Everything resumes: answers from the cache (--cache), finished fits from the records.

    python benchmarks/generation_live.py --model qwen-0.5b.gguf [--encoder all-MiniLM-L6-v2]
        [--sets trec helpdesk banking77 rte] [--seeds 5] [--threads 2] [--minutes 8] [--report]
"""

import json
import os
import time
import warnings
from collections import Counter
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from _generation_live_data import TASKS, make_task, take
from _results import made_by, options, output_folder
from sklearn.metrics import f1_score

from skllmreg import ChatModel, GOLDAugmenter, LLMTeacherClassifier
from skllmreg.exceptions import GenerationStoppedWarning, LLMError
from skllmreg.llm import LocalServer
from skllmreg.students import SentenceEncoder, TextClassifier
from skllmreg.utils._frames import joined

ARMS = {
    "none": {"strategy": "no-feedback"},
    "random": {"strategy": "random-feedback"},
    "band": {"strategy": "gold"},
    "novel": {"strategy": "gold", "show_batch": True},
    "errors": {"strategy": "errors"},
    "coverage": {"strategy": "coverage"},
}
N_ROUNDS, BATCH_SIZE = 3, 8  # one request of each class: 144 rows asked for, of six classes
N_LABELED = {"rte": 16}  # rows of each class; three of them are shown in a request
DEFAULT_LABELED = 6
N_ZERO_SHOT = 60
MORE_REAL = (2, 4, 8, 16, 32)  # real rows of each class, for what a written one is worth


def students(encoder):
    both = {"words": TextClassifier(random_state=0)}
    if encoder:
        both = {"encoder": TextClassifier(SentenceEncoder(encoder), random_state=0)} | both
    return both


def scores(model, task):
    found = model.predict(task.X_test)
    return {
        "accuracy": float(np.mean(found == task.y_test)),
        "f1": float(f1_score(task.y_test, found, average="macro")),
    }


def train(task, X, y, encoder):
    """Scores of each student on labeled rows and these."""
    X, y = joined(task.X, X), np.append(task.y, y)
    return {name: scores(s.fit(X, y), task) for name, s in students(encoder).items()}


def grow(task, arm, seed, chat, encoder):
    """One fit; its record."""
    n_classes = len(np.unique(task.y))
    n_novel = n_classes // 2 if arm == "novel" else 0
    model = GOLDAugmenter(
        next(iter(students(encoder).values())),
        llm=chat,
        task=task.task,
        class_descriptions=task.descriptions,
        n_rounds=N_ROUNDS,
        n_batches=n_classes - n_novel,
        n_novel_batches=n_novel,
        batch_size=BATCH_SIZE,
        random_state=seed,
        **ARMS[arm],
    )
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", GenerationStoppedWarning)
        model.fit(task.X, task.y)
    seconds = time.perf_counter() - start
    fresh = np.flatnonzero(~task.seen_in_test(model.X_generated_))
    X, y = take(model.X_generated_, fresh), model.y_generated_[fresh]
    tokens = {
        name: sum(entry[name] for entry in model.history_)
        for name in ("prompt_tokens", "completion_tokens")
    }
    return {
        "requests": model.n_requests_,
        "accepted": len(model.y_generated_),
        "in test": int(len(model.y_generated_) - len(fresh)),
        "rejected": dict(Counter(one.reason for one in model.rejected_)),
        "by class": {str(k): int(n) for k, n in Counter(y.tolist()).items()},
        "seconds": seconds,
        "scores": train(task, X, y, encoder),
    } | tokens


def baselines(task, n_written, encoder):
    """Labeled rows alone, and with real ones more."""
    found = {"alone": train(task, take(task.X, []), [], encoder)}
    rows = {k: np.flatnonzero(task.y_more == k) for k in np.unique(task.y)}
    for n in MORE_REAL:
        at = np.concatenate([own[:n] for own in rows.values()])
        found[f"{n} real"] = train(task, take(task.X_more, at), task.y_more[at], encoder)
    at = np.concatenate([rows[k][: n_written.get(k, 0)] for k in rows])
    found["as many real"] = train(task, take(task.X_more, at), task.y_more[at], encoder)
    return found


def zero_shot(task, chat, seed):
    """Accuracy of the model itself on some of the test rows."""
    rng = np.random.default_rng(seed)
    at = rng.permutation(len(task.y_test))[:N_ZERO_SHOT]
    teacher = LLMTeacherClassifier(
        chat, task=task.task, class_descriptions=task.descriptions, on_refusal="abstain"
    ).fit(task.X, task.y)
    found = teacher.classes_[np.nan_to_num(teacher.predict_proba(take(task.X_test, at))).argmax(1)]
    return {
        "accuracy": float(np.mean(found == task.y_test[at])),
        "f1": float(f1_score(task.y_test[at], found, average="macro")),
        "rows": len(at),
    }


class Records:
    """Records by (model, set, seed, arm), kept as they come."""

    def __init__(self, path):
        self.path, self.found = path, {}
        if path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                record = json.loads(line)
                self.found[tuple(record["key"])] = record

    def add(self, key, record):
        self.found[key] = {"key": key} | record
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(self.found[key]) + "\n")


def run(args, records, end):
    name = Path(args.model).stem
    with LocalServer(args.model, n_threads=args.threads, context=3000) as server:
        chat = ChatModel(
            server.model,
            base_url=server.url,
            cache=args.cache,
            timeout=600,
            max_concurrency=4,
            request_options={"max_tokens": 700},
        )
        for seed in range(args.seeds):
            for data in args.sets:
                task = make_task(args.data, data, seed, N_LABELED.get(data, DEFAULT_LABELED))
                for arm in (*args.arms, "baselines", "zero-shot"):
                    key = (name, data, seed, arm)
                    if key in records.found:
                        continue
                    if time.monotonic() > end:
                        return
                    try:
                        if arm == "zero-shot":
                            record = zero_shot(task, chat, seed)
                        elif arm == "baselines":
                            first = records.found[(name, data, seed, args.arms[0])]
                            record = {"scores": baselines(task, first["by class"], args.encoder)}
                        else:
                            record = grow(task, arm, seed, chat, args.encoder)
                    except LLMError as error:
                        print(key, f"{type(error).__name__}: {error}"[:300])
                        continue
                    records.add(key, record)
                    print(key, {k: v for k, v in record.items() if k != "by class"}, flush=True)


def interval(values):
    """Mean and half of the 95 % interval over seeds."""
    values = np.asarray(values, dtype=float)
    if len(values) < 2:
        return f"{values.mean():.3f}"
    from scipy.stats import t

    half = t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5
    return f"{values.mean():.3f} ± {half:.3f}"


def report(records):
    """Tables: accuracy and macro-F1 of every arm, and each arm less "none", by set and student."""
    cells = sorted({key[:2] for key in records.found})
    lines = []
    for model, data in cells:
        own = {key[2:]: record for key, record in records.found.items() if key[:2] == (model, data)}
        arms = [arm for arm in ARMS if any(a == arm for _, a in own)]
        seeds = [s for s in sorted({s for s, _ in own}) if all((s, arm) in own for arm in arms)]
        if not seeds:
            continue
        lines += [f"\n## {data}, rows by {model}, {len(seeds)} seeds\n"]
        for student in own[(seeds[0], arms[0])]["scores"]:
            lines += [
                f"\nStudent: {student}\n",
                "| arm | accuracy | macro-F1 | accuracy less none | ahead | accepted | in test |",
                "|---|---|---|---|---|---|---|",
            ]
            for arm in arms:
                runs = [own[(s, arm)] for s in seeds]
                got = [r["scores"][student] for r in runs]
                none = [own[(s, "none")]["scores"][student]["accuracy"] for s in seeds]
                less = np.subtract([g["accuracy"] for g in got], none)
                lines.append(
                    f"| {arm} | {interval([g['accuracy'] for g in got])} "
                    f"| {interval([g['f1'] for g in got])} "
                    f"| {interval(less) if arm != 'none' else ''} "
                    f"| {f'{(less > 0).sum()} of {len(less)}' if arm != 'none' else ''} "
                    f"| {np.mean([r['accepted'] for r in runs]):.0f} "
                    f"| {np.mean([r['in test'] for r in runs]):.1f} |"
                )
            bases = [own[(s, "baselines")] for s in seeds if (s, "baselines") in own]
            for name in bases[0]["scores"] if bases else ():
                got = [b["scores"][name][student] for b in bases]
                lines.append(
                    f"| {name} | {interval([g['accuracy'] for g in got])} "
                    f"| {interval([g['f1'] for g in got])} | | | | |"
                )
        shots = [own[(s, "zero-shot")] for s in seeds if (s, "zero-shot") in own]
        if shots:
            lines.append(
                f"\nThe model itself, zero-shot, on {shots[0]['rows']} rows of each seed: accuracy "
                f"{interval([r['accuracy'] for r in shots])}, macro-F1 "
                f"{interval([r['f1'] for r in shots])}."
            )
        runs = [own[(s, arm)] for s in seeds for arm in arms]
        asked = sum(r["requests"] for r in runs)
        refused = sum((Counter(r["rejected"]) for r in runs), Counter())
        lines.append(
            f"\n{asked} requests; {sum(r['prompt_tokens'] for r in runs):,} prompt tokens and "
            f"{sum(r['completion_tokens'] for r in runs):,} written, shared rounds counted for "
            f"each arm; refused: {', '.join(f'{k} {n}' for k, n in refused.most_common())}."
        )
    return "\n".join(lines)


def main():
    parser = options(__doc__, "one seed, one set, two arms")
    parser.add_argument("--model", help="GGUF file")
    parser.add_argument("--encoder", help="folder of a sentence encoder")
    parser.add_argument("--sets", nargs="+", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=list(ARMS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="start nothing later")
    parser.add_argument("--cache", default="generation_live.sqlite3")
    parser.add_argument("--report", action="store_true", help="write the tables of the records")
    args = parser.parse_args()
    if args.quick:
        args.sets, args.arms, args.seeds = args.sets[:1], args.arms[:2], 1
    folder = output_folder(args) or Path(".")
    records = Records(folder / "generation_live.jsonl")
    if not args.report:
        if not args.model:
            raise SystemExit("--model names a GGUF file, such as Qwen2.5-Coder-1.5B-Instruct.")
        run(args, records, time.monotonic() + 60 * args.minutes)
    made = made_by("xllamacpp", "sentence-transformers")
    text = (
        "# Rows that a real model writes: does feedback pay?\n\n"
        "The data sets but the help desk are public, and the model has probably read about them.\n"
        f"\nMade by `{made['command']}`"
        f" ({', '.join(f'{k} {v}' for k, v in made.items() if k != 'command')}).\n"
        f"{report(records)}\n"
    )
    print(text)
    if not args.quick:
        (folder / "generation_live.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
