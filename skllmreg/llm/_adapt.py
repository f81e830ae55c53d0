"""Ask an object that has nothing but `complete`, as if it were a `ChatModel`."""

import inspect
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from skllmreg.exceptions import InvalidReplyError, LLMError
from skllmreg.llm._chat import ChatModel
from skllmreg.llm._engine import ENOUGH, SAMPLE
from skllmreg.llm._settings import Messages, Settings
from skllmreg.llm._values import Obtained, Question, Record, Task


@dataclass
class Whole:
    """Answers of an object that has nothing but `complete`: all prompts at once, no cache.

    Parameters
    ----------
    settings : Settings
    question : Question
    llm : LanguageModel
    """

    settings: Settings
    question: Question
    llm: Any
    store: None = None
    last_failure: None = None

    def __post_init__(self) -> None:
        self._todo: list[Task] = []
        self.stopped = False

    def key(self, messages: Messages, sample: int) -> str:
        return ""

    def known(self, keys: Iterable[str]) -> dict[str, Record]:
        return {}

    def pending(self, keys: Iterable[str]) -> set[str]:
        return set()

    def count_cached(self, n: int) -> None:
        pass

    def warn_of_news(self) -> None:
        pass

    def warn_of_cost(self, tasks: list[Task]) -> None:
        pass

    def submit(self, task: Task) -> None:
        self._todo.append(task)

    def spread(self, n: int) -> list[int]:
        return []  # they are among the first

    def halt(self) -> None:
        self.stopped = True

    def outcomes(self) -> Iterator[tuple[Task, Obtained | Exception]]:
        todo, self._todo = ([] if self.stopped else self._todo), []
        # A model of no use is found out with the first prompts and some spread over the others.
        first = ENOUGH - SAMPLE
        spread = {first + (i + 1) * (len(todo) - first) // SAMPLE - 1 for i in range(SAMPLE)}
        early = [t for i, t in enumerate(todo) if i < first or i in spread]
        for part in (early, [t for i, t in enumerate(todo) if i >= first and i not in spread]):
            self._todo.extend(part)
            while tasks := self._todo:
                self._todo = []
                yield from self._ask(tasks)
                if self.stopped:
                    return

    def _ask(self, tasks: list[Task]) -> Iterator[tuple[Task, Obtained | Exception]]:
        """What the object answers to some prompts."""
        prompts = [
            task.messages[0]["content"]
            if len(task.messages) == 1 and task.messages[0]["role"] == "user"
            else task.messages
            for task in tasks
        ]
        failures: dict[int, InvalidReplyError] = {}
        try:
            answers = self.llm.complete(prompts, schema=self.question.schema)
        except InvalidReplyError as error:
            answers, failures = error.replies, error.failures
        name = f"{type(self.llm).__name__}.complete"
        if isinstance(answers, str | bytes | dict) or not isinstance(answers, Iterable):
            raise LLMError(f"{name} returned {answers!r:.100}; a list of answers is wanted.")
        answers = list(answers)
        if len(answers) != len(tasks):
            raise LLMError(f"{name} gave {len(answers)} answers to {len(tasks)} prompts.")
        for i, (task, answer) in enumerate(zip(tasks, answers, strict=True)):
            if answer is None:
                nothing = InvalidReplyError("The model gave no answer.", problems=["no answer"])
                yield task, failures.get(i, nothing)
            else:
                yield task, Obtained(_record_of(answer, name), None, False, "")


def _record_of(answer: Any, name: str) -> Record:
    """The record of what an object's `complete` returns for a prompt."""
    text = answer if isinstance(answer, str) else getattr(answer, "text", None)
    if not isinstance(text, str):
        try:
            text = json.dumps(getattr(answer, "value", answer))
        except (TypeError, ValueError):
            raise LLMError(
                f"{name} answered a prompt with {answer!r:.100}: an answer is a text, a JSON value "
                "or an object with a text."
            ) from None
    model = getattr(answer, "model", None)
    return Record(text, model=model if isinstance(model, str) else None)


class _Adapted(ChatModel):
    """An object with nothing but `complete`, with all that the families ask of a model."""

    def __init__(self, llm: Any) -> None:
        super().__init__(str(getattr(llm, "model", type(llm).__name__)) or "model", cache=None)
        self._llm = llm

    def _params(self) -> dict[str, Any]:
        params = super()._params()
        del params["_llm"]
        return params

    def _obtain(self, question: Question, *, live: bool = False) -> Any:
        if question.top_logprobs:
            raise ValueError(
                f"{type(self._llm).__name__} has no label_probabilities, and its answers no "
                'log-probabilities: count votes, as with method="votes" or confidence="votes".'
            )
        return Whole(Settings(**self._params()), question, self._llm)

    def refused(self) -> dict[str, str]:
        return {}

    def label_probabilities(self, prompts: Iterable[Any], labels: list[str], **options: Any) -> Any:
        if hasattr(self._llm, "label_probabilities"):
            return self._llm.label_probabilities(prompts, labels, **options)
        if options.get("method", "auto") == "auto":
            options["method"] = "votes"
        return super().label_probabilities(prompts, labels, **options)


def as_chat(llm: Any) -> ChatModel:
    """Give a :class:`LanguageModel` what the estimators need: checks, repairs, probabilities.

    Parameters
    ----------
    llm : ChatModel or LanguageModel
        An object whose method ``complete(prompts, *, schema=None)`` answers prompts.

    Returns
    -------
    ChatModel
        `llm` itself if it is one.

    Raises
    ------
    TypeError
        `llm` lacks what is needed; nothing has been asked.

    Examples
    --------
    >>> from skllmreg.llm import as_chat
    >>> class Echo:
    ...     def complete(self, prompts, *, schema=None):
    ...         return [f"You said: {prompt}" for prompt in prompts]
    >>> as_chat(Echo()).complete(["Hello"])[0].text
    'You said: Hello'
    """
    if isinstance(llm, ChatModel):
        return llm
    complete = getattr(llm, "complete", None)
    try:
        inspect.signature(complete).bind([], schema=None)  # type: ignore[arg-type]
    except ValueError:
        pass  # of something compiled, which tells no signature
    except TypeError:
        raise TypeError(
            f'llm is a ChatModel, as in llm=ChatModel("gpt-4o"); got {llm!r:.100}. Any object '
            "does that has a method complete(prompts, *, schema=None)."
        ) from None
    return _Adapted(llm)
