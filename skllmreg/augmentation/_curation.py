"""Decide which generated rows are accepted: valid ones, new, and of the form of real rows."""

import re
from collections import Counter
from typing import Any

from skllmreg.augmentation._kinds import SeveralTexts, TableRows
from skllmreg.utils._text import words

# A row is a copy of the instructions where at least this share of its words stands in runs of so
# many words that are there, too.
RUN, COPIED = 3, 0.6
# A copy of an example has at least so many of its words in their order, and no others between.
FEWEST_COPIED = 4
# What all of at least so many labeled texts have, every text has; what none of any number has, such
# as a number in front, is foreign to them.
FEWEST_ALIKE = 12
# A text may have this many times the words of the longest labeled one, and a few more.
TIMES_LONGER, WORDS_LONGER = 3, 12
# Words of a beginning, rows that share one, and words of it that no labeled text has. Where half of
# a reply begins alike with such words ("The customer asked ..."), it tells of texts and holds none.
BEGINNING, FEWEST_BEGUN, FEWEST_FOREIGN = 3, 3, 2


class Curator:
    """Admit rows: valid ones, of the form of the labeled rows, new, and within their quota.

    Parameters
    ----------
    kind : RowKind
        With the labeled rows, which no row may repeat.
    duplicate_threshold : float or None, default=0.8
        Similarity from which a row is refused as a repetition: for texts the share of their words
        in common (Jaccard index), for rows of a table see `RowIndex`. None refuses equal ones
        alone.
    encoder : transformer, default=None
        Sentence encoder by which texts that say the same are refused, too.
    quotas : dict of label to int, default=None
        Maximum number of rows of each class.
    validate : callable, default=None
        Takes a valid row; returns what is wrong with it, "" for nothing.
    """

    def __init__(self, kind, *, duplicate_threshold=0.8, encoder=None, quotas=None, validate=None):
        self.kind = kind
        self.quotas = quotas or {}
        self.validate = validate
        self.n_admitted: Counter[Any] = Counter()
        self._index = kind.index(duplicate_threshold, encoder)
        self._forms = forms_of(kind)

    @property
    def few_rows_possible(self):
        """Whether rows may run out, as those of a table of few categories do."""
        return isinstance(self.kind, TableRows) and not isinstance(self.kind, SeveralTexts)

    def admit(self, rows, labels, *, prompt="", request=None):
        """Check rows, and remember those that are accepted.

        Parameters
        ----------
        rows : list
            Clean, as an `Answer` has them.
        labels : sequence of shape (n_rows,)
        prompt : str, default=""
            What was asked for them.
        request : GenerationRequest, default=None
            The same, in parts.

        Returns
        -------
        list of (str, str)
            ("", "") for what is accepted; else the reason ("invalid", "prompt", "form",
            "duplicate", "near-duplicate" or "quota"), and the detail.
        """
        copies = Copies(self.kind, prompt, request)
        found = [self._problem(row, label, copies) for row, label in zip(rows, labels, strict=True)]
        if prompt:
            self._refuse_beginnings(rows, found)
        valid = [i for i, (reason, _) in enumerate(found) if not reason]
        for i, status in zip(valid, self._index.add([rows[i] for i in valid]), strict=True):
            found[i] = (status or self._take(labels[i]), "")
        return found

    def release(self, labels):
        """Give back the quota of rows that were accepted and then thrown out for their label."""
        self.n_admitted.subtract(labels)

    def _problem(self, row, label, copies):
        if problem := self.kind.problem(row):
            return "invalid", problem
        texts = self.kind.texts(row)
        if problem := copies.problem(texts):
            return "prompt", problem
        for name, text in texts.items():
            if problem := self._forms[name].problem(text, label):
                return "form", f"{name}: {problem}" if name else problem
        if self.validate is not None and (problem := self.validate(row)):
            return "invalid", problem
        return "", ""

    def _refuse_beginnings(self, rows, found):
        """Refuse valid rows that begin as half of them do, and as no labeled text could."""
        valid = [i for i, (reason, _) in enumerate(found) if not reason]
        begun: dict[tuple, list[int]] = {}
        for i in valid:
            for name, text in self.kind.texts(rows[i]).items():
                begun.setdefault((name, *words(text)[:BEGINNING]), []).append(i)
        for (name, *beginning), alike in begun.items():
            many = len(alike) >= max(FEWEST_BEGUN, len(valid) / 2)
            if many and self._forms[name].n_foreign(beginning) >= FEWEST_FOREIGN:
                for i in alike:
                    found[i] = ("form", f"half of the reply begins with {' '.join(beginning)!r}")

    def _take(self, label):
        if self.n_admitted[label] >= self.quotas.get(label, float("inf")):
            return "quota"
        self.n_admitted[label] += 1
        return ""


class AcceptAll:
    """Admit every row within the quotas of a curator: what a quote expects.

    Parameters
    ----------
    curator : Curator
    """

    def __init__(self, curator):
        self.curator = curator
        self.few_rows_possible, self.release = curator.few_rows_possible, curator.release

    def admit(self, rows, labels, *, prompt="", request=None):
        """Return for each row ("", ""), or ("quota", "")."""
        return [(self.curator._take(label), "") for label in labels]


class Copies:
    """Find rows that repeat what was asked: its instructions, its wishes, or its examples.

    Parameters
    ----------
    kind : RowKind
    prompt : str
        "" where a function has written the rows: it has seen no instructions.
    request : GenerationRequest or None
    """

    def __init__(self, kind, prompt, request):
        shown = []
        if request is not None:
            shown = [*request.seed_examples, *request.feedback, *request.batch]
        for row in shown if prompt else ():
            prompt = prompt.replace(kind.show(row), "")
        asked = words(prompt)
        self._asked = set(asked)
        self._runs = {tuple(asked[i : i + RUN]) for i in range(len(asked) - RUN + 1)}
        self._wishes = set()
        if request is not None:
            self._wishes = {
                tuple(words(value))
                for joined in request.attributes.values()
                for value in [joined, *joined.split(";")]
            }
        examples = (kind.texts(row) for row in shown if prompt)
        self._examples = [
            (name, _phrase(text)) for row in examples for name, text in row.items() if text
        ]

    def problem(self, texts):
        """Say what the texts of a row repeat, "" for nothing."""
        for name, text in texts.items():
            own = words(text)
            if tuple(own) in self._wishes:
                return "it repeats what it should be about"
            covered = [False] * len(own)
            for i in range(len(own) - RUN + 1):
                if tuple(own[i : i + RUN]) in self._runs:
                    covered[i : i + RUN] = [True] * RUN
            if own and sum(covered) >= COPIED * len(own):
                return "it repeats the instructions"
            heading = HEADING.match(text)
            if heading and self._asked.issuperset(words(heading[1])):
                return f"its heading {heading[1]!r} is from the instructions"
            for other, example in self._examples:
                if other == name and _holds(_phrase(text), example):
                    return "it repeats an example"
        return ""


class Form:
    """The form of labeled texts: what a text of their kind has, and what it has not.

    Nothing is listed by its wording: a mark is foreign where no labeled text has it, and required
    where all of many have it.

    Parameters
    ----------
    texts : list of str
        The labeled ones.
    """

    def __init__(self, texts):
        sizes = [len(words(text)) for text in texts]
        self.vocabulary = {word.partition("'")[0] for text in texts for word in words(text)}
        self.most_words = TIMES_LONGER * max(sizes, default=0) + WORDS_LONGER
        self.most_lines = max((text.count("\n") for text in texts), default=0)
        self.foreign = {
            name: pattern
            for name, pattern in MARKS.items()
            if not any(pattern.search(text) for text in texts)
        }
        ends = {text.rstrip(_CLOSING)[-1:] for text in texts}
        self.end = ends.pop() if len(ends) == 1 and len(texts) >= FEWEST_ALIKE else ""
        if self.end.isalnum():
            self.end = ""

    def n_foreign(self, some):
        """Count the words, not the numbers, that no labeled text has; of I'm, I counts."""
        return sum(
            word[0].isalpha() and word.partition("'")[0] not in self.vocabulary for word in some
        )

    def problem(self, text, label):
        """Say in what a text differs from all labeled ones, "" for nothing."""
        for name, pattern in self.foreign.items():
            if pattern.search(text):
                return name
        if text.count("\n") > self.most_lines:
            return "more lines than any labeled text"
        if len(words(text)) > self.most_words:
            return f"more than {self.most_words} words"
        if self.end and not text.rstrip(_CLOSING).endswith(self.end):
            return f"all labeled texts end with {self.end!r}"
        return "it names its class" if names_class(text, label) else ""


# Words in front of a colon.
HEADING = re.compile(r"\A\W*((?:[\w/-]+ ){0,2}[\w/-]+)\s*:\s")
_CLOSING = " \"'”’)]"
# Marks that text of no kind has by nature: where the labeled texts have none, they are foreign.
MARKS = {
    "a number or a bullet in front": re.compile(
        r"\A\s*(?:[-*•–—]\s|\(?\d{1,3}[.):]\s|[A-Za-z][.)]\s)"
    ),
    "quotation marks around it": re.compile(r"\A\s*([\"'“‘«]).*[\"'”’»][.?!]?\s*\Z", re.DOTALL),
    "marks of a formatted text": re.compile(r"\*\*|```|^#{1,6} |</?[a-zA-Z]+>", re.MULTILINE),
    "a placeholder": re.compile(r"\[[^\]\n]{1,40}\]|\{[^}\n]{1,40}\}|<[^>\n]{1,40}>"),
    "a remark in brackets at the end": re.compile(r"\([^()]{3,}\)[\s.?!]*\Z"),
    "JSON": re.compile(r'[{\[]\s*"|"\s*:\s*["{\[]|"\s*[}\]]'),
    "text after a question": re.compile(r"\?[\"'”’)]*\s+\S"),
}


def names_class(text, label):
    """Whether a text gives the name of its class away, as no writer would who does not know it.

    A name that is a word of the language (refund) stands in many texts, and is only found in front
    of a colon, in brackets, or after the word class; a code (NUM, card_arrival) is found anywhere.
    """
    if not isinstance(label, str) or not label.strip():
        return False
    name = re.escape(label.strip())
    if re.fullmatch(r"(?=.*[^\W\d_])\S*([_\d]|[A-Z]{2}|[a-z][A-Z])\S*", label.strip()):
        return re.search(rf"(?<!\w){name}(?!\w)", text) is not None
    around = rf"\A\W*{name}\s*[:–—-]\s|[(\[]\s*{name}\s*[)\]]|\bclass\s+\W?{name}\b"
    return re.search(around, text, re.IGNORECASE) is not None


def forms_of(kind):
    """Learn the form of each text of the labeled rows."""
    texts: dict[str, list[str]] = {}
    for row in kind.rows:
        for name, text in kind.texts(row).items():
            texts.setdefault(name, []).append(text)
    return {name: Form(listed) for name, listed in texts.items()}


def _phrase(text):
    return f" {' '.join(words(text))} "


def _holds(text, example):
    """Whether one of two phrases holds the other, if that is not too short to say much."""
    shorter, longer = sorted((text, example), key=len)
    return len(shorter.split()) >= FEWEST_COPIED and shorter in longer
