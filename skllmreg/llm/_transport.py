"""Send a request to a server and read its answer: OpenAI's chat completions over HTTP.

The only file that knows HTTP, keys, and the openai package, of which the HTTP client is used: its
proxies, limits and keep-alive. What goes out is what was asked for and nothing else; what comes
back is a record or a `RequestError`. Requests run in an event loop in a thread of its own, because
only there can an exchange be cancelled when its time is up, whatever it waits for.
"""

import asyncio
import codecs
import contextlib
import contextvars
import http.cookiejar
import itertools
import json
import logging
import math
import re
import threading
import time
import uuid
import zlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

from skllmreg.exceptions import RequestError
from skllmreg.llm._replies import is_stream, read_payload, read_record, read_stream, refusal
from skllmreg.llm._secrets import Secret, read_key
from skllmreg.llm._settings import is_loopback
from skllmreg.llm._values import Record, Request
from skllmreg.utils._json import is_closed, load_json
from skllmreg.utils._process import process
from skllmreg.utils._text import short_line

LARGEST_REPLY = 32 * 2**20
# Of a file of answers, which is written to the disk as it comes.
LARGEST_FILE = 8 * 2**30
_PACKED = ("gzip", "x-gzip", "deflate")
# The name of a file and its content.
File = tuple[str, bytes]
# A reply that keeps coming may take so many times the timeout.
LONGEST = 10
# Seconds for the end of a connection after that of a stream.
_AFTER_DONE = 1.0
_DONE = re.compile(rb"(?:^|[\r\n])data: ?\[DONE\]\s*$")
_PIECE = 2**16  # bytes that are sent at once
# Requests that a client has under way: it looks at all of its connections for each of them.
_AT_ONCE = 8


class ChatCompletions:
    """The chat completions of one server.

    Parameters
    ----------
    url : str
        Address of the server, as `Settings.url` has it.
    api_key_env : str or None
        Name of the variable that holds the key, which is read when a request is made.
    """

    streams = True

    def __init__(self, url: str, api_key_env: str | None = None) -> None:
        self.url = url
        self.api_key_env = api_key_env
        self.ended = math.inf

    def end(self) -> None:
        """Give what is under way no more than the timeout from now on: the call has ended."""
        self.ended = time.monotonic()

    def prepare(self) -> None:
        """Import and open what a request needs: it takes a while, and a start may be promised."""
        _http().clients(self.url)

    def send(self, request: Request) -> Record:
        """Post one prompt.

        Raises
        ------
        RequestError
            With `status`, `retry_after`, `sent`, and `transient` where another try may succeed.
        """
        hide = read_key(self.url, self.api_key_env).hide
        payload = self.post("/chat/completions", body_of(request), request.timeout)
        return read_record(payload, self.url, hide)

    def post(self, path: str, body: dict[str, Any], timeout: float) -> dict[str, Any]:
        """Post a JSON object and return the JSON object of the answer.

        Parameters
        ----------
        path : str
            Such as "/embeddings".
        body : dict
            What is sent; `extra_headers`, `extra_query` and `extra_body` as in the openai package.
        timeout : float
            Seconds without a sign of life from the server, after which the exchange ends. A reply
            that keeps coming may take ten times as long. Requests that began before this one may
            have to be answered first: while theirs come, this one waits.
        """
        return self._exchange("POST", path, body, timeout)

    def get(self, path: str, around: dict[str, Any], timeout: float) -> dict[str, Any]:
        """Get a JSON object; `around` may have `extra_headers` and `extra_query`."""
        return self._exchange("GET", path, around, timeout)

    def upload(self, path: str, file: File, fields: dict[str, Any], timeout: float) -> dict:
        """Post a file as a form, with further fields, and return the JSON object of the answer."""
        return self._exchange("POST", path, fields, timeout, file=file)

    def download(self, path: str, sink: Any, around: dict[str, Any], timeout: float) -> None:
        """Write what a path holds into a binary file, however large it is."""
        self._exchange("GET", path, around, timeout, sink=sink)

    def models(self, timeout: float) -> list[str]:
        """Names of the models that the server offers."""
        models = self._exchange("GET", "/models", {}, timeout).get("data")
        models = models if isinstance(models, list) else []
        return [str(model["id"]) for model in models if isinstance(model, dict) and "id" in model]

    def _exchange(
        self, method: str, path: str, body: dict[str, Any], timeout: float, **files: Any
    ) -> dict[str, Any]:
        key = read_key(self.url, self.api_key_env)
        outcome = _http().run(_Exchange(self, key, method, path, body, **files), timeout)
        if isinstance(outcome, RequestError):
            # Here, where no frame knows the key or what the server sent.
            raise outcome
        return outcome


def body_of(request: Request) -> dict[str, Any]:
    """The JSON object that asks for an answer to a request."""
    body = {"model": request.model, "messages": request.messages, **request.options}
    if request.top_logprobs:
        body |= {"logprobs": True, "top_logprobs": request.top_logprobs}
    if request.stream:
        body["stream"] = True
    if request.stream == 2:
        body["stream_options"] = {"include_usage": True}
    if request.schema is None:
        return body
    if request.schema_form == 0:
        described = {"name": "reply", "schema": request.schema, "strict": is_closed(request.schema)}
        return body | {"response_format": {"type": "json_schema", "json_schema": described}}
    # The model has not seen the schema yet. It stands first, where prompts are alike, so that
    # servers can keep what they have made of it.
    note = "Answer with nothing but one JSON value that follows this JSON schema:\n"
    first, *others = request.messages
    content = f"{note}{json.dumps(request.schema)}\n\n{first['content']}"
    body["messages"] = [{**first, "content": content}, *others]
    return body | ({"response_format": {"type": "json_object"}} if request.schema_form == 1 else {})


# The exchange.


def _http() -> "_Http":
    with process.lock:
        if "http" not in process.opened:
            process.opened["http"] = _Http()
        return process.opened["http"]


class _NoCookies(http.cookiejar.CookieJar):
    """Keeps none, and takes no time about it."""

    def set_cookie(self, cookie: http.cookiejar.Cookie) -> None:
        pass

    def extract_cookies(self, response: Any, request: Any) -> None:
        pass

    def __iter__(self) -> Iterator[http.cookiejar.Cookie]:
        return iter(())


@dataclass
class _Client:
    """An HTTP client with connections of its own, and how many requests it has under way."""

    http: Any
    n_busy: int = 0


class _Http:
    """The event loop of a process in its thread, and the HTTP clients that live there."""

    def __init__(self) -> None:
        self._loop: Any = None
        self._clients: dict[bool, list[_Client]] = {}
        self._choosing = threading.Lock()
        self._left_behind: list[Any] = []
        # What is under way, by server, in the order in which it began.
        self._lines: dict[str, list[_Exchange]] = {}

    def run(self, exchange: "_Exchange", timeout: float) -> dict[str, Any] | RequestError:
        """Run an exchange to its end, from any thread."""
        clients, line = self.clients(exchange.url), self._lines.setdefault(exchange.url, [])
        client = self._take(clients, exchange.url)
        try:
            running = exchange.run(client.http, line, timeout)
            return asyncio.run_coroutine_threadsafe(running, self._loop).result()
        finally:
            with self._choosing:
                client.n_busy -= 1

    def _take(self, clients: list["_Client"], url: str) -> "_Client":
        """A client that is not too busy, so that a few requests use few connections."""
        while True:
            with self._choosing:
                for client in clients:
                    if client.n_busy < _AT_ONCE:
                        client.n_busy += 1
                        return client
                clients.append(_Client(self._open(not is_loopback(url))))

    def clients(self, url: str) -> list["_Client"]:
        """The clients for a server."""
        # A proxy of the environment is the user's network; the loopback needs none.
        trust_env = not is_loopback(url)
        if trust_env not in self._clients:
            with process.lock:  # else every thread of a cold start makes one of its own
                if self._loop is None:
                    self._start()
                if trust_env not in self._clients:
                    self._clients[trust_env] = [_Client(self._open(trust_env))]
        return self._clients[trust_env]

    def _start(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="skllmreg-http", daemon=True
        )
        self._thread.start()
        for encoding in ("idna", "utf-8-sig"):
            codecs.lookup(encoding)
        client = self._open(trust_env=False)
        self._clients[False] = [_Client(client)]

        async def ask_nobody() -> None:
            with contextlib.suppress(Exception):
                await client.get("http://127.0.0.1:1")

        # It imports what later requests would import while the process may fork.
        asyncio.run_coroutine_threadsafe(ask_nobody(), self._loop).result()

    def _open(self, trust_env: bool) -> Any:
        import openai

        client = failure = None
        try:
            client = openai.DefaultAsyncHttpxClient(
                # A redirect would carry the prompts to a host that nobody named.
                follow_redirects=False,
                trust_env=trust_env,
                cookies=_NoCookies(),
            )
        except Exception as error:
            failure = type(error).__name__  # its words and frames may have the password of a proxy
        if client is None:
            raise RequestError(
                f"No connection can be made with what the environment says ({failure}): are "
                "HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and SSL_CERT_FILE right?"
            )
        for name in list(logging.root.manager.loggerDict):
            if name.startswith(("httpx", "httpcore")):
                logging.getLogger(name).addFilter(_without_key)
        return client

    def close(self) -> None:
        if self._loop is None:
            return
        for client in itertools.chain(*self._clients.values()):
            asyncio.run_coroutine_threadsafe(client.http.aclose(), self._loop).result(5.0)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5.0)
        self._loop.close()
        self._loop, self._clients = None, {}

    def before_fork(self) -> None:
        pass

    def after_fork(self, in_child: bool) -> None:
        if in_child and self._loop is not None:
            # The child has no such thread, and must not close what its parent uses.
            self._left_behind.append((self._loop, self._clients))
            self._loop, self._clients, self._lines = None, {}, {}


_now: contextvars.ContextVar = contextvars.ContextVar("exchange", default=None)


def _without_key(record: logging.LogRecord) -> bool:
    # At DEBUG these libraries write down headers and status lines, where a server may echo a key.
    if (exchange := _now.get()) is not None:
        record.msg, record.args = exchange.hide(record.getMessage()), ()
        record.exc_info = None
    return True


class _Exchange:
    """One request and its answer; `sent` tells whether any of it may have reached the server."""

    def __init__(
        self,
        transport: ChatCompletions,
        key: Secret,
        method: str,
        path: str,
        body: dict[str, Any],
        file: File | None = None,
        sink: Any = None,
    ) -> None:
        fields = dict(body)
        extra = fields.pop("extra_headers", None) or {}
        self.query = fields.pop("extra_query", None)
        fields |= fields.pop("extra_body", None) or {}
        self.transport, self.url, self.method, self.path = transport, transport.url, method, path
        self.key, self.hide = key, key.hide
        content_type, self.data = "application/json", b""
        if file is not None:
            content_type, self.data = _form(fields, file)
        elif method == "POST":
            self.data = json.dumps(fields).encode()
        self.sink = sink
        self.headers = {
            "Accept": "application/json",
            "Accept-Encoding": "identity",  # what is packed small may be of any size
            "User-Agent": "skllmreg",
            **extra,
        }
        if method == "POST":
            self.headers |= {
                "Content-Type": content_type,
                "Content-Length": str(len(self.data)),
            }
        self.sent = self.good = False
        self.status = 0
        self.body = bytearray()  # not a list, whose items may be many and small
        self.answer_headers: Any = {}
        # Moments of the event loop's clock, which is the monotonic one: the last sign of life, and
        # the beginning of the reply.
        self.alive, self.began = 0.0, math.inf
        self.turns: int | None = None

    async def run(self, client: Any, line: list, timeout: float) -> dict[str, Any] | RequestError:
        """The JSON object of the answer, or what went wrong.

        Parameters
        ----------
        client : AsyncClient
        line : list of _Exchange
            What is under way at the server; this exchange joins it.
        timeout : float
            Seconds without a sign of life.
        """
        _now.set(self)
        self.loop, self.line, self.timeout = asyncio.get_running_loop(), line, timeout
        self.alive = self.loop.time()
        line.append(self)
        self.timer = self.loop.call_soon(self._watch)
        try:
            async with asyncio.timeout(None) as self.scope:
                await self._gather(client)
            return self._read()
        except TimeoutError:
            failure = self._too_late()
        except RequestError as error:
            failure = error
        except Exception as error:
            failure = self._explain(error)
        finally:
            self.timer.cancel()
            # Whoever began later has waited for this one.
            for later in line[line.index(self) :]:
                later.alive = max(later.alive, self.alive)
            line.remove(self)
        text = self._text()
        if self.good and is_stream(text) and (payload := read_stream(text, self.url)):
            return payload  # the stream has ended before its connection failed
        failure.__context__ = failure.__cause__ = None
        return failure.with_traceback(None)

    def _watch(self) -> None:
        """End the exchange if its time is up, else look again at the moment when it would be."""
        if (end := self._end()) <= self.loop.time():
            self.scope.reschedule(end)
        else:
            self.timer = self.loop.call_at(end, self._watch)

    def _end(self) -> float:
        """The moment at which the time is up, as things are."""
        latest = self.began + LONGEST * self.timeout
        if self.began == math.inf:
            # It may stand in the server's queue: those before it hold the places.
            earlier = self.line[: self.line.index(self)]
            self.alive = max([self.alive, *(one.alive for one in earlier)])
        return min(self.alive + self.timeout, latest, self.transport.ended + self.timeout)

    async def _gather(self, client: Any) -> None:
        import openai

        async with client.stream(
            self.method,
            self.url + self.path,
            content=self._content(),
            params=self.query,
            headers={**self.headers, "Authorization": f"Bearer {self.key.value}"},
            timeout=openai.Timeout(None, connect=min(self.timeout, 10.0)),
        ) as response:
            if self.turns in (0, 1):
                raise self._failed(
                    "had sent a second reply to an earlier request, which is dropped"
                )
            self.status, self.answer_headers = response.status_code, response.headers
            self.good = 200 <= self.status < 300
            self.alive = self.began = self.loop.time()
            self.timer.cancel()
            self._watch()
            most = LARGEST_FILE if self.good and self.sink is not None else LARGEST_REPLY
            async for chunk in self._chunks(response, most):
                if self.good and chunk:
                    self.alive = self.loop.time()
                if self.good and self.sink is not None:
                    self.sink.write(chunk)
                    continue
                self.body += chunk
                if _DONE.search(chunk):
                    # Some servers leave the connection open: the stream has ended all the same.
                    self.scope.reschedule(self.loop.time() + _AFTER_DONE)

    def _text(self) -> str:
        return self.hide(self.body.decode("utf-8-sig", errors="replace"))

    def _read(self) -> dict[str, Any]:
        if self.good and self.sink is not None:
            return {}
        if self.good:
            return read_payload(self._text(), self.url, self.hide)
        said = self._said(self._text())
        raise refusal(self.url, self.status, said, self.answer_headers, self.hide)

    async def _content(self) -> AsyncIterator[bytes]:
        # It is asked for when there is a connection.
        self.sent = True
        for i in range(0, len(self.data), _PIECE):
            self.alive = self.loop.time()
            yield self.data[i : i + _PIECE]
        self.turns = 0
        self.loop.call_soon(self._count_turns)

    def _count_turns(self) -> None:
        # The loop looks at the sockets in the first turn, and in the second hands on what came. A
        # reply that is there sooner was left over on the connection by the request before.
        self.turns = (self.turns or 0) + 1
        if self.turns < 2:
            self.loop.call_soon(self._count_turns)

    async def _chunks(self, response: Any, most: int) -> AsyncIterator[bytes]:
        """The body as it comes, unpacked where it is packed unasked; of bounded size in all."""
        packed = response.headers.get("content-encoding", "").strip().lower()
        unpack = zlib.decompressobj(zlib.MAX_WBITS | 32) if packed in _PACKED else None
        if packed not in ("", "identity") and unpack is None:
            what = f"{self.url} packed its reply as {short_line(packed, 40)!r}, unasked."
            raise RequestError(what, sent=True)
        left = most
        async for chunk in response.aiter_raw():
            if unpack is not None:
                try:
                    chunk = unpack.decompress(chunk, left + 1)
                except zlib.error:
                    raise self._failed("broke off in its reply (zlib.error)") from None
            left -= len(chunk)
            if left < 0:
                raise self._failed(f"sent more than {most:,} bytes for one reply")
            yield chunk

    def _failed(self, what: str) -> RequestError:
        return RequestError(f"{self.url} {what}.", transient=True, sent=True)

    def _too_late(self) -> RequestError:
        seconds, hint = self.timeout, "If it is at work, raise timeout, or lower max_concurrency."
        if not self.sent:
            what, hint = "cannot be reached", ""
        elif self.transport.ended < math.inf:
            what = "was not done when the call ended, and"
        elif self.began == math.inf:
            what = "did not answer"
        elif self.began + LONGEST * self.timeout <= self.loop.time():
            what, seconds = "is still sending its reply: it was not done", LONGEST * self.timeout
        else:
            what = "sent no more of its reply"
        return RequestError(
            f"{self.url} {what} within {seconds:g} s. {hint}{' ' * bool(hint)}{self._doctor()}",
            code="timeout" if self.sent else "",
            transient=True,
            sent=self.sent,
        )

    @staticmethod
    def _said(text: str) -> Any:
        try:
            return load_json(text)
        except ValueError:
            return text

    def _explain(self, error: Exception) -> RequestError:
        """What an exception of the HTTP client, httpx or its successor, means."""
        kinds = {kind.__name__ for kind in type(error).__mro__}
        if "ConnectTimeout" in kinds:
            what = f"cannot be reached within {min(self.timeout, 10.0):g} s"
        elif self.began < math.inf and kinds & {"TransportError", "StreamError", "DecodingError"}:
            what = f"broke off in its reply ({type(error).__name__})"
        elif "TransportError" in kinds:
            what = f"cannot be reached ({self.hide(_root_of(error))})"
        else:
            return RequestError(
                f"The request to {self.url} could not be made: {type(error).__name__}: "
                f"{self.hide(str(error))[:200]}. Are the request_options right?",
                sent=self.sent,
            )
        # On this machine, where nobody listens nobody will without the user's doing.
        down = "ConnectError" in kinds and is_loopback(self.url)
        return RequestError(
            f"{self.url} {what}. {self._doctor()}", transient=not down, sent=self.sent
        )

    def _doctor(self) -> str:
        return f"Is the server up? `python -m skllmreg doctor --base-url {self.url}` tells."


def _form(fields: dict[str, Any], file: File) -> tuple[str, bytes]:
    """The content type and the bytes of a form with one file."""
    name, content = file
    boundary = uuid.uuid4().hex
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{field}"\r\n\r\n{value}\r\n'
        for field, value in fields.items()
    ]
    parts.append(
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    )
    whole = b"".join(["".join(parts).encode(), content, f"\r\n--{boundary}--\r\n".encode()])
    return f"multipart/form-data; boundary={boundary}", whole


def _root_of(error: BaseException) -> str:
    """What the operating system says, below the words of the libraries."""
    while inner := error.__cause__ or error.__context__:
        error = inner
    return str(error) or type(error).__name__
