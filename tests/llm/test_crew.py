"""The threads by themselves, with an answer that is a function."""

import threading
from collections import deque
from types import SimpleNamespace

from skllmreg.exceptions import BudgetExceededError, InvalidReplyError
from skllmreg.llm._crew import Crew, Task
from skllmreg.llm._reply import Reply
from skllmreg.llm._source import HeldError


def work(n, size, answer):
    source = SimpleNamespace(stop=threading.Event(), renew=lambda: None)
    todo = deque(Task(i, [], 0, str(i)) for i in range(n))
    crew = Crew(lambda task: answer(task.index, source), source, size, todo, [None] * n, int)
    crew.work()
    return crew


def reply(i):
    return Reply(str(i), i, "tiny", "stop", 1, 1, 0.0, False)


def test_replies_stand_where_their_tasks_stood():
    assert [r.value for r in work(50, 8, lambda i, source: reply(i)).replies] == list(range(50))


def test_what_is_held_comes_again_after_the_others():
    seen = []

    def answer(i, source):
        seen.append(i)
        if i == 0 and len(seen) < 4:
            raise HeldError
        return reply(i)

    assert work(4, 1, answer).replies[0].value == 0
    assert seen == [0, 1, 2, 3, 0]


def test_an_error_stops_all_and_what_is_held_comes_no_more():
    seen = []

    def answer(i, source):
        seen.append(i)
        assert len(seen) < 10
        if i == 0:
            raise RuntimeError
        source.stop.wait(1)
        raise HeldError

    crew = work(20, 2, answer)
    assert crew.fatal[0].index == 0
    assert sorted(seen) == [0, 1]


def test_an_unusable_reply_stops_nobody():
    def answer(i, source):
        if i % 2:
            raise InvalidReplyError(str(i))
        return reply(i)

    crew = work(6, 2, answer)
    assert sorted(task.index for task, _ in crew.failures) == [1, 3, 5]
    assert crew.fatal is None


def test_a_budget_is_over_when_nothing_fits_into_it_alone():
    budget = threading.Semaphore(1)

    def answer(i, source):
        if not budget.acquire(blocking=False):
            raise BudgetExceededError("full")
        source.stop.wait(0.01)  # long enough for the others to be refused
        budget.release()
        return reply(i)

    assert None not in work(5, 3, answer).replies
    budget.acquire()
    assert isinstance(work(5, 3, answer).fatal[1], BudgetExceededError)
