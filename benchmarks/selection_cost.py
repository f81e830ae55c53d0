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


def net(n_hidden):
    torch.manual_seed(0)
    module = torch.nn.Sequential(
        torch.nn.Linear(N_FEATURES, n_hidden), torch.nn.ReLU(), torch.nn.Linear(n_hidden, N_CLASSES)
    )
    return NeuralNetClassifier(
        module,
        criterion=torch.nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        max_epochs=1,
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
    lesson = BatchLesson(proba, weight, rule, proba)
    arrays = (lesson.target, lesson.weight, lesson.shown, lesson.used, proba)
    made = made_by("torch", "skorch")
    lines = [
        "# What selection costs",
        "",
        f"Made by `{made['command']}` (cores {made['cores']}, torch {made['torch']}, skorch "
        f"{made['skorch']}). {n:,} rows of {N_FEATURES} features, batches of {BATCH}, nets of one "
        f"hidden layer, {N_CLASSES} classes; seconds of an epoch, the median of {repeats}.",
        "",
        "| hidden units | plain | llkd | llkd, soft labels | cost of llkd |",
        "|---|---|---|---|---|",
    ]
    hard, costs = np.eye(N_CLASSES)[codes], {}
    for n_hidden in (100, 512):
        ways = {
            "plain": lambda n=n_hidden: net(n).fit(X, codes),
            "llkd": lambda n=n_hidden: fit_net(
                net(n), X, hard, weight, rule=rule, teacher_proba=proba
            ),
            "soft": lambda n=n_hidden: fit_net(
                net(n), X, proba, weight, rule=rule, teacher_proba=proba
            ),
        }
        times = {name: [] for name in ways}
        for repeat in range(-1, repeats):  # the first turn warms up
            for name, train in ways.items():
                taken = seconds(train)
                if repeat >= 0:
                    times[name].append(taken)
        plain, llkd, soft = (statistics.median(values) for values in times.values())
        costs[n_hidden] = llkd / plain - 1
        lines.append(
            f"| {n_hidden} | {plain:.2f} | {llkd:.2f} | {soft:.2f} | {costs[n_hidden]:.0%} |"
        )
    lines += ["", f"Memory: {sum(array.nbytes for array in arrays) / n:.0f} bytes a row, all told."]
    for n_hidden, cost in costs.items():
        verdict = "pass" if cost <= 0.1 else "FAIL"
        lines.append(f"- {verdict}: at most 10 % of an epoch with {n_hidden} units: {cost:.0%}")
    print("\n".join(lines))
    folder = output_folder(args)
    if folder is not None:
        (folder / "selection_cost.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
