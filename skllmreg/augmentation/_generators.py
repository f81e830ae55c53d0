"""Where rows come from: an LLM, or a function of the user's; both answer requests."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

# Of an answer with more rows than this times what was asked for, the rest is not looked at.
MOST_TIMES = 4


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
        False where the budget was spent before this request.
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

        Returns
        -------
        list of Answer

        Raises
        ------
        LLMError
            If the server or the cache fails; what was answered is kept in the cache.
        """
        raise NotImplementedError


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

        Returns
        -------
        list of Answer
        """
        raise NotImplementedError
