"""One call of `ChatModel.complete`: from prompts to replies, checked and repaired, in threads."""

import json
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from skllmreg.exceptions import BudgetExceededError, InvalidReplyError, LLMError, RequestError
from skllmreg.llm._cache import prune_command
from skllmreg.llm._crew import Crew, Task
from skllmreg.llm._json import UnusableError, parse_json
from skllmreg.llm._prompts import Messages, number_samples
from skllmreg.llm._refusal import is_about_prompt
from skllmreg.llm._reply import Reply
from skllmreg.llm._source import Source
from skllmreg.llm._text import map_strings
from skllmreg.utils._text import short_line

MAX_REPAIRS = 2
MOST_PROBLEMS = 20  # in a message
MOST_KEYS = 60  # in a command


@dataclass
class Call:
    """What all prompts of one call have in common.

    Parameters
    ----------
    source : Source
        Where the answers come from.
    schema : dict or None
        Of the answer; laxer than the source's, perhaps.
    validate : callable or None
        Further checks of the value that the schema lets pass.
    max_concurrency : int
        Threads.
    first_token : bool
        Whether the first token is all that is wanted: an answer may be cut off after it.
    """

    source: Source
    schema: dict[str, Any] | None
    validate: Callable[[Any], Any] | None
    max_concurrency: int
    first_token: bool = False

    def tasks(self, conversations: list[Messages]) -> list[Task]:
        samples = number_samples(conversations)
        return [
            Task(i, messages, sample, self.source.key(messages, sample))
            for i, (messages, sample) in enumerate(zip(conversations, samples, strict=True))
        ]

    def run(self, tasks: list[Task], tick: Callable[[int], object]) -> list[Any]:
        """Answer all tasks; raise at the end what went wrong, with the replies that came."""
        replies: list[Reply | None] = [None] * len(tasks)
        found = self.source.known(task.key for task in tasks)
        todo: deque[Task] = deque()
        for task in tasks:
            record = found.get(task.key)
            if record is None:
                todo.append(task)
                continue
            try:
                value = self._check(record)
            except (UnusableError, InvalidReplyError):
                todo.append(task)  # a thread goes through its repair rounds
            else:
                replies[task.index] = self._reply([record], value, [0.0], cached=True)
        tick(len(tasks) - len(todo))
        crew = Crew(self._answer, self.source, self.max_concurrency, todo, replies, tick)
        try:
            if todo:
                crew.work()
        finally:
            self.source.count_cached(sum(reply is not None and reply.cached for reply in replies))
        if crew.fatal:
            raise self._explain(*crew.fatal, replies)
        if crew.failures:
            raise self._summary(crew.failures, replies)
        return replies

    def _answer(self, task: Task) -> Reply:
        """Ask, check, and tell the model what was wrong; runs in a thread."""
        messages = task.messages
        records, costs, keys, all_cached = [], [], [], True
        for n_repairs in range(MAX_REPAIRS + 1):
            try:
                record, cost, cached = self._fetch(messages, task.sample)
                records.append(record)
                costs.append(cost)
                keys.append(self.source.key(messages, task.sample))
                all_cached &= cached
                value = self._check(record)
            except UnusableError as error:
                problems = error.problems
            except InvalidReplyError as error:
                raise self._kept(error, keys) from None
            else:
                return self._reply(records, value, costs, cached=all_cached)
            if n_repairs < MAX_REPAIRS:
                messages = self._repair(messages, record["text"], problems)
        what = f"after {MAX_REPAIRS} repair rounds it is still wrong"
        raise self._kept(_invalid(record, problems, what), keys)

    def _fetch(self, messages: Messages, sample: int) -> tuple[dict, float | None, bool]:
        try:
            return self.source.fetch(messages, sample)
        except RequestError as error:
            if not is_about_prompt(error):
                raise
            # It is about this prompt, and the others go on.
            what = f"The prompt is refused: {error}"
            raise InvalidReplyError(what, problems=[str(error)]) from error

    def _kept(self, error: InvalidReplyError, keys: list[str]) -> InvalidReplyError:
        """Note where the reply is: all rounds are kept."""
        if self.source.caching:
            error.cache, error.keys = str(self.source.store.path), keys
        return error

    def _check(self, record: dict[str, Any]) -> Any:
        """The value of a reply; UnusableError where another try may help."""
        text, reason = record["text"], record["finish_reason"]
        if record["refusal"] or reason == "content_filter":
            problem = record["refusal"] or text or "content filter"
            raise _invalid(record, [str(problem)], "the model refuses to answer")
        if not text:
            hint = ": a larger max_tokens in request_options may help" if reason == "length" else ""
            raise _invalid(record, [f"finish_reason {reason!r}"], f"it is empty{hint}")
        cut_off = "it was cut off: raise max_tokens in request_options"
        if reason == "length" and self.schema is None and not self.first_token:
            raise _invalid(record, [f"finish_reason {reason!r}"], cut_off)
        try:
            value = text if self.schema is None else parse_json(text, self.schema)
            return value if self.validate is None else self._validated(value)
        except UnusableError as error:
            if reason == "length":
                raise _invalid(record, error.problems, cut_off) from None
            raise

    def _validated(self, value: Any) -> Any:
        assert self.validate is not None
        try:
            return self.validate(value)
        except UnusableError:
            raise
        except ValueError as error:
            raise UnusableError([str(error)]) from error

    def _repair(self, messages: Messages, text: str, problems: list[str]) -> Messages:
        complaint = "That reply cannot be used:\n" + "\n".join(f"- {p}" for p in problems[:50])
        if self.source.schema is not None:
            complaint += (
                "\nAnswer again, with nothing but one JSON value that follows this JSON schema:\n"
                + json.dumps(self.source.schema)
            )
        else:
            complaint += "\nAnswer again."
        return [
            *messages,
            {"role": "assistant", "content": text},
            {"role": "user", "content": map_strings(complaint)},  # a validator may quote anything
        ]

    def _reply(self, records, value, costs, *, cached: bool) -> Reply:
        def total(name: str) -> int | None:
            counts = [record[name] for record in records]
            return None if None in counts else sum(counts)

        record = records[-1]
        return Reply(
            text=record["text"],
            value=value,
            model=record["model"] or self.source.model,
            finish_reason=record["finish_reason"],
            prompt_tokens=total("prompt_tokens"),
            completion_tokens=total("completion_tokens"),
            cost=None if None in costs else sum(costs),
            cached=cached,
            n_repairs=len(records) - 1,
            logprobs=record["logprobs"],
        )

    def _explain(self, task: Task, error: Exception, replies: list[Any]) -> Exception:
        """Say what was done and how to go on."""
        if not isinstance(error, LLMError):
            return error
        n_done = sum(reply is not None for reply in replies)
        done = f"{n_done:,} of {len(replies):,} prompts are answered"
        if n_done and self.source.caching and not self.source.replay:
            if lost := self.source.n_not_stored:
                done += f", {lost:,} of them could not be kept; the others are"
            else:
                done += " and"
            done += f" kept in {self.source.store.path}: run again, and they cost nothing"
        if isinstance(error, BudgetExceededError):
            if self.source.last_failure:
                done += f". The last failure was: {str(self.source.last_failure).rstrip('.')}"
            done += ". A new ChatModel starts a new count; give it a larger budget to go on"
        error.replies = replies
        error.args = (f"Prompt {task.index}: {_sentence(str(error))} {done}.",)
        return error

    def _summary(
        self, failures: list[tuple[Task, InvalidReplyError]], replies: list[Any]
    ) -> InvalidReplyError:
        by_index = {task.index: failure for task, failure in failures}
        return unusable_replies("Prompt", dict(sorted(by_index.items())), replies)


def unusable_replies(
    what: str, failures: dict[int, InvalidReplyError], replies: list[Any]
) -> InvalidReplyError:
    """One error for all failures of a call, which names the first.

    It says how to get other answers: one command removes the entries of all.
    """
    index, first = next(iter(failures.items()))
    head = f"{what} {index}: {first}"
    if len(failures) > 1:
        head = f"{len(failures):,} of {len(replies):,} replies are unusable. First, {head}"
    keys = [key for failure in failures.values() for key in failure.keys]
    cache = next((failure.cache for failure in failures.values() if failure.keys), "")
    if keys:
        command = prune_command(cache, *keys[:MOST_KEYS])
        more = " (and again, which names more of them)" if len(keys) > MOST_KEYS else ""
        head += (
            " What was replied is kept, and the same request gets it again: change the prompt, or "
            f"`{command}`{more}."
        )
    error = InvalidReplyError(head, reply=first.reply, problems=first.problems)
    error.replies, error.failures = replies, failures
    error.cache, error.keys = cache, keys
    return error


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _invalid(record: dict[str, Any], problems: list[str], what: str) -> InvalidReplyError:
    text = record["text"] or ""
    listed = "; ".join(short_line(problem, 300) for problem in problems[:MOST_PROBLEMS])
    if len(problems) > MOST_PROBLEMS:
        listed += f" and {len(problems) - MOST_PROBLEMS:,} more problems"
    return InvalidReplyError(
        f"The reply cannot be used, {what}: {listed}. It reads: {text[:500]!r}.",
        reply=text,
        outcome=what,
        problems=problems,
    )
