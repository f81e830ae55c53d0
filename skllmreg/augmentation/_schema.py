"""Learn from the labeled rows what a row of a table looks like.

A schema tells the LLM what to write, and checks what it wrote: nothing enters the data whose type,
range or category the labeled rows do not vouch for.
"""

import datetime
import json
import math
import re
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any

import numpy as np

from skllmreg.utils._frames import (
    column_dtype,
    column_values,
    frame_like,
    is_enum,
    no_rows,
    table_rows,
)
from skllmreg.utils._labels import is_missing
from skllmreg.utils._text import answer_keys, clean_if_text, clean_text, short_repr, single_line

# A column of strings is treated as a closed set of categories if there are at most so many, each of
# at most so many words, and each stands in so many rows on average. Other columns are free text.
MOST_CATEGORIES = 100
MOST_WORDS = 4
FEWEST_REPEATS = 2

# So far beyond what the labeled rows span a number may lie: twice the span while there are up to
# 10 rows, less the more rows show how far it goes. Of the real rows of seven data sets these bounds
# refuse some 5 % where 6 rows are labeled, and 2 % where 20 are.
MARGIN = 2.0
MARGIN_ROWS = 20

# So many floats that are whole are taken for counts, as pandas holds them beside missing ones.
WHOLE_FLOATS = 10

# A number in quotes, as some LLMs write them.
_NUMBER = re.compile(r"\s*-?(0|[1-9]\d{0,300})(\.\d+)?\s*\Z", re.ASCII)

LARGEST = float(np.finfo(float).max)


@dataclass(frozen=True)
class Column:
    """One column: what its values are.

    Parameters
    ----------
    name : object
        As in the table.
    key : str
        What it is called in questions and answers.
    kind : {"integer", "number", "boolean", "category", "text"}
    description : str
    may_miss : bool
        Whether a value may be missing: where one is among the labeled rows.
    least, greatest : float
        Of numbers; with the margin.
    categories : dict
        The value in the table for each one as text.
    stored : callable, default=None
        Rounds a number to what a short float of the table holds.
    guessed : bool, default=False
        Whether only the labeled rows say that the categories are all there are.
    """

    name: Any
    key: str
    kind: str
    description: str = ""
    may_miss: bool = False
    least: float = -math.inf
    greatest: float = math.inf
    categories: dict[str, Any] = field(default_factory=dict)
    stored: Any = None
    guessed: bool = False

    def clean(self, value):
        """Bring a value into its one form, as far as that is clear; the rest is for `problem`."""
        if is_missing(value):
            return None
        if isinstance(value, np.generic):
            value = value.item()
        if self.kind in ("integer", "number") and isinstance(value, str) and _NUMBER.match(value):
            value = json.loads(value.strip())
        if self.kind == "integer" and isinstance(value, float) and value.is_integer():
            return int(value)
        if self.stored and isinstance(value, Real) and _is_finite(value):
            with np.errstate(over="ignore"):
                return float(self.stored(value))
        if self.kind == "category":
            try:
                return self.categories.get(clean_text(str(value)), value)
            except ValueError:  # an integer of more digits than Python writes
                return value
        return clean_if_text(value)

    def problem(self, value: Any) -> str:
        """Say what is wrong with a clean value, "" if nothing is."""
        if value is None:
            return "" if self.may_miss else f"{self.key} is missing"
        wanted = self._wanted(value)
        return f"{self.key} is {short_repr(value)}, not {wanted}" if wanted else ""

    def _wanted(self, value: Any) -> str:
        if self.kind in ("integer", "number"):
            type_: Any = Integral if self.kind == "integer" else Real
            if isinstance(value, bool) or not isinstance(value, type_) or not _is_finite(value):
                return f"a finite {self.kind}"
            if value < self.least or value > self.greatest:
                return self._range()
        elif self.kind == "boolean":
            return "" if isinstance(value, bool) else "true or false"
        elif self.kind == "category":
            # `clean` gives the very value; the type is compared, too: 1 == 1.0 == True.
            return "" if _among(value, self.categories.values()) else "one of its categories"
        elif not isinstance(value, str) or not value:
            return "a text"
        return ""

    def _range(self):
        ends = (self.least, self.greatest)
        least, greatest = (str(end) if isinstance(end, int) else f"{end:.15g}" for end in ends)
        return f"from {least} to {greatest}"

    def describe(self):
        """One line for the prompt, which does not name the key."""
        if self.kind in ("integer", "number"):
            what = f"{self.kind} {self._range()}"
        elif self.kind == "category":
            what = "one of " + ", ".join(quoted(category) for category in self.categories)
        else:
            what = {"boolean": "true or false", "text": "text"}[self.kind]
        if self.may_miss:
            what += "; leave it out where the value is not known"
        return what + (f"; {single_line(self.description)}" if self.description else "")

    def json_schema(self):
        """The schema of a value: types and categories.

        Ranges are stated in the prompt and checked row by row, so that one number too large costs a
        row and not the reply.
        """
        type_ = {"category": "string", "text": "string"}.get(self.kind, self.kind)
        schema = {"type": type_}
        return schema | {"enum": list(self.categories)} if self.categories else schema


@dataclass(frozen=True)
class TableSchema:
    """The columns of a table.

    Parameters
    ----------
    columns : list of Column
    template : data frame or ndarray
        The table without its rows.
    """

    columns: list[Column]
    template: Any

    @classmethod
    def from_frame(cls, X, feature_descriptions=None, text_columns="auto"):
        """Learn what rows look like.

        Parameters
        ----------
        X : data frame or array of shape (n_samples, n_features)
            The columns of an array are called x0, x1, ...
        feature_descriptions : dict of str to str, default=None
            What the columns hold, and in which unit.
        text_columns : "auto" or list, default="auto"
            Columns of free text; "auto" finds them.

        Returns
        -------
        TableSchema

        Raises
        ------
        ValueError
            If a column holds no value, or others than numbers, texts and categories; if names are
            repeated or of several levels; if a description names no column.
        """
        values = column_values(X)
        described = dict(feature_descriptions or {})
        if unknown := [name for name in described if name not in values]:
            raise ValueError(
                f"feature_descriptions names {unknown[0]!r}, which is not a column of X; its "
                f"columns are {', '.join(map(str, values))[:300]}."
            )
        keys = answer_keys([str(name) for name in values])
        texts = None if isinstance(text_columns, str) else list(text_columns)
        if unknown := [name for name in texts or [] if name not in values]:
            raise ValueError(
                f"text_columns names {unknown[0]!r}, which is not a column of X; its columns are "
                f"{', '.join(map(str, values))[:300]}."
            )
        columns = [
            _infer(
                name,
                keys[str(name)],
                described.get(name, ""),
                column,
                column_dtype(X, name),
                None if texts is None else name in texts,
            )
            for name, column in values.items()
        ]
        return cls(columns, no_rows(X))

    def rows(self, X):
        """Turn a table into a list of rows ``{column: value}``."""
        return [self.clean(row) for row in table_rows(X)]

    def clean(self, row):
        """Bring the values of a row into their one form; what is not a row is returned unchanged.

        A sequence with a value for each column is a row, too.
        """
        names = [column.name for column in self.columns]
        if isinstance(row, list | tuple | np.ndarray) and len(row) == len(names):
            row = dict(zip(names, row, strict=True))
        if not isinstance(row, dict):
            return row
        known = {column.name: column for column in self.columns}
        return {name: known[name].clean(v) if name in known else v for name, v in row.items()}

    def problem(self, row):
        """Say what is wrong with a clean row, "" if nothing is."""
        if not isinstance(row, dict):
            return f"a row is {{column: value}}, not {short_repr(row)}"
        names = {column.name for column in self.columns}
        if unknown := [name for name in row if name not in names]:
            return f"{short_repr(unknown[0])} is not a column"
        problems = (column.problem(row.get(column.name)) for column in self.columns)
        return next(filter(None, problems), "")

    def describe(self):
        """Lines for the prompt, one for each column."""
        lines = []
        for column in self.columns:
            name = "" if column.key == column.name else f" stands for {quoted(column.name)}"
            lines.append(f'"{column.key}"{name}: {column.describe()}')
        return "\n".join(lines)

    def json_schema(self):
        """The JSON schema of one row."""
        return {
            "type": "object",
            "properties": {column.key: column.json_schema() for column in self.columns},
            "required": [column.key for column in self.columns if not column.may_miss],
            "additionalProperties": False,
        }

    def to_json(self, row):
        """A clean row under the keys of the answer; what is missing is left out."""
        return {
            column.key: str(row[column.name]) if column.kind == "category" else row[column.name]
            for column in self.columns
            if row.get(column.name) is not None
        }

    def from_json(self, value):
        """Return the clean row in an answer; what is not a row is returned unchanged."""
        if not isinstance(value, dict):
            return value
        names = {column.key: column.name for column in self.columns}
        return self.clean({names.get(key, key): item for key, item in value.items()})

    def to_frame(self, rows):
        """Make a table of valid rows, of the type, columns and dtypes of the labeled one.

        Parameters
        ----------
        rows : list of dict

        Returns
        -------
        data frame or ndarray of shape (n_rows, n_features)
        """
        names = [column.name for column in self.columns]
        return frame_like(self.template, names, rows)


def quoted(text):
    """A text as JSON writes it: it cannot end before its end."""
    return json.dumps(single_line(text), ensure_ascii=False)


def _infer(name, key, description, values, dtype, is_text=None):
    present = [v.item() if isinstance(v, np.generic) else v for v in values if not is_missing(v)]
    if not present:
        raise ValueError(f"Column {name!r} of X holds no value: leave it out.")
    if is_text and (strange := [v for v in present if not isinstance(v, str)]):
        raise ValueError(f"text_columns names {name!r}, which holds {short_repr(strange[0])}.")
    if any(isinstance(v, datetime.date | datetime.time | datetime.timedelta) for v in present):
        raise ValueError(f"Column {name!r} of X holds dates or times: turn them into numbers.")
    categorical = str(dtype) == "category" or is_enum(dtype)
    common = {
        "name": name,
        "key": key,
        "description": description,
        "may_miss": len(present) < len(values),
    }
    if not categorical and all(isinstance(v, bool) for v in present):
        return Column(kind="boolean", **common)
    if not categorical and all(isinstance(v, Real) and not isinstance(v, bool) for v in present):
        return Column(**common, **_number(name, present, dtype))
    strange = [v for v in present if isinstance(v, str) != isinstance(present[0], str)]
    if strange:
        raise ValueError(
            f"Column {name!r} of X holds texts beside other values, {short_repr(present[0])} and "
            f"{short_repr(strange[0])}: make all of them texts, or none."
        )
    strange = [v for v in present if not isinstance(v, str | Real)]
    if strange and not categorical:
        raise ValueError(
            f"Column {name!r} of X holds {short_repr(strange[0])}: turn such into numbers or texts."
        )
    declared = dtype.categories if categorical else None  # of polars' Enum, too
    categories = {clean_text(str(v)): v for v in (present if declared is None else list(declared))}
    strings = all(isinstance(v, str) for v in present)
    guessed = is_text is None and strings and not categorical
    if is_text is None:
        is_text = guessed and is_free_text(present)
    if is_text:
        return Column(kind="text", **common)
    if declared is None:
        categories = dict(sorted(categories.items()))
    return Column(kind="category", categories=categories, guessed=guessed, **common)


def is_free_text(values):
    """Whether strings are texts, and no categories: they are long, many, or hardly repeat."""
    different = set(values)
    return (
        len(different) > MOST_CATEGORIES
        or max(len(value.split()) for value in different) > MOST_WORDS
        or FEWEST_REPEATS * len(different) > len(values)
    )


def free_text_columns(X, text_columns="auto"):
    """Return the names of the columns of free text, as `TableSchema` finds them."""
    if not isinstance(text_columns, str):
        return list(text_columns)
    texts = []
    for name, values in column_values(X).items():
        dtype = column_dtype(X, name)
        present = [v for v in values if not is_missing(v)]
        declared = str(dtype) == "category" or is_enum(dtype)
        strings = bool(present) and not declared and all(isinstance(v, str) for v in present)
        if strings and is_free_text(present):
            texts.append(name)
    return texts


def _number(name, values, dtype):
    """Kind and range of a column of numbers.

    A column without a negative number stays so, and what its type cannot hold is out of range. The
    ends are rounded outwards to a thousandth of the span, so that the numbers which the prompt
    shows are those that are checked.
    """
    finite = [v for v in values if _is_finite(v)]
    if not finite:
        raise ValueError(f"Column {name!r} of X holds no finite number: leave it out.")
    low, high = min(finite), max(finite)
    span = min(float(high) - float(low), LARGEST) or 1.0  # of one value it is not known
    margin = span * min(MARGIN, MARGIN_ROWS / len(finite))
    lowest, highest = _limits(dtype)
    if low >= 0:
        lowest = max(lowest, 0)
    least, greatest = max(low - margin, lowest), min(high + margin, highest)
    surely = len(finite) >= WHOLE_FLOATS or not all(isinstance(v, float) for v in finite)
    if surely and all(float(v).is_integer() for v in finite):
        # The margin is lost, and more, where the integers are larger than floats can tell apart.
        ends = {"least": min(math.ceil(least), low), "greatest": max(math.floor(greatest), high)}
        return {"kind": "integer"} | {name: int(end) for name, end in ends.items()}
    digits = min(3 - math.floor(math.log10(span)), 300)
    step = 10.0**-digits
    return {
        "kind": "number",
        "least": max(_to_step(least, step, digits, math.floor), lowest),
        "greatest": min(_to_step(greatest, step, digits, math.ceil), highest),
        "stored": dtype.type if dtype in (np.float16, np.float32) else None,
    }


def _to_step(value, step, digits, to_integer):
    """Round to a step, where floats of this size tell steps apart."""
    scaled = value / step
    return round(to_integer(scaled) * step, digits) if abs(scaled) < 2**53 else value


def _limits(dtype):
    """The least and the greatest number of a type."""
    kind = getattr(dtype, "kind", "")
    if kind in ("i", "u"):
        return np.iinfo(dtype).min, np.iinfo(dtype).max
    if kind == "f":
        return float(np.finfo(dtype).min), float(np.finfo(dtype).max)
    return -LARGEST, LARGEST


def _is_finite(number):
    try:
        return math.isfinite(number)
    except OverflowError:  # an integer beyond what a float can hold
        return False


def _among(value, values):
    return any(value == other and type(value) is type(other) for other in values)
