"""Answer many prompts: plan what is asked, obtain it, check what comes, and plan repairs."""

import json
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from typing import Any

from skllmreg.exceptions import (
    BatchPendingError,
    BudgetExceededError,
    InvalidReplyError,
    LLMError,
    NoAnswerError,
    RequestError,
)
from skllmreg.llm._obtain import StoppedError
from skllmreg.llm._settings import Messages, number_samples
from skllmreg.llm._store import prune_command
from skllmreg.llm._values import PROMPT_CODES, Obtained, Record, Reply, Task
from skllmreg.utils._json import UnusableError, map_strings, parse_json
from skllmreg.utils._process import process
from skllmreg.utils._progress import progress_bar
from skllmreg.utils._text import short_line

MAX_REPAIRS = 2
# So many prompts without a single answer of use end a call. Where rows are sorted, the first may
# fail and others not: after some failures a sample of the others is asked, and has to fail, too.
ENOUGH = 20
SOME, SAMPLE = 5, 5
# Seconds; a shorter call has no progress bar.
NO_BAR = 1.0
MOST_PROBLEMS = 20  # in a message
MOST_KEYS = 8  # in a message


@dataclass
class Answering:
    """One call: its prompts, and what became of them so far.

    Parameters
    ----------
    obtain : Obtains
        Where answers come from.
    schema : dict or None
        What an answer is checked against; laxer than what was asked for, perhaps.
    validate : callable or None
        Further checks of the value that the schema lets pass.
    validate_cut_off : callable or None
        As `validate`, for answers that are cut off, where their beginning may be enough.
    others_answered : bool
        Whether other prompts of the same question are answered: then nothing ends the call early.
    enough : callable
        Whether the answers so far are enough; the other prompts are left without one.
    """

    obtain: Any
    schema: dict[str, Any] | None = None
    validate: Callable[[Any], Any] | None = None
    validate_cut_off: Callable[[Any], Any] | None = None
    others_answered: bool = False
    enough: Callable[[], bool] = bool
    replies: list[Reply | None] = field(default_factory=list)
    failures: dict[int, InvalidReplyError] = field(default_factory=dict)
    # Refusals of which it is not clear yet whether they are about the prompt.
    unclear: dict[int, RequestError] = field(default_factory=dict)
    # Failures of the server since the last answer.
    down: dict[int, RequestError] = field(default_factory=dict)
    fatal: tuple[int, Exception] | None = None
    n_answered: int = 0
    n_cached: int = 0
    dollars: float = 0.0
    sample: list[int] | None = None

    def __post_init__(self) -> None:
        settings = self.obtain.settings
        shared = (str(settings.options), str(self.obtain.question))
        # What has been answered once is answered: what is refused then is a prompt.
        self._answered = ("answered", settings.peer, *shared)

    def run(
        self,
        conversations: list[Messages],
        progress: bool | None = False,
        description: str | None = None,
    ) -> list[Any]:
        """Answer all prompts; raise at the end what went wrong, with the replies that came."""
        tasks = self.plan(conversations)
        self.replies = [None] * len(tasks)
        found = self.obtain.known(task.key for task in tasks)
        for task in tasks:
            record = found.get(task.key)
            if record is None:
                self.obtain.submit(task)
            else:
                self.take(task, Obtained(record, 0.0, True, task.key))
        if self.must_end():
            self.obtain.halt()
        self.obtain.warn_of_cost([task for task in tasks if task.key not in found])
        tick, began, n_done = None, time.monotonic(), self.n_answered + len(self.failures)
        try:
            with closing(self.obtain.outcomes()) as outcomes, ExitStack() as bars:
                for task, outcome in outcomes:
                    n_done += self.take(task, outcome)
                    if progress or (progress is None and time.monotonic() > began + NO_BAR):
                        if tick is None:
                            description = description or self.obtain.settings.model
                            bar = progress_bar(len(tasks), progress, description)
                            tick = bars.enter_context(bar)
                        tick(n_done, self.note())
                        n_done = 0
                    if self.must_end():
                        self.obtain.halt()
        finally:
            self.obtain.count_cached(sum(r is not None and r.cached for r in self.replies))
            self.obtain.warn_of_news()
        self.raise_failures()
        return self.replies

    def plan(self, conversations: list[Messages]) -> list[Task]:
        samples = number_samples(conversations)
        return [
            Task(i, messages, sample, self.obtain.key(messages, sample))
            for i, (messages, sample) in enumerate(zip(conversations, samples, strict=True))
        ]

    def take(self, task: Task, outcome: Obtained | Exception) -> bool:
        """Put what came where it belongs, or ask again; whether the prompt is done."""
        if isinstance(outcome, Exception):
            return self._take_error(task, outcome)
        earlier = (*task.earlier, outcome)
        try:
            value = self.check(outcome.record)
        except UnusableError as error:
            if len(task.earlier) < MAX_REPAIRS and self.fatal is None:
                self.obtain.submit(self.repair(task, outcome, error.problems))
                return False
            what = f"after {MAX_REPAIRS} repair rounds it is still wrong"
            failure = invalid(outcome.record, error.problems, what)
        except InvalidReplyError as error:
            failure = error
        else:
            self.replies[task.index] = self.reply(earlier, value)
            self.n_answered += 1
            self.n_cached += all(one.cached for one in earlier)
            self.dollars += sum(one.cost or 0.0 for one in earlier)
            process.noted.add(self._answered)
            self.unclear |= self.down  # the server is well
            self.down.clear()
            return True
        self._fail(task, earlier, failure)
        return True

    def note(self) -> str:
        """Say what a progress bar cannot: what was sent, what came from the cache, what it cost."""
        sent = self.n_answered - self.n_cached + len(self.failures)
        note = f"{sent:,} sent, {self.n_cached:,} cached"
        return note + (f", ${self.dollars:,.2f}" if self.obtain.settings.price else "")

    def _take_error(self, task: Task, error: Exception) -> bool:
        if self.fatal is not None or isinstance(error, StoppedError):
            return False  # the aftermath of the stop
        if isinstance(error, InvalidReplyError):
            self._fail(task, task.earlier, error)
        elif isinstance(error, RequestError) and error.code in PROMPT_CODES:
            self._fail(task, task.earlier, refused_prompt(error))
        elif isinstance(error, RequestError) and may_be_about_prompt(error):
            self.unclear[task.index] = error
        elif isinstance(error, RequestError) and error.sent and not self.down and error.transient:
            self.down[task.index] = error
        else:
            self.fatal = task.index, error
            if self.down:
                self.fatal = next(iter(self.down.items()))
            return False
        return True

    def _fail(self, task: Task, earlier: tuple[Obtained, ...], failure: InvalidReplyError) -> None:
        """Note where the replies are: all rounds are kept."""
        store = getattr(self.obtain, "store", None)
        kept = [one.key for one in earlier if not one.record.is_blank]
        if kept and store is not None and self.obtain.settings.caching:
            failure.cache, failure.keys = str(store.path), kept
        self.failures[task.index] = failure

    def must_end(self) -> bool:
        """Whether nothing more is to be asked for."""
        if self.fatal is not None or self.enough():
            return True
        if self.n_answered or self.others_answered:
            return False
        failed = self.failures.keys() | self.unclear.keys()
        if len(failed) >= SOME and self.sample is None:
            self.sample = self.obtain.spread(SAMPLE)
        return len(failed) >= ENOUGH and failed.issuperset(self.sample or [])

    def check(self, record: Record) -> Any:
        """The value of a reply; UnusableError where another try may help."""
        text, reason = record.text or "", record.finish_reason
        if record.is_refusal:
            problem = record.refusal or text or "content filter"
            raise invalid(record, [problem], "the model refuses to answer")
        if record.is_blank:
            what = "it is empty"
            if record.thoughts or text.strip():
                what = "the model has thought and not answered"
            if record.is_cut_off:
                what += ": a larger max_tokens in request_options may help"
                raise invalid(record, [f"finish_reason {reason!r}"], what)
            raise UnusableError([f"{what} (finish_reason {reason!r})"])
        cut_off = "it was cut off: raise max_tokens in request_options"
        validate = self.validate
        if record.is_cut_off and self.schema is None:
            validate = self.validate_cut_off
            if validate is None:
                raise invalid(record, [f"finish_reason {reason!r}"], cut_off)
        try:
            value = text if self.schema is None else parse_json(text, self.schema)
            return value if validate is None else validate(value)
        except ValueError as error:
            problems = error.problems if isinstance(error, UnusableError) else [str(error)]
            if record.is_cut_off:
                raise invalid(record, problems, cut_off) from None
            raise UnusableError(problems) from None

    def repair(self, task: Task, answer: Obtained, problems: list[str]) -> Task:
        """Tell the model what was wrong; after a blank answer, the same question once more."""
        earlier = (*task.earlier, answer)
        if answer.record.is_blank:
            return replace(task, earlier=earlier)
        complaint = "That reply cannot be used:\n" + "\n".join(f"- {p}" for p in problems[:50])
        if (schema := self.obtain.question.schema) is not None:
            complaint += (
                "\nAnswer again, with nothing but one JSON value that follows this JSON schema:\n"
                + json.dumps(schema)
            )
        else:
            complaint += "\nAnswer again."
        messages = [
            *task.messages,
            {"role": "assistant", "content": answer.record.text or ""},
            {"role": "user", "content": map_strings(complaint)},  # a validator may quote anything
        ]
        key = self.obtain.key(messages, task.sample)
        return Task(task.index, messages, task.sample, key, earlier)

    def reply(self, answers: tuple[Obtained, ...], value: Any) -> Reply:
        def total(name: str) -> int | None:
            counts = [getattr(answer.record, name) for answer in answers]
            return None if None in counts else sum(counts)

        record, costs = answers[-1].record, [answer.cost for answer in answers]
        return Reply(
            text=record.text or "",
            value=value,
            model=record.model or self.obtain.settings.model,
            finish_reason=record.finish_reason,
            prompt_tokens=total("prompt_tokens"),
            completion_tokens=total("completion_tokens"),
            cost=None if None in costs else sum(costs),  # type: ignore[arg-type]
            cached=all(answer.cached for answer in answers),
            n_repairs=len(answers) - 1,
            logprobs=record.logprobs,
        )

    # What went wrong.

    def raise_failures(self) -> None:
        """Decide what refusals were about, and raise one error for all."""
        some = self.n_answered > 0 or self.others_answered or self._answered in process.noted
        if self.fatal is None and self.down and not some:
            self.fatal = next(iter(self.down.items()))
        if self.fatal is not None:
            index, error = self.fatal
            raise self._explain(index, error)
        unclear = self.unclear | self.down
        alone = len(self.replies) == 1 and all(
            error.status in (200, 400, 413, 422) for error in unclear.values()
        )
        if unclear and not some and not alone and not self.failures:
            index, first = next(iter(sorted(unclear.items())))
            if len(unclear) > 1:
                first.args = (f"{first} All {len(unclear):,} prompts asked were refused.",)
            raise self._explain(index, first)
        for index, error in unclear.items():
            self.failures[index] = refused_prompt(error)
        if not self.failures:
            return
        failures = dict(sorted(self.failures.items()))
        ended = not self.n_answered and self.must_end() and len(failures) < len(self.replies)
        raise unusable_replies("Prompt", failures, self.replies, ended=ended)

    def _explain(self, index: int, error: Exception) -> Exception:
        """Say what was done and how to go on."""
        if not isinstance(error, LLMError):
            return error
        settings, n_done = self.obtain.settings, sum(reply is not None for reply in self.replies)
        done = f"{n_done:,} of {len(self.replies):,} prompts are answered"
        if n_done and settings.caching and not settings.replay:
            if lost := self.obtain.n_not_stored:
                done += f", {lost:,} of them could not be kept; the others are"
            else:
                done += " and"
            done += f" kept in {self.obtain.store.path}: run again, and they cost nothing"
        if isinstance(error, BudgetExceededError):
            if self.obtain.last_failure:
                done += f". The last failure was: {str(self.obtain.last_failure).rstrip('.')}"
            done += ". A new ChatModel starts a new count; give it a larger budget to go on"
        error.replies = self.replies
        text = str(error)
        where = "" if isinstance(error, BatchPendingError) else f"Prompt {index}: "
        error.args = (f"{where}{text}{'' if text[-1:] in '.!?' else '.'} {done}.",)
        return error


def may_be_about_prompt(error: RequestError) -> bool:
    """Whether others may be answered that ask the same server.

    Not where the key, the account, the address or the server is at fault.
    """
    status = error.status or 0
    if error.transient or status in (401, 402, 407, 408, 409, 429):
        return status == 200
    return status == 200 or 400 <= status < 600


def refused_prompt(error: RequestError) -> InvalidReplyError:
    """What becomes of a prompt that a server refuses while it answers others."""
    failure = InvalidReplyError(f"The prompt is refused: {error}", problems=[str(error)])
    failure.is_refused_prompt = True
    failure.__cause__ = error
    return failure


def unusable_replies(
    what: str,
    failures: dict[int, InvalidReplyError],
    replies: list[Any],
    *,
    ended: bool = False,
) -> InvalidReplyError:
    """One error for all failures of a call, which names the first.

    It says how to get other answers: one command removes the entries of all.

    Parameters
    ----------
    what : str
        What failed, such as "Row".
    failures : dict of int to InvalidReplyError
        By position.
    replies : list
        What the others got.
    ended : bool
        Whether the call ended because there was no usable reply at all.
    """
    index, first = next(iter(failures.items()))
    head = f"{what} {index}: {first}"
    if ended:
        head = (
            f"The first {len(failures):,} of {len(replies):,} replies are all unusable, and the "
            f"others were not asked for. First, {head}"
        )
    elif len(failures) > 1:
        head = f"{len(failures):,} of {len(replies):,} replies are unusable. First, {head}"
    keys = [key for failure in failures.values() for key in failure.keys]
    cache = next((failure.cache for failure in failures.values() if failure.keys), "")
    if keys:
        command = prune_command(cache, *keys[:MOST_KEYS])
        which = "removes it" if len(keys) == 1 else "removes them"
        if len(keys) > MOST_KEYS:
            which = f"removes the first {MOST_KEYS} of the {len(keys)} in the error's `keys`"
        head += (
            f" What was replied is kept, and `{command}` {which}. Without that, or another prompt, "
            "the same request gets the same reply."
        )
    kind = NoAnswerError if ended else InvalidReplyError
    error = kind(head, reply=first.reply, problems=first.problems)
    error.replies, error.failures = replies, failures
    error.cache, error.keys = cache, keys
    return error


def invalid(record: Record, problems: list[str], what: str) -> InvalidReplyError:
    """The error for a reply that cannot be used."""
    text = record.text or ""
    listed = "; ".join(short_line(problem, 300) for problem in problems[:MOST_PROBLEMS])
    if len(problems) > MOST_PROBLEMS:
        listed += f" and {len(problems) - MOST_PROBLEMS:,} more problems"
    return InvalidReplyError(
        f"The reply cannot be used, {what}: {listed}. It reads: {text[:500]!r}.",
        reply=text,
        outcome=what,
        problems=problems,
    )
