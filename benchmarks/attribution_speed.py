"""Time to fit: the paper's setting against its published loop, and the automatic trust.

Claims (each measured here, in one run, on one core):

1. The paper's setting (MinMaxScaler and a numeric gamma) is fitted at least 50 times faster than by
   the published training loop through skorch, for at most 150 features and 200 rows, at equal AUC.
2. `gamma="auto"` takes at most 5 times the time of `LogisticRegressionCV(cv=5)`.

The loop is timed as skorch runs it by default, without any of skorch's callbacks, and in plain
torch: what remains then is the loop itself. Every fit is repeated, the methods taking turns. Times
are of one core's work (CPU time), so that other work on the machine does not count; ratios are of
medians.

    python benchmarks/attribution_speed.py [--data ../shared/data] [--repeats 7] [--quick]
        [--output benchmarks/results]
"""

import os
import statistics
import time
import warnings

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from _competitors import Cell, ours, paper
from _data import load_all
from _published import PublishedLoop, SkorchLoop
from _results import heading, made_by, options, output_folder, save
from sklearn.linear_model import LogisticRegressionCV
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

NAME = "attribution_speed"
MAX_FEATURES, MAX_ROWS = 150, 200


def cross_validated(cell):
    model = LogisticRegressionCV(
        cv=5,
        scoring="neg_log_loss",
        max_iter=1000,
        l1_ratios=(0,),
        use_legacy_attributes=False,
    )
    return make_pipeline(StandardScaler(), model)


METHODS = {
    "paper setting": paper,
    "published loop, skorch": lambda cell: SkorchLoop(cell.estimates),
    "published loop, skorch without callbacks": lambda cell: SkorchLoop(
        cell.estimates, options={"callbacks": "disable"}
    ),
    "published loop, plain torch": lambda cell: PublishedLoop(cell.estimates),
    'gamma="auto"': ours,
    "LogisticRegressionCV(cv=5)": cross_validated,
}
RATIOS = {  # name: (slow, fast)
    "paper setting: times faster than skorch": ("published loop, skorch", "paper setting"),
    "… than skorch without callbacks": (
        "published loop, skorch without callbacks",
        "paper setting",
    ),
    "… than plain torch": ("published loop, plain torch", "paper setting"),
    'gamma="auto": share of LogisticRegressionCV\'s time': (
        'gamma="auto"',
        "LogisticRegressionCV(cv=5)",
    ),
}


def measure(dataset, k, repeats):
    """Median seconds of each method on one data set, and its AUC, over as many splits."""
    seconds = {name: [] for name in METHODS}
    auc = {name: [] for name in METHODS}
    for repeat in range(-1, repeats):  # the first turn warms up
        train, test = dataset.split(k, max(repeat, 0))
        X_train, X_test = dataset.imputed(train, test)
        for name, make in METHODS.items():
            model = make(Cell(dataset.estimates, k, 0))
            start = time.process_time()
            model.fit(X_train, dataset.y[train])
            taken = time.process_time() - start
            if repeat >= 0:
                seconds[name].append(taken)
                score = model.decision_function(X_test)
                auc[name].append(roc_auc_score(dataset.y[test], score))
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    gap = np.abs(np.subtract(auc["paper setting"], auc["published loop, skorch"])).mean()
    return {
        "dataset": dataset.name,
        "features": dataset.X.shape[1],
        "rows": 2 * k,
        "milliseconds": {name: round(1000 * value, 3) for name, value in medians.items()},
        "ratios": {n: round(medians[a] / medians[b], 2) for n, (a, b) in RATIOS.items()},
        "auc_gap": round(float(gap), 5),
    }


def markdown(cells, made):
    rows = [
        f"| {c['dataset']} | {c['features']} | {c['rows']} | "
        + " | ".join(f"{value:.1f}" for value in c["milliseconds"].values())
        + " | "
        + " | ".join(f"{c['ratios'][name]:.2f}" for name in RATIOS)
        + f" | {c['auc_gap']:.4f} |"
        for c in cells
    ]
    head = ["data set", "features", "rows", *(f"{m}, ms" for m in METHODS), *RATIOS, "mean gap"]
    lines = [
        heading("Time to fit the attribution-regularized classifier", made),
        summary(cells),
        "The last column is the mean absolute difference in ROC AUC, over the splits, between the "
        "paper setting and the published loop.\n",
        "| " + " | ".join(head) + " |",
        "| --- |" + " ---: |" * (len(head) - 1),
        *rows,
    ]
    return "\n".join(lines) + "\n"


def summary(cells):
    """The claims as lines, with the median and the worst of the cells."""
    lines = []
    faster, bare, torch_only, share = RATIOS
    for name in (faster, bare, torch_only):
        values = [c["ratios"][name] for c in cells]
        claim = ""
        if name == faster:
            claim = f" (claim: 50): {'PASS' if min(values) >= 50 else 'FAIL'}"
        lines.append(
            f"{name}: {statistics.median(values):.0f} in the median, {min(values):.0f} at least"
            f"{claim}"
        )
    values = [c["ratios"][share] for c in cells]
    lines.append(
        f"{share}: {statistics.median(values):.2f} in the median, {max(values):.2f} at most "
        f"(claim: 5): {'PASS' if max(values) <= 5 else 'FAIL'}"
    )
    gaps = [c["auc_gap"] for c in cells]
    lines.append(f"difference in ROC AUC to the published loop: {np.mean(gaps):.4f} in the mean")
    return "```text\n" + "\n".join(lines) + "\n```\n"


def main():
    parser = options(__doc__, "two data sets, one size")
    parser.add_argument("--repeats", type=int, default=7)
    args = parser.parse_args()
    warnings.simplefilter("ignore")  # perfect separation does not converge
    datasets = load_all(args.data, smallest=2 if args.quick else None)
    sizes = (10,) if args.quick else (5, 10, 30, 100)
    repeats = 3 if args.quick else args.repeats
    cells = [
        measure(dataset, k, repeats)
        for dataset in datasets
        for k in dataset.rows_per_class()
        if k in sizes and dataset.X.shape[1] <= MAX_FEATURES and 2 * k <= MAX_ROWS
    ]
    made = made_by("torch", "skorch")
    text = markdown(cells, made)
    print(text)
    save(output_folder(args), NAME, text, made, {"cells": cells})


if __name__ == "__main__":
    main()
