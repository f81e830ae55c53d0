"""Data of the live generation benchmark: labeled rows, other real rows, and test rows."""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from _texts import banking, trec

from skllmreg.datasets import load_helpdesk
from skllmreg.utils._text import words

MOST_TEST = 500

TASKS = {
    "trec": "Sort questions by the kind of answer that they ask for.",
    "helpdesk": "Sort messages to the help desk of an online shop by what the writer wants.",
    "banking77": "Sort messages to a bank by what the customer wants.",
    "rte": "Say whether the second text follows from the first.",
}
CLASSES = {
    "trec": {
        "ABBR": "asks what an abbreviation stands for, or for an abbreviation",
        "DESC": "asks for a definition, a description, a manner or a reason",
        "ENTY": "asks for a thing: an animal, color, food, product, event, term",
        "HUM": "asks for a person or a group of people",
        "LOC": "asks for a place",
        "NUM": "asks for a number, date, amount or other numeric value",
    },
    "helpdesk": {
        "account": "signing in, passwords, personal data, opening or closing an account",
        "billing": "invoices, charges, payment methods, what was or will be paid",
        "delivery": "where an order is, when and how it comes, delays, lost parcels, addresses",
        "presale": "questions before buying: stock, sizes, prices, which product fits",
        "refund": "wants money back, or to return or exchange what was bought",
        "technical": "a product, the app or the web site does not work as it should",
    },
    "rte": {
        "entailment": "sentence2 is true if sentence1 is",
        "not_entailment": "sentence2 may be false although sentence1 is true",
    },
}
N_INTENTS = 6


@dataclass(frozen=True)
class LiveTask:
    """One split of a data set.

    `X`, `y` are labeled; `X_more`, `y_more` are as real, and used as the ceiling alone.
    """

    name: str
    X: object
    y: np.ndarray
    X_more: object
    y_more: np.ndarray
    X_test: object
    y_test: np.ndarray
    descriptions: dict

    @property
    def task(self):
        return TASKS[self.name]

    def seen_in_test(self, rows):
        """Which rows stand in the test part, word by word: the model may know the data set."""
        test = {key(row) for row in as_rows(self.X_test)}
        return np.array([key(row) in test for row in as_rows(rows)], dtype=bool)


def as_rows(X):
    return list(X.itertuples(index=False)) if isinstance(X, pd.DataFrame) else list(X)


def key(row):
    return tuple(words(row)) if isinstance(row, str) else tuple(tuple(words(t)) for t in row)


def rows_of(folder, name):
    """(X, y) of the training part, and of the test part or None."""
    folder = Path(folder) / "text" / name
    if name == "helpdesk":
        data = load_helpdesk()
        return (np.array(data.data, dtype=object), np.array(data.target, dtype=object)), None
    if not folder.exists():
        raise SystemExit(f"{folder} is missing: --data names the folder that holds text/{name}/.")
    if name == "rte":
        parts = [
            pd.read_csv(folder / f"{part}.tsv", sep="\t", quoting=csv.QUOTE_NONE)
            for part in ("train", "dev")
        ]
        return tuple(
            (p[["sentence1", "sentence2"]], p.iloc[:, -1].to_numpy(dtype=object)) for p in parts
        )
    read, ending = (trec, "txt") if name == "trec" else (banking, "csv")
    parts = []
    for part in ("train", "test"):
        texts, labels = zip(*read(folder / f"{part}.{ending}"), strict=True)
        parts.append((np.array(texts, dtype=object), np.array(labels, dtype=object)))
    return tuple(parts)


def make_task(folder, name, seed, n_labeled):
    """Draw the labeled rows, and what else there is."""
    (X, y), test = rows_of(folder, name)
    rng = np.random.default_rng([seed, 23])
    classes = np.unique(y)
    if len(classes) > N_INTENTS:
        classes = np.sort(rng.permutation(classes)[:N_INTENTS])
    order = rng.permutation(len(y))
    order = order[np.isin(y[order], classes)]
    X, y = take(X, order), y[order]
    if test is None:
        cut = len(y) // 2
        test = take(X, np.arange(cut, len(y))), y[cut:]
        X, y = take(X, np.arange(cut)), y[:cut]
    X_test, y_test = test
    at = np.flatnonzero(np.isin(y_test, classes))[:MOST_TEST]
    chosen = np.concatenate([np.flatnonzero(y == k)[:n_labeled] for k in classes])
    more = np.setdiff1d(np.arange(len(y)), chosen)
    descriptions = CLASSES.get(name) or {k: k.replace("_", " ") for k in classes}
    return LiveTask(
        name,
        take(X, chosen),
        y[chosen],
        take(X, more),
        y[more],
        take(X_test, at),
        y_test[at],
        descriptions,
    )


def take(X, at):
    return X.iloc[at].reset_index(drop=True) if isinstance(X, pd.DataFrame) else X[at]
