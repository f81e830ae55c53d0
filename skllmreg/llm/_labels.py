"""Estimate the probabilities of labels: log-probabilities of the answer, else shares of votes.

A label's probability is read where the text of the answer says the label: not in a thought, and not
in prose that happens to begin with a code.
"""

import math
import re
import string
from dataclasses import dataclass
from typing import Any

import numpy as np

from skllmreg.exceptions import InvalidReplyError, NoAnswerError, ReplayMissError
from skllmreg.llm._engine import ENOUGH, Answering, unusable_replies
from skllmreg.llm._json import THOUGHT
from skllmreg.llm._obtain import FEW_LOGPROBS, Question
from skllmreg.llm._settings import Messages
from skllmreg.llm._values import CUT_OFF, LabelProbabilities, Reply
from skllmreg.utils._process import process

# Capital letters are single tokens of every vocabulary in use.
LETTERS = string.ascii_uppercase
# Servers tell the probabilities of this many tokens at most.
MOST_TOKENS = 20
# What may stand around a label without changing what is said.
_AROUND = " \t\r\n*_`\"'“”‘’()[]{}<>.,:;!#$-"
_PREFIX = re.compile(
    r"\W*(?:(?:the|my)\s+)?(?:(?:final|correct|best)\s+)?"
    r"(?:answer|label|class|category|choice)\b(?:\W*\bis\b)?\W*",
    re.I,
)
_BOXED = re.compile(r"\\boxed\{(?:\\text\{)?([^{}]*)\}")


@dataclass(frozen=True)
class Stated:
    """A label that a text states: its number, where its code or name stands, and which it is."""

    index: int
    start: int
    by_code: bool


@dataclass(frozen=True)
class Labels:
    """Labels and the codes that stand for them in an answer."""

    labels: list[str]
    codes: list[str]

    def find(self, text: str, *, cut_off: bool = False) -> Stated | None:
        """The label that a text states, if it states one and nothing else can be meant.

        ``B``, ``b)``, ``B: refund``, ``refund``, ``Answer: B`` and a box do, a line of explanation
        may follow; any other prose does not. Of a text that is cut off, the beginning of a label
        is enough where no other label begins like this.
        """
        head, _, answer = text.rpartition(THOUGHT)
        offset = len(text) - len(answer)
        if not head and "<think>" in text:
            return None
        sure, plain = [], []
        for box in _BOXED.finditer(answer):
            sure.append(self._one(box[1], offset + box.start(1), cut_off))
        position = offset
        for line in answer.splitlines(keepends=True):
            if prefix := _PREFIX.match(line):
                rest = line[prefix.end() :]
                sure.append(self._one(rest, position + prefix.end(), cut_off))
            if line.strip():
                plain.append(self._one(line, position, cut_off))
            position += len(line)
        found = [one for one in sure if one] or [one for one in plain if one]
        if not found or len({one.index for one in found}) > 1:
            return None
        # Without a word that says so, only the first line is the answer.
        return found[0] if any(sure) or plain[0] == found[0] else None

    def _one(self, text: str, start: int, cut_off: bool) -> Stated | None:
        """The label if the text is its code, its name, or both, and nothing more."""
        start += len(text) - len(text.lstrip(_AROUND))
        text = text.strip(_AROUND)
        if not text:
            return None
        if (index := self.index(text, cut_off=cut_off)) is not None:
            return Stated(index, start, text not in self.labels and self._code(text) is not None)
        first, last = re.split(r"\W+", text)[0], re.split(r"\W+", text)[-1]
        for part, rest, begin in (
            (first, text[len(first) :], 0),
            (last, text[: len(text) - len(last)], len(text) - len(last)),
        ):
            code = self._code(part)
            if code is not None and self._name(rest.strip(_AROUND)) == code:
                return Stated(code, start + begin, True)
        return None

    def index(self, text: str, *, cut_off: bool = False) -> int | None:
        """Which label a text is, by its name or its code."""
        for found in (self._name(text), self._code(text)):
            if found is not None:
                return found
        if cut_off:
            return self.beginning_with(text)
        return None

    def _name(self, text: str) -> int | None:
        if text in self.labels:
            return self.labels.index(text)
        same = [i for i, label in enumerate(self.labels) if label.casefold() == text.casefold()]
        return same[0] if len(same) == 1 else None

    def _code(self, text: str) -> int | None:
        text = text.upper()
        return self.codes.index(text) if text in self.codes else None

    def beginning_with(self, text: str) -> int | None:
        """The only label that begins like this."""
        text = text.strip(_AROUND).casefold()
        same = [i for i, label in enumerate(self.labels) if label.casefold().startswith(text)]
        return same[0] if text and len(same) == 1 else None

    def read_logprobs(self, reply: Reply) -> np.ndarray | None:
        """Probabilities of the labels at the place where an answer states one; None elsewhere."""
        stated = self.find(reply.text, cut_off=(reply.finish_reason or "").lower() in CUT_OFF)
        tokens = reply.logprobs or []
        joined = "".join(token["token"] for token in tokens)
        # Thoughts may be among the tokens and not in the text.
        begin = joined.rfind(reply.text.strip())
        if stated is None or begin < 0:
            return None
        place = begin + stated.start - (len(reply.text) - len(reply.text.lstrip()))
        for token in tokens:
            place -= len(token["token"])
            if place < 0:
                return self._renormalized(token, stated)
        return None

    def _renormalized(self, token: dict[str, Any], stated: Stated) -> np.ndarray | None:
        def which(text: str) -> int | None:
            text = text.strip(_AROUND)
            return self._code(text) if stated.by_code else self.beginning_with(text)

        if which(token["token"]) != stated.index:
            return None
        row = np.zeros(len(self.labels))
        # " A" and "A" are different tokens and the same answer.
        for other in {t["token"]: t for t in [token, *token["top_logprobs"]]}.values():
            index = which(other["token"])
            if index is not None:
                row[index] += math.exp(min(other["logprob"], 0.0))
        total = row.sum()
        return row / total if np.isfinite(total) and total > 0 else None


def label_probabilities(
    chat: Any,
    conversations: list[Messages],
    labels: list[str],
    *,
    n_samples: int,
    method: str,
    **progress: Any,
) -> LabelProbabilities:
    """See `ChatModel.label_probabilities`."""
    labels = [str(label) for label in labels]
    if len(labels) < 2 or len(set(labels)) < len(labels):
        raise ValueError(f"labels are two or more different strings, got {labels!r:.200}.")
    if method not in ("auto", "logprobs", "votes"):
        raise ValueError(f'method is "auto", "logprobs" or "votes", got {method!r}.')
    if method == "logprobs" and len(labels) > len(LETTERS):
        raise ValueError(f"{len(labels)} labels are too many for letters: use votes.")
    if n_samples < 1:
        raise ValueError(f"n_samples is 1 or more, got {n_samples}.")
    reader = Labels(labels, _codes(labels))
    asked = [_ask_for_code(messages, reader) for messages in conversations]
    found = Found(len(asked))
    if method != "votes" and len(labels) <= len(LETTERS):
        _from_logprobs(chat, asked, reader, found, method, progress)
    rows = found.missing()
    if method == "logprobs":
        for i in rows:
            found.failures[i] = InvalidReplyError(
                f"{chat.model!r} tells no log-probabilities of the labels: use votes."
            )
    elif rows:
        _from_votes(chat, asked, rows, reader, found, n_samples, progress)
    if found.failures:
        raise unusable_replies("Prompt", dict(sorted(found.failures.items())), found.rows)
    methods = np.full(len(asked), "logprobs")
    methods[rows] = "votes"
    probabilities = np.array(found.rows).reshape(-1, len(labels))
    return LabelProbabilities(probabilities, methods, np.array(found.cached, dtype=bool))


class Found:
    """What is known of each prompt so far: its probabilities, or what is wrong."""

    def __init__(self, n: int) -> None:
        self.rows: list[np.ndarray | None] = [None] * n
        self.cached = [True] * n
        self.failures: dict[int, InvalidReplyError] = {}

    def missing(self) -> list[int]:
        return [i for i, row in enumerate(self.rows) if row is None and i not in self.failures]


def _codes(labels: list[str]) -> list[str]:
    """A letter for each label, or a number where they are many; one that is such is its own code.

    Else the answer B, of a model that means the label B, could be the code of another.
    """
    n = len(labels)
    codes = list(LETTERS) if n <= len(LETTERS) else [str(i + 1) for i in range(2 * n)]
    free = iter([code for code in codes if code not in labels])
    return [label if label in codes else next(free) for label in labels]


def _ask_for_code(messages: Messages, reader: Labels) -> Messages:
    what = "letter" if reader.codes[0] in LETTERS else "number"
    pairs = zip(reader.codes, reader.labels, strict=True)
    table = "\n".join(f"{code}: {label}" for code, label in pairs)
    last = messages[-1]
    content = f"{last['content']}\n\n{table}\nAnswer with the {what} alone."
    return [*messages[:-1], {**last, "content": content}]


def _from_logprobs(
    chat: Any,
    asked: list[Messages],
    reader: Labels,
    found: Found,
    method: str,
    progress: Any,
) -> None:
    """Probabilities of the rows for which the server tells some of use."""
    wanted = min(MOST_TOKENS, max(FEW_LOGPROBS, 2 * len(reader.codes)))
    obtain = chat._obtain(Question(top_logprobs=wanted))
    if obtain.settings.replay:
        # What a server refused when it was recorded is missed; there may be less, or votes.
        for top in dict.fromkeys((wanted, FEW_LOGPROBS)):
            try:
                replies, found.failures = _replies(
                    chat, asked, Question(top_logprobs=top), progress
                )
            except ReplayMissError:
                if method == "logprobs" and top == FEW_LOGPROBS:
                    raise
                continue
            return _take_logprobs(replies, range(len(asked)), reader, found)
        return
    name = ("tells log-probabilities", obtain.settings.url, chat.model)
    start = 0
    # A server that tells none is found out with the first prompts.
    for stop in (len(asked),) if name in process.noted else (ENOUGH, len(asked)):
        part = range(start, min(stop, len(asked)))
        obtain = chat._obtain(Question(top_logprobs=wanted))
        top = obtain.allowed_logprobs(wanted)
        if not part or not top:
            break
        replies, failures = _replies(
            chat, [asked[i] for i in part], Question(top_logprobs=top), progress
        )
        found.failures |= {part[i]: failure for i, failure in failures.items()}
        _take_logprobs(replies, part, reader, found)
        if any(reply and reply.logprobs for reply in replies):
            process.noted.add(name)
        elif any(replies) and chat._obtain(Question()).allowed_logprobs(wanted):
            obtain.note_refused("logprobs", 2, "It took the parameter and told none.")
            obtain.warn_of_news()
        start = stop


def _take_logprobs(replies: list[Any], part: range, reader: Labels, found: Found) -> None:
    for i, reply in zip(part, replies, strict=True):
        if reply is not None:
            found.rows[i] = reader.read_logprobs(reply)
            found.cached[i] = reply.cached


def _from_votes(
    chat: Any,
    asked: list[Messages],
    rows: list[int],
    reader: Labels,
    found: Found,
    n_samples: int,
    progress: Any,
) -> None:
    """The shares of the answers to each prompt; a failure where one of them is of no use."""
    if chat.temperature == 0:
        n_samples = 1  # all further ones would be the same

    def validate(text: str) -> int:
        stated = reader.find(text)
        if stated is None:
            raise ValueError(f"one of {', '.join(reader.codes)} is wanted and nothing else")
        return stated.index

    repeated = [asked[i] for i in rows for _ in range(n_samples)]
    ended: NoAnswerError | None = None
    try:
        replies, failures = _replies(chat, repeated, Question(), progress, validate)
    except NoAnswerError as error:
        ended, replies, failures = error, error.replies, error.failures
    for i in sorted(failures):
        row = rows[i // n_samples]
        first = found.failures.setdefault(row, failures[i])
        if first is not failures[i]:
            first.cache = first.cache or failures[i].cache
            first.keys += failures[i].keys
    if ended is not None:
        raise unusable_replies("Prompt", found.failures, found.rows, ended=True) from None
    for n, row in enumerate(rows):
        if row not in found.failures:
            votes = replies[n * n_samples : (n + 1) * n_samples]
            found.rows[row] = (
                np.bincount([vote.value for vote in votes], minlength=len(reader.codes)) / n_samples
            )
            found.cached[row] &= all(vote.cached for vote in votes)


def _replies(
    chat: Any,
    asked: list[Messages],
    question: Question,
    progress: Any,
    validate: Any = None,
) -> tuple[list[Any], dict[int, InvalidReplyError]]:
    """Replies, None for those of no use, and what is wrong with these."""
    answering = Answering(chat._obtain(question), validate=validate, first_token=True)
    try:
        return answering.run(asked, **progress), {}
    except NoAnswerError:
        raise
    except InvalidReplyError as error:
        return error.replies, error.failures
