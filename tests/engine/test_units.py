"""Which unit goes to whom, and how often: nobody takes ahead what another needs, and what was lost goes alone."""

from __future__ import annotations

from itertools import count

import pytest

from mteb_vehicle_search.engine.units import Units
from mteb_vehicle_search.errors import EngineError


def test_units_go_in_order_to_the_idle_and_ahead_only_if_others_have_theirs():
    units = Units("abcd")
    assert units.take([], 3) == (0, "a")
    # Three are left, and two workers will soon be idle.
    assert units.take([0], 2) == (1, "b")
    assert units.take([0], 2) is None
    assert units.take([0], 1) == (2, "c")
    assert units.take([], 5) == (3, "d")
    assert units.take([], 0) is None
    assert units.left()
    for number in range(4):
        units.done(number)
    assert not units.left()


def test_no_more_is_drawn_than_is_asked_for():
    drawn = []
    units = Units(drawn.append(n) or n for n in count())
    assert units.waiting(2)
    assert drawn == [0, 1]
    units.take([], 0)
    assert drawn == [0, 1]
    units.take([0], 1)
    assert drawn == [0, 1, 2]
    assert not Units("ab").waiting(3)


def test_of_large_units_only_so_many_are_drawn_and_not_yet_done():
    drawn = []
    units = Units((drawn.append(n) or n for n in range(4)), most=2)
    assert not units.waiting(3)
    assert units.take([], 5) == (0, 0)
    assert units.take([], 5) == (1, 1)
    assert units.take([], 5) is None
    assert drawn == [0, 1]
    assert units.left()
    units.done(0)
    assert units.take([], 5) == (2, 2)
    units.lost([1], "there", "why", with_machine=True)
    assert units.take([], 5) == (1, 1)
    for number in (1, 2):
        units.done(number)
    assert units.take([], 5) == (3, 3)
    units.done(3)
    assert not units.left()


def test_what_was_lost_goes_first_and_alone():
    units = Units("abcd")
    assert units.waiting(4)
    units.take([], 0)
    units.take([0], 0)
    units.lost([0, 1], "there", "why", with_machine=True)
    # A busy worker takes nothing while one waits, so that it is soon idle.
    assert units.take([9], 0) is None
    assert units.take([], 0) == (0, "a")
    assert units.take([0], 0) is None
    assert units.take([], 0) == (1, "b")
    # Nor anything beside one.
    assert units.take([1], 0) is None
    assert units.take([9], 0) == (2, "c")
    units.done(0)
    assert units.take([2], 0) == (3, "d")


@pytest.mark.parametrize(("unit", "shown"), [("rows\n 1 to 9", "rows 1 to 9"), ("x" * 101, "x" * 97 + "...")])
def test_the_third_loss_is_an_error_that_names_it(unit, shown):
    units = Units(["ok", unit])
    units.take([], 0)
    units.take([0], 0)
    units.lost([0, 1], "on a", "it burnt", with_machine=False)
    for _ in range(2):
        units.take([], 0)
    units.done(0)
    units.lost([1], "on b", "it burnt again", with_machine=False)
    units.take([], 0)
    with pytest.raises(EngineError) as caught:
        units.lost([1], "on c", "it burnt down", with_machine=False)
    assert caught.value.message == f"Unit 1 ({shown}) ended 3 workers; the last one on c: it burnt down."


def test_what_was_done_at_last_may_be_forgotten():
    units = Units("a")
    units.take([], 0)
    units.lost([0], "", "", with_machine=False)
    units.take([], 0)
    units.done(0)
    assert not units.left()
    with pytest.raises(KeyError):
        units.done(0)


def test_lost_machines_count_for_less():
    units = Units("a")
    for _ in range(9):
        units.take([], 0)
        units.lost([0], "on a", "no power", with_machine=True)
    units.take([], 0)
    with pytest.raises(EngineError, match=r"Unit 0 \(a\) ended 10 workers; the last one on a: no power\."):
        units.lost([0], "on a", "no power", with_machine=True)
