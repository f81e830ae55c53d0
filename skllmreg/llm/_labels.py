"""Estimate the probabilities of labels: log-probabilities of the answer, else shares of votes.

A label's probability is read where the text of the answer says the label: not in a thought, and not
in prose that happens to begin with a code.
"""

import math
import os
import re
import string
from dataclasses import dataclass
from typing import Any

import numpy as np

from skllmreg.exceptions import InvalidReplyError, NoAnswerError, ReplayMissError
from skllmreg.llm._engine import ENOUGH, Answering, unusable_replies
from skllmreg.llm._replies import FEW_LOGPROBS
from skllmreg.llm._settings import Messages
from skllmreg.llm._values import CUT_OFF, LabelProbabilities, Question, Reply
from skllmreg.utils._json import THOUGHT
from skllmreg.utils._process import process
from skllmreg.utils._text import on_one_line

# Capital letters are single tokens of every vocabulary in use.
LETTERS = string.ascii_uppercase
# Servers tell the probabilities of this many tokens at most.
MOST_TOKENS = 20
# Letters that names may have in common at their beginning, see `names_tell_apart`.
MOST_SHARED = 2
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
    """Labels and the codes that stand for them in an answer; no codes where names are asked for."""

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
        begun = self.beginning_with(text) if cut_off else []
        return begun[0] if len(begun) == 1 else None

    def _name(self, text: str) -> int | None:
        if text in self.labels:
            return self.labels.index(text)
        same = [i for i, label in enumerate(self.labels) if label.casefold() == text.casefold()]
        return same[0] if len(same) == 1 else None

    def _code(self, text: str) -> int | None:
        text = text.upper()
        return self.codes.index(text) if text in self.codes else None

    def beginning_with(self, text: str) -> list[int]:
        """The labels that a text begins; the one that it is, if it is one."""
        text = text.strip(_AROUND).casefold()
        exact = [i for i, label in enumerate(self.labels) if label.casefold() == text]
        longer = [i for i, label in enumerate(self.labels) if label.casefold().startswith(text)]
        return (exact or longer) if text else []

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
        for at, token in enumerate(tokens):
            place -= len(token["token"])
            if place < 0:
                row = self._by_code(token) if stated.by_code else self._by_name(tokens[at:])
                total = row.sum()
                # What is chosen there has to be what the text says.
                usable = 0 < total < np.inf and row[stated.index] > 0
                return row / total if usable else None
        return None

    def _by_code(self, token: dict[str, Any]) -> np.ndarray:
        """What the codes have of the probability at one place."""
        row = np.zeros(len(self.labels))
        for text, probability in _alternatives(token):
            index = self._code(text.strip(_AROUND))
            if index is not None:
                row[index] += probability
        return row

    def _by_name(self, tokens: list[dict[str, Any]]) -> np.ndarray:
        """What the names have of the probability at the place where one begins.

        Where the token that was written begins several names, the next one decides between them; a
        token that was not written is shared among the names that it begins.
        """
        row, said, weight = np.zeros(len(self.labels)), "", 1.0
        for token in tokens:
            written = said + token["token"]
            for text, probability in _alternatives(token):
                names = self.beginning_with(said + text)
                if len(names) > 1 and text == token["token"]:
                    continue
                for index in names:
                    row[index] += weight * probability / len(names)
            if len(self.beginning_with(written)) < 2:
                break
            said, weight = written, weight * math.exp(min(token["logprob"], 0.0))
        return row


def _alternatives(token: dict[str, Any]) -> list[tuple[str, float]]:
    """The tokens at one place with their probabilities; the one that was written is the first."""
    # " A" and "A" are different tokens and the same answer.
    different = {other["token"]: other for other in [token, *token["top_logprobs"]]}
    return [(text, math.exp(min(t["logprob"], 0.0))) for text, t in different.items()]


def label_probabilities(
    chat: Any,
    conversations: list[Messages],
    labels: list[str],
    *,
    n_samples: int,
    method: str,
    answer_with: str = "auto",
    **progress: Any,
) -> LabelProbabilities:
    """See `ChatModel.label_probabilities`."""
    asked, reader = asked_for_labels(conversations, labels, n_samples, method, answer_with)
    labels = reader.labels
    found = Found(len(asked))
    if method != "votes" and most_logprobs(reader):
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
        error = unusable_replies("Prompt", dict(sorted(found.failures.items())), found.rows)
        error.answers = found.answers(len(labels))
        raise error
    return found.answers(len(labels))


def asked_for_labels(
    conversations: list[Messages],
    labels: list[str],
    n_samples: int,
    method: str,
    answer_with: str,
) -> tuple[list[Messages], Labels]:
    """Check what is asked, and say in each prompt which answers there are.

    Parameters
    ----------
    conversations, labels, n_samples, method, answer_with
        As for `label_probabilities`.

    Returns
    -------
    asked : list of list of {"role", "content"}
    reader : Labels
        Reads the answers.
    """
    labels = [str(label) for label in labels]
    if len(labels) < 2 or len(set(labels)) < len(labels):
        raise ValueError(f"labels are two or more different strings, got {labels!r:.200}.")
    if method not in ("auto", "logprobs", "votes"):
        raise ValueError(f'method is "auto", "logprobs" or "votes", got {method!r}.')
    if answer_with not in ("auto", "name", "code"):
        raise ValueError(f'answer_with is "auto", "name" or "code", got {answer_with!r}.')
    by_name = answer_with == "name" or (answer_with == "auto" and names_tell_apart(labels))
    if by_name and (split := [label for label in labels if on_one_line(label) != label]):
        raise ValueError(
            f"The label {split[0]!r:.100} has a line end, or an invisible character, which no "
            'answer repeats: use answer_with="code".'
        )
    if method == "logprobs" and len(labels) > len(LETTERS) and not by_name:
        raise ValueError(f"{len(labels)} labels are too many for letters: use votes.")
    if n_samples < 1:
        raise ValueError(f"n_samples is 1 or more, got {n_samples}.")
    reader = Labels(labels, [] if by_name else _codes(labels))
    return [_ask_for_label(messages, reader) for messages in conversations], reader


def most_logprobs(reader: Labels) -> int:
    """How many likely tokens are of use; 0 where labels are numbers, of several tokens."""
    if reader.codes and len(reader.labels) > len(LETTERS):
        return 0
    return min(MOST_TOKENS, max(FEW_LOGPROBS, 2 * len(reader.labels)))


class Found:
    """What is known of each prompt so far: its probabilities, or what is wrong."""

    def __init__(self, n: int) -> None:
        self.rows: list[np.ndarray | None] = [None] * n
        self.methods = [""] * n
        self.cached = [True] * n
        self.failures: dict[int, InvalidReplyError] = {}

    def answers(self, n_labels: int) -> LabelProbabilities:
        """What is known; NaN, and "" as the method, for prompts without an answer."""
        probabilities = np.full((len(self.rows), n_labels), np.nan)
        for i, row in enumerate(self.rows):
            if row is not None:
                probabilities[i] = row
        methods = np.array(self.methods, dtype="<U8")
        return LabelProbabilities(probabilities, methods, np.array(self.cached, dtype=bool))

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


def names_tell_apart(labels: list[str]) -> bool:
    """Whether the first token of an answer tells which label's name it begins.

    Tokens are not known here. Names that differ in their first letter have different first tokens
    in every vocabulary. Vocabularies hold the beginnings of words of some letters, too, so that
    ASCII names may share the first two. Digits are often tokens of their own, and other letters
    several tokens each: there, as for names that begin with another name, codes are safe.
    """
    if len(labels) > len(LETTERS) or not all(map(_is_word, labels)):
        return False
    names = sorted(label.casefold() for label in labels)
    for name, following in zip(names, names[1:], strict=False):
        shared = os.path.commonprefix([name, following])
        if len(shared) > MOST_SHARED or shared == name:
            return False
    return True


def _is_word(label: str) -> bool:
    """Whether a label begins with an ASCII letter and can be copied on one line."""
    return (
        label[:1].isalpha() and label.isascii() and label.isprintable() and label == label.strip()
    )


def _ask_for_label(messages: Messages, reader: Labels) -> Messages:
    """Say which answers there are, first: what all prompts share is at their beginning."""
    # A label with a line end would be two rows, of which the second may look like another's.
    labels = [*map(on_one_line, reader.labels)]
    if reader.codes:
        what = "letter" if reader.codes[0] in LETTERS else "number"
        pairs = zip(reader.codes, labels, strict=True)
        table = "\n".join(f"{code}: {label}" for code, label in pairs)
        answers = f"{table}\nAnswer with the {what} alone."
    else:
        answers = "Answer with one of these and nothing else:\n" + "\n".join(labels)
    first, *others = messages
    if first["role"] in ("system", "developer"):
        return [{**first, "content": f"{first['content']}\n\n{answers}"}, *others]
    return [{"role": "system", "content": answers}, *messages]


def _from_logprobs(
    chat: Any,
    asked: list[Messages],
    reader: Labels,
    found: Found,
    method: str,
    progress: Any,
) -> None:
    """Probabilities of the rows for which the server tells some of use."""
    wanted = most_logprobs(reader)
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
    # A server that tells none is found out with the first prompts; before a batch job, with one.
    n_first = 1 if obtain.settings.delivery == "batch" else ENOUGH
    for stop in (len(asked),) if name in process.noted else (n_first, len(asked)):
        part = range(start, min(stop, len(asked)))
        obtain = chat._obtain(Question(top_logprobs=wanted))
        top = obtain.additions.allowed_logprobs(wanted)
        if not part or not top:
            break
        replies, failures = _replies(
            chat, [asked[i] for i in part], Question(top_logprobs=top), progress, live=stop == 1
        )
        found.failures |= {part[i]: failure for i, failure in failures.items()}
        _take_logprobs(replies, part, reader, found)
        if any(reply and reply.logprobs for reply in replies):
            process.noted.add(name)
        elif any(replies) and chat._obtain(Question()).additions.allowed_logprobs(wanted):
            obtain.additions.note("logprobs", 2, "It took the parameter and gave none.")
            obtain.warn_of_news()
        start = stop


def _take_logprobs(replies: list[Any], part: range, reader: Labels, found: Found) -> None:
    for i, reply in zip(part, replies, strict=True):
        if reply is not None:
            found.rows[i] = reader.read_logprobs(reply)
            found.methods[i] = "" if found.rows[i] is None else "logprobs"
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
            wanted = ", ".join(reader.codes or reader.labels)
            raise ValueError(f"one of {wanted} is wanted and nothing else")
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
                np.bincount([vote.value for vote in votes], minlength=len(reader.labels))
                / n_samples
            )
            found.methods[row] = "votes"
            found.cached[row] &= all(vote.cached for vote in votes)


def _replies(
    chat: Any,
    asked: list[Messages],
    question: Question,
    progress: Any,
    validate: Any = None,
    *,
    live: bool = False,
) -> tuple[list[Any], dict[int, InvalidReplyError]]:
    """Replies, None for those of no use, and what is wrong with these."""
    obtain = chat._obtain(question, live=live)
    answering = Answering(obtain, validate=validate, first_token=True)
    try:
        return answering.run(asked, **progress), {}
    except NoAnswerError:
        raise
    except InvalidReplyError as error:
        return error.replies, error.failures
