"""Replies as nobody would write them, for all that reads replies.

A parser gives a value that keeps to its rules, or raises the error that is documented: nothing
else.
"""

import json
import math
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from skllmreg.attribution._prompts import description_question, importance_goal, score_question
from skllmreg.augmentation._curation import Curator
from skllmreg.augmentation._kinds import kind_of
from skllmreg.augmentation._requests import AttributeGrid
from skllmreg.augmentation._writers import (
    ENVELOPE,
    LLMGenerator,
    attributes_question,
    read_attributes,
)
from skllmreg.exceptions import RequestError
from skllmreg.llm import Reply
from skllmreg.llm._labels import Labels
from skllmreg.llm._replies import parse_payload, read_record
from skllmreg.selection._prompts import read_stated, stated_schema
from skllmreg.utils._json import map_strings, parse_json
from tests.faults.entries import CLASSES, TASK, TEXTS
from tests.faults.entries import logprobs as told
from tests.loopback import completion


@dataclass(frozen=True)
class Parser:
    """Something that reads replies.

    Parameters
    ----------
    example : str
        A good reply, from which others are made.
    read : callable
        Takes a text; asserts that its result keeps to the rules; returns whether there is one.
    error : type, default=ValueError
        The documented one: a ValueError is what the model is told about its reply.
    """

    example: str
    read: Callable[[str], object]
    error: type = ValueError


def fuzz(name, n, seed):
    """Let a parser read n generated replies; count those that are read, and refused.

    Raises
    ------
    RuntimeError
        With the reply at which the parser did something else.
    """
    parser, rng, outcomes = PARSERS[name], random.Random(f"{name} {seed}"), Counter()
    slowest = 0.0
    for _ in range(n):
        text = written(rng, parser.example)
        start = time.perf_counter()
        outcomes[try_one(parser, text)] += 1
        slowest = max(slowest, time.perf_counter() - start)
    counts = {outcome: outcomes[outcome] for outcome in ("read", "refused")}
    return {"replies": n, **counts, "slowest reply, ms": 1000 * slowest}


def try_one(parser, text):
    try:
        parser.read(text)
    except parser.error:
        return "refused"
    except Exception as error:
        raise RuntimeError(f"{error!r} at the reply {text!r}") from error
    return "read"


# How replies are made.

ODD = [
    "",
    " ",
    "\0",
    "\x1b[2J",
    "\ufeff",
    "\u202e",
    "é",
    "🦊",
    "\n",
    "x" * 3000,
    "A",
    "**B**",
    "(C)",
]
ODD += [
    "{}",
    "[]",
    '"',
    "\\",
    "\\u0000",
    "\\ud83d",
    "```",
    "```json\n",
    ",",
    ":",
    "{x}",
    "%s",
    "../..",
]
ODD += ["null", "true", "NaN", "-Infinity", "1e999", "-0", "9" * 400, "0." + "1" * 50, "__class__"]
VALUES = [None, True, False, 0, -1, 3, 11, 1.5, -0.0, 1e308, 10**30, "", "text", "🦊", "3", [], {}]
AROUND = [
    "{}",
    "```json\n{}\n```",
    "```\n{}\n```\n```\n{}\n```",
    "So: {} Bye.",
    "{}{}",
    "<b>{}</b>",
]


def written(rng, example):
    """A reply: from the good one by accidents to its values or its characters, or made up."""
    kind = rng.random()
    if kind < 0.1:
        return "".join(rng.choices(ODD, k=rng.randrange(6)))
    if kind < 0.2:
        return json.dumps(made_up(rng, 4), ensure_ascii=rng.random() < 0.5)
    text = example
    if kind < 0.7:
        try:
            text = json.dumps(changed(rng, json.loads(example)), ensure_ascii=rng.random() < 0.5)
        except ValueError:  # an example that is no JSON
            text = rng.choice(ODD) + example
    for _ in range(rng.choice([0, 0, 1, 3])):
        i, j = sorted(rng.choices(range(len(text) + 1), k=2))
        j = rng.choice([i, i + 1, j])
        text = text[:i] + rng.choice([*ODD, text[i:j] * 2]) + text[j:]
    if rng.random() < 0.3:
        text = rng.choice(AROUND).replace("{}", text)
    return map_strings(text)[:20_000]


def made_up(rng, depth):
    if depth == 0 or rng.random() < 0.4:
        return rng.choice([*VALUES, rng.choice(ODD), rng.uniform(-20, 20)])
    if rng.random() < 0.5:
        return [made_up(rng, depth - 1) for _ in range(rng.randrange(4))]
    return {rng.choice(ODD): made_up(rng, depth - 1) for _ in range(rng.randrange(4))}


def changed(rng, value):
    """The value with, on average, one accident to it."""
    if rng.random() < 0.15:
        return made_up(rng, 2)
    if isinstance(value, dict) and value:
        items = [(k, changed(rng, v) if rng.random() < 0.5 else v) for k, v in value.items()]
        if rng.random() < 0.1:
            items.pop(rng.randrange(len(items)))
        if rng.random() < 0.1:
            items.append((rng.choice([*ODD, *value]), made_up(rng, 1)))
        return dict(items)
    if isinstance(value, list) and value:
        items = [changed(rng, v) if rng.random() < 0.5 else v for v in value]
        return items * rng.choice([0, 1, 1, 1, 2, 9])
    if isinstance(value, (int, float)):
        return rng.choice([value, rng.randint(-12, 12), rng.uniform(-1, 2)])
    return rng.choice([value, value, rng.choice(ODD)])


# What reads them.

NAMES = ["age", "größe", "x" * 80]
FRAME = pd.DataFrame(
    {
        "age": [30, 41, 55],
        "bmi": [20.5, np.nan, 30.1],
        "sex": pd.Categorical(list("fmf")),
        "ill": [True, False, True],
    }
)


def scores(least):
    question = score_question(TASK, importance_goal(CLASSES), dict.fromkeys(NAMES, ""), least=least)

    def read(text):
        found = question.read(parse_json(text, question.schema))
        assert list(found) == NAMES
        assert all(type(v) is int and least <= v <= 10 for v in found.values())

    return Parser(json.dumps(dict.fromkeys(question.names, 3)), read)


def descriptions():
    question = description_question(TASK, NAMES)

    def read(text):
        found = question.read(parse_json(text, question.schema))
        assert list(found) == NAMES
        assert all(isinstance(v, str) for v in found.values())

    return Parser(json.dumps(dict.fromkeys(question.names, "In years")), read)


def stated():
    schema = stated_schema(list(CLASSES))

    def read(text):
        shares = read_stated(parse_json(text, schema))
        assert set(shares) == set(CLASSES)
        assert math.isclose(math.fsum(shares.values()), 1)
        assert all(0 <= share <= 1 for share in shares.values())

    return Parser(json.dumps({"delivery": 0.7, "refund": 0.3}), read)


def votes():
    labels = Labels(["delivery", "refund", "other"], ["A", "B", "C"])

    def read(text):
        stated = labels.find(text)
        if stated is None:
            raise ValueError("one of A, B, C is wanted")
        name = (labels.codes if stated.by_code else labels.labels)[stated.index]
        assert text[stated.start :].casefold().startswith(name.casefold())

    return Parser("B", read)


def log_probabilities():
    def read(text):
        record = read_record(parse_payload(text, "http://x/v1", str), "http://x/v1", str)
        text = record.text or ""
        reply = Reply(text, text, "", "", 0, 0, 0.0, False, logprobs=record.logprobs)
        row = Labels(["delivery", "refund"], ["A", "B"]).read_logprobs(reply)
        if row is not None:
            assert np.isfinite(row).all()
            assert (row >= 0).all()
            assert math.isclose(row.sum(), 1)

    return Parser(json.dumps(completion("A", logprobs=told("A", "B"))), read, RequestError)


def payloads():
    def read(text):
        record = read_record(parse_payload(text, "http://x/v1", str), "http://x/v1", str)
        json.dumps(record.to_json(), ensure_ascii=False).encode()
        assert record.text is None or isinstance(record.text, str)
        for count in (record.prompt_tokens, record.completion_tokens):
            assert count is None or 0 <= count < 2**31

    return Parser(json.dumps(completion("ok")), read, RequestError)


def rows_of(generator, text):
    """The rows of a reply, as `LLMGenerator.generate` reads them."""
    value = generator._some_row(parse_json(text, ENVELOPE))
    return [generator.kind.from_json(row) for row in value["rows"]]


def texts():
    kind = kind_of(np.array(TEXTS, dtype=object))
    generator = LLMGenerator(None, task=TASK, kind=kind, classes=list(CLASSES))

    def read(text):
        rows = rows_of(generator, text)
        found = Curator(kind).admit(rows, ["refund"] * len(rows))
        for row, (reason, _) in zip(rows, found, strict=True):
            assert reason or (row.strip() and row not in TEXTS)

    return Parser(json.dumps({"rows": ["Please send my money.", "I was charged twice!"]}), read)


def table():
    kind = kind_of(FRAME)
    generator = LLMGenerator(None, task=TASK, kind=kind, classes=list(CLASSES))

    def read(text):
        rows = rows_of(generator, text)
        found = Curator(kind).admit(rows, ["refund"] * len(rows))
        kept = [row for row, (reason, _) in zip(rows, found, strict=True) if not reason]
        frame = kind.to_X(kept)
        assert frame.dtypes.equals(FRAME.dtypes)
        assert frame["age"].between(0, 70).all()
        assert frame["sex"].isin(["f", "m"]).all()
        assert np.isfinite(frame["bmi"].dropna()).all()

    whole = {"age": 44, "bmi": 24.5, "sex": "f", "ill": True}
    return Parser(json.dumps({"rows": [whole, {"age": 33, "sex": "m", "ill": False}]}), read)


def grid():
    _, schema, names = attributes_question(
        TASK, list(CLASSES), CLASSES, kind_of(np.array(TEXTS, dtype=object))
    )

    def read(text):
        value = read_attributes(parse_json(text, schema))
        by_label = {
            name: {names[k]: v for k, v in listed.items()} if isinstance(listed, dict) else listed
            for name, listed in value.items()
        }
        drawn = AttributeGrid(by_label, np.random.RandomState(0)).draw("refund", 3)
        assert set(drawn) == {"topic", "style", "length"}
        assert all(v and isinstance(v, str) for v in drawn.values())

    topics = {"delivery": ["late parcels"], "refund": ["double charges", "returns"]}
    return Parser(json.dumps({"topic": topics, "style": ["angry"], "length": ["short"]}), read)


PARSERS = {
    "attribution scores": scores(-10),
    "importances": scores(0),
    "descriptions of features": descriptions(),
    "stated probabilities": stated(),
    "votes": votes(),
    "log-probabilities": log_probabilities(),
    "payloads of servers": payloads(),
    "attributes of rows": grid(),
    "generated rows of a table": table(),
    "generated texts": texts(),
}
