"""Time to fit the automatic trust on large tables, by that of `LogisticRegressionCV(cv=5)`.

Made-up tables: normal features (of sparse ones, a share of the entries), labels from a logistic
model with a few strong coefficients, and five noisy estimates of scores that know their signs. Each
ratio comes from one run; CPU seconds of one core, so that other work on the machine does not count,
medians over the repeats. `LogisticRegressionCV` gets its features scaled, the time of which counts
for both.

    python benchmarks/attribution_speed_large.py [--repeats 3] [--quick] [--cases NAME ...]
        [--resume] [--output benchmarks/results]
"""

import json
import os
import statistics
import time
import warnings
from dataclasses import dataclass

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from _results import heading, made_by, options, output_folder, save
from scipy import sparse
from scipy.special import softmax
from sklearn.linear_model import LogisticRegressionCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skllmreg import LLMAttributionRegularizedClassifier

NAME = "attribution_speed_large"
N_ESTIMATES = 5
SLOW = 20.0  # seconds from which on once is enough


@dataclass(frozen=True)
class Case:
    n_rows: int
    n_features: int
    limit: float | None  # of the ratio; None: a minute in all, without the other
    n_classes: int = 2
    density: float = 1.0


CASES = {
    "200 x 150": Case(200, 150, 1.5),
    "600 x 600": Case(600, 600, 3),
    "10,000 x 100": Case(10_000, 100, 3),
    "100,000 x 10": Case(100_000, 10, 3),
    "100 x 5,000": Case(100, 5_000, 3),
    "400 x 20, 20 classes": Case(400, 20, 6, n_classes=20),
    "sparse 1,000 x 5,000": Case(1_000, 5_000, 6, density=0.01),
    "1,600 x 1,600": Case(1_600, 1_600, 8),
    "sparse 10,000 x 20,000": Case(10_000, 20_000, None, density=0.002),
}


def table(case, seed):
    """Features, labels, and scores by class as the estimator takes them."""
    rng = np.random.default_rng(seed)
    n, d, n_outputs = case.n_rows, case.n_features, 1 if case.n_classes == 2 else case.n_classes
    relevance = rng.standard_t(3, size=(n_outputs, d))
    coef = 2 * relevance / np.linalg.norm(relevance, axis=1, keepdims=True)
    if case.density < 1:
        X = sparse.random_array(
            (n, d), density=case.density, rng=rng, format="csr", data_sampler=rng.standard_normal
        )
        coef /= np.sqrt(case.density)
    else:
        X = rng.normal(size=(n, d))
    eta = np.asarray(X @ coef.T)
    eta = np.hstack([np.zeros((n, 1)), eta]) if n_outputs == 1 else eta
    chances = softmax(eta, axis=1).cumsum(axis=1)
    y = np.minimum((rng.random((n, 1)) > chances).sum(axis=1), case.n_classes - 1)
    noise = rng.normal(size=(N_ESTIMATES, n_outputs, d))
    scores = np.clip(np.round(4 * np.sign(relevance) * np.sqrt(np.abs(relevance)) + noise), -10, 10)
    labels = [1] if n_outputs == 1 else range(n_outputs)
    return X, y, {label: scores[:, k] for k, label in enumerate(labels)}


def cross_validated(case):
    scaler = StandardScaler(with_mean=case.density == 1)
    model = LogisticRegressionCV(
        cv=5, scoring="neg_log_loss", max_iter=1000, l1_ratios=(0,), use_legacy_attributes=False
    )
    return make_pipeline(scaler, model)


def seconds(model, X, y):
    start = time.process_time()
    model.fit(X, y)
    return time.process_time() - start


def measure(name, repeats):
    case, ours, theirs = CASES[name], [], []
    for seed in range(repeats):
        X, y, scores = table(case, seed)
        ours.append(seconds(LLMAttributionRegularizedClassifier(attributions=scores), X, y))
        if case.limit is not None:
            theirs.append(seconds(cross_validated(case), X, y))
        if max(ours + theirs) > SLOW:
            break
    own, other = statistics.median(ours), statistics.median(theirs) if theirs else None
    ratio = None if other is None else round(own / other, 2)
    return {
        "case": name,
        "seconds": round(own, 3),
        "logistic_cv_seconds": None if other is None else round(other, 3),
        "ratio": ratio,
        "limit": case.limit,
        "repeats": len(ours),
        "holds": own <= 60 if ratio is None else ratio <= case.limit,
    }


def markdown(cells, made):
    lines = [
        heading("Time to fit the automatic trust on large tables", made, caution=False),
        '| rows x columns | gamma="auto", s | LogisticRegressionCV(cv=5), s | ratio | limit | '
        "repeats | |",
        "| --- |" + " ---: |" * 5 + " --- |",
    ]
    for c in cells:
        other = "–" if c["ratio"] is None else f"{c['logistic_cv_seconds']:.2f}"
        ratio = "–" if c["ratio"] is None else f"{c['ratio']:.2f}"
        limit = "60 s" if c["limit"] is None else f"{c['limit']:g}"
        verdict = "PASS" if c["holds"] else "FAIL"
        lines.append(
            f"| {c['case']} | {c['seconds']:.2f} | {other} | {ratio} | {limit} | {c['repeats']} | "
            f"{verdict} |"
        )
    return "\n".join(lines) + "\n"


def main():
    parser = options(__doc__, "the smallest case, once")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cases", nargs="+", choices=CASES, metavar="NAME")
    parser.add_argument("--resume", action="store_true", help="keep what is stored already")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    names = args.cases or list(CASES)
    folder = output_folder(args)
    store = None if folder is None else folder / f"{NAME}.json"
    done = {}
    if args.resume and store is not None and store.exists():
        done = {c["case"]: c for c in json.loads(store.read_text())["cells"]}
    made = made_by()
    for name in names[:1] if args.quick else names:
        if name not in done:
            done[name] = measure(name, 1 if args.quick else args.repeats)
        cells = [done[case] for case in CASES if case in done]
        text = markdown(cells, made)
        save(folder, NAME, text, made, {"cells": cells})
    print(text)


if __name__ == "__main__":
    main()
