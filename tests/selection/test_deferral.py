import numpy as np
import pytest
from scipy.stats import binom

from skllmreg.selection._deferral import curve, find_threshold, least_rows, upper_bound


@pytest.mark.parametrize(("limit", "confidence", "n"), [(0.05, 0.95, 59), (0.5, 0.5, 1)])
def test_the_least_number_of_rows_is_the_first_that_can_promise(limit, confidence, n):
    assert least_rows(limit, confidence) == n
    assert upper_bound(0, n, confidence) <= limit
    assert n == 1 or upper_bound(0, n - 1, confidence) > limit


@pytest.mark.parametrize("k", [0, 1, 7, 30])
def test_at_the_upper_bound_so_few_events_have_the_chance_that_is_left(k):
    p = upper_bound(k, 60, 0.9)
    assert binom.cdf(k, 60, p) == pytest.approx(0.1)


def test_the_bound_of_nothing_but_disagreements_is_one():
    assert upper_bound(5, 5, 0.95) == 1.0


rng = np.random.default_rng(0)
SCORE = rng.random(300)
DISAGREES = rng.random(300) > 0.5 + SCORE / 2


def test_the_threshold_is_the_last_that_passes_from_the_strictest_on():
    promise = find_threshold(SCORE, DISAGREES, 0.1, 0.9)
    last = np.inf
    for t in np.sort(SCORE)[::-1]:
        if upper_bound(int(((t <= SCORE) & DISAGREES).sum()), 300, 0.9) > 0.1:
            break
        last = t
    np.testing.assert_array_equal(promise.threshold <= SCORE, last <= SCORE)
    answered = promise.threshold <= SCORE
    assert promise.coverage == answered.mean()
    assert promise.disagreement == (answered & DISAGREES).mean() <= promise.bound <= 0.1
    assert promise.alone[0] == DISAGREES[answered].mean() <= promise.alone[1]


def test_rows_of_equal_score_stand_or_fall_together():
    score = np.repeat([0.9, 0.8], 100)
    disagrees = np.arange(200) == 150
    assert find_threshold(score, disagrees, 0.02, 0.95).coverage == 0.5


@pytest.mark.parametrize("limit", [0.02, 0.05, 0.2])
def test_a_larger_limit_never_covers_less(limit):
    small, large = (find_threshold(SCORE, DISAGREES, x, 0.9) for x in (limit, 2 * limit))
    assert small.coverage <= large.coverage


def test_a_student_that_never_disagrees_answers_everything():
    promise = find_threshold(SCORE, np.zeros(300, bool), 0.05, 0.95)
    assert promise.threshold == -np.inf
    assert promise.coverage == 1
    assert promise.bound == upper_bound(0, 300, 0.95)


def test_a_student_that_always_disagrees_answers_next_to_nothing():
    promise = find_threshold(SCORE, np.ones(300, bool), 0.01, 0.95)
    assert promise.threshold == np.inf
    assert promise.coverage == 0


def test_the_curve_goes_from_nothing_to_everything_once_per_score():
    score = np.array([0.9, 0.8, 0.8, 0.7])
    coverage, disagreement, bound = curve(score, np.array([False, True, False, True]), 0.9)
    np.testing.assert_allclose(coverage, [0, 0.25, 0.75, 1])
    np.testing.assert_allclose(disagreement, [0, 0, 0.25, 0.5])
    assert (np.diff(bound) >= 0).all()
    assert (bound > disagreement).all()


@pytest.mark.slow
@pytest.mark.parametrize("least_right", [0.9, 0.6])
def test_neither_bound_is_exceeded_more_often_than_allowed(least_right):
    # The score is uniform, and the student disagrees the more often the smaller it is.
    n_draws, exceeded, alone = 2000, 0, 0
    rng = np.random.default_rng(1)
    slope = 1 - least_right
    for _ in range(n_draws):
        score = rng.random(120)
        promise = find_threshold(score, rng.random(120) < slope * (1 - score), 0.05, 0.9)
        t = np.clip(promise.threshold, 0, 1)
        risk = slope * (1 - t) ** 2 / 2
        exceeded += risk > promise.bound
        alone += t < 1 and risk / (1 - t) > promise.alone[1]
    noise = 3 * np.sqrt(0.1 * 0.9 / n_draws)
    assert exceeded / n_draws <= 0.1 + noise
    assert alone / n_draws <= 0.1 + noise
