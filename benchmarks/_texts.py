"""Text data sets of the selection benchmark, and teachers simulated for them."""

import csv
import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.optimize import brentq
from scipy.special import softmax
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer

# Logits of a simulated teacher are so many times too large.
MISCALIBRATION = {"noise": 2.0, "confusions": 2.0, "overconfident": 4.0}


@dataclass(frozen=True)
class TextSet:
    name: str
    X: object  # (n_rows, n_features), sparse
    y: np.ndarray
    X_test: object
    y_test: np.ndarray
    classes: np.ndarray


def separated(path, separator):
    """Rows of (text, label) where the last separator stands between them; a heading is skipped."""
    lines = path.read_text(encoding="utf-8").splitlines()[1:]
    return [line.rsplit(separator, 1) for line in lines if line]


def trec(path):
    lines = path.read_text(encoding="latin-1").splitlines()
    return [(line.split(" ", 1)[1], line.split(":", 1)[0]) for line in lines if line]


def banking(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))[1:]


READERS = {
    "emotion": (lambda path: separated(path, ";"), "txt"),
    "trec": (trec, "txt"),
    "banking77": (banking, "csv"),
}


def load(folder, name):
    """Read a data set and compute its features once."""
    read, ending = READERS[name]
    paths = [Path(folder) / "text" / name / f"{part}.{ending}" for part in ("train", "test")]
    for path in paths:
        if not path.exists():
            message = f"{path} is missing: --data names the folder that holds text/{name}/."
            if "--quick" not in sys.argv:
                raise SystemExit(message)
            print(f"Not run. {message}")  # the quick benchmarks run wherever the code was cloned
            raise SystemExit(0)
    train, test = map(read, paths)
    vectorizer = TfidfVectorizer(
        ngram_range=(1, 2), min_df=2, sublinear_tf=True, token_pattern=r"(?u)\b\w+\b|\?"
    )
    X = vectorizer.fit_transform(text for text, _ in train)
    classes, y = np.unique([label for _, label in train], return_inverse=True)
    return TextSet(
        name=name,
        X=X,
        y=y,
        X_test=vectorizer.transform(text for text, _ in test),
        y_test=np.searchsorted(classes, [label for _, label in test]),
        classes=classes,
    )


def dense(data, n_features=100):
    """Reduce to few dense features, for a net."""
    reduce = TruncatedSVD(n_features, random_state=0).fit(data.X)
    X, X_test = (
        np.ascontiguousarray(100**0.5 * reduce.transform(part), dtype=np.float32)
        for part in (data.X, data.X_test)
    )
    return replace(data, X=X, X_test=X_test)


def recorded_emotion(folder, data):
    """The rows of the emotion data that a real teacher was asked about, and its probabilities."""
    path = Path(folder) / "text" / "emotion" / "teacher.jsonl"
    answers = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    proba = np.array(
        [
            [(answer["a"].get(c, 0.0) + answer["b"].get(c, 0.0)) / 2 for c in data.classes]
            for answer in answers
        ]
    )
    rows = np.array([answer["row"] for answer in answers])
    part = TextSet("emotion", data.X[rows], data.y[rows], data.X_test, data.y_test, data.classes)
    return part, proba / proba.sum(axis=1, keepdims=True)


def simulated_teacher(data, kind, accuracy, rng):
    """Probabilities of a teacher that is right for a share of the rows, and too sure of itself.

    "noise": it errs anywhere, into any class. "confusions": each class leans to two others, the
    more so the further a text lies in a direction of its own, so that students can learn the error.
    "overconfident": the same, still surer of itself.
    """
    n, k = len(data.y), len(data.classes)
    logits = rng.normal(size=(n, k))
    if kind != "noise":
        lean = np.zeros((k, k))
        for c in range(k):
            first, second = rng.permutation(np.delete(np.arange(k), c))[:2]
            lean[c, first], lean[c, second] = 1.5, 0.8
        direction = data.X @ rng.normal(size=(data.X.shape[1], k))
        direction = (direction - direction.mean(axis=0)) / direction.std(axis=0)
        logits = logits / 2 + lean[data.y] + direction
    truth = np.eye(k)[data.y]

    def excess(margin):
        return np.mean((logits + margin * truth).argmax(axis=1) == data.y) - accuracy

    return softmax(MISCALIBRATION[kind] * (logits + brentq(excess, -3, 15) * truth), axis=1)
