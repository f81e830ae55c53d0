"""Data of the generation benchmark: labeled rows, a hidden pool to write from, and test rows."""

import json
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from _simulated_llm import Pool, as_rows, key_of
from _texts import banking, separated, trec
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from skllmreg.datasets import load_helpdesk

TEXTS = ("trec", "banking77", "emotion")
TABLES = ("diabetes", "contraceptive")
MOST_CLASSES, MOST_ROWS = 6, 4000
N_LABELED = {"text": 3, "table": 10}  # rows of each class
WORDS = r"\w+|\?"


@dataclass(frozen=True)
class Task:
    """One split: `X`, `y` are the labeled rows, `pool` is what the simulated LLM knows."""

    name: str
    X: object
    y: np.ndarray
    pool: Pool
    X_test: object
    y_test: np.ndarray

    @property
    def is_text(self):
        return self.pool.is_text

    @property
    def classes(self):
        return np.unique(self.y)

    def student(self):
        return text_student(tol=1e-3) if self.is_text else table_student()

    def frame(self, rows):
        """Rows as the student takes them."""
        return list(rows) if self.is_text else pd.DataFrame(rows, columns=self.X.columns)

    def joined(self, rows):
        """The labeled rows and these."""
        if self.is_text:
            return [*self.X, *rows]
        return pd.concat([self.X, self.frame(rows).astype(self.X.dtypes)], ignore_index=True)


def text_student(tol=1e-4):
    """The student of the recorded figures."""
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=WORDS)
    return make_pipeline(words, LogisticRegression(C=20, max_iter=300, tol=tol))


def table_student():
    encode = make_column_transformer(
        (StandardScaler(), make_column_selector(dtype_include=["number", "bool"])),
        (OneHotEncoder(handle_unknown="ignore"), make_column_selector(dtype_include=["object"])),
    )
    return make_pipeline(encode, LogisticRegression(max_iter=300))


def available(folder, wanted=None):
    """Names of the data sets in a folder; the shipped messages where there are none."""
    wanted = wanted or (*TEXTS, *TABLES)
    names = [n for n in wanted if text_path(folder, n) or table_path(folder, n).exists()]
    missing = [n for n in wanted if n not in names]
    if missing:
        print(
            f"Not in {folder}: {', '.join(missing)} (wanted: text/<name>/train.*, "
            "tabular/<name>.csv with <name>.json). --data names another folder."
        )
    if not names:
        print("The help-desk messages that ship with the package are used instead.")
    return names or ["helpdesk"]


def fingerprint(folder, name):
    """Tell data sets of one name in different folders apart."""
    paths = [*sorted((Path(folder) / "text" / name).glob("*")), table_path(folder, name)]
    return zlib.crc32(b"".join(path.read_bytes() for path in paths if path.is_file()))


def table_path(folder, name):
    return Path(folder) / "tabular" / f"{name}.csv"


def text_path(folder, name, part="train"):
    """The file of a part of a text set, None where there is none."""
    return next(iter(sorted((Path(folder) / "text" / name).glob(f"{part}.*"))), None)


def read_texts(path):
    """(text, label) of every row of a file, in one of the three known layouts."""
    if path.suffix == ".csv":
        return banking(path)
    first = path.read_text(encoding="latin-1").partition("\n")[0]
    return separated(path, ";") if ";" in first else trec(path)


def rows_of(folder, name):
    """All rows of a data set, each once, and their labels."""
    if name == "helpdesk":
        data = load_helpdesk()
        X, y = data.data, data.target
    elif text_path(folder, name):
        X, y = zip(*read_texts(text_path(folder, name)), strict=True)
    else:
        path = table_path(folder, name)
        target = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))["target"]
        X = pd.read_csv(path)
        # The student takes no missing values: columns with many go first, then rows.
        X = X.dropna(axis=1, thresh=int(0.9 * len(X))).dropna().reset_index(drop=True)
        y = X.pop(target).astype(str)
    keys = pd.Series([key_of(row) for row in as_rows(X)])
    first = np.flatnonzero(~keys.duplicated())
    X = X.iloc[first] if isinstance(X, pd.DataFrame) else [X[i] for i in first]
    return X, np.asarray(y, dtype=object)[first]


def make_task(folder, name, seed):
    """Split: 30 % test, a few labeled rows of each class, the rest hidden.

    Of a set with many classes or rows, some are drawn.
    """
    X, y = rows_of(folder, name)
    rng = np.random.default_rng([seed, 11])
    classes = rng.permutation(np.unique(y))[:MOST_CLASSES]
    rows = rng.permutation(np.flatnonzero(np.isin(y, classes)))[:MOST_ROWS]
    hidden, test = train_test_split(rows, train_size=0.7, stratify=y[rows], random_state=seed)
    n_labeled = N_LABELED["table" if isinstance(X, pd.DataFrame) else "text"]
    labeled = np.concatenate([hidden[y[hidden] == k][:n_labeled] for k in np.sort(classes)])
    hidden = np.setdiff1d(hidden, labeled)

    def take(at):
        return X.iloc[at] if isinstance(X, pd.DataFrame) else [X[i] for i in at]

    return Task(name, take(labeled), y[labeled], Pool(take(hidden), y[hidden]), take(test), y[test])
