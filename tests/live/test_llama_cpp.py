"""What the edge does with llama.cpp's server and a real, small model."""

import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from skllmreg import GOLDAugmenter, LLMTeacherClassifier, elicit_attributions
from skllmreg.__main__ import main
from skllmreg.exceptions import (
    GenerationError,
    InvalidReplyError,
    LLMError,
    ReplayMissError,
    RequestError,
)
from skllmreg.llm import EmbeddingModel, LocalServer
from skllmreg.llm._transport import ChatCompletions
from tests.live.conftest import make_chat

TOO_LONG = "What comes next? " + "one two three four " * 400


def one_of(*labels):
    """Options that keep so small a model to labels: else it repeats what it was told to do."""
    return {"grammar": "root ::= " + " | ".join(f'"{label}"' for label in labels)}


def n_sent(chat):
    return sum(day.requests for day in chat.usage(this_run=True))


def test_it_completes_and_counts_tokens(chat):
    replies = chat.complete(["Say hello.", [{"role": "user", "content": "What is 1 + 1?"}]])
    for reply in replies:
        assert reply.text
        assert reply.model == "smollm2-135m"
        assert reply.prompt_tokens > 5
        assert 0 < reply.completion_tokens <= 24
    (today,) = chat.usage(this_run=True)
    assert today.requests == 2
    assert today.prompt_tokens == sum(reply.prompt_tokens for reply in replies)


def test_an_answer_is_cut_off_at_max_tokens_and_named(server):
    chat = make_chat(server, request_options={"max_tokens": 3})
    with pytest.raises(InvalidReplyError, match="raise max_tokens"):
        chat.complete(["Count from one to a hundred."])


def test_a_schema_is_kept_to(server):
    schema = {
        "type": "object",
        "properties": {
            "color": {"type": "string", "enum": ["red", "green"]},
            "count": {"type": "integer", "minimum": -10, "maximum": 10},
            "tags": {"type": "array", "items": {"type": "boolean"}, "maxItems": 2},
        },
        "required": ["color", "count", "tags"],
        "additionalProperties": False,
    }
    chat = make_chat(server, request_options={"max_tokens": 80})
    (reply,) = chat.complete(["Describe an apple."], schema=schema)
    assert reply.value["color"] in ("red", "green")
    assert reply.n_repairs == 0
    assert n_sent(chat) == 1


def test_label_probabilities_come_from_one_request_each(server):
    chat = make_chat(server, request_options=one_of("animal", "plant"))
    prompts = [f"Is a {thing} an animal or a plant?" for thing in ("dog", "rose", "horse")]
    found = chat.label_probabilities(prompts, ["animal", "plant"], method="logprobs")
    np.testing.assert_allclose(found.probabilities.sum(axis=1), 1)
    assert found.method.tolist() == ["logprobs"] * 3
    assert n_sent(chat) == 3


def test_a_prompt_that_is_too_long_is_named_and_the_others_are_answered(chat):
    with pytest.raises(InvalidReplyError, match=r"(?s)Prompt 1: .*context size") as caught:
        chat.complete(["Say hello.", TOO_LONG, "Say goodbye."], schema={"type": "boolean"})
    assert list(caught.value.failures) == [1]
    assert [reply is None for reply in caught.value.replies] == [False, True, False]
    assert n_sent(chat) == 3


def test_a_slow_answer_ends_at_the_timeout_and_the_next_is_served(server, chat):
    slow = make_chat(server, request_options={"max_tokens": 900}, timeout=0.3, max_retries=0)
    started = time.monotonic()
    with pytest.raises(RequestError, match=r"within (0.3|3) s"):  # in silence, or in all
        slow.complete(["Write a long story about a dragon."])
    assert time.monotonic() - started < 8
    assert chat.complete(["Say hello."])[0].text


def test_embeddings_come_for_each_text_and_a_text_that_is_too_long_is_named(server):
    model = EmbeddingModel(server.model, base_url=server.url, batch_size=4, max_retries=0)
    vectors = model.embed(["a dog", "a cat", "a dog", "income tax"])
    assert vectors.shape == (4, 576)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-3)
    np.testing.assert_array_equal(vectors[0], vectors[2])
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[3]
    with pytest.raises(InvalidReplyError, match="Text 1: .*too large"):
        model.embed(["a dog", TOO_LONG, "a horse"])


def test_a_chat_model_is_served_without_embeddings_unless_they_are_asked_for(gguf):
    with LocalServer(gguf, n_parallel=1, n_threads=1, context=256) as server:
        model = EmbeddingModel(server.model, base_url=server.url, cache=None)
        with pytest.raises(RequestError, match=r"LocalServer\(\.\.\., embeddings=True\)"):
            model.embed(["a dog"])


def test_the_teacher_reads_the_beginning_of_its_prompts_once(server):
    classes = {"anger": "is angry", "joy": "is happy", "sadness": "is sad"}
    chat = make_chat(server, cache=None, request_options=one_of(*classes))
    teacher = LLMTeacherClassifier(
        chat,
        task="Tell which emotion the writer of a message expresses.",
        class_descriptions=classes,
        confidence="logprobs",
    )
    texts = [f"i feel {word} today" for word in ("great", "awful", "cheated", "calm", "lonely")]
    proba = teacher.predict_proba(texts)
    np.testing.assert_allclose(proba.sum(axis=1), 1)
    messages = teacher.questions(["i feel fine"])[0]
    payload = ChatCompletions(server.url).post(
        "/chat/completions", {"messages": messages, "max_tokens": 1}, 60
    )
    usage = payload["usage"]
    assert usage["prompt_tokens_details"]["cached_tokens"] > 0.6 * usage["prompt_tokens"]


def test_a_row_that_is_too_long_is_named_by_the_teacher_and_may_be_abstained_from(server):
    teacher = LLMTeacherClassifier(
        make_chat(server, request_options=one_of("animal", "plant")),
        task="Tell animals from plants.",
        class_descriptions={"animal": "can move", "plant": "has roots"},
        confidence="logprobs",
    )
    rows = ["a dog", TOO_LONG, "a rose"]
    with pytest.raises(InvalidReplyError, match="(?s)Row 1: .*context size"):
        teacher.predict_proba(rows)
    proba = teacher.set_params(on_refusal="abstain").predict_proba(rows)
    assert np.isnan(proba).any(axis=1).tolist() == [False, True, False]


def test_features_are_scored(server):
    chat = make_chat(server, request_options={"max_tokens": 60})
    scores = elicit_attributions(
        chat,
        task="Does the patient have diabetes?",
        feature_descriptions={"age": "in years", "glucose": "mg/dl"},
        n_estimates=1,
    )
    assert set(scores.feature_names) == {"age", "glucose"}


def test_rows_are_generated_or_what_came_is_shown(server):
    chat = make_chat(server, temperature=0.8, request_options={"max_tokens": 200, "seed": 1})
    model = GOLDAugmenter(
        llm=chat, task="Messages to a help desk.", attributes=None, n_rounds=1, n_samples=4
    )
    X = ["Where is my parcel?", "I want my money back.", "The parcel is late.", "Refund, please!"]
    try:
        assert len(model.fit(X, ["delivery", "refund"] * 2).X_generated_)
    except GenerationError as error:  # so small a model often writes nothing of use
        assert "The last replies:\n--- reply" in str(error)  # noqa: PT017
    assert n_sent(chat) > 0


def test_doctor_says_what_the_server_can_do(server, capsys):
    main(["doctor", "--base-url", server.url, "--timeout", "60"])
    out = capsys.readouterr().out
    assert "models       smollm2-135m" in out
    assert "json_schema  yes" in out
    # So small a model does not always answer with one of the labels.
    assert re.search("logprobs     (yes|given, but .* is no label)", out)


def test_eight_threads_on_two_slots_answer_everything_once(server):
    labels = ["even", "odd"]
    chat = make_chat(server, max_concurrency=8, request_options=one_of(*labels))
    prompts = [f"Is {i} even or odd?" for i in range(24)]
    found = chat.label_probabilities(prompts, labels, method="logprobs")
    assert np.isfinite(found.probabilities).all()
    assert n_sent(chat) == 24
    again = chat.label_probabilities(prompts, labels, method="logprobs")
    np.testing.assert_array_equal(again.probabilities, found.probabilities)
    assert n_sent(chat) == 24


CANCELLED = """
import sys
sys.path[:] = {path!r}
from skllmreg.llm import ChatModel
chat = ChatModel("smollm2-135m", base_url={url!r}, temperature=0, max_concurrency=2,
                 request_options={{"max_tokens": 20}})
chat.complete(["Say hello."], validate=lambda text: text)
print("started", flush=True)
chat.complete([f"Name the number {{i}}: count to a hundred." for i in range(60)],
              validate=lambda text: text, schema={schema!r})
"""
SCHEMA = {"type": "string", "enum": ["one hundred and one", "two hundred and two"]}


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_cancelled_run_keeps_its_answers_and_frees_its_slots(server, chat, how, tmp_path):
    code = CANCELLED.format(path=sys.path, url=server.url, schema=SCHEMA)
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        process.stdout.readline()
        time.sleep(1.5)
        process.send_signal(how)
    assert process.returncode != 0
    chat = make_chat(server, request_options={"max_tokens": 20}, max_concurrency=2)
    n_before = sum(day.requests for day in chat.usage())
    prompts = [f"Name the number {i}: count to a hundred." for i in range(n_before - 1)]
    replies = chat.complete(prompts, schema=SCHEMA)
    # Two were under way: they are all that is sent again.
    assert sum(not reply.cached for reply in replies) <= 2


def test_replies_are_found_again_on_another_port(gguf, server):
    with LocalServer(gguf, n_parallel=1, n_threads=1, context=256) as first:
        make_chat(first).complete(["Say hello."])
        used = first.url
    with LocalServer(gguf, n_parallel=2, n_threads=1, context=256) as second:
        assert second.url != used
        replay = make_chat(second, mode="replay")
        assert replay.complete(["Say hello."])[0].cached
    with pytest.raises(ReplayMissError):
        make_chat(server, mode="replay").complete(["Say hello."])


def test_what_llama_cpp_says_is_in_the_error(gguf, server, tmp_path):
    port = int(server.url.split(":")[2].split("/")[0])
    with pytest.raises(LLMError, match=f"port: {port}"):
        LocalServer(gguf, port=port).start()
    cut = tmp_path / "cut.gguf"
    with gguf.open("rb") as file:
        cut.write_bytes(file.read(5_000_000))
    with pytest.raises(LLMError, match="corrupted or incomplete"):
        LocalServer(cut).start()


def test_the_server_ends_when_its_parent_is_killed(gguf):
    code = (
        f"import sys, time; sys.path[:] = {sys.path!r}\n"
        "from skllmreg.llm import LocalServer\n"
        f"server = LocalServer({str(gguf)!r}, n_parallel=1, n_threads=1, context=256).start()\n"
        "print(server.url, flush=True)\n"
        "time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
    ) as parent:
        url = parent.stdout.readline().strip()
        models = ChatCompletions(url).models
        assert models(10.0) == ["smollm2-135m"]
        os.kill(parent.pid, signal.SIGKILL)
    with pytest.raises(RequestError, match="cannot be reached"):
        ask_for_ten_seconds(models)


def ask_for_ten_seconds(models):
    for _ in range(100):
        models(10.0)
        time.sleep(0.1)
