"""A line says what one judge said of one pair, or is refused with what is wrong in it."""

import json

import pytest
from small_judgments import CONTENT_ID, judgment, line

from mteb_vehicle_search.errors import ResultsError
from mteb_vehicle_search.judgments import Judgment


def test_a_line_is_strict_ascii_json_that_gives_the_judgment_back():
    one = judgment("q\u20280", "größe/\U0001f697", 3, check="known", shown_known=True, guide="7" * 64)
    written = one.as_line()
    assert written.count(b"\n") == 1
    assert written.endswith(b"\n")
    assert written.isascii()
    assert Judgment.of_line(written) == one


def test_a_judgment_may_take_back_what_was_said():
    assert Judgment.of_line(line(grade=None)).grade is None


def test_fields_of_later_versions_are_passed_over():
    assert Judgment.of_line(line(mood="good")) == judgment()


@pytest.mark.parametrize("grade", [-1, 4, 2.0, True, "3"])
def test_a_grade_that_there_is_not_is_refused(grade):
    with pytest.raises(ResultsError, match=f"the grade {grade!r}|grade {grade!r}"):
        Judgment.of_line(line(grade=grade))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"judge": "../ada"}, "the judge '../ada'"),
        ({"judge": "a" * 65}, "the judge"),
        ({"judge": ""}, "the judge ''"),
        ({"query": ""}, "an empty id"),
        ({"image": 7}, "image 7"),
        ({"content_id": None}, "content_id None"),
        ({"seconds": -1}, "seconds -1"),
        ({"seconds": float("nan")}, "seconds nan"),
        ({"seconds": float("inf")}, "seconds inf"),
        ({"seconds": 10**400}, "seconds 1000"),
        ({"seconds": True}, "seconds True"),
        ({"at": "yesterday"}, "the time 'yesterday'"),
        ({"at": "2026-11-01T10:00:00"}, "without a time zone"),
        ({"check": "easy"}, "the check 'easy'"),
        ({"kind": "oracle"}, "the kind 'oracle'"),
        ({"shown_known": 1}, "shown_known 1"),
        ({"grade": ...}, "it lacks a field: .*grade"),
    ],
)
def test_a_field_that_says_what_cannot_be_is_named(changed, said):
    with pytest.raises(ResultsError, match=said):
        Judgment.of_line(line(**changed))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (line()[:40], "it is not JSON"),
        (b"[" * 100_000, "it is not JSON"),
        (b"\xff\xfe", "it is not JSON"),
        (b"[1, 2]", "it is not an object"),
        (b"null", "it is not an object"),
    ],
    ids=["cut off", "nested", "not UTF-8", "a list", "null"],
)
def test_what_is_no_object_is_refused(content, said):
    with pytest.raises(ResultsError, match=said):
        Judgment.of_line(content)


def test_moments_of_several_zones_compare():
    early, late = judgment(at="2026-11-01T10:30:00+02:00"), judgment(at="2026-11-01T09:00:00+00:00")
    assert early.at > late.at
    assert early.moment < late.moment


def test_a_line_names_its_evaluation_set():
    assert json.loads(judgment().as_line())["content_id"] == CONTENT_ID
