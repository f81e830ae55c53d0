"""Count what was used, allow what may still be used, and say when the next request may start.

Functions of a `Store`. All counts live in its file, so that they hold across worker processes.
"""

import dataclasses
import json
import time
from dataclasses import dataclass

from skllmreg.exceptions import BudgetExceededError
from skllmreg.llm._settings import Settings
from skllmreg.llm._store import Store
from skllmreg.llm._values import Usage

# A refusal that names no time, and the smallest distance between requests after one.
FIRST_PAUSE = 0.5
FIRST_SPACING = 0.1
LARGEST_SPACING = 10.0
# The bucket holds this much of a minute: any minute sees 1/60 more than its rate at the most.
BURST = 1.0


# Seconds for which it is remembered that a model does not take something.
REMEMBERED = 86_400.0
# What it costs to go without, by what is refused and how far.
LESS = {
    "schema": (
        "",
        "The server takes no JSON schema: it gets the schema in the prompt, and answers in any "
        "JSON, which may need more repairs.",
        "The server takes no JSON schema: it gets the schema in the prompt, and answers in any "
        "form, which may need more repairs.",
    ),
    "logprobs": (
        "",
        "The server tells the log-probabilities of few tokens at once: labels beyond them get "
        "probability 0.",
        "The server tells no log-probabilities: label probabilities are shares of votes, which "
        "take n_samples requests a row in place of one.",
    ),
}


@dataclass
class Bucket:
    """How fast a model on a server may be asked; times are seconds since the epoch.

    A token bucket is kept as the time at which it would be full again ("generic cell rate
    algorithm"): a request moves that time, and its own start follows. A start is a promise, so that
    nobody has to ask twice, and requests start in the order in which they asked.
    """

    requests_full: float = 0.0
    tokens_full: float = 0.0
    blocked_until: float = 0.0
    spacing: float = 0.0
    slowed: float = 0.0

    def reserve(
        self,
        now: float,
        n_tokens: int,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
    ) -> float:
        """Take one request out of the bucket and return the time at which it may start."""
        start = max(now, self.blocked_until)
        spacing = max(self.spacing, 60.0 / requests_per_minute if requests_per_minute else 0.0)
        if spacing:
            # One request at least fits into the bucket, however slow the rate.
            burst = max(BURST - spacing, 0.0) if not self.spacing else 0.0
            start = max(start, self.requests_full - burst)
            self.requests_full = max(self.requests_full, start) + spacing
        if tokens_per_minute:
            start = max(start, self.tokens_full - BURST)
            self.tokens_full = max(self.tokens_full, start) + n_tokens * 60.0 / tokens_per_minute
        return start

    def correct_tokens(self, n_tokens: int, tokens_per_minute: float | None) -> None:
        """Put right a reservation by the difference to what was used."""
        if tokens_per_minute:
            self.tokens_full += n_tokens * 60.0 / tokens_per_minute

    def refuse(self, now: float, sent: float, retry_after: float | None) -> None:
        """Stop everybody after a 429 and go on half as fast.

        Refusals of requests that were under way when the first of them came slow down nothing
        more: thirty-two threads are refused together.
        """
        pause = retry_after if retry_after is not None else max(FIRST_PAUSE, 2 * self.spacing)
        self.blocked_until = max(self.blocked_until, now + pause)
        if sent >= self.slowed:
            self.slowed = now
            self.spacing = min(max(FIRST_SPACING, 2 * self.spacing), LARGEST_SPACING)

    def succeed(self) -> None:
        """Go a little faster after an answer."""
        self.spacing = 0.95 * self.spacing if self.spacing > 0.01 else 0.0


@dataclass(frozen=True)
class Reservation:
    """A request that was counted before it is sent, and corrected when its answer is there."""

    day: str
    start: float
    prompt_tokens: int
    completion_tokens: int


def _today() -> str:
    return time.strftime("%Y-%m-%d", time.gmtime())


def _add(db, settings: Settings, day: str, **amounts) -> None:
    """Add to a row of the ledger; a cost of None leaves an unknown cost unknown."""
    names = ", ".join(amounts)
    marks = ", ".join("?" * len(amounts))
    sums = ", ".join(
        f"{name} = CASE WHEN excluded.{name} IS NULL THEN {name} "
        f"ELSE COALESCE({name}, 0) + excluded.{name} END"
        for name in amounts
    )
    db.execute(
        f"INSERT INTO ledger (day, run, server, model, {names}) VALUES (?, ?, ?, ?, {marks}) "
        f"ON CONFLICT DO UPDATE SET {sums}",
        (day, settings.run, settings.server, settings.model, *amounts.values()),
    )


def _spent(db, run: str) -> tuple[int, int, float]:
    """Requests, tokens and dollars of a run, what is reserved included."""
    return db.execute(
        "SELECT COALESCE(SUM(requests), 0), "
        "COALESCE(SUM(prompt_tokens + completion_tokens + reserved_tokens), 0), "
        "COALESCE(SUM(COALESCE(cost, 0) + reserved_cost), 0) FROM ledger WHERE run = ?",
        (run,),
    ).fetchone()


def reserve(
    store: Store, settings: Settings, prompt_tokens: int, completion_tokens: int
) -> Reservation:
    """Count a request before it is sent, or raise where the budget does not allow it."""
    day = _today()
    cost = settings.cost(prompt_tokens, completion_tokens) or 0.0
    n_tokens = prompt_tokens + completion_tokens
    with store.writing() as db:
        _check_budget(settings, _spent(db, settings.run), n_tokens, cost)
        _add(db, settings, day, requests=1, reserved_tokens=n_tokens, reserved_cost=cost)
        bucket = _load_bucket(db, settings)
        start = bucket.reserve(
            time.time(), n_tokens, settings.requests_per_minute, settings.tokens_per_minute
        )
        _save_bucket(db, settings, bucket)
    return Reservation(day, start, prompt_tokens, completion_tokens)


def _check_budget(
    settings: Settings, spent: tuple[int, int, float], n_tokens: int, cost: float
) -> None:
    requests, tokens, dollars = spent
    for name, limit, used, more in (
        ("request_budget", settings.request_budget, requests, 1),
        ("token_budget", settings.token_budget, tokens, n_tokens),
        ("cost_budget", settings.cost_budget, dollars, cost),
    ):
        if limit is not None and used + more > limit:
            raise BudgetExceededError(
                f"{name}={limit:,} does not allow another request, which may take {more:,.6g}: "
                f"this run has sent {requests:,} requests, for {tokens:,} tokens"
                + (f" and ${dollars:.4f}" if settings.prices else "")
                + ", those under way included."
            )


def settle(
    store: Store,
    settings: Settings,
    reservation: Reservation,
    used: tuple[int, int] | None,
    *,
    sent: bool = True,
    billed: bool = True,
) -> float | None:
    """Put the true numbers in place of the reservation.

    Parameters
    ----------
    used : (prompt tokens, completion tokens) or None
        None where no answer came.
    sent : bool
        Whether anything went out; else the request is given back.
    billed : bool
        Whether a request without an answer may be on the bill: what was reserved for it stays
        counted.

    Returns
    -------
    cost : float or None
        Dollars paid; None without prices.
    """
    reserved_tokens = reservation.prompt_tokens + reservation.completion_tokens
    reserved_cost = settings.cost(reservation.prompt_tokens, reservation.completion_tokens) or 0.0
    cost = settings.cost(*used) if used else None
    with store.writing() as db:
        if used or not billed:
            prompt_tokens, completion_tokens = used or (0, 0)
            _add(
                db,
                settings,
                reservation.day,
                requests=0 if sent else -1,
                prompt_tokens=prompt_tokens,
                completion_tokens=completion_tokens,
                cost=cost,
                reserved_tokens=-reserved_tokens,
                reserved_cost=-reserved_cost,
            )
            bucket = _load_bucket(db, settings)
            bucket.correct_tokens(
                prompt_tokens + completion_tokens - reserved_tokens, settings.tokens_per_minute
            )
            if used:
                bucket.succeed()
            _save_bucket(db, settings, bucket)
    return cost


def slow_down(store: Store, settings: Settings, sent: float, retry_after: float | None) -> None:
    """Remember, for everybody, that the server has refused a request as one too many."""
    with store.writing() as db:
        bucket = _load_bucket(db, settings)
        bucket.refuse(time.time(), sent, retry_after)
        _save_bucket(db, settings, bucket)


def blocked_until(store: Store, settings: Settings) -> float:
    """The end of the pause that the server has called for, if any."""
    rows = store.read("SELECT state FROM limits WHERE name = ?", (_bucket_name(settings),))
    return _read_bucket(rows[0][0]).blocked_until if rows else 0.0


def pauses(store: Store) -> dict[str, float]:
    """The ends of all pauses that are not over, by server and model."""
    rows = store.read("SELECT name, state FROM limits WHERE name NOT LIKE 'refused %'")
    ends = {name: _read_bucket(state).blocked_until for name, state in rows}
    return {name: end for name, end in ends.items() if end > time.time()}


def lift_pauses(store: Store) -> None:
    """Forget pauses and refusals: the next requests go out at once, and whole."""
    with store.writing() as db:
        for name, state in db.execute("SELECT name, state FROM limits").fetchall():
            if name.startswith("refused ") or _read_bucket(state).blocked_until > time.time():
                db.execute("DELETE FROM limits WHERE name = ?", (name,))


def _load_bucket(db, settings: Settings) -> Bucket:
    row = db.execute(
        "SELECT state FROM limits WHERE name = ?", (_bucket_name(settings),)
    ).fetchone()
    return _read_bucket(row[0]) if row else Bucket()


def _read_bucket(state: str) -> Bucket:
    """Treat a corrupt bucket as empty; no reply depends on it."""
    try:
        bucket = Bucket(**json.loads(state))
    except (RecursionError, TypeError, ValueError):
        return Bucket()
    numbers = dataclasses.astuple(bucket)
    return bucket if all(isinstance(n, (int, float)) for n in numbers) else Bucket()


def _save_bucket(db, settings: Settings, bucket: Bucket) -> None:
    db.execute(
        "INSERT OR REPLACE INTO limits VALUES (?, ?)",
        (_bucket_name(settings), json.dumps(dataclasses.asdict(bucket))),
    )


def _bucket_name(settings: Settings) -> str:
    return f"{settings.server} {settings.model}"


def refused(store: Store, settings: Settings) -> dict[str, int]:
    """What this model is known not to take: levels of `LESS`, by name."""
    levels: dict[str, int] = {}
    for name, entry in _refused(store, settings).items():
        level, since = entry.get("level"), entry.get("since")
        fresh = isinstance(since, (int, float)) and 0 <= time.time() - since < REMEMBERED
        if name in LESS and fresh and isinstance(level, int) and 0 < level < len(LESS[name]):
            levels[name] = level
    return levels


def note_refused(store: Store, settings: Settings, name: str, level: int, why: str) -> None:
    """Remember for a day, in all processes, that this model does not take something."""
    entry = {"level": level, "since": time.time(), "why": why}
    state = json.dumps(_refused(store, settings) | {name: entry})
    with store.writing() as db:
        db.execute("INSERT OR REPLACE INTO limits VALUES (?, ?)", (_refused_name(settings), state))


def all_refused(store: Store) -> dict[str, list[str]]:
    """What is remembered as refused, by server and model."""
    rows = store.read("SELECT name, state FROM limits WHERE name LIKE 'refused %'")
    return {name.removeprefix("refused "): sorted(_read_refused(state)) for name, state in rows}


def _refused(store: Store, settings: Settings) -> dict[str, dict]:
    rows = store.read("SELECT state FROM limits WHERE name = ?", (_refused_name(settings),))
    return _read_refused(rows[0][0]) if rows else {}


def _read_refused(state: str) -> dict[str, dict]:
    try:
        entries = json.loads(state).items()
    except (RecursionError, AttributeError, ValueError):
        return {}
    return {name: entry for name, entry in entries if isinstance(entry, dict)}


def _refused_name(settings: Settings) -> str:
    return f"refused {settings.server} {settings.model}"


def count_cached(store: Store, settings: Settings, n: int) -> None:
    """Count answers that came from the cache."""
    with store.writing() as db:
        _add(db, settings, _today(), cached=n)


def usage(store: Store, run: str | None = None) -> list[Usage]:
    """What was used, by day and model; of one run, or of all."""
    rows = store.read(
        "SELECT day, model, SUM(requests), SUM(cached), SUM(prompt_tokens), "
        "SUM(completion_tokens), SUM(cost) FROM ledger WHERE ? IS NULL OR run = ? "
        "GROUP BY day, model ORDER BY day, model",
        (run, run),
    )
    return [Usage(*row) for row in rows]


def mean_completion(store: Store, settings: Settings) -> tuple[float, int]:
    """Mean completion tokens of the requests to this model so far, and their number."""
    ((total, n),) = store.read(
        "SELECT COALESCE(SUM(completion_tokens), 0), COALESCE(SUM(requests), 0) "
        "FROM ledger WHERE server = ? AND model = ?",
        (settings.server, settings.model),
    )
    return (total / n if n else 0.0), n
