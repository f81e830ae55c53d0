"""What a fit or a search takes, said before anything is sent."""

import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline

from skllmreg import (
    GOLDAugmenter,
    GOLDSeq2SeqAugmenter,
    LLKDSelector,
    LLMAttributionRegularizedClassifier,
    LLMCascadeClassifier,
    LLMShapeTransformer,
    LLMTeacherClassifier,
)
from skllmreg.exceptions import NoBudgetWarning
from skllmreg.llm import ChatModel, EmbeddingModel, quote_search
from skllmreg.llm._engine import Answering
from skllmreg.llm._values import Question
from skllmreg.llm.testing import FakeChat
from skllmreg.students import TextClassifier
from tests.llm.test_embed import embeddings

CLASSES = {"delivery": "asks for a parcel", "refund": "wants money back"}
TEXTS = [f"Message {i} about {'a parcel' if i % 2 else 'my money'}" for i in range(40)]
LABELS = ["delivery" if i % 2 else "refund" for i in range(40)]


@pytest.fixture
def chat(loopback):
    loopback.reply = lambda body: "delivery"
    return ChatModel(
        "tiny", base_url=loopback.base_url, prices=(1.0, 2.0), requests_per_minute=6000
    )


def teacher_of(chat, **params):
    return LLMTeacherClassifier(chat, task="Sort.", class_descriptions=CLASSES, **params)


@pytest.mark.parametrize("n_samples", [1, 3])
def test_a_teacher_quotes_what_predict_then_sends(chat, loopback, n_samples):
    teacher = teacher_of(chat, confidence="votes", n_samples=n_samples)
    quote = teacher.quote(TEXTS)
    assert not loopback.requests
    assert quote.requests == 40 * n_samples
    assert quote.cost == pytest.approx((quote.prompt_tokens + 2 * quote.completion_tokens) / 1e6)
    assert quote.seconds == pytest.approx(quote.requests / 100)
    teacher.predict(TEXTS)
    assert len(loopback.requests) == quote.requests
    again = teacher.quote(TEXTS)
    assert (again.requests, again.cached, again.cost) == (0, 40 * n_samples, 0.0)


def test_a_teachers_fit_asks_only_where_it_calibrates(chat):
    assert teacher_of(chat).quote(TEXTS, LABELS).requests == 0
    calibrated = teacher_of(chat, calibrate=True, n_examples=4, answer_with="name")
    assert calibrated.quote(TEXTS, LABELS).requests == 36


def test_a_selector_quotes_its_budget_and_leaves_everything_as_it_is(chat, loopback):
    selector = LLKDSelector(teacher=teacher_of(chat), max_teacher_calls=15, random_state=0)
    y = np.array(LABELS, dtype=object)
    y[8:] = None
    quote = selector.quote(TEXTS, y)
    assert quote.requests == 15
    assert not loopback.requests
    assert not hasattr(selector, "estimator_")
    assert selector.teacher.llm is chat
    assert str(quote).startswith("15 requests, ")


def test_a_cascade_quotes_its_calibration_too(chat):
    cascade = LLMCascadeClassifier(
        teacher=teacher_of(chat), n_calibration=60, max_teacher_calls=100, random_state=0
    )
    assert cascade.quote([f"{text} {i}" for i in range(5) for text in TEXTS]).requests == 100


def test_rows_that_folds_share_are_counted_once(chat, loopback):
    teacher = teacher_of(chat, confidence="votes", n_samples=1)
    quote = quote_search(teacher, TEXTS, LABELS, cv=4)
    search = GridSearchCV(teacher, {"calibration": [None, "batch"]}, cv=4, n_jobs=2)
    assert quote.requests == quote_search(search, TEXTS, LABELS).requests == 40
    cross_val_score(teacher, TEXTS, LABELS, cv=4)
    assert len(loopback.requests) == 40


def test_models_in_grids_pipelines_and_frozen_estimators_are_found(chat, loopback):
    frozen = LLKDSelector(teacher=FrozenEstimator(teacher_of(chat)), max_teacher_calls=9)
    y = np.array([*LABELS[:8], *[None] * 32], dtype=object)
    assert quote_search(make_pipeline(frozen), TEXTS, y).requests == 9
    other = ChatModel("other", base_url=loopback.base_url)
    search = GridSearchCV(teacher_of(chat), {"llm": [chat, other]}, cv=2)
    quote = quote_search(search, TEXTS, LABELS)
    assert (quote.requests, quote.cost) == (80, None)
    assert not loopback.requests


def test_augmenters_quote_requests_for_rows_and_for_attributes(chat, loopback):
    augmenter = GOLDAugmenter(llm=chat, task="Sort.", n_samples=64, batch_size=8, random_state=0)
    quote = augmenter.quote(TEXTS[:6], LABELS[:6])
    assert quote.requests == 1 + 64 // 8
    assert quote.completion_tokens > 64 * 5
    gold = augmenter.set_params(strategy="gold", max_requests=5, attributes=None)
    assert gold.quote(TEXTS[:6], LABELS[:6]).requests == 5
    pairs = GOLDSeq2SeqAugmenter(llm=chat, answer_check=chat, task="Say the day.", n_samples=16)
    assert pairs.quote(["1 May", "2 May"], ["1", "2"]).requests == 2 + 16
    assert not loopback.requests


def test_functions_that_write_are_not_called_for_a_quote():
    def generator(request):
        raise AssertionError("called")

    augmenter = GOLDAugmenter(generator=generator, n_samples=10)
    assert augmenter.quote(TEXTS[:6], LABELS[:6]).requests == 0


def test_scores_and_shapes_of_features_are_counted(chat):
    rng = np.random.RandomState(0)
    X, y = pd.DataFrame(rng.normal(size=(30, 2)), columns=["x0", "x1"]), np.arange(30) % 2
    model = LLMAttributionRegularizedClassifier(
        llm=chat, task="Predict.", feature_descriptions={"x0": "age", "x1": "weight"}
    )
    assert quote_search(model, X, y, cv=3).requests == 5
    shapes = LLMShapeTransformer(
        llm=chat, task="Predict.", feature_descriptions={"x0": "age", "x1": "weight"}
    )
    shapes.set_output(transform="pandas")
    assert quote_search(make_pipeline(shapes, model), X, y).requests == 10


def test_embeddings_are_counted_by_request(loopback):
    embedding = EmbeddingModel("vectors", base_url=loopback.base_url, batch_size=16)
    student = TextClassifier(embedding)
    quote = quote_search(student, TEXTS, LABELS)
    assert not loopback.seen
    loopback.reply = embeddings
    student.fit(TEXTS, LABELS)
    assert len(loopback.seen) == quote.requests


def test_objects_with_complete_alone_are_not_asked():
    chat = FakeChat([])
    teacher = teacher_of(chat, confidence="votes", n_samples=2)
    assert teacher.quote(TEXTS[:10]).requests == 20
    assert not chat.history


def test_a_fit_that_fails_is_no_quote(chat):
    search = GridSearchCV(teacher_of(chat), {"n_samples": [-1]}, cv=2)
    with pytest.raises(ValueError, match="n_samples"):
        quote_search(search, TEXTS, LABELS)


def test_many_requests_without_a_budget_warn_once_before_they_go_out(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "k" * 40)
    sent = []

    def send(self, request):
        sent.append(request)
        raise KeyboardInterrupt

    monkeypatch.setattr("skllmreg.llm._transport.ChatCompletions.send", send)
    chat = ChatModel("gpt", prices=(1.0, 2.0), max_concurrency=1)
    prompts = [f"prompt {i}" for i in range(100)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(NoBudgetWarning, match=r"sends 100 requests .*about \$0"):
            chat.complete(prompts)
    assert not sent


@pytest.mark.parametrize(
    "params", [{"request_budget": 500}, {"base_url": "http://127.0.0.1:9/v1"}, {"few": True}]
)
def test_a_budget_a_local_server_and_few_requests_warn_of_nothing(params, monkeypatch):
    n = 99 if params.pop("few", False) else 100
    obtain = ChatModel("gpt", **params)._obtain(Question())
    tasks = Answering(obtain).plan([[{"role": "user", "content": str(i)}] for i in range(n)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        obtain.warn_of_cost(tasks)
