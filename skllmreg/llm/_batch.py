"""Obtain the answers to many prompts by batch jobs: at half the price, within a day.

A prompt is part of one job at a time, whichever process has planned it. A lease makes one process
the driver of a job; the others wait until it is over, and drive it where the first is gone.
"""

import contextlib
import json
import threading
import time
import uuid
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from skllmreg.exceptions import BatchPendingError, BudgetExceededError, CacheError, RequestError
from skllmreg.llm import _ledger, _store
from skllmreg.llm._jobs import CANCELLED, OVER, TOKEN_LIMIT, Driver, Job, Outcomes, load_job, save
from skllmreg.llm._obtain import FIRST_PAUSE, Live, logger
from skllmreg.llm._replies import may_be_about_additions
from skllmreg.llm._settings import canonical, estimate_tokens
from skllmreg.llm._values import Obtained, Request, Task

# What a file may hold, of requests and of bytes; servers take 100 or 200 MB.
MOST_REQUESTS, MOST_BYTES = 50_000, 100_000_000
# Bytes of a line beside messages, options and schema.
LINE = 200
# Seconds between two looks at a job: at first, at most, and how they grow.
FIRST_POLL, LONGEST_POLL, GROWTH = 2.0, 120.0, 1.5
# Seconds between two looks at what another process does.
POLL_FILE = 0.5
# Seconds between two reports of which nothing is new.
REPORT = 600.0

Outcome = tuple[Task, Obtained | Exception]


@dataclass
class BatchJobs(Live):
    """Answers of one model by batch jobs; `Live` has the cache, its keys and what is refused."""

    def __post_init__(self) -> None:
        super().__post_init__()
        live = replace(self.settings, delivery="live")
        self._live = Live(live, self.question, self.store, self.transport, self.expected_completion)
        self._live.news = self._live.additions.news = self.news
        self._live.additions.less = self.additions.less
        for additions in (self.additions, self._live.additions):
            additions.come_whole()
        self._driver = Driver(self.store, self.settings.timeout)
        # The tasks that wait for an answer, by its key; and the keys that a job of ours has.
        self._waiting: dict[str, list[Task]] = {}
        self._jobs: dict[str, set[str]] = {}
        self._attempts: dict[str, int] = {}
        # Jobs that this call has the lease of; and those that were not over at its first look.
        self._driven: set[str] = set()
        self._seen: set[str] = set()
        self._progress = False
        self._refused: list[tuple[Task, RequestError]] = []
        # How many jobs of how many requests the server's queue has room for, as far as is known.
        self._room, self._most = 0, MOST_REQUESTS
        self._said, self._said_at = "", 0.0

    def pending(self, keys: Iterable[str]) -> set[str]:
        """Which of some keys are part of a job that is not over."""
        rows = self.store.read("SELECT key FROM job_requests")
        return {key for (key,) in rows} & set(keys)

    # In the thread that iterates; there is no other but the one that renews leases.

    def submit(self, task: Task) -> None:
        if task.earlier and self.settings.batch_repairs == "live":
            self._live.submit(task)
        else:
            super().submit(task)

    def halt(self) -> None:
        super().halt()
        self._live.halt()
        self._waiting.clear()
        self._jobs.clear()

    def outcomes(self) -> Iterator[Outcome]:
        pause = FIRST_POLL
        with self._renewing():
            while True:
                yield from self._live.outcomes()
                if self._todo and (not self._room or len(self._jobs) < self._room):
                    yield from self._plan()
                if self.stop.is_set() or not (self._todo or self._waiting):
                    return
                self._progress = False
                yield from self._advance()
                yield from self._learn_from_refusals()
                if self.stop.is_set():
                    return
                if self._progress:
                    pause = FIRST_POLL
                    continue
                if self._jobs and not self.settings.batch_wait:
                    tasks = [*self._todo, *sum(self._waiting.values(), [])]
                    yield tasks[0], self._pending_error(len(tasks))
                    return
                self._report(pause)
                self._sleep(pause)
                pause = min(GROWTH * pause, LONGEST_POLL)

    @contextlib.contextmanager
    def _renewing(self) -> Iterator[None]:
        """Keep the leases on the jobs that this call drives, until its end."""
        done = threading.Event()

        def renew() -> None:
            while not done.wait(_store.LEASE / 5):
                self._renew()

        thread = threading.Thread(target=renew, name="skllmreg-leases", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
            with contextlib.suppress(CacheError):
                for name in self._driven:
                    self.store.release(name, self._holder)

    # Planning.

    def _plan(self) -> Iterator[Outcome]:
        """Write down jobs for what is in no job yet, and reserve what they may cost."""
        tasks, self._todo = self._todo, deque()
        form = next(self._forms(tasks[0].messages))
        by_key: dict[str, list[Task]] = {}
        for task in tasks:
            key = self.key(task.messages, task.sample, form.top_logprobs)
            by_key.setdefault(key, []).append(task)
        try:
            with self.store.writing() as db:
                taken = _taken(db, list(by_key), self._holder)
                new = deque((key, own[0]) for key, own in by_key.items() if key not in taken)
                jobs = self._write_jobs(db, form, new)
        except BudgetExceededError as error:
            error.args = (f"{error} Of these prompts none was submitted.",)
            yield tasks[0], error
            return
        for key, _ in new:  # the server's queue has no room for them yet
            self._todo.extend(by_key.pop(key))
        for key, own in by_key.items():
            self._waiting.setdefault(key, []).extend(own)
        for key, name in taken.items():
            if name is not None:
                jobs.setdefault(name, set()).add(key)
        for name, keys in jobs.items():
            self._jobs.setdefault(name, set()).update(keys)

    def _write_jobs(
        self, db: Any, form: Request, tasks: deque[tuple[str, Task]]
    ) -> dict[str, set[str]]:
        """Make jobs of tasks from the left; the keys of each by its name."""
        jobs: dict[str, set[str]] = {}
        schema, completion = self.question.schema, self.expected_completion
        shared = len(canonical([self.settings.options, schema])) + LINE
        while tasks and (not self._room or len(self._jobs) + len(jobs) < self._room):
            name, size = uuid.uuid4().hex, 0
            rows: list[tuple[str, str, int, int, int, str]] = []
            while tasks and len(rows) < self._most:
                key, task = tasks[0]
                messages = json.dumps(task.messages)
                size += len(messages) + shared
                if rows and size > MOST_BYTES:
                    break
                n_tokens = estimate_tokens(task.messages, schema)
                rows.append((key, name, n_tokens, completion, task.sample, messages))
                tasks.popleft()
            job = self._new_job(name, form, len(rows))
            prompt_tokens, n_tokens = sum(row[2] for row in rows), completion * len(rows)
            cost = job.cost(prompt_tokens, n_tokens) or 0.0
            n_tokens += prompt_tokens
            _ledger.check_budget(db, self.settings, len(rows), n_tokens, cost)
            reserved = {"reserved_tokens": n_tokens, "reserved_cost": cost}
            _ledger.add(db, job, job.day, requests=len(rows), **reserved)
            db.executemany("INSERT INTO job_requests VALUES (?, ?, ?, ?, ?, ?)", rows)
            save(db, job)
            jobs[name] = {row[0] for row in rows}
        return jobs

    def _new_job(self, name: str, form: Request, n_requests: int) -> Job:
        settings, around = self.settings, ("extra_headers", "extra_query")
        return Job(
            id=name,
            created=time.time(),
            state="planned",
            url=settings.url,
            api_key_env=settings.api_key_env,
            around={key: settings.options[key] for key in around if key in settings.options},
            server=settings.server,
            model=settings.model,
            run=settings.run,
            day=_ledger.today(),
            price=settings.price,
            options=settings.options,
            schema=self.question.schema,
            form={
                "schema_form": form.schema_form,
                "top_logprobs": form.top_logprobs,
                "joined": bool(self.additions.less.get("system")),
            },
            n_requests=n_requests,
        )

    # Waiting, and what comes.

    def _advance(self) -> Iterator[Outcome]:
        """Take the jobs of this call one step further, as far as no other process does."""
        in_jobs = set().union(*self._jobs.values())
        yield from self._look_up([key for key in self._waiting if key not in in_jobs])
        for name, keys in list(self._jobs.items()):
            if self.stop.is_set():
                return
            if load_job(self.store, name).state not in OVER:
                if self.store.lease(name, self._holder) is _store.HELD:
                    continue
                self._driven.add(name)
            job = load_job(self.store, name)
            outcomes: Outcomes = []
            if job.state not in OVER:
                try:
                    job, outcomes = self._driver.advance(job)
                except RequestError as error:
                    yield from self._after_failure(load_job(self.store, name), error)
                    continue
                if job.state == "submitted":
                    self._attempts.pop(name, None)
            yield from self._deliver(job, outcomes)
            if job.state not in OVER:
                self._seen.add(name)
                continue
            if job.status == TOKEN_LIMIT:
                self._make_room(job)
            elif self._room:
                self._room += 1
            self._jobs.pop(name, None)
            self._driven.discard(name)
            self.store.release(name, self._holder)
            self._progress = True
            # What another process has collected is in the cache, but for what has failed.
            yield from self._look_up([key for key in keys if key in self._waiting])

    def _look_up(self, keys: list[str]) -> Iterator[Outcome]:
        """Take answers from the cache; the other prompts are planned anew."""
        found = self.known(keys)
        for key in keys:
            for task in self._waiting.pop(key, []):
                if key in found:
                    self._progress = True
                    yield task, Obtained(found[key], 0.0, True, key)
                else:
                    self._todo.append(task)

    def _deliver(self, job: Job, outcomes: Outcomes) -> Iterator[Outcome]:
        for key, outcome in outcomes:
            self._progress = True
            for task in self._waiting.pop(key, []):
                if isinstance(outcome, RequestError) and self._may_ask_again(job, task, outcome):
                    self._todo.append(task)
                elif (
                    isinstance(outcome, RequestError)
                    and may_be_about_additions(outcome)
                    and len([*self._forms(task.messages)]) > 1
                ):
                    self._refused.append((task, outcome))
                else:
                    yield task, outcome

    def _may_ask_again(self, job: Job, task: Task, error: RequestError) -> bool:
        """Whether a next job may have what this one has not brought."""
        if job.status == TOKEN_LIMIT:
            return job.n_requests > 1
        if error.code == CANCELLED:
            return job.id not in self._seen  # else somebody has cancelled what this call waits for
        self._attempts[task.key] = n_attempts = self._attempts.get(task.key, 0) + 1
        return error.transient and n_attempts <= self.settings.max_retries

    def _make_room(self, job: Job) -> None:
        """Submit less at once: the queue of the server is full."""
        others = len(self._jobs) - 1
        if others:
            self._room = others
        else:
            self._room, self._most = 1, max(1, job.n_requests // 2)

    def _after_failure(self, job: Job, error: RequestError) -> Iterator[Outcome]:
        """Wait where another try may succeed; else end the call. What may be paid for stays."""
        self._attempts[job.id] = n_failures = self._attempts.get(job.id, 0) + 1
        if error.transient and n_failures <= self.settings.max_retries:
            self.last_failure = error
            pause = min(FIRST_PAUSE * 2.0 ** (n_failures - 1), LONGEST_POLL)
            seconds = max(error.retry_after or 0.0, pause)
            self._announce(seconds, error)
            self._wait(seconds)
            self._progress = True  # at once: it has been waited for
            return
        task = next(self._waiting[key][0] for key in self._jobs[job.id] if key in self._waiting)
        text = f"Batch job {job.name}: {error}"
        if job.state in ("planned", "uploaded"):
            self._driver.give_up(job, "refused")
        else:
            text += " It stays as it is, and the same code goes on with it."
        # Without a status: it is about the job, not about one of its prompts.
        failure = RequestError(text, code=error.code, sent=error.sent)
        failure.__cause__ = error
        yield task, failure

    def _learn_from_refusals(self) -> Iterator[Outcome]:
        """Ask one prompt live, which finds out what the server takes, and the others without it."""
        if not self._refused:
            return
        (first, _), *others = self._refused
        self._refused.clear()
        before = dict(self.additions.less)
        self._live.submit(first)
        yield from self._live.outcomes()
        for task, error in others:
            if self.additions.less == before:
                yield task, error
            else:
                self._todo.append(task)
        self._progress = True

    def _sleep(self, pause: float) -> None:
        """Wait for the next look at the server; less where another process gets on."""
        end, names = time.monotonic() + pause, list(self._jobs)
        marks = ",".join("?" * len(names))
        over = f"SELECT 1 FROM jobs WHERE id IN ({marks}) AND state IN ('ended', 'failed')"
        while (left := end - time.monotonic()) > 0:
            self._wait(min(left, POLL_FILE))
            if not names or self.store.read(over, names):
                return

    def _report(self, pause: float) -> None:
        """Say what is waited for, wherever it is another than before."""
        jobs = [load_job(self.store, name) for name in self._jobs]
        if not jobs:
            return
        said = f"{self.settings.url} has {_count(jobs)}"
        now = time.monotonic()
        if said != self._said or now > self._said_at + REPORT:
            self._said, self._said_at = said, now
            clock = time.strftime("%H:%M:%S", time.localtime(time.time() + pause))
            how = "They go on if this process ends: run the same code again to collect them"
            logger.warning("%s. The next look is at %s. %s.", said, clock, how)

    def _pending_error(self, n_pending: int) -> BatchPendingError:
        jobs = [load_job(self.store, name) for name in self._jobs]
        text = (
            f"{self.settings.url} has {_count(jobs)}: {', '.join(job.name for job in jobs)}. "
            f"{n_pending:,} prompts wait. Run the same code again to go on, in this or another "
            "process, or with batch_wait=True to wait; `python -m skllmreg batches list` shows the "
            "jobs"
        )
        return BatchPendingError(text, jobs=[job.name for job in jobs], n_pending=n_pending)


def _count(jobs: list[Job]) -> str:
    """How many jobs there are, in which states, and how far they are."""
    states = ", ".join(sorted({job.status or job.state for job in jobs}))
    n_done, n_requests = sum(job.n_done for job in jobs), sum(job.n_requests for job in jobs)
    what = "1 batch job" if len(jobs) == 1 else f"{len(jobs):,} batch jobs"
    return f"{what} ({states}) with {n_done:,} of {n_requests:,} prompts done"


def _taken(db: Any, keys: list[str], holder: str) -> dict[str, str | None]:
    """Which keys are answered, or being asked live (None), or part of a job (its name)."""
    taken: dict[str, str | None] = {}
    now = time.time()
    for first in range(0, len(keys), 500):
        some = keys[first : first + 500]
        marks = f"key IN ({','.join('?' * len(some))})"
        taken |= db.execute(f"SELECT key, NULL FROM entries WHERE {marks}", some)
        leased = f"SELECT key, NULL FROM leases WHERE {marks} AND holder != ? AND expires > ?"
        taken |= db.execute(leased, (*some, holder, now))
        taken |= db.execute(f"SELECT key, job FROM job_requests WHERE {marks}", some)
    return taken
