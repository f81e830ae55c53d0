"""What can go wrong, and what becomes of a run that meets it: the table that is tested and shown.

``python -m tests.faults.faults`` writes the table of docs/user_guide/faults.rst anew.
"""

import dataclasses
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
    ServerLimitWarning,
)
from tests.faults import strikes
from tests.loopback import Behavior, chunks, completion, error

GUIDE = Path(__file__).parents[2] / "docs" / "user_guide" / "faults.rst"
READINGS = {
    "text": "text",
    "json": "JSON",
    "rows": "generated rows",
    "proposals": "rows, after their attributes",
    "letter": "votes",
    "logprobs": "log-probabilities",
}

# How many, of the n requests of an entry point, of which m are in the calls up to the bad reply and
# k in the first call.
COUNTS = {
    "nothing": lambda n, m, k: 0,
    "all answers": lambda n, m, k: n,
    "what came before": lambda n, m, k: 1,
    "all but the damaged one": lambda n, m, k: n - 1,
    "all answers, the bad one too": lambda n, m, k: n + 1,
    "all answers, the refused one too": lambda n, m, k: n,
    "all answers, the three bad ones too": lambda n, m, k: n + 2,
    "all other answers": lambda n, m, k: n - 1,
    "the other replies": lambda n, m, k: m - 1,
    "the other replies, the bad one too": lambda n, m, k: m,
    "the other replies, the three bad ones too": lambda n, m, k: m + 2,
    "the other replies, both bad ones too": lambda n, m, k: m + 1,
    "the other replies, all four bad ones too": lambda n, m, k: m + 3,
    "all answers, and a vote on each of the first call": lambda n, m, k: n + k,
    "the rest": lambda n, m, k: n - 1,
    "everything": lambda n, m, k: n,
    "the damaged one": lambda n, m, k: 1,
    "the bad one": lambda n, m, k: 1 + n - m,
    "one that is refused": lambda n, m, k: 1,
    "one, with log-probabilities": lambda n, m, k: 1,
    "the one that was cut": lambda n, m, k: 1,
    "one, in two forms": lambda n, m, k: 2,
    "one, in five forms": lambda n, m, k: 5,
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
SAID = Cell(words="The server t", warns=ServerLimitWarning)
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
    longest : float
        How many times the timeout a reply may take that keeps coming.
    """

    cells: Cell | dict[str, Cell]
    strike: Callable = lambda bench, body: None
    params: dict = field(default_factory=dict)
    mend: Callable = lambda bench: None
    lasting: bool = False
    later: bool = False
    longest: float = 10.0

    def cell(self, reads):
        if isinstance(self.cells, Cell):
            return self.cells
        return self.cells.get(reads) or self.cells["rows"]  # such as those after proposals


def once(behavior, longest=10.0, **params):
    def strike(bench, body):
        return behavior if bench.n == 2 else None

    return Fault(RESULT, strike, params, longest=longest)


def for_good(behavior, words, longest=10.0, **params):
    return Fault(refused(words), lambda bench, body: behavior, params, longest=longest)


def in_place_of_the_second(change, cells):
    """A reply of no use; where log-probabilities are read, the vote in its place is none, too."""

    def strike(bench, body):
        return change(bench.good(body)) if strikes.is_second(bench, body) else None

    return Fault(cells, strike)


NOT_STORED = Cell("what came before", "the rest", None, "not stored", AnswerNotStoredWarning)


def stopped(words):
    return Cell("what came before", "the rest", CacheError, words, AnswerNotStoredWarning)


PAGE = Behavior("<!DOCTYPE html><title>Log in</title>", headers={"Content-Type": "text/html"})
VALUES = Behavior(f"[{'{},' * 2_100_000}0]")
PACKED = Behavior(b"...", headers={"Content-Encoding": "br"})
HALF = Behavior(completion("lost"), cut=30)
BROKEN = Behavior('{"choices": [')
FILTERED = "The prompt is refused"
STREAM = chunks(completion("lost"))
# What the server sends last, when it has begun to answer.
DIED = 'data: {"error": {"message": "engine died", "code": 503}}\n\n'

FAULTS = {
    "429, once": once(error(429)),
    "429, for good": for_good(error(429, "slow down"), "status 429: slow down"),
    "429 with Retry-After": Fault(RESULT, strikes.wants_patience),
    "429 with Retry-After of hours": for_good(
        error(429, "come back", headers={"Retry-After": "7200"}), "asked again in 2.0 hours"
    ),
    "500, once": Fault(
        {
            **dict.fromkeys(READINGS, RESULT),
            "logprobs": Cell(again="one, with log-probabilities"),
        },
        lambda bench, body: error(500) if bench.n == 2 else None,
    ),
    "500, for good": for_good(error(500, "down"), "status 500: down"),
    "529, for good": for_good(error(529, "overloaded"), "status 529: overloaded"),
    "connection reset, once": once(Behavior(reset=True)),
    "connection reset, for good": for_good(Behavior(reset=True), "cannot be reached"),
    "no answer in time, once": once(Behavior(delay=1.5), timeout=0.3, max_retries=2),
    "no answer in time, for good": for_good(Behavior(delay=1.5), "raise timeout", timeout=0.5),
    # The timeout itself is long: a busy machine is late with good answers, too.
    "slow drip, once": once(Behavior(drip=0.02), longest=0.01, timeout=30),
    "slow drip, for good": for_good(
        Behavior(drip=0.02), "is still sending its reply", longest=0.01, timeout=30
    ),
    "silence in a stream, then life": Fault(
        RESULT, strikes.comes_slowly, {"timeout": 1.5, "max_retries": 0}
    ),
    "stream broken off, once": once(Behavior(events=STREAM[:3], cut=0)),
    "stream broken off, for good": for_good(
        Behavior(events=STREAM[:3]), "broke off in its reply: the stream has no end"
    ),
    "error within a stream, once": once(Behavior(events=[*STREAM[:3], DIED])),
    "error within a stream, for good": for_good(
        Behavior(events=[*STREAM[:3], DIED]), "status 503: engine died"
    ),
    "stream ignored": Fault(RESULT, strikes.answers_whole, lasting=True),
    "stream refused": Fault(
        {**dict.fromkeys(READINGS, SAID), "logprobs": RESULT},
        strikes.refuses_streams,
        lasting=True,
    ),
    "body broken off, once": once(HALF),
    "body broken off, for good": for_good(HALF, "broke off in its reply"),
    "body no JSON, once": once(BROKEN),
    "body no JSON, for good": for_good(BROKEN, "malformed JSON"),
    "body of too many values, once": once(VALUES),
    "body of too many values, for good": for_good(VALUES, "holds too many values"),
    "body packed in a way that was not asked for": for_good(PACKED, "packed its reply as"),
    "a second reply to one request": Fault(RESULT, strikes.says_more),
    "a web page with status 200": for_good(PAGE, "a web page in place of JSON"),
    "400 for a parameter that the package adds": Fault(
        {
            **dict.fromkeys(("text", "letter"), RESULT),
            **dict.fromkeys(("json", "rows", "logprobs"), SAID),
        },
        strikes.knows_no_extras,
        lasting=True,
    ),
    "400 of a content filter, for one prompt": Fault(
        {
            **dict.fromkeys(
                ("text", "json", "letter", "logprobs"),
                Cell("the other replies", "one that is refused", InvalidReplyError, FILTERED),
            ),
            "rows": Cell("all other answers", "one that is refused"),
        },
        strikes.filters,
        lasting=True,
    ),
    "400 in words of its own, for one prompt": Fault(
        {
            **dict.fromkeys(
                ("text", "letter"),
                Cell("the other replies", "one, in two forms", InvalidReplyError, FILTERED),
            ),
            "json": Cell("the other replies", "one, in five forms", InvalidReplyError, FILTERED),
            "rows": Cell("all other answers", "one, in five forms"),
            "logprobs": Cell("the other replies", "one, in two forms", InvalidReplyError, FILTERED),
        },
        strikes.has_words_of_its_own,
        lasting=True,
    ),
    "no log-probabilities": Fault(
        {
            **dict.fromkeys(READINGS, RESULT),
            "logprobs": dataclasses.replace(
                SAID, kept="all answers, and a vote on each of the first call"
            ),
        },
        strikes.tells_no_logprobs,
        lasting=True,
    ),
    "a reply of the wrong form, once": Fault(
        {
            **dict.fromkeys(READINGS, Cell("all answers, the bad one too")),
            "text": RESULT,
        },
        lambda bench, body: strikes.wrong_shape(bench, body) if bench.n == 2 else None,
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
        strikes.stubborn,
    ),
    "a reply that is cut off": in_place_of_the_second(
        strikes.cut_off,
        {
            "text": unusable("the other replies, the bad one too", "raise max_tokens"),
            "json": unusable("the other replies, the bad one too", "raise max_tokens"),
            "rows": WITHOUT_ITS_ROWS,
            "letter": RESULT,  # the beginning says which label it was
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
            "logprobs": unusable("the other replies, the bad one too", "refuses to answer"),
        },
    ),
    "no choices": in_place_of_the_second(lambda good: good | {"choices": []}, RESULT),
    "an answer that is blank": in_place_of_the_second(lambda good: completion(" "), RESULT),
    "an answer with an error in it": in_place_of_the_second(
        lambda good: completion("half", finish_reason="error"), dict.fromkeys(READINGS, RESULT)
    ),
    "an answer that the end of the context cut": in_place_of_the_second(
        lambda good: completion("half", finish_reason="model_length"),
        {
            **dict.fromkeys(
                ("text", "json", "letter", "logprobs"),
                Cell("the other replies", "the bad one", InvalidReplyError, "context of the model"),
            ),
            "rows": Cell("all other answers", "the one that was cut"),
            "proposals": Cell("all other answers", "the bad one"),
        },
    ),
    "server gone half-way": Fault(
        refused("cannot be reached"), strikes.goes_away, mend=lambda bench: bench.restart()
    ),
    "budget reached": Fault(
        {
            **dict.fromkeys(
                READINGS,
                Cell("what came before", "the rest", BudgetExceededError, "request_budget=1"),
            ),
            "proposals": Cell(
                "what came before",
                "the rest",
                BudgetExceededError,
                "after that for their attributes",
            ),
            "rows": Cell(
                "what came before", "the rest", None, "the budget", GenerationStoppedWarning
            ),
        },
        params={"request_budget": 1},
    ),
    "disk full": Fault(stopped("Free some space"), strikes.fill_disk),
    "disk full for answers alone": Fault(NOT_STORED, strikes.nearly_fill_disk),
    "cache file locked": Fault(
        stopped("Another process has held it"), strikes.lock, mend=strikes.unlock
    ),
    "cache file read-only": Fault(stopped("readonly"), strikes.pragma("query_only = ON")),
    "cache file overwritten": Fault(
        Cell("nothing", "everything", CacheError, "Move the file away"),
        strikes.overwrite,
        mend=strikes.move_away,
        later=True,
    ),
    "cache file torn": Fault(
        Cell("nothing", "everything", CacheError, "Move the file away"),
        strikes.tear,
        mend=strikes.move_away,
        later=True,
    ),
    "cache file with a view or a trigger": Fault(
        Cell("nothing", "everything", CacheError, "parts that this package does not make"),
        strikes.add_view,
        mend=strikes.move_away,
        later=True,
    ),
    "cache file on a drive without file locks": Fault(
        Cell("all answers", "nothing", CacheError, "no file locks"),
        strikes.take_locks,
        mend=strikes.give_locks,
        later=True,
    ),
    "an entry of the cache damaged": Fault(
        Cell("all but the damaged one", "the damaged one", CacheError, "is damaged", command=True),
        strikes.damage,
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
    lines = [".. list-table::", "   :header-rows: 1", "   :widths: 22 13 31 15 19", ""]
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
