"""Data sets of the attribution benchmarks, and the few-shot splits drawn from them.

A data folder holds, for every data set, `tabular/<name>.csv` with `tabular/<name>.json` (target,
classes, positive class, features after one-hot expansion) and `attributions/<name>.json` (the LLM's
recorded scores). Nothing else about a data set is known here, so that any such folder will do.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

ROWS_PER_CLASS = (1, 5, 10, 30, 100, 300)
MAX_TEST_ROWS = 3000
MIN_TEST_ROWS_PER_CLASS = 10
NOT_A_VALUE = {"", "NA", "N/A", "NaN", "nan", "NULL", "null", "None", "<NA>"}


@dataclass(frozen=True)
class Dataset:
    name: str
    X: np.ndarray  # (n_rows, n_features), NaN where a value is missing
    y: np.ndarray  # 1 for the class that the scores speak for
    estimates: np.ndarray  # (n_estimates, n_features), the LLM's scores
    features: tuple

    def rows_per_class(self):
        """Sizes that leave enough test rows of each class, after the cap on their number."""
        counts = np.bincount(self.y)

        def smallest_test_class(k):
            rest = counts - k
            return rest.min() * min(1, MAX_TEST_ROWS / max(rest.sum(), 1))

        return [k for k in ROWS_PER_CLASS if smallest_test_class(k) >= MIN_TEST_ROWS_PER_CLASS]

    def split(self, k, seed):
        """Indices of k training rows per class and of the test rows.

        The same seed gives nested training rows for growing k.
        """
        order = np.random.default_rng(seed).permutation(len(self.y))
        train = np.concatenate([order[self.y[order] == c][:k] for c in (0, 1)])
        rest = order[~np.isin(order, train)]
        return train, rest[:MAX_TEST_ROWS]

    def imputed(self, train, test):
        """X of these rows, missing values replaced by the training rows' medians."""
        X_train, X_test = self.X[train], self.X[test]
        if np.isnan(X_train).any() or np.isnan(X_test).any():
            empty = np.isnan(X_train).all(axis=0)
            medians = np.nanmedian(np.where(empty, 0.0, X_train), axis=0)
            X_train = np.where(np.isnan(X_train), medians, X_train)
            X_test = np.where(np.isnan(X_test), medians, X_test)
        return X_train, X_test


def data_set_names(folder):
    """Names of the data sets for which all three files are there."""
    folder = Path(folder)
    return sorted(
        path.stem
        for path in (folder / "tabular").glob("*.csv")
        if path.with_suffix(".json").exists()
        and (folder / "attributions" / f"{path.stem}.json").exists()
    )


def load(folder, name):
    """Read one data set; columns that nobody scored are left out, and said so."""
    folder = Path(folder)
    meta = json.loads((folder / "tabular" / f"{name}.json").read_text(encoding="utf-8"))
    scores = json.loads((folder / "attributions" / f"{name}.json").read_text(encoding="utf-8"))
    # As text first: which columns are categories is for the list of features to say.
    table = pd.read_csv(
        folder / "tabular" / f"{name}.csv", dtype=str, keep_default_na=False, na_filter=False
    )
    labels = table.pop(meta["target"]).str.strip()
    classes = [str(c) for c in meta["classes"]]
    unknown = sorted(set(labels) - set(classes) - NOT_A_VALUE)
    if unknown:
        raise ValueError(f"{name}: {meta['target']} holds {unknown[:5]}, not of {classes}.")
    known = labels.isin(classes)
    y = (labels[known] == str(meta["positive_class"])).to_numpy(dtype=int)
    X = expand(table[known], meta["features"], name)
    estimates = np.array(
        [[estimate[feature] for feature in X.columns] for estimate in scores["estimates"]], float
    )
    if str(scores.get("scored_class", meta["positive_class"])) != str(meta["positive_class"]):
        if len(classes) > 2:
            raise ValueError(f"{name}: the scores speak for {scores['scored_class']!r}.")
        estimates = -estimates
    return Dataset(name, X.to_numpy(), y, estimates, tuple(X.columns))


def expand(table, features, name):
    """Turn text columns into the numbers and indicators that `features` names, in its order."""
    columns, left_out = {}, []
    for column in table.columns:
        values = table[column]
        missing = values.str.strip().isin(NOT_A_VALUE)
        if column in features:
            as_text = values.str.strip().replace({"True": "1", "False": "0"})
            number = pd.to_numeric(as_text.mask(missing), errors="coerce")
            if (number.isna() & ~missing).any():
                example = values[number.isna() & ~missing].iloc[0]
                raise ValueError(f"{name}: {column} holds {example!r}, which is not a number.")
            columns[column] = number.astype(float)
            continue
        for category in values.unique():
            feature = f"{column}_{category}"
            if feature in features:
                columns[feature] = (values == category).astype(float)
            elif category not in NOT_A_VALUE:
                left_out.append(feature)
    if left_out:
        print(f"{name}: {len(left_out)} columns without a score are left out: {left_out[:5]}")
    return pd.DataFrame({f: columns[f] for f in features if f in columns})


def shipped():
    """The breast-cancer data of scikit-learn with the scores that ship with the package."""
    from sklearn.datasets import load_breast_cancer

    from skllmreg.datasets import load_attributions

    data = load_breast_cancer()
    recorded = load_attributions("breast_cancer").to_estimates()[0]  # they speak for target 0
    estimates = np.array([[scores[f] for f in data.feature_names] for scores in recorded], float)
    y = (data.target == 0).astype(int)
    return Dataset("breast_cancer", data.data, y, estimates, tuple(data.feature_names))


def load_all(folder, names=None, smallest=None):
    """Data sets of the folder, or the shipped one if there is none (and that is said)."""
    found = data_set_names(folder)
    if not found:
        print(
            f"No data sets in {folder} (wanted: tabular/<name>.csv, tabular/<name>.json, "
            "attributions/<name>.json): only scikit-learn's breast-cancer data, whose scores ship "
            "with the package, are used. --data names another folder."
        )
        return [shipped()]
    absent = set(names or ()) - set(found)
    if absent:
        raise SystemExit(f"Not in {folder}: {sorted(absent)}; there are {found}.")
    if smallest is not None:
        size = {n: (Path(folder) / "tabular" / f"{n}.csv").stat().st_size for n in found}
        names = sorted(sorted(found, key=size.get)[:smallest])
    return [load(folder, name) for name in names or found]
