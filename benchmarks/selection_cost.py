"""What the paper's rule costs inside a training loop, at 100,000 rows of 300 features.

Claim: at most 10 % of the student's training time per epoch; memory linear in the pool.

A skorch net is trained for some epochs by itself, and with the rule in every batch. The time is one
core's (CPU time), the median over epochs, the ways to train taking turns.

    python benchmarks/selection_cost.py [--quick] [--output benchmarks/results]
"""

import os
import statistics
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from _results import made_by, options, output_folder
from skorch import NeuralNetClassifier

from skllmreg.selection._net import BatchLesson, fit_net
from skllmreg.selection._selector import LLKDSelector

N_FEATURES, N_CLASSES, BATCH = 300, 6, 256


def net(n_epochs):
    torch.manual_seed(0)
    module = torch.nn.Sequential(
        torch.nn.Linear(N_FEATURES, 100), torch.nn.ReLU(), torch.nn.Linear(100, N_CLASSES)
    )
    return NeuralNetClassifier(
        module,
        criterion=torch.nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        max_epochs=n_epochs,
        batch_size=BATCH,
        iterator_train__shuffle=True,
        train_split=None,
        verbose=0,
    )


def seconds(train):
    start = time.process_time()
    train()
    return time.process_time() - start


def main():
    parser = options(__doc__, "a tenth of the rows")
    args = parser.parse_args()
    n, repeats = (10_000, 3) if args.quick else (100_000, 5)
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, N_FEATURES)).astype(np.float32)
    proba = rng.dirichlet(np.full(N_CLASSES, 0.3), size=n)
    codes, weight = proba.argmax(axis=1), np.ones(n)
    torch.set_num_threads(1)
    rule = LLKDSelector(strategy="llkd")._rule()
    rule.meet_teacher(proba)
    hard = np.eye(N_CLASSES)[codes]
    times = {"plain": [], "soft labels of all rows": [], "llkd": [], "llkd, soft labels": []}
    for repeat in range(-1, repeats):  # the first turn warms up
        taken = {
            "plain": seconds(lambda: net(1).fit(X, codes)),
            "soft labels of all rows": seconds(lambda: fit_net(net(1), X, proba, weight)),
            "llkd": seconds(
                lambda: fit_net(net(1), X, hard, weight, rule=rule, teacher_proba=proba)
            ),
            "llkd, soft labels": seconds(
                lambda: fit_net(net(1), X, proba, weight, rule=rule, teacher_proba=proba)
            ),
        }
        if repeat >= 0:
            for name, value in taken.items():
                times[name].append(value)
    medians = {name: statistics.median(values) for name, values in times.items()}
    lesson = BatchLesson(proba, weight, rule, proba)
    arrays = (lesson.target, lesson.weight, lesson.shown, lesson.used)
    bytes_per_row = sum(array.nbytes for array in (*arrays, proba)) / n
    cost = medians["llkd"] / medians["plain"] - 1
    made = made_by("torch", "skorch")
    lines = [
        "# What selection costs",
        "",
        f"Made by `{made['command']}` (cores {made['cores']}, torch {made['torch']}, skorch "
        f"{made['skorch']}). {n:,} rows of {N_FEATURES} features, batches of {BATCH}, a net of 100 "
        f"hidden units, {N_CLASSES} classes; median of {repeats} epochs.",
        "",
        *(f"- {name}: {value:.2f} s an epoch" for name, value in medians.items()),
        f"- memory: {bytes_per_row:.0f} bytes a row, all told",
        "",
        f"- {'pass' if cost <= 0.1 else 'FAIL'}: at most 10 % of an epoch for the rule: {cost:.0%}",
    ]
    print("\n".join(lines))
    folder = output_folder(args)
    if folder is not None:
        (folder / "selection_cost.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
