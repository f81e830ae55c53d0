"""What servers do that OpenAI's does not: a table, one entry for each, with where it was seen.

An entry changes what a healthy server would answer. `FOR_ALL` concerns every request, and the
estimators get their results all the same; `FOR_ONE` refuses a single prompt while the others are
answered. A new quirk is a line here, and goes through `complete`, teacher, attribution and
generation in test_quirks.py.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass

from tests.faults.entries import CLASSES, healthy
from tests.loopback import Behavior, completion, error

GITHUB = "https://github.com/"


@dataclass(frozen=True)
class Quirk:
    """One habit of a server.

    Parameters
    ----------
    source : str
        Where it was seen.
    answer : callable
        ``answer(body, n)`` is what comes in place of a good answer to request number `n`; None is
        the good answer.
    """

    source: str
    answer: Callable


def refuses(field, behavior, when=lambda value: True):
    """Refuses requests that have a field, perhaps only with some values."""
    return lambda body, n: behavior if field in body and when(body[field]) else None


def has_system(body):
    return any(message["role"] == "system" for message in body["messages"])


def once(behavior):
    return lambda body, n: behavior if n == 2 else None


def text_of(body):
    return healthy(body)["choices"][0]["message"]["content"]


def reworded(change):
    """Says the same in other words; such a server tells no log-probabilities."""
    return lambda body, n: completion(change(text_of(body)))


def rewrapped(**changes):
    """Sends the same text in another wrapping."""

    def answer(body, n):
        logprobs = healthy(body)["choices"][0]["logprobs"]
        return completion(text_of(body), logprobs=logprobs, **changes)

    return answer


def in_vote(form):
    """Labels in another form."""
    return reworded(lambda text: form.format(text) if text in CLASSES else text)


def is_schema(value):
    return value["type"] == "json_schema"


LLAMA = 'response_format type must be one of "text" or "json_object", but got: json_schema'
SCHEMA_STATUSES = (400, 403, 404, 405, 415, 422, 500, 501)

FOR_ALL = {
    **{
        f"response_format is refused with {status}": Quirk(
            "statuses of other servers for what they do not know",
            refuses("response_format", error(status, "no")),
        )
        for status in SCHEMA_STATUSES
    },
    "no system turn, said with a 400": Quirk(
        GITHUB + "huggingface/chat-ui/issues/1386",
        lambda body, n: error(400, "System role not supported") if has_system(body) else None,
    ),
    "no system turn, said with a 500": Quirk(
        GITHUB + "sgl-project/sglang/issues/892",
        lambda body, n: error(500, "Internal Server Error") if has_system(body) else None,
    ),
    "json_object alone, said with a 500": Quirk(
        GITHUB + "ggml-org/llama.cpp/issues/9522",
        refuses("response_format", error(500, LLAMA, type="server_error"), is_schema),
    ),
    "json_schema alone": Quirk(
        GITHUB + "lmstudio-ai/lmstudio-bug-tracker/issues/189",
        refuses(
            "response_format",
            Behavior({"error": "'response_format.type' must be 'json_schema' or 'text'"}, 400),
            lambda value: not is_schema(value),
        ),
    ),
    "log-probabilities are refused": Quirk(
        "OpenAI's reasoning models",
        refuses("logprobs", error(403, "You are not allowed to request logprobs")),
    ),
    "five log-probabilities at most": Quirk(
        GITHUB + "vllm-project/vllm/issues/5299",
        refuses("top_logprobs", error(400, "greater than max allowed: 5"), lambda n: n > 5),
    ),
    "log-probabilities are ignored": Quirk("Ollama before 0.12", reworded(lambda text: text)),
    "thoughts in a field of their own": Quirk(
        GITHUB + "vllm-project/vllm/issues/52640",
        rewrapped(message={"reasoning_content": "It is A. No, it is B."}),
    ),
    "thoughts in the text": Quirk(
        GITHUB + "vllm-project/vllm/issues/12999",
        reworded(lambda text: f"It is A. No, it is B.\n</think>\n\n{text}"),
    ),
    "thoughts and no answer, once": Quirk(
        GITHUB + "vllm-project/vllm-ascend/issues/9131",
        once(completion(None, message={"reasoning": "Well, ..."})),
    ),
    "a blank answer, once": Quirk("llama.cpp with a template that ends at once", once(" \n")),
    "no choices, once": Quirk(
        GITHUB + "Aider-AI/aider/issues/3550", once(completion() | {"choices": []})
    ),
    "an error within a choice, once": Quirk(
        GITHUB + "genkit-ai/genkit/pull/6259",
        once(completion("half an ans", finish_reason="error")),
    ),
    "an error with status 200, once": Quirk(
        GITHUB + "damianvtran/local-operator/pull/223",
        once({"error": {"code": 502, "message": "Provider disconnected"}}),
    ),
    "no resources, once": Quirk(
        "DeepSeek's reference: finish_reason",
        once(completion("half an ans", finish_reason="insufficient_system_resource")),
    ),
    "network_error, once": Quirk(
        GITHUB + "gethouston/houston/pull/1211",
        once(completion("half an ans", finish_reason="network_error")),
    ),
    **{
        f"it ends with {reason!r}": Quirk(source, rewrapped(finish_reason=reason))
        for reason, source in {
            "eos_token": "Text Generation Inference",
            "end_turn": "xAI, " + GITHUB + "genkit-ai/genkit/pull/6259",
            "STOP": "Gemini behind a gateway",
            None: "servers that leave it out",
        }.items()
    },
    "content in parts": Quirk(
        "Mistral's reference: content chunks",
        lambda body, n: completion([{"type": "text", "text": text_of(body)}]),
    ),
    "nothing is counted": Quirk("Ollama behind a proxy", rewrapped(usage=None)),
    "white space before the JSON": Quirk(
        "DeepSeek keeps a connection alive with empty lines",
        lambda body, n: Behavior("\n\n\n" + json.dumps(healthy(body))),
    ),
    "JSON in a fence": Quirk(
        GITHUB + "lmstudio-ai/lmstudio-bug-tracker/issues/2403",
        reworded(lambda text: f"```json\n{text}\n```" if text[0] == "{" else text),
    ),
    "votes with a full stop": Quirk("small models", in_vote("{0}.")),
    "votes in a box": Quirk("models tuned on mathematics", in_vote("\\boxed{{{0}}}")),
    "votes in a sentence that says so": Quirk("Llama 3", in_vote("The answer is **{0}**.")),
}

FOR_ONE = {
    "Content Exists Risk": Quirk(
        GITHUB + "deepseek-ai/DeepSeek-V2/issues/30",
        error(400, "Content Exists Risk", type="invalid_request_error"),
    ),
    "data_inspection_failed": Quirk(
        GITHUB + "camel-ai/owl/issues/432",
        error(400, "Input data may contain inappropriate content.", code="data_inspection_failed"),
    ),
    "prompt is too long": Quirk(
        "Anthropic", error(400, "prompt is too long: 210000 tokens > 200000 maximum")
    ),
    "Input tokens exceed": Quirk(
        "Azure", error(400, "Input tokens exceed the configured limit of 272000 tokens.")
    ),
    "exceed_context_size_error": Quirk(
        "llama.cpp",
        error(400, "exceeds the context size", code=400, type="exceed_context_size_error"),
    ),
    "maximum context length": Quirk(
        "vLLM", error(400, "This model's maximum context length is 4096 tokens.", code=400)
    ),
    "413 without JSON": Quirk(
        "nginx", Behavior("<html><title>413 Request Entity Too Large</title></html>", 413)
    ),
    "422": Quirk(
        GITHUB + "huggingface/huggingface_hub/issues/2514",
        Behavior({"error": "Input validation error: too long", "error_type": "validation"}, 422),
    ),
    "a template that fails": Quirk(
        "llama.cpp", error(500, "Conversation roles must alternate", type="server_error")
    ),
    "the end of the context": Quirk(
        "Mistral's reference: model_length",
        Behavior(completion("ha", finish_reason="model_length")),
    ),
}
