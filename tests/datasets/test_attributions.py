import numpy as np
import pytest
import sklearn.datasets
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

from skllmreg.datasets import load_attributions

CLASSIFICATION = ["breast_cancer", "iris", "wine"]
ALL = [*CLASSIFICATION, "diabetes"]


def load_xy(name):
    return getattr(sklearn.datasets, f"load_{name}")(as_frame=True)


def estimates_by_target(name):
    attributions = load_attributions(name).to_estimates()
    return attributions if isinstance(attributions, dict) else {None: attributions}


@pytest.mark.parametrize("name", ALL)
def test_features_are_named_as_in_scikit_learn(name):
    for estimates in estimates_by_target(name).values():
        assert len(estimates) == 5
        for estimate in estimates:
            assert set(estimate) == set(load_xy(name).data.columns)


@pytest.mark.parametrize("name", ALL)
def test_scores_are_integers_within_the_scale(name):
    for estimates in estimates_by_target(name).values():
        for score in (score for estimate in estimates for score in estimate.values()):
            assert isinstance(score, int)
            assert -10 <= score <= 10


@pytest.mark.parametrize("name", CLASSIFICATION)
def test_classes_are_the_targets_of_scikit_learn(name):
    assert set(load_attributions(name).labels) <= set(load_xy(name).target)


def test_diabetes_is_a_regression_without_classes():
    assert load_attributions("diabetes").labels == [None]


@pytest.mark.parametrize("name", CLASSIFICATION)
def test_scores_rank_each_class_without_a_label(name):
    X, y = load_xy(name).data, load_xy(name).target
    scaled = StandardScaler().fit_transform(X)
    aucs = {}
    for target, estimates in estimates_by_target(name).items():
        scores = np.mean([[e[feature] for feature in X.columns] for e in estimates], axis=0)
        aucs[target] = roc_auc_score(y == target, scaled @ scores)
    # iris: versicolor lies between the other two, no direction ranks it
    assert min(auc for t, auc in aucs.items() if (name, t) != ("iris", 1)) > 0.9, aucs


@pytest.mark.parametrize("name", ALL)
def test_provenance_is_told(name):
    descr = load_attributions(name).note
    assert "large language model" in descr
    assert "may have read about it" in descr
    assert f"load_{name}" in descr


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match="'titanic'.*breast_cancer.*wine"):
        load_attributions("titanic")
