"""Ask for JSON in the strictest way that a server takes, and remember which one that is."""

import json
from collections.abc import Callable
from typing import Any, TypeVar

from skllmreg.exceptions import RequestError
from skllmreg.llm._json import is_closed
from skllmreg.llm._prompts import Messages
from skllmreg.llm._refusal import is_about_prompt

T = TypeVar("T")

FORMS = ("json_schema", "json_object", "prompt only")

# Statuses with which servers refuse a parameter that they do not know.
NOT_SUPPORTED = (400, 422, 501)

# (server, model) -> index into FORMS of what worked; for the life of the process.
_known: dict[tuple[str, str], int] = {}


def ask_structured(
    send: Callable[[dict[str, Any]], T],
    url: str,
    model: str,
    messages: Messages,
    options: dict[str, Any],
    schema: dict[str, Any] | None,
) -> T:
    """Send one request; where the server refuses its response_format, in the next weaker form.

    That a server takes a form does not mean that it keeps to it: the reply is parsed all the same.
    """
    body = {"model": model, "messages": messages, **options}
    if schema is None:
        return send(body)
    for form in range(_known.get((url, model), 0), len(FORMS)):
        try:
            answer = send(body | in_form(form, messages, schema))
        except RequestError as error:
            # What the last form does not heal was not about the form.
            about_form = error.status in NOT_SUPPORTED and not is_about_prompt(error)
            if not about_form or form == len(FORMS) - 1:
                raise
        else:
            _known[url, model] = form
            return answer
    raise AssertionError("unreachable")


def in_form(form: int, messages: Messages, schema: dict[str, Any]) -> dict[str, Any]:
    """What the form adds to, or changes in, the body of the request."""
    if form == 0:
        described = {"name": "reply", "schema": schema, "strict": is_closed(schema)}
        return {"response_format": {"type": "json_schema", "json_schema": described}}
    # The model has not seen the schema yet.
    note = "Answer with nothing but one JSON value that follows this JSON schema:\n"
    last = {**messages[-1], "content": f"{messages[-1]['content']}\n\n{note}{json.dumps(schema)}"}
    told = {"messages": [*messages[:-1], last]}
    return told | ({"response_format": {"type": "json_object"}} if form == 1 else {})
