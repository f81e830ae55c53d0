import copy
import json
import pickle

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone

from skllmreg import Attributions, LLMFeatureSelector
from skllmreg.attribution._scores import parse_attributions

BINARY = Attributions(
    {1: [{"age": 4, "bmi": -2}, {"age": 6, "bmi": -2}]},
    task="Is the patient ill?",
    model="tiny",
    date="2025-01-31",
    prompt_hash="abc",
    n_described=2,
)
REGRESSION = Attributions([{"age": 4, "bmi": -2}, {"age": 6, "bmi": -2}])
THREE = Attributions(
    {k: [{"age": 4, "bmi": 0.5}] for k in ("low", 2, True)} | {2.5: {"age": 1, "bmi": 1}}
)
ALL = {"binary": BINARY, "regression": REGRESSION, "several": THREE}


def test_mean_and_spread_are_over_the_estimates():
    assert REGRESSION.mean() == {"age": 5.0, "bmi": -2.0}
    assert REGRESSION.spread() == {"age": 1.0, "bmi": 0.0}
    assert BINARY.mean() == {1: REGRESSION.mean()}
    assert BINARY.spread() == {1: REGRESSION.spread()}


@pytest.mark.parametrize("name", ["binary", "regression"])
def test_estimators_read_it(name):
    classes = np.array([0, 1]) if name == "binary" else None
    estimates = parse_attributions(ALL[name], ["bmi", "age"], 2, classes)
    assert estimates.tolist() == [[[-2, 4]], [[-2, 6]]]


def test_what_it_hands_out_can_be_changed_without_harm():
    REGRESSION.to_estimates()[0]["age"] = 9
    REGRESSION.scores()["age"][0] = 9
    assert REGRESSION.mean()["age"] == 5.0


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(
    "how",
    [
        copy.deepcopy,
        lambda said: pickle.loads(pickle.dumps(said)),
        lambda said: Attributions.from_json(said.to_json()),
        lambda said: clone(LLMFeatureSelector(attributions=said)).attributions,
    ],
    ids=["deepcopy", "pickle", "json", "clone"],
)
def test_copies_are_equal(name, how):
    assert how(ALL[name]) == ALL[name]


def test_types_of_labels_survive_json():
    said = Attributions(
        {np.int64(1): [{"a": 1}], "1": [{"a": 2}], 1.5: [{"a": 3}], np.str_("x"): [{"a": 4}]}
    )
    again = Attributions.from_json(said.to_json())
    assert again.labels == [1, "1", 1.5, "x"]
    assert [type(label) for label in again.labels] == [int, str, float, str]


def test_a_feature_is_one_line_of_json():
    lines = BINARY.edit({"bmi": 7}, by="Dr. Ito").to_json().splitlines()
    assert '        "age": [4, 6],' in lines
    assert '        "bmi": {"score": 7, "by": "Dr. Ito"}' in lines


def test_files_hold_every_character(tmp_path):
    said = Attributions([{'größe 🩸\n"x"': 1}], task="é")
    said.save(tmp_path / "said.json")
    assert Attributions.load(tmp_path / "said.json") == said


def test_an_edit_replaces_all_estimates_and_is_marked():
    edited = BINARY.edit({"age": 7.5}, by="Dr. Ito")
    assert edited.scores(1) == {"age": [7.5, 7.5], "bmi": [-2, -2]}
    assert edited.spread()[1]["age"] == 0
    assert edited.edited == {(1, "age"): "Dr. Ito"}
    assert "1 edited" in repr(edited)
    assert BINARY.mean()[1]["age"] == 5.0
    assert edited.task == BINARY.task


@pytest.mark.parametrize("name", ALL)
def test_edits_survive_json_and_further_edits(name):
    said = ALL[name]
    by_label = {"age": 7} if name != "several" else {"low": {"age": 7}, 2: {"bmi": -7}}
    edited = said.edit(by_label, by="expert")
    again = Attributions.from_json(edited.to_json())
    assert again == edited
    more = again.edit({"bmi": 0} if name != "several" else {True: {"bmi": 0}})
    assert len(more.edited) == len(edited.edited) + 1


def test_an_edit_may_name_the_class_by_a_numpy_label():
    assert BINARY.edit({np.int64(1): {"age": 7}}).mean()[1]["age"] == 7


@pytest.mark.parametrize(
    ("said", "scores", "match"),
    [
        (BINARY, {"ages": 7}, r"No feature 'ages' \(did you mean 'age'\?\)"),
        (BINARY, {0: {"age": 7}}, r"No class 0; the classes are \[1\]"),
        (BINARY, {"age": 11}, "from -10 to 10"),
        (BINARY, {"age": float("nan")}, "finite"),
        (BINARY, {"age": True}, "not a number"),
        (THREE, {"age": 7}, "Say for which of the classes"),
    ],
)
def test_wrong_edits_are_errors(said, scores, match):
    with pytest.raises(ValueError, match=match):
        said.edit(scores)


@pytest.mark.parametrize(
    ("estimates", "match"),
    [
        ({}, "at least one class"),
        ([], "not a list of"),
        ([{}], "Estimate 0 is no"),
        ([[1, 2]], "Estimate 0 is no"),
        ([{1: 2}], "has the name 1"),
        ([{"a": "7"}], "'7', not a number"),
        ([{"a": 10**400}], "not from -10 to 10"),
        ([{"a": 1}, {"b": 1}], "Estimate 1 has other features than the first"),
        ({0: [{"a": 1}], 1: [{"b": 1}]}, "Estimate 0 for class 1 has other features"),
        ({0: [{"a": 1}], 1: [{"a": 1}, {"a": 1}]}, "2 estimates for class 1, not 1"),
        ({None: [{"a": 1}]}, "at least one class"),
        ({(1, 2): [{"a": 1}]}, "string or a number"),
        ({float("nan"): [{"a": 1}]}, "string or a number"),
    ],
)
def test_wrong_scores_are_errors(estimates, match):
    with pytest.raises(ValueError, match=match):
        Attributions(estimates)


def changed(**changes):
    record = json.loads(BINARY.to_json()) | changes
    return json.dumps({name: value for name, value in record.items() if value is not ...})


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "no JSON"),
        ("[" * 10**6, "no JSON"),
        ('{"format": 1, "format": 1}', "'format' is given twice"),
        ("[]", '"format" is not'),
        (changed(format="other"), '"format" is not'),
        (changed(task=1), '"task" is 1, not of type str'),
        (changed(n_described=True), '"n_described" is True'),
        (changed(n_estimates=10**12), '"n_estimates" is not from 1 to'),
        (changed(n_estimates=None), '"n_estimates" is not from 1 to'),
        (changed(n_estimates=3), "scores of 'age' of class 1 are not a list of 3"),
        (changed(scores={"a": [1, 1]}), 'either "classes" or "scores"'),
        (changed(extra=1), r"got \['classes', 'extra'\]"),
        (changed(classes=None), "at least one class"),
        (changed(classes=[]), "at least one class"),
        (changed(classes="x"), "not of type list"),
        (changed(classes=[1]), 'item 0 of "classes" has not exactly'),
        (changed(classes=[{"label": [], "scores": {}}]), r"wrong or repeated label: \[\]"),
        (changed(classes=[{"label": 1, "scores": {"a": [1, 1]}}] * 2), "repeated label: 1"),
        (changed(classes=[{"label": 1, "scores": []}]), "of class 1 is not an object"),
        (changed(classes=[{"label": 1, "scores": {"a": [1, 11]}}]), "is 11; scores go from -10 to"),
        (changed(classes=[{"label": 1, "scores": {"a": [1, "x"]}}]), "'x', not a number"),
        (changed(classes=[{"label": 1, "scores": {"a": {"score": 1}}}]), 'needs "score", "by"'),
        (changed(classes=..., scores={"a": {"score": 1, "by": 2}}), "edited has a wrong item"),
        (changed(classes=..., scores={}), "Estimate 0 is no"),
        (BINARY.to_json().replace("[4, 6]", "[NaN, 6]"), "finite"),
        (BINARY.to_json().replace("[4, 6]", "[1e999, 6]"), "finite"),
    ],
)
def test_files_are_not_trusted(text, match):
    with pytest.raises(ValueError, match=f"cannot be read.*{match}"):
        Attributions.from_json(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@pytest.mark.slow
@settings(deadline=None, max_examples=200)
@given(st.sampled_from(sorted(json.loads(BINARY.to_json()))), JSON)
def test_any_change_of_a_file_is_read_or_a_value_error(name, value):
    try:
        said = Attributions.from_json(changed(**{name: value}))
    except ValueError:
        return
    assert Attributions.from_json(said.to_json()) == said


def test_table_has_a_row_per_feature():
    frame = REGRESSION.edit({"bmi": 1}, by="expert").to_frame()
    assert frame.index.tolist() == ["age", "bmi"]
    assert frame["mean"].tolist() == [5.0, 1.0]
    assert frame["spread"].tolist() == [1.0, 0.0]
    assert frame.loc["bmi", "edited_by"] == "expert"
    assert frame.loc["age", ["estimate_0", "estimate_1"]].tolist() == [4, 6]


def test_table_of_classes_has_a_row_per_class_and_feature():
    frame = THREE.to_frame()
    assert frame.index.names == ["class", "feature"]
    assert frame.loc[("low", "age"), "mean"] == 4
    assert len(frame) == 8


def test_repr_is_short():
    assert repr(BINARY) == "<Attributions: 2 features × 2 estimates, class 1, by tiny>"


def test_html_escapes_what_others_wrote():
    bad = "<script>"
    said = Attributions({bad: [{bad: 1}]}, model=bad).edit({bad: 2}, by=bad)
    assert bad not in said._repr_html_()
    assert said._repr_html_().count("&lt;script&gt;") >= 4


def test_html_shows_the_most_telling_features_first_and_not_too_many():
    shown = Attributions([{f"f{i}": i % 11 for i in range(100)}])._repr_html_()
    assert shown.index("f10<") < shown.index("f9<")
    assert "and 70 more" in shown


def test_a_template_has_a_score_for_every_column():
    X = pd.DataFrame({"age": [1], "bmi": [2]})
    assert Attributions.template(X).mean() == {"age": 0.0, "bmi": 0.0}
    assert Attributions.template(X, classes=["b", "a"]).mean() == {"b": {"age": 0.0, "bmi": 0.0}}
    assert Attributions.template(X, classes=[*"abc"]).labels == ["a", "b", "c"]
    assert Attributions.template(list(X), {"ill": {"bmi": 7}}).mean()["ill"] == {
        "age": 0.0,
        "bmi": 7.0,
    }
    with pytest.raises(ValueError, match="No column 'BMI' for class 'ill'.*'bmi'"):
        Attributions.template(X, {"ill": {"BMI": 7}})


def test_a_note_is_kept_in_the_file():
    said = Attributions({"a": 1}, note="by hand, from the clinic's guideline")
    assert Attributions.from_json(said.to_json()) == said
    assert "note" not in Attributions({"a": 1}).to_json()
