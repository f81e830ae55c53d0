"""Find secrets in parameters, keep them out of all that is shown, and read the key of a request.

A field is judged by the words of its name, and any text by what it looks like: a key pasted where
none belongs is refused by `Settings`, and masked by `without_secrets` in what is printed or pickled
before that.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from skllmreg.exceptions import RequestError

OPENAI_URL = "https://api.openai.com/v1"
# Servers without authentication want no key.
DUMMY_KEY = "no-key"
# Shorter "keys" are words such as EMPTY, which occur in answers and protect nothing.
SHORTEST_SECRET = 12
# What stands for a secret, and is refused like one.
MASK = "<secret>"

# Names with one of these are secrets, written together or apart: API-Key, apiKey, x_api_key.
_SECRET = re.compile(
    r"api_?key|pass_?(word|wd|phrase|code)|pwd|secret|credential|authoriz|bearer|cookie|jwt"
    r"|(access|private|session|auth|refresh|id|client|account|subscription|signing|encryption"
    r"|master|admin|shared|service|storage|ssh|license|hmac)_?(key|token)"
    r"|connection_?string|shared_?access_?signature"
)
# Names that end so are, if their value is a text: other texts are called a key or a token, too.
_PERHAPS = re.compile(r"(^|_)(x?auth|o?auth2?|key|tokens?|pass|sig|signature|dsn|pat|otp)$")
_HARMLESS = re.compile(
    r"(cache|public|primary|foreign|sort|partition|group|idempotency|object|routing|metadata"
    r"|bos|eos|pad|stop|mask|unk|special|image|start|end|max|min|prompt|completion|bad|allowed"
    r"|banned|think|thinking)_?(key|tokens?)$"
    r"|(^|_)(id|name|type|env|variable|uri|url|endpoint|length|count|limit|file|scheme)$"
)
# Keys as their makers write them, whatever stands around them, and headers that carry one.
_TOKEN = re.compile(
    r"(?<![A-Za-z0-9])(sk-[A-Za-z0-9_-]{8,}|(gsk|hf|r8|tgp_v1|ghu|gh[pousr]|github_pat|glpat|xai"
    r"|pplx|nvapi|key|xox[abpr]|fw|csk|jina|pa|sk_live|rk_live)[-_][A-Za-z0-9_-]{16,}"
    r"|AKIA[0-9A-Z]{12,}|AIza[A-Za-z0-9_-]{20,}|eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY[\s\S]*)"
)
_HEADER = re.compile(r"\s*((bearer|token)\s+\S{8,}|basic\s+[a-z0-9+/]{16,}=*)\s*", re.I)
# An address, or an assignment, within a text.
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*:/+[^\s\"'<>]+", re.I)
_USERINFO = re.compile(
    r"(?i)\b([a-z][a-z0-9+.-]*:/+)([^/?#\s@:]*:(?!\d+/)[^?#\s]*|[^/?#\s@:]{12,})@"
)
_SHOWABLE = re.compile(r"([a-zA-Z]+:/*)?[\w.-]+(:\d{1,5})?(/[\w./~-]*)?")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# JSON schemas describe fields that may be called password; they hold none.
_DESCRIBING = ("properties", "$defs", "definitions", "patternProperties")
_DEEPEST = 50


def secrets_in(options: Any) -> Iterator[str]:
    """Where options hold what looks like a secret: "extra_headers.Authorization", "tools.0.key"."""
    yield from _secrets_in(options, ())


def _secrets_in(value: Any, path: tuple[str, ...]) -> Iterator[str]:
    if len(path) > _DEEPEST:
        return
    for name, inner in _items(value):
        if _is_secret(name, inner, path, value):
            yield ".".join((*path, MASK if looks_like_key(name) else name))
        else:
            yield from _secrets_in(inner, (*path, name))


def _items(value: Any) -> list[tuple[str, Any]]:
    """The fields of a mapping, the items of a list, and those of JSON within a text."""
    if isinstance(value, Mapping):
        return [(str(name), inner) for name, inner in value.items()]
    if isinstance(value, list | tuple | set | frozenset):
        return [(str(i), inner) for i, inner in enumerate(value)]
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        try:
            return _items(json.loads(value))
        except (ValueError, RecursionError):
            return []
    return []


def _is_secret(name: str, value: Any, path: tuple[str, ...], around: Any) -> bool:
    if looks_like_key(name):
        return True
    if value is None or isinstance(value, bool) or value in ("", b""):
        return False
    if name in ("key", "name") and isinstance(around, Mapping) and "value" in around:
        return isinstance(value, str) and looks_like_key(value)
    described = bool(path) and path[-1] in _DESCRIBING and isinstance(value, Mapping)
    if isinstance(around, Mapping) and not described and _names_secret(name, value):
        return True
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    if isinstance(value, str):
        return looks_like_key(value)
    # Headers as pairs, or as {"name": "Authorization", "value": ...}.
    pair: Any = None
    if isinstance(around, list | tuple) and isinstance(value, list | tuple) and len(value) == 2:
        pair = value
    elif isinstance(value, Mapping) and "value" in value:
        pair = (value.get("name") or value.get("key") or value.get("header"), value["value"])
    return pair is not None and isinstance(pair[0], str) and _names_secret(pair[0], pair[1])


def _names_secret(name: str, value: Any) -> bool:
    """Whether a field of this name, with this value, is a secret."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[^A-Za-z0-9]+", "_", name).lower()
    if _HARMLESS.search(words) or value is None or isinstance(value, bool):
        return False
    if _SECRET.search(words):
        return True
    texts = value if isinstance(value, list | tuple) else [value]
    return any(isinstance(text, str | bytes) for text in texts) and bool(_PERHAPS.search(words))


def looks_like_key(text: str) -> bool:
    """Whether a text is, or holds, what can be nothing but a key."""
    return bool(text == MASK or _TOKEN.search(text) or _HEADER.fullmatch(text)) or any(
        _holds_secret(address[0]) for address in _ADDRESS.finditer(text)
    )


def _holds_secret(url: str) -> bool:
    """Whether an address carries a password, or a query with a key."""
    if _USERINFO.match(url):
        return True
    query = url.partition("?")[2] or url.partition("#")[2]
    return any(_names_secret(name, value) for name, value in parse_qsl(query))


def hide_keys(text: str) -> str:
    """Replace what looks like a key in a text."""
    return _USERINFO.sub(rf"\1{MASK}@", _TOKEN.sub("[key]", text))


def without_secrets(name: str, value: Any) -> Any:
    """A parameter, with everything masked that `Settings` would refuse as a secret.

    What is masked is still refused.
    """
    if name == "base_url" and value is not None:
        try:
            resolve_url(value)
        except ValueError:
            return shown_url(str(value))
    if name == "api_key_env" and value is not None and not is_variable_name(value):
        return MASK
    if name == "model" and isinstance(value, str) and looks_like_key(value):
        return MASK
    return _masked(value, ()) if name == "request_options" else value


def _masked(value: Any, path: tuple[str, ...]) -> Any:
    if value is None or isinstance(value, int | float):
        return value
    if isinstance(value, str) and path:
        return MASK if any(_secrets_in(value, path)) else value
    if not isinstance(value, Mapping | list | tuple) or len(path) > _DEEPEST:
        return f"<{type(value).__name__}>"  # is refused, and its own text may say anything
    masked = [
        MASK if _is_secret(name, inner, path, value) else _masked(inner, (*path, name))
        for name, inner in _items(value)
    ]
    if isinstance(value, Mapping):
        names = [MASK if looks_like_key(str(name)) else name for name in value]
        return dict(zip(names, masked, strict=True))
    return tuple(masked) if isinstance(value, tuple) else masked


def is_variable_name(name: Any) -> bool:
    """Whether it can be the name of an environment variable; a key cannot.

    What no variable is called, and has the letters and digits of a key, is taken for one.
    """
    if not isinstance(name, str) or not _VARIABLE.fullmatch(name):
        return False
    if name in os.environ:
        return True
    words = name.split("_")
    random = any(
        len(word) > 15 and (re.search("[0-9]", word) or (word != word.upper() != word.lower()))
        for word in words
    )
    return not random and not _TOKEN.search(name)


def check_variable(api_key_env: Any) -> None:
    """A ValueError where it is no name of a variable, which does not show it."""
    if api_key_env is not None and not is_variable_name(api_key_env):
        raise ValueError(
            "api_key_env is the name of an environment variable. If it holds the key itself, "
            "that belongs into a variable."
        )


# Addresses.


def resolve_url(base_url: str | None) -> str:
    """The address in its one form; a ValueError where it is not one, or carries a secret."""
    url = OPENAI_URL if base_url is None else str(base_url).rstrip("/")
    try:
        parts = urlsplit(url)
        is_address = (
            parts.scheme in ("http", "https")
            and parts.hostname
            and parts.port != 0
            and not re.search(r"[%\\@]|[^\x21-\x7e]", parts.hostname.encode("idna").decode())
            and not re.search(r"[\\\s]", url)
        )
    except (ValueError, UnicodeError):
        is_address = False
    if not is_address:
        raise ValueError(
            f"base_url is an address such as http://localhost:8000/v1, got {shown_url(url)!r}."
        )
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError(
            "base_url carries a user, a password or a query, which would be stored and printed. "
            "Put the key into an environment variable and name it in api_key_env."
        )
    if looks_like_key(unquote(url)) or re.search("[;=@]", unquote(parts.path)):
        raise ValueError(
            "base_url has what looks like a key in its path, which would be stored and printed. "
            "Put the key into an environment variable and name it in api_key_env."
        )
    if url.endswith("/chat/completions"):
        base = url.removesuffix("/chat/completions")
        raise ValueError(f"base_url is the address before /chat/completions: {base!r}.")
    return url


def shown_url(url: str) -> str:
    """A refused address, masked where any of it could be a password; it stays refused."""
    if _SHOWABLE.fullmatch(url) and not looks_like_key(unquote(url)):
        return url
    scheme = re.match(r"[a-zA-Z]{1,10}://", url)
    host = re.fullmatch(r"(?s)[a-z]+://[^/?#]*@([\w.-]+(:\d{1,5})?)([/?#].*)?", url)
    clean = host and "@" not in (host[3] or "") and not looks_like_key(host[1])
    return f"{scheme[0] if scheme else ''}{MASK}@{host[1] if host and clean else MASK}"


def is_openai(url: str) -> bool:
    """Whether an address is OpenAI's own."""
    parts, openai = urlsplit(url), urlsplit(OPENAI_URL)
    host = parts.hostname or ""
    return parts.scheme == "https" and f".{host}".endswith(f".{openai.hostname}")


# The key of a request.


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
        if "\\u00" in text or "\\x" in text or ("\\" in text and re.search(r'["\\/]', self.value)):
            # JSON, and the repr of bytes, can spell a character in other ways, also twice over.
            spelled = (
                rf"\\{{0,8}}(?:{re.escape(c)}|u00{ord(c):02x}|x{ord(c):02x})" for c in self.value
            )
            return re.sub("".join(spelled), "[key]", text, flags=re.I)
        return text


def read_key(url: str, api_key_env: str | None) -> Secret:
    """The key, read from the environment at the moment of the call.

    OPENAI_API_KEY is sent to OpenAI alone; a variable that is named goes where the user points it.
    """
    check_variable(api_key_env)
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
