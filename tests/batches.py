"""Batch jobs as a server on 127.0.0.1 does them: files, batches, and what goes wrong with them.

`Batches(loopback)` adds ``/files`` and ``/batches`` to a `Loopback`; the answers are those of its
`reply`. What may go wrong is set in attributes: see `Batches`.
"""

import json
import re
import threading
import time
from collections import Counter, deque
from urllib.parse import parse_qs, urlsplit

from tests.loopback import Behavior, completion, error

STEPS = ("upload", "create", "list", "look", "cancel", "download")


class Batches:
    """The files and batches of one server.

    Attributes
    ----------
    steps : list of str
        Of `STEPS`, in the order in which they were asked for.
    before, after : dict of str to deque of Behavior
        What a step is answered with in place of being taken, or although it was taken.
    at_step : callable
        ``at_step(step, taken)`` runs before and after each step.
    looks : int
        Looks at a batch that find it at work, before one that finds it done.
    seconds : float
        Seconds after its creation for which a batch is at work.
    hidden : float
        Seconds for which the list does not show a new batch.
    end : callable
        ``end(batch)`` is the status with which a batch ends.
    n_answered : int or None
        Requests of a batch that are answered, where it does not end well; None is half of them.
    line : callable
        ``line(item)`` is the line of a file for an answered request; None for no line.
    lines : callable
        ``lines(list)`` are the lines of a file, in the order in which they are in it.
    enqueue_limit : int or None
        Requests of all batches at work, more than which are refused.
    gone : set of str
        "output" or "error": files that are named and not there.
    billed : Counter
        How often each prompt was answered, by the last message.
    """

    def __init__(self, loopback):
        loopback.batches = self
        self.loopback = loopback
        self.steps, self.files, self.batches = [], {}, {}
        self.before = {step: deque() for step in STEPS}
        self.after = {step: deque() for step in STEPS}
        self.at_step = lambda step, taken: None
        self.looks, self.seconds, self.hidden, self.n_answered = 1, 0.0, 0.0, None
        self.enqueue_limit, self.gone = None, set()
        self.end = lambda batch: "completed"
        self.line = lambda item: item
        self.lines = list
        self.headers, self.billed = [], Counter()
        self.lock = threading.RLock()

    @property
    def n_created(self):
        return self.steps.count("create")

    def takes(self, path):
        return re.search(r"/(files|batches)\b", path) is not None

    def answer(self, method, path, headers, content):
        parts = urlsplit(path)
        kind, *names = parts.path.split("/v1/")[1].split("/")
        step = {
            ("POST", "files", 0): "upload",
            ("POST", "batches", 0): "create",
            ("GET", "batches", 0): "list",
            ("GET", "batches", 1): "look",
            ("POST", "batches", 2): "cancel",
            ("GET", "files", 2): "download",
        }[method, kind, len(names)]
        self.at_step(step, False)
        with self.lock:
            self.headers.append(headers)
            if self.before[step] and (behavior := self.before[step].popleft()) is not None:
                return behavior
            self.steps.append(step)
            behavior = getattr(self, f"_{step}")(*names[:1], content=content, query=parts.query)
        self.at_step(step, True)
        if self.after[step] and (instead := self.after[step].popleft()) is not None:
            return instead
        return behavior if isinstance(behavior, Behavior) else Behavior(behavior)

    def _upload(self, content, query):
        assert b'name="purpose"\r\n\r\nbatch\r\n' in content
        body = content.partition(b"application/octet-stream\r\n\r\n")[2]
        return {"id": self._new_file(body.rpartition(b"\r\n--")[0]), "object": "file"}

    def _new_file(self, content):
        name = f"file-{len(self.files)}"
        self.files[name] = content
        return name

    def _create(self, content, query):
        asked = json.loads(content)
        if asked["input_file_id"] not in self.files:
            return error(404, "no such file")
        items = [json.loads(line) for line in self.files[asked["input_file_id"]].splitlines()]
        batch = {
            **asked,
            "id": f"batch_{len(self.batches)}",
            "object": "batch",
            "status": "validating",
            "created_at": time.time(),
            "request_counts": {"total": len(items), "completed": 0, "failed": 0},
            "errors": None,
            "output_file_id": None,
            "error_file_id": None,
        }
        batch |= {"_items": items, "_looks": self.looks}
        self.batches[batch["id"]] = batch
        n_at_work = sum(
            len(other["_items"]) for other in self.batches.values() if self._is_at_work(other)
        )
        if self.enqueue_limit is not None and n_at_work > self.enqueue_limit:
            batch["status"] = "failed"
            batch["errors"] = {
                "data": [
                    {"code": "token_limit_exceeded", "message": "Enqueued token limit reached"}
                ]
            }
        return shown(batch)

    def _is_at_work(self, batch):
        return batch["status"] in ("validating", "in_progress", "cancelling")

    def _list(self, content, query):
        query = parse_qs(query)
        limit, after = int(query["limit"][0]), query.get("after", [None])[0]
        now = time.time()
        names = [n for n, b in self.batches.items() if now >= b["created_at"] + self.hidden][::-1]
        begin = names.index(after) + 1 if after else 0
        some = [shown(self.batches[name]) for name in names[begin : begin + limit]]
        return {"object": "list", "data": some, "has_more": begin + limit < len(names)}

    def _look(self, name, content, query):
        if name not in self.batches:
            return error(404, "no such batch")
        batch = self.batches[name]
        if self._is_at_work(batch):
            status = "cancelled" if batch["status"] == "cancelling" else self.end(batch)
            if batch["_looks"] > 0 or time.time() < batch["created_at"] + self.seconds:
                batch["_looks"] -= 1
                batch["status"] = "in_progress"
            else:
                self._finish(batch, status)
        return shown(batch)

    def _cancel(self, name, content, query):
        if name not in self.batches:
            return error(404, "no such batch")
        self.batches[name]["status"] = "cancelling"
        return shown(self.batches[name])

    def _download(self, name, content, query):
        if name not in self.files or self.files[name] is None:
            return error(404, "no such file")
        return Behavior(self.files[name])

    def _finish(self, batch, status):
        """Answer what is answered, and write both files."""
        items = batch["_items"]
        if status == "failed":
            batch["status"] = status
            batch["errors"] = {"data": [{"code": "invalid", "message": "no such model", "line": 2}]}
            return
        n = len(items)
        if status != "completed":
            n = n // 2 if self.n_answered is None else self.n_answered
        files = {"output": [], "error": []}
        for item in items[:n]:
            reply = self.loopback.reply(item["body"])
            said = self._said(reply)
            wrong = said["status_code"] != 200
            if not wrong:
                self.billed[item["body"]["messages"][-1]["content"]] += 1
            line = self.line({"custom_id": item["custom_id"], "response": said, "error": None})
            if line is not None:
                files["error" if wrong else "output"].append(line)
        code = {"expired": "batch_expired", "cancelled": "batch_cancelled"}.get(status)
        for item in items[n:]:
            why = {"code": code, "message": "not answered in time"}
            files["error"].append({"custom_id": item["custom_id"], "response": None, "error": why})
        batch["status"] = status
        batch["request_counts"]["completed"] = len(files["output"])
        for kind, lines in files.items():
            if lines:
                content = "".join(json.dumps(line) + "\n" for line in self.lines(lines))
                gone = kind in self.gone
                batch[f"{kind}_file_id"] = self._new_file(None if gone else content.encode())

    @staticmethod
    def _said(reply):
        if isinstance(reply, str):
            reply = completion(reply)
        if isinstance(reply, Behavior):
            return {"status_code": reply.status, "body": reply.body}
        return {"status_code": 200, "body": reply}


def shown(batch):
    """A batch as clients see it."""
    return {name: value for name, value in batch.items() if not name.startswith("_")}
