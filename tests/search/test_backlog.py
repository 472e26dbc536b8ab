"""A backlog: in order, in one other thread, not too much at once, and what becomes of it when something goes wrong."""

import threading
import time
from threading import Event

import pytest
from waiting import pause_until

from mteb_vehicle_search.search import backlog as module
from mteb_vehicle_search.search.backlog import Backlog

PATIENCE_S = 60


def named(prefix="backlog"):
    return [thread for thread in threading.enumerate() if thread.name.startswith(prefix)]


def failing(error):
    def work():
        raise error

    return work


def test_work_is_done_in_order_in_one_other_thread():
    done = []
    with Backlog() as backlog:
        for number in range(9):
            backlog.hand_over(lambda number=number: done.append((number, threading.get_ident())))
    assert [number for number, _ in done] == list(range(9))
    ((thread,),) = [{thread for _, thread in done}]
    assert thread != threading.get_ident()
    assert named() == []


def test_the_thread_is_there_from_the_start_and_ends_with_the_block():
    # One that is started with the first piece may be missed by an interruption at that moment.
    with Backlog():
        assert len(named()) == 1
    assert named() == []


def test_two_pieces_may_be_left_and_the_third_is_waited_for():
    release, done, handed = Event(), [], []

    def work(number):
        assert release.wait(PATIENCE_S)
        done.append(number)

    def hand_over():
        with Backlog() as backlog:
            for number in range(5):
                backlog.hand_over(lambda number=number: work(number))
                handed.append(number)

    thread = threading.Thread(target=hand_over)
    thread.start()
    deadline = time.monotonic() + PATIENCE_S
    while len(handed) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.3)
    assert (handed, done) == ([0, 1], [])
    release.set()
    thread.join(PATIENCE_S)
    assert done == handed == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("noticed", ["check", "hand_over", "end"])
def test_an_error_is_raised_by_the_next_call_and_nothing_after_it_is_done(noticed):
    error, second, done = ValueError("disk"), Event(), []
    with pytest.raises(ValueError, match="disk") as raised, Backlog() as backlog:  # noqa: PT012
        backlog.hand_over(lambda: second.wait(PATIENCE_S) and failing(error)())
        backlog.hand_over(lambda: done.append("after"))
        second.set()
        deadline = time.monotonic() + 5
        while noticed == "check" and time.monotonic() < deadline:
            backlog.check()
            time.sleep(0.01)
        while noticed == "hand_over" and time.monotonic() < deadline:
            backlog.hand_over(lambda: done.append("later"))
    assert raised.value is error
    assert done == []
    assert named() == []


def test_a_check_neither_waits_nor_complains_of_what_is_under_way():
    release = Event()
    with Backlog() as backlog:
        backlog.hand_over(lambda: release.wait(PATIENCE_S))
        backlog.check()
        release.set()


def test_what_was_handed_over_is_done_when_the_block_fails():
    done = []

    def slow():
        time.sleep(module.PATIENCE_S + 0.3)
        done.append("slow")

    with pytest.raises(ValueError, match="block"), Backlog() as backlog:  # noqa: PT012
        backlog.hand_over(slow)
        backlog.hand_over(lambda: done.append("next"))
        raise ValueError("block")
    assert done == ["slow", "next"]


def test_an_error_of_the_work_comes_before_that_of_the_block():
    with pytest.raises(OSError, match="disk") as raised, Backlog() as backlog:  # noqa: PT012
        backlog.hand_over(failing(OSError("disk")))
        raise ValueError("block")
    assert isinstance(raised.value.__context__, ValueError)


@pytest.mark.parametrize("interruption", [KeyboardInterrupt(), SystemExit(3)])
def test_what_is_interrupted_does_what_half_a_second_allows(interruption):
    begun, done = Event(), []

    def work(number, seconds):
        begun.set()
        time.sleep(seconds)
        done.append(number)

    def ended(*seconds):
        done.clear()
        begun.clear()
        with pytest.raises(type(interruption)) as raised, Backlog() as backlog:  # noqa: PT012
            for number, pause in enumerate(seconds):
                backlog.hand_over(lambda number=number, pause=pause: work(number, pause))
            assert begun.wait(PATIENCE_S)
            raise interruption
        assert raised.value is interruption
        assert named() == []
        return list(done)

    assert ended(0, 0) == [0, 1]
    # What is being written is written to its end; what waits is not begun.
    assert ended(module.PATIENCE_S + 0.3, 0) == [0]


def test_an_interruption_is_not_hidden_by_an_error_of_the_work():
    with pytest.raises(KeyboardInterrupt), Backlog() as backlog:  # noqa: PT012
        backlog.hand_over(failing(OSError("disk")))
        raise KeyboardInterrupt


def test_an_interruption_at_the_start_leaves_no_thread(monkeypatch):
    started = threading.Thread.start

    def interrupted(thread):
        started(thread)
        raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    # What holds the pool is still there, as it is while an interrupted process ends.
    backlog = Backlog()
    with pytest.raises(KeyboardInterrupt), backlog:
        pass
    monkeypatch.undo()
    try:
        pause_until(lambda: not named())
        assert named() == []
    finally:
        backlog._pool.shutdown()
