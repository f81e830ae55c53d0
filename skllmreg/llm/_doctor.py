"""``python -m skllmreg doctor``: is the server up, what can it do, what falls back to what."""

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any

from skllmreg.exceptions import RequestError
from skllmreg.llm import _client, _keys
from skllmreg.llm._json import UnusableError, parse_json
from skllmreg.llm._structured import in_form
from skllmreg.llm._text import read_json
from skllmreg.utils._text import short_line

# A prompt that asks for prose: only a server that keeps to the schema answers with JSON.
PROSE = "Tell me in one short sentence of plain prose how warm it is in summer."
SCHEMA = {
    "type": "object",
    "properties": {"degrees": {"type": "integer"}},
    "required": ["degrees"],
    "additionalProperties": False,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the checks; 0 if the server answers a prompt."""
    parser = argparse.ArgumentParser(prog="python -m skllmreg doctor", description=__doc__)
    parser.add_argument("--base-url", help="address of the server (default: OpenAI)")
    parser.add_argument("--model", help="model to ask; a few short requests are sent")
    parser.add_argument("--api-key-env", help="name of the variable that holds the key")
    parser.add_argument("--timeout", type=float, default=30.0, help="seconds for one answer")
    args = parser.parse_args(argv)
    try:
        url = _keys.resolve_url(args.base_url)
        models = _models(url, args)
        model = args.model or (None if _keys.is_openai(url) else next(iter(models), None))
        if model is None:
            print("model        name one with --model to see what it can do")
            return 0 if models else 1
        _check_model(url, model, args)
    except (RequestError, ValueError) as error:
        print(f"failed       {_advice(str(error))}", file=sys.stderr)
        return 1
    return 0


def _advice(message: str) -> str:
    """What to do, where the message would send the user here."""
    message = message.partition(" `python -m skllmreg doctor")[0]
    if message.endswith("Is the server up?"):
        message += " Start it, as by `ollama serve` or `vllm serve MODEL`, or correct the address."
    return message


def _models(url: str, args: argparse.Namespace) -> list[str]:
    print(f"server       {url}")
    try:
        models = _client.list_models(url, args.api_key_env, args.timeout)
    except RequestError as error:
        if error.status is None or args.model is None:
            raise
        models = []  # not every server lists its models
    shown = ", ".join(map(short_line, models[:8]))
    shown += f" and {len(models) - 8} more" if len(models) > 8 else ""
    print(f"models       {shown or 'it lists none'}")
    if args.model and models and args.model not in models:
        print(f"             {args.model} is not among them")
    return models


def _check_model(url: str, model: str, args: argparse.Namespace) -> None:
    def ask(prompt: str, **options: Any) -> dict[str, Any]:
        body = {"model": model, "messages": [{"role": "user", "content": prompt}], **options}
        return _client.send(url, args.api_key_env, args.timeout, body)

    record = ask("Answer with the single word: yes.")
    print(f"model        {model} answers ({short_line(record['text'] or '', 40)!r})")
    if record["completion_tokens"] is None:
        print("usage        not counted by the server -> token budgets rest on estimates")
    strict = _report("json_schema", lambda: _keeps_to_schema(ask, 0))
    if strict != "yes":
        _report("json_object", lambda: _keeps_to_schema(ask, 1))
        print("             -> the schema goes into the prompt where the form is refused, every")
        print("                reply is checked all the same, and a bad one is asked for again")
    if _report("logprobs", lambda: _tells_logprobs(ask)) != "yes":
        print("             -> label probabilities are shares of votes over several answers")
    if _report("seed", lambda: _keeps_seed(ask)) != "yes":
        print("             -> only the cache makes an experiment repeatable")


def _report(name: str, check: Callable[[], str]) -> str:
    try:
        finding = check()
    except RequestError as error:
        finding = f"refused with status {error.status}" if error.status else str(error)
    print(f"{name:12} {finding}")
    return finding


def _keeps_to_schema(ask: Callable[..., dict[str, Any]], form: int) -> str:
    extra = in_form(form, [{"role": "user", "content": PROSE}], SCHEMA)
    extra.pop("messages", None)
    # json_object has OpenAI insist on the word JSON in the prompt.
    record = ask(PROSE if form == 0 else f"{PROSE} Use JSON.", **extra)
    try:
        if form == 0:
            parse_json(record["text"] or "", SCHEMA)
        else:
            read_json(record["text"] or "")
    except (UnusableError, ValueError):
        return "taken, but not kept to"
    return "yes"


def _tells_logprobs(ask: Callable[..., dict[str, Any]]) -> str:
    tokens = ask("Answer with one letter: A or B?", logprobs=True, top_logprobs=5)["logprobs"]
    if not tokens:
        return "taken, but none are told"
    return "yes" if tokens[0]["top_logprobs"] else "only of the token that was chosen"


def _keeps_seed(ask: Callable[..., dict[str, Any]]) -> str:
    prompt = "Write ten random digits and nothing else."
    texts = [ask(prompt, seed=1, temperature=1.0)["text"] for _ in range(2)]
    return "yes" if texts[0] == texts[1] else "taken, but two answers differ"
