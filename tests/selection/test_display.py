import matplotlib.pyplot as plt
import numpy as np
import pytest
from sklearn.datasets import load_iris

from skllmreg import LLKDSelector, SelectionDisplay

X, truth = load_iris(return_X_y=True)
y = np.where(np.arange(150) % 10 == 0, truth, -1)
proba = np.random.default_rng(0).dirichlet([1, 1, 1], 150) / 2 + np.eye(3)[truth] / 2


@pytest.mark.parametrize("strategy", ["distill", "llkd"])
def test_every_row_asked_about_is_drawn_once(strategy):
    model = LLKDSelector(strategy=strategy, max_teacher_calls=60, random_state=0)
    display = SelectionDisplay.from_estimator(model.fit(X, y, teacher_proba=proba))
    drawn = sum(len(line.get_xdata()) for line in display.ax_.get_lines())
    asked = np.isfinite(model.teacher_proba_).all(axis=1) & (y == -1)
    assert drawn == asked.sum() == len(display.confidence)
    assert (display.round_ > 0).sum() == (model.labeled_iter_ > 0).sum()


def test_it_draws_into_given_axes():
    _, ax = plt.subplots()
    model = LLKDSelector(random_state=0).fit(X, y, teacher_proba=proba)
    assert SelectionDisplay.from_estimator(model, ax=ax).ax_ is ax


def test_true_labels_add_accuracy_against_calls():
    model = LLKDSelector(max_teacher_calls=60, random_state=0).fit(X, y, teacher_proba=proba)
    display = SelectionDisplay.from_estimator(model, y_true=truth)
    assert display.calls[-1] == model.n_teacher_calls_ <= 60
    np.testing.assert_array_equal(np.sort(display.calls), display.calls)
    pool = y == -1
    assert display.accuracy[-1] == (model.predict(X[pool]) == truth[pool]).mean()
    assert len(display.ax_) == 2
    with pytest.raises(ValueError, match="2 are wanted"):
        display.plot(ax=display.ax_[0])


def test_true_labels_that_are_no_class_are_an_error():
    model = LLKDSelector(random_state=0).fit(X, y, teacher_proba=proba)
    with pytest.raises(ValueError, match="not classes: \\['-1'\\]"):
        SelectionDisplay.from_estimator(model, y_true=y)


@pytest.mark.filterwarnings("ignore::skllmreg.exceptions.NoLLMWarning")
def test_without_a_teacher_there_is_nothing_to_draw():
    with pytest.raises(ValueError, match="nothing to draw"):
        SelectionDisplay.from_estimator(LLKDSelector().fit(X, truth))
