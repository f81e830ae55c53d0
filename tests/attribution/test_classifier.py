import pickle
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy import sparse
from scipy.optimize import approx_fprime
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_breast_cancer, load_iris, load_wine, make_classification
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from skllmreg import ChatModel, LLMAttributionRegularizedClassifier
from skllmreg.attribution._scores import SCORE_TRANSFORMS, target_direction
from skllmreg.datasets import load_attributions
from skllmreg.exceptions import (
    FewRowsForScaleWarning,
    NoLLMWarning,
    OverconfidentWarning,
    PriorConflictWarning,
)

quiet = pytest.mark.filterwarnings(
    "ignore::skllmreg.exceptions.NoLLMWarning",
    "ignore::skllmreg.exceptions.PriorConflictWarning",
    "ignore::skllmreg.exceptions.OverconfidentWarning",
)


def toy(n=60, d=5, n_classes=2, seed=0):
    X, y = make_classification(
        n, d, n_informative=d - 1, n_redundant=0, n_classes=n_classes, random_state=seed
    )
    rng = np.random.default_rng(seed)
    scores = rng.integers(-9, 10, (3, d)).astype(float)
    if n_classes > 2:
        scores = {k: rng.integers(-9, 10, (3, d)).astype(float) for k in range(n_classes)}
    return X * rng.uniform(0.1, 10, d) + rng.normal(size=d), y, scores


def few(y, per_class, seed=0):
    rng = np.random.default_rng(seed)
    return np.concatenate(
        [rng.choice(np.flatnonzero(y == k), per_class, replace=False) for k in np.unique(y)]
    )


# Limits and optimality


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("standardize", [True, False])
def test_zero_gamma_equals_logistic_regression(n_classes, standardize):
    X, y, scores = toy(n_classes=n_classes)
    weight = np.random.default_rng(1).uniform(0.5, 2, len(y))
    ours = LLMAttributionRegularizedClassifier(
        attributions=scores, gamma=0, alpha=0.05, tol=1e-9, standardize=standardize
    ).fit(X, y, weight)
    scaler = StandardScaler(with_mean=standardize, with_std=standardize).fit(X, None, weight)
    plain = LogisticRegression(C=1 / (0.05 * weight.sum()), tol=1e-9, max_iter=10000)
    plain.fit(scaler.transform(X), y, weight)
    np.testing.assert_allclose(
        ours.predict_proba(X), plain.predict_proba(scaler.transform(X)), atol=1e-5
    )


@pytest.mark.parametrize("n_classes", [2, 3])
def test_huge_gamma_equals_logistic_regression_on_the_score(n_classes):
    X, y, scores = toy(n_classes=n_classes)
    X = StandardScaler().fit_transform(X)
    model = LLMAttributionRegularizedClassifier(
        attributions=scores, gamma=1e6, alpha=1e-4, standardize=False, score_transform="exp"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PriorConflictWarning)
        coef = model.fit(X, y).coef_
    target = target_direction(model.attributions_, SCORE_TRANSFORMS["exp"])
    np.testing.assert_allclose(coef / np.linalg.norm(coef), target, atol=1e-3)
    if n_classes == 2:
        score = X @ target.T
        slope = LogisticRegression(C=1 / (1e-4 * len(y)), tol=1e-9).fit(score, y).coef_[0, 0]
        assert np.linalg.norm(coef) == pytest.approx(max(slope, 1e-3), rel=1e-2)


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("gamma", [0.02, 0.1])
def test_gradient_of_the_objective_is_zero_at_the_solution(n_classes, gamma):
    X, y, scores = toy(n_classes=n_classes)
    X = StandardScaler().fit_transform(X)
    alpha = 0.01
    model = LLMAttributionRegularizedClassifier(
        attributions=scores, gamma=gamma, alpha=alpha, standardize=False, tol=1e-9
    ).fit(X, y)
    target = target_direction(model.attributions_, SCORE_TRANSFORMS["expm1"])

    def objective(params):
        """Written again, from the class's docstring."""
        W, b = np.split(params, [target.size])
        W = W.reshape(target.shape)
        eta = X @ W.T + b
        if n_classes == 2:
            loss = np.logaddexp(0, -(2 * y - 1) * eta[:, 0]).mean()
        else:
            loss = np.mean(np.log(np.exp(eta).sum(axis=1)) - eta[np.arange(len(y)), y])
        cosine = np.vdot(W, target) / np.linalg.norm(W) / np.linalg.norm(target)
        return loss + gamma * (1 - cosine) + alpha / 2 * np.vdot(W, W)

    solution = np.r_[model.coef_.ravel(), model.intercept_]
    np.testing.assert_allclose(approx_fprime(solution, objective, 1e-7), 0, atol=1e-5)
    if n_classes > 2:
        np.testing.assert_allclose(model.coef_.sum(axis=0), 0, atol=1e-6)


@quiet
@pytest.mark.parametrize("gamma", ["auto", 1.0])
def test_scores_of_zero_say_nothing(gamma):
    X, y, scores = toy()
    zero = LLMAttributionRegularizedClassifier(attributions=0 * scores, gamma=gamma).fit(X, y)
    none = LLMAttributionRegularizedClassifier(gamma=gamma).fit(X, y)
    np.testing.assert_allclose(zero.coef_, none.coef_)


# Invariance


@quiet
@pytest.mark.parametrize("gamma", ["auto", 0.3])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_order_of_columns_does_not_matter(gamma, n_classes):
    X, y, scores = toy(n_classes=n_classes)
    order = np.random.default_rng(0).permutation(X.shape[1])
    permuted = scores[:, order] if n_classes == 2 else {k: s[:, order] for k, s in scores.items()}
    one = LLMAttributionRegularizedClassifier(attributions=scores, gamma=gamma, tol=1e-9)
    other = clone(one).set_params(attributions=permuted)
    np.testing.assert_allclose(
        one.fit(X, y).predict_proba(X), other.fit(X[:, order], y).predict_proba(X[:, order]),
        atol=1e-6,
    )  # fmt: skip


@quiet
@pytest.mark.parametrize("gamma", ["auto", 0.3])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_units_of_the_features_do_not_matter(gamma, n_classes):
    X, y, scores = toy(n_classes=n_classes)
    rng = np.random.default_rng(0)
    factor, shift = rng.uniform(0.01, 100, X.shape[1]), rng.normal(size=X.shape[1])
    model = LLMAttributionRegularizedClassifier(attributions=scores, gamma=gamma, tol=1e-9)
    expected = clone(model).fit(X, y)
    rescaled = model.fit(X * factor + shift, y)
    np.testing.assert_allclose(
        rescaled.predict_proba(X * factor + shift), expected.predict_proba(X), atol=1e-6
    )
    np.testing.assert_allclose(rescaled.coef_ * factor, expected.coef_, rtol=1e-4, atol=1e-7)


@quiet
@pytest.mark.parametrize("gamma", ["auto", 0.3])
def test_scores_for_the_other_class_are_the_scores_negated(gamma):
    X, y, scores = toy()
    a = LLMAttributionRegularizedClassifier(attributions={1: scores}, gamma=gamma).fit(X, y)
    b = LLMAttributionRegularizedClassifier(attributions={0: -scores}, gamma=gamma).fit(X, y)
    np.testing.assert_array_equal(a.coef_, b.coef_)


@quiet
@pytest.mark.parametrize("gamma", ["auto", 0.3])
@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("shape", [(60, 5), (20, 40)])
def test_sparse_equals_dense(gamma, n_classes, shape):
    X, y, scores = toy(*shape, n_classes=n_classes)
    X[np.abs(X) < 0.5] = 0
    model = LLMAttributionRegularizedClassifier(
        attributions=scores, gamma=gamma, standardize=False, tol=1e-9
    )
    dense = clone(model).fit(X, y)
    for container in (sparse.csr_array, sparse.csc_matrix):
        fitted = clone(model).fit(container(X), y)
        np.testing.assert_allclose(fitted.coef_, dense.coef_, atol=1e-6)
        np.testing.assert_allclose(
            fitted.predict_proba(container(X)), dense.predict_proba(X), atol=1e-6
        )


# Labels against scores


def test_contradicting_labels_do_not_collapse_the_coefficients():
    X, y, _ = toy()
    with_labels = np.sign(LogisticRegression().fit(X, y).coef_[0] * X.std(axis=0)) * 5
    model = LLMAttributionRegularizedClassifier(attributions=-with_labels, gamma=10)
    with pytest.warns(PriorConflictWarning, match="the scores win"):
        model.fit(X, y)
    cosine = np.vdot(model.coef_ * X.std(axis=0), -with_labels)
    assert cosine > 0
    assert np.isfinite(model.predict_proba(X)).all()


@quiet
@pytest.mark.parametrize("gamma", [1e-8, 1e-4, 0.01, 0.1])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_contradicting_labels_do_not_stop_the_search(gamma, n_classes):
    """The objective is never worse than at the solution without scores."""
    X, y, _ = toy(n_classes=n_classes)
    plain = LLMAttributionRegularizedClassifier(gamma=0, tol=1e-9).fit(X, y)
    against = -np.sign(plain.coef_ * plain.scale_) * np.abs(plain.coef_ * plain.scale_).clip(1, 10)
    against = against[0] if n_classes == 2 else dict(enumerate(against))
    model = LLMAttributionRegularizedClassifier(attributions=against, gamma=gamma, tol=1e-9)

    def objective(m, target):
        Z = m.coef_ * m.scale_
        loss = -np.mean(np.log(m.predict_proba(X)[np.arange(len(y)), y]))
        cosine = np.vdot(Z, target) / np.linalg.norm(Z) / np.linalg.norm(target)
        return loss + gamma * (1 - cosine) + m.alpha / 2 * np.vdot(Z, Z)

    model.fit(X, y)
    target = target_direction(model.attributions_, SCORE_TRANSFORMS["expm1"])
    assert objective(model, target) <= objective(plain, target) + 1e-9
    if gamma <= 1e-4:
        np.testing.assert_allclose(model.predict_proba(X), plain.predict_proba(X), atol=1e-2)


@pytest.mark.parametrize("wrong", ["negated", "shuffled"])
def test_wrong_scores_do_no_lasting_harm(wrong):
    X, y = load_breast_cancer(return_X_y=True)
    names = load_breast_cancer().feature_names
    recorded = load_attributions("breast_cancer").to_estimates()[0]
    scores = np.array([[estimate[name] for name in names] for estimate in recorded])  # malignant
    if wrong == "shuffled":
        rng = np.random.default_rng(0)
        # Nearly all scores of this set have one sign: shuffled alone they would still be good.
        scores = scores[:, rng.permutation(30)] * rng.choice([-1, 1], 30)
    aucs = []
    for seed in range(3):
        train = few(y, 100, seed)
        test = np.setdiff1d(np.arange(len(y)), train)
        model = LLMAttributionRegularizedClassifier(attributions={1: scores})  # benign
        with pytest.warns(PriorConflictWarning, match="contradict"):
            model.fit(X[train], y[train])
        plain = make_pipeline(StandardScaler(), LogisticRegression()).fit(X[train], y[train])
        aucs.append(
            [roc_auc_score(y[test], m.predict_proba(X[test])[:, 1]) for m in (model, plain)]
        )
    ours, theirs = np.mean(aucs, axis=0)
    assert ours >= theirs - 0.01


def test_right_scores_beat_logistic_regression_on_few_rows():
    X, y = load_breast_cancer(return_X_y=True, as_frame=True)
    scores = load_attributions("breast_cancer")
    ours, theirs = [], []
    for seed in range(5):
        train = few(y.to_numpy(), 1, seed)
        test = np.setdiff1d(np.arange(len(y)), train)
        model = LLMAttributionRegularizedClassifier(attributions=scores)
        model.fit(X.iloc[train], y[train])
        plain = make_pipeline(StandardScaler(), LogisticRegression()).fit(X.iloc[train], y[train])
        for m, aucs in ((model, ours), (plain, theirs)):
            aucs.append(roc_auc_score(y[test], m.predict_proba(X.iloc[test])[:, 1]))
        assert model.prior_weight_ > 0.9
    assert np.mean(ours) > np.mean(theirs) + 0.01


def test_trust_fades_with_the_rows_when_scores_are_wrong_and_stays_when_they_are_right():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(2000, 6))
    w = np.array([2.0, -1, 1, 0, 0, 0])
    y = (rng.uniform(size=2000) < 1 / (1 + np.exp(-X @ w))).astype(int)
    right, wrong = np.array([10, -5, 5, 0, 0, 0]), np.array([0, 0, 0, 10, -5, 5])
    for scores, low, high in ((right, 0.9, 1), (wrong, 0, 0.2)):
        model = LLMAttributionRegularizedClassifier(attributions=scores)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PriorConflictWarning)
            assert low <= model.fit(X, y).prior_weight_ <= high


@pytest.mark.slow
@quiet
@pytest.mark.parametrize("n_classes", [2, 3])
def test_probabilities_are_calibrated_when_the_scores_are_right(n_classes):
    """Of the rows given a probability of about p, about p belong to the class."""
    rng = np.random.default_rng(0)
    predicted, happened = [], []
    for _ in range(20):
        scores = rng.integers(-10, 11, (n_classes, 6))
        W = scores[1:] - scores[:1] if n_classes == 2 else scores
        W = W * 0.15 * rng.uniform(0.5, 1.5) + 0.2 * rng.normal(size=W.shape)
        X = rng.normal(size=(430, 6))
        logits = X @ W.T
        logits = np.c_[0 * logits, logits] if n_classes == 2 else logits
        y = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
        if len(np.unique(y[:30])) < n_classes:
            continue
        given = scores[1] - scores[0] if n_classes == 2 else dict(enumerate(scores))
        given = np.clip(given, -10, 10) if n_classes == 2 else given
        model = LLMAttributionRegularizedClassifier(attributions=given).fit(X[:30], y[:30])
        predicted.append(model.predict_proba(X[30:]))
        happened.append(np.eye(n_classes)[y[30:]])
    predicted, happened = np.vstack(predicted).ravel(), np.vstack(happened).ravel()
    for low in np.arange(0, 1, 0.2):
        inside = (predicted >= low) & (predicted <= low + 0.2)
        assert predicted[inside].mean() == pytest.approx(happened[inside].mean(), abs=0.05)


# What the fitted model says


def test_fitted_attributes_explain_the_trust():
    X, y, scores = toy()
    model = LLMAttributionRegularizedClassifier(attributions=scores)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PriorConflictWarning)
        model.fit(X, y)
    assert model.attribution_estimates_.shape == (3, 1, 5)
    np.testing.assert_array_equal(model.attributions_, scores.mean(axis=0)[None])
    candidates = model.candidates_
    assert candidates["weight"].sum() == pytest.approx(1)
    assert len({len(column) for column in candidates.values()}) == 1
    plain = candidates["weight"][candidates["transform"] == "none"].sum()
    assert model.prior_weight_ == pytest.approx(1 - plain)
    assert 0 <= model.agreement_ <= 1
    assert model.gamma_ > 0


def test_fits_are_deterministic():
    X, y, scores = toy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PriorConflictWarning)
        fits = [LLMAttributionRegularizedClassifier(attributions=scores).fit(X, y) for _ in "ab"]
    np.testing.assert_array_equal(fits[0].coef_, fits[1].coef_)


def test_without_scores_it_warns_and_is_a_ridge_logistic_regression():
    X, y, _ = toy(400, 8)
    with pytest.warns(NoLLMWarning):
        model = LLMAttributionRegularizedClassifier().fit(X, y)
    plain = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, y)
    assert np.corrcoef(model.decision_function(X), plain.decision_function(X))[0, 1] > 0.99
    assert model.attributions_ is None
    assert model.prior_weight_ == 0


def test_too_few_iterations_warn():
    X, y, scores = toy()
    with pytest.warns(ConvergenceWarning, match="raise max_iter"):
        LLMAttributionRegularizedClassifier(attributions=scores, gamma=0.1, max_iter=2).fit(X, y)


# Where it has to fit in


def people(n=120):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "age": rng.integers(18, 80, n),
            "income": rng.lognormal(10, 1, n),
            "sex": rng.choice(["male", "female"], n),
        }
    )
    y = np.where(frame["age"] + 20 * (frame["sex"] == "male") + rng.normal(0, 10, n) > 60, "y", "n")
    return frame, y


PEOPLE_SCORES = {"age": 8, "income": 0, "sex_male": 5, "sex_female": -5}


def people_pipeline():
    encode = ColumnTransformer(
        [("one_hot", OneHotEncoder(sparse_output=False), ["sex"])], remainder="passthrough"
    )
    model = LLMAttributionRegularizedClassifier(attributions=PEOPLE_SCORES)
    return make_pipeline(encode.set_output(transform="pandas"), model)


def test_pipeline_grid_search_and_cross_validation():
    X, y = people()
    pipeline = people_pipeline()
    assert cross_val_score(pipeline, X, y, scoring="roc_auc").mean() > 0.85
    name = "llmattributionregularizedclassifier__gamma"
    search = GridSearchCV(pipeline, {name: ["auto", 0, 0.1, 10]}, cv=3).fit(X, y)
    assert search.best_score_ > 0.75


def test_pandas_and_polars_frames_give_the_same_model():
    X, y = people()
    X = pd.get_dummies(X, dtype=float)
    model = LLMAttributionRegularizedClassifier(attributions=PEOPLE_SCORES)
    pandas, polars = clone(model).fit(X, y), clone(model).fit(pl.from_pandas(X), y)
    np.testing.assert_array_equal(pandas.coef_, polars.coef_)
    np.testing.assert_array_equal(polars.feature_names_in_, X.columns)
    assert list(pandas.classes_) == ["n", "y"]


def test_array_without_names_says_how_to_give_them():
    X, y, _ = toy()
    with pytest.raises(ValueError, match="set_output"):
        LLMAttributionRegularizedClassifier(attributions={"age": 1}).fit(X, y)


def test_pickle_and_clone_keep_the_model():
    X, y, scores = toy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PriorConflictWarning)
        model = LLMAttributionRegularizedClassifier(attributions=scores).fit(X, y)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))
    assert clone(model).attributions is not None


def test_class_weight_equals_sample_weight():
    X, y, scores = toy()
    model = LLMAttributionRegularizedClassifier(attributions=scores, gamma=0.5)
    a = clone(model).set_params(class_weight={0: 1, 1: 3}).fit(X, y)
    b = clone(model).fit(X, y, np.where(y == 1, 3, 1))
    np.testing.assert_array_equal(a.coef_, b.coef_)


@pytest.mark.slow
@pytest.mark.parametrize("loader", [load_iris, load_wine])
def test_recorded_scores_of_three_classes_beat_logistic_regression_on_one_row_each(loader):
    X, y = loader(return_X_y=True, as_frame=True)
    scores = load_attributions(loader.__name__.removeprefix("load_"))
    ours, theirs = [], []
    for seed in range(10):
        train = few(y.to_numpy(), 1, seed)
        test = np.setdiff1d(np.arange(len(y)), train)
        model = LLMAttributionRegularizedClassifier(attributions=scores)
        plain = make_pipeline(StandardScaler(), LogisticRegression())
        for m, accuracies in ((model, ours), (plain, theirs)):
            m.fit(X.iloc[train], y[train])
            accuracies.append(m.score(X.iloc[test], y[test]))
    assert np.mean(ours) > np.mean(theirs) + 0.05


def test_what_the_llm_answered_is_kept_and_can_be_given_again(loopback):
    X, y = load_breast_cancer(return_X_y=True, as_frame=True)
    X = X[["worst area", "mean texture"]]
    loopback.reply = lambda body: '{"worst area": -9, "mean texture": -4}'
    model = LLMAttributionRegularizedClassifier(
        ChatModel("tiny", base_url=loopback.base_url),
        task="Tell benign from malignant.",
        class_descriptions={0: "malignant", 1: "benign"},
        n_estimates=2,
    ).fit(X, y)
    assert len(loopback.seen) == 2
    assert model.elicited_attributions_.mean() == {1: {"worst area": -9, "mean texture": -4}}
    again = LLMAttributionRegularizedClassifier(attributions=model.elicited_attributions_)
    np.testing.assert_array_equal(again.fit(X, y).coef_, model.coef_)
    assert again.elicited_attributions_ is None


def test_labels_of_pandas_own_types_stay_what_they_are():
    y = pd.Series([0, 1] * 5, dtype="Int64")
    model = LLMAttributionRegularizedClassifier(attributions={1: [5.0]}, gamma=1.0)
    assert model.fit(np.arange(10.0)[:, None], y).classes_.dtype.kind == "i"


# Shares of the classes


@quiet
@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("gamma", ["auto", 0.3])
def test_class_prior_shifts_the_logits_by_the_ratio_of_the_shares(n_classes, gamma):
    X, y, scores = toy(n_classes=n_classes)
    prior = [0.9, 0.1] if n_classes == 2 else [0.7, 0.2, 0.1]
    plain = LLMAttributionRegularizedClassifier(attributions=scores, gamma=gamma).fit(X, y)
    model = clone(plain).set_params(class_prior=prior).fit(X, y)
    shares = np.bincount(y) / len(y)
    expected = plain.predict_proba(X) * np.array(prior) / shares
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(model.predict_proba(X), expected, atol=1e-8)
    by_class = clone(model).set_params(class_prior=dict(enumerate(prior))).fit(X, y)
    np.testing.assert_array_equal(by_class.predict_proba(X), model.predict_proba(X))


@quiet
def test_a_class_prior_of_the_training_shares_changes_nothing():
    X, y, scores = toy()
    weight = np.random.default_rng(0).uniform(0.5, 2, len(y))
    share = weight @ y / weight.sum()
    plain = LLMAttributionRegularizedClassifier(attributions=scores).fit(X, y, weight)
    model = clone(plain).set_params(class_prior=[1 - share, share]).fit(X, y, weight)
    np.testing.assert_allclose(model.intercept_, plain.intercept_, atol=1e-10)


@pytest.mark.parametrize(
    ("prior", "message"),
    [([0.5, 0.4], "sum to 1"), ([1, 0], "positive"), ({0: 1.0}, "each class"), ([1], "2 positive")],
)
def test_a_class_prior_that_is_none_is_an_error(prior, message):
    X, y, scores = toy()
    with pytest.raises(ValueError, match=message):
        LLMAttributionRegularizedClassifier(attributions=scores, class_prior=prior).fit(X, y)


def test_class_prior_and_balanced_weights_exclude_each_other():
    X, y, scores = toy()
    model = LLMAttributionRegularizedClassifier(
        attributions=scores, class_prior=[0.9, 0.1], class_weight="balanced"
    )
    with pytest.raises(ValueError, match="use one"):
        model.fit(X, y)


# The scale of one and two rows per class


def test_a_scale_from_a_handful_of_rows_is_warned_of():
    X, y, scores = toy()
    model = LLMAttributionRegularizedClassifier(attributions=scores)
    rows = few(y, 2)
    with pytest.warns(FewRowsForScaleWarning, match="comes from 4 rows"):
        model.fit(X[rows], y[rows])
    with warnings.catch_warnings():
        warnings.simplefilter("error", FewRowsForScaleWarning)
        model.fit(X[rows], y[rows], X_unlabeled=X)
        model.set_params(standardize=False).fit(X[rows] / X.std(axis=0), y[rows])


@quiet
@pytest.mark.filterwarnings("ignore::skllmreg.exceptions.FewRowsForScaleWarning")
def test_scaling_by_all_rows_outside_is_kept():
    X, y = load_breast_cancer(return_X_y=True, as_frame=True)
    scaled = StandardScaler().set_output(transform="pandas").fit_transform(X)
    scores = load_attributions("breast_cancer")
    outside, unlabeled = [], []
    for seed in range(5):
        rows = few(y, 1, seed)
        model = LLMAttributionRegularizedClassifier(attributions=scores)
        few_rows = scaled.iloc[rows], y.iloc[rows]
        outside.append(clone(model).fit(*few_rows).scale_)
        unlabeled.append(clone(model).fit(*few_rows, X_unlabeled=scaled).scale_)
    assert np.abs(np.log(outside)).mean() < 0.2
    np.testing.assert_allclose(unlabeled, 1, rtol=1e-6)


@quiet
def test_the_conflict_warning_names_the_columns():
    X = pd.DataFrame(np.random.default_rng(0).normal(size=(200, 3)), columns=["a", "b", "c"])
    y = (X["a"] - X["b"] > 0).astype(int)
    with pytest.warns(PriorConflictWarning, match=r"'a' \(score -9.*'b' \(score \+8"):
        LLMAttributionRegularizedClassifier(attributions={"a": -9, "b": 8, "c": 0}).fit(X, y)


def test_a_numeric_gamma_warns_where_it_is_overconfident():
    X, y, scores = toy()
    rows = few(y, 5)
    model = LLMAttributionRegularizedClassifier(attributions=scores, gamma=0.1, alpha=1e-4)
    with pytest.warns(OverconfidentWarning, match="10 rows"):
        model.fit(X[rows], y[rows])
    with warnings.catch_warnings():
        warnings.simplefilter("error", OverconfidentWarning)
        clone(model).set_params(alpha=1).fit(X[rows], y[rows])
        clone(model).set_params(gamma="auto").fit(X[rows], y[rows])
