import numpy as np
import pandas as pd
import polars as pl
import pytest

from skllmreg.selection._unlabeled import is_unlabeled, known_labels, with_unlabeled

STRINGS = ["a", None, "b"]


@pytest.mark.parametrize(
    "y",
    [
        [1, -1, 0],
        np.array([1.0, np.nan, 0.0]),
        np.array([1, None, 0], dtype=object),
        np.array(["a", -1, "b"], dtype=object),
        np.array(["a", np.nan, "b"], dtype=object),
        pd.Series([1, pd.NA, 0], dtype="Int64"),
        pd.Series(STRINGS),
        pd.Series(STRINGS, dtype="string"),
        pd.Series(STRINGS, dtype="category"),
        pd.Series([1, None, 0]),
        pl.Series(STRINGS),
        pl.Series([1, None, 0]),
    ],
    ids=lambda y: f"{type(y).__name__}-{getattr(y, 'dtype', '')}",
)
def test_every_way_to_say_unlabeled_is_found(y):
    np.testing.assert_array_equal(is_unlabeled(y), [False, True, False])


@pytest.mark.parametrize("y", [["a", "-1"], pd.Series(["a", "-1"]), np.array(["a", "-1"], object)])
def test_the_string_minus_one_is_an_error_that_says_dtype_object(y):
    with pytest.raises(ValueError, match="dtype=object"):
        is_unlabeled(y)


def test_booleans_and_zero_are_labels():
    assert not is_unlabeled([True, False]).any()
    assert not is_unlabeled(np.array([0, False, 0.0], dtype=object)).any()


def test_integers_beside_none_are_integers_again():
    y = np.array([3, None, 5], dtype=object)
    labels = known_labels(y, is_unlabeled(y))
    assert labels.dtype.kind == "i"
    np.testing.assert_array_equal(labels, [3, 5])


@pytest.mark.parametrize(
    ("labels", "empty"), [(np.array([3, 5]), -1), (np.array(["a", "b"]), None)]
)
def test_rows_without_label_come_back_as_such(labels, empty):
    y = with_unlabeled(labels, np.array([0, 2]), 3)
    assert y[1] == empty
    np.testing.assert_array_equal(is_unlabeled(y), [False, True, False])
