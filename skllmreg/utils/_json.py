"""Parse the JSON in a reply and check it against a schema.

The part of JSON schema that is known here is small; `check_schema` refuses the rest, so that
nothing is silently ignored.
"""

import difflib
import json
import math
import re
from collections.abc import Callable
from typing import Any

from skllmreg.utils._thoughts import split_thoughts

_KEYWORDS = {
    "object": {"properties", "required", "additionalProperties"},
    "array": {"items", "minItems", "maxItems"},
    "integer": {"minimum", "maximum"},
    "number": {"minimum", "maximum"},
    "string": set(),
    "boolean": set(),
}
_FENCE = re.compile(r"```[^\n`]*\n(.*?)```", re.DOTALL)
# Bytes that the values of a reply, and of a whole response of a server, may take: three characters
# of JSON make seventy bytes.
LARGEST, LARGEST_RESPONSE = 2**26, 2**28
# A bracket of prose, as in {this} or [see below], does not go on as JSON does.
_OPENING = re.compile(r"[\[{]")
_START = re.compile(r"""\{\s*(["}]|$)|\[\s*([\[\]{"0-9-]|true|false|null|$)""")


class UnusableError(ValueError):
    """A text that is not what was asked for; `problems` names everything that is wrong."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


def load_json(text: str, most: int = LARGEST) -> Any:
    """Parse JSON whose values fit into memory; ValueError is all that it raises.

    Parameters
    ----------
    text : str
        What claims to be JSON.
    most : int
        Bytes that its values may take.
    """
    check_size(text, most)
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("the JSON is nested too deeply") from None


def check_size(text: str, most: int = LARGEST) -> None:
    """Raise where the values of a text may take more than so many bytes, before it is parsed."""
    if len(text) <= most // 256:
        return
    # Objects, lists, names with their values, and items of lists: what CPython takes for each.
    parts = {"{": 72, "[": 96, ":": 200, ",": 64}
    if len(text) + sum(n * text.count(mark) for mark, n in parts.items()) > most:
        raise ValueError("the JSON holds too many values")


def read_json(text: str, change: Callable[[str], str] | None = None) -> Any:
    """Parse JSON; ValueError is all that it raises.

    Parameters
    ----------
    text : str
        What claims to be JSON.
    change : callable, default=None
        Applied to each string that is found, names included.

    Returns
    -------
    value : object
        Its strings can be encoded.
    """
    try:
        return map_strings(load_json(text, LARGEST_RESPONSE), change)
    except RecursionError:
        raise ValueError("the JSON is nested too deeply") from None


def map_strings(value: Any, change: Callable[[str], str] | None = None) -> Any:
    """A JSON value with its strings changed, and rid of the halves of pairs that JSON can hold."""
    if isinstance(value, str):
        text = value if value.isascii() else value.encode(errors="replace").decode()
        return text if change is None else change(text)
    if isinstance(value, list):
        return [map_strings(item, change) for item in value]
    if isinstance(value, dict):
        return {map_strings(k, change): map_strings(v, change) for k, v in value.items()}
    return value


def check_schema(schema: Any, where: str = "schema") -> None:
    """Raise where a schema uses what this parser does not know."""
    kind = schema.get("type") if isinstance(schema, dict) else None
    if not isinstance(kind, str) or kind not in _KEYWORDS:
        raise ValueError(f"{where} needs a type among {sorted(_KEYWORDS)}, got {schema!r:.100}.")
    known = _KEYWORDS[kind] | {"type", "enum", "title", "description"}
    if unknown := schema.keys() - known:
        raise ValueError(f"{where} of type {kind} has keywords not known here: {sorted(unknown)}.")
    if "items" in schema:
        check_schema(schema["items"], f"{where}.items")
    if not isinstance(schema.get("additionalProperties", True), bool):
        raise ValueError(f"{where}.additionalProperties is true or false.")
    for name, inner in schema.get("properties", {}).items():
        check_schema(inner, f"{where}.properties[{name!r}]")
    if missing := set(schema.get("required", ())) - schema.get("properties", {}).keys():
        raise ValueError(f"{where} requires what it does not describe: {sorted(missing)}.")


def is_closed(schema: dict[str, Any]) -> bool:
    """Whether objects have all their properties and no others, as servers' strict mode wants."""
    if schema["type"] == "array":
        return "items" in schema and is_closed(schema["items"])
    if schema["type"] != "object":
        return True
    properties = schema.get("properties", {})
    return (
        schema.get("additionalProperties") is False
        and set(schema.get("required", ())) == properties.keys()
        and all(map(is_closed, properties.values()))
    )


def parse_json(text: str, schema: dict[str, Any]) -> Any:
    """The one JSON value in a reply.

    Parameters
    ----------
    text : str
        A JSON value: bare, in a fence of backticks, or with prose around it, or thoughts before.
    schema : dict
        What `check_schema` accepts.

    Returns
    -------
    value : object
        Valid against the schema.

    Raises
    ------
    UnusableError
        With every unknown, missing, repeated, wrongly typed or out-of-range item named.
    """
    repeated: list[str] = []
    value = _find(text, schema, repeated)
    problems = [f"the key {name!r} is given more than once" for name in dict.fromkeys(repeated)]
    value = _check(value, schema, "", problems)
    if problems:
        raise UnusableError(problems)
    return value


def _find(text: str, schema: dict[str, Any], repeated: list[str]) -> Any:
    def read_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, value in pairs:
            if name in found:
                repeated.append(name)
            found[name] = value
        return found

    def refuse(name: str) -> Any:
        raise ValueError(f"{name} is no JSON")

    try:
        check_size(text)
    except ValueError as error:
        raise UnusableError([str(error)]) from None
    decoder = json.JSONDecoder(object_pairs_hook=read_object, parse_constant=refuse)
    wanted = {"object": dict, "array": list}.get(schema["type"])
    values: list[Any] = []
    reason = "there are thoughts alone"
    for part in _answers(text):
        fenced = _FENCE.findall(part)
        for candidate in dict.fromkeys((text, part, *(fenced if len(fenced) == 1 else ()))):
            repeated.clear()
            try:
                return map_strings(decoder.decode(candidate.strip()))
            except RecursionError:
                raise UnusableError(["the JSON is nested too deeply"]) from None
            except ValueError as error:
                reason = str(error)
        values = _scan(part, decoder, wanted, repeated) if wanted else []
        if values:
            break
    if len(values) > 1:
        raise UnusableError([f"one JSON value is wanted, there are {len(values)}"])
    if not values:
        raise UnusableError([f"no JSON {schema['type']} in the reply ({reason})"])
    return values[0]


def _answers(text: str) -> list[str]:
    """What stands after the thoughts, and the whole where these may end within the answer."""
    found = split_thoughts(text)
    if found is None:
        return []
    begin, answer = found
    return [answer, text] if begin and ("]" in answer or "}" in answer) else [answer]


def _scan(text: str, decoder: json.JSONDecoder, wanted: type, repeated: list[str]) -> list[Any]:
    """All JSON values of one kind that stand in prose; nothing is taken from inside a value."""
    values: list[Any] = []
    repeated.clear()
    position = 0
    while opening := _OPENING.search(text, position):
        position = opening.end()
        if not _START.match(text, opening.start()):
            continue
        n_repeated = len(repeated)
        try:
            value, position = decoder.raw_decode(text, opening.start())
            value = map_strings(value)
        except RecursionError:
            raise UnusableError(["the JSON is nested too deeply"]) from None
        except ValueError as error:
            raise UnusableError(
                [f"the JSON that begins at character {opening.start()} is broken ({error})"]
            ) from None
        if isinstance(value, wanted):
            values.append(value)
        else:
            del repeated[n_repeated:]
    return values


def _check(value: Any, schema: dict[str, Any], path: str, problems: list[str]) -> Any:
    """Return the value with its numbers in the types asked for; add what is wrong to `problems`."""
    kind = schema["type"]
    where = path or "the reply"
    if kind == "object" and isinstance(value, dict):
        value = _check_object(value, schema, path, problems)
    elif kind == "array" and isinstance(value, list):
        least, most = schema.get("minItems", 0), schema.get("maxItems", math.inf)
        if not least <= len(value) <= most:
            problems.append(f"{where} has {len(value)} items, not {_span(least, most)}")
        if "items" in schema:
            value = [
                _check(v, schema["items"], f"{path}[{i}]", problems) for i, v in enumerate(value)
            ]
    elif kind in ("integer", "number") and _is_number(value, whole=kind == "integer"):
        least, most = schema.get("minimum", -math.inf), schema.get("maximum", math.inf)
        if not least <= value <= most:
            problems.append(f"{where} is {value!r:.40}, not {_span(least, most)}")
        value = int(value) if kind == "integer" else value
    elif not isinstance(value, {"string": str, "boolean": bool}.get(kind, ())):
        problems.append(f"{where} is of the wrong type: {kind} is wanted, got {value!r:.60}")
        return value
    if "enum" in schema and value not in schema["enum"]:
        problems.append(f"{where} is {value!r:.60}, not one of {schema['enum']!r:.300}")
    return value


def _check_object(
    value: dict[str, Any], schema: dict[str, Any], path: str, problems: list[str]
) -> dict[str, Any]:
    properties = schema.get("properties", {})
    dot = f"{path}." if path else ""
    for name in schema.get("required", ()):
        if name not in value:
            problems.append(f"{dot}{name} is missing")
    checked = {}
    for name, item in value.items():
        if name in properties:
            item = _check(item, properties[name], f"{dot}{name}", problems)
        elif schema.get("additionalProperties", True) is False:
            # Only for the first few: a hostile reply may have thousands.
            near = len(problems) < 20 and difflib.get_close_matches(name[:200], properties, n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            problems.append(f"{dot}{name:.100} was not asked for{hint}")
        checked[name] = item
    return checked


def _is_number(value: Any, *, whole: bool) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    if isinstance(value, float):
        return value.is_integer() if whole else math.isfinite(value)
    return True


def _span(least: float, most: float) -> str:
    if most == math.inf:
        return f"at least {least}"
    if least == -math.inf:
        return f"at most {most}"
    return f"from {least} to {most}"
