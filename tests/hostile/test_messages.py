"""What is nearly right gets a message that says what to do."""

import datetime

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.model_selection import cross_val_score

from skllmreg import (
    GOLDAugmenter,
    LLKDSelector,
    LLMAttributionBoostingClassifier,
    LLMAttributionBoostingRegressor,
    LLMAttributionRegularizedClassifier,
    LLMAttributionRegularizedRegressor,
    LLMTeacherClassifier,
    UnlabeledSplit,
)
from skllmreg.students import TextClassifier

SCORES = {"a": 3, "b": -2, "c": 0}
X = pd.DataFrame(np.random.RandomState(0).normal(size=(40, 3)), columns=list("abc"))
Y = np.arange(40) % 2
PROBA = np.eye(2)[Y] * 0.8 + 0.1
TEXTS = [f"Message {i} about {'a parcel' if i % 2 else 'my money'}" for i in range(40)]
LABELS = ["parcel" if i % 2 else "money" for i in range(40)]


def writer(request):
    raise AssertionError("called")


TABLES = {
    "linear": LLMAttributionRegularizedClassifier(attributions=SCORES),
    "boosting": LLMAttributionBoostingClassifier(attributions=SCORES),
    "generation": GOLDAugmenter(generator=writer),
}
REGRESSORS = {
    "linear": LLMAttributionRegularizedRegressor(attributions=SCORES),
    "boosting": LLMAttributionBoostingRegressor(attributions=SCORES),
}
ON_TEXTS = {"student": TextClassifier(), "generation": GOLDAugmenter(generator=writer)}


@pytest.mark.parametrize("name", TABLES)
def test_columns_of_several_levels(name):
    several = X.set_axis(pd.MultiIndex.from_tuples([("u", "a"), ("u", "b"), ("v", "c")]), axis=1)
    with pytest.raises(ValueError, match="several levels: .*join"):
        TABLES[name].fit(several, Y)


@pytest.mark.parametrize(
    "values",
    [pd.to_timedelta(np.arange(40), unit="D"), pd.date_range("2024-01-01", periods=40)],
    ids=["durations", "dates"],
)
@pytest.mark.parametrize("name", TABLES)
def test_columns_of_times(name, values):
    with pytest.raises(ValueError, match="Column 'c' of X holds dates or times"):
        TABLES[name].fit(X.assign(c=values), Y)


@pytest.mark.parametrize("model", [*TABLES.values(), LLKDSelector()])
def test_a_list_of_dicts(model):
    with pytest.raises(TypeError, match=r"list of dicts; pandas.DataFrame\(X\)"):
        model.fit(X.to_dict("records"), Y)
    with pytest.raises(TypeError, match="list of dicts"):
        LLMTeacherClassifier().fit(X.to_dict("records"), Y)


@pytest.mark.parametrize(
    "y", [["p", None, "m", "p"] * 10, [1, None, 0, 1] * 10], ids=["str", "int"]
)
@pytest.mark.parametrize("container", [pl.Series, pd.Series, list])
def test_missing_labels(container, y):
    if container is pd.Series and y[0] == 1:
        y = pd.Series(y, dtype="Int64")
    for model in (TABLES["linear"], TABLES["boosting"]):
        with pytest.raises(ValueError, match="Row 1 of y has no label"):
            model.fit(X, container(y))
    for model in ON_TEXTS.values():
        with pytest.raises(ValueError, match="Row 1 of y has no label"):
            model.fit(TEXTS, container(y))


@pytest.mark.parametrize(
    "y",
    [
        pd.date_range("2024-01-01", periods=40),
        pd.Series(pd.to_timedelta(np.arange(40), unit="D")),
        [datetime.date(2024, 1, 1 + i % 20) for i in range(40)],
    ],
    ids=["dates", "durations", "python"],
)
def test_targets_of_times(y):
    for model in (*REGRESSORS.values(), TABLES["linear"], TABLES["boosting"]):
        with pytest.raises(ValueError, match="y holds dates or times, such as .* in row 0"):
            model.fit(X, y)
    for model in ON_TEXTS.values():
        with pytest.raises(ValueError, match="y holds dates or times"):
            model.fit(TEXTS, y)
    with pytest.raises(ValueError, match="y holds dates or times"):
        LLKDSelector().fit(TEXTS, y)


def test_blank_labels_say_how_rows_without_one_are_marked():
    blank = [*LABELS[:10], *[""] * 30]
    for model in (LLKDSelector(), LLMTeacherClassifier()):
        with pytest.raises(ValueError, match=r"\[label or None for label in y\]"):
            model.fit(TEXTS, blank)
    with pytest.raises(ValueError, match="Row 10 of y has no label: it holds ''"):
        ON_TEXTS["generation"].fit(TEXTS, blank)


def test_scores_of_rows_without_a_label_name_the_splitter():
    few = np.where(np.arange(40) < 20, Y, -1)
    given = {"params": {"teacher_proba": PROBA}, "error_score": "raise"}
    with pytest.raises(ValueError, match=r"have no label; .*cv=UnlabeledSplit\(5\)"):
        cross_val_score(LLKDSelector(), X, few, cv=3, **given)
    assert len(cross_val_score(LLKDSelector(), X, few, cv=UnlabeledSplit(3), **given)) == 3
