"""Errors and warnings of the package."""

from typing import Any


class AnswerNotStoredWarning(UserWarning):
    """An answer was paid for, but the cache could not take it."""


class ClosedSetWarning(UserWarning):
    """Columns of short strings are treated as closed sets: no other value may be written."""


class LLMError(RuntimeError):
    """A call of an LLM could not be completed; base class of what the edge raises.

    Attributes
    ----------
    replies : list
        What the call has got so far, in the order of its prompts; None where nothing came.
    """

    def __init__(self, message: str = "", *, replies: list[Any] | None = None) -> None:
        super().__init__(message)
        self.replies = replies or []


class BatchPendingError(LLMError):
    """Batch jobs are submitted and not done; run the same code again to go on.

    Attributes
    ----------
    jobs : list of str
        Names that the server has given to the jobs.
    n_pending : int
        Prompts of this call that wait for an answer.
    """

    def __init__(
        self, message: str = "", *, jobs: list[str] | None = None, n_pending: int = 0
    ) -> None:
        super().__init__(message)
        self.jobs = jobs or []
        self.n_pending = n_pending


class BudgetExceededError(LLMError):
    """The budget of a ChatModel and its copies does not allow another request."""


class CacheError(LLMError):
    """The cache file cannot be used; nothing more is paid for."""


class FewRowsForScaleWarning(UserWarning):
    """The scale of the features, which scores refer to, is estimated from a handful of rows."""


class GenerationError(RuntimeError):
    """A generator brought no row that could be used; the message shows its last replies."""


class GenerationStoppedWarning(UserWarning):
    """Generation ended before there were as many rows as wanted; what there is is kept."""


class InvalidReplyError(LLMError):
    """A reply could not be used, also after telling the model what was wrong with it.

    Attributes
    ----------
    reply : str
        The reply as the model wrote it.
    outcome : str
        What became of it, such as that it was cut off, and what may help.
    problems : list of str
        What is wrong with it.
    failures : dict of int to InvalidReplyError
        Where a call has several prompts: what is wrong with each that failed, by its position.
    cache : str
        The file that keeps the reply; "" for none.
    keys : list of str
        Of the entries there: of the reply, and of those that it was to repair.
    is_refused_prompt : bool
        Whether the server has refused the prompt, while it answers others; there is no reply then.
    answers : LabelProbabilities or None
        Where probabilities of labels were asked for: those of the other prompts.
    """

    def __init__(
        self,
        message: str = "",
        *,
        reply: str = "",
        outcome: str = "",
        problems: list[str] | None = None,
    ) -> None:
        super().__init__(message)
        self.reply = reply
        self.outcome = outcome
        self.problems = problems or []
        self.failures: dict[int, InvalidReplyError] = {}
        self.cache = ""
        self.keys: list[str] = []
        self.is_refused_prompt = False
        self.answers: Any = None


class NoAnswerError(InvalidReplyError):
    """Every reply so far was unusable, or refused: the call has ended, with prompts not asked."""


class LabelHoleWarning(UserWarning):
    """A group of training rows lacks a class that the LLM's scores and the other rows predict."""


class NoAnswerWarning(UserWarning):
    """A teacher gave no answer about rows it was asked about; they are not learned from."""


class NoAttributesWarning(UserWarning):
    """An LLM did not say what generated rows are to differ in; they are written all the same."""


class NoBudgetWarning(UserWarning):
    """A model without a budget is about to answer many prompts; the message says what they take."""


class NoLLMWarning(UserWarning):
    """An estimator was fitted without an LLM or its answers: it is the plain model."""


class OverconfidentWarning(UserWarning):
    """Probabilities of a numeric gamma are steeper than so few rows can tell."""


class PriorConflictWarning(UserWarning):
    """The labels contradict the LLM's scores; the message says what the model made of it."""


class ReplayMissError(LLMError):
    """An answer that ``mode="replay"`` needs is not in the cache."""


class RequestError(LLMError):
    """A server refused a request or could not be reached.

    Attributes
    ----------
    status : int or None
        Status of the HTTP answer; None where no (whole) answer came.
    code : str
        The server's own code of the error.
    retry_after : float or None
        Seconds after which the server wants to be asked again.
    transient : bool
        Whether another try may succeed.
    sent : bool
        Whether anything went out: a host that cannot be reached has got nothing.
    """

    def __init__(
        self,
        message: str = "",
        *,
        status: int | None = None,
        code: str = "",
        retry_after: float | None = None,
        transient: bool = False,
        sent: bool = False,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.retry_after = retry_after
        self.transient = transient
        self.sent = sent


class ServerLimitWarning(UserWarning):
    """A server does not take what this package adds to a request; the message says what it costs.

    It is remembered for a day, per server and model, in the cache file.
    """


class UndescribedClassWarning(UserWarning):
    """An LLM is asked about a class that only has a number for a name, or the one not described."""


class UnkeptPromiseWarning(UserWarning):
    """A cascade finds no rows that its student may answer alone: all go to the teacher."""


class UnscaledFeaturesWarning(UserWarning):
    """Columns of very different spread are taken as they are."""


class UnscoredColumnsWarning(UserWarning):
    """Columns that an encoder made get the score 0, because nobody could have scored them."""


class UnusedDescriptionWarning(UserWarning):
    """A description names no feature, but the name of one without a description is like it."""


class VectorCacheWarning(UserWarning):
    """A file for vectors of texts cannot be used; they are computed anew in this process."""
