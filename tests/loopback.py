"""A server on 127.0.0.1 that speaks chat completions, and can be told to fail.

Real HTTP for the real client. `reply(body)` decides what comes: a str is the content of the
message, a dict is the whole payload, a `Behavior` does anything else. `failures` is a queue that
comes first.
"""

import contextlib
import json
import socket
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from skllmreg.utils._process import process


@dataclass
class Behavior:
    """One answer: what is sent, how slowly, and where it breaks off."""

    body: str | bytes | dict = ""
    status: int = 200
    headers: dict = field(default_factory=dict)
    delay: float = 0.0
    cut: int | None = None  # send so many bytes of what was announced, then close
    drip: float | None = None  # seconds between single bytes, for ever
    raw: bytes | None = None  # in place of status and headers
    dripped: bytes = b" "
    reset: bool = False
    more: bytes = b""  # sent after the reply, while the connection stays open
    events: list | None = None  # in place of a body: parts of a stream, and pauses in seconds


def error(status, message="no", headers=None, **fields):
    """An error in the form that OpenAI uses."""
    return Behavior({"error": {"message": message, **fields}}, status, headers or {})


def completion(text="ok", **changes):
    """The payload of a completion; `changes` go into its choice or replace its fields."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}}
    choice["finish_reason"] = changes.pop("finish_reason", "stop")
    choice["logprobs"] = changes.pop("logprobs", None)
    choice["message"] |= changes.pop("message", {})
    payload = {
        "id": "1",
        "object": "chat.completion",
        "created": 0,
        "model": "tiny",
        "choices": [choice],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
    }
    return payload | changes


def chunks(payload, n=3):
    """The events of a stream that has the same answer, its text in `n` parts."""
    (choice,), usage = payload["choices"], payload["usage"]
    shared = {name: payload[name] for name in ("id", "created", "model")}
    shared["object"] = "chat.completion.chunk"
    message, logprobs = choice["message"], choice["logprobs"] or {"content": []}
    deltas = [{"role": "assistant", "content": ""}]
    for name in ("reasoning_content", "refusal", "content"):
        text = message.get(name) or ""
        size = max(1, -(-len(text) // n))
        deltas += [{name: text[i : i + size]} for i in range(0, len(text), size)]
    tokens = logprobs["content"]
    parts = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
    parts[-1]["logprobs"] = {"content": tokens[1:]}
    parts[-2 if len(parts) > 1 else -1]["logprobs"] = {"content": tokens[:1]}
    parts.append({"index": 0, "delta": {}, "finish_reason": choice["finish_reason"]})
    bodies = [{**shared, "choices": [part], "usage": None} for part in parts]
    bodies.append({**shared, "choices": [], "usage": usage})
    return [f"data: {json.dumps(body)}\n\n" for body in bodies] + ["data: [DONE]\n\n"]


def as_in_a_new_process():
    """Close the cache files and forget what is known of servers; connections are left."""
    for name in [name for name in process.opened if name != "http"]:
        process.opened.pop(name).close()
    process.noted.clear()


def last(body):
    """Content of the last message of a request."""
    return body["messages"][-1]["content"]


_used_ports = set()


class Loopback:
    """The running server; `seen` has (path, headers in lower case, body) of all requests."""

    def __init__(self, latency=0.0, port=0):
        self.latency = latency
        self.reply = lambda body: f"reply to {last(body)}"
        self.models = ["tiny"]
        self.failures = deque()
        self.batches = None  # a `tests.batches.Batches`, which takes /files and /batches
        self.seen = []
        self.busy = self.most_busy = 0
        self.lock = threading.Lock()
        owner = self

        class Handler(_Handler):
            loopback = owner

        self.server = _Server(("127.0.0.1", port), Handler)
        # The system gives ports again: connections to the server before would be found dead.
        if self.server.server_port in _used_ports and "http" in process.opened:
            process.opened.pop("http").close()
        _used_ports.add(self.server.server_port)
        self.base_url = f"http://127.0.0.1:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def requests(self):
        """Bodies of the chat completions that were asked for."""
        return [body for path, _, body in self.seen if path.endswith("/chat/completions")]

    @property
    def prompts(self):
        """Last message of each request."""
        return [last(body) for body in self.requests]

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request, client_address):
        pass  # clients that go away are part of the tests


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    loopback = None

    def log_message(self, *args):
        pass

    def lowered(self):
        return {name.lower(): value for name, value in self.headers.items()}

    def do_GET(self):
        if (batches := self.loopback.batches) and batches.takes(self.path):
            return self.answer(batches.answer("GET", self.path, self.lowered(), b""))
        self.loopback.seen.append((self.path, self.lowered(), None))
        models = [{"id": name, "object": "model"} for name in self.loopback.models]
        self.answer(Behavior({"object": "list", "data": models}))

    def do_POST(self):
        owner = self.loopback
        content = self.rfile.read(int(self.headers["Content-Length"]))
        if owner.batches and owner.batches.takes(self.path):
            return self.answer(owner.batches.answer("POST", self.path, self.lowered(), content))
        body = json.loads(content)
        with owner.lock:
            owner.seen.append((self.path, self.lowered(), body))
            owner.busy += 1
            owner.most_busy = max(owner.most_busy, owner.busy)
            behavior = owner.failures.popleft() if owner.failures else None
        try:
            time.sleep(owner.latency)
            if behavior is None:
                behavior = owner.reply(body)
            if isinstance(behavior, str):
                behavior = completion(behavior)
            if isinstance(behavior, dict):
                behavior = Behavior(behavior)
            time.sleep(behavior.delay)
        finally:
            with owner.lock:
                owner.busy -= 1
        self.answer(behavior)

    def answer(self, behavior):
        body = behavior.body
        if isinstance(body, dict):
            body = json.dumps(body)
        if isinstance(body, str):
            body = body.encode()
        if behavior.reset:
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return
        if behavior.raw is not None:
            self.close_connection = True
            self.wfile.write(behavior.raw)
            return self.drip(behavior)
        if behavior.events is not None:
            return self.stream(behavior)
        headers = {"Content-Type": "application/json"} | behavior.headers
        self.send_response(behavior.status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(10**9 if behavior.drip else len(body)))
        self.end_headers()
        if behavior.drip:
            return self.drip(behavior)
        self.wfile.write(body[: behavior.cut] + behavior.more)
        if behavior.cut is not None:
            self.close_connection = True

    def stream(self, behavior):
        self.send_response(behavior.status)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for event in behavior.events:
            if isinstance(event, str):
                self.wfile.write(f"{len(event.encode()):x}\r\n{event}\r\n".encode())
            else:
                time.sleep(event)
        if behavior.cut is None:
            self.wfile.write(b"0\r\n\r\n")
        else:
            self.close_connection = True

    def drip(self, behavior):
        with contextlib.suppress(OSError):
            while behavior.drip:
                self.wfile.write(behavior.dripped)
                time.sleep(behavior.drip)
