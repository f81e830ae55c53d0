"""Estimate the probabilities of labels: log-probabilities of the answer, else shares of votes."""

import functools
from typing import Any

import numpy as np

from skllmreg.exceptions import InvalidReplyError, NoAnswerError, ReplayMissError
from skllmreg.llm._engine import Answering, unusable_replies
from skllmreg.llm._labels import LETTERS, Judge, Labels, codes_of, names_tell_apart
from skllmreg.llm._replies import FEW_LOGPROBS
from skllmreg.llm._settings import Messages
from skllmreg.llm._values import LabelProbabilities, Question
from skllmreg.utils._process import process
from skllmreg.utils._text import on_one_line

# Servers tell the probabilities of this many tokens at most.
MOST_TOKENS = 20


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
    if len(labels) < 2 or len(set(labels)) < len(labels) or not all(map(str.strip, labels)):
        raise ValueError(
            f"labels are two or more different strings, none of them blank, got {labels!r:.200}."
        )
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
    reader = Labels(labels, [] if by_name else codes_of(labels))
    return [ask_for_label(messages, reader) for messages in conversations], reader


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


def ask_for_label(messages: Messages, reader: Labels) -> Messages:
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
    judge = Judge(reader, obtain.settings.peer)
    # Before a batch job, a server that tells none is found out with one prompt.
    first = 1 if obtain.settings.delivery == "batch" and judge.name not in process.noted else 0
    for part in (range(first), range(first, len(asked))):
        obtain = chat._obtain(Question(top_logprobs=wanted))
        top = obtain.additions.allowed_logprobs(wanted)
        if not part or not top:
            continue
        question = Question(top_logprobs=top, judge=judge)
        replies, failures = _replies(
            chat,
            [asked[i] for i in part],
            question,
            progress,
            live=bool(first) and not part.start,
            others_answered=any(row is not None for row in found.rows),
        )
        found.failures |= {part[i]: failure for i, failure in failures.items()}
        _take_logprobs(replies, part, reader, found)
        if (why := judge.reason()) and chat._obtain(Question()).additions.allowed_logprobs(wanted):
            obtain.additions.note("logprobs", 2, why)
            obtain.warn_of_news()


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

    def validate(text: str, cut_off: bool = False) -> int:
        stated = reader.find(text, cut_off=cut_off)
        if stated is None:
            wanted = ", ".join(reader.codes or reader.labels)
            raise ValueError(f"one of {wanted} is wanted and nothing else")
        return stated.index

    repeated = [asked[i] for i in rows for _ in range(n_samples)]
    answered = any(row is not None for row in found.rows)
    ended: NoAnswerError | None = None
    try:
        replies, failures = _replies(
            chat, repeated, Question(), progress, validate, others_answered=answered
        )
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
    others_answered: bool = False,
) -> tuple[list[Any], dict[int, InvalidReplyError]]:
    """Replies, None for those of no use, and what is wrong with these."""
    answering = Answering(
        chat._obtain(question, live=live),
        validate=validate,
        # The first token is all that is wanted.
        validate_cut_off=functools.partial(validate, cut_off=True) if validate else str,
        others_answered=others_answered,
        enough=question.judge.is_sure if question.judge is not None else bool,
    )
    try:
        return answering.run(asked, **progress), {}
    except NoAnswerError:
        raise
    except InvalidReplyError as error:
        return error.replies, error.failures
