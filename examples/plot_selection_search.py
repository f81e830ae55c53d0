"""
Choosing a strategy by cross-validation
=======================================

Most rows have no label, so that ``cv=5`` cannot score them. :class:`~skllmreg.UnlabeledSplit`
tests on labeled rows only and leaves the others in every training part.
"""

# %%
# Digits: 150 with a label, and the probabilities of a teacher for all that is wrong for a fifth.

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler

from skllmreg import LLKDSelector, UnlabeledSplit

X, truth = load_digits(return_X_y=True)
X, X_test, truth, y_test = train_test_split(X, truth, test_size=500, random_state=0)
rng = np.random.default_rng(0)
y = np.where(np.arange(len(X)) < 150, truth, -1)
logits = rng.normal(size=(len(X), 10)) + 2.4 * np.eye(10)[truth]
proba = np.exp(2 * logits) / np.exp(2 * logits).sum(axis=1, keepdims=True)
print(f"The teacher is right for {np.mean(proba.argmax(axis=1) == truth):.0%} of the rows.")

# %%
# ``teacher_proba`` is split along with the rows.

student = make_pipeline(MinMaxScaler(), LogisticRegression(max_iter=200))
search = GridSearchCV(
    LLKDSelector(student, max_teacher_calls=600, n_rounds=2, random_state=0),
    [
        {"strategy": ["distill", "random"]},
        {"strategy": ["llkd"], "confidence_threshold": ["auto", 0.9]},
    ],
    cv=UnlabeledSplit(3),
)
search.fit(X, y, teacher_proba=proba)
results = pd.DataFrame(search.cv_results_)
results[["param_strategy", "param_confidence_threshold", "mean_test_score", "std_test_score"]]

# %%

_, ax = plt.subplots(figsize=(6.4, 2.4), layout="constrained")
names = [", ".join(map(str, reversed(params.values()))) for params in results["params"]]
ax.errorbar(results["mean_test_score"], names, xerr=results["std_test_score"], fmt="o")
ax.set(xlabel="accuracy on labeled rows held out, mean and sd over 3 folds", ylabel="strategy")
ax.margins(y=0.2)
ax.invert_yaxis()
ax.grid(axis="x", alpha=0.4)
plt.show()

# %%
# On rows that nobody has seen:

alone = student.fit(X[:150], truth[:150]).score(X_test, y_test)
print(f"labeled rows alone {alone:.3f}, {search.best_params_} {search.score(X_test, y_test):.3f}")
