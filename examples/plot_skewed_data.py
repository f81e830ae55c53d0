"""
Training data that lies about a group
=====================================

Sometimes the labels mislead: the ill women were never diagnosed, so that in the training data no
woman is ill. This example shows what a model makes of that, and how ``gamma="auto"`` notices: the
scores and the other rows lead to expect ill women, and there are none.
"""

# %%
# An illness that hits women and men alike
# ----------------------------------------
# The table is made up here, so that the truth is known: glucose, weight, age and family history
# matter; sex does not. The scores were written by hand in the form of a language model's answer.

import warnings

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skllmreg import AttributionDisplay, LLMAttributionRegularizedClassifier
from skllmreg.exceptions import LabelHoleWarning

scores = {
    "ill": {
        "glucose": 9,
        "weight": 7,
        "age": 5,
        "family history": 6,
        "female": 0,
        "height": 0,
        "heart rate": 1,
        "sleep": -1,
    }
}


def patients(n, rng):
    X = pd.DataFrame(rng.normal(size=(n, len(scores["ill"]))), columns=list(scores["ill"]))
    X["female"] = rng.integers(0, 2, n)
    X["family history"] = rng.integers(0, 2, n)
    logit = (
        1.2 * X["glucose"] + 0.6 * X["weight"] + 0.5 * X["age"] + 0.6 * X["family history"] - 1.2
    )
    return X, np.where(rng.random(n) < 1 / (1 + np.exp(-logit)), "ill", "well")


# %%
# Removed from the training rows: the ill women
# ---------------------------------------------
# Four hundred rows are many labels for eight features, and on honest data every model would do.
# Here they say that being a woman protects.

models = {
    "logistic regression": make_pipeline(StandardScaler(), LogisticRegression()),
    'gamma="auto"': LLMAttributionRegularizedClassifier(attributions=scores),
    "labels believed": LLMAttributionRegularizedClassifier(attributions=scores, label_holes=None),
    "gamma=1": LLMAttributionRegularizedClassifier(attributions=scores, gamma=1),
}
warnings.simplefilter("ignore", LabelHoleWarning)  # it is shown below

rows = []
for seed in range(10):
    rng = np.random.default_rng(seed)
    X, y = patients(500, rng)
    X_test, y_test = patients(2000, rng)
    seen = (X["female"] == 0) | (y == "well")
    women = X_test["female"] == 1
    for name, model in models.items():
        model.fit(X[seen], y[seen])
        ill = model.predict_proba(X_test)[:, 0]
        missed = (ill < 0.5) & (y_test == "ill")
        rows.append(
            {
                "model": name,
                "AUC": roc_auc_score(y_test == "ill", ill),
                "AUC, women": roc_auc_score(y_test[women] == "ill", ill[women]),
                "ill women missed": missed[women].sum() / (y_test[women] == "ill").sum(),
                "ill men missed": missed[~women].sum() / (y_test[~women] == "ill").sum(),
            }
        )
pd.DataFrame(rows).groupby("model", sort=False).mean().round(3)

# %%
# A `LabelHoleWarning` names the hole, and ``label_holes_`` has the counts of the last table. A
# numeric gamma keeps to the scores as well, but has to be chosen by somebody who knows of the hole:
# cross-validation is deceived, because the held-out rows lack the same patients.

pd.DataFrame(models['gamma="auto"'].label_holes_).round(3)

# %%
# What the models believe
# -----------------------
# What speaks for being ill: points are the scores, columns what was learned. Only where the labels
# are believed, being a woman protects.

figure, axes = plt.subplots(1, 2, figsize=(10, 4), sharey=True, layout="constrained")
for name, ax in zip(['gamma="auto"', "labels believed"], axes, strict=True):
    AttributionDisplay.from_estimator(models[name], class_="ill", ax=ax)
    ax.set_title(name, loc="left", fontsize="medium", weight="bold")
plt.show()

# %%
# What no model can repair: the training rows have fewer ill people than the world, so that all
# probabilities are too low. Where it is known how frequent the illness really is, ``class_prior``
# says so: ``class_prior={"ill": 0.3, "well": 0.7}``.
