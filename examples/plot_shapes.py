"""
==================================
Effects that are no straight line
==================================

A score has one sign per column. A shape, a table of relative effects at some values, says how the
effect runs: here a risk at both ends of a blood pressure and one that sets in at an age. The data
are simulated, so that the truth is known; the shapes are those that somebody might write down who
knows roughly how it is.
"""

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline

from skllmreg import (
    AttributionDisplay,
    Attributions,
    LLMAttributionBoostingClassifier,
    LLMAttributionRegularizedClassifier,
    LLMShapeTransformer,
)


def patients(n, seed):
    rng = np.random.default_rng(seed)
    X = pd.DataFrame(
        {
            "pressure": rng.normal(125, 20, n),
            "age": rng.uniform(20, 90, n),
            "exercise": rng.integers(0, 8, n),
        }
    )
    effect = 0.06 * np.abs(X["pressure"] - 120) + 1.5 * (X["age"] > 65) - 0.2 * X["exercise"]
    y = rng.random(n) < 1 / (1 + np.exp(-(effect - effect.median())))
    return X, np.where(y, "ill", "well")


# %%
# Scores and shapes
# -----------------
# A language model answers both in one question, ``elicit_attributions(..., shapes=True)``. Here
# they are written by hand. The classes are "ill" and "well"; what speaks for "ill" is given.

scores = {"ill": {"pressure": 5, "age": 6, "exercise": -4}}
shapes = {
    "ill": {
        "pressure": [[[80, 1.0], [120, -1.0], [170, 1.0]]],
        "age": [[[20, -1.0], [60, -0.7], [70, 0.9], [90, 1.0]]],
    }
}
said = Attributions(scores, shapes=shapes)
models = {
    "scores alone": LLMAttributionRegularizedClassifier(attributions=scores),
    "with shapes": make_pipeline(
        LLMShapeTransformer(shapes=said, monotone=True),
        LLMAttributionRegularizedClassifier(attributions=said),
    ),
    "trees with shapes": make_pipeline(
        LLMShapeTransformer(shapes=said, monotone=True),
        LLMAttributionBoostingClassifier(attributions=said),
    ),
}

# %%
# From ten rows to a thousand
# ---------------------------

X_test, y_test = patients(4000, seed=1)
rows = []
for n in (10, 100, 1000):
    X, y = patients(n, seed=0)
    row = {"rows": n}
    for name, model in models.items():
        risk = model.fit(X, y).predict_proba(X_test)[:, 0]
        row[name] = round(roc_auc_score(y_test == "ill", risk), 3)
    rows.append(row)
pd.DataFrame(rows).set_index("rows")

# %%
# What was said, and what was learned
# -----------------------------------
# The curves at the right are the shapes; the columns made from them carry the scores.

_ = AttributionDisplay.from_estimator(models["with shapes"][-1], class_="ill")
