"""The linear model and the trees, blended by the number of rows."""

import pickle

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from sklearn.datasets import load_iris, make_regression
from sklearn.ensemble import HistGradientBoostingClassifier

from skllmreg import (
    Attributions,
    LLMAttributionBoostingClassifier,
    LLMAttributionBoostingRegressor,
    LLMAttributionRegularizedClassifier,
)
from skllmreg.attribution._boosting import monotone_signs, rows_that_count, tree_weight
from skllmreg.datasets import load_attributions
from skllmreg.exceptions import LabelHoleWarning, NoLLMWarning

SCORES = {1: {"a": 6, "b": -4, "c": 0}}
RNG = np.random.default_rng(0)


def table(n, seed=0):
    """Rows whose label rises with a, falls with b and depends on c at both ends."""
    rng = np.random.default_rng(seed)
    X = pd.DataFrame(rng.normal(size=(n, 3)), columns=list("abc"))
    eta = 1.5 * X["a"] - X["b"] + 2 * (np.abs(X["c"]) > 1)
    return X, (rng.random(n) < expit(eta - eta.mean())).astype(int).to_numpy()


def test_with_few_rows_it_is_the_linear_model():
    X, y = table(30)
    model = LLMAttributionBoostingClassifier(attributions=SCORES).fit(X, y)
    linear = LLMAttributionRegularizedClassifier(attributions=SCORES).fit(X, y)
    assert model.trees_ is None
    assert model.tree_weight_ == 0
    np.testing.assert_allclose(model.predict_proba(X), linear.predict_proba(X), rtol=1e-9)


def test_the_logits_are_the_blend_of_the_parts():
    X, y = table(300)
    model = LLMAttributionBoostingClassifier(attributions=SCORES).fit(X, y)
    q = model.tree_weight_
    assert 0 < q < 1
    parts = [part.decision_function(X.to_numpy()) for part in (model.linear_, model.trees_)]
    np.testing.assert_allclose(model.decision_function(X), (1 - q) * parts[0] + q * parts[1])
    alone = LLMAttributionBoostingClassifier(attributions=SCORES, tree_weight=1.0).fit(X, y)
    np.testing.assert_allclose(alone.decision_function(X), parts[1])


def test_the_weight_of_the_trees_grows_with_the_rows_that_tell_something():
    weights = [tree_weight(n, 10) for n in (2, 39, 40, 150, 600, 1e5)]
    assert weights == sorted(weights)
    assert weights[:2] == [0, 0]
    assert weights[3] == 0.5
    assert weights[-1] > 0.999
    assert tree_weight(150, 100) < 0.4
    even, skewed = np.repeat([0, 1], 500), np.repeat([0, 1], [990, 10])
    assert rows_that_count(even, np.ones(1000)) == pytest.approx(1000)
    assert rows_that_count(skewed, np.ones(1000)) < 40
    assert rows_that_count(None, np.full(10, 2.0)) == 20


@pytest.mark.parametrize(("bend", "low", "high"), [(0, 0, 0.6), (3, 0.8, 1)])
def test_the_weight_of_the_trees_follows_what_they_find_on_held_out_rows(bend, low, high):
    rng = np.random.default_rng(1)
    X = pd.DataFrame(rng.normal(size=(300, 3)), columns=list("abc"))
    eta = 1.5 * X["a"] - X["b"] + bend * np.abs(X["c"])
    y = (rng.random(300) < expit(eta - eta.mean())).astype(int)
    assert (
        low <= LLMAttributionBoostingClassifier(attributions=SCORES).fit(X, y).tree_weight_ <= high
    )


@pytest.mark.slow
def test_neither_part_learns_from_a_label_hole():
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(400, 3)), columns=list("abc")).assign(
        female=rng.integers(0, 2, 400)
    )
    y = (rng.random(400) < expit(1.5 * X["a"] - X["b"])).astype(int)
    lost = (X["female"] == 1) & (y == 1)
    scores = {1: SCORES[1] | {"female": 0}}
    model = LLMAttributionBoostingClassifier(attributions=scores, label_holes=["female"])
    with pytest.warns(LabelHoleWarning, match="female > 0"):
        model.fit(X[~lost], y[~lost])
    assert [hole["column"] for hole in model.label_holes_] == ["female"]
    turned = X.assign(female=1 - X["female"])
    difference = model.decision_function(X) - model.decision_function(turned)
    assert np.abs(difference).max() < 0.5
    believing = LLMAttributionBoostingClassifier(attributions=scores, label_holes=None)
    believing.fit(X[~lost], y[~lost])
    assert believing.label_holes_ == []
    assert believing.predict_proba(X[X["female"] == 1])[:, 1].max() < 0.5


def test_shares_of_the_classes_where_it_is_used_move_the_logits():
    X, y = table(100)
    model = LLMAttributionBoostingClassifier(attributions=SCORES).fit(X, y)
    rare = LLMAttributionBoostingClassifier(attributions=SCORES, class_prior={0: 0.9, 1: 0.1})
    shift = rare.fit(X, y).decision_function(X) - model.decision_function(X)
    share = y.mean()
    np.testing.assert_allclose(shift, np.log(0.1 / 0.9) - np.log(share / (1 - share)))
    rare.set_params(class_weight="balanced")
    with pytest.raises(ValueError, match="class_prior"):
        rare.fit(X, y)


def test_rows_without_labels_give_the_linear_part_its_scale():
    X, y = table(300)
    few = X.iloc[[*np.flatnonzero(y == 0)[:2], *np.flatnonzero(y == 1)[:2]]]
    model = LLMAttributionBoostingClassifier(attributions=SCORES)
    model.fit(few, y[few.index], X_unlabeled=X)
    np.testing.assert_allclose(model.linear_.scale_, X.std(ddof=0))


@pytest.mark.slow
def test_constraints_follow_strong_scores_that_the_rows_bear_out():
    X, y = table(300)
    model = LLMAttributionBoostingClassifier(attributions=SCORES).fit(X, y)
    assert model.monotonic_cst_.tolist() == [1, -1, 0]
    negated = {1: {name: -score for name, score in SCORES[1].items()}}
    wrong = LLMAttributionBoostingClassifier(attributions=negated).fit(X, y)
    assert wrong.monotonic_cst_.tolist() == [0, 0, 0]
    free = LLMAttributionBoostingClassifier(attributions=SCORES, monotone=False).fit(X, y)
    assert not free.monotonic_cst_.any()
    grid = pd.DataFrame({"a": np.linspace(-3, 3, 50), "b": 0.0, "c": 0.0})
    assert (np.diff(model.decision_function(grid)) >= 0).all()


def test_a_column_whose_shape_bends_is_not_constrained():
    X, y = table(300)
    said = Attributions(SCORES, shapes={1: {"a": [[[-2, -1], [0, 1], [2, -1]]]}})
    model = LLMAttributionBoostingClassifier(attributions=said).fit(X, y)
    assert model.monotonic_cst_.tolist() == [0, -1, 0]


def test_signs_do_not_depend_on_the_scale_or_on_missing_values():
    X, y = table(200)
    values, scores = X.to_numpy(), np.array([6.0, -4.0, 0.0])
    signs = monotone_signs(values, y, np.ones(200), scores)
    with_gaps = np.where(RNG.random(values.shape) < 0.1, np.nan, np.exp(values))
    np.testing.assert_array_equal(monotone_signs(with_gaps, y, np.ones(200), scores), signs)
    empty = np.full_like(values, np.nan)
    np.testing.assert_array_equal(monotone_signs(empty, y, np.ones(200), scores), 0)


def mixed(n=120):
    X, y = table(n)
    city = np.array(["Rome", "Bonn", "Oslo"])[np.arange(n) % 3]
    X = X.assign(city=city, flag=np.arange(n) % 2 == 0)
    X.loc[::7, "a"] = np.nan
    X["city"] = X["city"].astype("category")
    X.loc[::11, "city"] = np.nan
    return X, y


MIXED_SCORES = {1: SCORES[1] | {"city_Rome": 3, "city_Bonn": -1, "city_Oslo": 0, "flag": 2}}


def test_missing_values_and_categories_need_no_preprocessing():
    X, y = mixed()
    model = LLMAttributionBoostingClassifier(attributions=MIXED_SCORES).fit(X, y)
    assert set(model.linear_names_) == MIXED_SCORES[1].keys()
    scores = dict(zip(model.linear_names_, model.attributions_[0], strict=True))
    assert scores == MIXED_SCORES[1]
    new = X.head(4).copy()
    new["city"] = ["Paris", None, "Rome", "Bonn"]  # not seen, missing
    assert np.isfinite(model.predict_proba(new)).all()


def test_categories_are_split_by_the_trees_as_in_scikit_learn():
    X, y = mixed(400)
    model = LLMAttributionBoostingClassifier(
        attributions=MIXED_SCORES, tree_weight=1.0, monotone=False, max_iter=20, max_leaf_nodes=8
    ).fit(X, y)
    theirs = HistGradientBoostingClassifier(
        learning_rate=0.05, max_iter=20, max_leaf_nodes=8, min_samples_leaf=10, early_stopping=False
    ).fit(X, y)
    np.testing.assert_allclose(model.predict_proba(X), theirs.predict_proba(X), atol=1e-6)


@pytest.mark.slow
def test_polars_gives_the_same_as_pandas():
    polars = pytest.importorskip("polars")
    X, y = mixed()
    same = polars.DataFrame(
        {name: [None if pd.isna(v) else v for v in X[name]] for name in X.columns}
    )
    model = LLMAttributionBoostingClassifier(attributions=MIXED_SCORES)
    np.testing.assert_allclose(
        model.fit(same, y).decision_function(same), model.fit(X, y).decision_function(X)
    )


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pd.date_range("2024-01-01", periods=50), "'c' of X holds dates.*days since"),
        ([1, "x"] * 25, "'c' of X holds both text and numbers"),
        ([np.inf] + [1.0] * 49, "'c' of X is inf"),
    ],
)
def test_columns_that_cannot_be_used_are_named(column, message):
    X, y = table(50)
    with pytest.raises(ValueError, match=message):
        LLMAttributionBoostingClassifier(attributions=SCORES).fit(X.assign(c=column), y)


@pytest.mark.slow
def test_several_classes_are_blended_without_constraints():
    X, y = load_iris(return_X_y=True, as_frame=True)
    model = LLMAttributionBoostingClassifier(attributions=load_attributions("iris")).fit(X, y)
    proba = model.predict_proba(X)
    assert proba.shape == (150, 3)
    np.testing.assert_allclose(proba.sum(axis=1), 1)
    assert not model.monotonic_cst_.any()
    assert model.score(X, y) > 0.95


def test_scores_by_position_reach_the_columns_before_categories_are_expanded():
    X, y = mixed()
    by_position = np.array([6.0, -4, 0, 5, 2])
    names = ["a", "b", "c", "flag"]
    with pytest.warns(UserWarning, match="city_Rome"):  # one number says nothing of three cities
        model = LLMAttributionBoostingClassifier(attributions={1: by_position}).fit(X, y)
    scores = dict(zip(model.linear_names_, model.attributions_[0], strict=True))
    assert [scores[name] for name in names] == [6, -4, 0, 2]


def test_a_weight_of_two_counts_as_two_rows():
    X, y = table(100)
    twice = LLMAttributionBoostingClassifier(attributions=SCORES, min_samples_leaf=1)
    weighted = twice.fit(X, y, np.full(100, 2.0)).tree_weight_
    assert weighted == twice.fit(pd.concat([X, X]), np.r_[y, y]).tree_weight_


def test_a_regression_blends_the_predictions():
    X, y = make_regression(200, 3, random_state=0)
    exact = LLMAttributionBoostingRegressor(attributions=[[5, 5, 5]]).fit(X, y)
    assert exact.tree_weight_ == 0  # the target is linear
    y = y + 50 * np.abs(X[:, 0]) > 50
    model = LLMAttributionBoostingRegressor(attributions=[[5, 5, 5]]).fit(X, y)
    assert model.tree_weight_ > 0.5
    q = model.tree_weight_
    blend = (1 - q) * model.linear_.predict(X) + q * model.trees_.predict(X)
    np.testing.assert_allclose(model.predict(X), blend)
    assert pickle.loads(pickle.dumps(model)).predict(X) == pytest.approx(model.predict(X))


def test_without_scores_it_warns():
    X, y = table(60)
    with pytest.warns(NoLLMWarning):
        model = LLMAttributionBoostingClassifier().fit(X, y)
    assert model.attributions_ is None


def test_an_llm_is_asked_once_for_scores_and_effects_of_categories(loopback):
    from skllmreg import ChatModel
    from tests.attribution.test_shapes import answer

    X, y = mixed()
    loopback.reply = answer
    llm = ChatModel("tiny", base_url=loopback.base_url)
    model = LLMAttributionBoostingClassifier(
        llm, task="Ill?", class_descriptions={0: "well", 1: "ill"}, n_estimates=1
    ).fit(X, y)
    assert len(loopback.requests) == 1
    assert list(model.elicited_attributions_.mean_shapes(1)) == [*"abc", "city", "flag"]
    scores = dict(zip(model.linear_names_, model.attributions_[0], strict=True))
    assert scores["city_Rome"] == 2.0  # score 4 times effect 0.5
