"""
A table with categories, in a pipeline, searched over gamma
===========================================================

Real tables have text columns and holes. This example shows how the scores find their columns behind
a ``ColumnTransformer``, why the pipeline needs pandas output, and how ``GridSearchCV`` chooses
`gamma`, with ``"auto"`` as one of the candidates.
"""

# %%
# Customers who leave
# -------------------
# The table is made up here, so that we know what is true: long contracts keep customers, complaints
# and price drive them away, and the favorite color means nothing.

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from skllmreg import AttributionDisplay, LLMAttributionRegularizedClassifier

rng = np.random.default_rng(0)
n = 3000
X = pd.DataFrame(
    {
        "price": rng.normal(60, 20, n).round(),
        "months": rng.exponential(24, n).round(),
        "complaints": rng.poisson(0.7, n).astype(float),
        "contract": rng.choice(["monthly", "yearly", "two years"], n, p=[0.5, 0.3, 0.2]),
        "color": rng.choice(["red", "green", "blue", "violet"], n),
    }
)
logit = (
    0.03 * (X["price"] - 60)
    - 0.03 * X["months"]
    + 0.8 * X["complaints"]
    + X["contract"].map({"monthly": 0.8, "yearly": -0.4, "two years": -1.5})
)
y = np.where(rng.random(n) < 1 / (1 + np.exp(-logit)), "leaves", "stays")
X.loc[rng.random(n) < 0.1, "price"] = np.nan
X.head(3)

# %%
# Scores by name
# --------------
# These were written by hand, in the form in which a language model would answer: a number from -10
# to 10 for every column *after* one-hot encoding. They speak for the class that is their key. With
# a model to ask, ``llm=ChatModel(...)`` takes their place; it then needs a ``task`` and, for what
# the names don't tell, ``feature_descriptions``.

scores = {
    "leaves": {
        "price": 5,
        "months": -6,
        "complaints": 8,
        "contract_monthly": 6,
        "contract_yearly": -3,
        "contract_two years": -7,
        "color_red": 0,
        "color_green": 0,
        "color_blue": 0,
        "color_violet": 0,
    }
}

# %%
# Names must survive until the last step, hence ``set_output(transform="pandas")``. The prefixes of
# the ``ColumnTransformer`` (``onehotencoder__contract_monthly``) do no harm. In a fold in which a
# category does not occur there is a column less, and its score is not used. No scaler is needed:
# the model scales inside.

model = make_pipeline(
    make_column_transformer(
        (SimpleImputer(), ["price", "months", "complaints"]),
        (OneHotEncoder(sparse_output=False, handle_unknown="ignore"), ["contract", "color"]),
    ),
    LLMAttributionRegularizedClassifier(attributions=scores),
).set_output(transform="pandas")
model

# %%
# Let cross-validation choose gamma
# ---------------------------------
# With forty labeled rows. ``gamma=0`` is plain logistic regression, a large gamma follows the
# scores alone, ``"auto"`` decides by itself; the last two columns are what cross-validation saw and
# what is true of the rows that were set aside.

X_train, X_test, y_train, y_test = train_test_split(X, y, train_size=40, stratify=y, random_state=0)
gammas = ["auto", 0, 0.03, 0.1, 0.3, 1, 3]
search = GridSearchCV(
    model,
    {"llmattributionregularizedclassifier__gamma": gammas},
    scoring="roc_auc",
    cv=5,
)
search.fit(X_train, y_train)

pd.DataFrame(
    {
        "gamma": gammas,
        "AUC in cross-validation": search.cv_results_["mean_test_score"],
        "AUC on other rows": [
            search.scorer_(
                model.set_params(llmattributionregularizedclassifier__gamma=gamma).fit(
                    X_train, y_train
                ),
                X_test,
                y_test,
            )
            for gamma in gammas
        ],
    }
).round(3)

# %%
# Every gamma above zero is better than none. What cross-validation says is rough, since each of its
# folds has eight rows: it prefers the right neighborhood, and overstates the differences. The
# default does not need it; ``"auto"`` takes one fit and no held-out rows.
#
# What was learned
# ----------------

AttributionDisplay.from_estimator(search.best_estimator_[-1], class_="leaves")
plt.show()
