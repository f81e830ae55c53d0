"""Regression and several classes: the data of scikit-learn whose scores ship with the package.

Claims:

1. Regression (diabetes): the error is below RidgeCV's with 10 rows, and with 200 not above it by
   more than 1 %.
2. Three classes (the mean over wine and iris): balanced accuracy above LogisticRegression(C=1) with
   1 and 5 rows per class; with 10 and 30 not below by more than .003 and .005.

    python benchmarks/attribution_shipped.py [--splits 40] [--quick] [--output benchmarks/results]
"""

import os
import warnings

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from _results import heading, made_by, options, output_folder, save
from sklearn.datasets import load_diabetes, load_iris, load_wine
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.metrics import balanced_accuracy_score, log_loss, root_mean_squared_error
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skllmreg import LLMAttributionRegularizedClassifier, LLMAttributionRegularizedRegressor
from skllmreg.datasets import load_attributions

NAME = "attribution_shipped"
TRAINING_ROWS = (10, 20, 50, 100, 200)
ROWS_PER_CLASS = (1, 5, 10, 30)
# Balanced accuracy less that of logistic regression, at the least.
LEAST_GAIN = {1: 0.0, 5: 0.0, 10: -0.003, 30: -0.005}


def regression(n_splits):
    """Errors of shape (sizes, splits, models): ours, RidgeCV."""
    X, y = load_diabetes(return_X_y=True, as_frame=True)
    ours = LLMAttributionRegularizedRegressor(attributions=load_attributions("diabetes"))
    ridge = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-2, 3, 20)))
    errors = np.empty((len(TRAINING_ROWS), n_splits, 2))
    for split in range(n_splits):
        order = np.random.default_rng(split).permutation(len(y))
        for i, n_rows in enumerate(TRAINING_ROWS):
            train, test = order[:n_rows], order[n_rows:]
            for j, model in enumerate((ours, ridge)):
                predicted = model.fit(X.iloc[train], y.iloc[train]).predict(X.iloc[test])
                errors[i, split, j] = root_mean_squared_error(y.iloc[test], predicted)
    return errors


def classification(loader, name, n_splits):
    """Balanced accuracy and log-loss, each of shape (sizes, splits, models)."""
    X, y = loader(return_X_y=True, as_frame=True)
    ours = LLMAttributionRegularizedClassifier(attributions=load_attributions(name))
    plain = make_pipeline(StandardScaler(), LogisticRegression())
    scores = np.empty((2, len(ROWS_PER_CLASS), n_splits, 2))
    for split in range(n_splits):
        order = np.random.default_rng(split).permutation(len(y))
        for i, per_class in enumerate(ROWS_PER_CLASS):
            train = np.concatenate([order[y.iloc[order] == k][:per_class] for k in range(3)])
            test = np.setdiff1d(order, train)
            for j, model in enumerate((ours, plain)):
                model.fit(X.iloc[train], y.iloc[train])
                truth = y.iloc[test]
                scores[0, i, split, j] = balanced_accuracy_score(truth, model.predict(X.iloc[test]))
                scores[1, i, split, j] = log_loss(truth, model.predict_proba(X.iloc[test]))
    return scores


def cells(values):
    """Mean ± standard deviation over the splits of ours and of the other, and the difference."""
    ours, other = values.T
    difference = ours - other
    half_width = 1.96 * difference.std(ddof=1) / np.sqrt(len(difference))
    return (
        f"{ours.mean():.4g} ± {ours.std():.2g} | {other.mean():.4g} ± {other.std():.2g} | "
        f"{difference.mean():+.3g} ± {half_width:.2g}"
    )


def main():
    parser = options(__doc__, quick="three splits")
    parser.add_argument("--splits", type=int, default=40)
    args = parser.parse_args()
    n_splits = 3 if args.quick else args.splits
    warnings.simplefilter("ignore")
    made = made_by()
    errors = regression(n_splits)
    loaders = {"wine": load_wine, "iris": load_iris}
    scores = {name: classification(loader, name, n_splits) for name, loader in loaders.items()}

    lines = []
    for n_rows, wanted in ((10, 1.0), (200, 1.01)):
        ours, ridge = errors[TRAINING_ROWS.index(n_rows)].mean(axis=0)
        verdict = "PASS" if ours < wanted * ridge else "FAIL"
        lines.append(f"{verdict}  regression, {n_rows} rows: {ours / ridge:.4f} x RidgeCV's error")
    for i, per_class in enumerate(ROWS_PER_CLASS):
        ours, plain = np.mean([s[0, i].mean(axis=0) for s in scores.values()], axis=0)
        verdict = "PASS" if ours - plain > LEAST_GAIN[per_class] else "FAIL"
        lines.append(
            f"{verdict}  three classes, {per_class} rows per class: {ours - plain:+.4f} balanced "
            "accuracy against LogisticRegression(C=1)"
        )
    text = heading("Regression and several classes, on the data that ship", made)
    text += "\n```text\n" + "\n".join(lines) + "\n```\n"
    text += (
        f"\n{n_splits} paired splits, mean ± standard deviation over them; the difference with a "
        "95 % interval of its mean over these splits.\n"
        "\n## Diabetes (regression): root mean squared error\n"
        "\n| training rows | ours | RidgeCV | difference |\n| ---: | ---: | ---: | ---: |\n"
    )
    for n_rows, values in zip(TRAINING_ROWS, errors, strict=True):
        text += f"| {n_rows} | {cells(values)} |\n"
    for k, metric in enumerate(("balanced accuracy", "log-loss")):
        text += (
            f"\n## Wine and iris: {metric}\n"
            "\n| data set | rows per class | ours | LogisticRegression(C=1) | difference |\n"
            "| --- | ---: | ---: | ---: | ---: |\n"
        )
        for name, values in scores.items():
            for i, per_class in enumerate(ROWS_PER_CLASS):
                text += f"| {name} | {per_class} | {cells(values[k, i])} |\n"
    print(text)
    numbers = {"diabetes_rmse": errors.tolist()} | {n: s.tolist() for n, s in scores.items()}
    save(output_folder(args), NAME, text, made, {"splits": n_splits} | numbers)


if __name__ == "__main__":
    main()
