"""Shapes: asked for, checked, averaged, edited, stored and applied."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skllmreg import (
    Attributions,
    ChatModel,
    LLMAttributionRegularizedClassifier,
    LLMShapeTransformer,
    elicit_attributions,
)
from skllmreg.attribution._prompts import MOST_SHAPES, shape_question
from skllmreg.attribution._shapes import bends, direction, interpolate, mean_shape
from skllmreg.exceptions import InvalidReplyError, NoLLMWarning
from tests.loopback import last

HUMP = [[20, -1.0], [40, 1.0], [60, -0.5]]
HEATING = {"gas": -0.5, "none": 1.0}
X = pd.DataFrame({"age": [20, 30, 50, 90], "heating": ["gas", "none", "gas", "wood"]})
Y = ["no", "yes", "yes", "no"]

values = st.floats(-1e6, 1e6)
effects = st.floats(-1, 1)
tables = st.dictionaries(values, effects, min_size=2, max_size=8).map(
    lambda points: [list(point) for point in sorted(points.items())]
)


def answer(body, points=HUMP, score=4):
    """Reply with the same score and shape for every feature, as the schema wants it."""
    properties = body["response_format"]["json_schema"]["schema"]["properties"]
    reply = {}
    for key, item in properties.items():
        shape = item["properties"]["shape"]
        if shape["type"] == "array":
            shape = [{"value": v, "effect": e} for v, e in points]
        else:
            shape = dict.fromkeys(shape["properties"], 0.5)
        reply[key] = {"score": score, "shape": shape}
    return json.dumps(reply)


@pytest.fixture
def llm(loopback):
    loopback.reply = answer
    return ChatModel("tiny", base_url=loopback.base_url)


@given(st.lists(tables, min_size=1, max_size=4), st.lists(values, min_size=1, max_size=20))
@settings(max_examples=50, deadline=None)
def test_the_mean_shape_is_the_mean_of_the_lines_at_every_value(shapes, at):
    mean = mean_shape(shapes)
    knots = [value for value, _ in mean]
    assert knots == sorted({value for shape in shapes for value, _ in shape})
    each = np.mean([interpolate(shape, at) for shape in shapes], axis=0)
    # Between knots nearer than the rounding of their distance, a line is as good as vertical.
    far = np.all(np.abs(np.subtract.outer(at, knots)) > 1e-3, axis=1) & (
        np.min(np.diff(knots)) > 1e-3
    )
    np.testing.assert_allclose(interpolate(mean, at)[far], each[far], atol=1e-6)


def test_categories_are_averaged_and_one_that_is_left_out_has_no_effect():
    assert mean_shape([{"a": 1, "b": -1}, {"a": 0.5}]) == {"a": 0.75, "b": -0.5}


@pytest.mark.parametrize(
    ("shape", "sign"),
    [
        ([[0, -1], [1, 0], [2, 1]], 1),
        ([[0, 0.5], [9, -0.5]], -1),
        ([[0, -1], [1, 1], [2, 0.95]], 1),  # turns by next to nothing
        (HUMP, 0),
        ([[0, 0.3], [1, 0.3]], 0),
        (HEATING, 0),
    ],
)
def test_direction_is_that_of_a_shape_that_only_rises_or_only_falls(shape, sign):
    assert direction(shape) == sign
    assert bends(shape) == (sign == 0)


@pytest.mark.parametrize(
    ("shape", "problem"),
    [
        ([[1, 0]], "at least two"),
        ([], "at least two"),
        ([[2, 0], [1, 1]], "from the value 2 to 1; the values must increase"),
        ([[1, 0], [1, 1]], "must increase"),
        ([[1, 0], [2, 1.1]], r"at 2 has the effect 1\.1; effects go from -1 to 1"),
        ([[1, 0], [2, float("nan")]], "nan, which is not a finite number"),
        ([[float("inf"), 0], [2, 1]], "inf, which is not a finite number"),
        ([["1", 0], [2, 1]], "'1', which is not a finite number"),
        ([[1, True], [2, 1]], "True"),
        ([1, 2], "must be a list of"),
        ("up", "must be a list of"),
        ({}, "no categories"),
        ({"a": 2}, "at 'a' has the effect 2"),
        ({1: 0.5}, "category 1"),
    ],
)
def test_a_shape_that_is_no_table_is_refused_by_its_column(shape, problem):
    for make in (
        lambda: Attributions({"yes": {"age": 1}}, shapes={"yes": {"age": [shape]}}),
        lambda: LLMShapeTransformer(shapes={"age": shape}).fit(X),
    ):
        with pytest.raises(ValueError, match=f"'age'.*{problem}"):
            make()


def test_the_prompt_without_shapes_does_not_change(llm, loopback):
    descriptions = {"age": "Years"}
    options = {"task": "Ill?", "feature_descriptions": descriptions, "classes": ["no", "yes"]}
    loopback.reply = lambda body: json.dumps({"age": 3})
    elicit_attributions(llm, **options)
    plain = last(loopback.requests[-1])
    assert "shape" not in plain.split("whatever the direction")[0].replace("shapes", "")
    loopback.reply = answer
    elicit_attributions(llm, **options, shapes=True)
    with_shapes = last(loopback.requests[-1])
    assert with_shapes.startswith(plain[: plain.index("Features:")].rstrip())
    assert '"age": Years' in with_shapes


def test_scores_and_shapes_come_from_one_question(llm, loopback):
    said = elicit_attributions(
        llm,
        task="Ill?",
        feature_descriptions={"age": "Years", "heating": "Main fuel"},
        classes=["no", "yes"],
        n_estimates=2,
        shapes={"heating": ["gas", "none"]},
    )
    assert len(loopback.requests) == 2
    assert said.mean() == {"yes": {"age": 4.0, "heating": 4.0}}
    assert said.mean_shapes("yes") == {"age": HUMP, "heating": {"gas": 0.5, "none": 0.5}}
    assert 'one of "gas", "none"' in last(loopback.requests[0])
    assert "2 with a shape" in repr(said)


def test_an_empty_list_is_no_shape(llm, loopback):
    loopback.reply = lambda body: answer(body, points=[])
    said = elicit_attributions(
        llm, task="Ill?", feature_names=["age"], classes=["no", "yes"], shapes=True
    )
    assert said.shapes == {"yes": {}}


def test_a_shape_whose_values_fall_is_asked_again(llm, loopback):
    replies = iter([[[40, 1], [20, -1]], HUMP])
    loopback.reply = lambda body: answer(body, points=next(replies))
    said = elicit_attributions(
        llm, task="Ill?", feature_names=["age"], classes=["a", "b"], n_estimates=1, shapes=True
    )
    assert said.mean_shapes("b")["age"] == HUMP
    assert "the values must increase" in str(loopback.requests[-1])


def test_a_shape_that_stays_wrong_is_an_error_that_shows_the_reply(llm, loopback):
    loopback.reply = lambda body: answer(body, points=[[40, 1], [20, -1]])
    with pytest.raises(InvalidReplyError, match="must increase"):
        elicit_attributions(
            llm, task="Ill?", feature_names=["age"], classes=["a", "b"], n_estimates=1, shapes=True
        )


def test_many_features_are_asked_about_in_smaller_parts_than_without_shapes(llm, loopback):
    names = [f"lab_{i}" for i in range(MOST_SHAPES + 1)]
    said = elicit_attributions(
        llm, task="Ill?", feature_names=names, n_estimates=1, shapes=True
    )  # a regression
    assert len(loopback.requests) == 2
    assert list(said.shapes) == names


@pytest.mark.parametrize(
    ("shapes", "error", "message"),
    [
        ("yes", TypeError, "True, False or"),
        ({"city": ["a", "b"]}, ValueError, "'city', which is not asked about"),
        ({"age": "ab"}, TypeError, "'age' are strings"),
        ({"age": ["a", "a"]}, ValueError, "at least two categories, each once"),
    ],
)
def test_wrong_categories_are_named_before_anything_is_asked(llm, loopback, shapes, error, message):
    with pytest.raises(error, match=message):
        elicit_attributions(llm, task="Ill?", feature_names=["age"], shapes=shapes)
    assert not loopback.requests


def test_odd_names_of_categories_are_read_back():
    categories = {"city": ['"x"', "größe", "a\nb", "plain"]}
    question = shape_question("T", "goal", {"city": ""}, categories)
    item = question.schema["properties"]["city"]["properties"]["shape"]
    value = {"city": {"score": 3, "shape": dict.fromkeys(item["required"], 1.0)}}
    assert set(question.read(value)["city"]["shape"]) == set(categories["city"])


def shaped():
    scores = [{"age": -6, "heating": 2}, {"age": -4, "heating": 4}]
    shapes = {"age": [HUMP, [[20, -1], [60, 1]]], "heating": [HEATING]}
    return Attributions({"yes": scores}, shapes={"yes": shapes}, task="Ill?", model="m")


def test_shapes_survive_json_and_edits_are_kept_with_their_author():
    said = shaped().edit(shapes={"age": HUMP}, by="Dr. Ito").edit({"age": 8})
    assert said.mean_shapes("yes")["age"] == HUMP
    assert said.edited == {("yes", "age_shape"): "Dr. Ito", ("yes", "age"): "human"}
    again = Attributions.from_json(said.to_json())
    assert again == said
    assert (
        '"age": {"shape": [[20, -1.0], [40, 1.0], [60, -0.5]], "by": "Dr. Ito"}' in said.to_json()
    )
    assert said.edit(shapes={"yes": {"age": None}}).mean_shapes("yes") == {"heating": HEATING}
    by_category = said.edit(shapes={"heating": {"gas": 0.0, "none": 0.1}})
    assert by_category.mean_shapes("yes")["heating"] == {"gas": 0.0, "none": 0.1}
    with pytest.raises(ValueError, match="No feature 'Age'"):
        said.edit(shapes={"Age": HUMP})


def test_json_without_shapes_is_as_it_was():
    plain = Attributions({"yes": {"age": 1}})
    assert "shapes" not in plain.to_json()
    assert Attributions.from_json(plain.to_json()) == plain


@pytest.mark.parametrize(
    ("shapes", "problem"),
    [
        ({"age": [[[1, 0], [0, 1]]]}, "values must increase"),
        ({"age": []}, "a list of shapes"),
        ({"age": {"shape": [[1, 0], [2, 1]]}}, 'needs "shape", "by"'),
        ({"height": [[[1, 0], [2, 1]]]}, "'height'.* has no score"),
        ([1], "not an object"),
        ({"age": [{"a": 1}, [[1, 0], [2, 1]]]}, "others of categories"),
    ],
)
def test_a_wrong_shape_in_a_file_is_named(shapes, problem):
    record = json.loads(Attributions({"yes": {"age": 1}}).to_json())
    record["classes"][0]["shapes"] = shapes
    with pytest.raises(ValueError, match=problem):
        Attributions.from_json(json.dumps(record))


def test_the_transformer_adds_a_column_for_each_shape_and_keeps_the_rest():
    transformer = LLMShapeTransformer(shapes={"age": HUMP, "heating": HEATING})
    out = transformer.fit_transform(X)
    pd.testing.assert_frame_equal(out[["age", "heating"]], X)
    assert out["age_shape"].tolist() == [-1.0, 0.0, 0.25, -0.5]
    assert out["heating_shape"].tolist() == [-0.5, 1.0, -0.5, 0.0]
    assert transformer.get_feature_names_out().tolist() == list(out)


def test_set_output_names_the_columns_and_polars_stays_polars():
    polars = pytest.importorskip("polars")
    transformer = LLMShapeTransformer(shapes={"age": HUMP})
    named = clone(transformer).set_output(transform="pandas").fit_transform(X)
    assert list(named) == ["age", "heating", "age_shape"]
    out = transformer.fit_transform(polars.DataFrame(X.to_dict("list")))
    assert isinstance(out, polars.DataFrame)
    assert out["age_shape"].to_list() == [-1.0, 0.0, 0.25, -0.5]


def test_missing_values_stay_missing():
    rows = pd.DataFrame({"age": [20, None, np.nan], "heating": ["gas", None, pd.NA]})
    transformer = LLMShapeTransformer(shapes={"age": HUMP, "heating": HEATING}).fit(X)
    added = transformer.transform(rows)[["age_shape", "heating_shape"]]
    assert added.isna().to_numpy().tolist() == [[False, False], [True, True], [True, True]]


def test_a_scaler_in_front_of_the_shapes_is_an_error():
    frame = pd.DataFrame({"age": np.arange(18.0, 90)})
    pipeline = make_pipeline(
        StandardScaler().set_output(transform="pandas"), LLMShapeTransformer(shapes={"age": HUMP})
    )
    with pytest.raises(ValueError, match="'age' is for .* 20 to 60, .* any scaler"):
        pipeline.fit(frame)


@pytest.mark.parametrize(
    ("shapes", "frame", "message"),
    [
        ({"age": HUMP}, X.to_numpy(), "data frame"),
        ({"Age": HUMP}, X, "No column of X has a shape"),
        ({"heating": HUMP}, X, "'heating' holds 'gas', but its shape is one of numbers"),
        ({"heating": {"oil": 1}}, X, "No category of column 'heating'"),
        ([1], X, "{column: shape} or Attributions"),
    ],
)
def test_shapes_that_do_not_fit_x_are_named(shapes, frame, message):
    with pytest.raises((TypeError, ValueError), match=message):
        LLMShapeTransformer(shapes=shapes).fit(frame)


def test_without_shapes_x_is_passed_on():
    with pytest.warns(NoLLMWarning):
        transformer = LLMShapeTransformer().fit(X)
    pd.testing.assert_frame_equal(transformer.transform(X), X)


def test_several_shapes_of_a_column_are_averaged():
    transformer = LLMShapeTransformer(shapes={"age": [HUMP, [[20, 0.0], [60, 0.0]]]}).fit(X)
    assert transformer.shapes_ == {"age_shape": ("age", [[20, -0.5], [40, 0.5], [60, -0.25]])}


@pytest.mark.parametrize(
    ("monotone", "names"), [("auto", ["heating_shape"]), (True, ["age_shape", "heating_shape"])]
)
def test_of_an_llm_only_shapes_that_bend_are_applied_unless_asked_for(monotone, names):
    said = shaped().edit(shapes={"age": [[20, -1], [60, 1]]})
    transformer = LLMShapeTransformer(shapes=said, monotone=monotone).fit(X)
    assert sorted(transformer.shapes_) == names


def test_an_llm_is_asked_about_classes_numbers_and_categories(llm, loopback):
    kinds = X.assign(smokes=[True, False, True, True])
    transformer = LLMShapeTransformer(llm, task="Ill?", n_estimates=1).fit(kinds, Y)
    prompt = last(loopback.requests[-1])
    assert "The class to score: yes" in prompt
    assert '"heating" (one of "gas", "none", "wood")' in prompt
    assert '"smokes" (one of "False", "True")' in prompt
    assert transformer.elicited_attributions_.labels == ["yes"]
    assert list(transformer.shapes_) == ["age_shape", "heating_shape", "smokes_shape"]
    number = LLMShapeTransformer(llm, task="How long?", n_estimates=1)
    assert number.fit(X, [0.5, 1.2, 3.3, 4.8]).elicited_attributions_.labels == [None]
    with pytest.raises(ValueError, match="y says what the classes are"):
        number.fit(X)


def test_the_shaped_column_takes_over_the_score():
    said = shaped()
    frame = LLMShapeTransformer(shapes=said).fit_transform(pd.concat([X] * 5, ignore_index=True))
    model = LLMAttributionRegularizedClassifier(attributions=said)
    model.fit(frame.drop(columns="heating"), Y * 5)
    names = model.feature_names_in_.tolist()
    scores = dict(zip(names, model.attributions_[0].tolist(), strict=True))
    assert scores == {"age": 0.0, "age_shape": 5.0, "heating_shape": 3.0}


def test_with_several_classes_each_has_its_shaped_columns():
    labels = ["a", "b", "c"]
    said = Attributions(
        {label: {"age": i - 3} for i, label in enumerate(labels)},
        shapes={label: {"age": [HUMP]} for label in labels},
    )
    frame = LLMShapeTransformer(shapes=said).fit_transform(pd.DataFrame({"age": range(20, 50)}))
    assert list(frame) == ["age", "age_shape_a", "age_shape_b", "age_shape_c"]
    y = np.array(labels)[np.arange(30) % 3]
    model = LLMAttributionRegularizedClassifier(attributions=said).fit(frame, y)
    np.testing.assert_array_equal(model.attributions_, [[0, 3, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1]])
