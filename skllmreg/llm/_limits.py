"""How fast a server may be asked: a token bucket, and what a 429 changes about it."""

from dataclasses import dataclass

# A refusal that names no time, and the smallest distance between requests after one.
FIRST_PAUSE = 0.5
FIRST_SPACING = 0.1
LARGEST_SPACING = 10.0
# A server that wants a longer wait is not waited for.
LONGEST_PAUSE = 3600.0
# The bucket holds this much of a minute: any minute sees 1/60 more than its rate at the most.
BURST = 1.0


@dataclass
class Bucket:
    """State of the limits towards one model on one server; times are seconds since the epoch.

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
