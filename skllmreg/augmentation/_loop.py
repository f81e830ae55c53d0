"""Run the rounds of GOLD: ask for rows, curate them, study what is new, ask again near it."""

import math
from collections import Counter, deque
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from skllmreg.exceptions import BudgetExceededError, GenerationError
from skllmreg.utils._progress import progress_bar
from skllmreg.utils._text import harmless, short_repr

# After so many rounds in succession that bring less than this share of new rows, a class is given
# up, or all of it ends.
PATIENCE, LEAST_NEW = 2, 0.05
SHOWN_REPLIES, SHOWN_CHARACTERS = 3, 300
N_OF_BATCH = 3  # rows of a round that a novel request of it shows


class Rejected(NamedTuple):
    """A row that did not enter the data, and why; of a useless reply its text.

    `reason` is one word, such as "duplicate"; `detail` says more, or is "".
    """

    row: Any
    label: Any
    round: int
    reason: str
    detail: str


@dataclass(eq=False)
class Written:
    """A row that was written, and for which request.

    `score` is NaN until the row is studied; `reason` and `detail` say why it is refused.
    """

    row: Any
    code: int
    request: Any
    answer: Any
    score: float = np.nan
    reason: str = ""
    detail: str = ""


@dataclass(eq=False)
class Outcome:
    """All that has come of the rounds so far, whatever ends them.

    Parameters
    ----------
    accepted : list of Written
    rejected : list of Rejected
    refused : list of Written
        The rows among `rejected`.
    history : list of dict
        An entry for each round.
    termination : str
        Why there is no further round; "" while there is.
    problem : str
        What a spent budget, or a generator that broke, has said.
    replies : deque of (str, str, list of Written)
        The last replies, what was wrong with them, and their rows.
    """

    accepted: list[Written] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    refused: list[Written] = field(default_factory=list)
    history: list[dict[str, Any]] = field(default_factory=list)
    termination: str = ""
    problem: str = ""
    replies: deque = field(default_factory=lambda: deque(maxlen=SHOWN_REPLIES))


class Patience:
    """Give up on the classes that nothing new comes of, while the others get their rows.

    Once the others have theirs, a class that was given up is tried once more.

    Parameters
    ----------
    quotas : ndarray of shape (n_classes,)
        Rows wanted of each class; inf in all places means that classes stay equal, and then none is
        given up without the others.
    batch_size : int
        Near its quota a class is asked for few rows at a time: patience is in rows, too.

    Attributes
    ----------
    given_up : set of int
    """

    def __init__(self, quotas, batch_size):
        self.quotas, self.batch_size = quotas, batch_size
        self.given_up: set[int] = set()
        # Of each class, the rounds and rows asked for since something new came; and all rounds.
        self._idle, self._idle_rounds = np.zeros((2, len(quotas))), 0
        self._tried_again: set[int] = set()

    @property
    def unlimited(self):
        """Whether no class has a quota."""
        return bool(np.isinf(self.quotas).all())

    def unmet(self, n_accepted):
        """Return the classes that lack rows."""
        return set(np.flatnonzero(n_accepted < self.quotas).tolist())

    def update(self, wanted, got, n_accepted):
        """Take note of a round.

        Parameters
        ----------
        wanted, got : ndarray of shape (n_classes,)
            Rows asked for, and accepted, in the round.
        n_accepted : ndarray of shape (n_classes,)
            Rows accepted so far.
        """
        enough = got.sum() > 0 and got.sum() >= LEAST_NEW * wanted.sum()
        self._idle_rounds = 0 if enough else self._idle_rounds + 1
        self._idle += np.stack([np.sign(wanted), wanted])
        self._idle[:, (got > 0) & (got >= LEAST_NEW * wanted)] = 0
        if self.unlimited:
            return
        n_rounds, n_rows = self._idle
        out = (n_rounds >= PATIENCE) & (n_rows >= PATIENCE * self.batch_size)
        unmet = self.unmet(n_accepted)
        idle = unmet & set(np.flatnonzero(out).tolist())
        before, self.given_up = self.given_up, idle
        if idle == unmet:
            again = (before & idle) - self._tried_again
            self._tried_again |= again
            self._idle[:, list(again)] = 0
            self.given_up = idle - again

    def is_over(self, n_accepted):
        """Tell whether nothing more is to be expected of any class that lacks rows."""
        if self.unlimited:
            return self._idle_rounds >= PATIENCE
        return self.given_up >= self.unmet(n_accepted)


@dataclass(eq=False)
class Parts:
    """What takes part in the rounds.

    Parameters
    ----------
    planner : RequestPlanner
    generator : object with `generate`
    curator : Curator
    check : callable or None
        Takes rows and their codes; returns a doubt about each label or target, "" for none.
    study : Study or None
    spent : callable
        Returns the dollars spent so far, or None.
    paid : float or None
        What it returned before anything was asked for.
    """

    planner: Any
    generator: Any
    curator: Any
    check: Any
    study: Any
    spent: Any
    paid: Any

    def __post_init__(self):
        plan = self.planner.plan
        self.patience = Patience(plan.quotas, plan.batch_size)


def run(parts, outcome):
    """Ask, curate and study until there is enough, or no more to get.

    Parameters
    ----------
    parts : Parts
    outcome : Outcome
        Filled in; also where an error ends it.

    Raises
    ------
    GenerationError
        If no row was accepted.
    BudgetExceededError
        If the budget did not allow a single request.
    """
    plan = parts.planner.plan
    total, unit = size_of(plan)
    with progress_bar(total, None, "Generation", unit=unit) as tick:
        while not outcome.termination:
            requests = parts.planner.next_round(
                len(outcome.history), counts(parts, outcome), parts.patience.given_up
            )
            new = run_round(parts, outcome, requests)
            note_progress(parts, outcome, requests, new)
            outcome.termination = outcome.termination or reason_to_end(parts, outcome)
            if not outcome.termination and parts.study is not None:
                study(parts, outcome, new)
            done = {"row": len(new), "request": len(requests), "round": 1}[unit]
            tick(done, f"round {len(outcome.history)}, {len(outcome.accepted):,} rows")
    if not outcome.accepted:
        raise nothing_accepted(parts, outcome)


def size_of(plan):
    """Return how much is to be done, and in which unit: rows, else requests, else rounds."""
    for n, unit in ((plan.quotas.sum(), "row"), (plan.max_requests, "request")):
        if not math.isinf(n):
            return int(n), unit
    return None if math.isinf(plan.n_rounds) else plan.n_rounds, "round"


def run_round(parts, outcome, requests):
    """Have the requests of a round answered, and their rows curated.

    A novel request that shows rows of its round waits for the plain ones.

    Returns
    -------
    list of Written
        The rows accepted.
    """
    entry = {"feedback": 0, "requests": 0, "band": {}}
    n_rejected = len(outcome.rejected)
    outcome.history.append(entry)
    new: list[Written] = []
    answers: list[Any] = []
    waves = [requests]
    if parts.planner.plan.show_batch:
        waves = [[r for r in requests if not r.novel], [r for r in requests if r.novel]]
    try:
        for wave in waves:
            if parts.planner.plan.show_batch:
                wave = [with_batch(request, new) for request in wave]
            if wave and not outcome.termination:
                ask(parts, outcome, wave, answers, new)
    finally:
        entry |= tally(new, outcome.rejected[n_rejected:])
        asked = [(request, answer) for request, answer in answers if answer.asked]
        entry["feedback"] = sum(len(request.feedback) for request, _ in asked)
        entry["requests"] = len(asked)
        before, parts.paid = parts.paid, parts.spent()
        entry |= account([answer for _, answer in answers], before, parts.paid, len(new))
    return new


def with_batch(request, new):
    """Show a novel request the rows of its class that this round has brought."""
    own = [one.row for one in new if one.request.label == request.label]
    if not request.novel or not own:
        return request
    rng = np.random.RandomState(request.random_state)
    chosen = rng.choice(len(own), min(N_OF_BATCH, len(own)), replace=False)
    return replace(request, batch=[own[i] for i in chosen])


def ask(parts, outcome, requests, answers, new):
    """Ask for rows; what came before an error is curated, too."""
    exchanges: list[tuple[Any, Any]] = []
    broken = None
    try:
        for answer in parts.generator.generate(requests):
            exchanges.append((requests[len(exchanges)], answer))
        unasked = [answer.problem for _, answer in exchanges if not answer.asked]
        if unasked:
            outcome.termination, outcome.problem = "budget", unasked[0]
    except Exception as error:
        # A fit that asks an LLM goes on from its cache; what a function has given would be lost.
        if parts.generator.goes_on:
            raise
        broken = error
    finally:
        answers += exchanges
        new += curate(parts, outcome, exchanges)
    if broken is not None:
        if not outcome.accepted:
            raise broken
        outcome.termination = "error"
        outcome.problem = f"{type(broken).__name__}: {broken}"


def curate(parts, outcome, exchanges):
    """Accept the rows of answers that pass all checks.

    Returns
    -------
    list of Written
    """
    labels, number = parts.planner.data.labels, len(outcome.history) - 1
    written: list[Written] = []
    for request, answer in exchanges:
        if not answer.asked:
            continue
        if answer.problem:
            outcome.rejected.append(
                Rejected(answer.text, request.label, number, "reply", answer.problem)
            )
            outcome.replies.append((answer.text, f"reply: {answer.problem}", []))
            continue
        found = parts.curator.admit(
            answer.rows, [request.label] * len(answer.rows), prompt=answer.prompt, request=request
        )
        code = labels.index(request.label)
        rows = [
            Written(row, code, request, answer, reason=reason, detail=detail)
            for row, (reason, detail) in zip(answer.rows, found, strict=True)
        ]
        written += rows
        text = answer.text or "; ".join(short_repr(row) for row in answer.rows)
        outcome.replies.append((text, "", rows))
    set_aside(parts, outcome, written)
    new = [one for one in written if not one.reason]
    if parts.check is not None and new:
        check_labels(parts, outcome, new)
        new = [one for one in new if not one.reason]
    outcome.accepted += new
    return new


def check_labels(parts, outcome, new):
    """Have labels or targets checked, last of all: it may cost calls, and may fail."""
    doubts = ["not checked"] * len(new)
    try:
        doubts = parts.check([one.row for one in new], [one.code for one in new])
    except BudgetExceededError as error:
        outcome.termination, outcome.problem = "budget", str(error)
    finally:
        for one, doubt in zip(new, doubts, strict=True):
            one.reason, one.detail = ("label", doubt) if doubt else ("", "")
        refused = set_aside(parts, outcome, new)
        parts.curator.release([one.request.label for one in refused])


def set_aside(parts, outcome, written):
    """Keep apart what there is a reason against."""
    refused = [one for one in written if one.reason]
    outcome.refused += refused
    outcome.rejected += [
        Rejected(one.row, one.request.label, one.request.round, one.reason, one.detail)
        for one in refused
    ]
    return refused


def study(parts, outcome, new):
    """Find what the student should see more of.

    Without novel requests, all rows of the round are candidates.
    """
    novel = parts.planner.plan.n_novel_batches > 0
    fresh = [one for one in new if one.request.novel or not novel]
    if not fresh:
        return  # what was unfamiliar before still serves
    feedback, band = parts.study.choose(outcome.accepted, fresh)
    for code, shown_rows in feedback.items():
        parts.planner.feedback[code] = shown_rows
    labels = parts.planner.data.labels
    outcome.history[-1]["band"] = {labels[code]: limits for code, limits in band.items()}


def counts(parts, outcome):
    """Count the rows accepted of each class."""
    codes = np.array([one.code for one in outcome.accepted], dtype=int)
    return np.bincount(codes, minlength=len(parts.planner.data.labels))


def note_progress(parts, outcome, requests, new):
    """Tell `Patience` what a round was asked for, and what has come of it."""
    wanted, got = np.zeros((2, len(parts.planner.data.labels)))
    for request in requests:
        wanted[parts.planner.data.labels.index(request.label)] += request.n_rows
    for one in new:
        got[one.code] += 1
    parts.patience.update(wanted, got, counts(parts, outcome))


def reason_to_end(parts, outcome):
    """Return why this was the last round, "" if it was not."""
    plan, n_accepted = parts.planner.plan, counts(parts, outcome)
    if not parts.patience.unmet(n_accepted):
        return "n_samples"
    if parts.planner.n_requests >= plan.max_requests:
        return "max_requests"
    if len(outcome.history) >= plan.n_rounds:
        return "n_rounds"
    nothing = not outcome.accepted and len(outcome.history) >= PATIENCE
    return "nothing_new" if nothing or parts.patience.is_over(n_accepted) else ""


def nothing_accepted(parts, outcome):
    """Build the error that says why no row could be used."""
    problem = f"{outcome.problem} " if outcome.problem else ""
    if not outcome.replies:
        grid = parts.planner.grid
        after = grid is not None and grid.proposed
        what = ", after that for their attributes (attributes=None saves it)" if after else ""
        return BudgetExceededError(
            f"The budget of the LLM does not allow a single request for rows{what}. {problem}"
        )
    reasons = Counter(one.reason for one in outcome.rejected)
    why = ", ".join(f"{name} {n}" for name, n in reasons.most_common()) or "there were none"
    if 2 * reasons["duplicate"] > reasons.total() and parts.curator.few_rows_possible:
        why += "; of a table with few different rows there are none to write"
    replies = ""
    for text, what, rows in outcome.replies:
        refused = (f"{one.reason}: {one.detail}".rstrip(": ") for one in rows if one.reason)
        replies += f"\n--- {what or next(refused, 'no rows')}\n{harmless(text[:SHOWN_CHARACTERS])}"
    return GenerationError(
        f"Nothing of what {parts.planner.n_requests} requests brought can be used ({why}). "
        f"{problem}The last replies:{replies}"
    )


def tally(new, rejected):
    """Count what came of a round."""
    reasons = Counter(one.reason for one in rejected)
    return {
        "rows": len(new) + sum(n for reason, n in reasons.items() if reason != "reply"),
        "accepted": len(new),
        "novel": sum(one.request.novel for one in new),
        "rejected": dict(reasons),
        "band": {},
    }


def account(answers, before, after, n_accepted):
    """Sum up what a round took: tokens of the answers, cached ones too, and dollars paid now."""
    replies = [answer.reply for answer in answers if answer.reply is not None]
    entry = {
        name: sum(getattr(reply, name) or 0 for reply in replies)
        for name in ("prompt_tokens", "completion_tokens")
    }
    cost = None if before is None or after is None else after - before
    per_row = cost / n_accepted if cost is not None and n_accepted else None
    return entry | {"cost": cost, "cost_per_row": per_row}
