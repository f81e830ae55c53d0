"""Training data that leaves out a group's positives: do the LLM's scores make up for it?

The second claim of the LAAT paper (arXiv:2502.20268), under its published conditions: 80 % of the
rows train, 20 % test, 20 repetitions; removed from the training rows are

- diabetes: the positives under 50;
- breast-ljubljana: the positives with Age < 5;
- myocardial: the female positives.

The labels now say that the group is safe, which is wrong by construction; the test rows are left as
they are. Measured are the ROC AUC on all test rows, within the group and on the rest, and the rates
of false negatives and false positives at 0.5 for both; splits that have no such rows do not count.

    python benchmarks/attribution_skew.py [--data ../shared/data] [--splits 20] [--jobs 2] [--quick]
        [--models NAME ...] [--output benchmarks/results]

Only these three data sets will do: without them there is nothing to run.
"""

import math
import os
import warnings

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from _competitors import MODELS as FEW_SHOT_MODELS
from _competitors import Cell, Model, ours, why_not
from _data import data_set_names, load
from _fewshot_report import table
from _results import heading, made_by, options, output_folder, save
from joblib import Parallel, delayed
from scipy.stats import t as student_t
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

NAME = "attribution_skew"
N_SPLITS = 20  # seeds 0 to 19
GROUPS = {  # data set: column, which of its values are the group, name of the group
    "diabetes": ("Age", lambda age: age < 50, "under 50"),
    "breast-ljubljana": ("Age", lambda decade: decade < 5, "Age < 5"),
    "myocardial": ("SEX_female", lambda female: female == 1, "women"),
}
METRICS = {  # name, and which way is better
    "auc": ("ROC AUC, all test rows", 1),
    "auc_group": ("ROC AUC within the group", 1),
    "auc_rest": ("ROC AUC on the rest", 1),
    "fnr_group": ("false negative rate of the group", -1),
    "fnr_rest": ("false negative rate of the rest", -1),
    "fpr_group": ("false positive rate of the group", -1),
    "fpr_rest": ("false positive rate of the rest", -1),
}
DETAILED = ("auc", "auc_group", "auc_rest", "fnr_group")  # compared with ours, pair by pair
AUTO, FIXED = "ours", "ours_1"


def ours_with(**params):
    return lambda cell: ours(cell).set_params(**params)


def ours_mlp(gamma):
    return lambda cell: ours(cell).set_params(
        gamma=gamma, hidden_layer_sizes=(100,), random_state=cell.seed
    )


def logistic_balanced(cell):
    return make_pipeline(
        StandardScaler(), LogisticRegression(C=1.0, max_iter=1000, class_weight="balanced")
    )


def models():
    few_shot = FEW_SHOT_MODELS
    found = {
        AUTO: few_shot[AUTO],
        "ours_believing": Model("ours, label_holes=None", ours_with(label_holes=None)),
        "ours_0.5": Model("ours, gamma=0.5", ours_with(gamma=0.5)),
        FIXED: Model("ours, gamma=1", ours_with(gamma=1.0)),
        "ours_2": Model("ours, gamma=2", ours_with(gamma=2.0)),
        "ours_balanced": Model(
            "ours, gamma=1, balanced", ours_with(gamma=1.0, class_weight="balanced")
        ),
    }
    for suffix, gamma in {"auto": "auto", "gamma=1": 1.0}.items():
        found[f"ours_mlp_{gamma}"] = Model(f"ours, MLP, {suffix}", ours_mlp(gamma))
    found |= {name: few_shot[name] for name in ("paper", "zero_shot_raw", "zero_shot_exp")}
    found["logistic"] = few_shot["logistic"]
    found["logistic_balanced"] = Model("LogisticRegression, balanced", logistic_balanced)
    for name in ("logistic_cv", "forest", "xgboost", "hist_gb", "mlp"):
        found[name] = few_shot[name]
    found["nothing_removed"] = Model(
        "LogisticRegression, nothing removed", few_shot["logistic"].make
    )
    return found


MODELS = models()
QUICK = (AUTO, FIXED, "paper", "zero_shot_raw", "zero_shot_exp", "logistic", "nothing_removed")
NOTHING_REMOVED = "nothing_removed"  # what the missing rows were worth; no competitor


def in_group(dataset):
    column, condition, _ = GROUPS[dataset.name]
    return condition(dataset.X[:, dataset.features.index(column)])


def skewed_split(dataset, seed):
    """Training rows, those of them that stay, and test rows."""
    train, test = train_test_split(
        np.arange(len(dataset.y)), test_size=0.2, stratify=dataset.y, random_state=seed
    )
    return train, train[~(in_group(dataset)[train] & (dataset.y[train] == 1))], test


def measure(dataset, name, n_splits):
    """One model on one data set: for each metric a value per split, NaN where there is none."""
    warnings.simplefilter("ignore")  # labels that contradict the scores are what this is about
    record = {"dataset": dataset.name, "model": name} | {metric: [] for metric in METRICS}
    for seed in range(n_splits):
        everything, train, test = skewed_split(dataset, seed)
        train = everything if name == NOTHING_REMOVED else train
        X_train, X_test = dataset.imputed(train, test)
        cell = Cell(dataset.estimates, int(np.bincount(dataset.y[train]).min()), seed)
        model = MODELS[name].make(cell).fit(X_train, dataset.y[train])
        proba = model.predict_proba(X_test)[:, 1] if hasattr(model, "predict_proba") else None
        # Logits where there are any: probabilities that round to 1 are tied.
        score = model.decision_function(X_test) if hasattr(model, "decision_function") else proba
        values = metrics(dataset.y[test], score, proba, in_group(dataset)[test])
        for metric, value in values.items():
            record[metric].append(round(float(value), 5))
    return record


def metrics(y, score, proba, group):
    values = {}
    for suffix, rows in {"": group | True, "_group": group, "_rest": ~group}.items():
        both = len(np.unique(y[rows])) == 2
        values[f"auc{suffix}"] = roc_auc_score(y[rows], score[rows]) if both else math.nan
        if suffix:
            wrong = np.full(len(y), math.nan) if proba is None else (proba > 0.5) != y
            for rate, label in (("fnr", 1), ("fpr", 0)):
                of_label = wrong[rows & (y == label)]
                values[f"{rate}{suffix}"] = np.mean(of_label) if len(of_label) else math.nan
    return values


class Results:
    """Values by model, data set and metric; splits are paired."""

    def __init__(self, records):
        self.values = {(r["model"], r["dataset"]): r for r in records}
        self.models = [m for m in MODELS if any(m == r["model"] for r in records)]
        self.datasets = [d for d in GROUPS if any(d == r["dataset"] for r in records)]

    def value(self, model, dataset, metric):
        return np.array(self.values[model, dataset][metric], dtype=float)

    def difference(self, reference, model, dataset, metric):
        """The reference minus the model, where a split has both: mean, half the 95 % interval."""
        paired = self.value(reference, dataset, metric) - self.value(model, dataset, metric)
        paired = paired[~np.isnan(paired)]
        if len(paired) < 2:
            return math.nan, math.nan
        error = paired.std(ddof=1) / math.sqrt(len(paired))
        return paired.mean(), error * student_t.ppf(0.975, len(paired) - 1)

    def mark(self, reference, model, dataset, metric):
        """A sign where the model is better than the reference: certainly so, or not certainly."""
        mean, half = self.difference(reference, model, dataset, metric)
        behind = -mean * METRICS[metric][1]
        if model == NOTHING_REMOVED or not behind > 0:
            return ""
        return " ▲" if behind > half else " △"

    def summary(self):
        def entry(model, dataset, metric):
            values = self.value(model, dataset, metric)
            known = values[~np.isnan(values)]
            if not len(known):
                return None
            spread = known.std(ddof=1) if len(known) > 1 else 0.0
            out = {"mean": known.mean(), "sd_over_splits": spread, "splits": len(known)}
            for reference in (AUTO, FIXED):
                out[f"{reference}_minus_this"], out[f"{reference}_half_interval"] = self.difference(
                    reference, model, dataset, metric
                )
            return {key: None if math.isnan(v) else round(float(v), 5) for key, v in out.items()}

        return {
            d: {m: {metric: entry(m, d, metric) for metric in METRICS} for m in self.models}
            for d in self.datasets
        }


def markdown(results, datasets, not_run, made):
    n_splits = len(results.value(AUTO, results.datasets[0], "auc"))
    short = {"auc": "AUC", "fnr": "FNR", "fpr": "FPR"}
    columns = [" ".join([short[m.split("_")[0]], *m.split("_")[1:]]) for m in METRICS]

    def by_model(names):
        return table(["model", *columns], [value_row(results, m, names) for m in results.models])

    parts = [
        heading("Training data without the positives of a group", made),
        f"80 % of the rows train, 20 % test, {n_splits} paired splits. From the training rows the "
        "positives of a group are removed; the test rows are as they were. FNR and FPR are the "
        "rates of false negatives and false positives at a probability of 0.5. ▲ better than ours "
        "(auto), △ better by less than the 95 % interval of the paired difference. *nothing "
        "removed* is what the missing rows were worth, and bears no mark.\n",
    ]
    if len(datasets) > 1:
        parts += ["## In the mean over the data sets\n", by_model(results.datasets)]
    for dataset in datasets:
        group, positive = in_group(dataset), dataset.y == 1
        parts += [
            f"## {dataset.name}: no positives {GROUPS[dataset.name][2]}\n",
            f"{len(positive)} rows, {positive.sum()} positive; the group has {group.sum()} rows, "
            f"{(group & positive).sum()} of the positives, the rest {(~group & positive).sum()}.\n",
            by_model([dataset.name]),
        ]
    for reference in (AUTO, FIXED):
        parts.append(f"## {MODELS[reference].label} minus the others\n")
        for metric in DETAILED:
            name, better = METRICS[metric]
            parts += [
                f"{name[0].upper()}{name[1:]}{' (negative: ours is better)' * (better < 0)}, with "
                "a 95 % interval of the paired difference over the splits:\n",
                table(
                    ["model", *results.datasets],
                    [
                        [
                            MODELS[m].label,
                            *(
                                difference_cell(results, reference, m, d, metric)
                                for d in results.datasets
                            ),
                        ]
                        for m in results.models
                        if m not in (reference, NOTHING_REMOVED)
                    ],
                ),
            ]
    if not_run:
        parts += ["## Not run\n", *(f"- {name}: {why}" for name, why in not_run.items()), ""]
    return "\n".join(parts)


def csv(results):
    """ROC AUC on all test rows, for the documentation, which cannot read Markdown."""
    rows = [["model", *results.datasets, "mean"]]
    for model in results.models:
        means = [mean_of_known(results.value(model, d, "auc")) for d in results.datasets]
        rows.append([MODELS[model].label, *(f"{m:.3f}" for m in [*means, np.mean(means)])])
    return "".join(",".join(f'"{cell}"' for cell in row) + "\n" for row in rows)


def value_row(results, model, datasets):
    row = [f"**{MODELS[model].label}**" if model == AUTO else MODELS[model].label]
    for metric in METRICS:
        mean = np.mean([mean_of_known(results.value(model, d, metric)) for d in datasets])
        mark = "" if len(datasets) > 1 else results.mark(AUTO, model, *datasets, metric)
        row.append("–" if math.isnan(mean) else f"{mean:.3f}{mark}")
    return row


def mean_of_known(values):
    known = values[~np.isnan(values)]
    return known.mean() if len(known) else math.nan


def difference_cell(results, reference, model, dataset, metric):
    mean, half = results.difference(reference, model, dataset, metric)
    if math.isnan(mean):
        return "–"
    return f"{mean:+.3f} ± {half:.3f}{results.mark(reference, model, dataset, metric)}"


OURS_COLOR, LLM_COLOR, OTHER_COLOR = "#d1345b", "#2f6db3", "#5b6672"


def figure(results, path):
    """AUC within the group, on the rest and on all rows, a panel per data set."""
    from matplotlib.figure import Figure

    size = (3.2 + 2.5 * len(results.datasets), 0.9 + 0.27 * len(results.models))
    fig = Figure(figsize=size, layout="constrained", facecolor="white")
    panels = fig.subplots(1, len(results.datasets), sharex=True, sharey=True, squeeze=False)[0]
    rows = np.arange(len(results.models))
    for axes, dataset in zip(panels, results.datasets, strict=True):
        for row, model in zip(rows, results.models, strict=True):
            color = OURS_COLOR if model.startswith(AUTO) else OTHER_COLOR
            if model in ("paper", "zero_shot_raw", "zero_shot_exp"):
                color = LLM_COLOR
            group, rest, both = (
                mean_of_known(results.value(model, dataset, metric))
                for metric in ("auc_group", "auc_rest", "auc")
            )
            axes.plot([group, rest], [row, row], color=color, lw=1, alpha=0.4)
            axes.plot(both, row, "|", color=color, ms=11, mew=2)
            axes.plot(rest, row, "o", color=color, mfc="white", ms=6)
            axes.plot(group, row, "o", color=color, ms=6)
        axes.set_title(f"{dataset}\nno positives {GROUPS[dataset][2]}", loc="left", fontsize=10)
        axes.set(
            xlabel="ROC AUC", yticks=rows, yticklabels=[MODELS[m].label for m in results.models]
        )
        axes.grid(axis="x", color="#e8ebee", lw=0.8)
        axes.set_axisbelow(True)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.spines["bottom"].set_color("#9aa3ad")
        axes.tick_params(axis="y", length=0)
    panels[0].invert_yaxis()
    for marker, fill, label in (
        ("o", OTHER_COLOR, "within the group"),
        ("o", "white", "on the rest"),
        ("|", OTHER_COLOR, "all test rows"),
    ):
        panels[0].plot([], [], marker, color=OTHER_COLOR, mfc=fill, ms=7, mew=1.5, label=label)
    handles = panels[0].get_legend_handles_labels()
    fig.legend(*handles, loc="outside lower right", ncols=3, frameon=False)
    fig.savefig(path, dpi=160)


def main():
    parser = options(__doc__, "one data set, two splits, few models")
    parser.add_argument("--splits", type=int)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--models", nargs="+", choices=MODELS, metavar="MODEL")
    args = parser.parse_args()
    found = [name for name in GROUPS if name in data_set_names(args.data)]
    absent = [name for name in GROUPS if name not in found]
    if absent:
        print(
            f"Not in {args.data}: {', '.join(absent)} (wanted: tabular/<name>.csv, "
            "tabular/<name>.json, attributions/<name>.json). --data names another folder."
        )
    if not found:
        print("Nothing to run: the published conditions are about these data sets.")
        return
    datasets = [load(args.data, name) for name in found[: 1 if args.quick else None]]
    n_splits = args.splits or (2 if args.quick else N_SPLITS)
    names, not_run = [], {}
    for name in args.models or (QUICK if args.quick else MODELS):
        if reason := why_not(MODELS[name]):
            not_run[MODELS[name].label] = reason
        else:
            names.append(name)
    records = Parallel(n_jobs=args.jobs)(
        delayed(measure)(dataset, name, n_splits) for name in names for dataset in datasets
    )
    results = Results(records)
    made = made_by("torch", "xgboost-cpu")
    text = markdown(results, datasets, not_run, made)
    print(text)
    folder = output_folder(args)
    save(folder, NAME, text, made, {"not_run": not_run, "datasets": results.summary()})
    if folder is not None:
        (folder / f"{NAME}.csv").write_text(csv(results))
        figure(results, folder / f"{NAME}.png")


if __name__ == "__main__":
    main()
