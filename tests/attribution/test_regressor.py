import warnings

import numpy as np
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import load_diabetes
from sklearn.linear_model import Ridge, RidgeCV
from sklearn.metrics import root_mean_squared_error
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skllmreg import LLMAttributionRegularizedRegressor
from skllmreg.attribution import _leave_one_out
from skllmreg.attribution._evidence import Prior, candidate_priors
from skllmreg.attribution._leave_one_out import NOISE, SLOPES, GaussianSolver
from skllmreg.attribution._scores import AVERAGED_TRANSFORMS
from skllmreg.datasets import load_attributions
from skllmreg.exceptions import NoLLMWarning, OverconfidentWarning, PriorConflictWarning

quiet = pytest.mark.filterwarnings(
    "ignore::skllmreg.exceptions.NoLLMWarning", "ignore::skllmreg.exceptions.PriorConflictWarning"
)


def toy(n=60, d=5, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d)) * rng.uniform(0.1, 10, d)
    y = 100 + X @ rng.normal(size=d) + rng.normal(size=n)
    return X, y, rng.integers(-9, 10, (3, d)).astype(float)


def test_zero_gamma_equals_ridge():
    X, y, scores = toy()
    weight = np.random.default_rng(1).uniform(0.5, 2, len(y))
    ours = LLMAttributionRegularizedRegressor(attributions=scores, gamma=0, alpha=0.1, tol=1e-10)
    ours.fit(X, y, weight)
    scaler = StandardScaler().fit(X, None, weight)
    plain = Ridge(alpha=0.1 * weight.sum()).fit(scaler.transform(X), y, weight)
    np.testing.assert_allclose(ours.predict(X), plain.predict(scaler.transform(X)), rtol=1e-5)


def test_leave_one_out_errors_are_those_of_refitting():
    X, y, scores = toy(15)
    X, y = StandardScaler().fit_transform(X), (y - y.mean()) / y.std()
    priors = candidate_priors(X, np.ones(15), 1, scores[:, None], AVERAGED_TRANSFORMS, SLOPES)
    for prior in priors[::6]:
        errors = []
        for i in range(15):
            keep = np.arange(15) != i
            fit = GaussianSolver(X[keep], y[keep, None], np.ones(14)).fit(prior)
            errors.append(y[i] - X[i] @ fit.coef[0] - fit.intercept[0])
        expected = -15 / 2 * np.log(np.mean(np.square(errors)))
        fit = GaussianSolver(X, y[:, None], np.ones(15)).fit(prior)
        assert fit.log_evidence == pytest.approx(expected, rel=1e-8)


@quiet
@pytest.mark.parametrize("shape", [(60, 30), (30, 60)])
def test_a_large_regression_is_solved_as_a_small_one(shape, monkeypatch):
    X, y, scores = toy(*shape)
    small = LLMAttributionRegularizedRegressor(attributions=scores).fit(X, y).predict(X)
    monkeypatch.setattr(_leave_one_out, "MAX_DENSE", 3)
    large = LLMAttributionRegularizedRegressor(attributions=scores).fit(X, y).predict(X)
    assert np.abs(large - small).max() < 0.1 * y.std()


@pytest.mark.parametrize("d", [5, 40])
def test_a_plain_candidate_is_a_ridge_regression(d):
    X, y, _ = toy(30, d)
    X, y = StandardScaler().fit_transform(X), (y - y.mean()) / y.std()
    prior = Prior("none", 0.5, np.zeros((1, d)), 0.0, 0.0, np.ones(d), np.zeros(d), 0.0)
    fit = GaussianSolver(X, y[:, None], np.ones(30)).fit(prior)
    plain = Ridge(alpha=NOISE / 0.5**2).fit(X, y)
    np.testing.assert_allclose(fit.coef[0], plain.coef_, rtol=1e-6, atol=1e-10)


@quiet
@pytest.mark.parametrize("gamma", ["auto", 0.3])
def test_units_of_features_and_target_do_not_matter(gamma):
    X, y, scores = toy()
    rng = np.random.default_rng(0)
    factor, shift = rng.uniform(0.01, 100, X.shape[1]), rng.normal(size=X.shape[1])
    model = LLMAttributionRegularizedRegressor(attributions=scores, gamma=gamma, tol=1e-9)
    expected = clone(model).fit(X, y).predict(X)
    rescaled = model.fit(X * factor + shift, 1000 * y - 5)
    np.testing.assert_allclose(rescaled.predict(X * factor + shift), 1000 * expected - 5, rtol=1e-5)


@quiet
@pytest.mark.parametrize("shape", [(60, 5), (20, 40)])
def test_sparse_equals_dense(shape):
    X, y, scores = toy(*shape)
    X[np.abs(X) < 0.5] = 0
    model = LLMAttributionRegularizedRegressor(attributions=scores, standardize=False)
    dense = clone(model).fit(X, y)
    fitted = clone(model).fit(sparse.csr_array(X), y)
    np.testing.assert_allclose(fitted.predict(sparse.csr_array(X)), dense.predict(X), rtol=1e-5)


def rmse(n_rows, attributions, seeds):
    X, y = load_diabetes(return_X_y=True, as_frame=True)
    errors = []
    for seed in range(seeds):
        order = np.random.default_rng(seed).permutation(len(y))
        train, test = order[:n_rows], order[n_rows:]
        ours = LLMAttributionRegularizedRegressor(attributions=attributions)
        plain = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-2, 3, 20)))
        errors.append(
            [
                root_mean_squared_error(
                    y.iloc[test], m.fit(X.iloc[train], y.iloc[train]).predict(X.iloc[test])
                )
                for m in (ours, plain)
            ]
        )
    return np.mean(errors, axis=0)


def test_recorded_scores_beat_ridge_on_ten_rows_and_cost_nothing_on_two_hundred():
    scores = load_attributions("diabetes")
    ours, plain = rmse(10, scores, 10)
    assert ours < 0.9 * plain
    ours, plain = rmse(200, scores, 10)
    assert ours < 1.01 * plain


def test_wrong_scores_do_no_lasting_harm():
    negated = [{k: -v for k, v in e.items()} for e in load_attributions("diabetes").to_estimates()]
    with pytest.warns(PriorConflictWarning, match="a correlation of -0"):
        ours, plain = rmse(200, negated, 3)
    assert ours < 1.02 * plain


def test_without_scores_it_is_a_ridge_regression():
    X, y, _ = toy(200)
    with pytest.warns(NoLLMWarning):
        model = LLMAttributionRegularizedRegressor().fit(X, y)
    assert model.score(X, y) > 0.95
    assert model.prior_weight_ == 0


@quiet
def test_constant_target_is_predicted():
    X, _, scores = toy()
    model = LLMAttributionRegularizedRegressor(attributions=scores).fit(X, np.full(60, 7.0))
    np.testing.assert_allclose(model.predict(X), 7)


def test_unlabeled_rows_make_the_scale():
    X, y, scores = toy(500)
    model = LLMAttributionRegularizedRegressor(attributions=scores, gamma=100.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PriorConflictWarning)
        model.fit(X[:4], y[:4], X_unlabeled=X)
    direction = model.coef_ * X.std(axis=0)
    target = np.sign(scores.mean(axis=0)) * np.expm1(np.abs(scores.mean(axis=0)) / 2)
    assert np.corrcoef(direction, target)[0, 1] > 0.999
    with pytest.raises(ValueError, match="features"):
        model.fit(X[:4], y[:4], X_unlabeled=X[:, :2])


def test_grid_search_over_gamma():
    X, y, scores = toy()
    model = LLMAttributionRegularizedRegressor(attributions=scores)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PriorConflictWarning)
        search = GridSearchCV(model, {"gamma": ["auto", 0, 1]}).fit(X, y)
    assert search.best_score_ > 0.8


def test_scores_that_rank_the_rows_almost_perfectly_contradict_nothing():
    X = np.random.default_rng(0).normal(size=(20, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("error", PriorConflictWarning)
        model = LLMAttributionRegularizedRegressor(attributions=[9, 0, 1]).fit(X, 2 * X[:, 0])
    assert model.prior_weight_ < 0.5


@pytest.mark.parametrize("network", [{}, {"hidden_layer_sizes": (8,), "random_state": 0}])
def test_a_numeric_gamma_warns_where_predictions_vary_more_than_the_target(network):
    X, y = load_diabetes(return_X_y=True, as_frame=True)
    rows = np.random.default_rng(4).permutation(len(y))[:8]
    model = LLMAttributionRegularizedRegressor(
        attributions=load_attributions("diabetes"), gamma=0.01, alpha=1e-4, **network
    )
    with pytest.warns(OverconfidentWarning, match="8 rows"):
        model.fit(X.iloc[rows], y.iloc[rows])
    with warnings.catch_warnings():
        warnings.simplefilter("error", OverconfidentWarning)
        clone(model).set_params(alpha=1).fit(X.iloc[rows], y.iloc[rows])
        clone(model).set_params(gamma="auto").fit(X.iloc[rows], y.iloc[rows])
