import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris, make_moons
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from skllmreg import LLMAttributionRegularizedClassifier, LLMAttributionRegularizedRegressor
from skllmreg.attribution._scores import SCORE_TRANSFORMS, target_direction
from skllmreg.datasets import load_attributions
from skllmreg.exceptions import OverconfidentWarning

quiet = pytest.mark.filterwarnings(
    "ignore::skllmreg.exceptions.NoLLMWarning", "ignore::skllmreg.exceptions.PriorConflictWarning"
)
pytestmark = quiet


def toy(n=40, d=4, n_classes=2, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d)) * rng.uniform(0.1, 10, d)
    y = np.arange(n) % n_classes
    X[:, 0] += 0.5 * y * X[:, 0].std()
    scores = rng.integers(-9, 10, (2, d)).astype(float)
    return X, y, scores if n_classes == 2 else {k: np.roll(scores, k) for k in range(n_classes)}


def classifier(scores, **params):
    options = {"hidden_layer_sizes": (10,), "gamma": 0.3, "max_epochs": 15, "random_state": 0}
    return LLMAttributionRegularizedClassifier(attributions=scores, **options | params)


def gradients(model, X):
    """Input gradients by finite differences of the outputs, (n_samples, n_outputs, n_features)."""
    columns = []
    for j, scale in enumerate(model.scale_):
        step = np.zeros(X.shape[1])
        step[j] = 1e-5 * scale
        difference = model.decision_function(X + step) - model.decision_function(X - step)
        columns.append(difference.reshape(len(X), -1) / 2e-5)
    return np.stack(columns, axis=2)


def mean_cosine(model, X):
    G = gradients(model, X)
    target = target_direction(model.attributions_, SCORE_TRANSFORMS["expm1"])
    G = G - G.mean(axis=1, keepdims=True) if G.shape[1] > 1 else G
    return np.mean([np.vdot(g, target) / np.linalg.norm(g) for g in G])


# Limits


@pytest.mark.parametrize("n_classes", [2, 3])
def test_a_linear_module_reaches_the_linear_solution(n_classes):
    X, y, scores = toy(n_classes=n_classes)
    linear = classifier(scores, hidden_layer_sizes=(), tol=1e-9).fit(X, y)
    module = classifier(
        scores, module=lambda d, k: torch.nn.Linear(d, k).double(), max_epochs=500, tol=1e-9
    ).fit(X, y)
    np.testing.assert_allclose(module.predict_proba(X), linear.predict_proba(X), atol=2e-3)


def test_a_linear_module_reaches_the_linear_regression():
    X, scores = toy()[0], [2.0, 9.0, 0.0, 5.0]  # right in sign, wrong in size
    y = 100 + X @ [3, 1, 0, 0.1] + np.random.default_rng(0).normal(size=len(X))
    linear = LLMAttributionRegularizedRegressor(attributions=scores, gamma=0.3).fit(X, y)
    module = LLMAttributionRegularizedRegressor(
        attributions=scores, gamma=0.3, module=torch.nn.Linear, max_epochs=500, random_state=0
    ).fit(X, y)
    np.testing.assert_allclose(module.predict(X), linear.predict(X), atol=0.01 * y.std())


def test_auto_is_the_linear_model_where_rows_are_few():
    X, y = load_breast_cancer(return_X_y=True, as_frame=True)
    few = [*y[y == 0].index[:5], *y[y == 1].index[:5]]
    scores = load_attributions("breast_cancer")
    linear = LLMAttributionRegularizedClassifier(attributions=scores).fit(X.loc[few], y[few])
    model = classifier(scores, gamma="auto", hidden_layer_sizes=(50,)).fit(X.loc[few], y[few])
    np.testing.assert_allclose(model.coef_, linear.coef_)
    np.testing.assert_allclose(model.predict_proba(X), linear.predict_proba(X), atol=0.05)


def test_auto_learns_what_the_linear_model_cannot_where_rows_are_many():
    X, y = make_moons(400, noise=0.2, random_state=0)
    X_test, y_test = make_moons(1000, noise=0.2, random_state=1)
    linear, network = (
        classifier([5.0, -5.0], gamma="auto", hidden_layer_sizes=h, max_epochs=50).fit(X, y)
        for h in ((), (30,))
    )
    aucs = [roc_auc_score(y_test, m.decision_function(X_test)) for m in (linear, network)]
    assert aucs[1] > aucs[0] + 0.03


def test_a_class_of_one_row_is_no_obstacle():
    X, y, scores = toy(120)
    y = np.arange(120) == 7
    model = classifier(scores, gamma="auto", max_epochs=3).fit(X, y)
    assert model.predict_proba(X).shape == (120, 2)


# Alignment


@pytest.mark.parametrize("n_classes", [2, 3])
def test_larger_gamma_aligns_the_gradients_of_every_row(n_classes):
    X, y, scores = toy(n_classes=n_classes)
    free, bound = (
        mean_cosine(classifier(scores, gamma=gamma, max_epochs=100).fit(X, y), X)
        for gamma in (0, 10)
    )
    assert free < 0.5
    assert bound > 0.95


@pytest.mark.parametrize("alignment", ["input_x_gradient", "integrated_gradients"])
def test_relative_attributions_align_the_gradients_too(alignment):
    X, y, scores = toy()
    model = classifier(scores, gamma=10.0, max_epochs=100, alignment=alignment).fit(X, y)
    assert mean_cosine(model, X) > 0.8


def test_gradients_are_aligned_at_rows_without_labels():
    X, y, scores = toy(200)
    with_rows, without = (
        classifier(scores, gamma=3.0, standardize=False, max_epochs=50) for _ in range(2)
    )
    X = StandardScaler().fit_transform(X)
    few, rest = np.arange(6), np.arange(6, 200)
    with_rows.fit(X[few], y[few], X_unlabeled=X[rest])
    without.fit(X[few], y[few])
    misaligned = [1 - mean_cosine(model, X[rest]) for model in (with_rows, without)]
    assert misaligned[0] < misaligned[1] / 3


def test_the_batch_mean_leaves_single_rows_free():
    X, y, scores = toy()
    each, mean = (
        mean_cosine(classifier(scores, gamma=3.0, per_sample=flag, max_epochs=50).fit(X, y), X)
        for flag in (True, False)
    )
    assert each > mean + 0.02


# Behavior of an estimator


@pytest.mark.parametrize("options", [{}, {"batch_size": 7}, {"early_stopping": True}])
def test_a_fit_is_deterministic_and_leaves_the_random_states_alone(options):
    X, y, scores = toy()
    torch.manual_seed(3)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    one, other = (classifier(scores, **options).fit(X, y) for _ in range(2))
    np.testing.assert_array_equal(one.decision_function(X), other.decision_function(X))
    assert torch.equal(torch.get_rng_state(), before[0])
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002
    different = classifier(scores, random_state=1, **options).fit(X, y)
    assert np.abs(different.decision_function(X) - one.decision_function(X)).max() > 1e-6


@pytest.mark.parametrize("gamma", ["auto", 0.3])
def test_a_fitted_network_survives_pickling_and_cloning(gamma):
    X, y, scores = toy()
    model = classifier(scores, gamma=gamma).fit(X, y)
    copy = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(copy.predict_proba(X), model.predict_proba(X))
    assert not hasattr(clone(model), "network_")


def test_probabilities_sum_to_one_for_several_classes():
    X, y = load_iris(return_X_y=True, as_frame=True)
    model = classifier(load_attributions("iris")).fit(X, y)
    proba = model.predict_proba(X)
    np.testing.assert_allclose(proba.sum(axis=1), 1)
    assert model.score(X, y) > 0.9


@pytest.mark.parametrize("gamma", ["auto", 0.1])
def test_regression_predicts_in_the_units_of_the_target(gamma):
    X, y = load_diabetes(return_X_y=True, as_frame=True)
    scores = load_attributions("diabetes")
    model = LLMAttributionRegularizedRegressor(
        attributions=scores, gamma=gamma, hidden_layer_sizes=(10,), random_state=0, max_epochs=20
    )
    assert model.fit(X[:100], y[:100]).score(X[100:], y[100:]) > 0.35


def test_an_overconfident_network_warns():
    X, y, scores = toy(20)
    with pytest.warns(OverconfidentWarning, match="20 rows"):
        classifier(scores, alpha=0, gamma=0.01, max_epochs=100).fit(X, y)


def test_sparse_equals_dense():
    X, y, scores = toy()
    X[np.abs(X) < 0.5] = 0
    dense, from_sparse = (
        classifier(scores, standardize=False).fit(container(X), y)
        for container in (np.asarray, sparse.csr_array)
    )
    np.testing.assert_allclose(
        from_sparse.predict_proba(sparse.csr_array(X)), dense.predict_proba(X), atol=1e-8
    )


def test_an_early_stop_keeps_the_best_network():
    X, y, scores = toy(100)
    y = np.random.default_rng(0).permutation(y)  # nothing to learn: it overfits at once
    long, early = (
        classifier(scores, gamma=0, alpha=0, early_stopping=flag, max_epochs=200).fit(X, y)
        for flag in (False, True)
    )
    assert early.n_iter_ < 50
    assert early.score(X, y) < long.score(X, y)


def test_a_linear_refit_forgets_the_network():
    X, y, scores = toy()
    model = classifier(scores).fit(X, y)
    assert model.coef_ is None
    model.set_params(hidden_layer_sizes=()).fit(X, y)
    fresh = classifier(scores, hidden_layer_sizes=()).fit(X, y)
    assert model.network_ is None
    np.testing.assert_array_equal(model.predict_proba(X), fresh.predict_proba(X))


@pytest.mark.slow
def test_a_linear_fit_loads_no_torch():
    code = (
        "import sys; from skllmreg import LLMAttributionRegularizedClassifier as C;"
        "m = C(attributions=[1.0]).fit([[0], [1], [2], [3]], [0, 0, 1, 1]);"
        "m.predict([[0]]); print('torch' in sys.modules, 'skorch' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.split() == ["False", "False"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_same_model_which_pickles():
    X, y, scores = toy()
    cpu, gpu = (classifier(scores, device=d, max_epochs=5).fit(X, y) for d in ("cpu", "cuda"))
    np.testing.assert_allclose(gpu.predict_proba(X), cpu.predict_proba(X), atol=1e-2)
    pickle.loads(pickle.dumps(gpu)).predict(X)


# Modules of the user's


def wide(n_features, n_outputs):
    return torch.nn.Sequential(
        torch.nn.Linear(n_features, 16), torch.nn.Tanh(), torch.nn.Linear(16, n_outputs)
    )


class FlatOutput(torch.nn.Module):
    """One logit per row, without the second dimension."""

    def __init__(self, n_features, n_outputs):
        super().__init__()
        self.layer = torch.nn.Linear(n_features, 1)

    def forward(self, X):
        return self.layer(X)[:, 0]


@pytest.mark.parametrize("module", [wide, FlatOutput, wide(4, 1), torch.nn.Linear])
@pytest.mark.parametrize("gamma", ["auto", 0.3])
@pytest.mark.parametrize("options", [{}, {"batch_size": 16}])
def test_a_module_may_be_a_class_a_function_or_an_instance(module, gamma, options):
    X, y, scores = toy()
    model = classifier(scores, hidden_layer_sizes=(), module=module, gamma=gamma, **options)
    assert roc_auc_score(y, model.fit(X, y).decision_function(X)) > 0.5


def test_an_instance_is_the_start_and_stays_as_it_is():
    X, y, scores = toy()
    module = wide(4, 1)
    before = [p.detach().clone() for p in module.parameters()]
    search = GridSearchCV(classifier(scores, module=module), {"gamma": [0.1, 1.0]}, cv=2)
    search.fit(X, y)
    assert all(torch.equal(p, q) for p, q in zip(module.parameters(), before, strict=True))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"module": wide(4, 2)}, r"outputs of shape \(40, 2\); expected \(40, 1\)"),
        ({"module": lambda d, k: "net"}, "returned str"),
        ({"module": torch.nn.Identity()}, "no parameters"),
        ({"hidden_layer_sizes": (8, 0)}, "positive integers"),
        ({"hidden_layer_sizes": (0.5,)}, "positive integers"),
        ({"per_sample": False, "alignment": "input_x_gradient"}, "alignment='gradient'"),
    ],
)
def test_what_cannot_work_says_why(options, message):
    X, y, scores = toy()
    with pytest.raises((ValueError, TypeError), match=message):
        classifier(scores, **options).fit(X, y)


class Nan(FlatOutput):
    def forward(self, X):
        return super().forward(X) * np.nan


@pytest.mark.parametrize("options", [{}, {"batch_size": 8}])
def test_a_loss_that_is_not_a_number_is_an_error(options):
    X, y, scores = toy()
    with pytest.raises(ValueError, match="loss of the network is NaN"):
        classifier(scores, module=Nan, **options).fit(X, y)


@pytest.mark.slow
def test_the_published_network_follows_the_scores():
    def relu_layer(n_features, n_outputs):
        return torch.nn.Sequential(
            torch.nn.Linear(n_features, 100), torch.nn.ReLU(), torch.nn.Linear(100, n_outputs)
        )

    X, y = load_breast_cancer(return_X_y=True, as_frame=True)
    rows = np.r_[np.flatnonzero(y == 0)[:5], np.flatnonzero(y == 1)[:5]]
    model = LLMAttributionRegularizedClassifier(
        attributions=load_attributions("breast_cancer"),
        gamma=200 / X.shape[1],
        score_transform="exp",
        standardize=False,
        per_sample=False,
        module=relu_layer,
        batch_size=len(rows),
        learning_rate=0.01,
        max_epochs=200,
        alpha=0,
        random_state=0,
    )
    recipe = make_pipeline(MinMaxScaler().set_output(transform="pandas"), model)
    recipe.fit(X.iloc[rows], y.iloc[rows])
    others = np.setdiff1d(np.arange(len(y)), rows)
    assert roc_auc_score(y.iloc[others], recipe.decision_function(X.iloc[others])) > 0.95
