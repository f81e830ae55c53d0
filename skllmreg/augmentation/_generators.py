"""Where rows come from: an LLM, or a function of the user's; both answer requests."""

from collections import Counter
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from skllmreg.augmentation._prompts import rows_question
from skllmreg.augmentation._schema import table_rows
from skllmreg.exceptions import BudgetExceededError, InvalidReplyError, LLMError
from skllmreg.llm import as_chat
from skllmreg.utils._frames import is_frame
from skllmreg.utils._text import clean_if_text, short_repr

# Of a reply with more rows than this times what was asked for, the rest is not looked at.
MOST_TIMES = 4

# An answer none of whose first so many rows can be used is no answer.
_MOST_LOOKED_AT = 100

# What an answer has to be as a whole: what is wrong with one row costs that row.
ENVELOPE = {"type": "object", "properties": {"rows": {"type": "array"}}, "required": ["rows"]}


@dataclass(frozen=True)
class Answer:
    """What came for one request.

    Parameters
    ----------
    rows : list
        Clean, but unchecked: str, ``{column: value}``, or whatever came in place of such.
    problem : str
        Why nothing of it can be used; "" if rows came.
    text : str
        The reply as it was written, for messages.
    asked : bool
        False where the budget was spent, or the server failed, before this request.
    reply : Reply or None
        With tokens and cost, where an LLM has answered.
    """

    rows: list[Any] = field(default_factory=list)
    problem: str = ""
    text: str = ""
    asked: bool = True
    reply: Any = None


class LLMGenerator:
    """Has an LLM write rows.

    The same question asked again gets another sample of the answer, and a second run of all of a
    fit gets the same answers from the cache.

    Parameters
    ----------
    llm : ChatModel
    task : str
        What is to be told apart, in a sentence.
    classes : list
        All labels.
    class_descriptions : dict of label to str, default=None
    schema : TableSchema, default=None
        None for texts.
    """

    def __init__(self, llm, *, task, classes, class_descriptions=None, schema=None):
        self.llm = llm
        self.task = task
        self.classes = classes
        self.class_descriptions = class_descriptions
        self.schema = schema
        self._n_asked: Counter[str] = Counter()

    def generate(self, requests):
        """Answer all requests, at the same time.

        Parameters
        ----------
        requests : list of GenerationRequest

        Yields
        ------
        Answer

        Raises
        ------
        LLMError
            If the server or the cache fails; after all answers that came.
        """
        prompts, schema = [], None
        for request in requests:
            prompt, schema = rows_question(
                self.task, request, self.classes, self.class_descriptions, self.schema
            )
            prompts.append(prompt)
        # The n-th occurrence of a prompt is sample n. Those of earlier calls come from the cache;
        # without one, an answer is a new sample anyway.
        caching = getattr(self.llm, "cache", None) is not None
        earlier = [p for p in dict.fromkeys(prompts) for _ in range(self._n_asked[p] * caching)]
        self._n_asked.update(prompts)
        error = None
        try:
            replies = as_chat(self.llm).complete(
                earlier + prompts,
                schema=schema,
                accept=ENVELOPE,
                validate=self._some_row,
                description="writing rows",
            )
        except LLMError as caught:
            error, replies = caught, caught.replies
        # An error of the cache may come before all answers.
        for i, request in enumerate(requests[: len(replies)], start=len(earlier)):
            reply = replies[i]
            yield self._failed(i, error) if reply is None else self._read(reply, request.n_rows)
        if error is not None and not isinstance(error, InvalidReplyError | BudgetExceededError):
            raise error

    def _some_row(self, value):
        """Let an answer pass that has a row of use; else the LLM is told what is wrong."""
        problems: list[str] = []
        for row in value["rows"]:
            if not (problem := self._problem(self._clean(row))):
                return value
            problems.append(f"rows[{len(problems)}]: {problem}")
            if len(problems) == _MOST_LOOKED_AT:
                break
        if problems:
            raise ValueError("; ".join(problems[:5]))
        return value

    def _problem(self, row):
        if self.schema is not None:
            return self.schema.problem(row)
        return "" if isinstance(row, str) else f"{short_repr(row)} is no text"

    def _clean(self, row):
        if self.schema is not None:
            return self.schema.from_json(row)
        return clean_if_text(row)

    def _read(self, reply, n_wanted):
        rows = reply.value["rows"][: MOST_TIMES * n_wanted]
        problem = "" if rows else "the reply holds no row"
        return Answer([self._clean(row) for row in rows], problem, reply.text, reply=reply)

    def _failed(self, position, error):
        if not isinstance(error, InvalidReplyError):
            return Answer(problem=str(error), asked=False)
        failure = error.failures.get(position, error)
        problem = "; ".join(filter(None, [failure.outcome, *failure.problems]))
        return Answer(problem=problem, text=failure.reply)


class FunctionGenerator:
    """Calls a function of the user's for rows.

    Parameters
    ----------
    function : callable
        Takes a `GenerationRequest`; returns a list of str, or of ``{column: value}``, or a table.
    schema : TableSchema, default=None
        None for texts.
    """

    def __init__(self, function, *, schema=None):
        self.function = function
        self.schema = schema

    def generate(self, requests):
        """Answer all requests, one after the other.

        Parameters
        ----------
        requests : list of GenerationRequest

        Yields
        ------
        Answer
        """
        for request in requests:
            yield self._answer(request)

    def _answer(self, request):
        found = self.function(request)
        is_table = is_frame(found)
        if self.schema is not None and is_table:
            found, is_table = table_rows(found), False
        try:
            if isinstance(found, str | bytes | dict) or is_table:
                raise TypeError
            # What has no length may have no end.
            most = None if hasattr(found, "__len__") else MOST_TIMES * request.n_rows
            rows = list(islice(found, most))
        except TypeError:
            return Answer(
                problem=f"the generator gave {short_repr(found)}, no list", text=short_repr(found)
            )
        problem = "" if rows else "the generator gave no row"
        return Answer([self._clean(row) for row in rows], problem)

    def _clean(self, row):
        if self.schema is not None:
            return self.schema.clean(row)
        return clean_if_text(row)
