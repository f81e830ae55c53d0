"""The rounds of GOLD: ask, curate, study what is new, ask again near it."""

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from skllmreg.augmentation._feedback import choose_feedback
from skllmreg.exceptions import BudgetExceededError, GenerationError
from skllmreg.utils._progress import progress_bar
from skllmreg.utils._text import harmless, short_repr

# After so many rounds in succession that bring less than this share of new rows, a class is given
# up, or all of it ends.
PATIENCE, LEAST_NEW = 2, 0.05
SHOWN_REPLIES, SHOWN_CHARACTERS = 3, 300


class Rejected(NamedTuple):
    """A row that did not enter the data, and why; of a useless reply its text."""

    row: Any
    label: Any
    round: int
    reason: str


@dataclass(eq=False)
class Written:
    """A row that was written, of the class with this code.

    `score` is nan until it is studied; `reason` says why it did not enter the data.
    """

    row: Any
    code: int
    round: int
    novel: bool
    score: float = np.nan
    reason: str = ""


class GenerationLoop:
    """One run of rounds, and all that came of it, whatever ends it.

    Parameters
    ----------
    asker : Asker
    generator : LLMGenerator or FunctionGenerator
    curator : Curator
    doubts : callable or None
        Takes rows and their codes; returns a reason against each label, "" for none.
    scores : callable or None
        Takes the rows and codes that a student is to know, and new rows; returns how far out of
        distribution these are. None: no feedback.
    quantiles : tuple of float
        The band of scores that feedback is taken from.
    random_feedback : bool
        Whether as many rows from anywhere take their place.
    n_rounds, max_requests : int or inf
    spent : callable
        Returns the dollars spent so far, or None.
    paid : float or None
        What it returned before anything was asked for.

    Attributes
    ----------
    accepted : list of Written
    rejected : list of Rejected
    history : list of dict
    termination : str
    """

    def __init__(
        self,
        asker,
        generator,
        curator,
        *,
        doubts,
        scores,
        quantiles,
        random_feedback,
        n_rounds,
        max_requests,
        spent,
        paid,
    ):
        self.asker, self.generator, self.curator = asker, generator, curator
        self.doubts, self.scores = doubts, scores
        self.quantiles, self.random_feedback = quantiles, random_feedback
        self.n_rounds, self.max_requests = n_rounds, max_requests
        self.spent, self.paid = spent, paid
        self.accepted: list[Written] = []
        self.rejected: list[Rejected] = []
        self.history: list[dict[str, Any]] = []
        self.termination = ""
        # Of each class, the rounds and rows since something new came; and rounds of them all.
        self._idle, self._idle_rounds = np.zeros((2, len(asker.labels))), 0
        self._tried_again: set[int] = set()
        # The last few, what was wrong with them, and their rows.
        self._replies: list[tuple[str, str, list[Written]]] = []
        self._no_budget = ""  # in the words of the LLM

    def run(self):
        """Ask, curate and study until there is enough, or no more to get.

        Raises
        ------
        GenerationError
            If no row was accepted.
        BudgetExceededError
            If the budget did not allow a single request.
        """
        n_rounds = None if math.isinf(self.n_rounds) else self.n_rounds
        with progress_bar(n_rounds, None, "Generation", unit="round") as tick:
            self._run(tick)
        if not self.accepted:
            raise self._error()

    def _run(self, tick):
        while not self.termination:
            room = self.max_requests - self.asker.n_requests
            requests = self.asker.next_round(len(self.history), self.counts(), room)
            new = self._round(requests)
            self._give_up(requests, new)
            self.termination = self.termination or self._end()
            if not self.termination and self.scores is not None:
                self._study(new)
            tick(1)

    def counts(self):
        """How many rows of each class are accepted."""
        codes = np.array([written.code for written in self.accepted], dtype=int)
        return np.bincount(codes, minlength=len(self.asker.labels))

    def _give_up(self, requests, new):
        """Note which classes nothing new comes of; the others get their requests.

        Once the others have their rows, a class that was given up is tried again.
        """
        wanted, got = np.zeros(self._idle.shape)
        for request in requests:
            wanted[self.asker.labels.index(request.label)] += request.n_rows
        for one in new:
            got[one.code] += 1
        enough = new and len(new) >= LEAST_NEW * wanted.sum()
        self._idle_rounds = 0 if enough else self._idle_rounds + 1
        self._idle += np.stack([np.sign(wanted), wanted])
        self._idle[:, (got > 0) & (got >= LEAST_NEW * wanted)] = 0
        if np.isinf(self.asker.plan.quotas).all():
            return  # the classes are to be equal, so none goes on without the others
        # Near its quota a class is asked for few rows at a time: patience is in rows, too.
        n_rounds, n_rows = self._idle
        out = (n_rounds >= PATIENCE) & (n_rows >= PATIENCE * self.asker.plan.batch_size)
        unmet = self._unmet()
        idle = unmet & set(np.flatnonzero(out).tolist())
        before, self.asker.given_up = self.asker.given_up, idle
        if idle == unmet:
            again = (before & idle) - self._tried_again
            self._tried_again |= again
            self._idle[:, list(again)] = 0
            self.asker.given_up = idle - again

    def _unmet(self):
        """Classes that lack rows."""
        return set(np.flatnonzero(self.counts() < self.asker.plan.quotas).tolist())

    def _end(self):
        """Why this was the last round, "" if it was not."""
        unmet = self._unmet()
        if not unmet:
            return "n_samples"
        if self.asker.n_requests >= self.max_requests:
            return "max_requests"
        if len(self.history) >= self.n_rounds:
            return "n_rounds"
        nothing = not self.accepted and len(self.history) >= PATIENCE
        if np.isinf(self.asker.plan.quotas).all():
            nothing |= self._idle_rounds >= PATIENCE
        return "nothing_new" if nothing or self.asker.given_up >= unmet else ""

    def _round(self, requests):
        """Have requests answered and their rows curated; also what came before an error.

        Returns
        -------
        list of Written
            The rows accepted.
        """
        answers, new = [], []
        entry: dict[str, Any] = {}
        self.history.append(entry)
        try:
            for answer in self.generator.generate(requests):
                answers.append(answer)
            if not all(answer.asked for answer in answers):
                self.termination = "budget"
                self._no_budget = next(answer.problem for answer in answers if not answer.asked)
        finally:
            n_rejected = len(self.rejected)
            try:
                new = self._curate(list(zip(requests, answers, strict=False)))
            finally:
                asked = [r for r, a in zip(requests, answers, strict=False) if a.asked]
                entry["feedback"] = sum(len(request.feedback) for request in asked)
                entry["requests"] = len(asked)
                entry |= tally(new, self.rejected[n_rejected:])
                before, self.paid = self.paid, self.spent()
                entry |= account(answers, before, self.paid, len(new))
        return new

    def _curate(self, exchanges):
        """Accept the rows of answers that pass all checks."""
        number, written = len(self.history) - 1, []
        for request, answer in exchanges:
            if not answer.asked:
                continue
            if answer.problem:
                reason = f"reply: {answer.problem}"
                self.rejected.append(Rejected(answer.text, request.label, number, reason))
                self._replies.append((answer.text, reason, []))
                continue
            reasons = self.curator.admit(answer.rows, [request.label] * len(answer.rows))
            code = self.asker.labels.index(request.label)
            rows = [
                Written(row, code, number, request.novel, reason=reason)
                for row, reason in zip(answer.rows, reasons, strict=True)
            ]
            written += rows
            text = answer.text or "; ".join(short_repr(row) for row in answer.rows)
            self._replies.append((text, "", rows))
        del self._replies[:-SHOWN_REPLIES]
        self._reject(written)
        new = [one for one in written if not one.reason]
        if self.doubts is not None and new:
            self._doubt(new)
            new = [one for one in new if not one.reason]
        self.accepted += new
        return new

    def _doubt(self, new):
        """Have labels checked, last of all: it may cost calls of the teacher, and may fail."""
        reasons = ["label: not checked"] * len(new)
        try:
            reasons = self.doubts([one.row for one in new], [one.code for one in new])
        except BudgetExceededError as error:
            self.termination, self._no_budget = "budget", str(error)
        finally:
            for one, reason in zip(new, reasons, strict=True):
                one.reason = reason
            self.curator.release([self.asker.labels[one.code] for one in self._reject(new)])

    def _reject(self, written):
        """Set aside what there is a reason against."""
        refused = [one for one in written if one.reason]
        self.rejected += [
            Rejected(one.row, self.asker.labels[one.code], one.round, one.reason) for one in refused
        ]
        return refused

    def _study(self, new):
        """Find what of the novel rows the student should see more of.

        The student has not seen these rows. Without novel requests all rows of the round are
        candidates.
        """
        novel = self.asker.plan.n_novel_batches > 0
        fresh = [one for one in new if one.novel or not novel]
        if not fresh:
            return  # what was unfamiliar before still serves
        fresh_ids = set(map(id, fresh))
        known = [one for one in self.accepted if id(one) not in fresh_ids]
        scores = self.scores(
            [one.row for one in known], [one.code for one in known], [one.row for one in fresh]
        )
        for one, score in zip(fresh, scores, strict=True):
            one.score = float(score)
        codes = np.array([one.code for one in fresh])
        labels = self.asker.labels
        chosen, limits = choose_feedback(scores, codes, len(labels), self.quantiles)
        for k, inside in enumerate(chosen):
            own = np.flatnonzero(codes == k)
            if not len(own):
                continue  # what was unfamiliar before still serves
            pool = own if self.random_feedback else inside
            n_shown = min(self.asker.plan.n_feedback, len(inside))
            self.asker.feedback[k] = ([fresh[i].row for i in pool], n_shown)
        present = np.unique(codes)
        self.history[-1]["band"] = {labels[k]: tuple(limits[k].tolist()) for k in present}

    def _error(self):
        if not self._replies:
            grid = self.asker.grid
            after = grid is not None and grid.proposed
            what = ", after that for their attributes (attributes=None saves it)" if after else ""
            return BudgetExceededError(
                f"The budget of the LLM does not allow a single request for rows{what}. "
                f"{self._no_budget}"
            )
        counts = Counter(kind(rejected.reason) for rejected in self.rejected)
        why = ", ".join(f"{name} {n}" for name, n in counts.most_common()) or "there were none"
        if self.curator.schema is not None and 2 * counts["duplicate"] > sum(counts.values()):
            why += "; of a table with few different rows there are none to write"
        replies = ""
        for text, problem, rows in self._replies:
            problem = problem or next((one.reason for one in rows if one.reason), "no rows")
            replies += f"\n--- {problem}\n{harmless(text[:SHOWN_CHARACTERS])}"
        return GenerationError(
            f"Nothing of what {self.asker.n_requests} requests brought can be used ({why}). "
            f"{self._no_budget}{' ' if self._no_budget else ''}The last replies:{replies}"
        )


def kind(reason):
    """Return the part of a reason that is counted: "duplicate", "label"."""
    return reason.partition(":")[0]


def tally(new, rejected):
    """Count what came of a round."""
    reasons = Counter(kind(one.reason) for one in rejected)
    return {
        "rows": len(new) + sum(n for reason, n in reasons.items() if reason != "reply"),
        "accepted": len(new),
        "novel": sum(one.novel for one in new),
        "rejected": dict(reasons),
        "band": {},
    }


def account(answers, before, after, n_accepted):
    """What a round took: tokens of the answers, cached ones too, and dollars paid now."""
    replies = [answer.reply for answer in answers if answer.reply is not None]
    entry = {
        name: sum(getattr(reply, name) or 0 for reply in replies)
        for name in ("prompt_tokens", "completion_tokens")
    }
    cost = None if before is None or after is None else after - before
    per_row = cost / n_accepted if cost is not None and n_accepted else None
    return entry | {"cost": cost, "cost_per_row": per_row}
