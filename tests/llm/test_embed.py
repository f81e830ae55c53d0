import base64
import threading

import numpy as np
import pytest
from sklearn.base import clone

from skllmreg.exceptions import (
    BudgetExceededError,
    InvalidReplyError,
    LLMError,
    ReplayMissError,
    RequestError,
)
from skllmreg.llm import ChatModel, EmbeddingModel
from skllmreg.students import SentenceEncoder
from tests.loopback import error


def vector_of(text):
    return [float(len(text)), 0.5, -1.0]


def embeddings(body):
    """What a server answers that is well; the order of `data` is not that of the texts."""
    data = [{"index": i, "embedding": vector_of(text)} for i, text in enumerate(body["input"])]
    usage = {"prompt_tokens": 3 * len(data), "total_tokens": 3 * len(data)}
    return {"object": "list", "data": data[::-1], "model": "tiny", "usage": usage}


@pytest.fixture
def model(loopback):
    loopback.reply = embeddings
    return EmbeddingModel("tiny", base_url=loopback.base_url, batch_size=2, max_retries=0)


def sent(loopback):
    """The texts of each request."""
    return [body["input"] for path, _, body in loopback.seen if path.endswith("/embeddings")]


def test_vectors_come_in_the_order_of_the_texts_and_each_text_is_sent_once(loopback, model):
    vectors = model.embed(["a", "bb", "a", "ccc"])
    np.testing.assert_array_equal(vectors, [vector_of(text) for text in ["a", "bb", "a", "ccc"]])
    assert vectors.dtype == np.float32
    assert sorted(map(len, sent(loopback))) == [1, 2]
    again = EmbeddingModel("tiny", base_url=loopback.base_url, mode="replay", batch_size=64)
    np.testing.assert_array_equal(again.embed(["ccc", "bb"]), vectors[[3, 1]])
    assert len(sent(loopback)) == 2
    with pytest.raises(ReplayMissError, match="dddd"):
        again.embed(["bb", "dddd"])


def test_what_is_sent_is_counted_and_kept_to_the_budget(loopback, model):
    model.embed(["a", "bb", "ccc"])
    model.embed(["a", "bb", "ccc"])
    (today,) = model.usage(this_run=True)
    assert (today.requests, today.cached, today.prompt_tokens) == (2, 3, 9)
    assert today.completion_tokens == 0
    poor = EmbeddingModel("tiny", base_url=loopback.base_url, batch_size=1, request_budget=2)
    with pytest.raises(BudgetExceededError):
        poor.embed(["x", "xx", "xxx"])
    assert poor.usage(this_run=True)[0].requests == 2


@pytest.mark.parametrize("status", [400, 413, 422, 500])
def test_a_text_that_is_refused_is_named_and_the_others_are_embedded(loopback, model, status):
    def reply(body):
        too_long = "x" * 9 in body["input"]
        return error(status, "input is too large") if too_long else embeddings(body)

    loopback.reply = reply
    texts = ["a", "bb", "ccc", "x" * 9, "dddd", "x" * 9]
    with pytest.raises(
        InvalidReplyError, match="Text 3: The server refuses it.*too large"
    ) as caught:
        model.embed(texts)
    assert list(caught.value.failures) == [3]
    assert [vector is None for vector in caught.value.replies] == [i in (3, 5) for i in range(6)]
    n_before = len(sent(loopback))
    model.embed(["a", "bb", "ccc", "dddd"])
    assert len(sent(loopback)) == n_before


@pytest.mark.parametrize(("status", "n_most"), [(404, 1), (501, 1), (401, 1), (400, 12)])
def test_a_server_that_embeds_nothing_ends_the_call(loopback, status, n_most):
    loopback.reply = lambda body: error(status, "no embeddings here")
    model = EmbeddingModel("tiny", base_url=loopback.base_url, max_retries=0, max_concurrency=1)
    with pytest.raises(RequestError, match="no embeddings here"):
        model.embed([f"text {i}" for i in range(60)])
    assert len(loopback.seen) <= n_most


@pytest.mark.parametrize(
    "payload",
    [
        {"choices": []},
        {"data": []},
        {"data": [{"embedding": [0.1]}, {"embedding": [0.1]}]},
        {"data": [{"embedding": "???"}]},
        {"data": [{"embedding": [0.1, None]}]},
        {"data": [{"embedding": [[0.1]]}]},
        {"data": [{"embedding": []}]},
        {"data": [5]},
        {"data": "none"},
    ],
)
def test_an_answer_that_is_no_vector_is_an_error_that_shows_it(loopback, model, payload):
    loopback.reply = lambda body: payload
    with pytest.raises(RequestError, match="answered without 1 embeddings: {"):
        model.embed(["a"])


def test_vectors_may_come_as_base64(loopback, model):
    floats = np.array([1.5, -2.0], dtype="<f4")
    text = base64.b64encode(floats.tobytes()).decode()
    loopback.reply = lambda body: {"data": [{"index": 0, "embedding": text}]}
    np.testing.assert_array_equal(model.embed(["a"]), [floats])


def test_dimensions_are_sent_and_checked(loopback, model):
    model.dimensions = 3
    assert model.embed(["a"]).shape == (1, 3)
    assert loopback.seen[-1][2]["dimensions"] == 3
    model.dimensions = 2
    with pytest.raises(LLMError, match="gave vectors of 3 numbers in place of 2"):
        model.embed(["a"])


def test_a_chat_model_of_the_same_name_has_other_entries(loopback, model):
    loopback.reply = lambda body: embeddings(body) if "input" in body else "words"
    chat = ChatModel("tiny", base_url=loopback.base_url)
    assert chat.complete(["a"])[0].text == "words"
    assert model.embed(["a"]).shape == (1, 3)
    assert chat.complete(["a"])[0].cached


def test_two_who_need_the_same_vectors_send_each_text_once(loopback, model):
    loopback.latency = 0.1
    texts = [f"text {i}" for i in range(8)]
    threads = [threading.Thread(target=model.embed, args=(texts,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    asked = [text for part in sent(loopback) for text in part]
    assert sorted(asked) == texts


def test_a_sentence_encoder_takes_its_vectors(loopback, model):
    encoder = SentenceEncoder(model, normalize=False)
    np.testing.assert_array_equal(
        clone(encoder).fit_transform(["a", "bb"]), model.embed(["a", "bb"])
    )
    assert sorted(text for part in sent(loopback) for text in part) == ["a", "bb"]


@pytest.mark.parametrize(
    ("params", "texts", "match"),
    [
        ({}, "a", "texts is a list of texts, got a single str"),
        ({}, ["a", None], "Text 1 is not a str"),
        ({}, ["a", " "], "Text 1 is blank"),
        ({}, ["half \ud83d"], "Text 0 holds a character"),
        ({"dimensions": 0}, ["a"], "dimensions is a whole number, 1 or more"),
        ({"batch_size": 1.5}, ["a"], "batch_size is a whole number"),
        ({"timeout": None}, ["a"], "timeout is a positive number"),
    ],
)
def test_what_is_wrong_is_named(model, params, texts, match):
    for name, value in params.items():
        setattr(model, name, value)
    with pytest.raises((TypeError, ValueError), match=match):
        model.embed(texts)


def test_no_texts_have_no_vectors(model):
    assert model.embed([]).shape[0] == 0


def test_it_is_a_value(model, loopback):
    same = EmbeddingModel("tiny", base_url=loopback.base_url, batch_size=2, max_retries=0)
    assert model == same
    assert hash(model) == hash(same)
    assert clone(model, safe=False) is model
    assert model != ChatModel("tiny", base_url=loopback.base_url)
    assert repr(model).startswith("EmbeddingModel('tiny', base_url=")
