"""The demo's third part: three help-desk messages per class grow to 300 by recorded replies."""

import numpy as np

from skllmreg.augmentation import GOLDAugmenter
from skllmreg.datasets import load_helpdesk, load_helpdesk_generation
from skllmreg.students import TextClassifier

N_TEST = 200
HEAD = "The same where an LLM writes messages"
NOTE = ""


def accuracies(n_splits, tick):
    """Accuracy on held-out messages: {what the student has learned from: mean over the splits}.

    `tick` is called after each split.
    """
    helpdesk, recorded = load_helpdesk(), load_helpdesk_generation()
    texts, seeds = np.array(helpdesk.data, dtype=object), recorded.indices
    model = GOLDAugmenter(
        llm=recorded.llm,
        task=recorded.task,
        class_descriptions=recorded.class_descriptions,
        n_novel_batches=6,
        n_samples=300,
        batch_size=14,
        random_state=0,
    ).fit(recorded.data, recorded.target)
    X, y = model.X_generated_, model.y_generated_
    others = np.setdiff1d(np.arange(len(texts)), seeds)
    found: dict[str, list[float]] = {}
    for split in range(n_splits):
        order = np.random.default_rng(split).permutation(others)
        test, train = order[:N_TEST], np.append(seeds, order[N_TEST:])
        rows = {
            f"{len(seeds)} labeled messages": (texts[seeds], helpdesk.target[seeds]),
            f"+ {len(X)} written by an LLM": (
                np.append(texts[seeds], X),
                np.append(helpdesk.target[seeds], y),
            ),
            f"{len(train)} labeled messages": (texts[train], helpdesk.target[train]),
        }
        for name, (learned, labels) in rows.items():
            student = TextClassifier(random_state=split).fit(learned, labels)
            score = student.score(texts[test], helpdesk.target[test])
            found.setdefault(name, []).append(score)
        tick(1)
    return {name: float(np.mean(scores)) for name, scores in found.items()}
