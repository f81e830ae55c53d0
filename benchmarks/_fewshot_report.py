"""Tables, checks and figure of the few-shot benchmark, from its records."""

import math
from collections import defaultdict

import numpy as np
from _competitors import MODELS, OURS
from _data import MIN_TEST_ROWS_PER_CLASS, ROWS_PER_CLASS
from _results import heading
from scipy.stats import t as student_t

PARENTS = ("zero_shot_raw", "zero_shot_exp", "paper", "logistic_cv")
WRONG = ("ours_negated", "ours_shuffled")
METRICS = {"auc": ("ROC AUC", 1), "log_loss": ("log-loss", -1)}  # name, and which way is better
TIMED_AGAINST = "logistic_cv"


class Results:
    """Records by model, size and data set; every value is an array over the paired splits."""

    def __init__(self, records, models):
        self.models = [m for m in MODELS if m in models]
        self.cells = defaultdict(dict)
        for record in records:
            self.cells[record["model"], record["k"]][record["dataset"]] = record
        self.sizes = [k for k in ROWS_PER_CLASS if (OURS, k) in self.cells]

    def datasets(self, k):
        return sorted(self.cells[OURS, k])

    def has(self, model, k, metric="auc"):
        return (model, k) in self.cells and all(
            record[metric] for record in self.cells[model, k].values()
        )

    def value(self, model, k, metric="auc", datasets=None):
        """Mean over the data sets, for each split."""
        return np.mean(
            [self.cells[model, k][d][metric] for d in datasets or self.datasets(k)], axis=0
        )

    def difference(self, model, k, metric="auc", datasets=None):
        """Ours minus the model: mean, standard error and half the 95 % interval."""
        paired = self.value(OURS, k, metric, datasets) - self.value(model, k, metric, datasets)
        error = paired.std(ddof=1) / math.sqrt(len(paired))
        return paired.mean(), error, error * student_t.ppf(0.975, len(paired) - 1)

    def mark(self, model, k, metric):
        """A sign where the model is better than ours: certainly so, or not certainly."""
        mean, _, half = self.difference(model, k, metric)
        behind = -mean * METRICS[metric][1]
        return "" if behind <= 0 else " ▲" if behind > half else " △"

    def time_ratio(self, model):
        """Median, over cells, of the fit time against that of LogisticRegressionCV."""
        ratios = [
            np.median(record["fit_seconds"])
            / np.median(self.cells[TIMED_AGAINST, k][name]["fit_seconds"])
            for k in self.sizes
            if (TIMED_AGAINST, k) in self.cells and (model, k) in self.cells
            for name, record in self.cells[model, k].items()
        ]
        return float(np.median(ratios)) if ratios else math.nan

    def summary(self):
        """What the tables show, as numbers."""
        out = {}
        for model in self.models:
            out[model] = {"label": MODELS[model].label, "fit_time_ratio": self.time_ratio(model)}
            for metric in METRICS:
                for k in self.sizes:
                    if not self.has(model, k, metric):
                        continue
                    values = self.value(model, k, metric)
                    entry = {"mean": values.mean(), "sd_over_splits": values.std(ddof=1)}
                    if model != OURS:
                        names = ("ours_minus_this", "standard_error", "half_interval")
                        entry |= dict(zip(names, self.difference(model, k, metric), strict=True))
                    entry["by_dataset"] = {
                        name: np.mean(record[metric])
                        for name, record in sorted(self.cells[model, k].items())
                    }
                    out[model].setdefault(metric, {})[str(k)] = rounded(entry)
        return out


def rounded(entry):
    return {
        key: rounded(value) if isinstance(value, dict) else round(float(value), 5)
        for key, value in entry.items()
    }


def table(header, rows):
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def markdown(results, datasets, not_run, made):
    sizes = [str(k) for k in results.sizes]
    n_splits = len(results.value(OURS, results.sizes[0]))
    parts = [
        heading("Few-shot benchmark of the attribution-regularized classifier", made),
        f"Columns are labeled rows per class; {n_splits} paired splits (every model has the same "
        "training and test rows); mean over the data sets that keep at least "
        f"{MIN_TEST_ROWS_PER_CLASS} test rows of each class, so that columns are about different "
        "data sets:\n",
        table(["data set", "rows", "features", "positive", *sizes], data_rows(results, datasets)),
    ]
    for metric, (name, _) in METRICS.items():
        parts += [
            f"## {name}\n",
            "Mean over data sets and splits ± standard deviation over splits of the mean over data "
            "sets. ▲ better than ours, △ better by less than the interval of the paired "
            "difference.\n",
            table(["model", *sizes], [value_row(results, m, metric) for m in results.models]),
            f"Ours minus the other, with a 95 % interval of the paired difference over the splits "
            f"of these data sets{' (negative: ours is better)' if metric == 'log_loss' else ''}:\n",
            table(
                ["model", *sizes],
                [difference_row(results, m, metric) for m in results.models if m != OURS],
            ),
        ]
    parts += [
        "## ROC AUC by data set\n",
        "Ours, then how far it is ahead of the best of its parents (zero-shot raw and exp, paper "
        "setting, LogisticRegressionCV) and of the best of all other models, which is named. "
        "Negative: ours loses. The best of many is picked by these same test rows, which favors "
        "it.\n",
        table(["data set", *sizes], [dataset_row(results, d.name) for d in datasets]),
        "## Fit time\n",
        "Ratio to LogisticRegressionCV (with its scaler) on the same rows, one core, median over "
        "data sets and sizes above one row per class.\n",
        table(
            ["model", "ratio"],
            [[MODELS[m].label, f"{results.time_ratio(m):.2f}"] for m in results.models],
        ),
    ]
    if not_run:
        parts += ["## Not run\n", *(f"- {name}: {why}" for name, why in not_run.items()), ""]
    return "\n".join(parts)


def csv(results, metric):
    """The table of one metric for the documentation, which cannot read Markdown."""
    rows = [["rows per class", *map(str, results.sizes)]]
    rows += [value_row(results, m, metric) for m in results.models if results.has(m, 10, metric)]
    return "".join(",".join(f'"{cell}"' for cell in row) + "\n" for row in rows)


def data_rows(results, datasets):
    return [
        [
            d.name,
            f"{len(d.y):,}",
            str(d.X.shape[1]),
            f"{d.y.mean():.0%}",
            *("✓" if d.name in results.datasets(k) else "–" for k in results.sizes),
        ]
        for d in datasets
    ]


def value_row(results, model, metric):
    row = [f"**{MODELS[model].label}**" if model == OURS else MODELS[model].label]
    for k in results.sizes:
        if not results.has(model, k, metric):
            row.append("–")
            continue
        values = results.value(model, k, metric)
        mark = "" if model == OURS else results.mark(model, k, metric)
        row.append(f"{values.mean():.3f} ± {values.std(ddof=1):.3f}{mark}")
    return row


def difference_row(results, model, metric):
    row = [MODELS[model].label]
    for k in results.sizes:
        if results.has(model, k, metric):
            mean, _, half = results.difference(model, k, metric)
            row.append(f"{mean:+.3f} ± {half:.3f}{results.mark(model, k, metric)}")
        else:
            row.append("–")
    return row


def dataset_row(results, name):
    row = [name]
    for k in results.sizes:
        if name not in results.datasets(k):
            row.append("–")
            continue
        cell = [f"{results.value(OURS, k, datasets=[name]).mean():.3f}"]
        rivals = [m for m in results.models if m != OURS and m not in WRONG]
        for group in (PARENTS, rivals):
            gap, model = best(results, group, k, [name])
            cell.append(f"{gap:+.3f}" + (f" {MODELS[model].label}" if group is rivals else ""))
        row.append(" / ".join(cell))
    return row


def best(results, models, k, datasets=None):
    """How far ours is ahead of the best of these models, and which one that is."""
    return min(
        (results.difference(m, k, datasets=datasets)[0], m) for m in models if results.has(m, k)
    )


def checks(results):
    """The claims, each as a line that says PASS or FAIL with its numbers."""
    lines = []

    def claim(ok, text):
        lines.append(f"{'PASS' if ok else 'FAIL'}  {text}")

    for k in results.sizes:
        tolerance = 0.010 if k == 1 else 0.003
        gap, model = best(results, PARENTS, k)
        claim(
            gap >= -tolerance,
            f"k = {k}: AUC {results.value(OURS, k).mean():.4f}, best linear or zero-shot parent is "
            f"{MODELS[model].label}: {gap:+.4f} (at least {-tolerance:+.3f})",
        )
    if results.has("paper", 100):
        gap = results.difference("paper", 100)[0]
        claim(gap >= 0.010, f"k = 100: AUC against paper setting {gap:+.4f} (at least +0.010)")
    for name in results.datasets(300) if results.has("paper", 300) else ():
        gap = results.difference("paper", 300, datasets=[name])[0]
        claim(gap > 0, f"k = 300, {name}: AUC against paper setting {gap:+.4f} (above 0)")
    for k in results.sizes:
        if k <= 30 and results.has("forest", k):
            gap = results.difference("forest", k)[0]
            claim(gap >= -0.003, f"k = {k}: AUC against RandomForest {gap:+.4f} (at least -0.003)")
    for k in results.sizes:
        gap = results.difference("paper", k, "log_loss")[0]
        claim(gap < 0, f"k = {k}: log-loss against paper setting {gap:+.4f} (below 0)")
    for wrong in WRONG:
        if results.has(wrong, 100):
            plain = max(results.value(m, 100).mean() for m in ("logistic", "logistic_cv"))
            gap = results.value(wrong, 100).mean() - plain
            claim(
                gap >= -0.010,
                f"k = 100: {MODELS[wrong].label}, AUC against the better logistic regression "
                f"{gap:+.4f} (at least -0.010)",
            )
    failed = sum(line.startswith("FAIL") for line in lines)
    lines.append(f"{len(lines) - failed} of {len(lines)} claims hold.")
    lines += ["", "Data set on which ours is farthest behind (or least ahead of) its best parent:"]
    for k in results.sizes:
        gap, model, name = min((*best(results, PARENTS, k, [d]), d) for d in results.datasets(k))
        lines.append(f"      k = {k}: {name} {gap:+.4f} against {MODELS[model].label}")
    return "## Checks\n\n```text\n" + "\n".join(lines) + "\n```\n"


# The figure.

STYLES = {  # color, line width, line style, label beside the curve
    OURS: ("#d1345b", 3.0, "-", "skllmreg"),
    "zero_shot_exp": ("#3f4a59", 1.6, (0, (4, 2)), "LLM's scores alone"),
    "paper": ("#2f6db3", 1.8, "-", "paper's setting"),
    "logistic_cv": ("#22863f", 1.8, "-", "logistic regression"),
}
BACKGROUND = ("forest", "catboost", "xgboost", "lightgbm", "hist_gb", "mlp")
GRAY = "#b9c0c8"


def figure(results, path, panels=True):
    """Learning curves: the mean over data sets and, with panels, each of them below it."""
    from matplotlib.figure import Figure

    names = sorted({d for k in results.sizes for d in results.datasets(k)})
    # A curve is about the same data sets at every size, or its steps would be theirs.
    sizes = [k for k in results.sizes if len(results.datasets(k)) > len(names) / 2]
    shared = sorted(set.intersection(*(set(results.datasets(k)) for k in sizes)))
    # Three columns: readable where a page gives it 500 pixels.
    n_rows = -(-len(names) // 3) if panels else 0
    size = (6.4, 4.2 + 1.9 * n_rows)
    fig = Figure(figsize=size, layout="constrained", facecolor="white")
    top, *below = np.ravel(
        fig.subfigures(1 + panels, 1, height_ratios=[4.2] + [1.9 * n_rows] * panels)
    )
    axes = top.subplots()
    draw(axes, results, sizes, shared)
    label_curves(axes, results, sizes, shared)
    what = f"mean over {len(shared)} data sets" if len(shared) > 1 else shared[0]
    axes.set_title(f"Few labeled rows: {what}", loc="left", fontsize=12, weight="bold")
    axes.set(xlabel="labeled rows per class", ylabel="ROC AUC on unseen rows")
    for i, name in enumerate(names if panels else ()):
        small = below[0].add_subplot(n_rows, 3, i + 1)
        draw(small, results, [k for k in results.sizes if name in results.datasets(k)], [name])
        small.set_title(name, loc="left", fontsize=11)
        small.tick_params(labelsize=10)
    fig.savefig(path, dpi=160)


def draw(axes, results, sizes, datasets):
    for model in (*BACKGROUND, *reversed(STYLES)):
        color, width, line, _ = STYLES.get(model, (GRAY, 1.0, "-", ""))
        known = [k for k in sizes if results.has(model, k)]
        means = [results.value(model, k, datasets=datasets).mean() for k in known]
        axes.plot(known, means, color=color, lw=width, ls=line, solid_capstyle="round")
        if model == OURS:
            axes.plot(known, means, "o", color=color, ms=2 * width)
    axes.set(xscale="log", xticks=sizes, xticklabels=sizes)
    axes.minorticks_off()
    axes.grid(axis="y", color="#e8ebee", lw=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#9aa3ad")


def label_curves(axes, results, sizes, datasets):
    """Name each curve at its right end, the names kept apart."""
    last = sizes[-1]
    ends = {
        m: results.value(m, last, datasets=datasets).mean() for m in STYLES if results.has(m, last)
    }
    others = [m for m in BACKGROUND if results.has(m, last)]
    low, high = axes.get_ylim()
    gap = 0.055 * (high - low)
    position = math.inf
    for model, end in sorted(ends.items(), key=lambda item: -item[1]):
        position = min(end + gap / 2 if position == math.inf else end, position - gap)
        color, *_, label = STYLES[model]
        axes.annotate(
            label,
            (last, position),
            (8, 0),
            textcoords="offset points",
            va="center",
            color=color,
            weight="bold" if model == OURS else "normal",
            fontsize=12 if model == OURS else 10,
            annotation_clip=False,
        )
    if others:
        k = sizes[len(sizes) // 2]
        value = min(results.value(m, k, datasets=datasets).mean() for m in others)
        axes.annotate(
            "tree ensembles and MLP",
            (k, value),
            (6, -6),
            textcoords="offset points",
            va="top",
            color="#7b8794",
            fontsize=10,
        )
