import json
import os
import shlex
import sqlite3
import stat
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from skllmreg._cli import cache as main
from skllmreg.exceptions import (
    AnswerNotStoredWarning,
    CacheError,
    InvalidReplyError,
    ReplayMissError,
    RequestError,
)
from skllmreg.llm import ChatModel, Record, _miss, _store
from skllmreg.llm._store import HELD, default_path, open_store
from tests.loopback import Behavior, as_in_a_new_process, completion, error, last

RECORD = Record("hello")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "folder" / "cache.sqlite3"


def test_default_place_is_the_platforms_folder_for_caches(monkeypatch, tmp_path):
    assert default_path() == Path(os.environ["SKLLMREG_CACHE"])
    monkeypatch.delenv("SKLLMREG_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path))
    monkeypatch.setattr("sys.platform", "linux")
    assert default_path() == tmp_path / "skllmreg" / "llm.sqlite3"
    monkeypatch.setattr("sys.platform", "win32")
    assert default_path() == tmp_path / "skllmreg" / "llm.sqlite3"
    monkeypatch.setattr("sys.platform", "darwin")
    assert default_path().parts[-4:] == ("Library", "Caches", "skllmreg", "llm.sqlite3")


def test_a_folder_gets_a_file_in_it(loopback, tmp_path):
    ChatModel("tiny", base_url=loopback.base_url, cache=tmp_path).complete(["a"])
    assert (tmp_path / "llm.sqlite3").exists()


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_files_belong_to_their_owner_alone(loopback, path):
    old = os.umask(0)
    try:
        ChatModel("tiny", base_url=loopback.base_url, cache=path).complete(["a"])
    finally:
        os.umask(old)
    files = list(path.parent.iterdir())
    assert {file.name for file in files} >= {"cache.sqlite3", "cache.sqlite3-wal"}
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_without_a_cache_nothing_is_kept(loopback, tmp_path):
    chat = ChatModel("tiny", base_url=loopback.base_url, cache=None)
    for _ in range(2):
        assert not chat.complete(["a"])[0].cached
    assert chat.usage(this_run=True)[0].requests == 2
    assert list(tmp_path.iterdir()) == []


def test_an_answer_is_stored_the_moment_it_arrives(loopback):
    chat = ChatModel("tiny", base_url=loopback.base_url, max_concurrency=1)
    stored = []
    loopback.reply = lambda body: stored.append(chat.quote(["a", "b", "c"]).cached) or "x"
    chat.complete(["a", "b", "c"])
    assert stored == [0, 1, 2]


def test_a_lease_is_held_by_one_and_released_to_the_next(path):
    store = open_store(path)
    assert store.lease("k", "me") is None
    assert store.lease("k", "me") is None
    assert store.lease("k", "you") is HELD
    store.release("k", "you")
    assert store.lease("k", "you") is HELD
    store.release("k", "me")
    assert store.lease("k", "you") is None
    store.put("k", "server", "model", {}, RECORD)
    assert store.lease("k", "me") == RECORD


def test_of_many_who_want_a_lease_at_once_one_gets_it(path):
    open_store(path)
    barrier, got = threading.Barrier(4), []

    def want(holder):
        store = _store.Store(path)  # a connection of its own, as another process has
        for key in range(50):
            barrier.wait()
            if store.lease(str(key), holder) is None:
                got.append(key)
        store.close()

    threads = [threading.Thread(target=want, args=(str(i),)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got) == list(range(50))


def test_the_lease_of_a_dead_holder_is_taken_over_and_that_of_a_live_one_is_not(path, monkeypatch):
    monkeypatch.setattr(_store, "LEASE", 0.1)
    store = open_store(path)
    store.lease("dead", "first")
    store.lease("live", "second")
    time.sleep(0.06)
    store.renew("second")
    time.sleep(0.06)
    assert store.lease("dead", "me") is None
    assert store.lease("live", "me") is HELD


def test_the_first_answer_stays(path):
    store = open_store(path)
    store.put("k", "server", "model", {}, RECORD)
    store.put("k", "server", "model", {}, Record("other"))
    assert store.lookup(["k", "missing"]) == {"k": RECORD}


def test_threads_that_ask_the_same_ask_once(loopback):
    loopback.latency = 0.1
    replies = []

    def ask():
        replies.extend(ChatModel("tiny", base_url=loopback.base_url).complete(["a", "b"]))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(loopback.prompts) == ["a", "b"]
    assert sum(reply.cached for reply in replies) == 6


def test_who_waits_for_an_answer_that_fails_asks_again(loopback):
    loopback.failures.append(Behavior(completion("", finish_reason="x"), status=401, delay=0.1))
    first = threading.Thread(target=_expect_error, args=(loopback,))
    first.start()
    while not loopback.requests:
        time.sleep(0.005)
    assert not ChatModel("tiny", base_url=loopback.base_url).complete(["a"])[0].cached
    first.join()


def _expect_error(loopback):
    with pytest.raises(Exception, match="401"):
        ChatModel("tiny", base_url=loopback.base_url).complete(["a"])


def test_a_file_that_is_removed_while_open_is_made_anew(loopback, path):
    chat = ChatModel("tiny", base_url=loopback.base_url, cache=path)
    chat.complete(["a"])
    for file in path.parent.iterdir():
        file.unlink()
    assert not chat.complete(["a"])[0].cached
    assert chat.complete(["a"])[0].cached


class TestReplay:
    @pytest.fixture
    def recorded(self, loopback, path):
        chat = ChatModel("tiny", base_url=loopback.base_url, cache=path, temperature=0)
        chat.complete(["What is 1 + 1?", "What is 1 + 2?"])
        as_in_a_new_process()
        return path

    def replay(self, loopback, path, **params):
        params = {"base_url": loopback.base_url, "temperature": 0} | params
        return ChatModel(params.pop("model", "tiny"), cache=path, mode="replay", **params)

    def test_answers_come_without_server_or_key_and_leave_no_trace(self, loopback, recorded):
        before = recorded.read_bytes()
        recorded.chmod(0o444)
        seen = len(loopback.seen)
        loopback.close()
        (reply,) = self.replay(loopback, recorded).complete(["What is 1 + 1?"])
        assert reply.cached
        assert len(loopback.seen) == seen
        assert [file.name for file in recorded.parent.iterdir()] == [recorded.name]
        assert recorded.read_bytes() == before

    def test_a_miss_shows_the_prompt_and_the_nearest(self, loopback, recorded):
        with pytest.raises(ReplayMissError) as caught:
            self.replay(loopback, recorded).complete(["What is 1 + 3?"])
        assert "What is 1 + 3?" in str(caught.value)
        assert "differs from character 12" in str(caught.value)
        assert caught.value.replies == [None]

    @pytest.mark.parametrize(
        ("change", "match"),
        [
            ({"temperature": 1}, "the options is"),
            ({"model": "huge"}, "the model is 'tiny' there, 'huge' here"),
            ({"base_url": "http://localhost:1/v1"}, "the server is"),
        ],
    )
    def test_a_miss_says_which_setting_differs(self, loopback, recorded, change, match):
        with pytest.raises(ReplayMissError, match=match):
            self.replay(loopback, recorded, **change).complete(["What is 1 + 1?"])

    def test_a_second_sample_that_was_not_recorded_is_a_miss(self, loopback, recorded):
        with pytest.raises(ReplayMissError, match="the sample is 0 there, 1 here"):
            self.replay(loopback, recorded).complete(["What is 1 + 1?"] * 2)

    def test_an_empty_file_is_told(self, loopback, tmp_path):
        (tmp_path / "empty").write_bytes(b"")
        with pytest.raises(CacheError, match="empty: nothing was recorded"):
            self.replay(loopback, tmp_path / "empty").complete(["a"])

    def test_what_is_recorded_while_a_replay_is_open_is_found(self, loopback, recorded):
        replay = self.replay(loopback, recorded)
        replay.complete(["What is 1 + 1?"])
        with pytest.raises(ReplayMissError):
            replay.complete(["new"])
        live = ChatModel("tiny", base_url=loopback.base_url, cache=recorded, temperature=0)
        live.complete(["new"])
        assert replay.complete(["new"])[0].cached
        open_store(recorded).close()  # what was in the log is now in the file
        assert len(replay.complete(["What is 1 + 1?", "new"])) == 2

    def test_a_file_that_is_written_during_a_look_is_looked_at_again(self, recorded, monkeypatch):
        states = iter([1, 2, 3, 3])
        monkeypatch.setattr(_store.Store, "_state", lambda self: next(states))
        store = _store.Store.__new__(_store.Store)
        store.path, store.read_only, store.lock = recorded, True, threading.RLock()
        assert store.read("SELECT COUNT(*) FROM entries") == [(2,)]
        assert list(states) == []

    def test_a_prompt_that_is_there_with_other_options_is_found_in_any_cache(
        self, loopback, recorded, monkeypatch
    ):
        monkeypatch.setattr(_miss, "N_COMPARED", 1)  # the second prompt is the newest
        with pytest.raises(ReplayMissError, match="same prompt is there, but the options is"):
            self.replay(loopback, recorded, temperature=1).complete(["What is 1 + 1?"])

    def test_the_nearest_has_its_letters_in_the_same_order(self, loopback, path):
        chat = ChatModel("tiny", base_url=loopback.base_url, cache=path, max_concurrency=1)
        chat.complete(["age 12, height 34", "age 43, height 21"])
        with pytest.raises(ReplayMissError, match="nearest .* 'age 12, height 34' there"):
            self.replay(loopback, path, temperature=None).complete(["age 12, height 43"])

    def test_a_file_that_is_not_there_is_not_made(self, loopback, path):
        with pytest.raises(CacheError, match="no cache file"):
            self.replay(loopback, path).complete(["a"])
        assert not path.exists()


FIELDS = ("refusal", "finish_reason", "model", "prompt_tokens", "completion_tokens")
WRONG_TEXT = json.dumps(dict.fromkeys(FIELDS) | {"text": {"a": 1}, "logprobs": None})
WRONG_LOGPROBS = json.dumps(dict.fromkeys(FIELDS) | {"text": "a", "logprobs": [1]})


class TestBrokenFiles:
    """Each is told, with its name and what to do, before anything is paid."""

    def check(self, loopback, path, match):
        with pytest.raises(CacheError, match=match) as caught:
            ChatModel("tiny", base_url=loopback.base_url, cache=path).complete(["a"])
        assert str(path) in str(caught.value)
        assert loopback.requests == []

    def test_no_database(self, loopback, tmp_path):
        path = tmp_path / "notes.txt"
        path.write_text("Dear diary, " * 100)
        self.check(loopback, path, "Move the file away")
        assert path.read_text().startswith("Dear diary")

    def test_database_of_something_else(self, loopback, tmp_path):
        path = tmp_path / "other.sqlite3"
        with closing(sqlite3.connect(path)) as db, db:
            db.execute("CREATE TABLE mine (a)")
        self.check(loopback, path, "a database of something else")

    def test_newer_version(self, loopback, path):
        open_store(path)
        with closing(sqlite3.connect(path)) as db, db:
            db.execute("PRAGMA user_version = 99")
        as_in_a_new_process()
        self.check(loopback, path, "newer version")

    def test_place_that_cannot_be_written(self, loopback, tmp_path):
        (tmp_path / "file").write_text("")
        self.check(loopback, tmp_path / "file" / "cache.sqlite3", "Is it, and its folder, writable")

    def test_locked(self, loopback, path, monkeypatch):
        monkeypatch.setattr(_store, "BUSY", 0.05)
        open_store(path)
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        self.check(loopback, path, "Another process has held it")
        other.close()

    def test_who_has_waited_in_vain_waits_less_until_the_file_is_free(self, path, monkeypatch):
        monkeypatch.setattr(_store, "BUSY", 0.2)
        monkeypatch.setattr(_store, "BUSY_AGAIN", 0.1)
        store, other = open_store(path), sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(CacheError, match="held it for"), store.writing():
            pass
        assert store.read("PRAGMA busy_timeout") == [(100,)]
        other.execute("ROLLBACK")
        with store.writing():
            assert store.read("PRAGMA busy_timeout") == [(200,)]
        other.close()

    def test_full(self, loopback, path):
        store = open_store(path)
        ((n_pages,),) = store.read("PRAGMA page_count")
        store.read(f"PRAGMA max_page_count = {n_pages}")
        long = ["x" * 100_000]
        with pytest.warns(AnswerNotStoredWarning, match="paid for but is not stored.*full"):
            (reply,) = ChatModel("tiny", base_url=loopback.base_url, cache=path).complete(long)
        assert reply.text.startswith("reply to x")

    @pytest.mark.parametrize("reply", ["{", "{}", "3", "[" * 100_000, WRONG_TEXT, WRONG_LOGPROBS])
    def test_damaged_entry_is_removed_by_the_command_that_is_named(self, loopback, tmp_path, reply):
        chat = ChatModel("tiny", base_url=loopback.base_url, cache=tmp_path / "my cache")
        chat.complete(["a"])
        with open_store(chat.cache).writing() as db:
            db.execute("UPDATE entries SET reply = ?", (reply,))
        with pytest.raises(CacheError, match="is damaged: .*prune --file '") as caught:
            chat.complete(["a"])
        for action in ("list", "export"):
            assert main([action, "--file", str(chat.cache)]) == 0
        run_advice(caught.value)
        assert chat.complete(["a"])[0].text == "reply to a"

    @pytest.mark.parametrize("state", ["{", "{}", "3", '{"blocked_until": "soon"}', '{"a": 1}'])
    def test_damaged_limits_start_anew(self, loopback, path, state):
        chat = ChatModel("tiny", base_url=loopback.base_url, cache=path)
        chat.complete(["a"])
        with open_store(path).writing() as db:
            db.execute("UPDATE limits SET state = ?", (state,))
        assert chat.complete(["b"])[0].text == "reply to b"
        assert main(["pauses", "--lift", "--file", str(path)]) == 0


def test_the_error_does_not_claim_to_have_kept_what_it_could_not(loopback, monkeypatch):
    monkeypatch.setattr(_store.Store, "put", fail)
    chat = ChatModel("tiny", base_url=loopback.base_url, max_concurrency=1)
    loopback.reply = lambda body: error(401) if body["messages"][0]["content"] == "2" else "fine"
    with (
        pytest.warns(AnswerNotStoredWarning),
        pytest.raises(RequestError, match="2 of 3 prompts are answered, 2 of them could not be"),
    ):
        chat.complete(["0", "1", "2"])


def fail(self, *args):
    raise CacheError("disk full")


def run_advice(error):
    """Run the command that stands in the error's message."""
    words = shlex.split(str(error).split("`")[1])
    assert words[:4] == ["python", "-m", "skllmreg", "cache"]
    assert main(words[4:]) == 0


def test_the_command_for_a_bad_reply_removes_its_repair_rounds(loopback):
    loopback.reply = lambda body: "nope"
    chat = ChatModel("tiny", base_url=loopback.base_url)
    for n_requests in (3, 6):
        with pytest.raises(InvalidReplyError) as caught:
            chat.complete(["a"], schema={"type": "integer"})
        assert len(loopback.requests) == n_requests
        run_advice(caught.value)


def test_a_paid_answer_is_returned_though_it_cannot_be_stored(loopback, monkeypatch):
    monkeypatch.setattr(_store.Store, "put", fail)
    chat = ChatModel("tiny", base_url=loopback.base_url)
    with pytest.warns(AnswerNotStoredWarning, match="disk full"):
        (reply,) = chat.complete(["a"])
    assert reply.text == "reply to a"


def test_a_lease_that_cannot_be_renewed_loses_no_answer(loopback, monkeypatch):
    renewals = []

    def fail_to_renew(self, holder):
        renewals.append(holder)
        raise CacheError("locked")

    monkeypatch.setattr(_store, "LEASE", 0.0)
    monkeypatch.setattr(_store.Store, "renew", fail_to_renew)
    loopback.latency = 0.2
    (reply,) = ChatModel("tiny", base_url=loopback.base_url).complete(["a"])
    assert reply.text == "reply to a"
    assert renewals


def test_held_prompts_do_not_keep_the_others_waiting(loopback):
    """Another thread asks the first of four prompts, and is answered last."""
    loopback.reply = lambda body: Behavior(
        completion("x"), delay=0.3 if last(body) == "held" else 0.0
    )
    chat = ChatModel("tiny", base_url=loopback.base_url, max_concurrency=1)
    other = threading.Thread(target=chat.complete, args=(["held"],))
    other.start()
    while not loopback.requests:
        time.sleep(0.005)
    replies = chat.complete(["held", "a", "b", "c"])
    other.join()
    assert [reply.cached for reply in replies] == [True, False, False, False]
    assert loopback.prompts == ["held", "a", "b", "c"]
