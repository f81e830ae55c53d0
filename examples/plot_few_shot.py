"""
Ten labeled rows
=================

A few labeled rows of the breast-cancer data and a language model's opinion of each feature: how
much is the opinion worth, and for how long?
"""

# %%
# What the language model said
# ----------------------------
# It was asked, without seeing a row, how strongly a larger value of each feature speaks for a
# malignant tumour, from -10 to 10. The answers ship with the package.

import warnings

import matplotlib.pyplot as plt
import pandas as pd
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skllmreg import LLMAttributionRegularizedClassifier
from skllmreg.datasets import load_attributions
from skllmreg.exceptions import PriorConflictWarning

recorded = load_attributions("breast_cancer")
scores = pd.Series(recorded.mean()[0]).sort_values()
scores.iloc[[0, 1, 2, -3, -2, -1]]

# %%
# .. note::
#    The data set is public and the language model may have read about it: on data of your own
#    expect less.
#
# Two models on the same rows
# ---------------------------
# The scores speak for *malignant*, which is target 0: ``recorded`` says
# so, and nothing has to be turned by hand. Where labels abound they correct the scores, and some
# fits warn of it; this is what is measured here, so the warning is silenced.

warnings.simplefilter("ignore", PriorConflictWarning)

X, y = load_breast_cancer(return_X_y=True, as_frame=True)
models = {
    "logistic regression": make_pipeline(StandardScaler(), LogisticRegression()),
    "with the LLM's scores": LLMAttributionRegularizedClassifier(attributions=recorded),
}

rows = []
for n_rows in (4, 10, 20, 60, 200):
    for split in range(10):
        X_train, X_test, y_train, y_test = train_test_split(
            X, y, train_size=n_rows, stratify=y, random_state=split
        )
        for name, model in models.items():
            proba = model.fit(X_train, y_train).predict_proba(X_test)[:, 1]
            rows.append((name, n_rows, roc_auc_score(y_test, proba)))
results = pd.DataFrame(rows, columns=["model", "labeled rows", "AUC"])
table = results.pivot_table(index="labeled rows", columns="model", values="AUC")
table.round(3)

# %%
# The scores are worth most where labels are few. Plain logistic regression needs some sixty rows to
# catch up; from there on the two differ by no more than .002.

axes = table.plot(marker="o", logx=True, ylabel="ROC AUC on the other rows", grid=True)
axes.set_xticks(table.index, table.index)
axes.minorticks_off()
plt.show()
