"""The recorded help desk with a sentence encoder beside the bag of words.

Eighteen labeled messages, the 300 that a language model wrote from them (replayed, no network), and
as many real ones in their place; accuracy and macro-F1 on the messages that are in none of these.
Seeds draw the real messages.

    python benchmarks/text_helpdesk.py --encoder FOLDER [--seeds 5] [--output benchmarks/results]
        [--quick]
"""

import os
import sys
import warnings

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd
from _results import made_by, options, output_folder, save
from sklearn.metrics import f1_score

from skllmreg import GOLDAugmenter
from skllmreg.datasets import load_helpdesk, load_helpdesk_generation
from skllmreg.students import TextClassifier

ALONE, WRITTEN, REAL = "18 messages", "18 and the written", "18 and as many real ones"


def written():
    """Texts and labels of the recorded generation."""
    bunch = load_helpdesk_generation()
    model = GOLDAugmenter(
        llm=bunch.llm,
        task=bunch.task,
        class_descriptions=bunch.class_descriptions,
        n_novel_batches=6,
        n_samples=300,
        batch_size=14,
        random_state=0,
    ).fit(bunch.data, bunch.target)
    return model.X_generated_, model.y_generated_


def run(encoder, seed, new):
    """Scores of both students for one draw of real messages."""
    bunch, all_ = load_helpdesk_generation(), load_helpdesk()
    X, y = np.array(all_.data, dtype=object), all_.target
    others = np.setdiff1d(np.arange(len(y)), bunch.indices)
    rng = np.random.default_rng(seed)
    per_class = len(new[1]) // len(np.unique(y))
    real, test = [], []
    for label in np.unique(y):
        own = rng.permutation(others[y[others] == label])
        # A third of each class is for testing, whatever the real ones are.
        n_test = len(own) // 3
        test += own[:n_test].tolist()
        real += own[n_test:][:per_class].tolist()
    sets = {
        ALONE: ([], []),
        WRITTEN: new,
        f"{REAL} ({len(real)})": (X[real], y[real]),
    }
    for student, model in (("words", None), ("encoder and words", encoder)):
        for name, (more, labels) in sets.items():
            rows = np.append(X[bunch.indices], more), np.append(y[bunch.indices], labels)
            fitted = TextClassifier(model, random_state=seed).fit(*rows)
            found = fitted.predict(X[test])
            yield {
                "rows": name,
                "student": student,
                "seed": seed,
                "accuracy": float(np.mean(found == y[test])),
                "macro F1": float(f1_score(y[test], found, average="macro")),
            }


def main():
    parser = options(__doc__, "one seed")
    parser.add_argument("--encoder", default="sentence-transformers/all-MiniLM-L6-v2")
    parser.add_argument("--seeds", type=int, default=5)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    new = written()
    seeds = range(1 if args.quick else args.seeds)
    records = [record for seed in seeds for record in run(args.encoder, seed, new)]
    table = pd.DataFrame(records)
    made = made_by()
    lines = [
        "# The help desk with a sentence encoder",
        "",
        f"{len(new[1])} written messages. Accuracy / macro-F1 in hundredths, mean over "
        f"{len(seeds)} draws of the real and the test messages ± standard deviation of accuracy.",
        "",
        "| rows | words | encoder and words |",
        "|---|---|---|",
    ]
    for name in table["rows"].unique():
        cells = []
        for student in table["student"].unique():
            own = table[(table["rows"] == name) & (table["student"] == student)]
            mean, spread = own["accuracy"].mean(), own["accuracy"].std()
            cells.append(
                f"{100 * mean:.1f} ± {100 * spread:.1f} / {100 * own['macro F1'].mean():.1f}"
            )
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines += ["", f"Made by `{made['command']}`.", ""]
    text = "\n".join(lines)
    print(text)
    save(output_folder(args), "text_helpdesk", text, made, {"records": records})


if __name__ == "__main__":
    sys.exit(main())
