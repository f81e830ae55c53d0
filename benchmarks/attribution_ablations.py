"""What the default owes to the scores: noise in them, their number, and a fixed gamma instead.

One thing is changed at a time, on all data sets, sizes and splits alike:

- *noise*: normal noise of a standard deviation of 1 to 8 points is added to every estimate of every
  score; then the scores of the columns are shuffled, or negated;
- *estimates*: the mean of 1, 3 or all 5 conversations with the LLM;
- *gamma*: numbers in place of "auto";
- *parts*: without the flat transform, without the search for label holes.

    python benchmarks/attribution_ablations.py [--data ../shared/data] [--splits 10] [--jobs 1]
        [--quick] [--output benchmarks/results]
"""

import os
import warnings
from unittest import mock

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from _data import load_all
from _results import heading, made_by, options, output_folder, save
from joblib import Parallel, delayed
from sklearn.metrics import log_loss, roc_auc_score

from skllmreg import LLMAttributionRegularizedClassifier
from skllmreg.attribution import _scores

NAME = "attribution_ablations"
FIRST_SEED = 4000  # splits of their own
SIZES = (5, 30, 100)


def noisy(sd):
    def change(estimates, rng):
        return np.clip(estimates + sd * rng.normal(size=estimates.shape), -10, 10)

    return change


def shuffled(estimates, rng):
    return estimates[:, rng.permutation(estimates.shape[1])]


CHANGES = {"as shipped": (None, {})}
CHANGES |= {f"noise {sd}": (noisy(sd), {}) for sd in (1, 2, 4, 8)}
CHANGES |= {
    "shuffled": (shuffled, {}),
    "negated": (lambda estimates, rng: -estimates, {}),
    "1 estimate": (lambda estimates, rng: estimates[:1], {}),
    "3 estimates": (lambda estimates, rng: estimates[:3], {}),
}
CHANGES |= {f"gamma={gamma:g}": (None, {"gamma": gamma}) for gamma in (0, 0.1, 1, 10)}
CHANGES |= {
    "no flat transform": (None, {}),
    "no search for label holes": (None, {"label_holes": None}),
}


def measure(name, dataset, k, n_splits):
    """One change on one data set and size: means of ROC AUC and log-loss over the splits."""
    warnings.simplefilter("ignore")  # wrong scores warn
    change, params = CHANGES[name]
    flat = 0.0 if name == "no flat transform" else _scores.FLAT_WEIGHT
    values = []
    for seed in range(FIRST_SEED, FIRST_SEED + n_splits):
        train, test = dataset.split(k, seed)
        X_train, X_test = dataset.imputed(train, test)
        estimates = dataset.estimates
        if change is not None:
            estimates = change(estimates, np.random.default_rng(seed))
        model = LLMAttributionRegularizedClassifier(attributions=estimates, **params)
        with mock.patch.object(_scores, "FLAT_WEIGHT", flat):
            model.fit(X_train, dataset.y[train])
        y = dataset.y[test]
        auc = roc_auc_score(y, model.decision_function(X_test))
        values.append((auc, log_loss(y, model.predict_proba(X_test))))
    mean, spread = np.mean(values, axis=0), np.std(values, axis=0, ddof=min(1, n_splits - 1))
    record = {"change": name, "dataset": dataset.name, "k": k, "auc": mean[0], "log_loss": mean[1]}
    return record | {"auc_sd": spread[0], "log_loss_sd": spread[1]}


def markdown(records, made, sizes):
    by_cell = {(r["change"], r["dataset"], r["k"]): r for r in records}
    datasets = list(dict.fromkeys(r["dataset"] for r in records))

    def mean(change, k, metric):
        values = [by_cell[change, d, k][metric] for d in datasets if (change, d, k) in by_cell]
        return np.mean(values)

    def worst(change, k):
        gaps = {
            d: by_cell[change, d, k]["auc"] - by_cell["as shipped", d, k]["auc"]
            for d in datasets
            if (change, d, k) in by_cell
        }
        name = min(gaps, key=gaps.get)
        return f"{name} {gaps[name]:+.3f}"

    head = ["change"]
    for k in sizes:
        head += [f"AUC, {k} rows per class", "worst data set", "log-loss"]
    lines = [
        heading("Ablations of the automatic trust", made),
        "Mean over the data sets that allow the size, and over the splits. *Worst data set*: where "
        "the change costs most ROC AUC.\n",
        "| " + " | ".join(head) + " |",
        "| --- |" + " ---: | --- | ---: |" * len(sizes),
    ]
    for change in CHANGES:
        row = [change]
        for k in sizes:
            row.append(f"{mean(change, k, 'auc'):.3f}")
            row.append("" if change == "as shipped" else worst(change, k))
            row.append(f"{mean(change, k, 'log_loss'):.3f}")
        lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines) + "\n"


def main():
    parser = options(__doc__, "two data sets, two splits, one size")
    parser.add_argument("--splits", type=int, default=10)
    parser.add_argument("--jobs", type=int, default=1)
    args = parser.parse_args()
    datasets = load_all(args.data, smallest=2 if args.quick else None)
    sizes = SIZES[1:2] if args.quick else SIZES
    n_splits = 2 if args.quick else args.splits
    records = Parallel(n_jobs=args.jobs)(
        delayed(measure)(name, dataset, k, n_splits)
        for name in CHANGES
        for dataset in datasets
        for k in sizes
        if k in dataset.rows_per_class()
    )
    made = made_by()
    text = markdown(records, made, sizes)
    print(text)
    save(output_folder(args), NAME, text, made, {"records": records})


if __name__ == "__main__":
    main()
