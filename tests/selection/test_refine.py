import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax
from sklearn.datasets import make_classification
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.neighbors import KNeighborsClassifier

from skllmreg import LLKDSelector
from skllmreg.selection._problem import TrainingProblem
from skllmreg.selection._refine import (
    OPINIONS,
    Trials,
    Weights,
    balanced,
    choose_opinion,
    random_folds,
    recall_by_row,
    second_opinion,
    tunable,
)
from skllmreg.students._calibration import Correction, calibrate_teacher, choose_correction

NOBODY = np.empty((0, 3))


@pytest.mark.parametrize("b", OPINIONS)
def test_what_teacher_and_student_agree_on_is_not_flipped_by_the_frequencies(b):
    # Among these rows the first class has a share of .9, so that Bayes' rule would flip the last.
    agreed = np.array([[0.93, 0.07]] * 99 + [[0.6, 0.4]])
    assert (second_opinion(agreed, agreed, b).argmax(axis=1) == 0).all()


@given(
    st.lists(st.floats(-5, 5), min_size=3, max_size=3),
    st.lists(st.floats(-5, 5), min_size=3, max_size=3),
    st.sampled_from(OPINIONS),
)
def test_a_class_that_both_prefer_is_preferred(t, s, b):
    t, s = softmax([t], axis=1), softmax([s], axis=1)
    combined = second_opinion(t, s, b)
    assert combined.sum() == pytest.approx(1)
    if t.argmax() == s.argmax():
        assert combined[0, t.argmax()] == pytest.approx(combined.max())


def opinions(n, accuracy, seed=0):
    """True classes, a teacher and a student that err independently of each other."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 3, n)

    def witness(sure):
        wrong = rng.random(n) > accuracy
        said = np.where(wrong, (truth + rng.integers(1, 3, n)) % 3, truth)
        return sure * np.eye(3)[said] + (1 - sure) / 3

    return truth, witness(0.6), witness(0.6)


def test_an_independent_student_gets_a_say_and_a_copy_of_the_teacher_gets_none():
    truth, teacher, student = opinions(60, 0.75)
    assert choose_opinion(teacher, student, truth) > 0
    # A calibrated teacher, and a student that has learned its answers by heart.
    calibrated = 0.625 * np.eye(3)[teacher.argmax(axis=1)] + 0.125
    assert choose_opinion(calibrated, calibrated, truth) == 0


@pytest.mark.parametrize("seed", range(5))
def test_a_student_that_guesses_gets_no_say(seed):
    truth, teacher, _ = opinions(60, 0.75, seed)
    noise = np.random.default_rng(seed).dirichlet([1, 1, 1], 60)
    assert choose_opinion(teacher, noise, truth) == 0


def test_a_few_labeled_rows_change_nothing():
    truth, teacher, student = opinions(9, 0.9)
    assert choose_opinion(teacher, student, truth) == 0
    assert choose_correction(np.roll(teacher, 1, axis=1), truth, NOBODY) is None


def test_biases_are_corrected_where_labels_speak_for_it():
    rng = np.random.default_rng(0)
    truth = np.arange(24) % 3
    good = softmax(2 * np.eye(3)[truth] + rng.normal(size=(24, 3)), axis=1)
    stuck = softmax(np.log(good) + [4.0, 0, 0], axis=1)
    assert not getattr(choose_correction(good, truth, NOBODY), "bias_sd", 0)
    assert choose_correction(stuck, truth, NOBODY) == Correction(2.0)
    calibrated = calibrate_teacher(stuck, truth, NOBODY)(stuck)
    assert (
        np.mean(calibrated.argmax(axis=1) == truth) > np.mean(stuck.argmax(axis=1) == truth) + 0.2
    )


def test_class_frequencies_of_labeled_rows_are_not_those_of_all_rows():
    # Few rows of the last class; the labeled ones were drawn class by class.
    rng = np.random.default_rng(0)
    truth = rng.choice(3, size=2000, p=[0.6, 0.35, 0.05])
    proba = softmax(2 * np.eye(3)[truth] + rng.normal(size=(2000, 3)) + [1.5, 0, 0], axis=1)
    few = np.concatenate([np.flatnonzero(truth == k)[:20] for k in range(3)])
    rest = np.setdiff1d(np.arange(2000), few)
    plain = calibrate_teacher(proba[few], truth[few], NOBODY)
    aware = calibrate_teacher(proba[few], truth[few], proba[rest])
    wrong = [c(proba[rest]).mean(axis=0)[2] - np.mean(truth[rest] == 2) for c in (plain, aware)]
    assert abs(wrong[1]) < 0.02 < wrong[0]


X, TRUTH = make_classification(
    400, 20, n_informative=6, n_classes=3, weights=[0.75, 0.17, 0.08], random_state=0
)
TARGET = 0.7 * np.eye(3)[TRUTH] + 0.1
FOLD = random_folds(400, 3, np.random.RandomState(0))


def chosen(student):
    return trials(student).choose().weights


def trials(student, tick=lambda done: None):
    none, everyone = np.empty(0, int), np.arange(400)
    problem = TrainingProblem(X, student, np.arange(3), none, none, everyone)
    problem.tick = tick
    return Trials(problem, everyone, TARGET, np.zeros(400, bool), FOLD)


def test_a_student_that_is_held_back_too_much_is_let_go_and_a_free_one_held_back():
    assert chosen(LogisticRegression(C=1e-3)).scale > 1
    loose = chosen(LogisticRegression(C=1e4, max_iter=1000))
    assert loose.scale <= 1


def test_weights_that_a_student_does_not_feel_stay_one():
    assert chosen(KNeighborsWithWeights(5)) == Weights()


class KNeighborsWithWeights(KNeighborsClassifier):
    def fit(self, X, y, sample_weight=None):
        return super().fit(X, y)


def test_the_users_own_balance_is_left_alone():
    assert chosen(LogisticRegression(class_weight="balanced")).balance == 0


def test_balanced_weights_have_the_mean_one_and_favor_rare_classes():
    weight = balanced(np.eye(3)[TRUTH], 1.0)
    assert weight.mean() == pytest.approx(1)
    by_class = np.bincount(TRUTH, weights=weight)
    np.testing.assert_allclose(by_class, 400 / 3)
    np.testing.assert_array_equal(balanced(TARGET, 0.0), 1)


def test_nets_and_transformers_are_not_fitted_for_the_weights():
    skorch = pytest.importorskip("skorch")
    assert not tunable(skorch.NeuralNetClassifier(object))
    assert tunable(LogisticRegression())


def test_a_teacher_that_mostly_says_one_word_is_asked_about_more_labeled_rows():
    rng = np.random.default_rng(0)
    X, truth = make_classification(
        900, 20, n_informative=6, n_classes=3, n_clusters_per_class=1, random_state=1
    )
    y = np.where(np.arange(900) < 60, truth, -1)
    good = softmax(2 * np.eye(3)[truth] + rng.normal(size=(900, 3)), axis=1)
    stuck = softmax(np.log(good) + [4.0, 0, 0], axis=1)
    asked, right = [], []
    for proba in (good, stuck):
        model = LLKDSelector(LogisticRegression(), max_teacher_calls=200, random_state=0)
        model.fit(X, y, teacher_proba=proba)
        assert model.n_teacher_calls_ == 200
        asked.append(np.isfinite(model.teacher_proba_[:60, 0]).sum())
        right.append(model.score(X[60:], truth[60:]))
    assert asked == [10, 40]
    assert right[1] > right[0] - 0.1
    raw = LLKDSelector(LogisticRegression(), strategy="random", max_teacher_calls=200)
    assert raw.fit(X, y, teacher_proba=stuck).score(X[60:], truth[60:]) < right[1] - 0.1


def test_what_a_first_fold_speaks_against_is_not_tried_on_the_others():
    fits = []
    attempt = trials(LogisticRegression(), fits.append)
    first = attempt(Weights())
    assert len(fits) == 3
    assert attempt(Weights(scale=1e-6), first) is None
    assert len(fits) == 4
    assert attempt(Weights(scale=1e-6)) is not None


def test_what_rows_add_to_the_recall_has_the_mean_recall_of_the_classes_as_its_mean():
    rng = np.random.default_rng(0)
    codes, proba = rng.choice(3, 50, p=[0.6, 0.3, 0.1]), rng.dirichlet(np.ones(3), 50)
    expected = balanced_accuracy_score(codes, proba.argmax(axis=1))
    assert recall_by_row(proba, np.eye(3)[codes]).mean() == pytest.approx(expected)
