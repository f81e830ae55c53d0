"""Check the parameters of a model, hold them as one frozen value, and make keys of prompts."""

import hashlib
import ipaddress
import json
import math
import os
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from numbers import Integral, Real
from typing import Any
from urllib.parse import urlsplit

from skllmreg.llm._secrets import check_variable, is_openai, looks_like_key, resolve_url, secrets_in

Messages = list[dict[str, str]]

ROLES = {"system", "developer", "user", "assistant"}

# Name: (type, what the numbers are, which ones are). None is allowed where it is the default.
_NUMBERS: dict[str, tuple[type, str, Any]] = {
    "temperature": (Real, "a number, 0 or more", lambda v: v >= 0),
    "max_concurrency": (Integral, "a whole number, 1 or more", lambda v: v >= 1),
    "requests_per_minute": (Real, "a positive number", lambda v: v > 0),
    "tokens_per_minute": (Real, "a positive number", lambda v: v > 0),
    "timeout": (Real, "a positive number", lambda v: v > 0),
    "max_retries": (Integral, "a whole number, 0 or more", lambda v: v >= 0),
    "request_budget": (Integral, "a whole number, 0 or more", lambda v: v >= 0),
    "token_budget": (Integral, "a whole number, 0 or more", lambda v: v >= 0),
    "cost_budget": (Real, "a number, 0 or more", lambda v: v >= 0),
}
_NEVER_NONE = {"max_concurrency", "timeout", "max_retries"}
_BUDGETS = ("request_budget", "token_budget", "cost_budget")
# Options that the package sets by itself.
_RESERVED = {
    "model": "it is the first parameter of ChatModel",
    "messages": "they are the prompts",
    "temperature": "it is a parameter of ChatModel",
    "stream": "answers are stored whole",
    "n": "pass a prompt n times for n samples of it",
    "response_format": "pass a schema to `complete`",
}

# What an answer by a batch job costs, as a share of the price of a live one.
BATCH_PRICE = 0.5

# How the path of a `LocalServer` begins: a hash of the model's file, and the context.
_LOCAL_PATH = re.compile(r"/gguf-[0-9a-f]{16}-\d+/")


@dataclass(frozen=True)
class Settings:
    """The parameters of a `ChatModel`, checked, and whose budget they belong to.

    Raises a ValueError that names the parameter that is wrong.
    """

    model: str
    base_url: str | None = None
    api_key_env: str | None = None
    temperature: float | None = None
    request_options: dict[str, Any] | None = None
    max_concurrency: int = 8
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    timeout: float = 60.0
    max_retries: int = 5
    request_budget: int | None = None
    token_budget: int | None = None
    cost_budget: float | None = None
    prices: Any = None
    cache: Any = "default"
    mode: str = "live"
    transport: Any = None
    delivery: str = "live"
    batch_wait: bool = True
    batch_repairs: str = "live"
    run: str = ""

    def __post_init__(self) -> None:
        for name, (kind, what, fits) in _NUMBERS.items():
            value = getattr(self, name)
            if value is None and name not in _NEVER_NONE:
                continue
            if not (_is_finite(value) and isinstance(value, kind) and fits(value)):
                raise ValueError(f"{name} is {what}, got {value!r:.100}.")
        if not isinstance(self.model, str) or not self.model:
            raise ValueError(f"model is the name of a model, got {self.model!r:.100}.")
        if self.mode not in ("live", "replay"):
            raise ValueError(f'mode is "live" or "replay", got {self.mode!r:.100}.')
        self._check_delivery()
        if self.transport is not None and not callable(getattr(self.transport, "send", None)):
            raise ValueError(f"transport has a method send, got {self.transport!r:.100}.")
        if looks_like_key(self.model):
            raise ValueError(
                "model is the name of a model, got what looks like a key: that belongs into an "
                "environment variable, which api_key_env names."
            )
        check_variable(self.api_key_env)
        self._check_cache()
        price = self.price
        if self.cost_budget is not None and price is None:
            raise ValueError(f"cost_budget needs prices, which name no price of {self.model!r}.")
        _check_options(self.request_options)
        resolve_url(self.base_url)

    def _check_delivery(self) -> None:
        for name in ("delivery", "batch_repairs"):
            value = getattr(self, name)
            if value not in ("live", "batch"):
                raise ValueError(f'{name} is "live" or "batch", got {value!r:.100}.')
        if not isinstance(self.batch_wait, bool):
            raise ValueError(f"batch_wait is True or False, got {self.batch_wait!r:.100}.")
        if self.delivery == "batch" and self.cache is None:
            raise ValueError('delivery="batch" needs a cache, in which its jobs are written down.')
        if self.delivery == "batch" and self.transport is not None:
            raise ValueError('delivery="batch" asks OpenAI\'s API at base_url: transport is None.')

    def _check_cache(self) -> None:
        if self.cache is None:
            if self.mode == "replay":
                raise ValueError('mode="replay" needs a cache to replay from.')
            if self.has_budget:
                raise ValueError(
                    "A budget is counted in the cache file, so that it holds across workers: "
                    "cache=None has none."
                )
        elif not isinstance(self.cache, (str, os.PathLike)):
            raise ValueError(f'cache is "default", a path or None, got {self.cache!r:.100}.')

    @cached_property
    def url(self) -> str:
        """Address of the server in its one form."""
        return resolve_url(self.base_url)

    @cached_property
    def identity(self) -> tuple[str, str]:
        """The server and the model as the cache knows them.

        A `LocalServer` is known by its file's hash and context, which are in its path: not by the
        port of the day, nor by the file's name.
        """
        path = urlsplit(self.url).path
        if _LOCAL_PATH.match(path) and is_loopback(self.url):
            return f"http://localhost{path}", "gguf"
        return self.url, self.model

    @property
    def has_server(self) -> bool:
        """Whether a server is asked; another transport may be anybody, unless it has an address."""
        return self.transport is None or self.base_url is not None

    @property
    def peer(self) -> str:
        """Whom what is found out about a model is remembered of."""
        return f"{self.server} {self.model}" + ("" if self.has_server else f" {self.run}")

    @property
    def server(self) -> str:
        """The server as the cache and the ledger know it."""
        return self.identity[0]

    @property
    def account(self) -> str:
        """The server, the model and the key, as limits are kept by them.

        Sixteen bits of a hash tell keys apart and give nothing of them away.
        """
        name = self.api_key_env or ("OPENAI_API_KEY" if is_openai(self.url) else "")
        key = os.environ.get(name, "") if name else ""
        tag = hashlib.blake2b(key.encode("utf-8", "replace"), digest_size=2).hexdigest()
        return f"{self.server} {self.model}" + (f" {name} {tag}" if key else "")

    @cached_property
    def options(self) -> dict[str, Any]:
        """Fields of a request beside the model and the messages."""
        sampling = {} if self.temperature is None else {"temperature": self.temperature}
        return {**sampling, **(self.request_options or {})}

    @property
    def has_budget(self) -> bool:
        return any(getattr(self, name) is not None for name in _BUDGETS)

    @property
    def caching(self) -> bool:
        return self.cache is not None

    @property
    def replay(self) -> bool:
        return self.mode == "replay"

    @cached_property
    def price(self) -> tuple[float, float] | None:
        """Dollars per million tokens of prompts and answers, as they are delivered, or None."""
        share = BATCH_PRICE if self.delivery == "batch" else 1.0
        prices = self.prices
        price = prices.get(self.model) if isinstance(prices, dict) else prices
        if price is None:
            return None
        try:
            prompt, completion = price
            if all(_is_finite(dollars) and dollars >= 0 for dollars in (prompt, completion)):
                return share * float(prompt), share * float(completion)
        except (TypeError, ValueError):
            pass
        raise ValueError(
            "prices is (dollars per million prompt tokens, dollars per million completion tokens) "
            f"or a dict of such by model, got {prices!r:.100}."
        )

    def cost(self, prompt_tokens: int, completion_tokens: int) -> float | None:
        """Dollars for so many tokens; None without prices."""
        return dollars(self.price, prompt_tokens, completion_tokens)


def dollars(
    price: tuple[float, float] | None, prompt_tokens: int, completion_tokens: int
) -> float | None:
    """What tokens cost at a price for a million of each kind; None without one."""
    if price is None:
        return None
    return (prompt_tokens * price[0] + completion_tokens * price[1]) / 1e6


def _is_finite(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def _check_options(options: Any) -> None:
    if options is None:
        return
    if not isinstance(options, dict):
        raise ValueError(f"request_options is a dict, got a {type(options).__name__}.")
    for name in options.keys() & _RESERVED.keys():
        raise ValueError(f"request_options must not set {name!r}: {_RESERVED[name]}.")
    for path in secrets_in(options):
        raise ValueError(
            f"request_options holds {path!r}, which looks like a secret: "
            "put a key into an environment variable and name it in api_key_env."
        )
    try:
        canonical(options)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"request_options cannot be sent as JSON: {error}.") from None


def is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def as_conversations(prompts: Iterable[Any]) -> list[Messages]:
    """Bring a list of prompts into the form of lists of messages, or say which one is wrong."""
    if isinstance(prompts, (str, bytes, dict)):
        raise TypeError(
            "prompts is a list of prompts (str or lists of messages), "
            f"got a single {type(prompts).__name__}: put it in a list."
        )
    return [_as_messages(prompt, i) for i, prompt in enumerate(prompts)]


def _as_messages(prompt: Any, i: int) -> Messages:
    if isinstance(prompt, str):
        messages = [{"role": "user", "content": prompt}]
    elif (
        isinstance(prompt, list)
        and prompt
        and all(isinstance(m, dict) and m.keys() == {"role", "content"} for m in prompt)
    ):
        messages = [{"role": m["role"], "content": m["content"]} for m in prompt]
    else:
        raise TypeError(
            f"Prompt {i} is neither a str nor a list of messages "
            f'{{"role": ..., "content": ...}}: {prompt!r:.200}'
        )
    for message in messages:
        if message["role"] not in ROLES:
            raise ValueError(
                f"Prompt {i} has the role {message['role']!r}; one of {sorted(ROLES)} is needed."
            )
        if not isinstance(message["content"], str):
            raise TypeError(
                f"Prompt {i} has a content that is not a string: {message['content']!r:.200}"
            )
        try:
            message["content"].encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"Prompt {i} holds a character that UTF-8 cannot encode, at position {error.start}."
            ) from None
    return messages


def number_samples(conversations: list[Messages]) -> list[int]:
    """The n-th occurrence of a prompt is sample n of it."""
    seen: Counter[str] = Counter()
    samples = []
    for messages in conversations:
        text = canonical(messages)
        samples.append(seen[text])
        seen[text] += 1
    return samples


def canonical(value: Any) -> str:
    """JSON text that is the same for equal values."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def equal_form(value: Any) -> Any:
    """A JSON value in the one form of all that are equal to it: 0.0 is 0."""
    if isinstance(value, dict):
        return {name: equal_form(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [equal_form(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def cache_key(identity: str, messages: Messages, sample: int) -> str:
    """Hash of all that decides an answer; `identity` is what a call's prompts have in common."""
    text = f"{identity}\n{canonical(messages)}\n{sample}"
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def without_system_turn(messages: Messages) -> Messages:
    """The system's turn as the beginning of the user's; some chat templates have no other place.

    The same object where there is no system turn before a user's.
    """
    roles = [message["role"] for message in messages[:2]]
    if roles not in (["system", "user"], ["developer", "user"]):
        return messages
    first, second, *others = messages
    return [{"role": "user", "content": f"{first['content']}\n\n{second['content']}"}, *others]


def estimate_tokens(messages: Messages, schema: dict[str, Any] | None = None) -> int:
    """Tokens of a prompt, high on purpose: budgets reserve by this number.

    A token of the usual vocabularies is some four bytes of English text, and fewer of others.
    """
    n_bytes = sum(len(message["content"].encode()) for message in messages)
    if schema is not None:
        n_bytes += len(canonical(schema))
    return 8 + 8 * len(messages) + math.ceil(n_bytes / 3)
