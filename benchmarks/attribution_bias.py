"""Training labels that are biased against a group: error rates by group with and without scores.

As in the Adult census, where few of the women earn much: of a protected group's positive training
rows a fifth is kept, of all others everything. The test rows are as they were. Unlike in
`attribution_skew.py`, the group has some positives left, and what is measured are its rates:

- *FNR gap*, *FPR gap*: rate of the group less that of the rest, at a probability of 0.5 moved to
  the share of positives in the whole table (`class_prior`, or the same shift for the others);
- ROC AUC on all test rows and within the group.

    python benchmarks/attribution_bias.py [--data ../shared/data] [--splits 20] [--quick]
        [--output benchmarks/results]
"""

import os
import warnings

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from _data import data_set_names, load
from _fewshot_report import table
from _results import heading, made_by, options, output_folder, save
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skllmreg import LLMAttributionBoostingClassifier, LLMAttributionRegularizedClassifier

NAME = "attribution_bias"
KEPT = 0.2  # of the group's positive training rows
GROUPS = {  # data set: column, which of its values are the group, name of the group
    "indian_liver": ("Gender_Female", lambda female: female == 1, "women"),
    "myocardial": ("SEX_female", lambda female: female == 1, "women"),
    "diabetes": ("Age", lambda age: age < 30, "under 30"),
    "contraceptive": ("WifeReligion_NonIslam", lambda other: other == 1, "not of Islam"),
}
METRICS = ("AUC", "AUC in the group", "FNR of the group", "FNR gap", "FPR of the group", "FPR gap")


def ours(kind=LLMAttributionRegularizedClassifier, **params):
    return lambda dataset, column: kind(attributions={1: dataset.estimates}, **params)


def logistic(dataset, column):
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))


MODELS = {  # name: maker, and whether it sees the group's column
    "ours": (ours(), True),
    "ours, label_holes=[the column]": (
        lambda dataset, column: ours(label_holes=[column])(dataset, column),
        True,
    ),
    "ours, gamma=1": (ours(gamma=1.0), True),
    "ours, boosting": (ours(LLMAttributionBoostingClassifier), True),
    "LogisticRegression": (logistic, True),
    "LogisticRegression without the column": (logistic, False),
}
UNBIASED = "LogisticRegression, nothing removed"


def rates(y, said):
    return np.mean(~said[y == 1]), np.mean(said[y == 0])


def measure(dataset, seed):
    """Metrics of every model on one split."""
    column, condition, _ = GROUPS[dataset.name]
    at = dataset.features.index(column)
    group = condition(dataset.X[:, at])
    rng = np.random.default_rng(seed)
    everything, test = train_test_split(
        np.arange(len(dataset.y)), test_size=0.3, stratify=dataset.y, random_state=seed
    )
    lost = group[everything] & (dataset.y[everything] == 1) & (rng.random(len(everything)) > KEPT)
    y, inside, found = dataset.y[test], group[test], {}
    for name in (*MODELS, UNBIASED):
        make, sees = MODELS.get(name, (logistic, True))
        train = everything if name == UNBIASED else everything[~lost]
        X, X_test = dataset.imputed(train, test)
        if not sees:
            raw = column.split("_")[0]  # its other indicator says the same
            same = [j for j, other in enumerate(dataset.features) if other.split("_")[0] == raw]
            X, X_test = (np.delete(part, same, axis=1) for part in (X, X_test))
        model = make(dataset, at).fit(X, dataset.y[train])
        eta = model.decision_function(X_test)
        said = expit(eta + logit(dataset.y.mean()) - logit(dataset.y[train].mean())) > 0.5
        (fnr, fpr), (fnr_rest, fpr_rest) = (
            rates(y[rows], said[rows]) for rows in (inside, ~inside)
        )
        aucs = roc_auc_score(y, eta), roc_auc_score(y[inside], eta[inside])
        found[name] = [*aucs, fnr, fnr - fnr_rest, fpr, fpr - fpr_rest]
    return found


def markdown(results, made, n_splits):
    lines = [
        heading("Labels that are biased against a group", made),
        "A fifth of the group's positive training rows is kept; 70 % of the rows train. Means of "
        f"{n_splits} splits. Gap: rate of the group less that of the rest.\n",
    ]
    for name, found in results.items():
        rows = [[model, *(f"{v:.3f}" for v in values)] for model, values in found.items()]
        lines += [f"## {name}: {GROUPS[name][2]}\n", table(["model", *METRICS], rows)]
    return "\n".join(lines)


def main():
    parser = options(__doc__, "one data set, two splits")
    parser.add_argument("--splits", type=int, default=20)
    args = parser.parse_args()
    warnings.simplefilter("ignore")  # labels that contradict the scores are what this is about
    names = [name for name in GROUPS if name in data_set_names(args.data)]
    n_splits = 2 if args.quick else args.splits
    results = {}
    for name in names[: 1 if args.quick else None]:
        dataset = load(args.data, name)
        splits = [measure(dataset, seed) for seed in range(n_splits)]
        results[name] = {
            model: np.nanmean([split[model] for split in splits], axis=0).tolist()
            for model in splits[0]
        }
    made = made_by()
    text = markdown(results, made, n_splits)
    print(text)
    save(output_folder(args), NAME, text, made, {"metrics": METRICS, "means": results})


if __name__ == "__main__":
    main()
