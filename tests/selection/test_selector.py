import itertools
import pickle

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy import sparse
from sklearn import config_context
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier, VotingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from skllmreg import LLKDSelector, UnlabeledSplit
from skllmreg.exceptions import NoAnswerWarning, NoLLMWarning
from skllmreg.selection._strategies import STRATEGIES

quiet = pytest.mark.filterwarnings("ignore::skllmreg.exceptions.NoLLMWarning")


def pool(n=400, n_labeled=30, accuracy=0.8, seed=0):
    """Rows, labels with -1, true labels, and a noisy teacher's probabilities."""
    X, truth = make_classification(
        n, 6, n_informative=5, n_redundant=0, n_classes=3, random_state=seed
    )
    rng = np.random.default_rng(seed)
    wrong = rng.random(n) > accuracy
    said = np.where(wrong, (truth + rng.integers(1, 3, n)) % 3, truth)
    sure = rng.uniform(0.5, 0.9, n) - 0.2 * wrong
    proba = (np.eye(3)[said] * (1.5 * sure - 0.5)[:, None]) + ((1 - (1.5 * sure - 0.5)) / 3)[
        :, None
    ]
    y = np.where(np.arange(n) < n_labeled, truth, -1)
    return X, y, truth, proba


X, y, truth, proba = pool()


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("labels", ["soft", "hard"])
def test_every_strategy_learns_and_explains_itself(strategy, labels):
    model = LLKDSelector(LogisticRegression(), strategy=strategy, labels=labels, random_state=0)
    model.fit(X, y, teacher_proba=proba)
    plain = LogisticRegression().fit(X[:30], truth[:30]).score(X, truth)
    assert model.score(X, truth) > plain - 0.02
    n = len(model.sample_indices_)
    assert model.sample_weight_.shape == (n,)
    assert model.soft_labels_.shape == (n, 3)
    np.testing.assert_array_equal(model.sample_indices_, np.unique(model.sample_indices_))
    assert set(np.flatnonzero(y != -1)) <= set(model.sample_indices_)
    np.testing.assert_array_equal(np.flatnonzero(model.transduction_ != -1), model.sample_indices_)
    np.testing.assert_array_equal(model.labeled_iter_ == 0, y != -1)
    assert np.isfinite(model.student_uncertainty_[y == -1]).all()
    selected = [entry["selected"] for entry in model.history_]
    assert max(selected) <= n - 30 <= sum(selected)
    assert model.n_calls_saved_ == 0


@pytest.mark.parametrize("strategy", [s for s in STRATEGIES if s != "all"])
def test_the_budget_bounds_the_rows_that_are_revealed(strategy):
    model = LLKDSelector(strategy=strategy, max_teacher_calls=60, random_state=0)
    model.fit(X, y, teacher_proba=proba)
    assert model.n_teacher_calls_ == 60
    assert model.n_calls_saved_ == 370 - 60 + np.isfinite(model.teacher_proba_[:30, 0]).sum()
    assert np.isfinite(model.teacher_proba_).all(axis=1).sum() == 60
    assert model.termination_condition_ == "budget"


def test_a_student_that_is_fitted_anew_keeps_what_earlier_rounds_selected():
    one, many = (
        LLKDSelector(LogisticRegression(), strategy="llkd", n_rounds=n).fit(
            X, y, teacher_proba=proba
        )
        for n in (1, 4)
    )
    assert set(one.sample_indices_) < set(many.sample_indices_)
    taught = many.labeled_iter_[many.sample_indices_]
    weight = many.sample_weight_[taught > 0]
    assert weight.mean() == pytest.approx(1)
    assert weight[taught[taught > 0] == 1].mean() > weight[taught[taught > 0] == 4].mean()


def test_rows_beyond_the_budget_have_no_influence():
    fit = LLKDSelector(max_teacher_calls=60, random_state=0).fit
    one = fit(X, y, teacher_proba=proba)
    unseen = np.isnan(one.teacher_proba_).any(axis=1)
    two = fit(X, y, teacher_proba=np.where(unseen[:, None], 1 / 3, proba))
    np.testing.assert_array_equal(one.predict_proba(X), two.predict_proba(X))


def test_asking_stops_when_the_students_agree():
    model = LLKDSelector(max_teacher_calls=300, n_rounds=20, tol=0.5, random_state=0)
    model.fit(X, y, teacher_proba=proba)
    assert model.termination_condition_ == "stable"
    assert model.n_teacher_calls_ < 300


def test_all_with_a_budget_is_an_error():
    with pytest.raises(ValueError, match='strategy="random"'):
        LLKDSelector(strategy="all", max_teacher_calls=60).fit(X, y, teacher_proba=proba)


@quiet
def test_with_true_labels_only_it_is_the_plain_student():
    plain = LogisticRegression().fit(X, truth)
    for params in ({}, {"teacher_proba": proba}):
        model = LLKDSelector(LogisticRegression()).fit(X, truth, **params)
        np.testing.assert_array_equal(model.predict_proba(X), plain.predict_proba(X))
        assert model.n_teacher_calls_ == 0
        assert model.termination_condition_ == "all_labeled"


def test_second_opinion_corrects_the_teacher():
    model = LLKDSelector(LogisticRegression(), random_state=0).fit(X, y, teacher_proba=proba)
    used = model.sample_indices_
    before = (proba.argmax(axis=1) == truth)[used].mean()
    assert (model.transduction_ == truth)[used].mean() > before


def test_fit_resample_returns_each_row_once_in_order_with_hard_labels():
    frame = pd.DataFrame(X, index=np.arange(len(X)) + 1000)
    model = LLKDSelector(strategy="llkd", random_state=0)
    X_new, y_new = model.fit_resample(frame, y, teacher_proba=proba)
    assert X_new.index.is_monotonic_increasing
    assert X_new.index.is_unique
    np.testing.assert_array_equal(X_new.index - 1000, model.sample_indices_)
    assert set(y_new) <= {0, 1, 2}
    np.testing.assert_array_equal(y_new[y[model.sample_indices_] != -1], truth[:30])


def test_minus_one_and_one_are_classes_without_a_teacher_only():
    coding = np.where(truth == 0, -1, 1)
    with pytest.warns(NoLLMWarning):
        assert LLKDSelector().fit(X, coding).classes_.tolist() == [-1, 1]
    with pytest.raises(ValueError, match="classes"):
        LLKDSelector().fit(X, coding, teacher_proba=proba)


@pytest.mark.parametrize(
    "labels",
    [
        pd.Series(y, dtype="Int64").mask(y == -1),
        pl.Series(y).set(pl.Series(y == -1), None),
        np.where(y == -1, None, y),
        np.where(y == -1, None, y).tolist(),
    ],
)
def test_integers_beside_missing_ones_stay_integers_and_are_scored(labels):
    model = LLKDSelector(strategy="random", random_state=0)
    assert model.fit(X, labels, teacher_proba=proba).classes_.dtype.kind == "i"
    search = GridSearchCV(model, {"labels": ["soft"]}, cv=UnlabeledSplit(2))
    assert search.fit(X, labels, teacher_proba=proba).best_score_ > 0.5


@pytest.mark.parametrize("missing", [float("nan"), None, -1, pd.NA])
def test_what_is_missing_in_a_list_of_names_is_no_class(missing):
    names = [missing if k == -1 else "abc"[k] for k in y]
    frame = pd.DataFrame(proba, columns=list("abc"))
    model = LLKDSelector(random_state=0).fit(X, names, teacher_proba=frame)
    assert model.classes_.tolist() == ["a", "b", "c"]
    assert model.n_teacher_calls_ == 400  # 30 of them for calibration


@pytest.mark.parametrize("missing", ["nan", "-1"])
def test_what_numpy_made_a_string_is_an_error(missing):
    with pytest.raises(ValueError, match=f"'{missing}': .* dtype=object"):
        LLKDSelector().fit(X, np.where(y == -1, missing, "a"), teacher_proba=proba)


def test_before_fit_it_has_the_methods_of_its_student():
    assert hasattr(LLKDSelector(), "predict_proba")
    assert not hasattr(LLKDSelector(LinearSVC()), "predict_proba")
    with pytest.raises(NotFittedError):
        LLKDSelector().predict(X)


class Expensive(GaussianNB):
    def predict_proba(self, X):
        raise AssertionError("The teacher was asked.")


@pytest.mark.parametrize(
    ("student", "params", "match"),
    [
        (LinearSVC(), {"labels": "hard"}, "no predict_proba"),
        (KNeighborsClassifier(), {}, "no sample_weight"),
        (KNeighborsClassifier(), {"strategy": "teacher", "labels": "hard"}, "weighting=None"),
        (KNeighborsClassifier(), {"strategy": "student", "labels": "hard"}, "several rounds"),
        (make_pipeline(StandardScaler(), KNeighborsClassifier()), {}, "no sample_weight"),
        (None, {"strategy": "all", "max_teacher_calls": 5, "calibration": "bias"}, "all 370"),
    ],
)
def test_what_is_bound_to_fail_fails_before_the_teacher_is_paid(student, params, match):
    teacher = FrozenEstimator(Expensive().fit(X, truth))
    with pytest.raises((TypeError, ValueError), match=match):
        LLKDSelector(student, teacher=teacher, **params).fit(X, y)


def test_weights_reach_a_student_inside_a_meta_estimator():
    student = GridSearchCV(LogisticRegression(), {"C": [1.0]}, cv=2)
    model = LLKDSelector(student, strategy="all").fit(X, y, teacher_proba=proba)
    assert model.score(X, truth) > 0.6


def test_with_metadata_routing_a_pipeline_is_taught_as_without():
    student = make_pipeline(StandardScaler(), LogisticRegression())
    model = LLKDSelector(student, random_state=0)
    expected = model.fit(X, y, teacher_proba=proba).predict_proba(X)
    with config_context(enable_metadata_routing=True):
        found = model.fit(X, y, teacher_proba=proba).predict_proba(X)
    np.testing.assert_array_equal(found, expected)


def test_weights_are_routed_through_meta_estimators():
    with config_context(enable_metadata_routing=True):
        for part in (
            LogisticRegression(),
            LogisticRegression().set_fit_request(sample_weight=True),
        ):
            student = CalibratedClassifierCV(part, cv=2)
            model = LLKDSelector(student, strategy="all").fit(X, y, teacher_proba=proba)
            assert model.score(X, truth) > 0.6


def test_answers_of_one_class_are_no_lesson_but_the_next_round_may_be():
    rare = np.arange(400) % 100 == 0
    sure = np.where(rare[:, None], [0.03, 0.97], [0.97, 0.03])
    for seed in range(3):
        model = LLKDSelector(max_teacher_calls=300, random_state=seed)
        model.fit(X, teacher_proba=sure, classes=[0, 1])
        assert set(model.transduction_) == {-1, 0, 1}
    with pytest.raises(ValueError, match="of one class: ask about more"):
        LLKDSelector(max_teacher_calls=2, random_state=0).fit(X, teacher_proba=sure, classes=[0, 1])


def test_a_teacher_of_one_class_is_an_error():
    with pytest.raises(ValueError, match="a single class"):
        LLKDSelector(max_teacher_calls=9).fit(X, teacher_proba=np.ones((400, 1)), classes=[0])


def test_a_class_that_is_called_minus_one_is_an_error():
    with pytest.raises(ValueError, match="other names"):
        LLKDSelector().fit(
            X, np.where(y == 1, 1, None), teacher_proba=proba[:, :2], classes=[-1, 1]
        )


def test_arguments_without_use_are_errors():
    with pytest.raises(ValueError, match="not both"):
        LLKDSelector(teacher=GaussianNB()).fit(X, y, teacher_proba=proba)
    with pytest.raises(ValueError, match="a row for each"):
        LLKDSelector().fit(X, truth, teacher_proba=proba[:9])
    with pytest.raises(ValueError, match="not passed"):
        LLKDSelector(teacher=GaussianNB()).fit(X, y, classes=[0, 1, 2])


@quiet
def test_unlabeled_rows_without_a_teacher_are_an_error_that_names_one():
    with pytest.raises(ValueError, match="Row 30 of y has no label, the first of 370 rows"):
        LLKDSelector().fit(X, y)


def test_a_frozen_teacher_equals_its_recorded_probabilities():
    teacher = GaussianNB().fit(X, truth)
    frozen = LLKDSelector(teacher=FrozenEstimator(teacher), random_state=0).fit(X, y)
    recorded = LLKDSelector(random_state=0).fit(X, y, teacher_proba=teacher.predict_proba(X))
    np.testing.assert_allclose(frozen.predict_proba(X), recorded.predict_proba(X))


def test_an_unfitted_teacher_is_fitted_on_the_labeled_rows_and_cloned():
    teacher = KNeighborsClassifier(3)
    model = LLKDSelector(teacher=teacher, strategy="all").fit(X, y)
    assert not hasattr(teacher, "classes_")
    expected = KNeighborsClassifier(3).fit(X[:30], truth[:30]).predict_proba(X[30:])
    np.testing.assert_array_equal(model.teacher_proba_[30:], expected)


def test_no_label_at_all_needs_a_fitted_teacher():
    with pytest.raises(ValueError, match="FrozenEstimator"):
        LLKDSelector(teacher=GaussianNB()).fit(X)
    teacher = FrozenEstimator(GaussianNB().fit(X, truth))
    assert LLKDSelector(teacher=teacher, random_state=0).fit(X).score(X, truth) > 0.6


def test_columns_of_a_frame_and_classes_name_the_columns():
    names = np.array(["c", "a", "b"])  # of the codes 0, 1, 2
    named = np.where(y == -1, None, names[y])
    frame = pd.DataFrame(proba, columns=names)
    one = LLKDSelector(random_state=0).fit(X, named, teacher_proba=frame)
    two = LLKDSelector(random_state=0).fit(X, named, teacher_proba=proba, classes=names)
    three = LLKDSelector(random_state=0).fit(X, named, teacher_proba=pl.DataFrame(frame))
    assert one.classes_.tolist() == ["a", "b", "c"]
    np.testing.assert_allclose(one.teacher_proba_[50], proba[50][[1, 2, 0]])
    for other in (two, three):
        np.testing.assert_array_equal(one.predict(X), other.predict(X))
    assert one.transduction_[np.isnan(one.teacher_proba_).any(axis=1)].tolist() == []


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"teacher_proba": proba[:, :2]}, "2 columns"),
        ({"teacher_proba": proba[:50]}, "a row for each of the 400"),
        ({"teacher_proba": proba, "classes": [0, 1, 5]}, "does not know"),
        ({"teacher_proba": proba, "classes": [0, 1, 1]}, "3 columns"),
        ({"teacher_proba": proba, "classes": 3}, "a class for each column"),
        ({"teacher_proba": pd.DataFrame(proba).assign(name="x")}, "is not a number: .*'x'"),
        ({"teacher_proba": pd.DataFrame(proba), "classes": [0, 1, 5]}, "columns"),
        (
            {"teacher_proba": np.where(np.arange(400)[:, None] == 99, [0, 1, np.nan], proba)},
            "row 99",
        ),
        ({"teacher_proba": np.where(np.arange(400)[:, None] == 99, 2.0, proba)}, "sum to 6"),
    ],
)
def test_wrong_probabilities_are_named(wrong, match):
    with pytest.raises(ValueError, match=match):
        LLKDSelector(strategy="all").fit(X, y, **wrong)


class Oracle(ClassifierMixin, BaseEstimator):
    """A teacher that has a table of its answers about X; `shape` may spoil them."""

    def __init__(self, table, shape=np.asarray):
        self.table, self.shape = table, shape

    def fit(self, X=None, y=None):
        self.classes_, self.asked_ = np.arange(3), []
        return self

    def predict_proba(self, asked):
        rows = [np.flatnonzero((X == row).all(axis=1))[0] for row in asked]
        self.asked_ += rows
        return self.shape(self.table[rows])


SILENT = np.where(np.arange(400)[:, None] % 10 == 9, np.nan, proba)


@pytest.mark.parametrize("strategy", ["all", "distill", "llkd"])
@pytest.mark.parametrize("live", [True, False])
def test_rows_without_an_answer_are_not_learned_from(strategy, live):
    pool, silent = y == -1, np.isnan(SILENT[:, 0])
    model = LLKDSelector(strategy=strategy, random_state=0)
    if live:  # and they are paid for
        model.set_params(teacher=FrozenEstimator(Oracle(SILENT).fit()))
        with pytest.warns(NoAnswerWarning, match="of (370|400) rows; the first is row 3?9"):
            model.fit(X, y)
        assert model.n_teacher_calls_ == 370 + 30 * (strategy == "distill")
    else:
        model.fit(X, y, teacher_proba=SILENT)
        n_honest = np.sum(~pool & ~silent) * (strategy == "distill")
        assert model.n_teacher_calls_ == np.sum(pool & ~silent) + n_honest
    assert model.n_calls_saved_ == 0
    assert model.termination_condition_ == "all_labeled"
    assert not silent[np.setdiff1d(model.sample_indices_, np.flatnonzero(~pool))].any()
    assert np.isnan(model.teacher_proba_[silent]).all()


def test_a_recorded_fit_spends_its_budget_on_rows_with_an_answer_and_comes_out_the_same():
    params = {"max_teacher_calls": 100, "random_state": 0, "tol": 0}
    model = LLKDSelector(teacher=FrozenEstimator(Oracle(proba).fit()), **params).fit(X, y)
    assert model.n_teacher_calls_ == 100
    again = LLKDSelector(**params).fit(X, y, teacher_proba=model.teacher_proba_)
    assert again.n_teacher_calls_ == 100
    np.testing.assert_array_equal(again.sample_indices_, model.sample_indices_)


@pytest.mark.parametrize(
    "shape",
    [
        lambda found: found[:, :2],
        lambda found: np.ones((len(found), 1)),
        lambda found: found[1:],
        lambda found: found[:, 0],
    ],
)
def test_a_live_teachers_table_has_to_have_the_right_shape(shape):
    teacher = FrozenEstimator(Oracle(proba, shape).fit())
    with pytest.raises(ValueError, match="teacher's predict_proba gave the shape"):
        LLKDSelector(teacher=teacher, max_teacher_calls=20).fit(X, y)


def test_a_live_teachers_frame_is_read_by_its_columns():
    def shuffled(found):
        return pd.DataFrame(found, columns=range(3))[[2, 0, 1]]

    models = [
        LLKDSelector(teacher=FrozenEstimator(Oracle(proba, shape).fit()), random_state=0).fit(X, y)
        for shape in (np.asarray, shuffled)
    ]
    np.testing.assert_array_equal(models[0].teacher_proba_, models[1].teacher_proba_)


def test_nullable_probabilities_and_labels_as_a_column_pass():
    table = pd.DataFrame(SILENT).astype("Float64")
    model = LLKDSelector(random_state=0)
    _, labels = model.fit_resample(X, pd.DataFrame({"y": y}), teacher_proba=table)
    assert labels.columns.tolist() == ["y"]


def test_a_teacher_is_not_forgotten_where_an_ensemble_made_a_class_of_minus_one():
    teacher = FrozenEstimator(Oracle(proba).fit())
    with (
        pytest.warns(NoLLMWarning, match="of -1 make a class"),
        pytest.raises(ValueError, match="does not know.*of -1 for no label make a class"),
    ):
        LLKDSelector(teacher=teacher).fit(X, y + 1)


def test_asking_goes_on_while_the_student_predicts_one_class():
    rng = np.random.default_rng(0)
    rare = rng.random(4000) < 0.03
    rows = rng.normal(size=(4000, 20)) + 2 * np.outer(rare, np.arange(20) == 0)
    table = np.where(rare[:, None] == np.arange(2), 0.95, 0.05)
    model = LLKDSelector(max_teacher_calls=300, random_state=0)
    model.fit(rows, teacher_proba=table, classes=[0, 1])
    for before, after in itertools.pairwise(entry["predicted"] for entry in model.history_[:-1]):
        assert before.any() or after.any() or model.termination_condition_ == "budget"
    assert model.termination_condition_ == "budget"


@pytest.mark.parametrize("student", [SGDClassifier(loss="log_loss"), LogisticRegression()])
def test_class_weights_balance_soft_labels(student):
    rng = np.random.default_rng(0)
    rare = rng.random(3000) < 0.1
    rows = rng.normal(size=(3000, 5)) + 1.5 * np.outer(rare, np.arange(5) == 0)
    table = np.where(rare[:, None] == np.arange(2), 0.9, 0.1)

    def recall(class_weight):
        student.set_params(class_weight=class_weight)
        model = LLKDSelector(student, strategy="random", max_teacher_calls=1000, random_state=0)
        model.fit(rows, teacher_proba=table, classes=[0, 1])
        return model.predict(rows[rare]).mean()

    assert recall("balanced") > recall(None) + 0.2


def test_a_students_decisions_are_over_all_classes():
    table = np.column_stack([np.full((400, 2), 0.0025), proba * 0.99, np.full(400, 0.005)])
    model = LLKDSelector(random_state=0).fit(X, y=None, teacher_proba=table, classes=range(6))
    assert model.decision_function(X).shape == (400, 6)
    np.testing.assert_array_equal(
        model.decision_function(X).argmax(axis=1), model.predict_proba(X).argmax(axis=1)
    )


def test_one_random_state_makes_a_fit_with_any_student_repeatable():
    a, b = (
        LLKDSelector(RandomForestClassifier(5), max_teacher_calls=60, random_state=0).fit(
            X, y, teacher_proba=proba
        )
        for _ in "ab"
    )
    np.testing.assert_array_equal(a.sample_indices_, b.sample_indices_)
    np.testing.assert_array_equal(a.predict_proba(X), b.predict_proba(X))


def test_what_is_frozen_within_a_teacher_is_not_seeded():
    forest = FrozenEstimator(RandomForestClassifier(5).fit(X, truth))
    teacher = VotingClassifier([("f", forest), ("g", GaussianNB())], voting="soft")
    model = LLKDSelector(teacher=teacher, random_state=0).fit(X, y)
    assert model.n_teacher_calls_ == 370


@pytest.mark.parametrize(
    "student",
    [VotingClassifier([("k", KNeighborsClassifier())], voting="soft")],
)
def test_a_student_that_takes_no_weights_is_found_out_before_a_teacher_is_paid(student):
    teacher = FrozenEstimator(Oracle(proba).fit())
    with pytest.raises(ValueError, match="cannot be fitted.*sample weights"):
        LLKDSelector(student, teacher=teacher).fit(X, y)
    assert not teacher.estimator.asked_


@pytest.mark.parametrize("params", [{}, {"max_teacher_calls": 20}])
def test_a_teacher_without_any_answer_is_an_error(params):
    table = np.full_like(proba, np.nan)
    with pytest.raises(ValueError, match="teacher_proba holds no answer"):
        LLKDSelector(**params).fit(X, y, teacher_proba=table)
    silent = FrozenEstimator(Oracle(table).fit())
    with pytest.raises(ValueError, match="answered none of the"):
        LLKDSelector(teacher=silent, **params).fit(X, y)


@pytest.mark.parametrize("fitted_on", ["texts", "table"])
@pytest.mark.parametrize(
    ("X_new", "match"),
    [([], "0 sample"), (pd.Series([], dtype=object), "0 sample"), ("abc", "sequence of texts")],
)
def test_no_row_and_a_single_text_are_refused_as_such(fitted_on, X_new, match):
    rows = ["good", "bad", "fine", "awful"] if fitted_on == "texts" else X[:4]
    model = LLKDSelector().fit(rows, [1, 0, 1, 0], teacher_proba=np.eye(2)[[1, 0, 1, 0]])
    with pytest.raises(ValueError, match=match):
        model.predict(X_new)


@pytest.mark.parametrize(("spare", "calls"), [(0, 370), (5, 375), (100, 393)])
def test_all_rows_are_asked_about_and_what_is_left_calibrates(spare, calls):
    model = LLKDSelector(strategy="all", calibration="bias", max_teacher_calls=370 + spare)
    model.fit(X, y, teacher_proba=proba)
    assert model.n_calls_saved_ == 0
    assert model.n_teacher_calls_ == calls


def test_a_table_of_two_digits_will_do():
    model = LLKDSelector(random_state=0).fit(
        X, y, teacher_proba=np.tile([0.09, 0.36, 0.54], (400, 1))
    )
    np.testing.assert_allclose(model.teacher_proba_[50].sum(), 1)


def test_two_teachers_are_an_error():
    with pytest.raises(ValueError, match="not both"):
        LLKDSelector(teacher=GaussianNB()).fit(X, y, teacher_proba=proba)


def test_students_without_sample_weight_learn_hard_labels():
    with pytest.raises(ValueError, match='labels="hard"'):
        LLKDSelector(KNeighborsClassifier()).fit(X, y, teacher_proba=proba)
    student = LLKDSelector(KNeighborsClassifier(), labels="hard", random_state=0)
    for params in (
        {"strategy": "random"},
        {"strategy": "teacher", "weighting": None},
        {"strategy": "student", "max_teacher_calls": 60},
        {"strategy": "llkd", "n_rounds": 1, "weighting": None},
    ):
        model = clone(student).set_params(**params).fit(X, y, teacher_proba=proba)
        assert model.score(X, truth) > 0.6


def test_soft_labels_minimize_the_cross_entropy():
    model = LLKDSelector(LogisticRegression(C=1e6, max_iter=1000), strategy="all")
    model.fit(X, y, teacher_proba=proba)
    residual = model.predict_proba(X) - np.where((y == -1)[:, None], proba, np.eye(3)[truth])
    np.testing.assert_allclose(X.T @ residual / len(X), 0, atol=2e-3)


def test_a_teacher_that_knows_nothing_teaches_nothing():
    rng = np.random.default_rng(0)
    nothing = np.full((400, 40), 1 / 40) + 1e-4 * rng.random((400, 40))
    model = LLKDSelector(strategy="all").fit(X, teacher_proba=nothing, classes=np.arange(40))
    assert model.predict_proba(X).max() < 0.03


def test_pipelines_sparse_rows_and_raw_text_are_taken():
    texts = np.array([f"word{k} and {'more ' * (i % 3)}of word{k}" for i, k in enumerate(truth)])
    text_student = make_pipeline(TfidfVectorizer(), SGDClassifier(loss="log_loss", random_state=0))
    model = LLKDSelector(text_student, random_state=0).fit(texts.tolist(), y, teacher_proba=proba)
    assert model.score(texts, truth) > 0.95
    scaled = make_pipeline(StandardScaler(), LogisticRegression())
    assert LLKDSelector(scaled).fit(X, y, teacher_proba=proba).n_features_in_ == 6
    one = LLKDSelector(random_state=0).fit(sparse.csr_array(X), y, teacher_proba=proba)
    two = LLKDSelector(random_state=0).fit(X, y, teacher_proba=proba)
    np.testing.assert_allclose(one.predict_proba(X), two.predict_proba(X), atol=1e-3)


@pytest.mark.parametrize("row", [0, 1])
def test_a_text_that_is_none_is_named(row):
    texts = ["a", "b", "c"]
    texts[row] = None
    with pytest.raises(ValueError, match=f"Row {row} of X is None"):
        LLKDSelector(strategy="all").fit(texts, [0, 1, -1], teacher_proba=proba[:3, :2])


def test_rows_are_resampled_from_any_sparse_format():
    model = LLKDSelector(max_teacher_calls=40, random_state=0)
    X_new, y_new = model.fit_resample(sparse.coo_matrix(X), y, teacher_proba=proba)
    assert X_new.shape[0] == len(y_new)
    words = pd.Series([f"word{k}" for k in truth])
    assert isinstance(model.fit_resample(words, y, teacher_proba=proba)[0], pd.Series)


@pytest.mark.parametrize("strategy", ["llkd", "student", "teacher"])
@pytest.mark.parametrize("n_labeled", [0, 1])
def test_no_label_is_needed(strategy, n_labeled):
    few = np.where(np.arange(400) < n_labeled, truth, -1)
    model = LLKDSelector(LogisticRegression(), strategy=strategy)
    model.fit(X, few, teacher_proba=proba, classes=[0, 1, 2])
    assert model.score(X, truth) > 0.6


def test_fitted_model_pickles_and_clones():
    model = LLKDSelector(random_state=0, max_teacher_calls=50).fit(X, y, teacher_proba=proba)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict(X), model.predict(X))
    assert clone(model).max_teacher_calls == 50


@pytest.mark.parametrize("as_", [pd.DataFrame, lambda X: pl.DataFrame(X, schema=list("abcdef"))])
def test_data_frames_reach_the_student_as_they_are(as_):
    class Spy(LogisticRegression):
        def fit(self, X, y, sample_weight=None):
            self.kind_ = type(X)
            return super().fit(np.asarray(X), y, sample_weight)

        def predict_proba(self, X):
            return super().predict_proba(np.asarray(X))

    frame = as_(X)
    model = LLKDSelector(Spy(), random_state=0).fit(frame, y, teacher_proba=proba)
    assert model.estimator_.kind_ is type(frame)
    assert model.n_features_in_ == 6
    assert isinstance(model.fit_resample(frame, y, teacher_proba=proba)[0], type(frame))


class Counting(LogisticRegression):
    """A teacher that counts the rows that it is asked about."""

    asked: list = []

    def fit(self, X, y):
        self.asked.clear()
        self.classes_ = np.unique(y)
        return self

    def predict_proba(self, X):
        self.asked.extend(range(len(X)))
        return np.tile([0.3, 0.7], (len(X), 1))


TABLE = pd.DataFrame(np.random.default_rng(0).normal(size=(30, 2)), columns=["a", "b"])


@pytest.mark.parametrize(
    ("X", "student", "message"),
    [
        (TABLE.assign(sex="m"), None, "Column 'sex' holds 'm': give a pipeline"),
        (TABLE.assign(a=TABLE["a"].where(TABLE.index != 17)), None, "Input X contains NaN"),
        (pd.DataFrame({"t": ["some text"] * 30}), None, r"or pass X\['t'\] alone"),
        (["some text"] * 30, LogisticRegression(), "could not convert string"),
    ],
)
@pytest.mark.parametrize("max_teacher_calls", [None, 10])
def test_a_student_that_cannot_take_x_is_found_out_before_anything_is_asked(
    X, student, message, max_teacher_calls
):
    y = [0, 1] + [-1] * 28
    model = LLKDSelector(student, teacher=Counting(), max_teacher_calls=max_teacher_calls)
    with pytest.raises(ValueError, match=rf"(?s)the teacher was not asked.*{message}"):
        model.fit(X, y)
    assert not Counting.asked


@pytest.mark.slow
def test_a_student_that_needs_many_rows_is_rehearsed_with_all():
    X = np.arange(400.0)[:, None]
    student = CalibratedClassifierCV(LogisticRegression(), cv=40)
    y = np.where(np.arange(400) < 100, np.arange(400) % 2, -1)
    assert LLKDSelector(student, teacher=Counting()).fit(X, y).n_teacher_calls_ == 300


@pytest.mark.parametrize("kind", [pd.Series, pl.Series])
def test_resampled_labels_are_a_series_where_y_is_one(kind):
    y = kind([0, 1] * 5 + [-1] * 20)
    X, labels = LLKDSelector(teacher=Counting()).fit_resample(TABLE, y)
    assert isinstance(labels, kind)
    assert len(labels) == len(X) == 30
    assert set(labels.to_list()) == {0, 1}


def test_a_frame_lists_what_was_asked_and_what_became_of_it():
    model = LLKDSelector(max_teacher_calls=60, random_state=0).fit(X, y, teacher_proba=proba)
    frame = model.to_frame()
    assert len(frame) == 60
    np.testing.assert_allclose(frame.filter(like="proba_"), model.teacher_proba_[frame.index])
    np.testing.assert_array_equal(frame["label"], proba[frame.index].argmax(axis=1))
    assert set(frame["source"]) == {"recorded"}
    # Labeled rows are asked about for the calibration, and learned from for their label.
    np.testing.assert_array_equal(frame["round"] == 0, frame.index < 30)
    assert frame["used"].all()
    found = model.summary()
    assert (found["rows"], found["calls"], found["recorded"], found["failures"]) == (400, 60, 60, 0)
    assert found["seconds"] > 0
