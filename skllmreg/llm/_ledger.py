"""The ledger: what was used, what may still be used, and when the next request may start.

Functions of a `Store`. All counts live in its file, so that they hold across worker processes.
"""

import dataclasses
import json
import time
from dataclasses import dataclass

from skllmreg.exceptions import BudgetExceededError
from skllmreg.llm._cache import Store
from skllmreg.llm._limits import Bucket
from skllmreg.llm._reply import Usage


@dataclass(frozen=True)
class Account:
    """Whose requests are counted, and what they may take."""

    run: str
    server: str
    model: str
    prices: tuple[float, float] | None = None
    request_budget: int | None = None
    token_budget: int | None = None
    cost_budget: float | None = None
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None

    def cost(self, prompt_tokens: int, completion_tokens: int) -> float | None:
        if self.prices is None:
            return None
        return (prompt_tokens * self.prices[0] + completion_tokens * self.prices[1]) / 1e6


@dataclass(frozen=True)
class Reservation:
    """A request that was counted before it is sent, and corrected when its answer is there."""

    day: str
    start: float
    prompt_tokens: int
    completion_tokens: int


def _today() -> str:
    return time.strftime("%Y-%m-%d", time.gmtime())


def _add(db, account: Account, day: str, **amounts) -> None:
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
        (day, account.run, account.server, account.model, *amounts.values()),
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
    store: Store, account: Account, prompt_tokens: int, completion_tokens: int
) -> Reservation:
    """Count a request before it is sent, or raise where the budget does not allow it."""
    day = _today()
    cost = account.cost(prompt_tokens, completion_tokens) or 0.0
    n_tokens = prompt_tokens + completion_tokens
    with store.writing() as db:
        _check_budget(account, _spent(db, account.run), n_tokens, cost)
        _add(db, account, day, requests=1, reserved_tokens=n_tokens, reserved_cost=cost)
        bucket = _load_bucket(db, account)
        start = bucket.reserve(
            time.time(), n_tokens, account.requests_per_minute, account.tokens_per_minute
        )
        _save_bucket(db, account, bucket)
    return Reservation(day, start, prompt_tokens, completion_tokens)


def _check_budget(
    account: Account, spent: tuple[int, int, float], n_tokens: int, cost: float
) -> None:
    requests, tokens, dollars = spent
    for name, limit, used, more in (
        ("request_budget", account.request_budget, requests, 1),
        ("token_budget", account.token_budget, tokens, n_tokens),
        ("cost_budget", account.cost_budget, dollars, cost),
    ):
        if limit is not None and used + more > limit:
            raise BudgetExceededError(
                f"{name}={limit:,} does not allow another request, which may take {more:,.6g}: "
                f"this run has sent {requests:,} requests, for {tokens:,} tokens"
                + (f" and ${dollars:.4f}" if account.prices else "")
                + ", those under way included."
            )


def settle(
    store: Store,
    account: Account,
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
    reserved_cost = account.cost(reservation.prompt_tokens, reservation.completion_tokens) or 0.0
    cost = account.cost(*used) if used else None
    with store.writing() as db:
        if used or not billed:
            prompt_tokens, completion_tokens = used or (0, 0)
            _add(
                db,
                account,
                reservation.day,
                requests=0 if sent else -1,
                prompt_tokens=prompt_tokens,
                completion_tokens=completion_tokens,
                cost=cost,
                reserved_tokens=-reserved_tokens,
                reserved_cost=-reserved_cost,
            )
            bucket = _load_bucket(db, account)
            bucket.correct_tokens(
                prompt_tokens + completion_tokens - reserved_tokens, account.tokens_per_minute
            )
            if used:
                bucket.succeed()
            _save_bucket(db, account, bucket)
    return cost


def slow_down(store: Store, account: Account, sent: float, retry_after: float | None) -> None:
    """Remember, for everybody, that the server has refused a request for want of patience."""
    with store.writing() as db:
        bucket = _load_bucket(db, account)
        bucket.refuse(time.time(), sent, retry_after)
        _save_bucket(db, account, bucket)


def blocked_until(store: Store, account: Account) -> float:
    """The end of the pause that the server has called for, if any."""
    rows = store.read("SELECT state FROM limits WHERE name = ?", (_bucket_name(account),))
    return _read_bucket(rows[0][0]).blocked_until if rows else 0.0


def pauses(store: Store) -> dict[str, float]:
    """The ends of all pauses that are not over, by server and model."""
    rows = store.read("SELECT name, state FROM limits")
    ends = {name: _read_bucket(state).blocked_until for name, state in rows}
    return {name: end for name, end in ends.items() if end > time.time()}


def lift_pauses(store: Store) -> None:
    """Forget who was promised which start: the next requests go out at once."""
    with store.writing() as db:
        for name, state in db.execute("SELECT name, state FROM limits").fetchall():
            if _read_bucket(state).blocked_until > time.time():
                db.execute("DELETE FROM limits WHERE name = ?", (name,))


def _load_bucket(db, account: Account) -> Bucket:
    row = db.execute("SELECT state FROM limits WHERE name = ?", (_bucket_name(account),)).fetchone()
    return _read_bucket(row[0]) if row else Bucket()


def _read_bucket(state: str) -> Bucket:
    """A damaged state is none: the limits start anew, and no answer hangs on it."""
    try:
        bucket = Bucket(**json.loads(state))
    except (RecursionError, TypeError, ValueError):
        return Bucket()
    numbers = dataclasses.astuple(bucket)
    return bucket if all(isinstance(n, (int, float)) for n in numbers) else Bucket()


def _save_bucket(db, account: Account, bucket: Bucket) -> None:
    db.execute(
        "INSERT OR REPLACE INTO limits VALUES (?, ?)",
        (_bucket_name(account), json.dumps(dataclasses.asdict(bucket))),
    )


def _bucket_name(account: Account) -> str:
    return f"{account.server} {account.model}"


def count_cached(store: Store, account: Account, n: int) -> None:
    """Count answers that came from the cache."""
    with store.writing() as db:
        _add(db, account, _today(), cached=n)


def usage(store: Store, run: str | None = None) -> list[Usage]:
    """What was used, by day and model; of one run, or of all."""
    rows = store.read(
        "SELECT day, model, SUM(requests), SUM(cached), SUM(prompt_tokens), "
        "SUM(completion_tokens), SUM(cost) FROM ledger WHERE ? IS NULL OR run = ? "
        "GROUP BY day, model ORDER BY day, model",
        (run, run),
    )
    return [Usage(*row) for row in rows]


def mean_completion(store: Store, account: Account) -> tuple[float, int]:
    """Mean completion tokens of the requests to this model so far, and their number."""
    ((total, n),) = store.read(
        "SELECT COALESCE(SUM(completion_tokens), 0), COALESCE(SUM(requests), 0) "
        "FROM ledger WHERE server = ? AND model = ?",
        (account.server, account.model),
    )
    return (total / n if n else 0.0), n
