"""Every way to reach an LLM from this package, and a server that answers all of them."""

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from skllmreg import (
    GOLDAugmenter,
    LLKDSelector,
    LLMAttributionRegularizedClassifier,
    LLMAttributionRegularizedRegressor,
    LLMFeatureSelector,
    LLMTeacherClassifier,
    describe_features,
    elicit_attributions,
)
from tests.loopback import completion, last

TASK = "Sort messages to the help desk."
CLASSES = {"delivery": "asks for a parcel", "refund": "wants money back"}
TEXTS = ["Where is my parcel?", "I want my money back.", "The parcel came late.", "Pay me back!"]
LABELS = ["delivery", "refund", "delivery", "refund"]
X = pd.DataFrame({"age": [0.0, 1, 2, 3], "bmi": [1.0, 3, 2, 4]})
SYMPTOMS = [f"symptom {i}" for i in range(201)]  # three parts of a question
SCHEMA = {
    "type": "object",
    "properties": {"score": {"type": "integer"}},
    "required": ["score"],
    "additionalProperties": False,
}


@dataclass(frozen=True)
class Entry:
    """A way to reach an LLM.

    Parameters
    ----------
    run : callable
        Takes a ChatModel.
    n : int
        Requests of a run without faults.
    reads : {"text", "json", "rows", "proposals", "letter", "logprobs"}
        How it reads a reply.
    n_first : int, default=None
        Requests of the first calls of `ChatModel`, up to the one with the second request. None is
        `n`: they are all in one.
    n_call : int, default=None
        Requests of the first call; None is `n`.
    """

    run: Callable
    n: int
    reads: str
    n_first: int | None = None
    n_call: int | None = None

    @property
    def m(self):
        return self.n_first or self.n

    @property
    def k(self):
        return self.n_call or self.n


def teacher(llm, **params):
    return LLMTeacherClassifier(llm, task=TASK, class_descriptions=CLASSES, **params)


def attributed(estimator, y, **params):
    return lambda llm: estimator(llm, task=TASK, n_estimates=3, **params).fit(X, y)


def by_rounds(llm):
    """The student says which rows the teacher is asked about: one, then two of the other three."""
    texts = [*TEXTS, "No parcel came.", "My money, please!"]
    y = np.array([*LABELS[:2], None, None, None, None], dtype=object)
    model = LLKDSelector(teacher=teacher(llm), max_teacher_calls=3, n_rounds=2, random_state=0)
    return model.fit(texts, y)


def written(llm, attributes):
    """Two rounds of two requests each."""
    model = GOLDAugmenter(
        llm=llm,
        task=TASK,
        attributes=attributes,
        n_rounds=2,
        n_batches=1,
        n_novel_batches=1,
        n_seed_examples=1,
        random_state=0,
    )
    return model.fit_resample(TEXTS, LABELS)


ENTRIES = {
    "ChatModel.complete": Entry(lambda llm: llm.complete(list("abc")), 3, "text"),
    "ChatModel.complete with a schema": Entry(
        lambda llm: llm.complete(list("abc"), schema=SCHEMA), 3, "json"
    ),
    "ChatModel.label_probabilities": Entry(
        lambda llm: llm.label_probabilities(list("abc"), ["cat", "dog"]), 3, "logprobs"
    ),
    "elicit_attributions": Entry(
        lambda llm: elicit_attributions(llm, task=TASK, feature_names=["age"], n_estimates=3),
        3,
        "json",
    ),
    "describe_features": Entry(
        lambda llm: describe_features(
            llm, task=TASK, feature_names=[f"symptom {i}" for i in range(201)]
        ),
        3,
        "json",
        n_first=2,
    ),
    "LLMFeatureSelector.fit": Entry(attributed(LLMFeatureSelector, None), 3, "json"),
    "LLMAttributionRegularizedClassifier.fit": Entry(
        attributed(LLMAttributionRegularizedClassifier, ["ill", "well"] * 2), 3, "json"
    ),
    "LLMAttributionRegularizedRegressor.fit": Entry(
        attributed(LLMAttributionRegularizedRegressor, [0.0, 1, 3, 2]), 3, "json"
    ),
    "LLMTeacherClassifier.predict_proba by log-probabilities": Entry(
        lambda llm: teacher(llm).predict_proba(TEXTS), 4, "logprobs"
    ),
    "LLMTeacherClassifier.predict_proba by votes": Entry(
        lambda llm: teacher(llm, confidence="votes").predict_proba(TEXTS), 4, "letter"
    ),
    "LLMTeacherClassifier.predict_proba as stated": Entry(
        lambda llm: teacher(llm, confidence="stated").predict_proba(TEXTS), 4, "json"
    ),
    "LLMTeacherClassifier.fit with calibrate": Entry(
        lambda llm: teacher(llm, calibrate=True, answer_with="name").fit(TEXTS, LABELS),
        4,
        "logprobs",
    ),
    "LLKDSelector.fit": Entry(
        lambda llm: LLKDSelector(teacher=teacher(llm)).fit(TEXTS), 4, "logprobs"
    ),
    "LLKDSelector.fit by rounds": Entry(by_rounds, 3, "logprobs", n_call=1),
    "GOLDAugmenter.fit_resample": Entry(lambda llm: written(llm, None), 4, "rows", n_first=2),
    "GOLDAugmenter.fit_resample with attributes": Entry(
        lambda llm: written(llm, "auto"), 5, "proposals", n_first=3
    ),
}


def healthy(body):
    """What a server answers that is well: it follows the schema, or chooses the right label."""
    prompt = last(body)
    schema = body.get("response_format", {}).get("json_schema", {}).get("schema")
    first = body["messages"][0]["content"]
    if schema is None and "follows this JSON schema:\n" in first:
        text = first.partition("follows this JSON schema:\n")[2]
        schema, _ = json.JSONDecoder().raw_decode(text)
    if schema is not None:
        return completion(json.dumps(filled(schema, prompt)))
    if "Answer with one of these and nothing else:\n" not in first:
        return completion(f"reply to {prompt}")
    # The labels are the two lines after it; the row comes last, also where turns are joined.
    labels = first.partition("Answer with one of these and nothing else:\n")[2].splitlines()[:2]
    prompt = prompt.rpartition("\n\n")[2]
    label, other = labels[::-1] if "back" in prompt else labels
    return completion(label, logprobs=logprobs(label, other) if body.get("logprobs") else None)


def filled(schema, prompt):
    """A value that follows a schema; probabilities sum to one, listed texts are never the same."""
    match schema["type"]:
        case "object":
            properties = schema["properties"]
            if all(inner["type"] == "number" for inner in properties.values()):
                return dict.fromkeys(properties, 1 / len(properties))
            return {name: filled(inner, prompt + name) for name, inner in properties.items()}
        case "array":
            words = [hashlib.sha256(f"{prompt}{i}".encode()).hexdigest() for i in range(4)]
            return [" ".join(word[j : j + 8] for j in range(0, 48, 8)) for word in words]
        case "integer":
            return 3
        case "string":
            return "some text"


def logprobs(token, other, share=0.9):
    top = [
        {"token": token, "logprob": math.log(share), "bytes": None},
        {"token": other, "logprob": math.log(1 - share), "bytes": None},
    ]
    return {"content": [{**top[0], "top_logprobs": top}]}
