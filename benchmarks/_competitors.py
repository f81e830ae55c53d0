"""The models of the few-shot benchmark, ours and the others, cheap ones first.

Each is made from a `Cell`: what is known before any label is seen. Settings are the defaults of
each package except where defaults cannot work on few rows; the comments say which and why.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from skllmreg import LLMAttributionRegularizedClassifier


@dataclass(frozen=True)
class Cell:
    estimates: np.ndarray  # (n_estimates, n_features)
    rows_per_class: int
    seed: int

    @property
    def n_features(self):
        return self.estimates.shape[1]

    def min_leaf(self):
        """Default of 20 rows in a leaf, lowered where it would allow no split at all."""
        return max(1, min(20, self.rows_per_class // 5))


@dataclass(frozen=True)
class Model:
    label: str
    make: Callable[[Cell], ClassifierMixin]
    from_rows_per_class: int = 1


class ZeroShot(ClassifierMixin, BaseEstimator):
    """Scores as coefficients of scaled features; labels are not used."""

    def __init__(self, coef, scaler):
        self.coef = coef
        self.scaler = scaler

    def fit(self, X, y):
        self.classes_ = np.array([0, 1])
        self.scaler_ = self.scaler.fit(X)
        return self

    def decision_function(self, X):
        return self.scaler_.transform(X) @ self.coef


def zero_shot_raw(cell):
    return ZeroShot(cell.estimates.mean(axis=0), StandardScaler())


def zero_shot_exp(cell):
    scores = cell.estimates.mean(axis=0)
    return ZeroShot(np.sign(scores) * np.exp(np.abs(scores)), MinMaxScaler())


def paper(cell):
    return make_pipeline(
        MinMaxScaler(),
        LLMAttributionRegularizedClassifier(
            attributions=cell.estimates,
            gamma=200 / cell.n_features,
            score_transform="exp",
            standardize=False,
        ),
    )


def published(cell):
    from _published import PublishedLoop

    return PublishedLoop(cell.estimates, seed=cell.seed)


def ours(cell):
    return LLMAttributionRegularizedClassifier(attributions=cell.estimates)


def ours_negated(cell):
    return LLMAttributionRegularizedClassifier(attributions=-cell.estimates)


def ours_shuffled(cell):
    order = np.random.default_rng(cell.seed).permutation(cell.n_features)
    return LLMAttributionRegularizedClassifier(attributions=cell.estimates[:, order])


def logistic(cell):
    return make_pipeline(StandardScaler(), LogisticRegression(C=1.0, max_iter=1000))


def logistic_cv(cell):
    return make_pipeline(
        StandardScaler(),
        LogisticRegressionCV(
            cv=min(5, cell.rows_per_class),
            scoring="neg_log_loss",
            max_iter=1000,
            l1_ratios=(0,),
            use_legacy_attributes=False,
        ),
    )


def forest(cell):
    return RandomForestClassifier(200, random_state=cell.seed)


def hist_gradient_boosting(cell):
    return HistGradientBoostingClassifier(min_samples_leaf=cell.min_leaf(), random_state=cell.seed)


def xgboost(cell):
    from xgboost import XGBClassifier

    # min_child_weight counts curvature, at most 1/4 a row.
    weight = min(1.0, cell.min_leaf() / 4)
    return XGBClassifier(min_child_weight=weight, n_jobs=1, random_state=cell.seed)


def lightgbm(cell):
    from lightgbm import LGBMClassifier

    return LGBMClassifier(
        min_child_samples=cell.min_leaf(), n_jobs=1, random_state=cell.seed, verbose=-1
    )


def catboost(cell):
    from catboost import CatBoostClassifier

    # 1,000 by default; its learning rate adapts to the number.
    return CatBoostClassifier(
        iterations=300, thread_count=1, random_seed=cell.seed, verbose=0, allow_writing_files=False
    )


def mlp(cell):
    return make_pipeline(StandardScaler(), MLPClassifier(max_iter=500, random_state=cell.seed))


def tabpfn(cell):
    from tabpfn import TabPFNClassifier

    return TabPFNClassifier(device="cpu", random_state=cell.seed)


OURS = "ours"
MODELS = {
    OURS: Model("ours (auto)", ours),
    "zero_shot_raw": Model("zero-shot, raw scores", zero_shot_raw),
    "zero_shot_exp": Model("zero-shot, exp scores", zero_shot_exp),
    "paper": Model("paper setting", paper),
    "logistic": Model("LogisticRegression(C=1)", logistic),
    "logistic_cv": Model("LogisticRegressionCV", logistic_cv, from_rows_per_class=2),
    "ours_negated": Model("ours, scores negated", ours_negated),
    "ours_shuffled": Model("ours, scores shuffled", ours_shuffled),
    "published": Model("published loop (Adam)", published),
    "mlp": Model("MLP", mlp),
    "xgboost": Model("XGBoost", xgboost),
    "lightgbm": Model("LightGBM", lightgbm),
    "forest": Model("RandomForest", forest),
    "hist_gb": Model("HistGradientBoosting", hist_gradient_boosting),
    "catboost": Model("CatBoost (300 iterations)", catboost),
    "tabpfn": Model("TabPFN", tabpfn),
}
QUICK = (OURS, "zero_shot_raw", "zero_shot_exp", "paper", "logistic", "logistic_cv", "forest")
NOT_RUN = {
    "AutoElicit": "its package (autoelicit 0.1.15) asks a live LLM for a mean and a standard "
    "deviation of each coefficient, a hundred times; the recorded scores are another question, so "
    "it cannot be run on them."
}


def why_not(model):
    """None if the model can be made and fitted here, else the reason in one line."""
    cell = Cell(np.ones((1, 2)), 4, 0)
    X, y = np.random.default_rng(0).normal(size=(8, 2)), np.repeat([0, 1], 4)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.make(cell).fit(X, y)
    except ImportError as error:
        return f"not installed ({error})"
    except Exception as error:  # a download of weights fails in many ways; the reason is shown
        return f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
    return None
