import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.compose import ColumnTransformer
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from skllmreg.attribution._columns import column_shares
from skllmreg.attribution._scores import parse_attributions, target_direction


def matched(names, scored):
    """Scored name of each column."""
    return [share.name for share in column_shares(names, scored)[0]]


SCORES = {"age": 3, "sex_male": -2, "sex_female": 2}


def frame():
    return pd.DataFrame({"age": [20, 30, 40], "sex": ["male", "female", "male"]})


def by_column_transformer(X):
    encoder = OneHotEncoder(sparse_output=False)
    parts = [("one_hot", encoder, ["sex"]), ("num", StandardScaler(), ["age"])]
    return ColumnTransformer(parts).set_output(transform="pandas").fit_transform(X)


def by_encoder(X):
    encoder = OneHotEncoder(sparse_output=False).set_output(transform="pandas")
    return encoder.fit_transform(X[["sex"]]).assign(age=X["age"])


@pytest.mark.parametrize("expand", [pd.get_dummies, by_encoder, by_column_transformer])
def test_scores_find_one_hot_columns_by_name(expand):
    columns = list(expand(frame()).columns)
    estimates = parse_attributions(SCORES, columns, len(columns), np.array([0, 1]))
    expected = [SCORES[name.split("__")[-1]] for name in columns]
    np.testing.assert_array_equal(estimates, [[expected]])


def test_extra_scores_are_left_out():
    estimates = parse_attributions(SCORES, ["age"], 1, np.array([0, 1]))
    np.testing.assert_array_equal(estimates, [[[3]]])


def test_the_full_name_wins_over_the_name_without_its_prefix():
    assert matched(["a__x", "b__x"], {"a__x", "x"}) == ["a__x", "x"]


@given(st.lists(st.text(), unique=True, min_size=1), st.randoms())
def test_any_names_are_matched_whatever_their_order(names, random):
    scored = names.copy()
    random.shuffle(scored)
    assert matched(names, scored) == names


@pytest.mark.parametrize(
    ("attributions", "message"),
    [
        ({"a": 1}, "1 of 2 features: 'b'"),
        ({"a": 1, "B": 2}, r"'b' \(did you mean 'B'\?\)"),
        ([{"a": 1, "b": 2}, {"a": 1}], "'b'"),
        ({"a": 1, "b": np.nan}, "'b' is nan; it must be finite"),
        ([{"a": 1, "b": 1}, {"a": 1, "b": np.inf}], "'b' in estimate 1 is inf"),
        ({"a": 1, "b": -11}, "'b' is -11; scores go from -10 to 10"),
        ({"a": 1, "b": True}, "'b' is True, not a number"),
        ({"a": 1, "b": None}, "no attribution|not a number|None"),
        ({1: {"a": 1, "b": "7"}}, "'b' for class .*1.* is '7', not a number"),
        ([1, 12], "'b' is 12.0"),
        ([1, 2, 3], r"shape \(3,\), but X has 2 features"),
        (np.zeros((0, 2)), "shape"),
        ([], "shape"),
        ("high", "must be"),
        ({"yes": {"a": 1, "b": 2}}, "No attribution scores for the class"),
        ({0: [{"a": 1, "b": 2}], 1: [{"a": 1, "b": 2}] * 2}, "same number of estimates"),
    ],
)
def test_a_bad_score_is_named(attributions, message):
    with pytest.raises(ValueError, match=message):
        parse_attributions(attributions, ["a", "b"], 2, np.array([0, 1]))


def test_doubled_names_are_errors():
    with pytest.raises(ValueError, match="'a' occurs twice in X"):
        matched(["a", "a"], {"a"})
    with pytest.raises(ValueError, match="'u__a' and 'v__a' both match"):
        matched(["u__a", "v__a"], {"a"})


def test_names_cannot_be_matched_without_names():
    with pytest.raises(ValueError, match=r"set_output\(transform=\"pandas\"\)"):
        parse_attributions({"a": 1}, None, 1, np.array([0, 1]))


def test_scores_of_the_first_of_two_classes_are_negated():
    for attributions in ({"no": {"a": -4}}, {"yes": {"a": 4}}, {"a": 4}, [4], [[4]]):
        estimates = parse_attributions(attributions, ["a"], 1, np.array(["no", "yes"]))
        np.testing.assert_array_equal(estimates, [[[4]]])
    both = {"no": [{"a": -2}, {"a": -4}], "yes": [{"a": 4}, {"a": 6}]}
    estimates = parse_attributions(both, ["a"], 1, np.array(["no", "yes"]))
    np.testing.assert_array_equal(estimates, [[[3]], [[5]]])


def test_several_classes_need_scores_each():
    classes = np.array(["a", "b", "c"])
    by_class = {"c": {"x": 3}, "a": {"x": 1}, "b": {"x": 2}, "absent here": {"x": 9}}
    estimates = parse_attributions(by_class, ["x"], 1, classes)
    np.testing.assert_array_equal(estimates, [[[1], [2], [3]]])
    with pytest.raises(ValueError, match="must say which class"):
        parse_attributions({"x": 1}, ["x"], 1, classes)
    del by_class["b"]
    with pytest.raises(ValueError, match="'b'"):
        parse_attributions(by_class, ["x"], 1, classes)


def test_directions_have_length_one_and_no_common_part():
    scores = np.array([[1.0, 5], [2, 5], [6, 5]])
    direction = target_direction(scores, np.asarray)
    assert np.linalg.norm(direction) == pytest.approx(1)
    np.testing.assert_allclose(direction.sum(axis=0), 0, atol=1e-15)
    np.testing.assert_array_equal(target_direction(np.zeros((1, 3)), np.exp) * 0, np.zeros((1, 3)))


def test_frames_and_series_are_matched_by_name():
    rows = pd.DataFrame({"b": [1, 3], "a": [5, 7]})
    classes = np.array([0, 1])
    np.testing.assert_array_equal(
        parse_attributions(rows, ["a", "b"], 2, classes)[:, 0], [[5, 1], [7, 3]]
    )
    for mean in (rows.mean(), {1: rows.mean()}):
        np.testing.assert_array_equal(parse_attributions(mean, ["a", "b"], 2, classes)[0], [[6, 2]])
    by_position = pd.Series([6, 2])
    np.testing.assert_array_equal(
        parse_attributions(by_position, ["a", "b"], 2, classes)[0], [[6, 2]]
    )


@pytest.mark.parametrize("transform", [lambda s: s * np.nan, lambda s: s[:, :1]])
def test_a_transform_that_loses_scores_is_named(transform):
    with pytest.raises(ValueError, match="score_transform must"):
        target_direction(np.ones((1, 2)), transform)
