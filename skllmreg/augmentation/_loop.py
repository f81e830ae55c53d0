"""The rounds of GOLD: ask, curate, study what is new, ask again near it."""

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from skllmreg.augmentation._feedback import choose_feedback
from skllmreg.augmentation._text import shown
from skllmreg.exceptions import BudgetExceededError, GenerationError
from skllmreg.llm._progress import progress_bar

# So many rounds in succession that bring less than this share of new rows end it.
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
    """A row that was written, of the class with this code; `score` is nan until it is studied."""

    row: Any
    code: int
    round: int
    novel: bool
    score: float = np.nan


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
        self._replies: list[tuple[str, str]] = []  # the last few, and what was wrong with them
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
        idle = 0
        while not self.termination:
            room = self.max_requests - self.asker.n_requests
            requests = self.asker.next_round(len(self.history), self.counts(), room)
            new = self._round(requests)
            n_wanted = sum(request.n_rows for request in requests)
            idle = 0 if new and len(new) >= LEAST_NEW * n_wanted else idle + 1
            self.termination = self.termination or self._end(idle)
            if not self.termination and self.scores is not None:
                self._study(new)
            tick(1)

    def counts(self):
        """How many rows of each class are accepted."""
        codes = np.array([written.code for written in self.accepted], dtype=int)
        return np.bincount(codes, minlength=len(self.asker.labels))

    def _end(self, idle):
        """Why this was the last round, "" if it was not."""
        if np.all(self.counts() >= self.asker.plan.quotas):
            return "n_samples"
        if self.asker.n_requests >= self.max_requests:
            return "max_requests"
        if len(self.history) >= self.n_rounds:
            return "n_rounds"
        return "nothing_new" if idle == PATIENCE else ""

    def _round(self, requests):
        """Have requests answered and their rows curated; also what came before an error.

        Returns
        -------
        list of Written
            The rows accepted.
        """
        answers, new = [], []
        entry: dict[str, Any] = {"feedback": sum(len(request.feedback) for request in requests)}
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
                entry["requests"] = sum(answer.asked for answer in answers)
                entry |= tally(new, self.rejected[n_rejected:])
                before, self.paid = self.paid, self.spent()
                entry |= account(answers, before, self.paid, len(new))
        return new

    def _curate(self, exchanges):
        """Accept the rows of answers that pass all checks."""
        number, written, reasons = len(self.history) - 1, [], []
        for request, answer in exchanges:
            if not answer.asked:
                continue
            if answer.problem:
                verdicts = [f"reply: {answer.problem}"]
                self.rejected.append(Rejected(answer.text, request.label, number, verdicts[0]))
            else:
                verdicts = self.curator.admit(answer.rows, [request.label] * len(answer.rows))
                code = self.asker.labels.index(request.label)
                written += [Written(row, code, number, request.novel) for row in answer.rows]
                reasons += verdicts
            text = answer.text or "; ".join(shown(row) for row in answer.rows)
            self._replies.append((text, next(filter(None, verdicts), "no rows")))
        del self._replies[:-SHOWN_REPLIES]
        self._reject(written, reasons)
        new = [one for one, reason in zip(written, reasons, strict=True) if not reason]
        if self.doubts is None or not new:
            self.accepted += new
            return new
        # Checks may cost a call of the teacher, so they come last, and may fail.
        reasons = ["label: not checked"] * len(new)
        try:
            reasons = self.doubts([one.row for one in new], [one.code for one in new])
        except BudgetExceededError:
            self.termination = "budget"
        finally:
            doubted = self._reject(new, reasons)
            self.curator.release([one.label for one in doubted])
            new = [one for one, reason in zip(new, reasons, strict=True) if not reason]
            self.accepted += new
        return new

    def _reject(self, written, reasons):
        """Set aside what there is a reason against."""
        refused = [
            Rejected(one.row, self.asker.labels[one.code], one.round, reason)
            for one, reason in zip(written, reasons, strict=True)
            if reason
        ]
        self.rejected += refused
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
        replies = "\n".join(
            f"--- {reason}\n{text[:SHOWN_CHARACTERS]}" for text, reason in self._replies
        )
        return GenerationError(
            f"Nothing of what {self.asker.n_requests} requests brought can be used ({why}). "
            f"The last replies:\n{replies}"
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
