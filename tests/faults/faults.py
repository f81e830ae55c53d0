"""What can go wrong, and what becomes of a run that meets it: the table that is tested and shown.

``python -m tests.faults.faults`` writes the table of docs/user_guide/faults.rst anew.
"""

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from skllmreg.exceptions import (
    AnswerNotStoredWarning,
    BudgetExceededError,
    CacheError,
    GenerationStoppedWarning,
    InvalidReplyError,
    RequestError,
)
from skllmreg.llm._cache import open_store
from tests.loopback import Behaviour, completion, error

GUIDE = Path(__file__).parents[2] / "docs" / "user_guide" / "faults.rst"
READINGS = {
    "text": "text",
    "json": "JSON",
    "rows": "generated rows",
    "proposals": "rows, after their attributes",
    "letter": "votes",
    "logprobs": "log-probabilities",
}

# How many, of the n requests of an entry point, of which m are in the calls up to the bad reply.
COUNTS = {
    "nothing": lambda n, m: 0,
    "all answers": lambda n, m: n,
    "what came before": lambda n, m: 1,
    "all but the damaged one": lambda n, m: n - 1,
    "all answers, the bad one too": lambda n, m: n + 1,
    "all answers, the refused one too": lambda n, m: n,
    "all answers, the three bad ones too": lambda n, m: n + 2,
    "the other replies, the bad one too": lambda n, m: m,
    "the other replies, the three bad ones too": lambda n, m: m + 2,
    "the other replies, both bad ones too": lambda n, m: m + 1,
    "the other replies, all four bad ones too": lambda n, m: m + 3,
    "all answers, and a vote on each": lambda n, m: 2 * n,
    "the rest": lambda n, m: n - 1,
    "everything": lambda n, m: n,
    "the damaged one": lambda n, m: 1,
    "the bad one": lambda n, m: 1 + n - m,
    "one that is refused": lambda n, m: 1,
}


@dataclass(frozen=True)
class Cell:
    """What becomes of a run.

    Parameters
    ----------
    kept, again : str
        Names in `COUNTS`: answers in the cache, and requests of the next run, when the fault is
        over.
    sees : type, default=None
        The error; None for the result.
    words : str
        In the message of the error or the warning.
    warns : type, default=None
    command : bool, default=False
        Whether the next run meets the same error, and sends nothing, until the command that the
        error names was run.
    """

    kept: str = "all answers"
    again: str = "nothing"
    sees: type | None = None
    words: str = ""
    warns: type | None = None
    command: bool = False


RESULT = Cell()
# The reply is listed in `rejected_` with its reason; the other requests go on.
WITHOUT_ITS_ROWS = Cell("all answers, the refused one too")


def refused(words):
    return Cell("what came before", "the rest", RequestError, words)


def unusable(kept, words):
    return Cell(kept, "the bad one", InvalidReplyError, words, command=True)


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong with the second request, or after it.

    Parameters
    ----------
    cells : Cell or dict of str to Cell
        By how replies are read, if it is not the same for all.
    strike : callable
        ``strike(bench, body)`` is the answer to a request from the second on; None is a good one.
    params : dict
        Of the ChatModel.
    mend : callable
        ``mend(bench)`` ends the fault.
    lasting : bool
        Whether it is a trait of the server: there from the first request, and for the next run.
    later : bool
        Whether `strike` happens to the file between two runs, the first of which was well.
    """

    cells: Cell | dict[str, Cell]
    strike: Callable = lambda bench, body: None
    params: dict = field(default_factory=dict)
    mend: Callable = lambda bench: None
    lasting: bool = False
    later: bool = False

    def cell(self, reads):
        if isinstance(self.cells, Cell):
            return self.cells
        return self.cells.get(reads) or self.cells["rows"]  # such as those after proposals


def once(behaviour, **params):
    return Fault(RESULT, lambda bench, body: behaviour if bench.n == 2 else None, params)


def for_good(behaviour, words, **params):
    return Fault(refused(words), lambda bench, body: behaviour, params)


def in_place_of_the_second(change, cells):
    """A reply of no use; where log-probabilities are read, the vote in its place is none, too."""

    def strike(bench, body):
        vote = bench.entry.reads == "logprobs" and "logprobs" not in body
        return change(bench.good(body)) if bench.n == 2 or vote else None

    return Fault(cells, strike)


def changed(payload, text=None, **changes):
    content = payload["choices"][0]["message"]["content"] if text is None else text
    return completion(content, **changes)


def cut_off(payload):
    text = payload["choices"][0]["message"]["content"]
    logprobs = payload["choices"][0]["logprobs"]
    return completion(text[: len(text) // 2 + 1], finish_reason="length", logprobs=logprobs)


def wrong_shape(bench, body):
    return completion('{"other": "value"}' if bench.entry.reads == "json" else "I cannot tell.")


def stubborn(bench, body):
    vote = bench.entry.reads == "logprobs" and "logprobs" not in body
    if bench.n == 2 or vote or (bench.entry.reads != "logprobs" and bench.n <= 4):
        return wrong_shape(bench, body)


def wants_patience(bench, body):
    """A server that insists on its Retry-After."""
    if bench.n == 2:
        bench.closed_until = bench.now() + 0.25
    if bench.now() < bench.closed_until:
        return error(429, headers={"Retry-After": "0.3"})


def goes_away(bench, body):
    bench.loopback.close()
    return Behaviour(reset=True)


def knows_no_extras(bench, body):
    for name in ("response_format", "logprobs"):
        if name in body:
            return error(400, f"Unknown parameter: '{name}'")


def tells_no_logprobs(bench, body):
    return changed(bench.good(body))


# What happens to the cache file while the second answer is under way.


def lock(bench, body):
    if bench.n == 2:
        bench.other = sqlite3.connect(bench.path, isolation_level=None, check_same_thread=False)
        bench.other.execute("BEGIN IMMEDIATE")


def unlock(bench):
    bench.other.close()


def pragma(command):
    def strike(bench, body):
        if bench.n == 2:
            open_store(bench.path).read(f"PRAGMA {command}")

    return strike


def fill_disk(bench, body):
    """No page can be had, and those that are there are full."""
    if bench.n == 2:
        store = open_store(bench.path)
        no_more_pages(store)
        n_refused = 0
        while n_refused < 50:
            try:
                store.read("INSERT INTO leases VALUES (hex(randomblob(32)), 'filler', 0)")
            except CacheError:
                n_refused += 1
    return long_winded(bench.good(body))


def nearly_fill_disk(bench, body):
    """Leases can still be written, answers cannot."""
    if bench.n == 2:
        no_more_pages(open_store(bench.path))
    return long_winded(bench.good(body))


def no_more_pages(store):
    ((n_pages,),) = store.read("PRAGMA page_count")
    store.read(f"PRAGMA max_page_count = {n_pages}")


def long_winded(payload):
    return changed(payload, payload["choices"][0]["message"]["content"] + " " * 5000)


# What happens to the cache file between two runs.


def overwrite(bench, body):
    bench.path.write_bytes(b"\xaa" * bench.path.stat().st_size)


def tear(bench, body):
    """Every page but the first is lost, as after a failing disk."""
    whole = bench.path.read_bytes()
    bench.path.write_bytes(whole[:4096] + bytes(len(whole) - 4096))


def move_away(bench):
    bench.path.rename(bench.path.with_suffix(".broken"))


def damage(bench, body):
    with sqlite3.connect(bench.path) as db:
        db.execute("UPDATE entries SET reply = '{' WHERE rowid = 2")


NOT_STORED = Cell("what came before", "the rest", None, "not stored", AnswerNotStoredWarning)


def stopped(words):
    return Cell("what came before", "the rest", CacheError, words, AnswerNotStoredWarning)


PAGE = Behaviour("<!DOCTYPE html><title>Log in</title>", headers={"Content-Type": "text/html"})
HALF = Behaviour(completion("lost"), cut=30)
BROKEN = Behaviour('{"choices": [')
UNWANTED = "Unsupported value: 'temperature'"

FAULTS = {
    "429, once": once(error(429)),
    "429, for good": for_good(error(429, "slow down"), "status 429: slow down"),
    "429 with Retry-After": Fault(RESULT, wants_patience),
    "429 with Retry-After of hours": for_good(
        error(429, "come back", headers={"Retry-After": "7200"}), "asked again in 2.0 hours"
    ),
    "500, once": once(error(500)),
    "500, for good": for_good(error(500, "down"), "status 500: down"),
    "connection reset, once": once(Behaviour(reset=True)),
    "connection reset, for good": for_good(Behaviour(reset=True), "cannot be reached"),
    "no answer in time, once": once(Behaviour(delay=1.5), timeout=0.3, max_retries=2),
    "no answer in time, for good": for_good(
        Behaviour(delay=1.5), "did not answer within 0.3 s", timeout=0.3
    ),
    "slow drip, once": once(Behaviour(drip=0.02), timeout=0.3, max_retries=2),
    "slow drip, for good": for_good(
        Behaviour(drip=0.02), "still sending its reply after the timeout", timeout=0.3
    ),
    "body broken off, once": once(HALF),
    "body broken off, for good": for_good(HALF, "broke off in its reply"),
    "body no JSON, once": once(BROKEN),
    "body no JSON, for good": for_good(BROKEN, "malformed JSON"),
    "a web page with status 200": for_good(PAGE, "a web page in place of JSON"),
    "400 for a parameter that you set": for_good(error(400, UNWANTED), UNWANTED),
    "400 for a parameter that the package adds": Fault(
        {
            **dict.fromkeys(READINGS, RESULT),
            "logprobs": Cell(again="one that is refused"),
        },
        knows_no_extras,
        lasting=True,
    ),
    "no log-probabilities": Fault(
        {
            **dict.fromkeys(READINGS, RESULT),
            "logprobs": Cell("all answers, and a vote on each"),
        },
        tells_no_logprobs,
        lasting=True,
    ),
    "a reply of the wrong form, once": Fault(
        {
            **dict.fromkeys(READINGS, Cell("all answers, the bad one too")),
            "text": RESULT,
        },
        lambda bench, body: wrong_shape(bench, body) if bench.n == 2 else None,
    ),
    "a reply of the wrong form, three times": Fault(
        {
            "text": RESULT,
            "json": unusable("the other replies, the three bad ones too", "after 2 repair rounds"),
            "rows": Cell("all answers, the three bad ones too"),
            "letter": unusable(
                "the other replies, the three bad ones too", "after 2 repair rounds"
            ),
            "logprobs": unusable(
                "the other replies, all four bad ones too", "after 2 repair rounds"
            ),
        },
        stubborn,
    ),
    "a reply that is cut off": in_place_of_the_second(
        cut_off,
        {
            "text": unusable("the other replies, the bad one too", "raise max_tokens"),
            "json": unusable("the other replies, the bad one too", "raise max_tokens"),
            "rows": WITHOUT_ITS_ROWS,
            "letter": RESULT,
            "logprobs": RESULT,
        },
    ),
    "a refusal": in_place_of_the_second(
        lambda good: completion(None, message={"refusal": "I must not."}),
        {
            **dict.fromkeys(
                ("text", "json", "letter"),
                unusable("the other replies, the bad one too", "refuses to answer: I must not"),
            ),
            "rows": WITHOUT_ITS_ROWS,
            "logprobs": unusable("the other replies, both bad ones too", "refuses to answer"),
        },
    ),
    "no choices": in_place_of_the_second(
        lambda good: good | {"choices": []},
        {
            **dict.fromkeys(
                ("text", "json", "letter"),
                unusable("the other replies, the bad one too", "no choices"),
            ),
            "rows": WITHOUT_ITS_ROWS,
            "logprobs": unusable("the other replies, both bad ones too", "no choices"),
        },
    ),
    "server gone half-way": Fault(
        refused("cannot be reached"), goes_away, mend=lambda bench: bench.restart()
    ),
    "budget reached": Fault(
        {
            **dict.fromkeys(
                READINGS,
                Cell("what came before", "the rest", BudgetExceededError, "request_budget=1"),
            ),
            "proposals": Cell(
                "what came before", "the rest", BudgetExceededError, "not allow a single request"
            ),
            "rows": Cell(
                "what came before", "the rest", None, "the budget", GenerationStoppedWarning
            ),
        },
        params={"request_budget": 1},
    ),
    "disk full": Fault(stopped("Free some space"), fill_disk),
    "disk full for answers alone": Fault(NOT_STORED, nearly_fill_disk),
    "cache file locked": Fault(stopped("Another process has held it"), lock, mend=unlock),
    "cache file read-only": Fault(stopped("readonly"), pragma("query_only = ON")),
    "cache file overwritten": Fault(
        Cell("nothing", "everything", CacheError, "Move the file away"),
        overwrite,
        mend=move_away,
        later=True,
    ),
    "cache file torn": Fault(
        Cell("nothing", "everything", CacheError, "Move the file away"),
        tear,
        mend=move_away,
        later=True,
    ),
    "an entry of the cache damaged": Fault(
        Cell("all but the damaged one", "the damaged one", CacheError, "is damaged", command=True),
        damage,
        later=True,
    ),
}


def table():
    """The table in the form of the user guide."""
    alike: dict = {}
    for name, fault in FAULTS.items():
        alike.setdefault(tuple(map(fault.cell, READINGS)), []).append(name)
    rows = [("What goes wrong", "Read as", "You see", "Kept", "The next run sends")]
    for cells, names in alike.items():
        what = "; ".join(names)
        for cell in dict.fromkeys(cells):
            readings = [r for r, c in zip(READINGS, cells, strict=True) if c == cell]
            rows.append((what, read_as(readings), shown(cell), cell.kept, sent_again(cell)))
            what = ""
    lines = [".. list-table::", "   :header-rows: 1", "   :widths: 24 14 34 14 14", ""]
    for row in rows:
        lines += [f"   {'*' if i == 0 else ' '} - {text}".rstrip() for i, text in enumerate(row)]
    return "\n".join(lines) + "\n"


def read_as(readings):
    if len(readings) == len(READINGS):
        return "any"
    return ", ".join(READINGS[r] for r in readings if r != "proposals" or "rows" not in readings)


def shown(cell):
    if cell.warns and not cell.sees:
        return f"the result, with an {role(cell.warns)}: “{cell.words}”"
    if not cell.sees:
        return "the result"
    warning = f"an {role(cell.warns)}, then " if cell.warns else ""
    return f"{warning}{role(cell.sees)}: “{cell.words}”"


def role(error):
    return f":class:`~skllmreg.exceptions.{error.__name__}`"


def sent_again(cell):
    if cell.command:
        return f"nothing; after the command that the error names, {cell.again}"
    return cell.again


def guide_with_table():
    """The page of the user guide, with its table written anew."""
    head, _, rest = GUIDE.read_text().partition(".. list-table::")
    _, _, tail = rest.partition("\n\n..")  # the comment that ends the table
    return f"{head}{table()}\n..{tail}"


if __name__ == "__main__":
    GUIDE.write_text(guide_with_table())
