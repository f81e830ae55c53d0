"""Scores given for raw columns reach the columns that encoders make of them."""

import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import KBinsDiscretizer, OneHotEncoder, SplineTransformer

from skllmreg import Attributions, LLMAttributionRegularizedClassifier
from skllmreg.attribution._scores import parse_attributions
from skllmreg.exceptions import UnscoredColumnsWarning

N = 60
RNG = np.random.default_rng(0)
RAW = pd.DataFrame(
    {
        "age": RNG.normal(50, 10, N),
        "grade": RNG.integers(1, 4, N),
        "city": np.array(["Rome", "Bonn", "Oslo"])[np.arange(N) % 3],
        "smokes": np.array(["no", "yes"])[np.arange(N) % 2],
    }
)
Y = np.arange(N) // 2 % 2
SCORES = {"age": 6, "grade": 4, "smokes": 5, "city": 3}


def scores_of(X, scores, **options):
    """Score of each column by name."""
    found = parse_attributions(scores, list(X), X.shape[1], X=X.to_numpy(dtype=float), **options)
    return dict(zip(X, found[0, 0].tolist(), strict=True))


def encoded(*steps, **options):
    encoder = make_column_transformer(*steps, **options).set_output(transform="pandas")
    return encoder.fit_transform(RAW)


def test_bins_splines_and_numbered_categories_rise_with_the_score():
    X = encoded(
        (KBinsDiscretizer(3, encode="onehot-dense"), ["age"]),
        (OneHotEncoder(sparse_output=False), ["grade"]),
        verbose_feature_names_out=False,
    )
    assert scores_of(X, SCORES) == {
        **{"age_0.0": -6, "age_1.0": 0, "age_2.0": 6},
        **{"grade_1": -4, "grade_2": 0, "grade_3": 4},
    }
    splines = encoded((SplineTransformer(4, degree=2), ["age"]))
    scores = list(scores_of(splines, SCORES).values())
    np.testing.assert_allclose(scores, np.linspace(-6, 6, len(scores)))


def test_what_an_encoder_drops_is_the_point_of_comparison():
    one_hot = encoded((OneHotEncoder(sparse_output=False, drop="first"), ["grade", "smokes"]))
    assert list(scores_of(one_hot, SCORES).values()) == [2, 4, 5]  # against grade_1 and smokes_no
    splines = encoded((SplineTransformer(3, degree=1, include_bias=False), ["age"]))
    np.testing.assert_allclose(list(scores_of(splines, SCORES).values()), [-6, -3])  # the last: 0


def test_yes_and_no_are_the_score_and_its_negative():
    X = encoded((OneHotEncoder(sparse_output=False), ["smokes"]))
    assert list(scores_of(X, SCORES).values()) == [-5, 5]


def test_a_shape_by_category_scores_its_one_hot_columns():
    said = Attributions(
        {1: SCORES}, shapes={1: {"city": [{"Rome": 1.0, "Bonn": -0.5, "Oslo": 0.0}]}}
    )
    X = encoded((OneHotEncoder(sparse_output=False), ["city"]))
    assert list(scores_of(X, said, classes=[0, 1]).values()) == [-1.5, 0, 3]


def test_columns_nobody_could_have_scored_get_zero_and_one_warning():
    raw = RAW.assign(age=RAW["age"].where(RAW.index % 7 > 0))
    encoder = make_column_transformer(
        (SimpleImputer(add_indicator=True), ["age"]),
        (OneHotEncoder(sparse_output=False), ["city"]),
    ).set_output(transform="pandas")
    model = make_pipeline(
        encoder, LLMAttributionRegularizedClassifier(attributions={1: {"age": 6, "city": 3}})
    )
    with pytest.warns(UnscoredColumnsWarning, match="4 of 5 columns") as caught:
        model.fit(raw, Y)
    assert "missingindicator_age" in str(caught[0].message)
    assert caught[0].filename == __file__
    np.testing.assert_array_equal(model[-1].attributions_, [[6, 0, 0, 0, 0]])


def test_a_category_not_seen_before_gets_zero():
    X = pd.get_dummies(RAW[["city"]]).astype(float)
    with pytest.warns(UnscoredColumnsWarning, match="'city_Oslo'"):
        assert scores_of(X, {"city_Rome": 3, "city_Bonn": -2})["city_Oslo"] == 0


def test_parts_of_dates_and_texts_get_zero():
    X = pd.DataFrame(
        RNG.normal(size=(9, 4)),
        columns=["when_year", "when_month_circular_0", "note_00", "when_total_seconds"],
    )
    with pytest.warns(UnscoredColumnsWarning):
        assert set(scores_of(X, {"when": 5, "note": 3}).values()) == {0}


@pytest.mark.parametrize("column", ["age_gap", "height", "cit_Rome"])
def test_a_column_that_no_encoder_made_needs_a_score(column):
    X = RAW[["age"]].assign(**{column: RNG.normal(size=N)})
    with pytest.raises(ValueError, match=column):
        scores_of(X, SCORES)


def test_sparse_and_dense_columns_are_told_apart_alike():
    X = encoded((OneHotEncoder(sparse_output=False), ["grade", "smokes"]))
    dense = parse_attributions(SCORES, list(X), X.shape[1], X=X.to_numpy())
    in_rows = parse_attributions(SCORES, list(X), X.shape[1], X=sparse.csr_array(X.to_numpy()))
    np.testing.assert_array_equal(dense, in_rows)


def test_tables_vectorized_by_skrub_need_scores_of_the_raw_columns_alone():
    skrub = pytest.importorskip("skrub")
    raw = RAW.assign(when=pd.date_range("2024-01-01", periods=N))
    shapes = {1: {"city": [{"Rome": 1.0, "Bonn": -1.0, "Oslo": 0.0}]}}
    said = Attributions({1: SCORES | {"when": 0}}, shapes=shapes)
    model = make_pipeline(
        skrub.TableVectorizer(), LLMAttributionRegularizedClassifier(attributions=said)
    )
    with pytest.warns(UnscoredColumnsWarning, match="when_year"):
        model.fit(raw, Y)
    scores = dict(zip(model[0].get_feature_names_out(), model[-1].attributions_[0], strict=True))
    assert scores["age"] == 6
    assert scores["city_Rome"] == 3
    assert scores["smokes_yes"] == 5


def test_scores_for_every_column_warn_of_nothing():
    X = pd.get_dummies(RAW[["age", "city"]]).astype(float)
    scores = {"age": 5, "city_Rome": 1, "city_Bonn": 2, "city_Oslo": 3}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert scores_of(X, scores) == scores


def test_a_table_with_gaps_goes_through_skrub_and_an_imputer():
    skrub = pytest.importorskip("skrub")
    raw = RAW.assign(age=RAW["age"].where(np.arange(N) % 5 > 0))
    model = make_pipeline(
        skrub.TableVectorizer(),
        SimpleImputer().set_output(transform="pandas"),
        LLMAttributionRegularizedClassifier(attributions={1: SCORES}),
    ).fit(raw, Y)
    fitted = model[-1]
    scores = dict(zip(fitted.feature_names_in_, fitted.attributions_[0], strict=True))
    assert scores["age"] == 6
