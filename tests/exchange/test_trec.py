"""Runs in TREC's form: what is read, and what is refused by its line."""

from __future__ import annotations

import pytest

from mteb_vehicle_search.errors import ResultsError
from mteb_vehicle_search.exchange.trec import read_lines

GOOD = "q1 Q0 a 1 0.5 t\nq1\tQ0  b 2 0.4 t\nq2 Q0 a 1 1e-3 t\n"


def read(tmp_path, text):
    path = tmp_path / "a.trec"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_lines(path, ["q1", "q2"], ["a", "b"])


def test_lines_are_numbered_by_query_and_image(tmp_path):
    found = read(tmp_path, GOOD)
    assert found.queries.tolist() == [0, 0, 1]
    assert found.images.tolist() == [0, 1, 0]
    assert found.scores.tolist() == [0.5, 0.4, 0.001]
    assert found.told_ranks is not None
    assert found.told_ranks.tolist() == [1, 2, 1]
    assert found.tag == "t"


@pytest.mark.parametrize("rank", ["x", "1.5", "nan", "1e300"])
def test_ranks_that_are_none_are_no_ranks(tmp_path, rank):
    assert read(tmp_path, f"{GOOD}q2 Q0 b {rank} 0.1 t\n").told_ranks is None


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("q1 Q0 a 1 0.5", "it has fewer than six words"),
        ("", "it has fewer than six words"),
        ("q1 Q0 a 1 0.5 t x", "it has more than six words"),
        ("q3 Q0 a 1 0.5 t", "the set has no query 'q3'"),
        ("q1 Q0 NA 1 0.5 t", "the set has no image 'NA'"),
        ("q2 Q0 b 1 nan t", "'nan' is no finite score"),
        ("q2 Q0 b 1 -inf t", "'-inf' is no finite score"),
        ("q2 Q0 b 1 high t", "'high' is no finite score"),
        ("q1 Q0 a 3 0.1 t", "query 'q1' lists 'a' again"),
    ],
)
def test_what_is_wrong_is_told_by_its_line(tmp_path, line, said):
    with pytest.raises(ResultsError) as refused:
        read(tmp_path, f"{GOOD}{line}\n")
    assert refused.value.message == f"{tmp_path / 'a.trec'}, line 4: {said}."


def test_the_first_of_several_is_told_and_how_many_there_are(tmp_path):
    with pytest.raises(ResultsError, match=r"line 4, and 2 more lines: the set has no image 'c' \(2 such ids\)"):
        read(tmp_path, f"{GOOD}q1 Q0 c 1 1 t\nq1 Q0 d 1 1 t\nq2 Q0 c 1 1 t\n")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "has no lines"),
        (b"\xff\xfe", "is no run"),
        (f"{GOOD}q1 Q0 a 1 1 t 1 2 3 4\n", "is no run: .* line 4"),
        (f"{GOOD}q2 Q0 b 2 0 u\n", "holds several runs: 't', 'u'"),
        (f'{GOOD}q2 Q0 b 2 0 "t\n', "holds several runs"),
    ],
)
def test_what_is_no_run_is_refused(tmp_path, content, said):
    with pytest.raises(ResultsError, match=said):
        read(tmp_path, content)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ResultsError, match=r"none\.trec does not exist"):
        read_lines(tmp_path / "none.trec", [], [])
