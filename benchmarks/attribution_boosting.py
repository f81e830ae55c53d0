"""Boosting blended with the linear model against both parents and their peers, and shapes.

First part: 10, 30, 100 and 300 labeled rows per class of the data sets of `_data.py`; ROC AUC,
accuracy and log-loss on the same test rows. Trees get missing values as they are, all others the
training rows' medians.

Second part: the linear model with and without `LLMShapeTransformer`, whose shapes are those in
`benchmarks/shapes/<data set>.json`. They were written by a large language model from the task and
the descriptions of the features alone, five readings for each data set by one writer, who knew
that the data sets are public and what shapes are for. The scores are the recorded ones in both
arms, so that only the shapes differ. A shape whose units are not those of the column is left out
and named.

    python benchmarks/attribution_boosting.py [--data ../shared/data] [--quick] [--splits 5]
        [--datasets NAME ...] [--part trees|shapes] [--resume] [--report]
        [--output benchmarks/results]
"""

import json
import os
import warnings
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # one core per fit

import numpy as np
import pandas as pd
from _competitors import Cell, catboost, hist_gradient_boosting
from _data import load_all
from _fewshot_report import table
from _results import heading, made_by, options, output_folder, save
from sklearn.metrics import accuracy_score, log_loss, roc_auc_score

from skllmreg import (
    Attributions,
    LLMAttributionBoostingClassifier,
    LLMAttributionRegularizedClassifier,
    LLMShapeTransformer,
)

NAME = "attribution_boosting"
LEFT_OUT = {"breast-ljubljana"}  # fewer than 100 rows of the smaller class
SIZES = {"trees": (10, 30, 100, 300), "shapes": (1, 5, 10, 30, 100, 300)}
METRICS = {"auc": "ROC AUC", "accuracy": "accuracy", "log_loss": "log-loss"}


def monotone_catboost(cell):
    mean = cell.estimates.mean(axis=0)
    signs = (np.sign(mean) * (np.abs(mean) >= 3)).astype(int)
    return catboost(cell).set_params(monotone_constraints=signs.tolist())


def boosting(cell, sign=1):
    return LLMAttributionBoostingClassifier(attributions={1: sign * cell.estimates})


def linear(cell, sign=1):
    return LLMAttributionRegularizedClassifier(attributions={1: sign * cell.estimates})


# What a model is called, how it is made, and whether it takes missing values.
MODELS = {
    "boosting": ("LLMAttributionBoosting", boosting, True),
    "linear": ("LLMAttributionRegularized", linear, False),
    "catboost": ("CatBoost (300 iterations)", catboost, True),
    "catboost_monotone": ("CatBoost, monotone by abs(score) >= 3", monotone_catboost, True),
    "hist_gb": ("HistGradientBoosting", hist_gradient_boosting, True),
    "boosting_negated": (
        "LLMAttributionBoosting, scores negated",
        lambda cell: boosting(cell, -1),
        True,
    ),
    "linear_negated": (
        "LLMAttributionRegularized, scores negated",
        lambda cell: linear(cell, -1),
        False,
    ),
}
ARMS = {"plain": "without shapes", "bends": "shapes that bend (default)", "all": "all shapes"}


def judged(model, X, y):
    proba = model.predict_proba(X)[:, 1]
    score = model.decision_function(X) if hasattr(model, "decision_function") else proba
    return {
        "auc": roc_auc_score(y, score),
        "accuracy": accuracy_score(y, proba > 0.5),
        "log_loss": log_loss(y, proba),
    }


def measure_trees(dataset, k, seed):
    """Metrics of every model on one split."""
    train, test = dataset.split(k, seed)
    imputed = dataset.imputed(train, test)
    found = {}
    for name, (_, make, takes_missing) in MODELS.items():
        X, X_test = (dataset.X[train], dataset.X[test]) if takes_missing else imputed
        model = make(Cell(dataset.estimates, k, seed)).fit(X, dataset.y[train])
        found[name] = judged(model, X_test, dataset.y[test])
    return found


def read_shapes(dataset):
    """Recorded scores with the shapes that fit the columns, and the names of those that do not."""
    path = Path(__file__).parent / "shapes" / f"{dataset.name}.json"
    readings = json.loads(path.read_text())["readings"]
    frame = pd.DataFrame(dataset.X, columns=dataset.features)
    shapes, misfits = {}, []
    for name in readings[0]:
        given = [reading[name]["shape"] for reading in readings if reading[name]["shape"]]
        try:
            LLMShapeTransformer(shapes={name: given}).fit(frame)
            shapes[name] = given
        except ValueError as error:
            misfits.append(f"{dataset.name}: {error}")
    estimates = [dict(zip(dataset.features, e, strict=True)) for e in dataset.estimates.tolist()]
    return Attributions({1: estimates}, shapes={1: shapes}), misfits


def measure_shapes(dataset, said, k, seed):
    """Metrics of the linear model with and without shapes on one split."""
    train, test = dataset.split(k, seed)
    frames = [pd.DataFrame(X, columns=dataset.features) for X in dataset.imputed(train, test)]
    found = {}
    for arm in ARMS:
        X, X_test = frames
        if arm != "plain" and said.shapes[1]:
            # Fitted on all rows, so that units do not have to be judged by two of them.
            shaper = LLMShapeTransformer(shapes=said, monotone=arm == "all")
            shaper.fit(pd.DataFrame(dataset.X, columns=dataset.features))
            X, X_test = shaper.transform(X), shaper.transform(X_test)
        model = LLMAttributionRegularizedClassifier(attributions=said).fit(X, dataset.y[train])
        found[arm] = judged(model, X_test, dataset.y[test])
    return found


def run(parts, datasets, n_splits, store, records, measure=True):
    """Measure what is not in `records` yet; store each data set and size when it is done.

    Returns what is wrong with shapes that do not fit their columns.
    """
    misfits = []
    for part in parts:
        for dataset in datasets:
            if part == "trees" and dataset.name in LEFT_OUT:
                continue
            if part == "shapes":
                said, problems = read_shapes(dataset)
                misfits += problems
            smallest = np.bincount(dataset.y).min()
            for k in (k for k in SIZES[part] if smallest - k >= 10):
                if (part, dataset.name, k) in records or not measure:
                    continue
                splits = [
                    measure_trees(dataset, k, seed)
                    if part == "trees"
                    else measure_shapes(dataset, said, k, seed)
                    for seed in range(n_splits[part])
                ]
                records[part, dataset.name, k] = splits
                if store is not None:
                    line = {"part": part, "dataset": dataset.name, "k": k, "splits": splits}
                    with store.open("a") as file:
                        file.write(json.dumps(line) + "\n")
    return misfits


def means(records, part, k, name, metric):
    """Mean over the splits by data set."""
    return {
        dataset: float(np.mean([split[name][metric] for split in splits]))
        for (p, dataset, size), splits in records.items()
        if p == part and size == k
    }


def overview(records, part, names, metric):
    """Rows of a table: the mean over the data sets and its spread over the splits."""
    rows = []
    for name, label in names.items():
        row = [label]
        for k in SIZES[part]:
            cells = [s for (p, _, size), s in records.items() if p == part and size == k]
            if not cells:
                row.append("–")
                continue
            by_split = np.mean([[split[name][metric] for split in cell] for cell in cells], axis=0)
            row.append(f"{by_split.mean():.3f} ± {by_split.std(ddof=1):.3f}")
        rows.append(row)
    return table(["model", *(f"{k} rows per class" for k in SIZES[part])], rows)


def gaps(records, part, own, others, metric, better):
    """Rows of a table: by data set, how far `own` is ahead of the best of the others."""
    rows = []
    for dataset in sorted({d for p, d, _ in records if p == part}):
        row = [dataset]
        for k in SIZES[part]:
            if (part, dataset, k) not in records:
                row.append("–")
                continue
            value = means(records, part, k, own, metric)[dataset]
            rival = max(better * means(records, part, k, o, metric)[dataset] for o in others)
            row.append(f"{value:.3f} ({better * value - rival:+.3f})")
        rows.append(row)
    return table(["data set", *map(str, SIZES[part])], rows)


def report(records, misfits, made, n_splits):
    labels = {name: label for name, (label, *_) in MODELS.items()}
    text = [heading("Boosting and shapes", made)]
    if any(part == "trees" for part, *_ in records):
        text.append(
            f"## Trees\n\nMean over the data sets ± standard deviation over {n_splits['trees']} "
            "splits; each size averages over the data sets that have so many rows.\n"
        )
        for metric, title in METRICS.items():
            text += [f"### {title}\n", overview(records, "trees", labels, metric)]
        parents = ["linear", "catboost", "catboost_monotone", "hist_gb"]
        for metric, better in (("auc", 1), ("log_loss", -1)):
            text += [
                f"### {METRICS[metric]} by data set\n\nIn brackets: ahead of the better of the "
                "linear model and CatBoost; negative: behind.\n",
                gaps(records, "trees", "boosting", parents[:2], metric, better),
            ]
    if any(part == "shapes" for part, *_ in records):
        text.append(
            "## Shapes\n\nThe linear model; shapes written by a large language model from the "
            "descriptions alone, by one writer in five readings (see the head of the script). "
            f"{n_splits['shapes']} splits.\n"
        )
        for metric, title in METRICS.items():
            text += [f"### {title}\n", overview(records, "shapes", ARMS, metric)]
        for arm in ("bends", "all"):
            text += [
                f"### ROC AUC by data set, {ARMS[arm]}\n\nIn brackets: against none.\n",
                gaps(records, "shapes", arm, ["plain"], "auc", 1),
            ]
        text += ["Not applied:\n", *(f"- {misfit}" for misfit in misfits), ""]
    return "\n".join(text)


def main():
    parser = options(__doc__, "two small data sets, two splits")
    parser.add_argument("--datasets", nargs="+", metavar="NAME")
    parser.add_argument("--part", choices=SIZES)
    parser.add_argument("--resume", action="store_true", help="keep what is stored already")
    parser.add_argument("--splits", type=int)
    parser.add_argument("--report", action="store_true", help="of what is stored, nothing else")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    usual = {"trees": 5, "shapes": 20}
    n_splits = {part: args.splits or (2 if args.quick else usual[part]) for part in SIZES}
    datasets = load_all(args.data, args.datasets, smallest=2 if args.quick else None)
    parts = [args.part] if args.part else list(SIZES)
    shapes_known = Path(__file__).parent / "shapes"
    if any(not (shapes_known / f"{d.name}.json").exists() for d in datasets):
        parts = ["trees"]  # tables of your own
    folder = output_folder(args)
    store = None if folder is None else folder / f"{NAME}.jsonl"
    records = {}
    if store is not None and store.exists() and (args.resume or args.report):
        for line in map(json.loads, store.read_text().splitlines()):
            records[line["part"], line["dataset"], line["k"]] = line["splits"]
    elif store is not None:
        store.write_text("")
    misfits = run(parts, datasets, n_splits, store, records, measure=not args.report)
    for part in SIZES:  # what is stored may have other splits
        stored = [len(splits) for (p, *_), splits in records.items() if p == part]
        n_splits[part] = min(stored, default=n_splits[part])
    made = made_by("catboost")
    text = report(records, misfits, made, n_splits)
    print(text)
    numbers = {
        f"{part} {dataset} {k}": {
            name: {metric: round(float(np.mean([s[name][metric] for s in splits])), 5)
                   for metric in METRICS}
            for name in splits[0]
        }
        for (part, dataset, k), splits in sorted(records.items())
    }  # fmt: skip
    save(folder, NAME, text, made, {"means": numbers, "not_applied": misfits})


if __name__ == "__main__":
    main()
