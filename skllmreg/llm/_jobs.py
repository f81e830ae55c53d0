"""Take a batch job through its steps: each is written down before it is taken.

A process may end between any two of them: what a job asks ("planned"), the file of requests on the
server ("uploaded"), that the job is being created ("creating"), its name there ("submitted"); then
each answer, with its share of the bill, in the transaction that takes its request off the job; and
that nothing is left of it ("ended"). A job that may have been created is looked for by the name
that this package has given it, and is not created again before the server's list can be trusted.
"""

import contextlib
import functools
import itertools
import json
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from typing import Any

from skllmreg.exceptions import RequestError
from skllmreg.llm import _ledger, _store
from skllmreg.llm._replies import read_record, refusal
from skllmreg.llm._secrets import read_key
from skllmreg.llm._settings import dollars, without_system_turn
from skllmreg.llm._transport import ChatCompletions, body_of
from skllmreg.llm._values import Obtained, Record, Request
from skllmreg.utils._json import LARGEST_RESPONSE, load_json
from skllmreg.utils._text import short_line

# Seconds after which a job that was created is in the server's list of jobs.
VISIBLE = 60.0
# Seconds for the answers of one job; an upload has a second for each of so many bytes.
DOWNLOAD, BYTES_PER_SECOND = 3600.0, 200_000
# Looks at a file that the server names and does not have, before its answers count as lost.
LOOKS_FOR_FILE = 3
# Bytes of a line, of which a longer one is no answer.
LARGEST_LINE = 4 * 2**20
# Answers that are stored, and settled, in one transaction.
AT_ONCE = 500
# How this package names its jobs in a server's metadata.
METADATA = "skllmreg_job"
ENDPOINT = "/v1/chat/completions"
OVER = {"ended", "failed"}
# The status of a job that a server's queue has no room for.
TOKEN_LIMIT = "token limit"
# The codes of requests that a job has not come to.
EXPIRED, CANCELLED = "batch_expired", "batch_cancelled"

Outcomes = list[tuple[str, "Obtained | RequestError"]]


@dataclass(frozen=True)
class Job:
    """A batch job as it is written down.

    Parameters
    ----------
    id : str
        Our name of it, which its metadata at the server hold.
    created : float
    state : {"planned", "uploaded", "creating", "submitted", "ended", "failed"}
    url, api_key_env, around : str, str or None, dict
        The server, the variable with its key, and further headers and fields of the query.
    server, model, run, day : str
        Whose row of the ledger its bill belongs to.
    price : tuple of float or None
        Dollars per million tokens of prompts and answers.
    options, schema, form
        What all its requests share; `form` has the further attributes of a `Request`, and whether
        system turns are "joined" to the user's.
    n_requests : int
    file, batch : str
        The server's names of the requests' file and of the job.
    attempted, n_attempts : float, int
        When the job was last being created, and how often that may have succeeded.
    status : str
        The server's word, or "token limit" for a job that its queue has no room for.
    n_done : int
        Requests that the server has answered, as far as it says.
    n_looks : int
        Times that a file with answers was not there.
    """

    id: str
    created: float
    state: str
    url: str
    api_key_env: str | None
    around: dict[str, Any]
    server: str
    model: str
    run: str
    day: str
    price: tuple[float, float] | None
    options: dict[str, Any]
    schema: dict[str, Any] | None
    form: dict[str, Any]
    n_requests: int
    file: str = ""
    batch: str = ""
    attempted: float = 0.0
    n_attempts: int = 0
    status: str = ""
    n_done: int = 0
    n_looks: int = 0

    @property
    def name(self) -> str:
        return self.batch or self.id

    def cost(self, prompt_tokens: int, completion_tokens: int) -> float | None:
        return dollars(self.price, prompt_tokens, completion_tokens)

    def line(self, key: str, messages: Any) -> str:
        """The request for one prompt, as a line of the job's file."""
        form = dict(self.form)
        if form.pop("joined"):
            messages = without_system_turn(messages)
        body = body_of(Request(self.model, messages, self.options, schema=self.schema, **form))
        for name in ("extra_headers", "extra_query"):
            body.pop(name, None)
        body |= body.pop("extra_body", None) or {}
        return json.dumps({"custom_id": key, "method": "POST", "url": ENDPOINT, "body": body})

    def described(self, messages: Any, sample: int) -> str:
        """What the cache keeps of a request, in the form of `Live`."""
        top = self.form["top_logprobs"]
        extra = {"logprobs": True, "top_logprobs": top} if top else {}
        options = {**self.options, **extra}
        request = {"messages": messages, "options": options, "schema": self.schema}
        return json.dumps({**request, "sample": sample})


def load_jobs(store: _store.Store, *, over: bool = False) -> dict[str, Job]:
    """The jobs of a cache file by our names, the oldest first; those that are over if wanted."""
    where = "" if over else "WHERE state NOT IN ('ended', 'failed')"
    if not store.read("SELECT 1 FROM sqlite_master WHERE name = 'jobs'"):
        return {}  # a file of the first version
    rows = store.read(f"SELECT id, info FROM jobs {where} ORDER BY created")
    return {name: Job(**json.loads(info)) for name, info in rows}


def load_job(store: _store.Store, name: str) -> Job:
    """One job, which is there."""
    ((info,),) = store.read("SELECT info FROM jobs WHERE id = ?", (name,))
    return Job(**json.loads(info))


def save(db: Any, job: Job) -> Job:
    row = (job.id, job.created, job.state, json.dumps(asdict(job)))
    db.execute("INSERT OR REPLACE INTO jobs VALUES (?, ?, ?, ?)", row)
    return job


@dataclass
class Driver:
    """Takes jobs to their ends, one step after the other.

    Parameters
    ----------
    store : Store
    timeout : float
        Seconds for an exchange with the server.
    """

    store: _store.Store
    timeout: float = 60.0

    def advance(self, job: Job) -> tuple[Job, Outcomes]:
        """Take a job as far as it goes now; a RequestError where the server does not do its part.

        Returns
        -------
        job : Job
            As it is now; with a new `status` only, where the server is at work on it.
        outcomes : list of (key, Obtained or RequestError)
            Of all its requests that are done, which are off the job; the answers are stored.
        """
        if job.state == "planned":
            job = self._upload(job)
        if job.state in ("uploaded", "creating"):
            job = self._create(job)
        return self._look(job) if job.state == "submitted" else (job, [])

    def cancel(self, job: Job) -> Job:
        """Have the server stop; what it has answered by then is still collected.

        A job that the server does not know is given up: nothing more is to be had of it.
        """
        if job.state == "creating" and (found := self._find(job)):
            job = self._write(job, state="submitted", batch=found)
        if job.state in ("planned", "uploaded", "creating"):
            return self.give_up(job, CANCELLED)[0]
        try:
            self._post(job, f"/batches/{job.batch}/cancel", {})
        except RequestError as error:
            if error.status not in (404, 410):
                raise
            return self.give_up(job, "lost", billed=True)[0]
        return self._write(job, status="cancelling")

    def give_up(self, job: Job, status: str, *, billed: bool = False) -> tuple[Job, list[str]]:
        """Take what is left off a job, and off the budget; the keys of these requests."""
        with self.store.writing() as db:
            keys, *reserved = _left(db, job)
            if not billed:
                _settle(db, job, *reserved, n_unsent=len(keys))
            db.execute("DELETE FROM job_requests WHERE job = ?", (job.id,))
            state = "failed" if len(keys) == job.n_requests else "ended"
            return save(db, replace(job, state=state, status=status)), keys

    def _write(self, job: Job, **changes: Any) -> Job:
        changed = replace(job, **changes)
        if changed != job:
            with self.store.writing() as db:
                save(db, changed)
        return changed

    def _server(self, job: Job) -> ChatCompletions:
        return ChatCompletions(job.url, job.api_key_env)

    def _post(self, job: Job, path: str, body: dict[str, Any]) -> dict[str, Any]:
        return self._server(job).post(path, {**job.around, **body}, self.timeout)

    def _upload(self, job: Job) -> Job:
        rows = self.store.read("SELECT key, messages FROM job_requests WHERE job = ?", (job.id,))
        lines = [job.line(key, json.loads(messages)) for key, messages in rows]
        content = "\n".join([*lines, ""]).encode()
        file, fields = (f"{job.id}.jsonl", content), {**job.around, "purpose": "batch"}
        timeout = self.timeout + len(content) / BYTES_PER_SECOND
        uploaded = self._server(job).upload("/files", file, fields, timeout)
        return self._write(job, state="uploaded", file=_name_in(uploaded, job))

    def _create(self, job: Job) -> Job:
        if job.state == "creating":
            if found := self._find(job):
                return self._write(job, state="submitted", batch=found)
            age = time.time() - job.attempted
            if age < 0:  # the clock has gone back
                return self._write(job, attempted=time.time())
            if age < VISIBLE:
                return job
        now, n_before = time.time(), job.n_attempts
        job = self._write(job, state="creating", attempted=now, n_attempts=n_before + 1)
        body = {
            "input_file_id": job.file,
            "endpoint": ENDPOINT,
            "completion_window": "24h",
            "metadata": {METADATA: job.id},
        }
        try:
            created = self._post(job, "/batches", body)
        except RequestError as error:
            status = error.status or 0
            if not error.sent or (400 <= status < 500 and status not in (408, 409)):
                # There is certainly none of this attempt.
                state = "creating" if n_before else "uploaded"
                self._write(job, state=state, n_attempts=n_before)
            raise
        return self._write(job, state="submitted", batch=_name_in(created, job))

    def _find(self, job: Job) -> str:
        """The server's name of a job that may have been created; "" where it lists none."""
        query: dict[str, Any] = {"limit": 100}
        while True:
            around = {**job.around, "extra_query": {**job.around.get("extra_query", {}), **query}}
            page = self._server(job).get("/batches", around, self.timeout)
            batches = [b for b in page.get("data") or [] if isinstance(b, dict) and "id" in b]
            ours = [
                b
                for b in batches
                if (b.get("metadata") or {}).get(METADATA) == job.id
                or b.get("input_file_id") == job.file
            ]
            for another in ours[:-1]:  # made by a request that was slow to arrive; the oldest stays
                with contextlib.suppress(RequestError):
                    self._post(job, f"/batches/{another['id']}/cancel", {})
            if ours:
                return str(ours[-1]["id"])
            # The list begins with the newest.
            oldest = batches[-1].get("created_at") if batches else None
            before = isinstance(oldest, (int, float)) and oldest < job.created - 86_400
            if not page.get("has_more") or not batches or before:
                return ""
            query["after"] = str(batches[-1]["id"])

    def _look(self, job: Job) -> tuple[Job, Outcomes]:
        if job.n_attempts > 1 and (found := self._find(job)):
            job = self._write(job, batch=found)
        try:
            batch = self._server(job).get(f"/batches/{job.batch}", job.around, self.timeout)
        except RequestError as error:
            if error.status == 404 and 0 <= time.time() - job.attempted < VISIBLE:
                return job, []  # what was created is not seen everywhere at once
            raise
        status, counts = str(batch.get("status")), batch.get("request_counts")
        n_done = counts.get("completed") if isinstance(counts, dict) else 0
        job = self._write(job, status=status, n_done=n_done if isinstance(n_done, int) else 0)
        if status == "failed":
            return self._end_failed(job, batch)
        if status not in ("completed", "expired", "cancelled"):
            return job, []
        return self._collect(job, batch)

    def _end_failed(self, job: Job, batch: dict[str, Any]) -> tuple[Job, Outcomes]:
        """The server has refused the job as a whole; nothing was answered or billed."""
        errors = batch.get("errors")
        errors = errors.get("data") if isinstance(errors, dict) else errors
        errors = errors if isinstance(errors, list) else [errors] if errors else []
        errors = [error if isinstance(error, dict) else {"message": error} for error in errors]
        said = "; ".join(
            short_line(str(error.get("message")), 300)
            + (f" (line {error['line']})" if error.get("line") else "")
            for error in errors[:5]
        )
        if any("token_limit" in str(error.get("code")) for error in errors):
            job, keys = self.give_up(job, TOKEN_LIMIT)
        else:
            job, keys = self.give_up(job, "failed")
        said = said or "it gives no reason"
        failure = RequestError(f"{job.url} refuses the batch job {job.name}: {said}.", sent=True)
        line = next((error["line"] for error in errors if error.get("line")), 1)
        if isinstance(line, int) and 1 <= line <= len(keys):  # the error names its first prompt
            keys = [keys[line - 1], *keys[: line - 1], *keys[line:]]
        return job, [(key, failure) for key in keys]

    def _collect(self, job: Job, batch: dict[str, Any]) -> tuple[Job, Outcomes]:
        outcomes: Outcomes = []
        hide = read_key(job.url, job.api_key_env).hide
        names = [batch.get(name) for name in ("output_file_id", "error_file_id")]
        gone, n_read, damaged = job.n_done > 0 and not any(names), 0, False
        for name in filter(None, names):
            with tempfile.TemporaryFile() as file:
                try:
                    content = f"/files/{name}/content"
                    self._server(job).download(content, file, job.around, DOWNLOAD)
                except RequestError as error:
                    if error.status not in (404, 410):
                        raise
                    gone = True
                    continue
                file.seek(0)
                pieces = iter(functools.partial(file.readline, LARGEST_LINE), b"")
                while lines := list(itertools.islice(pieces, AT_ONCE)):
                    said, is_whole = _by_request(lines)
                    n_read, damaged = n_read + len(said), damaged or not is_whole
                    outcomes += self._store(job, said, hide)
        # A file of which a part cannot be read, or that has fewer answers than the job, may be
        # whole the next time.
        if damaged or n_read < job.n_done:
            ((left,),) = self.store.read(
                "SELECT COUNT(*) FROM job_requests WHERE job = ?", (job.id,)
            )
            gone = gone or left > 0
        if gone and job.n_looks + 1 < LOOKS_FOR_FILE:
            return self._write(job, n_looks=job.n_looks + 1), outcomes
        # What was answered is billed; what is cancelled or too late was not begun.
        status = "lost" if gone else str(batch.get("status"))
        unsent = {"expired": EXPIRED, "cancelled": CANCELLED}.get(status)
        job, left = self.give_up(job, status, billed=unsent is None)
        text = f"Batch job {job.name} has ended ({status}) without an answer."
        failure = RequestError(text, code=unsent or "", transient=True, sent=False)
        if gone:
            text = f"Answers of batch job {job.name} are not to be had from {job.url}"
            text += f": {len(left):,} are lost. Run again to ask for them anew."
            failure = RequestError(text, sent=True)
        elif unsent is None:  # perhaps on the bill: asked for again by another run only
            failure = RequestError(text, status=200, sent=True)
        return job, outcomes + [(key, failure) for key in left]

    def _store(self, job: Job, said: dict[str, dict[str, Any]], hide: Any) -> Outcomes:
        """Keep answers, settle them, and take their requests off the job, all or none of it."""
        outcomes: Outcomes = []
        totals, n_unsent = [0, 0, 0, 0], 0
        cost = None if job.price is None else 0.0
        marks = ",".join("?" * len(said))
        with self.store.writing() as db:
            for key, prompt, completion, sample, messages in db.execute(
                "SELECT key, prompt_tokens, completion_tokens, sample, messages FROM job_requests "
                f"WHERE job = ? AND key IN ({marks})",
                (job.id, *said),
            ).fetchall():
                outcome = _read(job, said[key], hide)
                totals[0] += prompt
                totals[1] += completion
                if isinstance(outcome, Record):
                    used = outcome.used_tokens(prompt)
                    totals[2:] = [total + n for total, n in zip(totals[2:], used, strict=True)]
                    paid = job.cost(*used)
                    cost = None if cost is None or paid is None else cost + paid
                    if not outcome.is_blank:
                        request = job.described(json.loads(messages), sample)
                        reply = json.dumps(outcome.to_json())
                        row = (key, time.time(), job.url, job.model, request, reply)
                        db.execute("INSERT OR IGNORE INTO entries VALUES (?, ?, ?, ?, ?, ?)", row)
                    outcomes.append((key, Obtained(outcome, paid, False, key)))
                else:
                    n_unsent += not outcome.sent
                    outcomes.append((key, outcome))
            _settle(db, job, *totals, cost=cost, n_unsent=n_unsent)
            taken = [(key,) for key, _ in outcomes]
            db.executemany("DELETE FROM job_requests WHERE key = ?", taken)
        return outcomes


def _by_request(lines: list[bytes]) -> tuple[dict[str, dict[str, Any]], bool]:
    """What the lines of a file say, by the request, and whether all of them can be read."""
    said: dict[str, dict[str, Any]] = {}
    is_whole = True
    for line in filter(bytes.strip, lines):
        item = None
        with contextlib.suppress(ValueError):
            item = load_json(line.decode("utf-8-sig", "surrogatepass"), LARGEST_RESPONSE)
        if isinstance(item, dict) and isinstance(item.get("custom_id"), str):
            said.setdefault(item["custom_id"], item)  # the first of two counts
        else:
            is_whole = False
    return said, is_whole


def _name_in(payload: dict[str, Any], job: Job) -> str:
    """The server's name of what it has made."""
    if not isinstance(payload.get("id"), str):
        said = short_line(json.dumps(payload), 200)
        what = f"{job.url} answered without an id: {said}. Has it OpenAI's files and batches?"
        raise RequestError(what, sent=True, transient=job.state == "creating")
    return payload["id"]


def _left(db: Any, job: Job) -> tuple[list[str], int, int]:
    """The keys of the requests that are left of a job, and the tokens reserved for them."""
    rows = db.execute(
        "SELECT key, prompt_tokens, completion_tokens FROM job_requests WHERE job = ?", (job.id,)
    ).fetchall()
    return [row[0] for row in rows], sum(row[1] for row in rows), sum(row[2] for row in rows)


def _settle(
    db: Any,
    job: Job,
    reserved_prompt: int,
    reserved_completion: int,
    prompt_tokens: int = 0,
    completion_tokens: int = 0,
    *,
    cost: float | None = None,
    n_unsent: int = 0,
) -> None:
    """Put what was used in the place of what was reserved, within a transaction."""
    _ledger.add(
        db,
        job,
        job.day,
        requests=-n_unsent,
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        cost=cost,
        reserved_tokens=-reserved_prompt - reserved_completion,
        reserved_cost=-(job.cost(reserved_prompt, reserved_completion) or 0.0),
    )


def _read(job: Job, item: dict[str, Any], hide: Any) -> Record | RequestError:
    """The answer in a line of a file, or the error in its place."""
    response, said = item.get("response"), item.get("error")
    if isinstance(response, dict):
        try:
            status = int(response.get("status_code") or 200)
        except (TypeError, ValueError):
            status = None
        body = response.get("body")
        if status != 200:
            return refusal(job.url, status, body, {}, hide)
        try:
            return read_record(body if isinstance(body, dict) else {"choices": None}, job.url, hide)
        except RequestError as error:
            return error
    failure = refusal(job.url, None, said, {}, hide)
    failure.sent = failure.code not in (EXPIRED, CANCELLED)
    failure.transient = failure.code != CANCELLED
    return failure
