"""One request to one server: the only place where the OpenAI client is used.

What goes out is what was asked for and nothing else; what comes back is a parsed answer or a
`RequestError`. The client's own exceptions hold the request with its headers, hence the key: none
of them leaves this file, not even as the context of another one.
"""

import codecs
import contextlib
import functools
import os
import weakref
from collections.abc import Iterator
from typing import Any

from skllmreg.exceptions import RequestError
from skllmreg.llm._keys import Secret, is_loopback, read_key
from skllmreg.llm._record import parse_payload, read_record
from skllmreg.llm._refusal import refusal
from skllmreg.llm._text import read_json
from skllmreg.llm._wire import Exchange, TooLateError, exchange, guard
from skllmreg.utils._fork import uncut

LARGEST_REPLY = 32 * 2**20


def _open_client(url: str, key: str, timeout: float) -> Any:
    """One client, with its pool of connections, per process and server."""
    with uncut:  # else every thread of a cold start makes one of its own
        return _make_client(url, key, timeout)


@functools.lru_cache(maxsize=16)
def _make_client(url: str, key: str, timeout: float) -> Any:
    import openai

    http_client = openai.DefaultHttpxClient(
        timeout=openai.Timeout(timeout, connect=min(timeout, 10.0)),
        # A redirect would carry the prompts to a host that nobody named.
        follow_redirects=False,
        # A proxy of the environment is the user's network; the loopback needs none.
        trust_env=not is_loopback(url),
        # The SDK would read the body of an error without a limit.
        event_hooks={"response": [functools.partial(_refuse, url, Secret(key))]},
    )
    client = openai.OpenAI(
        api_key=key,
        base_url=url,
        max_retries=0,  # ours: the SDK gives up where Retry-After is above 120 s
        http_client=http_client,
    )
    guard(http_client)
    # Given a client, the SDK leaves closing it to us. The cache may drop one that a thread is
    # still using, so the connections are closed when nobody holds it.
    weakref.finalize(client, _close, http_client, os.getpid())
    # The SDK fills these from OPENAI_ORG_ID, OPENAI_PROJECT_ID, OPENAI_ADMIN_KEY,
    # OPENAI_WEBHOOK_SECRET and OPENAI_CUSTOM_HEADERS whatever the address.
    client.organization = client.project = None
    client.admin_api_key = client.webhook_secret = None
    client._custom_headers = {}
    # What a first request would import, or run (`uname`): now, while no process forks.
    _ = client.chat.completions.with_streaming_response, client.default_headers
    for encoding in ("idna", "utf-8-sig"):
        codecs.lookup(encoding)
    return client


def _close(http_client: Any, pid: int) -> None:
    # In a forked child the connections are its parent's, and a thread that is not there may have
    # held the lock of the pool.
    if os.getpid() == pid:
        http_client.close()


if hasattr(os, "register_at_fork"):
    # A child must not use the connections of its parent.
    os.register_at_fork(after_in_child=_make_client.cache_clear)


def prepare(url: str, api_key_env: str | None, timeout: float) -> None:
    """Import and open what `send` needs: it takes a while, and a start may be promised before."""
    with contextlib.suppress(Exception):  # it happens again, and is told, in `send`
        _open_client(url, read_key(url, api_key_env).value, timeout)


def send(url: str, api_key_env: str | None, timeout: float, body: dict[str, Any]) -> dict[str, Any]:
    """Post one chat completion and return the record of its answer.

    Parameters
    ----------
    url : str
        From `resolve_url`.
    api_key_env : str or None
        Name of the variable that holds the key.
    timeout : float
        Seconds for the whole exchange, however slowly it drips.
    body : dict
        "model", "messages" and the options; "extra_headers" and "extra_query" as in the SDK.

    Returns
    -------
    record : dict
        "text", "refusal", "finish_reason", "model", "prompt_tokens", "completion_tokens",
        "logprobs": plain JSON.

    Raises
    ------
    RequestError
        With `status`, `retry_after`, `sent`, and `transient` where another try may succeed.
    """
    fields = {**body}
    around = {name: fields.pop(name, None) for name in ("extra_headers", "extra_query")}
    fields |= fields.pop("extra_body", {})
    # The messages go as they are, not through the SDK's walk along its type annotations: that is
    # a fifth of the time that a request costs.
    key = read_key(url, api_key_env)
    payload = _exchange(
        url,
        key,
        timeout,
        lambda client: client.chat.completions.with_streaming_response.create(
            model=body["model"], messages=[], extra_body=fields, **around
        ),
    )
    return read_record(payload, url, key.hide)


def list_models(url: str, api_key_env: str | None, timeout: float) -> list[str]:
    """Names of the models that the server offers."""
    key = read_key(url, api_key_env)
    payload = _exchange(
        url,
        key,
        timeout,
        lambda client: client.models.with_streaming_response.list(),
    )
    models = payload.get("data")
    models = models if isinstance(models, list) else []
    return [str(model["id"]) for model in models if isinstance(model, dict) and "id" in model]


def _exchange(url: str, key: Secret, timeout: float, call: Any) -> dict[str, Any]:
    """Send, read the whole answer within the time, turn every failure into a RequestError."""
    with exchange(timeout, key.hide) as now:
        try:
            with call(_open_client(url, key.value, timeout)) as response:
                return parse_payload(_read_body(response, url), url, key.hide)
        except Exception as error:
            failure = _explain(error, now, url, timeout)
    # Outside of the handler, so that the SDK's exception is not its context; without the frames of
    # the SDK, whose variables hold the key.
    failure.__context__ = None
    raise failure.with_traceback(None)


def _explain(error: Exception, now: Exchange, url: str, timeout: float) -> RequestError:
    import openai

    if isinstance(error.__cause__, (RequestError, TooLateError)):
        error = error.__cause__  # openai 2 wraps all that is raised below it
    doctor = f"Is the server up? `python -m skllmreg doctor --base-url {url}` tells."
    late = isinstance(error, (openai.APITimeoutError, TooLateError))
    # On this machine, where nobody listens nobody will without the user's doing.
    down = is_loopback(url) and any(isinstance(e, ConnectionRefusedError) for e in _causes(error))
    if isinstance(error, RequestError):
        return error
    if late and now.sent:
        what = f"did not answer within {timeout:g} s. {doctor}"
    elif late:
        what = f"cannot be reached within {timeout:g} s. {doctor}"
    elif isinstance(error, openai.APIConnectionError):
        cause = error.__cause__ or error
        what = f"cannot be reached ({now.hide(str(cause)) or type(cause).__name__}). {doctor}"
    else:
        return RequestError(
            f"The request to {url} could not be made: {type(error).__name__}: "
            f"{now.hide(str(error))[:200]}. Are the request_options right?",
            sent=now.sent,
        )
    return RequestError(f"{url} {what}", transient=not down, sent=now.sent)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _read_body(response: Any, url: str) -> str:
    chunks, size = [], 0
    try:
        for chunk in response.iter_bytes():
            chunks.append(chunk)
            size += len(chunk)
            if size > LARGEST_REPLY:
                problem = f"sent more than {LARGEST_REPLY:,} bytes for one reply"
                break
        else:
            return b"".join(chunks).decode("utf-8-sig", errors="replace")
    except Exception as error:  # of httpx, or of its successor, whichever the SDK stands on
        late = isinstance(error, TooLateError) or "Timeout" in type(error).__name__
        problem = "is still sending its reply after the timeout"
        if not late:
            problem = f"broke off in its reply ({type(error).__name__})"
    raise RequestError(f"{url} {problem}.", transient=True, sent=True)


def _refuse(url: str, key: Secret, response: Any) -> None:
    """Raise for any status but 2xx, before the SDK sees it."""
    if 200 <= response.status_code < 300:
        return
    text = _read_body(response, url)
    try:
        said = read_json(text, key.hide)
    except ValueError:
        said = key.hide(text)
    raise refusal(url, response.status_code, said, response.headers)
