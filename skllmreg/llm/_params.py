"""What the parameters of a ChatModel may be, and how much of them is shown."""

import math
import os
from collections.abc import Iterator
from numbers import Integral, Real
from typing import Any

from skllmreg.llm._keys import is_secret_name, is_secret_value, is_variable_name, without_userinfo
from skllmreg.llm._prompts import canonical

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
# Options that the edge sets by itself.
_RESERVED = {
    "model": "it is the first parameter of ChatModel",
    "messages": "they are the prompts",
    "temperature": "it is a parameter of ChatModel",
    "stream": "answers are stored whole",
    "n": "pass a prompt n times for n samples of it",
    "response_format": "pass a schema to `complete`",
}
_AROUND = ("extra_headers", "extra_query")


def check_params(params: dict[str, Any]) -> None:
    """Raise a ValueError that names the parameter that is wrong."""
    for name, (kind, what, fits) in _NUMBERS.items():
        value = params[name]
        if value is None and name not in _NEVER_NONE:
            continue
        if not (_is_finite(value) and isinstance(value, kind) and fits(value)):
            raise ValueError(f"{name} is {what}, got {value!r:.100}.")
    if not isinstance(params["model"], str) or not params["model"]:
        raise ValueError(f"model is the name of a model, got {params['model']!r:.100}.")
    if params["mode"] not in ("live", "replay"):
        raise ValueError(f'mode is "live" or "replay", got {params["mode"]!r:.100}.')
    variable = params["api_key_env"]
    if variable is not None and not (isinstance(variable, str) and is_variable_name(variable)):
        raise ValueError(
            "api_key_env is the name of an environment variable. If it holds the key itself, that "
            "belongs into a variable."
        )
    _check_cache(params)
    price = price_of(params["model"], params["prices"])
    if params["cost_budget"] is not None and price is None:
        raise ValueError(f"cost_budget needs prices, which name no price of {params['model']!r}.")
    _check_options(params["request_options"])


def _is_finite(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def _check_cache(params: dict[str, Any]) -> None:
    if params["cache"] is None:
        if params["mode"] == "replay":
            raise ValueError('mode="replay" needs a cache to replay from.')
        if any(params[name] is not None for name in _BUDGETS):
            raise ValueError(
                "A budget is counted in the cache file, so that it holds across workers: "
                "cache=None has none."
            )
    elif not isinstance(params["cache"], (str, os.PathLike)):
        raise ValueError(f'cache is "default", a path or None, got {params["cache"]!r:.100}.')


def price_of(model: str, prices: Any) -> tuple[float, float] | None:
    """Dollars per million tokens of prompts and answers; None where there is no price."""
    price = prices.get(model) if isinstance(prices, dict) else prices
    if price is None:
        return None
    try:
        prompt, completion = price
        if all(_is_finite(dollars) and dollars >= 0 for dollars in (prompt, completion)):
            return float(prompt), float(completion)
    except (TypeError, ValueError):
        pass
    raise ValueError(
        "prices is (dollars per million prompt tokens, dollars per million completion tokens) or a "
        f"dict of such by model, got {prices!r:.100}."
    )


def _check_options(options: Any) -> None:
    if options is None:
        return
    if not isinstance(options, dict):
        raise ValueError(f"request_options is a dict, got {options!r:.100}.")
    for name in options.keys() & _RESERVED.keys():
        raise ValueError(f"request_options must not set {name!r}: {_RESERVED[name]}.")
    for path in _secrets(options):
        raise ValueError(
            f"request_options holds {path!r}, which looks like a secret: "
            "put a key into an environment variable and name it in api_key_env."
        )
    try:
        canonical(options)
    except (TypeError, ValueError) as error:
        raise ValueError(f"request_options cannot be sent as JSON: {error}.") from None


def _secrets(value: Any, path: tuple[str, ...] = ()) -> Iterator[str]:
    """Where options hold what looks like a secret."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if _is_secret(name, inner, path):
                yield ".".join((*path, str(name)))
            yield from _secrets(inner, (*path, str(name)))


def _is_secret(name: Any, value: Any, path: tuple[str, ...]) -> bool:
    around = bool(path) and path[0] in _AROUND
    return is_secret_name(str(name), header=around) or (around and is_secret_value(value))


def without_secrets(name: str, value: Any, path: tuple[str, ...] = ()) -> Any:
    """A parameter with that hidden which `check_params` and `resolve_url` would refuse."""
    if name == "base_url" and isinstance(value, str):
        return without_userinfo(value)
    if name == "api_key_env" and not is_variable_name(str(value)):
        return "..."
    if not isinstance(value, dict):
        return value

    def shown(key, inner):
        return "..." if _is_secret(key, inner, path) else without_secrets("", inner, (*path, key))

    return {key: shown(str(key), inner) for key, inner in value.items()}
