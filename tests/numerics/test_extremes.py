"""Data at the ends of what floats can hold: the right model, or a word about it."""

import warnings

import numpy as np
import pytest
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning

from skllmreg import LLMAttributionRegularizedClassifier, LLMAttributionRegularizedRegressor
from skllmreg.exceptions import PriorConflictWarning

pytestmark = pytest.mark.slow

CLASSIFIER = LLMAttributionRegularizedClassifier
REGRESSOR = LLMAttributionRegularizedRegressor
SCORES = np.array([9.0, 6, 3, 0, -3, -6])
LINEAR = [{"gamma": "auto"}, {"gamma": 1.0}, {"gamma": 0}]
NETWORKS = [
    {"gamma": gamma, "hidden_layer_sizes": 4, "max_epochs": 10, "random_state": 0}
    for gamma in ("auto", 1.0)
]


def rows(n=40, d=6, seed=0):
    """Features, a target that the scores predict, and its sign."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d))
    y = X @ SCORES[:d] / 3 + rng.normal(size=n)
    return X, y


def target(estimator, y):
    return (y > np.median(y)).astype(int) if estimator is CLASSIFIER else y


def outputs(model, X):
    """What the model says, in numbers."""
    return model.decision_function(X) if hasattr(model, "decision_function") else model.predict(X)


def fit_quietly(model, *args, **kwargs):
    """Fit, with any numerical warning an error; return whether the solver says that it is done."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        warnings.simplefilter("error", RuntimeWarning)
        model.fit(*args, **kwargs)
    return not any(issubclass(w.category, ConvergenceWarning) for w in said)


@pytest.mark.parametrize("factor", [1e-200, 1e12, 1e200])
@pytest.mark.parametrize("options", LINEAR, ids=str)
@pytest.mark.parametrize("estimator", [CLASSIFIER, REGRESSOR])
def test_no_unit_of_a_feature_is_too_large_or_too_small(estimator, options, factor):
    X, y = rows()
    y = target(estimator, y)
    usual = estimator(attributions=SCORES, **options).fit(X, y)
    for odd in (X * factor, X * np.where(np.arange(6) % 2, factor, 1)):
        model = estimator(attributions=SCORES, **options)
        assert fit_quietly(model, odd, y)
        np.testing.assert_allclose(outputs(model, odd), outputs(usual, X), rtol=1e-4, atol=1e-4)
        assert np.isfinite(model.coef_).all()


@pytest.mark.parametrize("factor", [1e-200, 1e200])
def test_no_unit_is_too_large_or_too_small_for_sparse_columns(factor):
    X, y = rows()
    X = np.where(X > 0, X, 0)
    model = CLASSIFIER(attributions=SCORES)
    assert fit_quietly(model, sparse.csr_array(X * factor), target(CLASSIFIER, y))
    usual = CLASSIFIER(attributions=SCORES).fit(sparse.csr_array(X), target(CLASSIFIER, y))
    np.testing.assert_allclose(outputs(model, X * factor), outputs(usual, X), atol=1e-8)


@pytest.mark.parametrize("factor", [1e-200, 1e12, 1e200])
@pytest.mark.parametrize("options", LINEAR + NETWORKS, ids=str)
def test_no_unit_of_the_target_is_too_large_or_too_small(options, factor):
    X, y = rows()
    usual = REGRESSOR(attributions=SCORES, **options).fit(X, y)
    model = REGRESSOR(attributions=SCORES, **options)
    assert fit_quietly(model, X, y * factor)
    np.testing.assert_allclose(model.predict(X) / factor, usual.predict(X), rtol=1e-5, atol=1e-6)


def test_what_is_next_to_the_smallest_number_is_zero():
    X, y = rows()
    X[:, 2] *= 1e-310
    model = CLASSIFIER(attributions=SCORES)
    assert fit_quietly(model, X, target(CLASSIFIER, y))
    assert model.coef_[0, 2] == 0
    assert np.isfinite(model.coef_).all()


@pytest.mark.parametrize("value", [0.1, 3.3e-5, 1e9 + 0.1])
@pytest.mark.parametrize("n", [2, 25])
@pytest.mark.parametrize("options", LINEAR + NETWORKS, ids=str)
def test_a_constant_target_is_predicted_whatever_its_rounding(options, n, value):
    model = REGRESSOR(attributions=SCORES, **options)
    y = np.where(np.arange(n) % 2, value, np.nextafter(value, 1))
    with warnings.catch_warnings():
        warnings.simplefilter("error", PriorConflictWarning)
        model.fit(rows(n)[0], y)
    assert model.agreement_ == 0
    np.testing.assert_allclose(model.predict(rows(5, seed=1)[0]), value, rtol=1e-12)


@pytest.mark.parametrize("value", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("options", LINEAR + NETWORKS[:1], ids=str)
@pytest.mark.parametrize("estimator", [CLASSIFIER, REGRESSOR])
def test_constant_features_contradict_nothing(estimator, options, value):
    X, y = np.full((40, 6), value), target(estimator, rows()[1])
    model = estimator(attributions=SCORES, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fit(X, y)
    expected = np.log(y.mean() / (1 - y.mean())) if estimator is CLASSIFIER else y.mean()
    np.testing.assert_allclose(outputs(model, X), expected, atol=2e-2)


HARD = {
    "separable": lambda X, y: (X, X @ SCORES, None),
    "contradicting scores": lambda X, y: (-X, y, None),
    "one outlier": lambda X, y: (np.where(np.arange(X.size).reshape(X.shape), X, 1e12), y, None),
    "collinear": lambda X, y: (np.repeat(X[:, :1], 6, axis=1), y, None),
    "an offset of 1e9": lambda X, y: (X + 1e9, y, None),
    "rows of weight 0": lambda X, y: (X, y, np.arange(len(y)) % 2.0),
    "a row of weight 1e9": lambda X, y: (X, y, np.where(np.arange(len(y)) == 3, 1e9, 1)),
    "weights of 1e9": lambda X, y: (X, y, np.full(len(y), 1e9)),
    "weights of 1e-300": lambda X, y: (X, y, np.full(len(y), 1e-300)),
    "two rows": lambda X, y: (X[[y.argmin(), y.argmax()]], y[[y.argmin(), y.argmax()]], None),
}


@pytest.mark.parametrize("options", LINEAR + NETWORKS, ids=str)
@pytest.mark.parametrize("estimator", [CLASSIFIER, REGRESSOR])
@pytest.mark.parametrize("kind", HARD)
def test_hard_data_give_finite_numbers(kind, estimator, options):
    X, y, weight = HARD[kind](*rows())
    model = estimator(attributions=SCORES, **options)
    done = fit_quietly(model, X, target(estimator, y), sample_weight=weight)
    assert np.isfinite(outputs(model, X)).all()
    # Newton's method is slow here and says so; the fit of a regression is in closed form.
    slow = kind == "a row of weight 1e9" and estimator is CLASSIFIER and options["gamma"] == "auto"
    assert done is not slow


@pytest.mark.parametrize("options", LINEAR, ids=str)
@pytest.mark.parametrize("estimator", [CLASSIFIER, REGRESSOR])
def test_two_thousand_features_of_ten_rows(estimator, options):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(10, 2000)), np.arange(10.0)
    model = estimator(attributions=rng.integers(-10, 11, 2000), **options)
    assert fit_quietly(model, X, target(estimator, y))
    assert np.isfinite(outputs(model, rng.normal(size=(10, 2000)))).all()


@pytest.mark.parametrize("options", LINEAR, ids=str)
def test_one_row_in_a_thousand(options):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(3000, 6))
    y = (np.arange(3000) < 3).astype(int)
    X[:3] += SCORES / 3
    model = CLASSIFIER(attributions=SCORES, **options)
    assert fit_quietly(model, X, y)
    assert model.predict_proba(X)[:, 1].mean() == pytest.approx(0.001, rel=0.05)
    assert model.predict_proba(X[:3])[:, 1].mean() > 0.002


def test_many_rows_with_a_tiny_effect_find_it():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(8000, 6))
    y = (0.1 * X[:, 0] + rng.logistic(size=8000) > 0).astype(int)
    model = CLASSIFIER(attributions=np.eye(6)[1] * 9)  # the scores know nothing of it
    assert fit_quietly(model, X, y)
    assert abs(model.coef_[0, 0] - 0.1) < 0.05
    assert np.abs(model.coef_[0, 1:]).max() < 0.05


def test_weights_of_zero_are_absent_rows():
    X, y = rows()
    weight = np.arange(40) % 2.0
    for estimator in (CLASSIFIER, REGRESSOR):
        there = estimator(attributions=SCORES).fit(X, target(estimator, y), sample_weight=weight)
        away = estimator(attributions=SCORES).fit(X[1::2], target(estimator, y)[1::2])
        np.testing.assert_array_equal(there.coef_, away.coef_)


@pytest.mark.parametrize("estimator", [CLASSIFIER, REGRESSOR])
def test_more_rows_than_numbers_can_count_are_refused(estimator):
    X, y = rows()
    with pytest.raises(ValueError, match=r"weights of the rows sum to 4e\+301"):
        estimator(attributions=SCORES).fit(
            X, target(estimator, y), sample_weight=np.full(40, 1e300)
        )


def test_a_solver_stopped_by_rounding_far_from_the_solution_says_so():
    X, y = rows()
    with pytest.warns(ConvergenceWarning):
        REGRESSOR(attributions=SCORES, gamma=0, standardize=False).fit(X * 1e12, y)
