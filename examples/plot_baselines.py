"""
Several classes, a regression, and the baselines
================================================

A method that uses a language model has to beat two cheap rivals: the same small model without the
language model, and the language model's scores without any labels. This example compares them on
three classes of wine and on a regression, from one labeled row per class to many.
"""

# %%
# Three classes
# -------------
# The recorded scores have an entry for each class: how strongly a larger value of each feature
# speaks for this cultivar. All models below see the same rows.
#
# .. note::
#    The data sets are public and the language model may have read about them: on data of your own
#    expect less.

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.datasets import load_diabetes, load_wine
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.metrics import balanced_accuracy_score, root_mean_squared_error
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skllmreg import LLMAttributionRegularizedClassifier, LLMAttributionRegularizedRegressor
from skllmreg.datasets import load_attributions


class ScoresAlone(ClassifierMixin, BaseEstimator):
    """The mean scores as coefficients of standardized features; labels are not used."""

    def __init__(self, attributions):
        self.attributions = attributions

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        self.scaler_ = StandardScaler().fit(X)
        self.coef_ = np.array(
            [pd.DataFrame(self.attributions.estimates[c]).mean()[X.columns] for c in self.classes_]
        )
        return self

    def predict(self, X):
        return self.classes_[(self.scaler_.transform(X) @ self.coef_.T).argmax(axis=1)]


X, y = load_wine(return_X_y=True, as_frame=True)
scores = load_attributions("wine")
models = {
    "the LLM's scores alone": ScoresAlone(scores),
    "logistic regression": make_pipeline(StandardScaler(), LogisticRegression()),
    "random forest": RandomForestClassifier(30, random_state=0),
    "both: skllmreg": LLMAttributionRegularizedClassifier(attributions=scores),
}

rows = []
for per_class in (1, 3, 10, 30):
    for split in range(6):
        order = y.sample(frac=1, random_state=split)
        train = order.groupby(order).head(per_class).index
        test = y.index.difference(train)
        for name, model in models.items():
            predicted = model.fit(X.loc[train], y[train]).predict(X.loc[test])
            rows.append((name, per_class, balanced_accuracy_score(y[test], predicted)))
results = pd.DataFrame(rows, columns=["model", "rows per class", "balanced accuracy"])
table = results.pivot_table(index="rows per class", columns="model", values="balanced accuracy")
table = table[list(models)]
table.round(3)

# %%
# With one row per class, labels and scores together are far better than either. With three, the
# scores alone would have been as good. From ten on there is little left to add: wine is easy.

styles = ["--", "-", ":", "-"]
axes = table.plot(marker="o", logx=True, style=styles, ylabel="balanced accuracy", grid=True)
axes.set_xticks(table.index, table.index)
axes.minorticks_off()
plt.show()

# %%
# A regression
# ------------
# The progression of diabetes after a year, from ten measurements. ``RidgeCV`` is the rival that has
# the same form and chooses its strength by the same leave-one-out error.

X, y = load_diabetes(return_X_y=True, as_frame=True)
models = {
    "mean of the training rows": None,
    "RidgeCV": make_pipeline(StandardScaler(), RidgeCV(np.logspace(-3, 3, 13))),
    "skllmreg": LLMAttributionRegularizedRegressor(attributions=load_attributions("diabetes")),
}

rows = []
for n_rows in (10, 20, 50, 200):
    for split in range(10):
        train = y.sample(n_rows, random_state=split).index
        test = y.index.difference(train)
        for name, model in models.items():
            if model is None:
                predicted = np.full(len(test), y[train].mean())
            else:
                predicted = model.fit(X.loc[train], y[train]).predict(X.loc[test])
            rows.append((name, n_rows, root_mean_squared_error(y[test], predicted)))
results = pd.DataFrame(rows, columns=["model", "labeled rows", "RMSE"])
table = results.pivot_table(index="labeled rows", columns="model", values="RMSE")
table = table[list(models)]
table.round(1)

# %%
# Again the scores are worth most where labels are few, and cost next to nothing where there are
# many.

axes = table.plot(marker="o", logx=True, style=["--", "-", "-"], ylabel="RMSE", grid=True)
axes.set_xticks(table.index, table.index)
axes.minorticks_off()
plt.show()
