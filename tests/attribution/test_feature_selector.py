import json
import pickle

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from skllmreg import Attributions, ChatModel, LLMFeatureSelector
from skllmreg.exceptions import NoLLMWarning

X = pd.DataFrame(np.arange(12.0).reshape(3, 4), columns=["age", "bmi", "dose", "height"])
SCORES = {"age": -9, "bmi": 3, "dose": 5, "height": 3}


@pytest.fixture
def llm(loopback):
    loopback.reply = lambda body: json.dumps({k: abs(v) for k, v in SCORES.items()})
    return ChatModel("tiny", base_url=loopback.base_url)


@pytest.mark.parametrize(
    ("k", "kept"),
    [
        (1, ["age"]),
        (2, ["age", "dose"]),
        (3, ["age", "bmi", "dose"]),  # bmi and height are equal: the first column wins
        (4, list(X)),
        (99, list(X)),
    ],
)
def test_features_with_the_largest_absolute_scores_are_kept_in_order(k, kept):
    selector = LLMFeatureSelector(k=k, attributions=SCORES).fit(X)
    assert selector.get_feature_names_out().tolist() == kept
    assert selector.transform(X).tolist() == X[kept].to_numpy().tolist()


def test_equal_scores_are_kept_in_the_order_of_the_columns():
    scores = np.where(np.arange(100) % 2, 3, 1)  # enough for an unstable sort to show
    selector = LLMFeatureSelector(k=60, attributions=scores).fit(np.zeros((2, 100)))
    odd, even = np.arange(1, 100, 2), np.arange(0, 20, 2)
    assert selector.get_support(indices=True).tolist() == sorted([*odd, *even])


@pytest.mark.parametrize(
    ("attributions", "scores"),
    [
        (SCORES, [9, 3, 5, 3]),
        ([SCORES, dict.fromkeys(SCORES, 1)], [5, 2, 3, 2]),
        ([1, -2, 3, -4], [1, 2, 3, 4]),
        ([{"age": -4, "bmi": 0, "dose": 1, "height": 0}, {**SCORES, "age": 4}], [4, 1.5, 3, 1.5]),
        ({"a": SCORES, "b": dict.fromkeys(SCORES, -4)}, [9, 4, 5, 4]),
        ({"b": [SCORES]}, [9, 3, 5, 3]),
        (Attributions({k: [SCORES] for k in "abc"}), [9, 3, 5, 3]),
    ],
    ids=["dict", "estimates", "array", "opposite signs", "classes", "one class", "Attributions"],
)
def test_scores_are_mean_absolute_values_and_the_largest_class_counts(attributions, scores):
    selector = LLMFeatureSelector(attributions=attributions).fit(X)
    assert selector.scores_.tolist() == scores


def test_the_llm_is_asked_one_question_that_no_label_changes(loopback, llm):
    selector = LLMFeatureSelector(llm, k=2, task="Ill?", class_descriptions={1: "ill", 0: "well"})
    for y in (None, [0, 1, 1], [0.5, 1.5, 2.5]):
        clone(selector).fit(X, y)
    assert len(loopback.requests) == 5
    assert "Classes: 1 (ill); 0 (well)" in loopback.prompts[0]
    assert "an integer from 0 to 10" in loopback.prompts[0]
    selector.fit(X)
    assert selector.get_feature_names_out().tolist() == ["age", "dose"]
    assert selector.elicited_attributions_.mean() == {k: abs(v) for k, v in SCORES.items()}


def test_prefixed_columns_take_the_scores_of_their_descriptions(loopback, llm):
    columns = X.add_prefix("num__")[["num__dose", "num__age"]]
    described = dict.fromkeys(SCORES, "something")
    selector = LLMFeatureSelector(llm, k=1, task="Ill?", feature_descriptions=described)
    assert selector.fit(columns).scores_.tolist() == [5, 9]


def test_an_array_needs_descriptions_in_the_order_of_its_columns(loopback, llm):
    selector = LLMFeatureSelector(llm, k=1, task="Ill?")
    with pytest.raises(ValueError, match="X has no feature names"):
        selector.fit(X.to_numpy())
    loopback.reply = lambda body: '{"x0": 1, "x1": 0, "x2": 0, "x3": 2}'
    selector.set_params(feature_descriptions=["Age", "Body mass", "Dose", "Height"])
    assert selector.fit(X.to_numpy()).get_feature_names_out().tolist() == ["x3"]
    assert '"x1": Body mass' in loopback.prompts[0].splitlines()


def test_without_an_llm_all_features_are_kept_with_a_warning():
    with pytest.warns(NoLLMWarning, match="all features are kept"):
        selector = LLMFeatureSelector(k=1).fit(X)
    assert selector.get_support().all()


def test_output_is_a_frame_on_request():
    selector = LLMFeatureSelector(k=2, attributions=SCORES).set_output(transform="pandas")
    pd.testing.assert_frame_equal(selector.fit_transform(X), X[["age", "dose"]])
    out = selector.set_output(transform="polars").fit_transform(pl.DataFrame(X.to_dict("list")))
    assert out.columns == ["age", "dose"]


@pytest.mark.parametrize("bmi", [["a", None, "b"], pd.date_range("2026-01-01", periods=3)])
def test_frames_of_text_dates_and_missing_values_pass(bmi):
    mixed = X.assign(bmi=bmi, dose=[1.0, np.nan, 2.0])
    selector = LLMFeatureSelector(k=2, attributions=SCORES).set_output(transform="pandas")
    assert selector.fit_transform(mixed).columns.tolist() == ["age", "dose"]


def test_sparse_stays_sparse():
    out = LLMFeatureSelector(k=2, attributions=[0, 1, 0, 2]).fit_transform(sparse.csr_array(X))
    assert sparse.issparse(out)
    assert out.toarray().tolist() == X[["bmi", "height"]].to_numpy().tolist()


def test_a_fitted_selector_pickles(llm):
    selector = LLMFeatureSelector(llm, k=2, task="Ill?").fit(X)
    again = pickle.loads(pickle.dumps(selector))
    assert again.transform(X).tolist() == selector.transform(X).tolist()


def test_not_fitted_is_said():
    with pytest.raises(NotFittedError):
        LLMFeatureSelector().get_support()


def test_a_missing_score_is_an_error():
    with pytest.raises(ValueError, match="No attribution score for 1 of 4 features: 'height'"):
        LLMFeatureSelector(attributions={"age": 1, "bmi": 1, "dose": 1}).fit(X)


@pytest.mark.parametrize(
    "given",
    [
        {"attributions": {1: {"age": 5, "city": 8, "height": 1}}},
        {
            "attributions": {1: {"age": 5, "city_Rome": 8, "city_Bonn": 0, "height": 1}},
            "feature_descriptions": {"city": "Home", "age": "Years"},
        },
    ],
)
def test_columns_of_one_raw_column_are_kept_or_dropped_together(given):
    X = pd.DataFrame(np.eye(4), columns=["age", "height", "cat__city_Rome", "cat__city_Bonn"])
    for k, names in [
        (1, ["cat__city_Rome", "cat__city_Bonn"]),
        (2, ["age", "cat__city_Rome", "cat__city_Bonn"]),
        (3, list(X)),
    ]:
        selector = LLMFeatureSelector(k=k, **given).fit(X)
        assert selector.get_feature_names_out().tolist() == names
