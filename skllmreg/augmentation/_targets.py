"""Check generated targets, and score written answers against true ones."""

import json
import re
from collections import Counter

from skllmreg.utils._json import UnusableError, check_schema, parse_json
from skllmreg.utils._text import words

_ARTICLES = {"a", "an", "the"}


def answer_in(field=None):
    """Make a check that a target stands in its input, word for word, as an extracted answer does.

    Case, spacing and the punctuation around words do not count.

    Parameters
    ----------
    field : str, default=None
        Field of the input, such as "context"; None is an input that is one text.

    Returns
    -------
    callable
        Takes an input and a target; returns None, or what is wrong.

    Examples
    --------
    >>> from skllmreg.augmentation import answer_in
    >>> check = answer_in("context")
    >>> check({"question": "Who came?", "context": "Ada came first."}, "ada")
    >>> check({"question": "Who came?", "context": "Ada came first."}, "Bob")
    "the target is not in 'context'"
    """

    def check(x, y):
        place = "the input" if field is None else repr(field)
        text = x if field is None else x.get(field) if isinstance(x, dict) else None
        if not isinstance(text, str):
            return f"the input has no text in {place}" if field is not None else "no text"
        answer = words(y)
        if answer and f" {' '.join(answer)} " in f" {' '.join(words(text))} ":
            return None
        return f"the target is not in {place}"

    return check


def matches(pattern):
    r"""Make a check that the whole target matches a regular expression.

    Parameters
    ----------
    pattern : str or re.Pattern

    Returns
    -------
    callable
        Takes an input and a target; returns None, or what is wrong.

    Examples
    --------
    >>> from skllmreg.augmentation import matches
    >>> check = matches(r"\d{4}-\d{2}-\d{2}")
    >>> check("3 May 2024", "2024-05-03")
    >>> check("3 May 2024", "May 3")
    "the target does not match '\\\\d{4}-\\\\d{2}-\\\\d{2}'"
    """
    compiled = re.compile(pattern)

    def check(x, y):
        if compiled.fullmatch(y):
            return None
        return f"the target does not match {compiled.pattern!r}"

    return check


def json_schema(schema):
    """Make a check that a target is one JSON value of a schema, and nothing around it.

    Parameters
    ----------
    schema : dict
        JSON schema of types object, array, string, integer, number and boolean, with properties,
        required, items, enum, minimum and maximum.

    Returns
    -------
    callable
        Takes an input and a target; returns None, or what is wrong.

    Examples
    --------
    >>> from skllmreg.augmentation import json_schema
    >>> check = json_schema({"type": "object", "properties": {"city": {"type": "string"}},
    ...                      "required": ["city"]})
    >>> check("to Oslo", '{"city": "Oslo"}')
    >>> check("to Oslo", '{"town": "Oslo"}')
    'the target breaks the schema: city is missing'
    """
    check_schema(schema)

    def check(x, y):
        try:
            json.loads(y)
        except ValueError as error:
            return f"the target is not JSON: {error}"
        except RecursionError:
            return "the target is not JSON: too deep"
        try:
            parse_json(y, schema)
        except UnusableError as error:
            return f"the target breaks the schema: {error.problems[0]}"
        return None

    return check


def exact_match(y_true, y_pred):
    """Whether two texts are equal but for case, articles, spacing and punctuation: 0.0 or 1.0.

    Brackets, operators and signs of numbers count, as in equations and JSON.

    Parameters
    ----------
    y_true, y_pred : str

    Returns
    -------
    float

    Examples
    --------
    >>> from skllmreg.augmentation import exact_match
    >>> exact_match("The Eiffel Tower", "eiffel tower.")
    1.0
    """
    return float(_answer(y_true) == _answer(y_pred))


def token_f1(y_true, y_pred):
    """Harmonic mean of precision and recall of words, as SQuAD counts them.

    Parameters
    ----------
    y_true, y_pred : str

    Returns
    -------
    float
        From 0 to 1; two texts without a word are equal.

    Examples
    --------
    >>> from skllmreg.augmentation import token_f1
    >>> round(token_f1("the tall tower", "a tower"), 3)
    0.667
    """
    return _f1(_answer(y_true), _answer(y_pred), _n_shared)


def rouge_l(y_true, y_pred):
    """Harmonic mean of precision and recall of the longest common subsequence of words.

    Parameters
    ----------
    y_true, y_pred : str

    Returns
    -------
    float
        From 0 to 1.

    References
    ----------
    C.-Y. Lin (2004), "ROUGE: a package for automatic evaluation of summaries", section 3.

    Examples
    --------
    >>> from skllmreg.augmentation import rouge_l
    >>> round(rouge_l("police killed the gunman", "police kill the gunman"), 3)
    0.75
    """
    return _f1(words(y_true), words(y_pred), _n_in_order)


METRICS = {"exact_match": exact_match, "token_f1": token_f1, "rouge_l": rouge_l}


def _f1(true, found, n_common):
    """Harmonic mean of the shares of words in common; two texts without a word are equal."""
    if not true or not found:
        return float(true == found)
    return 2 * n_common(true, found) / (len(true) + len(found))


def _n_shared(true, found):
    return sum((Counter(true) & Counter(found)).values())


def _n_in_order(true, found):
    """Length of the longest common subsequence."""
    before = [0] * (1 + len(found))
    for word in true:
        row = [0]
        for j, other in enumerate(found):
            row.append(before[j] + 1 if word == other else max(row[j], before[j + 1]))
        before = row
    return before[-1]


def _answer(text):
    found = words(text)
    return [word for word in found if word not in _ARTICLES] or found
