"""Rows without an LLM: perturbed copies, and SMOTE between the features of labeled rows."""

import numpy as np
from sklearn.base import clone


def perturbed(task, n_each, rng):
    """Copies of labeled rows, as nlpaug makes them: words left out or exchanged; numbers moved."""
    rows, labels = [], []
    for k in np.unique(task.y):
        own = np.flatnonzero(task.y == k)
        for at in rng.choice(own, n_each):
            rows.append(_reordered(task.X[at], rng) if task.is_text else task.X.iloc[at])
            labels.append(k)
    rows = task.frame(rows)
    if not task.is_text:
        rows = rows.reset_index(drop=True)
        for column in task.X.select_dtypes("number"):
            noise = rng.normal(scale=0.1 * task.X[column].std(), size=len(rows))
            rows[column] = rows[column].astype(float) + noise
    return rows, labels


def _reordered(text, rng, rate=0.15):
    words = [w for w in text.split() if rng.random() >= rate] or text.split()
    for i in range(len(words) - 1):
        if rng.random() < rate:
            words[i], words[i + 1] = words[i + 1], words[i]
    return " ".join(words)


def smote(task, n_each, seed):
    """The student's features and classifier, fitted with rows drawn between labeled ones.

    None where imbalanced-learn is not installed.
    """
    try:
        from imblearn.over_sampling import SMOTE
    except ImportError:
        print("SMOTE is left out: pip install imbalanced-learn")
        return None
    student = task.student()
    features = student[:-1].fit(task.X, task.y)
    classes, counts = np.unique(task.y, return_counts=True)
    wanted = {k: int(n + n_each) for k, n in zip(classes, counts, strict=True)}
    sampler = SMOTE(
        sampling_strategy=wanted, k_neighbors=min(5, counts.min() - 1), random_state=seed
    )
    X, y = sampler.fit_resample(features.transform(task.X), task.y.astype(str))
    classifier = clone(student[-1]).fit(X, y)
    return lambda rows: classifier.predict(features.transform(rows))
