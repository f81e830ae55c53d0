"""scikit-learn's own tools around a model that asks an LLM: what they find, and what they pay."""

import numpy as np
import polars as pl
import pytest
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import make_column_transformer
from sklearn.ensemble import StackingClassifier, VotingClassifier
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.inspection import partial_dependence, permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import get_scorer
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    cross_val_predict,
    cross_validate,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from skllmreg import (
    LLMAttributionRegularizedClassifier,
    LLMAttributionRegularizedRegressor,
    LLMFeatureSelector,
)
from tests.interop.patients import CLASSES, N_ESTIMATES, NUMBERS, SCORES, TASK, patients

table, y = patients()
X = table[NUMBERS]


recorded = LLMAttributionRegularizedClassifier(attributions=SCORES)


def as_polars(X):
    return pl.DataFrame(X.to_dict("list"))  # pl.from_pandas wants pyarrow


@pytest.fixture
def asking(llm):
    return LLMAttributionRegularizedClassifier(llm, task=TASK, class_descriptions=CLASSES)


def test_a_pipeline_is_its_steps_one_by_one(asking, loopback):
    scaler = StandardScaler().set_output(transform="pandas")
    proba = make_pipeline(scaler, asking).fit(X, y).predict_proba(X)
    scaled = scaler.fit_transform(X)
    np.testing.assert_array_equal(proba, clone(recorded).fit(scaled, y).predict_proba(scaled))
    assert len(loopback.requests) == N_ESTIMATES


@pytest.mark.parametrize("given", [lambda X: X, as_polars], ids=["pandas", "polars"])
@pytest.mark.parametrize("inside", ["pandas", "polars"])
def test_columns_of_a_transformer_meet_their_scores(asking, loopback, given, inside):
    encoder = make_column_transformer(
        (OneHotEncoder(sparse_output=False), ["site"]), (StandardScaler(), NUMBERS)
    )
    bare = encoder.fit_transform(table)
    scores = [SCORES[name] for name in ["site_left", "site_right", *NUMBERS]]
    by_position = LLMAttributionRegularizedClassifier(attributions=scores).fit(bare, y)
    model = make_pipeline(clone(encoder).set_output(transform=inside), asking)
    proba = model.fit(given(table), y).predict_proba(given(table))
    np.testing.assert_allclose(proba, by_position.predict_proba(bare))
    assert len(loopback.requests) == N_ESTIMATES


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_selected_features_keep_their_names(llm, loopback, library):
    loopback.reply = lambda body: '{"age": 2, "bmi": 9, "dose": 6}'
    selector = LLMFeatureSelector(llm, k=2, task=TASK).set_output(transform=library)
    kept = selector.fit_transform(X)
    assert type(kept).__module__.partition(".")[0] == library
    assert list(kept.columns) == list(selector.get_feature_names_out()) == ["bmi", "dose"]


@pytest.mark.parametrize("search", [GridSearchCV, HalvingGridSearchCV])
def test_a_search_asks_once_and_finds_what_recorded_scores_find(asking, loopback, search):
    grid = {"gamma": [0, 0.3, 3.0, "auto"]}
    options = {"cv": 3, "scoring": "neg_log_loss", "error_score": "raise"}
    if search is HalvingGridSearchCV:
        options["random_state"] = 0
    found, expected = (search(model, grid, **options).fit(X, y) for model in (asking, recorded))
    assert len(loopback.requests) == N_ESTIMATES
    assert found.best_params_ == expected.best_params_
    for column in ("mean_test_score", "rank_test_score"):
        np.testing.assert_array_equal(found.cv_results_[column], expected.cv_results_[column])


def test_cross_validation_scores_each_fold_by_its_own_model(asking, loopback):
    scoring = ["roc_auc", "neg_log_loss", "accuracy"]
    found = cross_validate(
        asking, X, y, cv=4, scoring=scoring, return_estimator=True, return_indices=True
    )
    assert len(loopback.requests) == N_ESTIMATES
    folds = list(zip(found["estimator"], found["indices"]["test"], strict=True))
    for name in scoring:
        scores = [get_scorer(name)(model, X.iloc[rows], y[rows]) for model, rows in folds]
        np.testing.assert_allclose(found[f"test_{name}"], scores)


@pytest.mark.parametrize("method", ["sigmoid", "isotonic", "temperature"])
def test_calibration_keeps_the_order_of_the_rows(asking, loopback, method):
    calibrated = CalibratedClassifierCV(asking, method=method, ensemble=False, cv=3).fit(X, y)
    assert len(loopback.requests) == N_ESTIMATES
    order = np.argsort(clone(recorded).fit(X, y).decision_function(X))
    assert (np.diff(calibrated.predict_proba(X)[order, 1]) >= -1e-12).all()


def test_a_stack_sees_the_probabilities_of_the_model(asking, loopback):
    stack = StackingClassifier([("asking", asking), ("plain", LogisticRegression())], cv=3)
    seen = stack.fit(X, y).transform(X)
    assert len(loopback.requests) == N_ESTIMATES
    np.testing.assert_array_equal(seen[:, 0], clone(recorded).fit(X, y).predict_proba(X)[:, 1])


def test_permutation_importance_asks_nothing_and_finds_what_does_not_matter(asking, loopback):
    importance = permutation_importance(asking.fit(X, y), X, y, scoring="roc_auc", random_state=0)
    assert importance.importances_mean.argmin() == NUMBERS.index("age")
    assert len(loopback.requests) == N_ESTIMATES


@pytest.mark.parametrize(
    ("model", "options"),
    [
        (recorded, {"response_method": "decision_function"}),
        (LLMAttributionRegularizedRegressor(attributions=SCORES), {}),
    ],
    ids=["classifier", "regressor"],
)
def test_the_slope_of_the_partial_dependence_is_the_coefficient(model, options):
    model = clone(model).fit(X, y)
    dependence = partial_dependence(model, X, ["bmi"], method="brute", **options)
    slopes = np.diff(dependence["average"][0]) / np.diff(dependence["grid_values"][0])
    np.testing.assert_allclose(slopes, model.coef_.ravel()[NUMBERS.index("bmi")])


@pytest.mark.parametrize(
    ("tool", "n_questions"),
    [
        (lambda model, y: cross_val_predict(model, X, y, method="predict_proba"), 1),
        (lambda model, y: StackingClassifier([("it", model)], cv=3).fit(X, y).predict_proba(X), 1),
        (
            lambda model, y: (
                VotingClassifier([("it", model)], voting="soft").fit(X, y).transform(X)
            ),
            1,
        ),
        (lambda model, y: CalibratedClassifierCV(model, ensemble=False).fit(X, y).predict(X), 2),
    ],
    ids=["cross_val_predict", "stacking", "voting", "calibration"],
)
def test_classes_that_scikit_learn_numbers_are_described_beside_their_names(
    asking, loopback, tool, n_questions
):
    names = np.array(["ill", "well"])
    asking.set_params(class_descriptions={"ill": "sick", "well": "healthy", **CLASSES})
    found, expected = tool(asking, names[y]), tool(recorded, y)
    np.testing.assert_array_equal(found, names[expected] if found.dtype.kind == "U" else expected)
    assert len(loopback.requests) == n_questions * N_ESTIMATES


@pytest.mark.parametrize(
    "params", [{"class_descriptions": {"ill": "sick"}}, {"attributions": {"well": SCORES}}]
)
def test_an_error_over_unknown_classes_says_who_may_have_numbered_them(asking, params):
    asking.set_params(**params)
    with pytest.raises(ValueError, match="number the sorted labels"):
        cross_val_predict(asking, X, np.array(["ill", "well"])[y], method="predict_proba")
