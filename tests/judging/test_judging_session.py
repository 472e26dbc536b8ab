"""What a judge is shown: order, what comes next, undo, what goes to whom; by the files alone."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from judging_pages import JUDGE, draw, new_session, session_of
from small_set import small_set

from mteb_vehicle_search.errors import ResultsError, UsageError
from mteb_vehicle_search.judging.session import Session
from mteb_vehicle_search.judgments import JudgeFile, Judgments, read_judgments, write_sample

AT = "2026-11-01T10:00:00+00:00"


@pytest.fixture(scope="module")
def eval_set(tmp_path_factory):
    """Six captioned images with two captions each, and thirty others."""
    return small_set(tmp_path_factory.mktemp("set") / "set")


def empty(folder, sample) -> Judgments:
    return Judgments(folder, {sample.id: sample}, (), ())


def session(eval_set, folder, judge=JUDGE, **drawn) -> Session:
    sample = draw(eval_set, **{"units": 5, "each": 3, "checks": 2, **drawn})
    return Session(sample, empty(folder, sample), judge, eval_set)


def say(one: Session, key: str, grade: int | None, file: JudgeFile | None = None, **said):
    """Answer as the server does; returns the line, if one was to be written."""
    line = one.judgment(key, grade, **{"seconds": 1.0, "at": AT, **said})
    if line is not None:
        if file:
            file.append(line)
        one.take(line)
    return line


def judge_all(one: Session, file: JudgeFile, units: int, grade: int = 1) -> None:
    for item in one.items:
        if item.unit < units:
            say(one, item.key, grade, file)


def test_every_image_in_question_and_every_check_comes_once_unit_by_unit(eval_set, tmp_path):
    one = session(eval_set, tmp_path)
    assert [unit for unit, _ in itertools.groupby(item.unit for item in one.items)] == list(range(5))
    for number, unit in enumerate(one.sample.units):
        shown = [item.image for item in one.items if item.unit == number]
        assert sorted(shown) == sorted([*unit.images, *one.sample.checks.get(unit.query, ())])
    assert len({item.key for item in one.items}) == len(one.items) == 17
    checks = [(item.query, item.image, item.check) for item in one.items if item.check]
    kinds = {
        (query, image): "known" if number % 2 else "random"
        for number, (query, images) in enumerate(one.sample.checks.items())
        for image in images
    }
    assert {(query, image): kind for query, image, kind in checks} == kinds


def test_checks_stand_anywhere_among_the_images(eval_set, tmp_path):
    places = set()
    for seed in range(30):
        one = session(eval_set, tmp_path, seed=seed, checks=5)
        places |= {at % 4 for at, item in enumerate(one.items) if item.check}
    assert places == {0, 1, 2, 3}


def test_judges_see_the_images_of_a_unit_in_orders_of_their_own(eval_set, tmp_path):
    def order(judge):
        return [item.key for item in session(eval_set, tmp_path, judge).items]

    assert order("ada") == order("ada")
    assert order("ada") != order("bob")
    assert sorted(order("ada")) == sorted(order("bob"))


def test_only_planned_units(eval_set, tmp_path):
    one = session(eval_set, tmp_path, planned=2)
    assert one.units == one.sample.units[:2]
    assert one.progress()[:4] == (0, 8, 0, 2)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(moves=st.lists(st.sampled_from([0, 1, 2, 3, "undo", "again", "restart"]), max_size=40))
def test_whatever_is_pressed_it_goes_on_from_the_files_alone(eval_set, tmp_path_factory, moves):
    folder = tmp_path_factory.mktemp("judgments")
    one = new_session(eval_set, folder, units=4, each=3, checks=2)
    keys, file = [item.key for item in one.items], JudgeFile(folder, JUDGE)
    expected, lines, last = [], 0, None
    for move in moves:
        if move == "restart":
            one = session_of(eval_set, folder)
        elif move == "again" and last:
            # An answer whose acknowledgement was lost.
            assert say(one, *last, file) is None
        elif move == "undo":
            before = one.before
            assert (before is None) == (not expected)
            if before:
                last = (before.key, None)
                assert before.key == keys[len(expected) - 1]
                assert say(one, *last, file)
                expected.pop()
                lines += 1
        elif isinstance(move, int) and (item := one.next):
            assert item.key == keys[len(expected)]
            last = (item.key, move)
            assert say(one, *last, file)
            expected.append(move)
            lines += 1
        assert one.position == len(expected)
    again = session_of(eval_set, folder)
    assert [again.grade(item) for item in again.items] == expected + [None] * (len(keys) - len(expected))
    assert (file.path.read_bytes().count(b"\n") if lines else 0) == lines
    assert again.progress() == one.progress()


def test_undo_goes_back_over_the_border_of_units(eval_set, tmp_path):
    one = session(eval_set, tmp_path)
    first = sum(item.unit == 0 for item in one.items)
    for item in one.items[: first + 1]:
        say(one, item.key, 1)
    assert one.progress()[2] == 1
    for _ in range(2):
        say(one, one.before.key, None)
    assert one.next == one.items[first - 1]
    assert one.next.unit == 0
    assert one.progress()[2] == 0


def test_an_answer_from_elsewhere_does_not_replace_what_was_said(eval_set, tmp_path):
    one = session(eval_set, tmp_path)
    key = one.next.key
    assert say(one, key, 3)
    assert say(one, key, 1) is None
    assert one.grade(one.item(key)) == 3
    say(one, key, None)
    assert say(one, key, 1).grade == 1


def test_a_line_tells_all(eval_set, tmp_path):
    one = session(eval_set, tmp_path)
    check = next(item for item in one.items if item.check == "known")
    line = one.judgment(check.key, 3, seconds=2.25, at=AT, guide="a" * 64, looked=False)
    assert (line.content_id, line.query, line.image) == (eval_set.content_id, check.query, check.image)
    assert (line.grade, line.judge, line.at, line.seconds) == (3, JUDGE, AT, 2.25)
    assert (line.sample, line.guide, line.check, line.shown_known) == (one.sample.id, "a" * 64, "known", False)
    assert line.kind == "person"


def test_who_looked_at_the_own_image_has_seen_it_for_the_rest_of_the_caption(eval_set, tmp_path):
    folder = tmp_path / "judgments"
    one, file = new_session(eval_set, folder, units=3, each=3, checks=0), JudgeFile(folder, JUDGE)
    keys = [item.key for item in one.items]
    assert not say(one, keys[0], 1, file).shown_known
    assert say(one, keys[1], 1, file, looked=True).shown_known
    again = session_of(eval_set, folder)
    assert say(again, keys[2], 1, file).shown_known
    assert not say(again, keys[3], 1, file).shown_known
    assert [again.looked(unit) for unit in again.units] == [True, False, False]


@pytest.mark.parametrize(
    "said",
    [{"grade": 4}, {"grade": True}, {"grade": "3"}, {"seconds": -1.0}, {"seconds": float("nan")}, {"seconds": "2"}],
    ids=["grade 4", "true", "text", "negative", "not a number", "seconds as text"],
)
def test_an_answer_that_cannot_be(eval_set, tmp_path, said):
    one = session(eval_set, tmp_path)
    with pytest.raises(ResultsError, match="A judgment cannot have"):
        one.judgment(one.next.key, **{"grade": 1, "seconds": 1.0, "at": AT, **said})


def test_units_that_another_finished_are_passed_over_unless_they_are_begun(eval_set, tmp_path):
    folder = tmp_path / "judgments"
    mine = new_session(eval_set, folder, units=6, each=3, checks=6)
    begun = next(item for item in mine.items if item.unit == 1)
    say(mine, begun.key, 1, JudgeFile(folder, JUDGE))
    other = session_of(eval_set, folder, "bob")
    judge_all(other, JudgeFile(folder, "bob"), units=3)
    say(other, other.items[-1].key, 1, JudgeFile(folder, "bob"))
    again = session_of(eval_set, folder)
    assert again.units == (mine.units[1], *mine.units[3:])
    assert again.progress()[0] == 1
    # Whoever finished them sees them still, to take something back.
    assert session_of(eval_set, folder, "bob").units == mine.units


def test_a_second_judge_is_given_every_tenth_unit_until_two_others_have_it(eval_set, tmp_path):
    folder = tmp_path / "judgments"
    one = new_session(eval_set, folder, units=12, each=2, checks=0, seed=4)
    twice = tuple(unit for unit in one.units if one.sample.for_two(unit))
    assert 0 < len(twice) < 6
    judge_all(one, JudgeFile(folder, JUDGE), units=12)
    bob = session_of(eval_set, folder, "bob", second=True)
    assert bob.units == twice
    assert session_of(eval_set, folder, "bob").units == ()
    judge_all(bob, JudgeFile(folder, "bob"), units=len(twice))
    assert session_of(eval_set, folder, "eve", second=True).units == ()
    assert session_of(eval_set, folder, "bob", second=True).units == twice


def test_what_was_judged_for_another_sample_is_not_asked_again(eval_set, tmp_path):
    first = new_session(eval_set, tmp_path, units=5, each=3, checks=0)
    judge_all(first, JudgeFile(tmp_path, JUDGE), units=2, grade=2)
    sample = draw(eval_set, units=5, each=3, checks=0, queries=11)
    assert sample.id != first.sample.id
    one = Session(sample, read_judgments(tmp_path), JUDGE, eval_set)
    assert one.progress()[:4] == (6, 15, 2, 5)
    assert one.next.unit == 2


def test_progress_and_summary(eval_set, tmp_path):
    one = session(eval_set, tmp_path)
    assert one.progress() == (0, 17, 0, 5, None)
    for number, item in enumerate(one.items):
        right = {"known": 3, "random": 1}.get(item.check, 2)
        say(one, item.key, right, seconds=float(number))
    said = one.summary()
    assert said.progress == (17, 17, 5, 5, 8.0)
    assert one.next is None
    assert said.grades == {1: 1, 2: 15, 3: 1, 0: 0}
    assert said.seconds == sum(range(17))
    assert said.checks == {"known": (1, 1), "random": (1, 1)}
    for item in one.items:
        if item.check:
            say(one, item.key, None)
            say(one, item.key, 2)
    assert one.summary().checks == {"known": (1, 1), "random": (1, 1)}
    for kind, wrong in (("known", 1), ("random", 3)):
        item = next(item for item in one.items if item.check == kind)
        say(one, item.key, None)
        say(one, item.key, wrong)
    assert one.summary().checks == {"known": (0, 1), "random": (0, 1)}


def test_a_name_that_is_no_judge(eval_set, tmp_path):
    with pytest.raises(UsageError, match=r"'\.\./ada' cannot be a judge's name"):
        session(eval_set, tmp_path, "../ada")


def test_a_sample_of_another_set(eval_set, tmp_path):
    other = small_set(tmp_path / "other", captioned=7)
    sample = draw(eval_set, units=2)
    with pytest.raises(ResultsError, match=f"is of the evaluation set {eval_set.content_id[:12]}, and") as raised:
        Session(sample, empty(tmp_path, sample), JUDGE, other)
    assert "--data" in raised.value.hint


def test_a_sample_that_names_what_is_not_there(eval_set, tmp_path):
    sample = draw(eval_set, units=1, checks=1)
    (unit,) = sample.units
    nobody = replace(unit, query="nobody")
    for wrong in (replace(sample, checks={unit.query: ("nowhere/1",)}), replace(sample, units=(nobody,))):
        with pytest.raises(ResultsError, match=r"names 'no(where/1|body)', which the set has not"):
            Session(wrong, empty(tmp_path, wrong), JUDGE, eval_set)


def test_the_folder_goes_on_with_a_sample_that_was_written(eval_set, tmp_path):
    write_sample(tmp_path, draw(eval_set, units=3))
    assert len(session_of(eval_set, tmp_path).units) == 3
