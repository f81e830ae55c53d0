import numpy as np
import pandas as pd
import pytest
from sklearn import config_context
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import make_scorer
from sklearn.model_selection import GridSearchCV, GroupKFold, StratifiedKFold, cross_val_score

from skllmreg import LLKDSelector, UnlabeledSplit

rng = np.random.default_rng(0)
X = rng.normal(size=(90, 3))
truth = (X[:, 0] > 0).astype(int)
y = np.where(np.arange(90) % 3 == 0, truth, -1)
proba = np.column_stack([1 - truth, truth]) * 0.8 + 0.1


@pytest.mark.parametrize("cv", [3, StratifiedKFold(4, shuffle=True, random_state=0)])
def test_labeled_rows_are_tested_once_and_unlabeled_ones_always_train(cv):
    splitter = UnlabeledSplit(cv)
    tested = []
    for train, test in splitter.split(X, y):
        assert set(np.flatnonzero(y == -1)) <= set(train)
        assert (y[test] != -1).all()
        assert sorted([*train, *test]) == list(range(90))
        tested += list(test)
    assert sorted(tested) == np.flatnonzero(y != -1).tolist()
    assert splitter.get_n_splits(X, y) == len(list(splitter.split(X, y)))


def test_without_unlabeled_rows_it_is_the_inner_splitter():
    inner = StratifiedKFold(3)
    for ours, theirs in zip(UnlabeledSplit(3).split(X, truth), inner.split(X, truth), strict=True):
        np.testing.assert_array_equal(ours[0], theirs[0])
        np.testing.assert_array_equal(ours[1], theirs[1])


def test_groups_stay_together():
    groups = np.arange(90) // 9
    for train, test in UnlabeledSplit(GroupKFold(5)).split(X, y, groups):
        labeled = train[y[train] != -1]
        assert not set(groups[labeled]) & set(groups[test])


def test_no_label_or_a_bad_cv_is_an_error():
    with pytest.raises(ValueError, match="nothing to test"):
        next(UnlabeledSplit().split(X, np.full(90, -1)))
    with pytest.raises(ValueError, match="splitter"):
        next(UnlabeledSplit("five").split(X, y))


def test_search_over_strategies_with_recorded_probabilities():
    search = GridSearchCV(
        LLKDSelector(LogisticRegression(), max_teacher_calls=40, random_state=0),
        {"strategy": ["distill", "random", "llkd"], "labels": ["soft", "hard"]},
        cv=UnlabeledSplit(3),
    )
    search.fit(X, y, teacher_proba=proba)
    assert search.best_score_ > 0.8
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_groups_and_probabilities_are_routed():
    with config_context(enable_metadata_routing=True):
        selector = LLKDSelector(LogisticRegression()).set_fit_request(teacher_proba=True)
        scores = cross_val_score(
            selector,
            X,
            y,
            cv=UnlabeledSplit(GroupKFold(3)),
            scoring=make_scorer(lambda a, b: (a == b).mean()),
            params={"groups": np.arange(90) // 9, "teacher_proba": proba},
        )
    assert scores.mean() > 0.8


def test_lengths_that_differ_are_an_error():
    with pytest.raises(ValueError, match="inconsistent numbers"):
        next(UnlabeledSplit(2).split(np.zeros((3, 1)), [0, 1, 0, 1]))


@pytest.mark.parametrize("dtype", ["int64", "float64", "Int64"])
def test_numbers_with_a_dtype_of_numbers_are_scored_by_any_metric(dtype):
    missing = pd.Series(y).mask(y == -1) if dtype != "int64" else pd.Series(y)
    scores = cross_val_score(
        LLKDSelector(strategy="random", random_state=0),
        X,
        missing.astype(dtype),
        cv=UnlabeledSplit(3),
        scoring="f1_macro",
        params={"teacher_proba": proba},
    )
    assert scores.mean() > 0.8
