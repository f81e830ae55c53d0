"""Odd tables and odd labels through every estimator: the right model, or an error that names it."""

import json
import pickle
import string
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.frozen import FrozenEstimator
from sklearn.naive_bayes import GaussianNB

from skllmreg import (
    AttributionDisplay,
    Attributions,
    ChatModel,
    GOLDAugmenter,
    LLKDSelector,
    LLMAttributionRegularizedClassifier,
    LLMAttributionRegularizedRegressor,
    LLMFeatureSelector,
    LLMTeacherClassifier,
)
from skllmreg.attribution._scores import parse_attributions
from tests.faults.entries import healthy
from tests.hostile.strategies import LABELS, TEXTS, names, numbers

# Of labels that contradict scores: both are drawn at random.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
TASK = "Predict it."
RNG = np.random.default_rng(0)
Y = np.arange(40) % 2


@pytest.fixture
def llm(loopback):
    loopback.reply = healthy
    return ChatModel("tiny", base_url=loopback.base_url, max_retries=0)


def table(columns, n=40):
    return pd.DataFrame(RNG.normal(size=(n, len(columns))), columns=columns)


# Names of columns


@given(columns=names(), data=st.data())
@settings(max_examples=25, deadline=None)
def test_scores_find_their_columns_whatever_these_are_called(columns, data):
    scores = data.draw(st.lists(st.integers(-10, 10), min_size=len(columns), max_size=len(columns)))
    found = parse_attributions(dict(zip(columns, scores, strict=True)), columns, len(columns))
    np.testing.assert_array_equal(found, [[scores]])
    said = Attributions(dict(zip(columns[::-1], scores[::-1], strict=True)))
    assert Attributions.from_json(said.to_json()) == said
    np.testing.assert_array_equal(parse_attributions(said, columns, len(columns)), [[scores]])


@pytest.mark.parametrize("estimator", [
    LLMAttributionRegularizedClassifier,
    LLMAttributionRegularizedRegressor,
    LLMFeatureSelector,
])  # fmt: skip
def test_columns_of_any_name_are_asked_about_and_scored(llm, loopback, tmp_path, estimator):
    X = table(TEXTS)
    model = estimator(llm, task=TASK, n_estimates=1).fit(X, Y)
    said = model.elicited_attributions_
    assert said.feature_names == TEXTS
    said.save(tmp_path / "said.json")
    assert Attributions.load(tmp_path / "said.json") == said
    assert model.feature_names_in_.tolist() == TEXTS
    pickle.loads(pickle.dumps(model))


def test_columns_of_any_name_are_drawn():
    pytest.importorskip("matplotlib").use("Agg")
    model = LLMAttributionRegularizedClassifier(attributions=dict.fromkeys(TEXTS, 1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of glyphs that the font does not have
        display = AttributionDisplay.from_estimator(model.fit(table(TEXTS), Y), max_features=50)
        display.figure_.canvas.draw()


def test_two_thousand_columns_are_asked_about_in_parts(llm, loopback):
    X = table([f"c{i}" for i in range(2000)])
    model = LLMAttributionRegularizedClassifier(llm, task=TASK, n_estimates=1, gamma=1.0)
    model.fit(X, np.where(Y, "ill", "well"))
    assert len(loopback.requests) == 20
    assert np.isfinite(model.predict_proba(X)).all()


def test_rows_with_columns_of_any_name_are_shown_to_a_teacher(llm, loopback):
    columns = [name for name in TEXTS if name.isprintable()]
    teacher = LLMTeacherClassifier(llm, task=TASK, class_descriptions={"a": "one", "b": "two"})
    teacher.predict_proba(table(columns, 2))
    assert len(loopback.requests) == 2
    assert all("{0.__class__}: " in prompt for prompt in loopback.prompts)


def test_a_student_learns_from_columns_of_any_name():
    X = table(TEXTS)
    y = np.where(np.arange(40) < 20, Y, -1)
    teacher = FrozenEstimator(GaussianNB().fit(X, Y))
    assert set(LLKDSelector(teacher=teacher).fit(X, y).predict(X)) <= {0, 1}


def test_rows_with_columns_of_any_name_are_generated():
    X = table(TEXTS)

    def generator(request):
        rng = np.random.default_rng(request.random_state)
        spread = dict.fromkeys(TEXTS, 0.0) | {name: rng.normal() for name in TEXTS}
        return [spread | {TEXTS[i]: 0.5} for i in range(request.n_rows)]

    model = GOLDAugmenter(generator=generator, n_rounds=1, random_state=0).fit(X, Y)
    assert model.X_generated_.columns.tolist() == TEXTS
    assert len(model.X_generated_)


# What cannot be learned from


NINTH = np.arange(80).reshape(40, 2) == 9
WRONG = {
    "doubled names": (table(["a", "b", "a"]), "'a'"),
    "names of several types": (table(["a", 1]), r"\['int', 'str'\]"),
    "text": (pd.DataFrame({"a": [1.0] * 40, "b": ["x"] * 40}), "Column 'b' of X holds text"),
    "dates": (
        pd.DataFrame({"a": [1.0] * 40, "b": pd.date_range("2020", periods=40)}),
        "Column 'b' of X holds dates",
    ),
    "NaN": (table(["a", "b"]).mask(NINTH), "Column 'b' of X is nan in row 4"),
    "pd.NA": (table(["a", "b"]).convert_dtypes().mask(NINTH), "Column 'b' of X is <NA> in row 4"),
    "pd.NA beside objects": (
        table(["a", "b"]).astype(object).mask(NINTH, pd.NA),
        "Column 'b' of X is <NA> in row 4",
    ),
    "infinity": (table(["a", "b"]).mask(NINTH, np.inf), "Column 'b' of X is inf in row 4"),
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize(
    "estimator", [LLMAttributionRegularizedClassifier, LLMAttributionRegularizedRegressor]
)
def test_what_cannot_be_learned_from_is_named(estimator, wrong):
    X, named = WRONG[wrong]
    with pytest.raises((TypeError, ValueError), match=named):
        estimator(attributions=dict.fromkeys(X.columns, 1), gamma=1.0).fit(X, Y)


def test_infinity_in_an_array_is_named_by_its_place():
    X = np.zeros((40, 3))
    X[5, 2] = -np.inf
    with pytest.raises(ValueError, match="Column 2 of X is -inf in row 5"):
        LLMAttributionRegularizedClassifier(attributions=[1, 2, 3]).fit(X, Y)


@pytest.mark.parametrize("y", [[0], ["a"] * 40])
def test_one_class_is_named(y):
    X = table(["a", "b"], len(y))
    with pytest.raises(ValueError, match=f"one class: .*{y[0]}"):
        LLMAttributionRegularizedClassifier(attributions={"a": 1, "b": 2}).fit(X, y)


@given(score=numbers, column=st.sampled_from(TEXTS))
@settings(max_examples=100, deadline=None)
def test_a_score_is_a_number_from_minus_ten_to_ten_or_its_feature_is_named(score, column):
    def parsed():
        return parse_attributions({column: score, "other": 1}, [column, "other"], 2)

    if isinstance(score, int | float) and not isinstance(score, bool) and abs(score) <= 10:
        assert parsed()[0, 0, 0] == score
    else:
        with pytest.raises(ValueError) as caught:  # noqa: PT011
            parsed()
        assert repr(column) in str(caught.value)


@pytest.mark.parametrize("column", TEXTS)
def test_a_feature_without_a_score_is_named(column):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        parse_attributions({"other": 1}, [column, "other"], 2)
    assert repr(column) in str(caught.value)


# Labels


@pytest.mark.parametrize("kind", LABELS)
def test_labels_of_any_kind_keep_their_scores(kind, llm):
    labels = LABELS[kind]
    y = np.array(labels)[np.arange(60) % len(labels)]
    X = pd.DataFrame(np.eye(len(labels))[np.arange(60) % len(labels)], columns=None)
    X.columns = [f"is_{i}" for i in range(len(labels))]
    scores = {
        label: {name: 9 if i == k else -9 for i, name in enumerate(X)}
        for k, label in enumerate(labels)
    }
    model = LLMAttributionRegularizedClassifier(attributions=scores).fit(X[::7], y[::7])
    np.testing.assert_array_equal(model.predict(X), y)
    assert model.predict(X).dtype == y.dtype
    assert model.agreement_ == 1
    described = {label: f"meaning {k}" for k, label in enumerate(labels)}
    asked = LLMAttributionRegularizedClassifier(llm, task=TASK, class_descriptions=described)
    assert asked.fit(X, y).elicited_attributions_.labels == (
        labels[1:] if len(labels) == 2 else labels
    )


def by_word(body):
    """Answer with the code, or the name, of the class whose number is in the text."""
    if "response_format" in body:
        properties = body["response_format"]["json_schema"]["schema"]["properties"]
        return json.dumps(dict.fromkeys(properties, 1 / len(properties)))
    instructions, question = (message["content"] for message in body["messages"][:2])
    number = int(question.rpartition("row of kind ")[2][0])
    _, by_name, names = instructions.rpartition("Answer with one of these and nothing else:\n")
    if by_name:
        return names.splitlines()[number]
    codes = [
        line[0]
        for line in instructions.splitlines()
        if line[:1] in string.ascii_uppercase and line[1:3] == ": "
    ]
    return codes[-number_of_classes(instructions) :][number]


def number_of_classes(prompt):
    return int(prompt.partition("kind, one of ")[2][0])


@pytest.mark.parametrize("kind", LABELS)
def test_a_teacher_tells_labels_of_any_kind_apart(kind, loopback):
    labels = LABELS[kind]
    loopback.reply = by_word
    teacher = LLMTeacherClassifier(
        ChatModel("tiny", base_url=loopback.base_url),
        task=f"Tell the kind, one of {len(labels)}.",
        class_descriptions={label: f"meaning {k}" for k, label in enumerate(labels)},
        confidence="votes",
        n_samples=1,
    )
    texts = [f"a row of kind {k}" for k in range(len(labels))]
    assert teacher.predict(texts).tolist() == labels
    teacher.set_params(confidence="stated")
    np.testing.assert_allclose(teacher.predict_proba(texts), 1 / len(labels))
