"""A real small language model gives scores and shapes once, and is asked about every row instead.

Both uses of one GGUF file behind llama.cpp's server, on the same test rows:

- *scores*: `elicit_attributions(shapes=True)` from the task and the descriptions, then the linear
  model on 5, 30 and 100 labeled rows per class, with and without the shapes that bend;
- *every row*: `LLMTeacherClassifier` without examples reads each test row, with the descriptions as
  names of its columns; no label is used. Its probabilities come from log-probabilities, raw and
  after batch calibration.

Beside them the recorded scores of a large model. Seconds are wall-clock, of two threads.

    python benchmarks/attribution_live.py MODEL.gguf [--data ../shared/data] [--rows 100]
        [--datasets contraceptive diabetes] [--estimates 3] [--splits 10] [--threads 2]
        [--cache attribution_live.sqlite3] [--output benchmarks/results]
"""

import json
import os
import time
import warnings
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd
from _data import load
from _fewshot_report import table
from _results import heading, made_by, options, output_folder, save
from sklearn.metrics import log_loss, roc_auc_score

from skllmreg import (
    ChatModel,
    LLMAttributionRegularizedClassifier,
    LLMShapeTransformer,
    LLMTeacherClassifier,
    elicit_attributions,
)
from skllmreg.exceptions import LLMError
from skllmreg.llm import LocalServer
from skllmreg.students._calibration import batch_calibrated

NAME = "attribution_live"
SIZES = (5, 30, 100)


def judged(y, proba):
    return roc_auc_score(y, proba), log_loss(y, np.clip(proba, 1e-3, 1 - 1e-3))


def linear(dataset, attributions, shapes, n_splits, rows):
    """Mean ROC AUC and log-loss on these rows, by number of training rows, drawn from the rest."""
    frame = pd.DataFrame(dataset.X, columns=dataset.features)
    if shapes is not None:
        frame = LLMShapeTransformer(shapes=shapes).fit(frame).transform(frame)
    rest = np.setdiff1d(np.arange(len(dataset.y)), rows)
    found = {}
    for k in SIZES:
        values = []
        for seed in range(n_splits):
            order = np.random.default_rng(seed).permutation(rest)
            train = np.concatenate([order[dataset.y[order] == c][:k] for c in (0, 1)])
            medians = frame.iloc[train].median().fillna(0)
            model = LLMAttributionRegularizedClassifier(attributions=attributions)
            model.fit(frame.iloc[train].fillna(medians), dataset.y[train])
            proba = model.predict_proba(frame.iloc[rows].fillna(medians))[:, 1]
            values.append(judged(dataset.y[rows], proba))
        found[k] = np.mean(values, axis=0)
    return found


def about(data, name):
    """Task, descriptions and classes, the positive one last."""
    described = json.loads((Path(data) / "tabular" / f"{name}.json").read_text())
    positive = described["positive_class"]
    classes = sorted(described["classes"], key=lambda label: label == positive)
    return described["task"], described["features"], classes


def asked_by_row(dataset, task, descriptions, classes, chat, rows):
    """Probabilities of the positive class of these rows, and the seconds that one took."""
    frame = pd.DataFrame(dataset.X, columns=[descriptions[f] for f in dataset.features])
    teacher = LLMTeacherClassifier(chat, task=task)
    labels = np.array(classes)[dataset.y]
    both = [np.flatnonzero(dataset.y == k)[0] for k in (0, 1)]
    teacher.fit(frame.iloc[both], labels[both])  # the classes; no example is shown
    start = time.perf_counter()
    proba = teacher.predict_proba(frame.iloc[rows])
    seconds = (time.perf_counter() - start) / len(rows)
    order = [teacher.classes_.tolist().index(label) for label in classes]
    return proba[:, order], seconds


def measure(args, name, chat):
    dataset = load(args.data, name)
    task, descriptions, classes = about(args.data, name)
    rows = np.random.default_rng(0).permutation(len(dataset.y))[: args.rows]
    record = {"dataset": name, "rows": len(rows), "arms": {}}

    def keep(arm, by_size):
        record["arms"][arm] = {str(k): [round(float(v), 4) for v in value] for k, value in by_size}

    recorded = {1: dataset.estimates}
    keep("scores of a large model", linear(dataset, recorded, None, args.splits, rows).items())
    start = time.perf_counter()
    try:
        said = elicit_attributions(
            chat,
            task=task,
            feature_descriptions=descriptions,
            classes=[0, 1],
            class_descriptions=dict(enumerate(classes)),
            n_estimates=args.estimates,
            shapes=True,
        )
    except LLMError as error:
        record["failed"] = str(error)
    else:
        record["seconds_to_elicit"] = round(time.perf_counter() - start, 1)
        record["scores"] = said.mean()[1]
        record["shapes"] = {
            f: np.asarray(shape).tolist() for f, shape in said.mean_shapes(1).items()
        }
        keep("its scores", linear(dataset, said, None, args.splits, rows).items())
        try:
            shaped = linear(dataset, said, said, args.splits, rows)
        except ValueError as error:  # the shapes are in other units than the columns
            record["shapes_failed"] = str(error)
        else:
            keep("its scores and shapes", shaped.items())
    proba, seconds = asked_by_row(dataset, task, descriptions, classes, chat, rows)
    record["seconds_a_row"] = round(seconds, 2)
    y = dataset.y[rows]
    keep("asked about every row", [(k, judged(y, proba[:, 1])) for k in SIZES])
    calibrated = batch_calibrated(proba)[:, 1]
    keep("… with batch calibration", [(k, judged(y, calibrated)) for k in SIZES])
    return record


def markdown(records, made, args):
    lines = [heading("A real small model: scores once, or every row", made)]
    for r in records:
        lines.append(
            f"## {r['dataset']}\n\nModel {Path(args.model).stem}, {args.estimates} estimates in "
            f"{r.get('seconds_to_elicit', '–')} s; {r['rows']} test rows at "
            f"{r['seconds_a_row']} s each. Mean of {args.splits} splits; "
            "ROC AUC / log-loss.\n"
        )
        for what in ("failed", "shapes_failed"):
            if what in r:
                lines.append(f"{what.replace('_', ' ')}: {r[what]}\n")
        rows = [
            [arm, *(f"{found[str(k)][0]:.3f} / {found[str(k)][1]:.3f}" for k in SIZES)]
            for arm, found in r["arms"].items()
        ]
        lines.append(table(["arm", *(f"{k} rows per class" for k in SIZES)], rows))
    return "\n".join(lines)


def main():
    parser = options(__doc__, "few rows")
    parser.add_argument("model", help="a GGUF file")
    parser.add_argument("--datasets", nargs="+", default=["contraceptive", "diabetes"])
    parser.add_argument("--rows", type=int, default=100)
    parser.add_argument("--estimates", type=int, default=3)
    parser.add_argument("--splits", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cache", default="attribution_live.sqlite3")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    made = made_by()
    with LocalServer(args.model, n_parallel=1, n_threads=args.threads, context=4096) as server:
        chat = ChatModel(
            server.model, base_url=server.url, cache=args.cache, timeout=900, max_concurrency=1
        )
        records = [measure(args, name, chat) for name in args.datasets]
    text = markdown(records, made, args)
    print(text)
    save(output_folder(args), NAME, text, made, {"records": records})


if __name__ == "__main__":
    main()
