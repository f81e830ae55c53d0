"""Addresses and keys: what may be sent where, and what must not be shown."""

import ipaddress
import os
import re
from urllib.parse import urlsplit

from skllmreg.exceptions import RequestError

OPENAI_URL = "https://api.openai.com/v1"
# Servers of one's own want no key, the client insists on one.
DUMMY_KEY = "no-key"
# Shorter "keys" are words such as EMPTY, which occur in answers and protect nothing.
SHORTEST_SECRET = 12

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# How the path of a `LocalServer` begins: a hash of the model's file, and the context.
_LOCAL_PATH = re.compile(r"/gguf-[0-9a-f]{16}-\d+/")
_SECRET_HEADER = re.compile(
    r"auth|key|token|cookie|secret|pass|credential|(^|[-_])sig(nature)?$", re.I
)
# Fields of the body are called max_tokens and prompt_cache_key: only what can be nothing else.
_SECRET_FIELD = re.compile(
    r"(^|[-_])(api[-_]?key|secret([-_]?key)?|password|passwd|credentials?|authorization|bearer"
    r"|(access|auth|api)[-_]?token|cookie)$",
    re.I,
)
# Values of headers that can be nothing else, whatever the header is called.
_SECRET_VALUE = re.compile(r"\s*(bearer\s|basic\s+[A-Za-z0-9+/]{16,}=*\s*$|sk-)", re.I)


def resolve_url(base_url: str | None) -> str:
    """The address in its one form; raises where it is none, or carries a secret."""
    url = OPENAI_URL if base_url is None else str(base_url).rstrip("/")
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        is_address = False
    if not is_address:
        raise ValueError(
            "base_url is an address such as http://localhost:8000/v1, "
            f"got {without_userinfo(url)!r}."
        )
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError(
            "base_url carries a user, a password or a query, which would be stored and printed. "
            "Put the key into an environment variable and name it in api_key_env."
        )
    if url.endswith("/chat/completions"):
        base = url.removesuffix("/chat/completions")
        raise ValueError(f"base_url is the address before /chat/completions: {base!r}.")
    return url


def stable_identity(url: str, model: str) -> tuple[str, str]:
    """The server and model as the cache and the ledger know them.

    A `LocalServer` is known by its file's hash and context, which are in its path: not by the port
    of the day, nor by the file's name.
    """
    path = urlsplit(url).path
    if _LOCAL_PATH.match(path) and is_loopback(url):
        return f"http://localhost{path}", "gguf"
    return url, model


def without_userinfo(url: str) -> str:
    """The address without what `resolve_url` would refuse."""
    return re.sub(r"(?<=//)[^/]*@|[?#].*", "...", url)


def is_openai(url: str) -> bool:
    parts = urlsplit(url)
    host = parts.hostname or ""
    return parts.scheme == "https" and (
        host == "api.openai.com" or host.endswith(".api.openai.com")
    )


def is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_variable_name(name: str) -> bool:
    """Whether it can be the name of an environment variable; the usual key cannot."""
    return _NAME.fullmatch(name) is not None


def is_secret_name(name: str, *, header: bool) -> bool:
    """Whether a header or query parameter, or a field of the body, would hold a secret."""
    return (_SECRET_HEADER if header else _SECRET_FIELD).search(name) is not None


def is_secret_value(value: object) -> bool:
    """Whether the value of a header or query parameter is a credential by its form."""
    return isinstance(value, str) and _SECRET_VALUE.match(value) is not None


class Secret:
    """Keeps the key out of tracebacks that show local variables."""

    __slots__ = ("value",)

    def __init__(self, value: str) -> None:
        self.value = value

    def hide(self, text: str) -> str:
        """Drop the key from what a server says: some echo the headers they got."""
        if len(self.value) < SHORTEST_SECRET:
            return text
        text = text.replace(self.value, "[key]")
        if "\\" in text:  # JSON and the repr of bytes can spell it in other ways
            plain = re.sub(r"\\u00([0-7][0-9a-fA-F])", lambda m: chr(int(m[1], 16)), text)
            plain = re.sub(r"\\(.)", r"\1", plain)
            if self.value in plain:
                return plain.replace(self.value, "[key]")
        return text


def read_key(url: str, api_key_env: str | None) -> Secret:
    """The key, read from the environment at the moment of the call.

    OPENAI_API_KEY is sent to OpenAI alone; a variable that is named goes where the user points it.
    """
    if api_key_env is None and not is_openai(url):
        return Secret(DUMMY_KEY)
    name = api_key_env or "OPENAI_API_KEY"
    key = Secret(os.environ.get(name, ""))
    if not key.value:
        raise RequestError(
            f"The environment variable {name} is not set: {url} wants a key. Set it, or name "
            "another variable in api_key_env, or give the base_url of a server of your own."
        )
    if not key.value.isascii() or not key.value.isprintable() or " " in key.value:
        raise RequestError(
            f"The environment variable {name} holds a space, a line end or another character "
            "that a key cannot have."
        )
    return key
