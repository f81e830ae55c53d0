"""One request to one server: the only place where the OpenAI client is used.

What goes out is what was asked for and nothing else; what comes back is a parsed answer or a
`RequestError`. The client's own exceptions hold the request with its headers, hence the key: none
of them leaves this file, not even as the context of another one.
"""

import email.utils
import functools
import ipaddress
import os
import threading
import time
from typing import Any
from urllib.parse import urlsplit

from skllmreg.exceptions import RequestError
from skllmreg.llm._record import parse_payload, read_record

OPENAI_URL = "https://api.openai.com/v1"
# Servers of one's own want no key, the client insists on one.
DUMMY_KEY = "no-key"
LARGEST_REPLY = 32 * 2**20

# Refusals that no repetition heals, though their status alone would allow one.
_FINAL_CODES = {"insufficient_quota", "billing_hard_limit_reached"}
_SECRET_WORDS = ("auth", "key", "token", "cookie", "secret")


def resolve_url(base_url: str | None) -> str:
    """The address in its one form; raises where it is none, or carries a secret."""
    url = OPENAI_URL if base_url is None else str(base_url).rstrip("/")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"base_url is an address such as http://localhost:8000/v1, got {url!r}.")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError(
            "base_url carries a user, a password or a query, which would be stored and printed. "
            "Put the key into an environment variable and name it in api_key_env."
        )
    return url


def is_openai(url: str) -> bool:
    parts = urlsplit(url)
    host = parts.hostname or ""
    return parts.scheme == "https" and (
        host == "api.openai.com" or host.endswith(".api.openai.com")
    )


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_secret_name(name: str) -> bool:
    """Whether a header or query parameter of that name would hold a secret."""
    return any(word in name.lower() for word in _SECRET_WORDS)


def read_key(url: str, api_key_env: str | None) -> str:
    """The key, read from the environment at the moment of the call.

    OPENAI_API_KEY is sent to OpenAI alone; a variable that is named goes where the user points it.
    """
    if api_key_env is None and not is_openai(url):
        return DUMMY_KEY
    name = api_key_env or "OPENAI_API_KEY"
    key = os.environ.get(name, "")
    if not key:
        raise RequestError(
            f"The environment variable {name} is not set: {url} wants a key. Set it, or name "
            "another variable in api_key_env, or give the base_url of a server of your own."
        )
    if not key.isascii() or not key.isprintable() or " " in key:
        raise RequestError(
            f"The environment variable {name} holds a space, a line end or another character "
            "that a key cannot have."
        )
    return key


def _open_client(url: str, key: str, timeout: float) -> Any:
    """One client, with its pool of connections, per process and server."""
    with _client_lock:  # else every thread of a cold start makes one of its own
        return _make_client(url, key, timeout)


@functools.lru_cache(maxsize=16)
def _make_client(url: str, key: str, timeout: float) -> Any:
    import openai

    client = openai.OpenAI(
        api_key=key,
        base_url=url,
        max_retries=0,  # ours: the SDK gives up where Retry-After is above 120 s
        http_client=openai.DefaultHttpxClient(
            timeout=openai.Timeout(timeout, connect=min(timeout, 10.0)),
            # A redirect would carry the prompts to a host that nobody named.
            follow_redirects=False,
            # A proxy of the environment is the user's network; the loopback needs none.
            trust_env=not _is_loopback(url),
        ),
    )
    # The SDK fills these from OPENAI_ORG_ID, OPENAI_PROJECT_ID, OPENAI_ADMIN_KEY,
    # OPENAI_WEBHOOK_SECRET and OPENAI_CUSTOM_HEADERS whatever the address.
    client.organization = client.project = None
    client.admin_api_key = client.webhook_secret = None
    client._custom_headers = {}
    return client


def _forget_clients() -> None:
    """A forked child must not use the connections, or the lock, of its parent."""
    global _client_lock
    _client_lock = threading.Lock()
    _make_client.cache_clear()


_client_lock = threading.Lock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_clients)


def send(url: str, api_key_env: str | None, timeout: float, body: dict[str, Any]) -> dict[str, Any]:
    """Post one chat completion and return the record of its answer.

    Parameters
    ----------
    url : str
        From `resolve_url`.
    api_key_env : str or None
        Name of the variable that holds the key.
    timeout : float
        Seconds for the whole answer, however slowly it drips.
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
        With `status`, `retry_after`, and `transient` where another try may succeed.
    """
    key = _Secret(read_key(url, api_key_env))
    fields = {**body}
    around = {name: fields.pop(name, None) for name in ("extra_headers", "extra_query")}
    fields |= fields.pop("extra_body", {})
    # The messages go as they are, not through the SDK's walk along its type annotations: that is
    # a fifth of the time that a request costs.
    text = _exchange(
        url,
        key,
        timeout,
        lambda client: client.chat.completions.with_streaming_response.create(
            model=body["model"], messages=[], extra_body=fields, **around
        ),
    )
    return read_record(parse_payload(text, url), url)


def list_models(url: str, api_key_env: str | None, timeout: float) -> list[str]:
    """Names of the models that the server offers."""
    text = _exchange(
        url,
        _Secret(read_key(url, api_key_env)),
        timeout,
        lambda client: client.models.with_streaming_response.list(),
    )
    models = parse_payload(text, url).get("data") or []
    return [str(model["id"]) for model in models if isinstance(model, dict) and "id" in model]


class _Secret:
    """Keeps the key out of tracebacks that show local variables."""

    __slots__ = ("value",)

    def __init__(self, value: str) -> None:
        self.value = value

    def hide(self, text: str) -> str:
        """Drop the key from what a server says: some echo the headers they got."""
        return text if self.value == DUMMY_KEY else text.replace(self.value, "[key]")


def _exchange(url: str, key: _Secret, timeout: float, call: Any) -> str:
    """Send, read the whole answer within the time, turn every failure into a RequestError."""
    import openai

    deadline = time.monotonic() + timeout
    try:
        with call(_open_client(url, key.value, timeout)) as response:
            return key.hide(_read_body(response, deadline, url))
    except RequestError as error:
        failure = error
    except openai.APIStatusError as error:
        failure = _from_status(error, url, key)
    except openai.APIConnectionError as error:
        cause = error.__cause__ or error
        what = (
            f"did not answer within {timeout:g} s"
            if isinstance(error, openai.APITimeoutError)
            else f"cannot be reached ({key.hide(str(cause)) or type(cause).__name__})"
        )
        failure = RequestError(
            f"{url} {what}. Is the server up? `python -m skllmreg doctor --base-url {url}` tells.",
            transient=True,
        )
    except Exception as error:
        failure = RequestError(
            f"The request to {url} could not be made: {type(error).__name__}: "
            f"{key.hide(str(error))[:200]}. Are the request_options right?"
        )
    # Outside of the handler, so that the SDK's exception is not its context.
    failure.__context__ = None
    raise failure


def _read_body(response: Any, deadline: float, url: str) -> str:
    # The client's own timeout is for each read: a reply that drips would never end.
    chunks, size = [], 0
    try:
        for chunk in response.iter_bytes():
            chunks.append(chunk)
            size += len(chunk)
            if time.monotonic() > deadline:
                problem = "is still sending its reply after the timeout"
                break
            if size > LARGEST_REPLY:
                problem = f"sent more than {LARGEST_REPLY:,} bytes for one reply"
                break
        else:
            return b"".join(chunks).decode("utf-8", errors="replace")
    except Exception as error:  # httpx or httpx2, whichever the SDK stands on
        problem = f"broke off in its reply ({type(error).__name__})"
    raise RequestError(f"{url} {problem}.", transient=True)


def _from_status(error: Any, url: str, key: _Secret) -> RequestError:
    status, headers = error.status_code, error.response.headers
    body = error.body if isinstance(error.body, dict) else {}
    message = body.get("message") or body.get("detail") or error.response.text
    message = " ".join(key.hide(str(message)).split())[:500]
    code = str(body.get("code") or body.get("type") or "")
    transient = (
        (status in (408, 409, 429) or (status >= 500 and status not in (501, 505)))
        and code not in _FINAL_CODES
        and headers.get("x-should-retry") != "false"
    )
    hint = {
        301: " Give the address it redirects to as base_url.",
        401: " Is the key right? api_key_env names the variable that holds it.",
        404: f" Does base_url end in /v1, and does the server have this model? "
        f"`python -m skllmreg doctor --base-url {url}` tells.",
    }.get(301 if 300 <= status < 400 else status, "")
    return RequestError(
        f"{url} answered with status {status}: {message or 'no message'}{hint}",
        status=status,
        code=code,
        retry_after=_retry_after(headers),
        transient=transient,
    )


def _retry_after(headers: Any) -> float | None:
    """Seconds to wait as the server says, in any of the three forms that are used."""
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            return max(0.0, float(headers[name]) / unit)
        except (KeyError, ValueError):
            continue
    try:
        when = email.utils.parsedate_to_datetime(headers["retry-after"])
    except (KeyError, ValueError, TypeError):
        return None
    return max(0.0, when.timestamp() - time.time())
