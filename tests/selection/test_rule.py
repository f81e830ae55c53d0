import numpy as np
import pytest

from skllmreg.selection._strategies import (
    STRATEGIES,
    MovingMeans,
    PaperRule,
    class_means,
    rows_to_ask,
    thresholds,
    uncertainty,
)

PAPER = {
    "class_thresholds": True,
    "momentum": 0.9,
    "weighting": "product",
    "confidence_threshold": "auto",
    "uncertainty_threshold": "auto",
}
rng = np.random.default_rng(0)
teacher = rng.dirichlet([0.5, 0.5, 0.5], size=200)
student = rng.dirichlet([2.0, 2.0, 2.0], size=200)


def selected(conditions, **changes):
    rule = PaperRule(conditions, **(PAPER | changes))
    weight = rule(*rule.fit(teacher), uncertainty(student))
    return weight > 0, weight[weight > 0], rule


def test_uncertainty_is_one_for_equal_probabilities_and_zero_for_certainty():
    np.testing.assert_allclose(
        uncertainty(np.array([[0.25] * 4, [1.0, 0, 0, 0]])), [1, 0], atol=1e-9
    )


def test_the_class_with_the_largest_mean_has_the_global_threshold():
    mean, by_class = class_means(np.array([0.2, 0.4, 0.9]), np.array([0, 0, 1]), 3)
    assert mean == pytest.approx(0.5)
    np.testing.assert_allclose(by_class, [0.3, 0.9, 0.5])  # nobody in class 2: the mean
    np.testing.assert_allclose(thresholds(mean, by_class), [0.5 / 3, 0.5, 0.5 * 5 / 9])


def test_moving_means_start_at_the_first_values_and_absent_classes_stay():
    moving = MovingMeans(0.9)
    moving.update(np.array([1.0, 0.0]), np.array([0, 1]), 2)
    mean, by_class = moving.update(np.array([0.0]), np.array([0]), 2)
    assert mean == pytest.approx(0.45)
    np.testing.assert_allclose(by_class, [0.9, 0.0])


def test_both_conditions_select_what_each_selects():
    both, _, rule = selected({"teacher", "student"})
    np.testing.assert_array_equal(both, selected({"teacher"})[0] & selected({"student"})[0])
    codes = teacher.argmax(axis=1)
    np.testing.assert_array_equal(
        both,
        (teacher.max(axis=1) >= rule.limits["teacher"][codes])
        & (uncertainty(student) >= rule.limits["student"][codes]),
    )
    assert 0 < both.sum() < 200


def test_weights_are_products_of_mean_one():
    chosen, weight, _ = selected({"teacher", "student"})
    product = (teacher.max(axis=1) * uncertainty(student))[chosen]
    np.testing.assert_allclose(weight, product / product.mean())
    assert (selected({"teacher"}, weighting=None)[1] == 1).all()


@pytest.mark.parametrize("n_classes", range(2, 12))
def test_rows_that_all_need_the_same_are_all_selected(n_classes):
    rule = PaperRule({"teacher", "student"}, **PAPER)
    same = np.full((7, n_classes), 1 / n_classes)
    same[:, 0] += 0.1
    same /= same.sum(axis=1, keepdims=True)
    assert (rule(*rule.fit(same), uncertainty(same)) > 0).all()


def test_fixed_thresholds_take_the_place_of_the_papers():
    chosen, _, _ = selected({"teacher"}, confidence_threshold=0.8)
    np.testing.assert_array_equal(chosen, teacher.max(axis=1) >= 0.8)
    assert selected({"teacher", "student"}, uncertainty_threshold=1.0)[0].sum() == 0


def test_without_class_thresholds_all_classes_have_the_same():
    *_, rule = selected({"teacher", "student"}, class_thresholds=False)
    for limit in rule.limits.values():
        assert np.ptp(limit) == 0


@pytest.mark.parametrize("strategy", ["distill", "student", "margin", "random"])
def test_rows_are_asked_once_and_as_many_as_wanted(strategy):
    rows = rows_to_ask(STRATEGIES[strategy], student, 50, np.random.RandomState(0))
    assert len(set(rows)) == 50
    assert len(rows_to_ask(STRATEGIES[strategy], student, 500, np.random.RandomState(0))) == 200


def test_margin_asks_where_the_two_best_classes_are_close():
    rows = rows_to_ask(STRATEGIES["margin"], student, 30, np.random.RandomState(0))
    best = np.sort(student, axis=1)
    np.testing.assert_array_equal(rows, np.argsort(best[:, 2] - best[:, 1])[:30])


def test_distill_asks_half_at_random_and_half_where_the_margin_is_small():
    rows = rows_to_ask(STRATEGIES["distill"], student, 30, np.random.RandomState(0))
    close = rows_to_ask(STRATEGIES["margin"], student, 40, np.random.RandomState(0))
    assert 15 <= len(set(rows) & set(close)) < 30


def test_a_student_that_knows_nothing_asks_at_random():
    same = np.full((200, 3), 1 / 3)
    rows = rows_to_ask(STRATEGIES["distill"], same, 50, np.random.RandomState(0))
    assert abs(rows.mean() - 100) < 25
