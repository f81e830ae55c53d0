"""Were the constants of the automatic trust chosen for the very data that show it off?

Each constant of the prior is moved down and up, one at a time. Then every data set in turn is left
out: the other data sets choose the setting that is best for them, and the table says what that
choice scores on the set left out, against the shipped setting and against the setting that would
have been best there (which nobody can know). The splits have seeds of their own, not used to show
results elsewhere; the rows of small data sets are the same.

    python benchmarks/attribution_prior.py [--data ../shared/data] [--splits 4] [--jobs 1] [--quick]
        [--output benchmarks/results]
"""

import os
import sys
import time
import warnings
from contextlib import ExitStack
from unittest import mock

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from _competitors import Cell, ours, ours_shuffled
from _data import load_all
from _results import heading, made_by, options, output_folder, save
from joblib import Parallel, delayed
from sklearn.metrics import log_loss, roc_auc_score

from skllmreg.attribution import _evidence, _scores

NAME = "attribution_prior"
FIRST_SEED = 2000
SHIPPED = "shipped"
MEASURES = {"auc": ("ROC AUC", 1), "log_loss": ("log-loss", -1)}  # name, and which way is better
# With shuffled scores, how much is lost where labels are few and where there are enough.
SHUFFLED_AT = (10, 100)


def settings():
    """Constants to replace by setting: {setting: {constant: value}}."""
    (steep, rarely), (moderate, often) = _evidence.SLOPES
    transforms = _scores.AVERAGED_TRANSFORMS.copy()

    def weights(*values):
        return {
            "AVERAGED_TRANSFORMS": {
                name: (transform, weight)
                for (name, (transform, _)), weight in zip(transforms.items(), values, strict=True)
                if weight
            }
        }

    return {
        SHIPPED: {},
        "moderate slope 0.5": {"SLOPES": ((0.5, often), (steep, rarely))},
        "moderate slope 1.2": {"SLOPES": ((1.2, often), (steep, rarely))},
        "steep slope 1.6": {"SLOPES": ((moderate, often), (1.6, rarely))},
        "steep slope 4": {"SLOPES": ((moderate, often), (4.0, rarely))},
        "no steep slope": {"SLOPES": ((moderate, 1.0),)},
        "steep slope as likely": {"SLOPES": ((moderate, 0.5), (steep, 0.5))},
        "SLOPE_SD 1/4": {"SLOPE_SD": 0.25},
        "SLOPE_SD 1/2": {"SLOPE_SD": 0.5},
        "SLOPE_SD 1": {"SLOPE_SD": 1.0},
        "TAU_MEDIAN 0.025": {"TAU_MEDIAN": 0.025},
        "TAU_MEDIAN 0.1": {"TAU_MEDIAN": 0.1},
        "LOG_TAU_SD 0.5": {"LOG_TAU_SD": 0.5},
        "LOG_TAU_SD 2": {"LOG_TAU_SD": 2.0},
        "BASE_VARIANCE 0.05": {"BASE_VARIANCE": 0.05},
        "BASE_VARIANCE 0.5": {"BASE_VARIANCE": 0.5},
        "BASE_VARIANCE 1": {"BASE_VARIANCE": 1.0},
        "PLAIN_WEIGHT 0.01": {"PLAIN_WEIGHT": 0.01},
        "PLAIN_WEIGHT 0.2": {"PLAIN_WEIGHT": 0.2},
        "transforms .33 .33 .33": weights(1 / 3, 1 / 3, 1 / 3),
        "transforms .5 .3 .2": weights(0.5, 0.3, 0.2),
        "transforms .1 .3 .6": weights(0.1, 0.3, 0.6),
        "transforms 1 0 0": weights(1, 0, 0),
        "transforms 0 1 0": weights(0, 1, 0),
        "transforms 0 0 1": weights(0, 0, 1),
    }


def measure(name, constants, dataset, n_splits, sizes):
    """One setting on one data set: means over sizes and splits."""
    warnings.simplefilter("ignore")  # shuffled scores warn
    constants = dict(constants)
    slopes = constants.pop("SLOPES", _evidence.SLOPES)
    transforms = constants.pop("AVERAGED_TRANSFORMS", _scores.AVERAGED_TRANSFORMS)
    with (
        mock.patch.object(_evidence.candidate_priors, "__defaults__", (slopes,)),
        mock.patch.dict(_scores.AVERAGED_TRANSFORMS, transforms, clear=True),
        ExitStack() as stack,
    ):
        for constant, value in constants.items():
            stack.enter_context(mock.patch.object(_evidence, constant, value))
        true = [scores(ours, dataset, k, n_splits) for k in sizes]
        shuffled = {
            f"shuffled_{k}": scores(ours_shuffled, dataset, k, n_splits)[0]
            for k in SHUFFLED_AT
            if k in sizes
        }
    auc, loss = np.mean(true, axis=0)
    return {"setting": name, "dataset": dataset.name, "auc": auc, "log_loss": loss, **shuffled}


def scores(make, dataset, k, n_splits):
    values = []
    for seed in range(FIRST_SEED, FIRST_SEED + n_splits):
        train, test = dataset.split(k, seed)
        X_train, X_test = dataset.imputed(train, test)
        model = make(Cell(dataset.estimates, k, seed)).fit(X_train, dataset.y[train])
        auc = roc_auc_score(dataset.y[test], model.decision_function(X_test))
        values.append((auc, log_loss(dataset.y[test], model.predict_proba(X_test))))
    return np.mean(values, axis=0)


def leave_one_out(records, measure):
    """For each data set: what the others choose, and what it is worth there."""
    _, sign = MEASURES[measure]
    value = {(r["setting"], r["dataset"]): r[measure] for r in records}
    names, options = sorted({d for _, d in value}), list(dict.fromkeys(s for s, _ in value))
    rows = []
    for left_out in names:
        others = [d for d in names if d != left_out]
        chosen = max(options, key=lambda s: sign * np.mean([value[s, d] for d in others]))
        best = max(options, key=lambda s: sign * value[s, left_out])
        rows.append(
            {
                "left_out": left_out,
                "chosen_by_others": chosen,
                "chosen": value[chosen, left_out],
                "shipped": value[SHIPPED, left_out],
                "best_there": best,
                "best": value[best, left_out],
            }
        )
    return rows


def markdown(records, made, sizes):
    lines = [
        heading("The constants of the automatic trust", made),
        f"Every number is a mean over the sizes {', '.join(map(str, sizes))} rows per class that a "
        "data set allows, and over the splits. One constant is moved at a time; the others are as "
        "shipped. Transforms: the weights of expm1(|s|/3), expm1(|s|/2) and expm1(|s|).\n",
    ]
    several = len({r["dataset"] for r in records}) > 1
    for measure, (name, sign) in MEASURES.items() if several else ():
        rows = leave_one_out(records, measure)
        chosen, shipped, best = (
            np.mean([r[key] for r in rows]) for key in ("chosen", "shipped", "best")
        )
        lines += [
            f"## Leave one data set out: {name}\n",
            "| left out | chosen by the others | its score | shipped | best there | its score |",
            "| --- | --- | ---: | ---: | --- | ---: |",
            *(
                f"| {r['left_out']} | {r['chosen_by_others']} | {r['chosen']:.4f} | "
                f"{r['shipped']:.4f} | {r['best_there']} | {r['best']:.4f} |"
                for r in rows
            ),
            f"| **mean** | | {chosen:.4f} | {shipped:.4f} | | {best:.4f} |\n",
            f"The shipped setting is {sign * (shipped - chosen):+.4f} better than what the other "
            f"data sets choose, and {sign * (best - shipped):.4f} worse than hindsight.\n",
        ]
    lines += [
        "## All settings\n",
        "Mean over data sets. The last columns have the scores shuffled over the features: what "
        "wrong scores cost with few rows and with enough.\n",
        "| setting | ROC AUC | against shipped | worst data set | log-loss | "
        + " | ".join(f"shuffled, {k} rows" for k in SHUFFLED_AT)
        + " |",
        "| --- |" + " ---: |" * (4 + len(SHUFFLED_AT)),
        *setting_rows(records),
    ]
    return "\n".join(lines) + "\n"


def setting_rows(records):
    by_setting = {}
    for record in records:
        by_setting.setdefault(record["setting"], {})[record["dataset"]] = record
    shipped = by_setting[SHIPPED]
    for name, of in by_setting.items():
        gaps = {d: r["auc"] - shipped[d]["auc"] for d, r in of.items()}
        worst = min(gaps, key=gaps.get)
        shuffled = [
            np.mean([r[f"shuffled_{k}"] for r in of.values() if f"shuffled_{k}" in r])
            for k in SHUFFLED_AT
        ]
        yield (
            f"| {name} | {np.mean([r['auc'] for r in of.values()]):.4f} | "
            f"{np.mean(list(gaps.values())):+.4f} | "
            + ("–" if name == SHIPPED else f"{worst} {gaps[worst]:+.4f}")
            + f" | {np.mean([r['log_loss'] for r in of.values()]):.4f} | "
            + " | ".join(f"{value:.4f}" for value in shuffled)
            + " |"
        )


def main():
    parser = options(__doc__, "two data sets, few rows")
    parser.add_argument("--splits", type=int, default=4)
    parser.add_argument("--jobs", type=int, default=1)
    args = parser.parse_args()
    sizes = SHUFFLED_AT if args.quick else (1, 5, 10, 30, 100, 300)
    n_splits = 2 if args.quick else args.splits
    datasets = load_all(args.data, smallest=2 if args.quick else None)
    start = time.perf_counter()
    records = Parallel(n_jobs=args.jobs)(
        delayed(measure)(name, constants, d, n_splits, set(sizes) & set(d.rows_per_class()))
        for name, constants in settings().items()
        for d in datasets
    )
    print(f"{time.perf_counter() - start:.0f} s", file=sys.stderr)
    made = made_by()
    text = markdown(records, made, sizes)
    print(text)
    chosen = {m: leave_one_out(records, m) for m in MEASURES} if len(datasets) > 1 else {}
    save(output_folder(args), NAME, text, made, {"leave_one_out": chosen, "records": records})


if __name__ == "__main__":
    main()
