"""What goes wrong in the first minutes, and that each message says what to do."""

import json
import subprocess
import sys
import warnings

import numpy as np
import polars as pl
import pytest
from scipy import sparse
from sklearn.datasets import load_breast_cancer

from skllmreg import (
    ChatModel,
    LLMAttributionRegularizedClassifier,
    LLMAttributionRegularizedRegressor,
)
from skllmreg.exceptions import UnscaledFeaturesWarning, UnusedDescriptionWarning
from tests.loopback import Behavior, error

X, y = load_breast_cancer(return_X_y=True, as_frame=True)
X, y = X.iloc[:40, :3], y[:40]
SCORES = {"mean radius": -9, "mean texture": -3, "mean perimeter": -8}
PAGE = (
    "<!DOCTYPE html><html><head><title>Login</title><style>p {}</style></head>"
    "<body><p>Sign in\nto the network</p></body></html>"
)


def constant(body):
    asked = body["response_format"]["json_schema"]["schema"]["properties"]
    return json.dumps(dict.fromkeys(asked, -5))


def asking(llm, **params):
    described = {"task": "Predict malignancy.", "class_descriptions": {0: "malignant", 1: "benign"}}
    return LLMAttributionRegularizedClassifier(llm, **described | params)


def with_scores(attributions=SCORES, **params):
    return LLMAttributionRegularizedClassifier(attributions=attributions, **params)


# What the server answers, and what the user reads.
@pytest.mark.parametrize(
    ("behavior", "match"),
    [
        (error(401, "Incorrect key"), r"Incorrect key\. Is the key right, .* api_key_env names"),
        (error(404, "no such model"), r"such model\. Does the server have this model\? .* doctor"),
        (Behavior(PAGE), "in place of JSON: 'Login Sign in to the network'. Does base_url point"),
        (
            Behavior(PAGE, 403),
            r"status 403: a web page, perhaps of a proxy on the way: 'Login Sign in to the network",
        ),
    ],
    ids=["wrong key", "wrong model", "login page", "proxy"],
)
def test_what_a_server_refuses(loopback, behavior, match):
    loopback.reply = lambda body: behavior
    with pytest.raises(RuntimeError, match=match):
        asking(ChatModel("tiny", base_url=loopback.base_url)).fit(X, y)


def test_an_address_without_v1(loopback):
    loopback.reply = lambda body: Behavior("404 page not found", 404)
    with pytest.raises(RuntimeError, match=r"404 page not found\. Most addresses end in /v1\."):
        asking(ChatModel("tiny", base_url=loopback.base_url.removesuffix("/v1"))).fit(X, y)


def test_an_address_with_too_much():
    chat = ChatModel("tiny", base_url="http://localhost:8000/v1/chat/completions/")
    with pytest.raises(ValueError, match="before /chat/completions: 'http://localhost:8000/v1'"):
        chat.complete(["Hello"])


def test_a_server_that_is_not_running_is_told_at_once(monkeypatch):
    monkeypatch.setattr(
        "skllmreg.llm._obtain.Live._wait_after", None
    )  # it would be called to retry
    with pytest.raises(RuntimeError, match=r"cannot be reached .* Is the server up\? .* doctor"):
        asking(ChatModel("tiny", base_url="http://127.0.0.1:9/v1")).fit(X, y)


def test_no_key_and_a_server_that_needs_none(loopback):
    with pytest.raises(RuntimeError, match="OPENAI_API_KEY is not set: .* Set it, or name another"):
        asking(ChatModel("gpt-4o")).fit(X, y)
    loopback.reply = constant
    asking(ChatModel("tiny", base_url=loopback.base_url)).fit(X, y)


@pytest.mark.parametrize(
    ("model", "X", "y", "match"),
    [
        (asking("gpt-4o"), X, y, r'as in llm=ChatModel\("gpt-4o"\); got \'gpt-4o\''),
        (asking(ChatModel("m"), task=None), X, y, "task says in a sentence what is predicted"),
        (asking(ChatModel("m")), X.to_numpy(), y, r'Give X as a data frame .*transform="pandas"'),
        (with_scores(), X.to_numpy(), y, "X has none. Give X as a data frame"),
        (with_scores({"mean radus": 1}), X, y, r"'mean radius' \(did you mean 'mean radus'\?\)"),
        (with_scores({1: 2, 2: 3, 3: 4}), X, y, "name a feature 1, which is not a string"),
        (with_scores({"1": SCORES}), X, y, r"class\(es\) 0, 1; .* type included\.$"),
        (
            with_scores(),
            X.assign(**{"mean texture": "rough"}),
            y,
            r"Column 'mean texture' of X holds text such as 'rough'; .* OneHotEncoder",
        ),
        (with_scores(), pl.DataFrame({"a": [1, 2], "b": ["x", "y"]}), [0, 1], "Column 'b'"),
        (with_scores([1, 2]), [[1, "a"], [2, "b"]], [0, 1], "Column 1 of X holds text such as 'a'"),
        (with_scores(), X.assign(site="left").astype({"site": "category"}), y, "Column 'site'"),
        (with_scores(), ["some text", "more"], [0, 1], "X holds texts .*TextClassifier"),
        (
            LLMAttributionRegularizedRegressor(attributions=SCORES),
            X,
            np.where(y == 1, "a", "b"),
            "y holds text such as 'b'; for classes there is a classifier",
        ),
        (with_scores(), X, np.zeros(40), "at least two classes are needed; y has one class: 0.0"),
        (
            LLMAttributionRegularizedRegressor(attributions={1: SCORES}),
            X,
            y,
            "by class, but this is a regression: give {feature: score}",
        ),
    ],
    ids=[
        "name of a model for an LLM",
        "no task",
        "array and LLM",
        "array and scores",
        "slip in a score",
        "numbers for names",
        "str for a class",
        "text column",
        "text column of polars",
        "text column of an array",
        "categories",
        "texts",
        "classes for a regression",
        "one class",
        "classes of a regression",
    ],
)
def test_what_an_estimator_refuses(model, X, y, match):
    with pytest.raises((ValueError, TypeError), match=match):
        model.fit(X, y)


def test_a_slip_in_a_description_is_told(loopback):
    loopback.reply = constant
    model = asking(
        ChatModel("tiny", base_url=loopback.base_url),
        feature_descriptions={"mean radus": "Mean radius", "mean texture": "Of the cells"},
    )
    with pytest.warns(
        UnusedDescriptionWarning, match="'mean radus', .* not describe 'mean radius'"
    ):
        model.fit(X, y)


@pytest.mark.parametrize("container", [lambda X: X, lambda X: sparse.csr_array(X.to_numpy())])
def test_a_missing_scaler_is_told_where_the_model_does_not_scale(container):
    unequal = X.assign(**{"mean texture": X["mean texture"] * 1e6})
    model = with_scores([-9, -3, -8], standardize=False)
    with pytest.warns(UnscaledFeaturesWarning, match="put a scaler in front"):
        model.fit(container(unequal), y)
    with warnings.catch_warnings(action="error", category=UnscaledFeaturesWarning):
        model.fit(container(X), y)
        with_scores([-9, -3, -8]).fit(container(unequal), y)


def test_a_slip_in_a_public_name_is_told():
    code = "import skllmreg; skllmreg.ChatModle"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stderr
    assert "Did you mean: 'ChatModel'?" in said
