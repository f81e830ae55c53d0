"""Count what was used, allow what may still be used, and pace the requests.

Functions of a `Store`. All counts live in its file, so that they hold across worker processes.
"""

import dataclasses
import json
import math
import time
from dataclasses import dataclass
from typing import Any

from skllmreg.exceptions import BudgetExceededError
from skllmreg.llm._settings import Settings
from skllmreg.llm._store import CLOCK_ERROR, Store
from skllmreg.llm._values import MOST_TOKENS, Usage

# A cell of another type, in a file from elsewhere, is read as text and found to be none of ours.
_STATE = "SELECT CAST(state AS TEXT) FROM limits WHERE name = ?"
# After a refusal the pace is this share of what the server was seen to take; it is back at that
# after PROBE seconds (sooner where it is a first guess), grows from there, and is unlimited again
# after RECOVERY seconds.
CAUTION, FIRST_PROBE, PROBE, RECOVERY = 0.8, 0.5, 3.0, 10.0
# Factor of the pace where nothing was answered since the refusal before.
REFUSED_AGAIN = 0.7
# Requests a second below which no refusals bring the pace.
SLOWEST = 0.1
# Seconds over which the answers are counted by which a server's pace is measured.
WINDOW = 2.0
# Seconds after which a refusal is forgotten, whatever came of it.
FORGOTTEN = 60.0
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
    "system": (
        "",
        "The server takes no system turn: what stands in it begins the user's turn, as some chat "
        "templates want.",
    ),
    "stream": (
        "",
        "The server takes no stream_options: the tokens of streamed answers are estimated.",
        "The server takes no stream: each answer comes whole, and has to be there within timeout.",
    ),
    "logprobs": (
        "",
        "The server tells the log-probabilities of few tokens at once: labels beyond them get "
        "probability 0.",
        "The server tells no log-probabilities of use: label probabilities are shares of votes, "
        "which take n_samples requests a row in place of one.",
    ),
}


@dataclass
class Pace:
    """How fast a model on a server may be asked; times are seconds since the epoch.

    The limits of the user are token buckets, each kept as the time at which it would be full again
    ("generic cell rate algorithm"). What the server takes beyond that is found out: a refusal
    (status 429) that names no time slows everybody down to a share of the rate of the last
    answers, from which the pace grows with the cube of the time, as in TCP CUBIC [1]_.

    Nobody is promised a start: who may not start yet asks again when it is time. So nothing that
    was interrupted or killed takes a place from a later request.

    References
    ----------
    .. [1] Ha, Rhee, Xu (2008), "CUBIC: a new TCP-friendly high-speed TCP variant", ACM SIGOPS
       Operating Systems Review 42(5), equation 1.
    """

    requests_full: float = 0.0
    tokens_full: float = 0.0
    blocked_until: float = 0.0
    rate: float = 0.0  # requests a second that the server took when it last refused; 0 for unknown
    slowed: float = 0.0
    probe: float = 1.0
    taken: float = 0.0  # requests a second, by the pace at which the last answer was asked for
    started: float = 0.0
    answers: float = 0.0  # of the last seconds, older ones counting less
    answers_since: float = 0.0
    answered: float = 0.0
    saved: float = 0.0

    def wait(
        self,
        now: float,
        n_tokens: int,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
    ) -> float:
        """Take one request, or return the seconds after which to ask again.

        Parameters
        ----------
        now : float
        n_tokens : int
            Tokens that the request and its answer may take.
        requests_per_minute, tokens_per_minute : float or None
            Limits of the user.

        Returns
        -------
        float
            0 where the request may start, which is counted then.
        """
        start = max(self.blocked_until, self.started + self._distance(now))
        between = 60.0 / requests_per_minute if requests_per_minute else 0.0
        if requests_per_minute:
            # One request at least fits into the bucket, however slow the rate.
            start = max(start, self.requests_full - max(BURST - between, 0.0))
        if tokens_per_minute:
            start = max(start, self.tokens_full - BURST)
        if start > now:
            return start - now
        self.started = now
        if requests_per_minute:
            self.requests_full = max(self.requests_full, now) + between
        if tokens_per_minute:
            self.tokens_full = max(self.tokens_full, now) + n_tokens * 60.0 / tokens_per_minute
        return 0.0

    def _distance(self, now: float) -> float:
        """Seconds between two requests after a refusal."""
        passed = now - self.slowed
        recovered = passed > RECOVERY and self.answered > self.slowed
        if not self.rate or recovered or passed > FORGOTTEN:
            return 0.0
        growth = 1.0 + (1.0 - CAUTION) * (passed / self.probe - 1.0) ** 3
        return 1.0 / (self.rate * growth)

    def correct_tokens(self, n_tokens: int, tokens_per_minute: float | None) -> None:
        """Put right a reservation by the difference to what was used."""
        if tokens_per_minute:
            self.tokens_full += n_tokens * 60.0 / tokens_per_minute

    def refuse(self, now: float, sent: float, retry_after: float | None) -> None:
        """Stop everybody after a 429 until the time that it names, or go on more slowly.

        Refusals of requests that were under way when the first of them came slow down nothing
        more: thirty-two threads are refused together.
        """
        if retry_after is not None:
            self.blocked_until = max(self.blocked_until, now + retry_after)
        if sent < self.slowed:
            return
        if distance := self._distance(sent):
            # What was taken last, which is less than what has just been refused.
            rate, self.probe = min(self.taken, 1.0 / distance), PROBE
            if self.answered <= self.slowed:
                rate *= REFUSED_AGAIN
        else:  # a guess, from which the pace grows faster
            rate, self.probe = self._measured(now) or 1.0, FIRST_PROBE
        self.rate, self.slowed = max(rate, SLOWEST), now

    def succeed(self, now: float, sent: float) -> None:
        """Count an answer."""
        distance = self._distance(sent)
        self.taken = 1.0 / distance if distance else self.rate
        if not self.answers_since or now - self.answered > 10 * WINDOW:
            # Half a second for the first answer: a lower bound of what it took.
            self.answers, self.answers_since = 0.0, now - 0.5
        self.answers = self.answers * math.exp((self.answered - now) / WINDOW) + 1.0
        self.answered = now

    def _measured(self, now: float) -> float:
        """Answers a second, lately."""
        age = now - self.answers_since
        if not self.answers or age <= 0:
            return 0.0
        decayed = self.answers * math.exp((self.answered - now) / WINDOW)
        return decayed / (WINDOW * -math.expm1(-age / WINDOW))

    def last_rate(self) -> float:
        """Answers a second when the last one came; 0 where too few came to tell."""
        lasted = self.answered - self.answers_since
        return self._measured(self.answered) if self.answers_since and lasted > WINDOW else 0.0


@dataclass(frozen=True)
class Reservation:
    """A request that was counted before it is sent, and corrected when its answer is there."""

    day: str
    started: float
    prompt_tokens: int
    completion_tokens: int


def today() -> str:
    return time.strftime("%Y-%m-%d", time.gmtime())


def add(db, owner: Any, day: str, **amounts) -> None:
    """Add to a row of the ledger; a cost of None leaves an unknown cost unknown.

    Parameters
    ----------
    db : sqlite3.Connection
        In a transaction.
    owner : Settings or Job
        Has the row's `run`, `server` and `model`.
    day : str
    **amounts
        By column.
    """
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
        (day, owner.run, owner.server, owner.model, *amounts.values()),
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
) -> Reservation | float:
    """Count a request that may go out now; else return the seconds after which to ask again.

    A BudgetExceededError where the budget does not allow it.
    """
    day = today()
    cost = settings.cost(prompt_tokens, completion_tokens) or 0.0
    n_tokens = prompt_tokens + completion_tokens
    with store.writing() as db:
        check_budget(db, settings, 1, n_tokens, cost)
        pace = _load_pace(db, settings)
        now = time.time()
        seconds = pace.wait(now, n_tokens, settings.requests_per_minute, settings.tokens_per_minute)
        if seconds:
            return seconds
        add(db, settings, day, requests=1, reserved_tokens=n_tokens, reserved_cost=cost)
        _save_pace(db, settings, pace)
    return Reservation(day, now, prompt_tokens, completion_tokens)


def check_budget(db, settings: Settings, n_requests: int, n_tokens: int, cost: float) -> None:
    """Raise a BudgetExceededError where so many requests would exceed a budget."""
    if settings.request_budget is settings.token_budget is settings.cost_budget is None:
        return
    requests, tokens, dollars = _spent(db, settings.run)
    another = "another request, which" if n_requests == 1 else f"{n_requests:,} more, which"
    for name, limit, used, more in (
        ("request_budget", settings.request_budget, requests, n_requests),
        ("token_budget", settings.token_budget, tokens, n_tokens),
        ("cost_budget", settings.cost_budget, dollars, cost),
    ):
        if limit is not None and used + more > limit:
            raise BudgetExceededError(
                f"{name}={limit:,} does not allow {another} may take {more:,.6g}: "
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
            add(
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
            pace = _load_pace(db, settings)
            pace.correct_tokens(
                prompt_tokens + completion_tokens - reserved_tokens, settings.tokens_per_minute
            )
            if used:
                pace.succeed(time.time(), reservation.started)
            _save_pace(db, settings, pace)
    return cost


def slow_down(store: Store, settings: Settings, sent: float, retry_after: float | None) -> None:
    """Remember, for everybody, that the server has refused a request as one too many."""
    with store.writing() as db:
        pace = _load_pace(db, settings)
        pace.refuse(time.time(), sent, retry_after)
        _save_pace(db, settings, pace)


def blocked_until(store: Store, settings: Settings) -> float:
    """The end of the pause that the server has called for, if any."""
    return _first_pace(store.read(_STATE, (settings.account,))).blocked_until


def pauses(store: Store) -> dict[str, float]:
    """The ends of all pauses that are not over, by server, model and key."""
    rows = store.read(
        "SELECT CAST(name AS TEXT), CAST(state AS TEXT) FROM limits WHERE name NOT LIKE 'refused %'"
    )
    ends = {name: _read_pace(state).blocked_until for name, state in rows}
    return {name: end for name, end in ends.items() if end > time.time()}


def lift_pauses(store: Store) -> None:
    """Forget pauses, paces and refusals: the next requests go out at once, and whole."""
    with store.writing() as db:
        db.execute("DELETE FROM limits")


def _load_pace(db, settings: Settings) -> Pace:
    return _first_pace(db.execute(_STATE, (settings.account,)).fetchall())


def _first_pace(rows: list[tuple[str]]) -> Pace:
    return _read_pace(rows[0][0]) if rows else Pace()


def _read_pace(state: str) -> Pace:
    """Treat a corrupt state as none; no reply depends on it."""
    try:
        pace = Pace(**json.loads(state))
    except (RecursionError, TypeError, ValueError):
        return Pace()
    numbers = dataclasses.astuple(pace)
    if not all(isinstance(n, (int, float)) and math.isfinite(n) for n in numbers):
        return Pace()
    # Written by a clock that was ahead: all times in it are.
    return Pace() if pace.saved > time.time() + CLOCK_ERROR else pace


def _save_pace(db, settings: Settings, pace: Pace) -> None:
    pace.saved = time.time()
    state = json.dumps(dataclasses.asdict(pace))
    db.execute("INSERT OR REPLACE INTO limits VALUES (?, ?)", (settings.account, state))


def refused(store: Store, settings: Settings) -> dict[str, int]:
    """What this model is known not to take: levels of `LESS`, by name."""
    levels: dict[str, int] = {}
    for name, entry in _refused(store, settings).items():
        level, since = entry.get("level"), entry.get("since")
        fresh = isinstance(since, (int, float)) and 0 <= time.time() - since < REMEMBERED
        if name in LESS and fresh and isinstance(level, int) and 0 < level < len(LESS[name]):
            levels[name] = level
    return levels


def takes_system_turns(store: Store, settings: Settings) -> bool:
    """Whether this model is known to have answered a system's turn."""
    return _refused(store, settings).get("system", {}).get("level") == 0


def note_refused(store: Store, settings: Settings, name: str, level: int, why: str) -> None:
    """Remember for a day, in all processes, that this model does not take something."""
    entry = {"level": level, "since": time.time(), "why": why}
    state = json.dumps(_refused(store, settings) | {name: entry})
    with store.writing() as db:
        db.execute("INSERT OR REPLACE INTO limits VALUES (?, ?)", (_refused_name(settings), state))


def all_refused(store: Store) -> dict[str, list[str]]:
    """What is remembered as refused, by server and model."""
    rows = store.read(
        "SELECT CAST(name AS TEXT), CAST(state AS TEXT) FROM limits WHERE name LIKE 'refused %'"
    )
    found = {name.removeprefix("refused "): _read_refused(state) for name, state in rows}
    return {
        name: sorted(what for what, entry in entries.items() if entry.get("level"))
        for name, entries in found.items()
        if any(entry.get("level") for entry in entries.values())
    }


def _refused(store: Store, settings: Settings) -> dict[str, dict]:
    rows = store.read(_STATE, (_refused_name(settings),))
    return _read_refused(rows[0][0]) if rows else {}


def _read_refused(state: str) -> dict[str, dict]:
    try:
        entries = json.loads(state).items()
    except (RecursionError, AttributeError, ValueError):
        return {}
    return {name: entry for name, entry in entries if isinstance(entry, dict)}


def _refused_name(settings: Settings) -> str:
    return f"refused {settings.peer}"


def count_cached(store: Store, settings: Settings, n: int) -> None:
    """Count answers that came from the cache."""
    with store.writing() as db:
        add(db, settings, today(), cached=n)


def usage(store: Store, run: str | None = None) -> list[Usage]:
    """What was used, by day and model; of one run, or of all."""
    rows = store.read(
        "SELECT CAST(day AS TEXT), CAST(model AS TEXT), SUM(requests), SUM(cached), "
        "SUM(prompt_tokens), SUM(completion_tokens), SUM(cost) FROM ledger "
        "WHERE ? IS NULL OR run = ? GROUP BY day, model ORDER BY day, model",
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
    return min(total / n if n else 0.0, MOST_TOKENS), n


def seconds_for(
    store: Store | None, settings: Settings, n_requests: int, n_tokens: int
) -> float | None:
    """Seconds that requests take at the last pace of this model and within its limits.

    Parameters
    ----------
    store : Store or None
    settings : Settings
    n_requests, n_tokens : int

    Returns
    -------
    float or None
        None where neither a pace nor a limit is known, as of batch jobs.
    """
    if not n_requests:
        return 0.0
    if settings.delivery == "batch":
        return None
    rows = [] if store is None else store.read(_STATE, (settings.account,))
    rate = _first_pace(rows).last_rate()
    seconds = [n_requests / rate] if rate else []
    if settings.requests_per_minute:
        seconds.append(60.0 * n_requests / settings.requests_per_minute)
    if settings.tokens_per_minute:
        seconds.append(60.0 * n_tokens / settings.tokens_per_minute)
    return max(seconds, default=None)
