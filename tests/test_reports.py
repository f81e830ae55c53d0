"""What users of similar packages reported as bugs; the sources are in REPORTS.md."""

import json
import re

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.linear_model import LogisticRegression

from skllmreg import (
    ChatModel,
    GOLDAugmenter,
    LLKDSelector,
    LLMAttributionBoostingClassifier,
    LLMAttributionRegularizedClassifier,
    LLMTeacherClassifier,
)
from skllmreg.exceptions import ServerLimitWarning
from skllmreg.students import SentenceEncoder, TextClassifier
from tests.loopback import Behavior, completion, last

N = 40
NUMBERS = np.random.default_rng(0).normal(size=(N, 2))
Y = (NUMBERS[:, 0] > 0).astype(int)
TEXTS = [f"word{i % 7} thing{i % 3}" for i in range(60)]
LABELS = np.array(["a", "b", "c"])[np.arange(60) % 3]


@pytest.fixture
def chat(loopback):
    return ChatModel("tiny", base_url=loopback.base_url, max_retries=0)


def teacher(chat, **params):
    descriptions = {"refund": "wants money back", "delivery": "asks where it is"}
    return LLMTeacherClassifier(
        llm=chat, task="sort mail", class_descriptions=descriptions, **params
    )


@pytest.mark.parametrize(
    "model", [LLMAttributionRegularizedClassifier, LLMAttributionBoostingClassifier]
)
@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame])
def test_a_column_may_have_an_empty_name(model, frame):
    X = frame({"": NUMBERS[:, 0], "b": NUMBERS[:, 1]})
    fitted = model(attributions={"": 5, "b": 0}).fit(X, Y)
    assert fitted.feature_names_in_.tolist() == ["", "b"]
    assert fitted.score(X, Y) > 0.9


def test_a_category_may_be_missing_at_prediction_only():
    X = pd.DataFrame({"kind": pd.Categorical(["x", "y"] * (N // 2)), "size": NUMBERS[:, 0]})
    model = LLMAttributionBoostingClassifier(attributions={"kind_x": 0, "size": 5}).fit(X, Y)
    X.loc[0, "kind"] = np.nan
    assert np.isfinite(model.predict_proba(X)).all()


@pytest.mark.parametrize(
    "model", [LLMAttributionRegularizedClassifier, LLMAttributionBoostingClassifier]
)
def test_a_column_that_changes_its_type_is_named(model):
    X = pd.DataFrame(NUMBERS, columns=["a", "b"])
    fitted = model(attributions={"a": 5, "b": 0}).fit(X, Y)
    with pytest.raises(ValueError, match=r"'b'.*text"):
        fitted.predict(X.assign(b="text"))


@pytest.mark.parametrize("dtype", ["Int64", "boolean", "string", "category"])
def test_labels_of_extension_dtypes_are_labels(dtype):
    y = pd.Series(Y == 1 if dtype == "boolean" else Y).astype(dtype)
    proba = np.full((N, 2), 0.5)
    selector = LLKDSelector(LogisticRegression()).fit(NUMBERS, y, teacher_proba=proba)
    regularized = LLMAttributionRegularizedClassifier(attributions=[5, 0]).fit(NUMBERS, y)
    for model in (selector, regularized):
        assert (pd.Series(model.predict(NUMBERS)).astype(dtype) == y).mean() > 0.9


def test_predictions_are_the_most_probable_classes():
    model = TextClassifier().fit(TEXTS, LABELS)
    most = model.classes_[model.predict_proba(TEXTS).argmax(axis=1)]
    np.testing.assert_array_equal(model.predict(TEXTS), most)


def test_a_teacher_tells_a_hundred_and_fifty_classes_apart(chat, loopback):
    names = [f"intent {i:03}" for i in range(150)]
    loopback.reply = lambda body: "intent " + re.findall("number ([0-9]+)", last(body))[-1].zfill(3)
    descriptions = {name: f"case {i}" for i, name in enumerate(names)}
    model = teacher(chat, confidence="votes", n_samples=1, answer_with="name")
    model.set_params(class_descriptions=descriptions)
    asked = [f"number {i}" for i in (0, 77, 149)]
    assert model.predict(asked).tolist() == ["intent 000", "intent 077", "intent 149"]


def test_a_class_may_have_no_labeled_row():
    y = np.where(np.arange(N) < 10, np.arange(N) % 2, -1)
    proba = pd.DataFrame(np.random.default_rng(1).dirichlet([1, 1, 1], N), columns=[0, 1, 2])
    model = LLKDSelector(LogisticRegression()).fit(NUMBERS, y, teacher_proba=proba)
    assert model.classes_.tolist() == [0, 1, 2]
    assert model.predict_proba(NUMBERS).shape == (N, 3)


@pytest.mark.parametrize("n_columns", [2, 4])
def test_probabilities_of_other_classes_are_an_error_that_names_them(n_columns):
    y = np.where(np.arange(N) < 10, np.arange(N) % 3, -1)
    proba = np.full((N, n_columns), 1 / n_columns)
    with pytest.raises(ValueError, match=rf"{n_columns} columns for the classes \[0, 1, 2\]"):
        LLKDSelector(LogisticRegression()).fit(NUMBERS, y, teacher_proba=proba)


def test_an_answer_that_is_no_label_is_no_label(chat, loopback):
    texts = ["odd one"] + [f"case {i}" for i in range(5)]
    loopback.reply = lambda body: "banana" if "odd" in json.dumps(body["messages"]) else "refund"
    model = teacher(chat, confidence="votes", answer_with="name", on_refusal="abstain")
    proba = model.predict_proba(texts)
    assert np.isnan(proba[0]).all()
    assert (proba[1:].argmax(axis=1) == 1).all()  # classes are sorted


def test_one_refused_text_costs_its_own_row(chat, loopback):
    def reply(body):
        if "odd" in last(body):
            return Behavior({"error": {"message": "content_filter"}}, status=400)
        return "refund"

    loopback.reply = reply
    model = teacher(chat, confidence="votes", answer_with="name", on_refusal="abstain")
    predicted = model.predict_proba(["case", "odd one", "case too"])
    assert np.isnan(predicted).any(axis=1).tolist() == [False, True, False]


def keywords(schema):
    """Names of all keywords of a JSON schema, with those of the schemas in it."""
    if isinstance(schema, list):
        return set().union(*map(keywords, schema))
    if not isinstance(schema, dict):
        return set()
    inner = [schema.get("items"), *schema.get("properties", {}).values()]
    return set(schema).union(*map(keywords, inner))


def test_schemas_use_only_what_all_servers_take(chat, loopback):
    X = pd.DataFrame({"sex": pd.Categorical(["f", "m"] * 6), "age": np.arange(12)})

    def reply(body):
        schema = body["response_format"]["json_schema"]["schema"]["properties"]
        if "rows" in schema or "samples" in schema:
            return json.dumps({name: [{"sex": "f", "age": 5}] for name in schema})
        return json.dumps(dict.fromkeys(schema, 3))

    loopback.reply = reply
    LLMAttributionRegularizedClassifier(
        llm=chat, task="t", feature_descriptions={"age": "age in years"}
    ).fit(X[["age"]], Y[:12])
    augmenter = GOLDAugmenter(llm=chat, task="patients", n_samples=2, n_rounds=1, random_state=0)
    augmenter.fit(X, np.array(["ill", "well"])[Y[:12]])
    schemas = [
        body["response_format"]["json_schema"]["schema"]
        for body in loopback.requests
        if "response_format" in body
    ]
    assert len(schemas) > 1
    portable = {"type", "properties", "required", "additionalProperties", "items", "enum"}
    counts = {"minItems", "maxItems", "minimum", "maximum"}
    assert set().union(*map(keywords, schemas)) <= portable | counts


def test_a_schema_that_is_not_kept_to_is_found_out(chat, loopback):
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    replies = iter(["ten, I think", '{"n": "ten"}', '{"n": 10}'])
    loopback.reply = lambda body: next(replies)
    (reply,) = chat.complete(["how many?"], schema=schema)
    assert reply.value == {"n": 10}
    assert reply.n_repairs == 2


def test_log_probabilities_that_do_not_come_are_replaced_and_reported(chat, loopback):
    loopback.reply = lambda body: completion("refund", logprobs=None)
    with pytest.warns(ServerLimitWarning):
        found = chat.label_probabilities(["where is my money?"], ["refund", "delivery"])
    assert found.probabilities.tolist() == [[1.0, 0.0]]


def test_the_text_without_a_vector_is_named():
    def encode(texts):
        return np.array([[1.0, 2.0] if text else [np.nan, 0.0] for text in texts])

    with pytest.raises(ValueError, match="text '' is not finite"):
        SentenceEncoder(encode).fit_transform(["a text", "", "another"])


@pytest.mark.parametrize("model", [SentenceEncoder(lambda texts: None), TextClassifier()])
def test_a_missing_text_is_named_by_its_row(model):
    texts = ["a text", float("nan"), "another", "one more"]
    with pytest.raises(ValueError, match="Row 1 of X is nan"):
        model.fit_transform(texts) if hasattr(model, "transform") else model.fit(texts, [0, 1] * 2)
