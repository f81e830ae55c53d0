"""A cache file of the first version answers the same requests for ever.

The file was written by the code as it was then, against the loopback server at port 48123; running
this module writes another one, which is only wanted where the function that makes keys must change.
"""

import shutil
from pathlib import Path

import pytest

from skllmreg.llm import ChatModel

FILE = Path(__file__).parent / "data" / "cache_v1.sqlite3"
URL = "http://127.0.0.1:48123/v1"
SCHEMA = {
    "type": "object",
    "properties": {"score": {"type": "integer", "minimum": -10, "maximum": 10}},
    "required": ["score"],
    "additionalProperties": False,
}
TURNS = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Grüße, 東京 🙂"}]
MODELS = {
    "plain": {},
    "temperature": {"temperature": 0.0},
    "options": {
        "temperature": 0.7,
        "request_options": {"max_tokens": 20, "top_p": 1.0, "seed": 3, "stop": ["\n"]},
    },
    "headers": {"request_options": {"extra_headers": {"X-Title": "t"}, "extra_body": {"top_k": 3}}},
    "log-probabilities": {"request_options": {"logprobs": True, "top_logprobs": 5}},
}
CALLS = {
    "texts, one of them twice": (["a", "b", "a", "two\nlines"], None),
    "turns": ([TURNS, [*TURNS, {"role": "assistant", "content": "x"}, TURNS[1]]], None),
    "a schema": (["score this", "repair this"], SCHEMA),
}


def answers(cache, model, call, **params):
    prompts, schema = CALLS[call]
    llm = ChatModel("tiny", base_url=URL, cache=cache, **MODELS[model], **params)
    return [
        (r.text, r.value, r.n_repairs, r.logprobs) for r in llm.complete(prompts, schema=schema)
    ]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return shutil.copy(FILE, tmp_path_factory.mktemp("cache") / "cache.sqlite3")


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("model", MODELS)
def test_requests_of_then_are_answered_now(cache, model, call):
    replayed = answers(cache, model, call, mode="replay")
    assert replayed == answers(cache, model, call, max_retries=0)  # nobody listens there
    texts = [text for text, *_ in replayed]
    assert texts == [reply_to(model, call, i) for i in range(len(texts))]
    if call == "a schema":
        assert [n_repairs for _, _, n_repairs, _ in replayed] == [0, 1]


def reply_to(model, call, i):
    if call == "a schema":
        return '{"score": 3}'
    return f"answer {i} of {model}, {call}"


def write():
    from tests.loopback import Loopback, completion

    FILE.unlink(missing_ok=True)
    server = Loopback(port=int(URL.rpartition(":")[2].partition("/")[0]))
    for model in MODELS:
        for call in CALLS:
            queue = [reply_to(model, call, i) for i in range(len(CALLS[call][0]))]
            if call == "a schema":
                queue = ['{"score": 3}', '{"score": 11}', '{"score": 3}']
            token = {"token": "a", "logprob": -0.5, "top_logprobs": [{"token": "a", "logprob": -1}]}
            asked = "log" in model
            logprobs = {"content": [token]} if asked else None
            queue = [completion(text, logprobs=logprobs) for text in queue]
            server.failures.extend(queue)
            answers(FILE, model, call, max_concurrency=1)
    server.close()


if __name__ == "__main__":
    write()
