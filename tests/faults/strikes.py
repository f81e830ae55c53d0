"""How things go wrong: each of these answers a request, or spoils the cache file meanwhile."""

import errno
import json
import sqlite3
from contextlib import closing

from skllmreg.exceptions import CacheError
from skllmreg.llm._store import open_store
from tests.loopback import Behavior, chunks, completion, error


def changed(payload, text=None, **changes):
    content = payload["choices"][0]["message"]["content"] if text is None else text
    return completion(content, **changes)


def cut_off(payload):
    text = payload["choices"][0]["message"]["content"]
    logprobs = payload["choices"][0]["logprobs"]
    return completion(text[: len(text) // 2 + 1], finish_reason="length", logprobs=logprobs)


def wrong_shape(bench, body):
    return completion('{"other": "value"}' if bench.entry.reads == "json" else "I cannot tell.")


def is_second(bench, body):
    """Whether it is the second request, or the vote in its place."""
    return bench.n == 2 or (bench.entry.reads == "logprobs" and "logprobs" not in body)


def stubborn(bench, body):
    if is_second(bench, body) or (bench.entry.reads != "logprobs" and bench.n <= 4):
        return wrong_shape(bench, body)


def filters(bench, body):
    """Stops the second prompt, and in the next run what is asked then: the same. As Azure does."""
    if is_second(bench, body) or bench.n_sent > bench.n:
        inner = {"code": "ResponsibleAIPolicyViolation", "content_filter_result": {}}
        message = "The prompt triggered the content management policy"
        return error(
            400, message, type=None, param="prompt", code="content_filter", innererror=inner
        )


def has_words_of_its_own(bench, body):
    """Stops the second prompt in whatever form, and in the next run what is asked then."""
    n_forms = {"text": 1, "letter": 1, "logprobs": 2}.get(bench.entry.reads, 3)
    if 2 <= bench.n < 2 + n_forms or bench.n_sent > bench.n:
        return error(400, "Content Exists Risk", type="invalid_request_error", param=None)


def wants_patience(bench, body):
    """A server that insists on its Retry-After."""
    if bench.n == 2:
        bench.closed_until = bench.now() + 0.25
    if bench.now() < bench.closed_until:
        return error(429, headers={"Retry-After": "0.3"})


def comes_slowly(bench, body):
    """A stream that takes longer than the timeout, in steps that are shorter."""
    if bench.n == 2:
        words = chunks(bench.good(body))
        return Behavior(events=[0.6, ": alive\n\n", 0.6, *words[:2], 0.6, *words[2:]])


def answers_whole(bench, body):
    """Takes `stream`, and does nothing about it."""


def refuses_streams(bench, body):
    if "stream" in body:
        return error(400, "Unrecognized request argument supplied: stream")


def goes_away(bench, body):
    bench.loopback.close()
    return Behavior(reset=True)


def knows_no_extras(bench, body):
    for name in ("response_format", "logprobs"):
        if name in body:
            return error(400, f"Unknown parameter: '{name}'")


def tells_no_logprobs(bench, body):
    return changed(bench.good(body))


def says_more(bench, body):
    """A second reply, which nobody has asked for, follows the first at once."""
    if bench.n == 2:
        forged = json.dumps(completion("forged")).encode()
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        return Behavior(bench.good(body), more=head % len(forged) + forged)


# What happens to the cache file while the second answer is under way.


def lock(bench, body):
    if bench.n == 2:
        bench.other = sqlite3.connect(bench.path, isolation_level=None, check_same_thread=False)
        bench.other.execute("BEGIN IMMEDIATE")


def unlock(bench):
    bench.other.close()


def pragma(command):
    def strike(bench, body):
        if bench.n == 2:
            open_store(bench.path).read(f"PRAGMA {command}")

    return strike


def fill_disk(bench, body):
    """No page can be had, and those that are there are full."""
    if bench.n == 2:
        store = open_store(bench.path)
        no_more_pages(store)
        n_refused = 0
        while n_refused < 50:
            try:
                store.read("INSERT INTO leases VALUES (hex(randomblob(32)), 'filler', 0)")
            except CacheError:
                n_refused += 1
    return long_winded(bench.good(body))


def nearly_fill_disk(bench, body):
    """Leases can still be written, answers cannot."""
    if bench.n == 2:
        no_more_pages(open_store(bench.path))
    return long_winded(bench.good(body))


def no_more_pages(store):
    ((n_pages,),) = store.read("PRAGMA page_count")
    store.read(f"PRAGMA max_page_count = {n_pages}")


def long_winded(payload):
    choice = payload["choices"][0]
    text = choice["message"]["content"] + " " * 5000
    return changed(payload, text, logprobs=choice["logprobs"])


# What happens to the cache file between two runs.


def overwrite(bench, body):
    bench.path.write_bytes(b"\xaa" * bench.path.stat().st_size)


def tear(bench, body):
    """Every page but the first is lost, as after a failing disk."""
    whole = bench.path.read_bytes()
    bench.path.write_bytes(whole[:4096] + bytes(len(whole) - 4096))


def add_view(bench, body):
    """As a file from elsewhere may have: what it does is anybody's guess."""
    with closing(sqlite3.connect(bench.path)) as db, db:
        db.execute("CREATE VIEW more AS SELECT * FROM entries")


def take_locks(bench, body):
    """As on some network drives."""
    import fcntl

    def lockf(*args):
        raise OSError(errno.ENOLCK, "No locks available")

    bench.lockf, fcntl.lockf = fcntl.lockf, lockf


def give_locks(bench):
    import fcntl

    fcntl.lockf = bench.lockf


def move_away(bench):
    bench.path.rename(bench.path.with_suffix(".broken"))


def damage(bench, body):
    with closing(sqlite3.connect(bench.path)) as db, db:
        db.execute("UPDATE entries SET reply = '{' WHERE rowid = 2")
