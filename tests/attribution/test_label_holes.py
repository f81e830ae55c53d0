import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from scipy.special import expit
from scipy.stats import binom

from skllmreg import (
    LLMAttributionRegularizedClassifier,
    LLMAttributionRegularizedRegressor,
)
from skllmreg.attribution._label_holes import Scan, find_hole
from skllmreg.exceptions import LabelHoleWarning

SCORES = {"glucose": 9, "weight": 7, "age": 5, "female": 0, "height": 0}


def patients(n=300, seed=0, missing=1.0, classes=2):
    """Patients of whom, among women, the ill are missing."""
    rng = np.random.default_rng(seed)
    X = pd.DataFrame(rng.normal(size=(n, len(SCORES))), columns=list(SCORES))
    X["female"] = rng.integers(0, 2, n)
    logit = 1.5 * X["glucose"] + X["weight"] + 0.5 * X["age"] - 0.5
    y = (rng.random(n) < expit(logit)).astype(int)
    if classes == 3:
        y[rng.random(n) < expit(1.5 * X["height"] - 1)] = 2
    lost = (X["female"] == 1) & (y == 1) & (rng.random(n) < missing)
    return X[~lost], y[~lost]


def fitted(X, y, **params):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return LLMAttributionRegularizedClassifier(attributions=SCORES, **params).fit(X, y)


def test_the_group_that_lacks_a_class_is_found_and_its_labels_left_out():
    X, y = patients()
    with pytest.warns(LabelHoleWarning, match=r"female > 0, 0 are of class 1"):
        model = LLMAttributionRegularizedClassifier(attributions=SCORES).fit(X, y)
    (hole,) = model.label_holes_
    assert (hole["column"], hole["side"], hole["class"]) == ("female", ">", 1)
    assert hole["observed"] == 0
    assert hole["expected"] > 10
    believing = fitted(X, y, label_holes=None)
    assert believing.label_holes_ == []
    female = list(SCORES).index("female")
    assert abs(model.coef_[0, female]) < 0.3 < 1 < abs(believing.coef_[0, female])
    assert model.prior_weight_ > 0.9


@pytest.mark.parametrize("seed", range(5))
def test_without_a_hole_the_scan_changes_nothing(seed):
    X, y = patients(seed=seed, missing=0)
    model, believing = fitted(X, y), fitted(X, y, label_holes=None)
    assert model.label_holes_ == []
    np.testing.assert_array_equal(model.coef_, believing.coef_)


def test_a_lack_that_wrong_scores_expect_is_no_hole():
    X, y = patients()
    wrong = {name: -score for name, score in SCORES.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = LLMAttributionRegularizedClassifier(attributions=wrong).fit(X, y)
    assert model.label_holes_ == []


def test_from_scores_that_hardly_rank_the_other_rows_nothing_follows():
    rng = np.random.default_rng(4)
    X = pd.DataFrame(rng.normal(size=(400, len(SCORES))), columns=list(SCORES))
    X["female"] = rng.integers(0, 2, 400)
    y = (rng.random(400) < expit(0.5 * X["glucose"])).astype(int)
    kept = (X["female"] == 0) | (y == 0)
    weak = fitted(X[kept], y[kept])
    assert weak.label_holes_ == []
    y = (rng.random(400) < expit(1.5 * X["glucose"])).astype(int)
    kept = (X["female"] == 0) | (y == 0)
    assert [hole["column"] for hole in fitted(X[kept], y[kept]).label_holes_] == ["female"]


def test_a_named_column_needs_no_significance_and_others_are_not_looked_at():
    X, y = patients(60, missing=0.8)
    assert fitted(X, y).label_holes_ == []
    (hole,) = fitted(X, y, label_holes=["female"]).label_holes_
    assert hole["column"] == "female"
    assert fitted(*patients(), label_holes=["height"]).label_holes_ == []


def test_a_column_that_is_not_there_is_an_error():
    with pytest.raises(ValueError, match="'sex'.*'glucose'"):
        fitted(*patients(60), label_holes=["sex"])


def test_one_of_several_classes_may_be_missing():
    X, y = patients(600, classes=3)
    scores = {
        0: {name: -score for name, score in SCORES.items()},
        1: SCORES,
        2: dict.fromkeys(SCORES, 0) | {"height": 9},
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = LLMAttributionRegularizedClassifier(attributions=scores).fit(X, y)
    assert [(h["column"], h["class"]) for h in model.label_holes_] == [("female", 1)]


def test_sparse_equals_dense_where_the_group_is_an_indicator():
    X, y = patients()
    dense = fitted(X, y, standardize=False)
    scores = [list(SCORES.values())]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = LLMAttributionRegularizedClassifier(attributions=scores, standardize=False)
        model.fit(sparse.csr_array(X.to_numpy()), y)
    np.testing.assert_allclose(model.coef_, dense.coef_, atol=1e-3)


def test_the_hole_is_the_group_of_the_smallest_binomial_tail():
    rng = np.random.default_rng(0)
    X = rng.integers(0, 4, (200, 3)).astype(float)
    P = rng.uniform(0.3, 0.7, 200)
    y = (rng.random(200) < P) & (X[:, 1] > 0)
    both = np.column_stack([1 - P, P])
    hole = find_hole(X, np.column_stack([~y, y]), both, np.ones(200), Scan([0, 1, 2]))
    assert (hole.column, hole.threshold, hole.above, hole.output) == (1, 0.0, False, 1)
    group = X[:, 1] <= 0
    tail = binom.cdf(0, group.sum(), P[group].mean())
    n_groups = sum(2 * 3 for _ in range(3))  # three cuts, two sides; both classes could lack
    assert hole.p_value == pytest.approx(2 * n_groups * tail)


def test_a_group_of_a_regression_that_lacks_large_targets_is_found():
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(300, 4)), columns=["rooms", "area", "garden", "north"])
    X["north"] = rng.integers(0, 2, 300)
    y = 3 * X["area"] + 2 * X["rooms"] + rng.normal(size=300)
    scores = {"rooms": 6, "area": 9, "garden": 0, "north": 0}
    biased = y - 6 * X["north"]
    with pytest.warns(LabelHoleWarning, match="north"):
        model = LLMAttributionRegularizedRegressor(attributions=scores).fit(X, biased)
    assert model.label_holes_[0]["missing"] in ("large", "small")
    assert abs(model.coef_[3]) < 1
    assert not LLMAttributionRegularizedRegressor(attributions=scores).fit(X, y).label_holes_


def test_a_network_does_not_learn_the_hole_back():
    X, y = patients(400)
    model = fitted(X, y, hidden_layer_sizes=(8,), random_state=0, max_epochs=10)
    turned = X.assign(female=1 - X["female"])
    difference = model.decision_function(X) - model.decision_function(turned)
    assert np.abs(difference).mean() < 0.5
