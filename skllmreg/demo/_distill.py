"""The demo's second part: help-desk messages, few labels, a recorded teacher and a budget."""

import numpy as np

from skllmreg.datasets import load_helpdesk
from skllmreg.selection import LLKDSelector
from skllmreg.students import TextClassifier

CALLS = 150
PER_CLASS = 5
N_TEST = 200
HEAD = f"Accuracy on {N_TEST} other help-desk messages"
NOTE = (
    "The labels are an LLM's; the messages it is asked about are drawn at random, since nothing is "
    "gained by choosing among so few with a teacher this good. What the choice of rows and the "
    "correction of a teacher that errs bring is in benchmarks/results/selection_real.md. "
)


def accuracies(n_splits, tick):
    """Accuracy on held-out messages: {what the student has learned from: mean over the splits}.

    `tick` is called after each split.
    """
    helpdesk = load_helpdesk()
    texts, classes = np.array(helpdesk.data, dtype=object), np.array(helpdesk.target_names)
    found: dict[str, list[float]] = {}
    for split in range(n_splits):
        order = np.random.default_rng(split).permutation(len(texts))
        test, train = order[:N_TEST], order[N_TEST:]
        truth = helpdesk.target[train]
        few = np.concatenate([np.flatnonzero(truth == k)[:PER_CLASS] for k in classes])
        y = np.full(len(train), None)
        y[few] = truth[few]
        student = TextClassifier(random_state=split)

        def score(model, test=test):
            return model.score(texts[test], helpdesk.target[test])

        def taught(train=train, y=y, student=student, split=split, **params):
            model = LLKDSelector(student, random_state=split, **params)
            return model.fit(
                texts[train], y, teacher_proba=helpdesk.teacher_proba[train], classes=classes
            )

        rows = {
            f"{len(few)} labeled messages": score(student.fit(texts[train][few], truth[few])),
            f"+ {CALLS} labeled by an LLM": score(
                taught(strategy="random", max_teacher_calls=CALLS)
            ),
            f"+ all {len(train) - len(few)} by an LLM": score(taught(strategy="all")),
        }
        for name, value in rows.items():
            found.setdefault(name, []).append(value)
        tick(1)
    return {name: float(np.mean(values)) for name, values in found.items()}
