"""What holds for every byte between here and a server: a deadline, and no key in any log.

The timeouts of an HTTP client are for single reads, so that a server that drips bytes (of headers,
of the body of an error) is never done. Here they shrink to what is left of the whole exchange. An
exchange lives in one thread from beginning to end; that is how the socket finds its deadline.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

# The libraries below the client; each module of theirs has a logger of its own.
_TALKATIVE = ("httpx", "httpcore", "openai")
# A reader may be slow, too: after so many bytes the deadline is looked at again.
_CHUNK = 2**16


class TooLateError(Exception):
    """The time for the exchange is over."""


@dataclass
class Exchange:
    """A request and its answer.

    Parameters
    ----------
    deadline : float
        Moment on the monotonic clock.
    hide : callable
        Drops the key from a text.
    sent : bool
        Whether anything has gone out: only then the request may be billed.
    """

    deadline: float
    hide: Callable[[str], str]
    sent: bool = False

    def left(self, timeout: float | None = None) -> float:
        """Seconds for the next step."""
        seconds = self.deadline - time.monotonic()
        if seconds <= 0:
            raise TooLateError
        return seconds if timeout is None else min(timeout, seconds)


_current = threading.local()


@contextmanager
def exchange(seconds: float, hide: Callable[[str], str]) -> Iterator[Exchange]:
    """What this thread sends and receives belongs to one exchange."""
    _current.exchange = Exchange(time.monotonic() + seconds, hide)
    try:
        yield _current.exchange
    finally:
        del _current.exchange


def guard(client: Any) -> None:
    """Put an HTTP client of httpx, or of its successor, under the rules of this file."""
    # There is no public way to the sockets; proxies have transports of their own.
    for transport in (client._transport, *client._mounts.values()):
        if transport is not None:
            transport._pool._network_backend = _Network(transport._pool._network_backend)
    for name in list(logging.root.manager.loggerDict):
        if name.startswith(_TALKATIVE):
            logging.getLogger(name).addFilter(_without_key)


def _without_key(record: logging.LogRecord) -> bool:
    # At DEBUG these libraries write down headers and status lines, where a server may echo a key,
    # and openai 2 the tracebacks of their errors.
    if (now := getattr(_current, "exchange", None)) is not None:
        record.msg, record.args, record.exc_info = now.hide(record.getMessage()), (), None
    return True


class _Network:
    """Opens connections."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def connect_tcp(self, host: str, port: int, timeout: float | None = None, **options: Any):
        timeout = _current.exchange.left(timeout)
        return _Stream(self._inner.connect_tcp(host, port, timeout=timeout, **options))


class _Stream:
    """A connection that knows what time it is."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.close = inner.close
        self.get_extra_info = inner.get_extra_info

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._inner.read(max_bytes, timeout=_current.exchange.left(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        for first in range(0, len(buffer), _CHUNK):
            left = _current.exchange.left(timeout)
            _current.exchange.sent = True
            self._inner.write(buffer[first : first + _CHUNK], timeout=left)

    def start_tls(self, ssl_context: Any, timeout: float | None = None, **options: Any):
        left = _current.exchange.left(timeout)
        return _Stream(self._inner.start_tls(ssl_context, timeout=left, **options))
