"""Read which label an answer states, and how likely its log-probabilities make the others.

A label's probability is read where the text of the answer says the label: not in a thought, and not
in prose that happens to begin with a code.
"""

import math
import os
import re
import string
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from skllmreg.llm._values import CUT_OFF, Record, Reply
from skllmreg.utils._process import process
from skllmreg.utils._thoughts import split_thoughts

# Capital letters are single tokens of every vocabulary in use.
LETTERS = string.ascii_uppercase
# Answers without log-probabilities of use that end the asking for them; and how many with some that
# cannot be matched with the answer are needed, before that is taken for a trait of the server.
ENOUGH_WITHOUT, FEW_UNMATCHED = 5, 3
# Letters that names may have in common at their beginning, see `names_tell_apart`.
MOST_SHARED = 2
# What may stand around a label without changing what is said.
_AROUND = " \t\r\n*_`\"'“”‘’()[]{}<>.,:;!#$-"
_PREFIX = re.compile(
    r"\W*(?:(?:the|my)\s+)?(?:(?:final|correct|best)\s+)?"
    r"(?:answer|label|class|category|choice)\b(?:\W*\bis\b)?\W*",
    re.I,
)
_SPECIAL = re.compile(r"\s*(<[^<>]*>|\[[A-Z]+\])?\s*")  # as a token: the end of an answer
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
        found = split_thoughts(text)
        if found is None:
            return None
        offset, answer = found
        if not cut_off and answer.strip() in self.labels:  # of several lines, or in brackets
            start = offset + len(answer) - len(answer.lstrip())
            return Stated(self.labels.index(answer.strip()), start, False)
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
        said = [one for one in sure if one] or [one for one in plain if one]
        if not said or len({one.index for one in said}) > 1:
            return None
        # Without a word that says so, only the first line is the answer.
        return said[0] if any(sure) or plain[0] == said[0] else None

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
        if cut_off:
            begun = self._begun(text) or self._begun(text.upper(), self.codes)
            return begun[0] if len(begun) == 1 else None
        for found in (self._name(text), self._code(text)):
            if found is not None:
                return found
        return None

    def _name(self, text: str) -> int | None:
        if text in self.labels:
            return self.labels.index(text)
        same = [i for i, label in enumerate(self.labels) if label.casefold() == text.casefold()]
        return same[0] if len(same) == 1 else None

    def _code(self, text: str) -> int | None:
        text = text.upper()
        return self.codes.index(text) if text in self.codes else None

    def _begun(self, text: str, names: list[str] | None = None) -> list[int]:
        """The labels that a text begins, in this case of letters, else in any."""
        names = self.labels if names is None else names
        if not text:
            return []
        begun = [i for i, name in enumerate(names) if name.startswith(text)]
        text = text.casefold()
        return begun or [i for i, name in enumerate(names) if name.casefold().startswith(text)]

    def meant_by(self, said: bytes, token: bytes) -> list[int]:
        """The labels that an answer can still be, or is, after what was said and one more token."""
        text = (said + token).decode(errors="ignore")
        if (
            said
            and _SPECIAL.fullmatch(token.decode(errors="ignore"))
            and token.strip(b" ") == token
        ):
            found = self._name(said.decode(errors="ignore").strip(_AROUND))
            return [] if found is None else [found]
        begun = self._begun(text.lstrip()) or self._begun(text.lstrip(_AROUND))
        if not begun and (found := self._name(text.strip(_AROUND))) is not None:
            begun = [found]
        return begun

    def begin_each_other(self) -> bool:
        """Whether one label is the beginning of another."""
        return any(len(self._begun(label)) > 1 for label in self.labels)

    def read_logprobs(self, reply: Reply | Record) -> np.ndarray | None:
        """Probabilities of the labels at the place where an answer states one; None elsewhere."""
        text = reply.text or ""
        stated = self.find(text, cut_off=(reply.finish_reason or "").lower() in CUT_OFF)
        if stated is not None and reply.logprobs:
            for spelling in SPELLINGS:
                row = self._read(stated, text, [spelled(t, spelling) for t in reply.logprobs])
                if row is not None:
                    return row
        return None

    def _read(self, stated: Stated, text: str, tokens: "list[Spelled]") -> np.ndarray | None:
        # Thoughts may be among the tokens and not in the text.
        begin = b"".join(token.text for token in tokens).rfind(text.strip().encode())
        if begin < 0:
            return None
        place = begin + len(text[: stated.start].lstrip().encode())
        for at, token in enumerate(tokens):
            place -= len(token.text)
            if place < 0:
                if len(token.likely) < 2:
                    return None  # what else was likely is not known
                row = self._by_code(token) if stated.by_code else self._by_name(tokens[at:])
                total = row.sum()
                # What is chosen there has to be what the text says.
                usable = 0 < total < np.inf and row[stated.index] > 0
                return row / total if usable else None
        return None

    def _by_code(self, token: "Spelled") -> np.ndarray:
        """What the codes have of the probability at one place."""
        row = np.zeros(len(self.labels))
        for text, probability in token.likely.items():
            index = self._code(text.decode(errors="ignore").strip(_AROUND))
            if index is not None:
                row[index] += probability
        return row

    def _by_name(self, tokens: "list[Spelled]") -> np.ndarray:
        """What the names have of the probability at the place where one begins.

        Where the token that was written begins several names, the next one decides between them; a
        token that was not written is shared among the names that it begins, unless it is one.
        """
        row, said, weight = np.zeros(len(self.labels)), b"", 1.0
        for token in tokens:
            for text, probability in token.likely.items():
                names = self.meant_by(said, text)
                if len(names) > 1:
                    if text == token.text:
                        continue
                    whole = self._name((said + text).decode(errors="ignore").strip(_AROUND))
                    names = names if whole is None else [whole]
                for index in names:
                    row[index] += weight * probability / len(names)
            if len(self.meant_by(said, token.text)) < 2:
                break
            said, weight = said + token.text, weight * token.likely[token.text]
        return row

    def complaint(self, record: Record) -> str | None:
        """Why the log-probabilities of an answer are of no use: "" where they are.

        None where nothing can be said, because the answer states no label.
        """
        tokens = record.logprobs
        if not tokens:  # a refused prompt has none of whatever the server gives with answers
            return None if record.is_blank or record.is_refusal else "gave none"
        if all(other["token"] == t["token"] for t in tokens for other in t["top_logprobs"]):
            return "gave only those of the tokens that were chosen"
        if self.read_logprobs(record) is not None:
            return ""
        stated = self.find(record.text or "", cut_off=record.is_cut_off)
        if stated is None or (not stated.by_code and self.begin_each_other()):
            return None
        return UNMATCHED


UNMATCHED = "gave those of tokens that do not spell its answer"


# How servers write tokens: as the text that they are, in the spelling of SentencePiece, or in that
# of byte-level vocabularies, where each byte is a printable character.


def _of_sentencepiece(token: str) -> bytes:
    if byte := re.fullmatch(r"<0x([0-9A-Fa-f]{2})>", token):
        return bytes.fromhex(byte[1])
    return token.replace("▁", " ").encode()


_PRINTABLE = [*range(33, 127), *range(161, 173), *range(174, 256)]
_OTHERS = [byte for byte in range(256) if byte not in _PRINTABLE]
_BYTES = {chr(byte): byte for byte in _PRINTABLE}
_BYTES |= {chr(256 + i): byte for i, byte in enumerate(_OTHERS)}


def _of_bytes(token: str) -> bytes:
    return b"".join(
        bytes([_BYTES[letter]]) if letter in _BYTES else letter.encode() for letter in token
    )


SPELLINGS: tuple[Callable[[str], bytes], ...] = (str.encode, _of_sentencepiece, _of_bytes)


@dataclass(frozen=True)
class Spelled:
    """The token at one place, and the probabilities of this one and of others."""

    text: bytes
    likely: dict[bytes, float]


def spelled(token: dict[str, Any], spelling: Callable[[str], bytes]) -> Spelled:
    """A token as text; " A" and "A" are different tokens and the same answer."""
    likely = {spelling(t["token"]): t["logprob"] for t in [token, *token["top_logprobs"]]}
    return Spelled(
        spelling(token["token"]), {text: math.exp(min(p, 0.0)) for text, p in likely.items()}
    )


class Judge:
    """Find out from answers whether log-probabilities are of use; see `Question.judge`."""

    def __init__(self, reader: Labels, peer: str) -> None:
        self.reader = reader
        self.name = ("tells log-probabilities", peer)
        self.complaints: list[str] = []

    def __call__(self, record: Record) -> str:
        if self.name in process.noted:
            return ""
        complaint = self.reader.complaint(record)
        if complaint == "":
            process.noted.add(self.name)
        elif complaint:
            self.complaints.append(complaint)
        return self.reason() if self.is_sure() else ""

    def is_sure(self) -> bool:
        """Whether enough answers had none of use."""
        return len(self.complaints) >= ENOUGH_WITHOUT and self.reason() != ""

    def reason(self) -> str:
        """Why not to ask for any; "" where there is some use, or too little is known."""
        known = self.complaints.count(UNMATCHED) < len(self.complaints)
        if self.name in process.noted or not (known or len(self.complaints) >= FEW_UNMATCHED):
            return ""
        return f"It took the parameter and {self.complaints[0]}."


def codes_of(labels: list[str]) -> list[str]:
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
