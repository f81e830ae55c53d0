import numpy as np
import pytest
from scipy import sparse

from skllmreg.attribution._scaling import feature_scaling, scaled

RNG = np.random.default_rng(0)
COLUMNS = {
    "normal": RNG.normal(3, 2, 50),
    "rare indicator": np.r_[np.ones(2), np.zeros(48)],
    "unseen indicator": np.zeros(50),
    "constant": np.full(50, 120.0),
    "two values": np.tile([-1.0, 5.0], 25),
}
X = np.column_stack([*COLUMNS.values()])


def scale_of(X, weight=None):
    weight = np.ones(X.shape[0]) if weight is None else weight
    return feature_scaling(X, weight)[1]


def test_scale_is_the_standard_deviation_or_half_the_distance_of_two_values():
    expected = [X[:, 0].std(), 0.5, 2.0, np.inf, 3.0]
    np.testing.assert_allclose(scale_of(X), expected)


def test_two_rows_do_not_make_a_scale_of_next_to_nothing():
    nearly_equal = np.array([[100.0], [101.0]])
    assert scale_of(nearly_equal)[0] > 20


@pytest.mark.parametrize("container", [np.asarray, sparse.csr_array, sparse.csr_matrix])
def test_weights_count_rows(container):
    weight = RNG.integers(1, 4, 50)
    location, scale = feature_scaling(container(X), weight)
    repeated = np.repeat(X, weight, axis=0)
    expected = feature_scaling(container(repeated), np.ones(len(repeated)))
    np.testing.assert_allclose(location, expected[0])
    np.testing.assert_allclose(scale, expected[1])


def test_sparse_scales_are_the_dense_ones_without_centering():
    counts = np.column_stack([X, RNG.poisson(1, 50), -RNG.poisson(1, 50)])
    location, scale = feature_scaling(sparse.csr_array(counts), np.ones(50))
    np.testing.assert_allclose(scale[[0, 1, 2, 3, 5, 6]], scale_of(counts)[[0, 1, 2, 3, 5, 6]])
    assert not location.any()
    assert sparse.issparse(scaled(sparse.csr_array(counts), location, scale))


def test_weights_of_less_than_a_row_do_not_change_the_scale():
    expected = scale_of(X[:, :1])
    np.testing.assert_allclose(scale_of(X[:, :1], np.full(50, 1e-3)), expected)


def test_an_offset_of_the_column_does_not_matter_with_twenty_rows():
    column = X[:20, :1]
    np.testing.assert_allclose(scale_of(column + 1e5), scale_of(column))


def test_columns_far_from_zero_keep_their_scale_with_twenty_rows():
    X = np.random.default_rng(0).normal(size=(20, 3))
    near, far = (feature_scaling(X + offset, np.ones(20))[1] for offset in (0.0, 1e8))
    np.testing.assert_allclose(far, near, rtol=1e-6)
