"""Students for texts from few labels: words, a sentence encoder, both in one model, and SetFit.

For each data set, number of rows per class and seed, labeled texts are drawn from the training
part (of the help desk and of RTE's pairs, from all rows), and each model is scored on the test part
(the other rows). Classes with fewer texts give all they have. Claim (checked at the end): over the
cells of single texts, `TextClassifier(encoder=)` has at least the mean accuracy of the better of
its two halves, less .01.

    python benchmarks/text_students.py --encoder FOLDER [--data ../shared/data] [--seeds 5]
        [--sets trec helpdesk] [--rows 3 10 30 100] [--setfit] [--output benchmarks/results]
        [--quick]

`--setfit` runs SetFit instead (`pip install setfit`; Tunstall et al. 2022, "Efficient few-shot
learning without prompts", arXiv 2209.11055): the encoder is fine-tuned on pairs of the labeled
texts, five of each kind for a text and one epoch, then its own logistic regression is fitted; all
else is its default.

Rows are kept in text_students.jsonl as they come; a run that is started again goes on.
"""

import json
import os
import sys
import tempfile
import time
import warnings
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd
from _results import made_by, options, output_folder
from _texts import READERS
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.pipeline import make_pipeline

from skllmreg.datasets import load_helpdesk
from skllmreg.students import SentenceEncoder, TextClassifier

ROWS_PER_CLASS = (3, 10, 30, 100)
SETS = ("trec", "banking77", "emotion", "helpdesk", "rte")
WORDS, VECTORS, BOTH = "TextClassifier()", "encoder + LR, C=30", "TextClassifier(encoder)"
LR_1, SETFIT = "encoder + LR, C=1", "SetFit"


def models(encoder, seed, setfit):
    """Make the students of a seed."""
    if setfit:
        return {SETFIT: SetFit(encoder.model, seed)}

    def linear(C):
        return make_pipeline(encoder, LogisticRegression(C=C, max_iter=1000))

    return {
        WORDS: TextClassifier(random_state=seed),
        LR_1: linear(1),
        VECTORS: linear(30),
        BOTH: TextClassifier(encoder, random_state=seed),
    }


class SetFit:
    """SetFit with its defaults, but for the number of pairs."""

    def __init__(self, model, seed):
        self.model, self.seed = model, seed

    def fit(self, X, y):
        from datasets import Dataset
        from setfit import SetFitModel, Trainer, TrainingArguments

        self.fitted = SetFitModel.from_pretrained(self.model, device="cpu")
        with tempfile.TemporaryDirectory() as folder:
            arguments = TrainingArguments(
                output_dir=folder,
                num_iterations=5,
                num_epochs=1,
                seed=self.seed,
                report_to="none",
                save_strategy="no",
                show_progress_bar=False,
            )
            rows = Dataset.from_dict({"text": list(X), "label": list(y)})
            Trainer(self.fitted, args=arguments, train_dataset=rows).train()
        return self

    def predict(self, X):
        return np.array(self.fitted.predict(list(X)))


def load(folder, name):
    """Return texts and labels of the training and the test part, None where all are one part."""
    if name == "helpdesk":
        messages = load_helpdesk()
        return np.array(messages.data, dtype=object), messages.target, None
    if name == "rte":
        parts = [
            pd.read_csv(Path(folder) / "text" / name / f"{part}.tsv", sep="\t", quoting=3)
            for part in ("train", "dev")
        ]
        table = pd.concat(parts, ignore_index=True)
        return table[["sentence1", "sentence2"]].to_numpy(object), table["label"].to_numpy(), None
    read, ending = READERS[name]
    parts = [read(Path(folder) / "text" / name / f"{part}.{ending}") for part in ("train", "test")]
    (X, y), test = (
        (np.array([text for text, _ in rows], dtype=object), np.array([c for _, c in rows]))
        for rows in parts
    )
    return X, y, test


def draw(y, per_class, seed):
    """Draw as many rows of each class."""
    rng = np.random.default_rng(seed)
    return np.concatenate(
        [rng.permutation(np.flatnonzero(y == label))[:per_class] for label in np.unique(y)]
    )


def run(data, name, per_class, seed, encoder, setfit):
    """Score students on one draw."""
    X, y, test = data
    rows = draw(y, per_class, seed)
    others = np.setdiff1d(np.arange(len(y)), rows)
    X_test, y_test = (X[others], y[others]) if test is None else test
    if not setfit:  # so that times are those of fitting
        encoder.transform(np.concatenate([X[rows], X_test]))
    for label, model in models(encoder, seed, setfit).items():
        start = time.process_time()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.fit(X[rows], y[rows])
        seconds = time.process_time() - start
        predicted = model.predict(X_test)
        yield {
            "set": name,
            "rows per class": per_class,
            "seed": seed,
            "model": label,
            "accuracy": float(np.mean(predicted == y_test)),
            "macro F1": float(f1_score(y_test, predicted, average="macro", zero_division=0)),
            "seconds": seconds,
            "n_train": len(rows),
            "C": float(getattr(model, "C_", np.nan)),
        }


def report(records, encoder):
    """Tabulate, and check the claim; the Markdown, and whether it holds."""
    table = pd.DataFrame(records)
    lines = [
        "# Students for texts from few labels",
        "",
        f"Encoder: {encoder}. Accuracy / macro F1 in hundredths, mean over the seeds ± standard "
        "deviation of the accuracy; seconds of one core for a fit of both, vectors being there. "
        "SetFit has its own number of seeds (in brackets) and is left out of the mean; so are the "
        "pairs of RTE.",
        "",
    ]
    names = [name for name in (WORDS, LR_1, VECTORS, BOTH, SETFIT) if name in set(table["model"])]
    lines += [
        "| set | rows per class | seeds | " + " | ".join(f"`{n}`" for n in names) + " | seconds |",
        "|---|---|---|" + "---|" * (len(names) + 1),
    ]
    means = []
    table["set"] = pd.Categorical(table["set"], SETS)
    for (name, per_class), cell in table.groupby(["set", "rows per class"], observed=True):
        grouped = cell.groupby("model")
        mean, spread = grouped.mean(numeric_only=True), grouped["accuracy"].std()
        if name != "rte":
            means.append(mean["accuracy"])
        values = [
            "–"
            if n not in mean.index
            else f"{100 * mean['accuracy'][n]:.1f} ± {100 * spread[n]:.1f} / "
            f"{100 * mean['macro F1'][n]:.1f}"
            + (f" ({grouped.size()[n]}; {mean['seconds'][n]:.0f} s)" if n == SETFIT else "")
            for n in names
        ]
        seconds = f"{mean['seconds'][BOTH]:.2f}"
        lines.append(
            f"| {name} | {per_class} | {grouped.size()[BOTH]} | "
            + " | ".join(values)
            + f" | {seconds} |"
        )
    overall = pd.concat(means, axis=1).drop(SETFIT, errors="ignore").mean(axis=1)
    shown = [f"{100 * overall[n]:.1f}" if n in overall else "" for n in names]
    lines.append("| mean | | | " + " | ".join(shown) + " | |")
    held = overall[BOTH] >= overall[[WORDS, LR_1, VECTORS]].max() - 0.01
    best = pd.concat(means, axis=1)
    behind = (best.loc[[WORDS, LR_1, VECTORS]].max() - best.loc[BOTH]).max()
    lines += [
        "",
        f"Claim: {'holds' if held else 'DOES NOT HOLD'}. In the worst cell both are "
        f"{abs(100 * behind):.1f} points {'behind' if behind > 0 else 'ahead of'} the better half.",
        "",
    ]
    return "\n".join(lines), held


def main():
    parser = options(__doc__, "the help desk with 3 and 10 rows, two seeds")
    parser.add_argument("--encoder", default="sentence-transformers/all-MiniLM-L6-v2")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--sets", nargs="*", default=SETS, choices=SETS)
    parser.add_argument("--rows", type=int, nargs="*", default=ROWS_PER_CLASS)
    parser.add_argument("--setfit", action="store_true", help="SetFit alone, which is slow")
    args = parser.parse_args()
    folder = output_folder(args)
    path = folder and folder / "text_students.jsonl"
    records = []
    if path is not None and path.exists():
        records = [json.loads(line) for line in path.read_text().splitlines()]
    own = [r for r in records if (r["model"] == SETFIT) == args.setfit]
    done = {(r["set"], r["rows per class"], r["seed"]) for r in own}
    encoder = SentenceEncoder(args.encoder)
    sets = ["helpdesk"] if args.quick else args.sets
    for name in sets:
        data = load(args.data, name)
        _, counts = np.unique(data[1], return_counts=True)
        for per_class in args.rows[: 2 if args.quick else None]:
            if data[2] is None and np.minimum(counts, per_class).sum() == len(data[1]):
                continue
            for seed in range(2 if args.quick else args.seeds):
                if (name, per_class, seed) in done:
                    continue
                new = list(run(data, name, per_class, seed, encoder, args.setfit))
                records += new
                print(
                    name,
                    per_class,
                    seed,
                    {r["model"]: round(r["accuracy"], 3) for r in new},
                    flush=True,
                )
                if path is not None:
                    with path.open("a") as file:
                        file.writelines(json.dumps(r) + "\n" for r in new)
    text, held = report(records, Path(args.encoder).name)
    made = made_by()
    text += f"\nMade by `{made['command']}` (numpy {made['numpy']}).\n"
    print(text)
    if folder is not None:
        (folder / "text_students.md").write_text(text)
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
