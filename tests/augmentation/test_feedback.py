import numpy as np
import pytest

from skllmreg.augmentation._energy import FEWEST_ROWS, band_limits, choose_feedback

QUANTILES = (0.5, 0.75)


def test_of_eight_rows_the_fifth_and_sixth_are_in_the_band():
    scores = np.array([3.0, 1.0, 8.0, 2.0, 7.0, 5.0, 4.0, 6.0])
    (chosen,), limits = choose_feedback(scores, np.zeros(8, int), 1, QUANTILES)
    assert sorted(scores[chosen]) == [5, 6]
    np.testing.assert_allclose(limits, [[4.5, 6.25]])


@pytest.mark.parametrize("seed", range(5))
def test_the_farthest_quarter_and_the_nearer_half_are_never_shown(seed):
    rng = np.random.default_rng(seed)
    scores, codes = rng.normal(size=60), rng.integers(0, 3, 60)
    chosen, _ = choose_feedback(scores, codes, 3, QUANTILES)
    for k, rows in enumerate(chosen):
        own = np.sort(scores[codes == k])
        n = len(own)
        assert set(codes[rows]) == {k}
        assert own[n // 2 - 1] <= scores[rows].min()
        assert scores[rows].max() <= own[int(np.ceil(0.75 * n))]


@pytest.mark.parametrize("change", [lambda s: s + 100, lambda s: 7 * s])
def test_only_the_order_of_the_scores_counts(change):
    rng = np.random.default_rng(0)
    scores, codes = rng.normal(size=40), rng.integers(0, 2, 40)
    plain, _ = choose_feedback(scores, codes, 2, QUANTILES)
    changed, _ = choose_feedback(change(scores), codes, 2, QUANTILES)
    for one, other in zip(plain, changed, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_class_of_few_rows_is_judged_by_the_limits_of_all():
    scores = np.arange(12.0)
    codes = np.zeros(12, int)
    codes[[2, 7]] = 1
    assert np.sum(codes == 1) < FEWEST_ROWS
    limits = band_limits(scores, codes, 2, QUANTILES)
    np.testing.assert_allclose(limits[1], np.quantile(scores, QUANTILES))
    chosen, _ = choose_feedback(scores, codes, 2, QUANTILES)
    assert scores[chosen[1]].tolist() == [7]


def test_a_class_without_rows_in_the_band_gets_no_feedback():
    scores = np.arange(12.0)
    codes = np.zeros(12, int)
    codes[11] = 1  # the farthest of all
    chosen, _ = choose_feedback(scores, codes, 3, QUANTILES)
    assert [len(rows) for rows in chosen[1:]] == [0, 0]


@pytest.mark.parametrize(("scores", "nearest"), [([3.0], 0), ([1.0, 2.0], 1), ([5.0, 5.1, 2.0], 0)])
def test_of_so_few_rows_that_the_band_holds_none_the_nearest_to_it_is_chosen(scores, nearest):
    chosen, _ = choose_feedback(np.array(scores), np.arange(len(scores)), 3, QUANTILES)
    assert {k: rows.tolist() for k, rows in enumerate(chosen) if len(rows)} == {nearest: [nearest]}
