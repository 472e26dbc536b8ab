"""Workers that come, are lost and are replaced, on threads: the rules, without the seconds that a cluster takes."""

from __future__ import annotations

import pickle
import re
import threading
import time

import pytest
from engine_workers import Notes
from threaded_seats import DIES, ThreadedSeats
from waiting import pause_until

from mteb_vehicle_search.engine import crew as module
from mteb_vehicle_search.engine.crew import Crew, Limits
from mteb_vehicle_search.engine.units import Units
from mteb_vehicle_search.errors import EncodeError, EngineError

PATIENT = Limits(60, 60)
# What the worker of a test does in its threads; set by the test.
acts: dict = {}


class Acting:
    """A worker that does what the test says."""

    def identity(self):
        return acts.get("identity", dict)()

    def work(self, units, on_progress):
        for unit in units:
            on_progress(3)
            yield acts.get("do", lambda unit: unit * unit)(unit)


def make():
    acts.get("make", lambda: None)()
    return Acting()


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(module, "TICK_S", 0.02)
    monkeypatch.setattr(module, "ROUND_S", 0.0)
    acts.clear()


def crew(carrier, units, *, members=None, identity=None, notes=None, limits=PATIENT, make_worker=make):
    told = {"identity": identity or {}, "listener": notes or Notes(), "limits": limits}
    worker = pickle.dumps(make_worker), {}, []
    return Crew(carrier, worker, Units(units), members if members is not None else [], **told)


def squares(count):
    return [(number, number * number) for number in range(count)]


def all_at_once(workers):
    """Return a way to square numbers that begins when so many workers are there."""
    together, met = threading.Barrier(workers, timeout=60), set()

    def square(unit):
        if threading.get_ident() not in met:
            met.add(threading.get_ident())
            together.wait()
        return unit * unit

    return square


def die(*_):
    raise RuntimeError(DIES)


def test_all_units_are_done_once_by_as_many_workers_as_there_is_room_for():
    carrier, notes = ThreadedSeats(3), Notes()
    acts["do"] = all_at_once(3)
    assert sorted(crew(carrier, range(50), notes=notes).results()) == squares(50)
    assert notes.staff[-1] == (3, 2)
    assert sum(notes.counts) == 150
    assert carrier.most_calls == 2
    # A fourth one waited for room, and is gone.
    assert (carrier.started, len(carrier.seats)) == (4, 3)


def test_there_are_no_more_workers_than_units():
    carrier = ThreadedSeats(8)
    assert sorted(crew(carrier, range(2)).results()) == squares(2)
    assert carrier.started == 2
    carrier = ThreadedSeats(8)
    assert list(crew(carrier, []).results()) == []
    assert carrier.started == 0


def test_workers_stay_if_they_are_kept():
    carrier, members, notes = ThreadedSeats(2), [], Notes()
    acts["do"] = all_at_once(2)
    list(crew(carrier, range(9), members=members).results())
    first = carrier.started
    assert sorted(crew(carrier, range(2), members=members, notes=notes).results()) == squares(2)
    assert carrier.started == first
    assert notes.staff == [(2, 2)]


def test_whoever_does_not_draw_to_the_end_leaves_no_worker_at_work():
    carrier, members = ThreadedSeats(2), []
    results = crew(carrier, range(100), members=members).results()
    next(results)
    assert len(carrier.seats) >= 2
    results.close()
    assert all(not member.units for member in members)
    assert len(carrier.seats) == len(members)


def test_room_that_comes_later_is_used():
    carrier, notes, go_on = ThreadedSeats(1), Notes(), threading.Event()
    acts["do"] = lambda unit: (go_on.wait(10), unit * unit)[1]
    results = crew(carrier, range(30), notes=notes).results()
    threading.Timer(0.2, lambda: setattr(carrier, "space", 3)).start()
    threading.Timer(0.5, go_on.set).start()
    assert sorted(results) == squares(30)
    assert notes.staff[-1] == (3, 2)


def test_all_workers_go_and_others_come():
    carrier, notes = ThreadedSeats(2), Notes()
    results = crew(carrier, range(40), notes=notes).results()
    found = [next(results) for _ in range(10)]
    carrier.unplug(2)
    found += results
    assert sorted(found) == squares(40)
    assert [loss for loss in notes.losses if "to others" in loss]
    assert all("was lost: it was unplugged." in loss for loss in notes.losses)
    assert (0, 0) in notes.staff[1:] or (1, 1) in notes.staff[2:]
    assert sum(notes.counts) == 120


def test_units_survive_more_lost_machines_than_lost_workers():
    carrier, notes, cuts = ThreadedSeats(1), Notes(), iter([1] * 6)
    acts["do"] = lambda unit: (carrier.unplug(1) if unit == 4 and next(cuts, 0) else 0, unit * unit)[1]
    assert sorted(crew(carrier, range(9), notes=notes).results()) == squares(9)
    assert len(notes.losses) == 6


def test_a_unit_that_ends_its_workers_is_found_though_others_were_beside_it():
    carrier, notes = ThreadedSeats(2), Notes()
    acts["do"] = lambda unit: die() if unit == 7 else unit * unit
    with pytest.raises(EngineError, match=rf"Unit 7 \(7\) ended 3 workers; the last one in seat \d+: {DIES}"):
        list(crew(carrier, range(100), notes=notes).results())
    assert len(notes.losses) == 3
    # It may have had another beside it at first, never again.
    assert all("1 unit goes" in loss for loss in notes.losses[1:])


@pytest.mark.parametrize("answered", [False, True])
def test_the_time_limit_is_for_who_does_not_get_on(answered):
    """Whoever drew the results may have been long away, and then finds answers, not hanging workers."""
    carrier, notes, hang = ThreadedSeats(1), Notes(), threading.Event()
    acts["do"] = lambda unit: (hang.wait(10) if unit == 2 and not answered and not notes.losses else 0, unit * unit)[1]
    results = crew(carrier, range(5), notes=notes, limits=Limits(0.2, 60)).results()
    found = [next(results)]
    time.sleep(0.4)
    found += results
    hang.set()
    assert sorted(found) == squares(5)
    assert len(notes.losses) == (0 if answered else 1)
    if not answered:
        assert "did not get on for 0 s (VEHICLE_SEARCH_UNIT_TIMEOUT_S)" in notes.losses[0]


@pytest.mark.parametrize("error", [EncodeError("Image 7 does not decode.", "Look."), ZeroDivisionError("of unit 7")])
def test_what_a_worker_raises_ends_the_work_and_says_where(error):
    carrier, begun = ThreadedSeats(2), []

    def raise_at_7(unit):
        begun.append(unit)
        if unit == 7:
            raise error

    acts["do"] = raise_at_7
    with pytest.raises(type(error), match=re.escape(str(error))) as caught:
        list(crew(carrier, range(100)).results())
    assert begun.count(7) == 1
    assert re.match(r"A worker in seat \d raised it:\nTraceback[^$]*raise error", caught.value.__notes__[0])


def test_a_worker_that_cannot_be_made_ends_the_work():
    acts["make"] = lambda: 1 / 0
    with pytest.raises(ZeroDivisionError) as caught:
        list(crew(ThreadedSeats(2), range(9)).results())
    assert "raised it" in caught.value.__notes__[0]


class Stepping(Acting):
    def work(self, units, on_progress):
        for unit in units:
            for _ in range(8):
                time.sleep(0.05)
                on_progress(1)
            yield unit


def test_a_long_unit_that_gets_on_is_let_be_and_its_progress_told():
    carrier, notes = ThreadedSeats(1), Notes()
    made = crew(carrier, range(2), notes=notes, limits=Limits(0.25, 60), make_worker=Stepping)
    assert sorted(made.results()) == [(0, 0), (1, 1)]
    assert notes.losses == []
    assert sum(notes.counts) == 16
    assert len(notes.counts) > 4


def test_progress_of_a_lost_worker_is_taken_back():
    carrier, notes, hang = ThreadedSeats(1), Notes(), threading.Event()
    acts["do"] = lambda unit: (hang.wait(10) if not notes.losses else 0, unit * unit)[1]
    made = crew(carrier, range(1), notes=notes, limits=Limits(0.3, 60))
    assert list(made.results()) == [(0, 0)]
    hang.set()
    assert notes.counts == [3, -3, 3]


def test_no_machine_within_the_limit_is_an_error():
    carrier, notes = ThreadedSeats(0), Notes()
    start = time.monotonic()
    with pytest.raises(EngineError, match=r"For 0 s no machine has had room for a worker, which takes 1 thread\."):
        list(crew(carrier, range(3), notes=notes, limits=Limits(60, 0.2)).results())
    assert time.monotonic() - start >= 0.2
    assert (notes.staff, carrier.seats) == ([(0, 0)], [])


def test_waiting_for_a_machine_ends_when_one_comes():
    carrier = ThreadedSeats(0)
    threading.Timer(0.1, lambda: setattr(carrier, "space", 1)).start()
    assert sorted(crew(carrier, range(3), limits=Limits(60, 5)).results()) == squares(3)


def test_the_limit_for_a_machine_begins_when_the_last_one_goes():
    carrier = ThreadedSeats(1)
    results = crew(carrier, range(3), limits=Limits(60, 0.4)).results()
    found = [next(results)]
    time.sleep(0.6)
    carrier.space = 0
    carrier.unplug(1)
    threading.Timer(0.1, lambda: setattr(carrier, "space", 1)).start()
    assert sorted([*found, *results]) == squares(3)


def test_workers_that_are_lost_at_their_start_are_tried_three_times():
    carrier, notes = ThreadedSeats(1), Notes()
    acts["make"] = die
    with pytest.raises(EngineError, match=f"3 times in a row workers were lost at their start, none was made: {DIES}"):
        list(crew(carrier, range(3), notes=notes).results())
    assert len(notes.losses) == 3


def test_a_start_that_succeeds_forgets_those_that_did_not():
    carrier, deaths = ThreadedSeats(1), iter([1, 1, 0, 1, 1, 0])
    acts["make"] = lambda: die() if next(deaths, 0) else None
    acts["do"] = lambda unit: die() if unit == 1 and next(deaths, 0) else unit * unit
    assert sorted(crew(carrier, range(3)).results()) == squares(3)


def test_a_machine_that_takes_many_along_at_their_start_counts_once(monkeypatch):
    monkeypatch.setattr(module, "ROUND_S", 60.0)
    carrier, notes, deaths = ThreadedSeats(4), Notes(), iter([1] * 5)
    acts["make"] = lambda: die() if next(deaths, 0) else None
    assert sorted(crew(carrier, range(20), notes=notes).results()) == squares(20)
    assert len(notes.losses) == 5


def test_a_worker_must_be_what_the_driver_says_and_what_the_others_are():
    carrier, kinds = ThreadedSeats(2), iter("xyyy")
    acts["identity"] = lambda: {"code": "a", "gpu": next(kinds)}
    acts["do"] = lambda unit: time.sleep(0.05)
    with pytest.raises(EngineError, match=r"The worker in seat \d is refused: gpu is . there, and . elsewhere\."):
        list(crew(carrier, range(100), identity={"code": "a"}).results())
    assert carrier.seats == [] or len(carrier.seats) == 1


def test_workers_that_were_kept_are_looked_at_again():
    carrier, members = ThreadedSeats(1), []
    acts["identity"] = lambda: {"code": "a"}
    list(crew(carrier, range(3), members=members).results())
    with pytest.raises(EngineError, match="refused: code is a there, and b elsewhere"):
        list(crew(carrier, range(3), members=members, identity={"code": "b"}).results())


def test_the_fake_counts_what_is_at_work():
    carrier, hang = ThreadedSeats(1), threading.Event()
    acts["do"] = lambda unit: hang.wait(10)
    results = crew(carrier, range(3)).results()
    drawing = threading.Thread(target=list, args=(results,))
    drawing.start()
    pause_until(lambda: carrier.most_calls == 2)
    hang.set()
    drawing.join(10)
    assert not drawing.is_alive()
