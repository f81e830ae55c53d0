"""Answer from a queue in place of a model, for tests of code that asks one."""

import json
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from skllmreg.exceptions import LLMError
from skllmreg.llm._chat import ChatModel
from skllmreg.llm._values import Record, Request


class FakeChat(ChatModel):
    """A chat model that answers from a queue and notes what it was asked.

    Everything but the model is real: replies are parsed, checked and repaired as those of a
    :class:`ChatModel`. Estimators hold it by reference, so that its history has what their clones
    have asked. It asks for one answer at a time and keeps no cache.

    Parameters
    ----------
    replies : iterable or callable
        Answers in the order in which prompts are asked, or a function that takes the messages of a
        prompt and returns its answer. An answer is a text, a JSON value (not a str), a
        :class:`Record`, or an exception, which is raised.

    Attributes
    ----------
    history : list of Request
        What was asked, repairs included.
    prompts : list of str
        The last message of each.

    Examples
    --------
    >>> from skllmreg.llm.testing import FakeChat
    >>> chat = FakeChat(["Paris.", {"population": 2}])
    >>> chat.complete(["What is the capital of France?"])[0].text
    'Paris.'
    >>> schema = {"type": "object", "properties": {"population": {"type": "integer"}}}
    >>> chat.complete(["How many millions live there?"], schema=schema)[0].value
    {'population': 2}
    >>> chat.prompts
    ['What is the capital of France?', 'How many millions live there?']

    It stands in for a model in any estimator:

    >>> from skllmreg import LLMTeacherClassifier
    >>> teacher = LLMTeacherClassifier(
    ...     FakeChat(lambda messages: "delivery"),
    ...     task="Sort messages.",
    ...     class_descriptions={"delivery": "asks for a parcel", "refund": "wants money back"},
    ...     confidence="votes",
    ...     n_samples=1,
    ... )
    >>> teacher.predict(["Where is my parcel?"]).tolist()
    ['delivery']
    """

    def __init__(self, replies: Iterable[Any] | Callable[[list[dict[str, str]]], Any]) -> None:
        super().__init__("fake", max_concurrency=1, cache=None, transport=_Queue(replies))

    def __repr__(self) -> str:
        return f"<FakeChat, asked {len(self.history)} times>"

    @property
    def history(self) -> list[Request]:
        """What was asked, repairs included."""
        return self.transport.history

    @property
    def prompts(self) -> list[str]:
        """The last message of each request."""
        return [request.messages[-1]["content"] for request in self.history]


class _Queue:
    """The transport of a `FakeChat`."""

    def __init__(self, replies: Any) -> None:
        self.replies = replies if callable(replies) else deque(replies)
        self.history: list[Request] = []

    def send(self, request: Request) -> Record:
        self.history.append(request)
        if callable(self.replies):
            reply = self.replies(request.messages)
        elif self.replies:
            reply = self.replies.popleft()
        else:
            raise LLMError(
                f"FakeChat has no reply left for: {request.messages[-1]['content']!r:.300}"
            )
        if isinstance(reply, BaseException):
            raise reply
        if isinstance(reply, Record):
            return reply
        return Record(reply if isinstance(reply, str) else json.dumps(reply), model="fake")
