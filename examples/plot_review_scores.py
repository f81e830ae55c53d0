"""
Reading and correcting what the language model said
===================================================

The scores are numbers with names on them. This example shows how to look at them beside what a
model has learned, how to correct one in an expert's name, and how a mix-up of the classes looks.
"""

# %%
# What was said
# -------------
# :class:`~skllmreg.Attributions` show as a table: mean and spread of five independent estimates.
# Here are recorded ones for the progression of diabetes.

import textwrap
import warnings

import matplotlib.pyplot as plt
import pandas as pd
from sklearn.datasets import load_breast_cancer, load_diabetes

from skllmreg import (
    AttributionDisplay,
    LLMAttributionRegularizedClassifier,
    LLMAttributionRegularizedRegressor,
)
from skllmreg.datasets import load_attributions
from skllmreg.exceptions import PriorConflictWarning

said = load_attributions("diabetes")
said

# %%
# ...and what was learned
# -----------------------
# Points are scores, with the spread of the estimates; columns are coefficients per standard
# deviation of the feature, here learned from all rows.

X, y = load_diabetes(return_X_y=True, as_frame=True)
model = LLMAttributionRegularizedRegressor(attributions=said).fit(X, y)
AttributionDisplay.from_estimator(model)
plt.show()

# %%
# Two signs clearly disagree, for two different reasons.
#
# - *s1*, the total cholesterol, goes along with *s2*, *s4* and *s5*. A coefficient says what a
#   feature adds to the others; the score is about the feature as such. Both can be right. By itself
#   it does speak for a progression, as the language model says:

print(f"correlation of s1 with the target: {X['s1'].corr(y):+.2f}")

# %%
# - *sex* is coded by two numbers, and the data set's description does not say which of them is
#   which. The language model could only guess. This is worth correcting.
#
# Correcting a score
# ------------------
# Someone who does not know the code can at least take the guess back. An edit makes a new object
# and bears a name, also in the file.

edited = said.edit({"sex": 0}, by="A. Reader: code of sex unknown")
edited.to_frame().loc[["bmi", "sex"], ["mean", "spread", "edited_by"]]

# %%
# It is of no use to edit until all signs agree: then the scores say what the labels say, and
# nothing is gained from having both. Correct what you know better than the language model *without*
# the labels.
#
# When the classes are mixed up
# -----------------------------
# The most frequent mistake is a score that speaks for the wrong class. The recorded scores for the
# breast-cancer data speak for *malignant*, which is target 0. Suppose they were given for target 1:

X, y = load_breast_cancer(return_X_y=True, as_frame=True)
scores = load_attributions("breast_cancer")
train = [*y[y == 0].index[:20], *y[y == 1].index[:20]]
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always", PriorConflictWarning)
    wrong = LLMAttributionRegularizedClassifier(attributions={1: scores.mean()[0]})
    wrong.fit(X.loc[train], y[train])
print(textwrap.fill(str(caught[0].message), 80))

# %%
# The model says so, follows the labels, and the picture leaves no doubt: nearly every column is
# hatched.

AttributionDisplay.from_estimator(wrong, max_features=10)
plt.show()

# %%
# Three numbers tell the same without a picture: how well the scores alone rank the training rows,
# and how much the model still trusts them, for the wrong class and for the right one.

right = LLMAttributionRegularizedClassifier(attributions=scores).fit(X.loc[train], y[train])
pd.DataFrame(
    [[m.agreement_, m.prior_weight_, m.gamma_] for m in (wrong, right)],
    index=["speaking for the wrong class", "for the right one"],
    columns=["agreement_", "prior_weight_", "gamma_"],
).round(3)
