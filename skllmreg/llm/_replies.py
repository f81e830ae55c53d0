"""Read what servers send, answers and errors, and find what of a request they refuse.

They leave out, and add, what they like.
"""

import contextlib
import email.utils
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from skllmreg.exceptions import CacheError, RequestError, ServerLimitWarning
from skllmreg.llm import _ledger
from skllmreg.llm._settings import Messages, Settings, without_system_turn
from skllmreg.llm._store import Store, open_store
from skllmreg.llm._values import (
    CUT_OFF,
    ENDED,
    FILTERED,
    PROMPT_CODES,
    Question,
    Record,
    Request,
    as_count,
    as_text,
    read_logprobs,
)
from skllmreg.utils._json import LARGEST_RESPONSE, load_json
from skllmreg.utils._process import process
from skllmreg.utils._text import short_line

# Refusals that no repetition heals, though their status alone would allow one.
_FINAL_CODES = {"insufficient_quota", "billing_hard_limit_reached"}
# Statuses of gateways that have reached nobody, and of a server that is too busy to answer.
_UNASKED = {521, 522, 523, 525, 526, 529, 530}
# A server that wants a longer wait is not waited for.
LONGEST_PAUSE = 3600.0
# Servers tell the log-probabilities of 20 tokens at most, some of 5.
FEW_LOGPROBS = 5
# Answers within this share of the timeout are asked for whole.
QUICK = 0.05
# How an event of a stream begins, and its lines.
_FIELD = re.compile(r"\s*(data|event|id|retry|error)?:")
_LINE = re.compile(r"([^\r\n]*)(?:\r\n|\n|\r|$)")
# Characters of a stream with log-probabilities, which are kept.
_MOST_LOGPROBS = 2**24
# The code of an answer that did not end as one, and how it ends that the server could not finish.
_UNFINISHED = "unfinished: "
_BROKEN = {"error", "network_error", "insufficient_system_resource", "abort", "cancelled"}


def read_payload(text: str, url: str, hide: Callable[[str], str]) -> dict[str, Any]:
    """The JSON object that a server has sent with status 200, whole or as a stream."""
    if not is_stream(text):
        return parse_payload(text, url, hide)
    if payload := read_stream(text, url):
        return payload
    raise RequestError(
        f"{url} broke off in its reply: the stream has no end, and says last "
        f"{short_line(hide(text[-200:]))!r}.",
        transient=True,
        sent=True,
    )


def parse_payload(text: str, url: str, hide: Callable[[str], str]) -> dict[str, Any]:
    """The JSON object that a server has sent with status 200, or a RequestError."""
    if is_web_page(text):
        raise RequestError(
            f"{url} answered with a web page in place of JSON: {page_text(hide(text))!r}. Does "
            "base_url point at the API, as in http://localhost:8000/v1, and is there no proxy or "
            "login page in between?",
            sent=True,
        )
    try:
        payload, why = load_json(text, LARGEST_RESPONSE), "it is no object"
    except ValueError as error:
        payload, why = None, str(error)
    if not isinstance(payload, dict):
        raise RequestError(
            f"{url} answered with malformed JSON, {why}: {short_line(hide(text))!r}.",
            transient=True,
            sent=True,
        )
    return payload


# Streams: server-sent events, of which each has a chunk of the answer.


def is_stream(text: str) -> bool:
    """Whether it is a stream of events; JSON does not begin with the name of a field."""
    return _FIELD.match(text) is not None


def read_stream(text: str, url: str) -> dict[str, Any] | None:
    """The payload of the same answer sent whole; None for a stream that breaks off."""
    payload: dict[str, Any] = {}
    choices: dict[int, _Choice] = {}
    ended, n_logprobs = False, 0
    for event in _events(text):
        if event.strip() == "[DONE]":
            ended = True
            continue
        try:
            chunk = parse_payload(event, url, str)
        except RequestError:
            break  # it is cut
        if chunk.get("error") or chunk.get("object") == "error":
            # An answer that has begun is cut off by a failure, not refused.
            return {"error": chunk.get("error") or chunk, "code": 500 if choices else None}
        if "logprob" in event:
            n_logprobs += len(event)
        if n_logprobs > _MOST_LOGPROBS:
            raise RequestError(f"{url} sent too many log-probabilities for one reply.", sent=True)
        parts = chunk.pop("choices", None)
        payload |= {name: value for name, value in chunk.items() if value is not None}
        for part in parts if isinstance(parts, list) else []:
            if isinstance(part, dict):
                choices.setdefault(as_count(part.get("index")) or 0, _Choice()).add(part)
    ended = ended or any(choice.fields.get("finish_reason") for choice in choices.values())
    if not ended:
        return None
    if choices or not payload:
        payload["choices"] = [choices[index].whole() for index in sorted(choices)]
    return payload


def _events(text: str) -> Iterator[str]:
    """The data of each event; comments, which keep a connection alive, are passed over."""
    data: list[str] = []
    for match in _LINE.finditer(text):
        line = match[1]
        name, _, value = line.partition(":")
        if name == "data":
            data.append(value.removeprefix(" "))
        elif name == "error":  # so has llama.cpp sent its errors
            data.append(f'{{"error": {value}}}')
        elif not line and data:
            yield "\n".join(data)
            data.clear()


class _Choice:
    """One choice of an answer, gathered from its chunks."""

    def __init__(self) -> None:
        self.fields: dict[str, Any] = {}
        self.pieces: dict[str, list[str]] = {}
        self.logprobs: list[Any] = []

    def add(self, part: dict[str, Any]) -> None:
        delta = _dict(part.get("delta")) or _dict(part.get("message"))
        for name in ("content", "refusal", "reasoning_content", "reasoning"):
            if piece := as_text(delta.get(name), str):
                self.pieces.setdefault(name, []).append(piece)
        tokens = _dict(part.get("logprobs")).get("content")
        self.logprobs += tokens if isinstance(tokens, list) else []
        self.fields |= {name: part[name] for name in ("finish_reason", "error") if part.get(name)}

    def whole(self) -> dict[str, Any]:
        message = {name: "".join(pieces) for name, pieces in self.pieces.items()}
        return {"message": message, "logprobs": {"content": self.logprobs}, **self.fields}


def read_record(payload: dict[str, Any], url: str, hide: Callable[[str], str]) -> Record:
    """The few fields that are kept, each of its type or None.

    A RequestError where the server says, with status 200, that there is no answer.
    """
    # Some servers send null for a prompt that they block.
    choices = payload.get("choices") if payload.get("choices", ...) is not None else []
    some = isinstance(choices, list) and all(isinstance(choice, dict) for choice in choices)
    choice = choices[0] if some and choices else {}
    # Some gateways report errors with status 200, beside the choices or in one.
    if error := payload.get("error") or choice.get("error"):
        codes = (error.get("code") if isinstance(error, dict) else None, payload.get("code"))
        statuses = [code for code in codes if isinstance(code, int) and 400 <= code < 600]
        raise refusal(url, statuses[0] if statuses else 200, error, {}, hide)
    if not some:
        said = short_line(hide(json.dumps(payload)), 200)
        raise RequestError(
            f"{url} answered without a list of choices: {said}. Is it the chat completions API?",
            sent=True,
        )
    # What is sent whole is whole where no reason to end is given, as some servers never do.
    reason = choice.get("finish_reason")
    reason = "" if reason is None else hide(reason if isinstance(reason, str) else repr(reason))
    if unfinished := _unfinished(reason, url):
        raise unfinished
    message, usage = _dict(choice.get("message")), _dict(payload.get("usage"))
    return Record(
        text=as_text(message.get("content") if message else choice.get("text"), hide),
        refusal=as_text(message.get("refusal"), hide) or None,
        finish_reason=(reason or None) if choices else "no choices",
        model=as_text(payload.get("model"), hide) or None,
        prompt_tokens=as_count(usage.get("prompt_tokens")),
        completion_tokens=as_count(usage.get("completion_tokens")),
        logprobs=read_logprobs(_dict(choice.get("logprobs")).get("content"), hide),
        thoughts=bool(_text(message.get("reasoning_content")) or _text(message.get("reasoning"))),
    )


def _unfinished(reason: str, url: str) -> RequestError | None:
    """The error for an answer that did not end as one."""
    word = reason.lower()
    if not word or word in ENDED | CUT_OFF | FILTERED:
        return None
    how = f"{url} ended its answer with finish_reason {short_line(reason, 40)!r}"
    if word in PROMPT_CODES:
        hint = "the context of the model is full. Shorten the prompt, or lower max_tokens"
        return RequestError(f"{how}: {hint}.", code=word, status=200, sent=True)
    return RequestError(
        f"{how}, which is not the end of an answer.",
        code=f"{_UNFINISHED}{word[:40]}",
        status=200,
        transient=word in _BROKEN,
        sent=True,
    )


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


# Errors.


def is_web_page(text: str) -> bool:
    return text.lstrip()[:1] == "<"


def page_text(text: str) -> str:
    """What the beginning of a web page says, on one short line."""
    tags = r"<(script|style).*?</\1>|<[^<>]*>"  # takes time that grows with the square
    return short_line(re.sub(tags, " ", text[:10_000], flags=re.I | re.S))


def refusal(
    url: str, status: int | None, said: Any, headers: Any, hide: Callable[[str], str]
) -> RequestError:
    """The error for a status, or for an error that comes with status 200.

    Parameters
    ----------
    url : str
        Who refuses.
    status : int or None
        None where it is not known.
    said : object
        The parsed body, or its text.
    headers : mapping
        Of the response.
    hide : callable
        Drops the key from a text.
    """
    if isinstance(said, dict):
        said = said.get("error") or said
    fields = said if isinstance(said, dict) else {}
    message = fields.get("message") or fields.get("detail") or said
    if not isinstance(message, str):
        message = json.dumps(message) if message else ""
    code = fields.get("code") or fields.get("type")
    if isinstance(code, int) and isinstance(fields.get("type"), str):
        code = fields["type"]  # llama.cpp repeats the status as the code
    pause = _retry_after(headers)
    too_long = (pause or 0.0) > LONGEST_PAUSE
    head = "an error" if status in (None, 200) else f"status {status}"
    what = short_line(hide(message), 500) or "no message"
    if is_web_page(message):
        what = f"a web page, perhaps of a proxy on the way: {page_text(hide(message))!r}"
    return RequestError(
        f"{url} answered with {head}: {what}{'' if what[-1] in '.!?' else '.'}"
        + (f" It wants to be asked again in {(pause or 0) / 3600:.1f} hours." if too_long else "")
        + _hint(status or 0, url),
        status=status,
        code=hide(str(code)) if isinstance(code, (str, int)) else "",
        retry_after=pause,
        transient=_is_transient(status or 0)
        and code not in _FINAL_CODES | PROMPT_CODES
        and headers.get("x-should-retry") != "false"
        and not too_long,
        sent=True,
    )


def _is_transient(status: int) -> bool:
    return status in (200, 408, 409, 429) or (status >= 500 and status not in (501, 505))


def _hint(status: int, url: str) -> str:
    if 300 <= status < 400:
        return " Give the address it redirects to as base_url."
    if status == 401:
        return " Is the key right, was one sent? api_key_env names the variable that holds it."
    if status == 404:
        end = "" if url.endswith("/v1") else "Most addresses end in /v1. "
        return (
            f" {end}Does the server have this model? "
            f"`python -m skllmreg doctor --base-url {url}` tells."
        )
    return ""


def _retry_after(headers: Any) -> float | None:
    """Seconds to wait as the server says, in any of the three forms that are used."""
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            seconds = float(headers[name]) / unit
        except (KeyError, ValueError):
            continue
        if seconds == seconds:  # "nan" is a number to Python
            return max(0.0, seconds)
    try:
        when = email.utils.parsedate_to_datetime(headers["retry-after"])
        return max(0.0, when.timestamp() - time.time())
    except (KeyError, ValueError, TypeError, OverflowError):
        return None


def may_be_about_additions(error: RequestError) -> bool:
    """Whether a refusal can be about what this package adds to a request.

    Codes that name the prompt cannot; nor can a proxy's login, slowness, conflicts and the pace.
    """
    status = error.status or 0
    refused = is_error_in_answer(error) or 400 <= status < 600
    return refused and status not in (407, 408, 409, 429) and error.code not in PROMPT_CODES


def is_error_in_answer(error: RequestError) -> bool:
    """Whether a server has said in an answer, with status 200, that there is none."""
    return error.status == 200 and not error.code.startswith(_UNFINISHED)


def is_about_key(error: RequestError) -> bool:
    """Whether a refusal is about the key or its account, if it is not about an addition."""
    return error.status in (401, 402)


def may_pass_soon(error: RequestError) -> bool:
    """Whether a failure is usually over at the next try: of a gateway, or within an answer."""
    status = error.status or 0
    return status in (200, 502, 503, 504) or status >= 520


def may_be_billed(status: int | None) -> bool:
    """Whether somebody may have answered: a gateway that gave up does not know."""
    return status is None or status in (200, 502, 504) or (status >= 520 and status not in _UNASKED)


# What a server refuses of what is added to a prompt.


class Additions:
    """What is added to the prompts of a call, and what is known of its server about that.

    Parameters
    ----------
    settings : Settings
    question : Question
    store : Store
        Where it is remembered what a server refuses.
    streams : bool
        Whether the transport can read an answer as a stream.
    news : list of (str, type of warning)
        Gets what the user is to be warned of.
    """

    def __init__(
        self, settings: Settings, question: Question, store: Store, streams: bool, news: list
    ) -> None:
        self.settings, self.question, self.news = settings, question, news
        # What is no server's stays in the process: no other object asks the same model.
        self.store = store = store if settings.has_server else open_store(None)
        # A replay looks for what was asked then, whatever is known of the server by now.
        self.less = {} if settings.replay else self.refused()
        self._takes_system = settings.replay or _ledger.takes_system_turns(store, settings)
        self._lock = threading.Lock()
        self._streams = streams
        self._taken = ("streams", settings.peer)
        # Labels come at once, most of the time.
        self._quick = question.top_logprobs > 0

    def refused(self) -> dict[str, int]:
        """What the model is known not to take: levels of `LESS`, by name."""
        return _ledger.refused(self.store, self.settings)

    def took(self, seconds: float) -> None:
        """Note how long an answer has taken: reading a stream is worth it if it is long."""
        self._quick = seconds < QUICK * self.settings.timeout

    def come_whole(self) -> None:
        """Ask for no streams in this call: what is refused is refused in any form."""
        self._streams = False

    def forms(self, messages: Messages) -> Iterator[Request]:
        """The request, and weaker ones for as long as a server refuses what was added to it."""
        question, settings = self.question, self.settings
        joined = without_system_turn(messages)
        refuses_system = self.less.get("system", 0)
        request = Request(settings.model, messages, settings.options, settings.timeout)
        if refuses_system:
            request = replace(request, messages=joined)
        if question.schema is not None:
            schema, first = question.schema, self.less.get("schema", 0)
            forms = [replace(request, schema=schema, schema_form=i) for i in range(first, 3)]
        else:
            top = self.allowed_logprobs(question.top_logprobs)
            fewer = dict.fromkeys((top, min(top, FEW_LOGPROBS), 0))
            forms = [replace(request, top_logprobs=n) for n in fewer]
        weaker = [forms[i] for i in dict.fromkeys((0, len(forms) - 1))]
        # A server that has answered a system's turn refuses something else.
        if joined is not messages and not refuses_system and not self._takes_system:
            forms += [replace(form, messages=joined) for form in weaker]
            weaker += forms[-len(weaker) :]
        # Streams are refused by few servers: a prompt is asked for whole when all else is refused.
        stream = self._stream()
        yield from (replace(form, stream=stream) for form in forms)
        if stream and (*self._taken, stream) not in process.noted:
            yield from weaker

    def _stream(self) -> int:
        """How an answer is to come, as in `Request.stream`."""
        return 2 - self.less.get("stream", 0) if self._streams and not self._quick else 0

    def allowed_logprobs(self, n: int) -> int:
        """How many of `n` likely tokens the server is known to tell."""
        return (n, min(n, FEW_LOGPROBS), 0)[self.less.get("logprobs", 0)]

    def learn(
        self, messages: Messages, asked: list[Request], refused: list[RequestError], record: Record
    ) -> None:
        """Note what the last of the requests for an answer, which was taken, had and had not.

        Parameters
        ----------
        messages : list of {"role", "content"}
        asked : list of Request
            What was asked for the prompt, in this order.
        refused : list of RequestError
        record : Record
        """
        first, request = asked[0], asked[-1]
        name, level = "", 0
        if first.stream and not request.stream and request.messages == first.messages:
            name, level = "stream", 3 - first.stream
        elif refused and request.messages != messages and not self.less.get("system"):
            name, level = "system", 1
        elif top := self.question.top_logprobs:
            got = request.top_logprobs
            name, level = "logprobs", 0 if got == top else 1 if got else 2
        elif self.question.schema is not None:
            name, level = "schema", request.schema_form
        peer, judge = self.settings.peer, self.question.judge
        suspicion, taken = ("refused once", peer, name), ("taken", peer, name)
        if not refused:
            process.noted.discard(suspicion)
            if not level:
                process.noted.add(taken)
        elif not record.is_blank:
            if refused[-1].transient and (suspicion not in process.noted or taken in process.noted):
                process.noted.add(suspicion)  # a passing failure must not switch anything off
            else:
                self.note(name, level, str(refused[-1]))
        if request.top_logprobs and judge is not None and (why := judge(record)):
            self.note("logprobs", 2, why)
        # What is refused from now on is something else.
        if request.stream:
            process.noted.add((*self._taken, request.stream))
            tells = ("tells log-probabilities", peer)
            if request.top_logprobs and not record.logprobs and tells in process.noted:
                self.note("stream", 2, "Its streams have no log-probabilities.")
        if not self._takes_system and request.messages[0]["role"] in ("system", "developer"):
            self._takes_system = True
            with contextlib.suppress(CacheError):  # at worst it is found out again
                _ledger.note_refused(self.store, self.settings, "system", 0, "")

    def note(self, name: str, level: int, why: str) -> None:
        """Ask this model for less from now on, for a day, and say so once."""
        with self._lock:
            if level <= self.less.get(name, 0):
                return
            self.less[name] = level
            self.news.append((f"{_ledger.LESS[name][level]} {why}", ServerLimitWarning))
        with contextlib.suppress(CacheError):  # at worst it is found out again
            _ledger.note_refused(self.store, self.settings, name, level, why)
