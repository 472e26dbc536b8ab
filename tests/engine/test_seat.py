"""What runs a worker in a process of its own: units ahead of results, progress, and every error in words."""

from __future__ import annotations

import os
import pickle
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from engine_workers import Miscounted, Seen, Squares, Troubled

from mteb_vehicle_search.engine.seat import Seat
from mteb_vehicle_search.errors import EncodeError, EngineError


def made(make_worker, environ=None, path=()):
    seat = Seat()
    return seat, pickle.loads(seat.make(pickle.dumps(make_worker), environ or {}, path))  # noqa: S301


def do(seat, unit):
    return pickle.loads(seat.do(pickle.dumps(unit)))  # noqa: S301


def test_a_worker_is_made_with_the_drivers_settings_and_says_who_it_is(monkeypatch):
    monkeypatch.setenv("VEHICLE_SEARCH_CORES", "1")
    monkeypatch.setattr(sys, "path", ["here"])
    _, answer = made(Squares(), {"VEHICLE_SEARCH_CORES": "7"}, ["there", "here"])
    assert answer.result == {"weights": "w1", "torch": "2"}
    assert os.environ["VEHICLE_SEARCH_CORES"] == "7"
    assert sys.path == ["here", "there"]


def test_units_are_answered_with_their_progress():
    seat, _ = made(Squares(steps=3))
    assert seat.progress() == (0, 0)
    assert do(seat, 5)[:3] == (25, 3, None)
    assert do(seat, 6)[:3] == (36, 3, None)
    assert seat.progress() == (2, 0)


def test_a_worker_draws_ahead_what_is_at_hand_and_no_more():
    seat = Seat()
    with ThreadPoolExecutor(3) as pool:
        answers = [pool.submit(do, seat, unit) for unit in (2, 3, 4)]
        while seat._asked.qsize() < 3:
            time.sleep(0.01)
        seat.make(pickle.dumps(Seen(ahead=1)), {}, [])
        assert sorted(len(future.result(10).result) for future in answers) == [2, 3, 3]
    # It would wait for a second one for ever, if units waited.
    assert len(do(seat, 1).result) == 4


def test_what_it_makes_of_a_unit_is_seen_before_its_end(tmp_path):
    seat, _ = made(Troubled(str(tmp_path), seconds=0.5))
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(do, seat, 3)
        deadline = time.monotonic() + 10
        while seat.progress() == (0, 0) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert seat.progress() == (0, 2)
        assert answer.result().result == 9


class Unpicklable(Exception):
    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (EncodeError("What.", "Mend it."), EncodeError, "What.\nMend it."),
        (OSError(28, "No space"), OSError, "[Errno 28] No space"),
        (Unpicklable(1, 2), RuntimeError, "Unpicklable: 1 and 2"),
        (ValueError(threading.Lock()), RuntimeError, "ValueError: <unlocked"),
        (KeyboardInterrupt("stop"), RuntimeError, "KeyboardInterrupt: stop"),
        (SystemExit(3), RuntimeError, "SystemExit: 3"),
    ],
)
def test_every_error_is_answered_and_the_next_unit_done(error, kind, said):
    seat, _ = made(Squares())
    seat._worker.done = lambda unit: (_ for _ in ()).throw(error) if unit == 1 else unit
    answer = do(seat, 1)
    assert type(answer.error) is kind
    assert str(answer.error).startswith(said)
    assert "test_seat.py" in answer.trace
    assert do(seat, 2).result == 2


def test_a_result_that_does_not_pickle_is_an_error():
    seat, _ = made(Squares())
    seat._worker.done = lambda unit: threading.Lock()
    assert "pickle" in str(do(seat, 1).error)


def test_a_worker_that_miscounts_is_an_error():
    seat, _ = made(Miscounted(0))
    answer = do(seat, 1)
    assert isinstance(answer.error, EngineError)
    assert "ended 1 results short" in str(answer.error)
    seat, _ = made(Miscounted(2))
    assert do(seat, 1).result == 0
    assert "more results than it drew units" in str(do(seat, 2).error)


def test_a_worker_that_cannot_be_made_is_an_error():
    _, answer = made(ZeroDivisionError)
    assert "identity" in str(answer.error)
