"""Selecting while a sentence encoder is fine-tuned: steps, seconds, accuracy and macro-F1.

Data: emotion, its 1,500 training texts with the recorded probabilities of a large language model.
Ten texts of each class are labeled, the teacher is asked about 300 of the others, and the student
is scored on the 2,000 test texts. Seeds draw the labeled texts, the order and the rows asked about.
Texts are cut after 32 tokens, so that one core can do it; all else of the student is the default.

Claims (checked at the end): "llkd" takes no more optimization steps than all hard labels, soft
labels at most 1.2 times as many, "distill" at most 5 times.

    python benchmarks/text_finetuning.py --encoder FOLDER [--data ../shared/data] [--seeds 3]
        [--output benchmarks/results] [--quick]

Records are kept in text_finetuning.jsonl as they come; a run that is started again goes on.
"""

import json
import os
import sys
import time
import warnings
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch
from _results import made_by, options, output_folder
from _texts import READERS
from selection_real import answers_of, labeled_rows
from sklearn.metrics import f1_score

from skllmreg import LLKDSelector
from skllmreg.students import TextClassifier, TransformerClassifier

N_CALLS = 300
HARD, SOFT, LLKD, DISTILL = "all hard", "all soft", "llkd", "distill"
LINEAR = "all soft, TextClassifier(encoder)"
ARMS = {
    HARD: {"strategy": "random", "labels": "hard"},
    SOFT: {"strategy": "random"},
    LLKD: {"strategy": "llkd", "labels": "hard"},
    DISTILL: {"strategy": "distill"},
    LINEAR: {"strategy": "random"},
}
MOST_STEPS = {LLKD: 1.0, SOFT: 1.2, DISTILL: 5.0}


class Steps:
    """Count the steps of AdamW, of whatever student."""

    def __init__(self):
        self.n, self._step = 0, torch.optim.AdamW.step

    def __enter__(self):
        def step(*args, **params):
            self.n += 1
            return self._step(*args, **params)

        torch.optim.AdamW.step = step
        return self

    def __exit__(self, *error):
        torch.optim.AdamW.step = self._step


def load(folder):
    """Texts, true labels and the teacher's probabilities of the recorded rows; the test part."""
    rows, proba, classes = answers_of(folder, None)
    read, ending = READERS["emotion"]
    train, test = (
        read(Path(folder) / "text" / "emotion" / f"{part}.{ending}") for part in ("train", "test")
    )
    code = {label: k for k, label in enumerate(classes)}
    return SimpleNamespace(
        X=np.array([train[i][0] for i in rows], dtype=object),
        y=np.array([code[train[i][1]] for i in rows]),
        X_test=np.array([text for text, _ in test], dtype=object),
        y_test=np.array([code[label] for _, label in test]),
        proba=proba / proba.sum(axis=1, keepdims=True),
        classes=classes,
    )


def run(data, arm, seed, encoder, n_calls):
    """Fit and score one arm."""
    student = TransformerClassifier(encoder, max_length=32, device="cpu")
    if arm == LINEAR:
        student = TextClassifier(encoder)
    model = LLKDSelector(student, max_teacher_calls=n_calls, random_state=seed, **ARMS[arm])
    start = time.process_time()
    with Steps() as steps:
        model.fit(
            data.X,
            labeled_rows(data, seed),
            teacher_proba=data.proba,
            classes=np.arange(len(data.classes)),
        )
    seconds = time.process_time() - start
    predicted = model.predict(data.X_test)
    return {
        "arm": arm,
        "seed": seed,
        "calls": model.n_teacher_calls_,
        "steps": steps.n,
        "seconds": seconds,
        "accuracy": float(np.mean(predicted == data.y_test)),
        "macro F1": float(f1_score(data.y_test, predicted, average="macro", zero_division=0)),
        "opinion": float(model.refinement_["opinion"]) if model.refinement_ else 0.0,
    }


def report(records, made):
    """Tabulate, and check the claims; the Markdown, and whether they hold."""
    table = pd.DataFrame(records)
    lines = [
        "# Selecting while an encoder is fine-tuned",
        "",
        f"emotion, {N_CALLS} calls, 60 labeled texts, all-MiniLM-L6-v2; hundredths, mean over the "
        "seeds ± standard deviation. The set is public, and teacher and encoder may have read it.",
        "",
        "| arm | seeds | calls | steps | seconds of one core | accuracy | macro F1 |",
        "|---|---|---|---|---|---|---|",
    ]
    for arm in (name for name in ARMS if name in set(table["arm"])):
        cell = table[table["arm"] == arm]
        scores = [
            f"{100 * cell[m].mean():.1f} ± {100 * cell[m].std():.1f}"
            for m in ("accuracy", "macro F1")
        ]
        lines.append(
            f"| {arm} | {len(cell)} | {cell['calls'].mean():.0f} | {cell['steps'].mean():.0f} | "
            f"{cell['seconds'].mean():.0f} | " + " | ".join(scores) + " |"
        )
    steps = table.pivot(index="seed", columns="arm", values="steps")
    lines += ["", "Claims:", ""]
    held = True
    for arm, most in MOST_STEPS.items():
        ratio = (steps[arm] / steps[HARD]).max()
        held &= bool(ratio <= most)
        lines.append(
            f"- {'pass' if ratio <= most else 'FAIL'}: {arm} takes at most {most:g} times the "
            f"steps of all hard labels: {ratio:.2f}"
        )
    lines += ["", f"Made by `{made['command']}` (torch {made['torch']}).", ""]
    return "\n".join(lines), held


def main():
    parser = options(__doc__, "60 calls, one seed")
    parser.add_argument("--encoder", default="sentence-transformers/all-MiniLM-L6-v2")
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    folder = output_folder(args)
    path = folder and folder / "text_finetuning.jsonl"
    records = []
    if path is not None and path.exists():
        records = [json.loads(line) for line in path.read_text().splitlines()]
    done = {(r["seed"], r["arm"]) for r in records}
    data = load(args.data)
    for seed in range(1 if args.quick else args.seeds):
        for arm in ARMS:
            if (seed, arm) in done:
                continue
            new = run(data, arm, seed, args.encoder, 60 if args.quick else N_CALLS)
            records.append(new)
            print(new, flush=True)
            if path is not None:
                with path.open("a") as file:
                    file.write(json.dumps(new) + "\n")
    text, held = report(records, made_by("torch"))
    print(text)
    if folder is not None:
        (folder / "text_finetuning.md").write_text(text)
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
