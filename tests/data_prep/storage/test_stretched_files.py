"""A file that comes by stretches reads like a plain one, and nothing comes that was not asked for."""

from __future__ import annotations

import io
import random
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.storage import stretches
from data_prep.storage.stretches import StretchedFile, pieces_of
from mteb_vehicle_search.errors import SourceError

CONTENT = random.Random(1).randbytes(3_000)
SIZE = len(CONTENT)


class Fetched:
    """The bytes of a content, and which of them came."""

    def __init__(self, content: bytes = CONTENT, failing: int = -1, wait_s: float = 0.0) -> None:
        self.content, self.failing, self.wait_s = content, failing, wait_s
        self.asked: list[tuple[int, int]] = []
        self.lock = threading.Lock()
        self.at_once = self.most_at_once = 0

    def __call__(self, start: int, end: int) -> bytes:
        with self.lock:
            self.asked.append((start, end))
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            time.sleep(self.wait_s)
            if start <= self.failing < end:
                raise SourceError(f"byte {self.failing} is refused")
            return self.content[start:end]
        finally:
            with self.lock:
                self.at_once -= 1

    @property
    def bytes_that_came(self) -> list[int]:
        return sorted(byte for start, end in self.asked for byte in range(start, end))


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Everything a thousandth of its size, so that few bytes need many requests."""
    for name, value in {"PIECE": 100, "GAP": 10, "LOOK": 30}.items():
        monkeypatch.setattr(stretches, name, value)


def waiting_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("stretches")]


PIECES = {
    "nothing": ([], []),
    "one": ([(5, 50)], [(5, 50)]),
    "in the order given": ([(500, 510), (5, 50)], [(500, 510), (5, 50)]),
    "cut": ([(5, 250)], [(5, 105), (105, 205), (205, 250)]),
    "neighbours": ([(0, 40), (40, 60)], [(0, 60)]),
    "with a small gap": ([(0, 40), (50, 60)], [(0, 60)]),
    "with a great gap": ([(0, 40), (51, 60)], [(0, 40), (51, 60)]),
    "overlapping": ([(0, 40), (20, 30), (35, 50)], [(0, 50)]),
    "one twice": ([(0, 40), (0, 40)], [(0, 40)]),
    "one that leads back": ([(20, 40), (0, 10)], [(20, 40), (0, 10)]),
    "empty ones": ([(7, 7), (0, 40), (45, 45), (41, 41), (9, 3)], [(0, 40)]),
    "beyond the end": ([(2_990, 5_000), (3_000, 3_010), (3_005, 3_010), (9_000, 9_010)], [(2_990, 3_000)]),
}


@pytest.mark.parametrize("name", PIECES)
def test_pieces(name):
    given, wanted = PIECES[name]
    assert pieces_of(given, SIZE) == wanted


_STRETCHES = st.lists(
    st.tuples(st.integers(0, SIZE + 50), st.integers(0, 700)).map(lambda pair: (pair[0], pair[0] + pair[1])), max_size=8
)
_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("seek"), st.integers(0, SIZE + 100)),
        st.tuples(st.just("from here"), st.integers(-300, 300)),
        st.tuples(st.just("from the end"), st.integers(-SIZE, 50)),
        st.tuples(st.just("read"), st.integers(-1, 800)),
        st.tuples(st.just("readinto"), st.integers(0, 800)),
    ),
    max_size=30,
)


def take(file, how: str, number: int):
    """One step of a reader, and what it shows."""
    if how == "seek":
        return file.seek(number)
    if how == "from here":
        return file.seek(max(-file.tell(), number), io.SEEK_CUR)
    if how == "from the end":
        return file.seek(number, io.SEEK_END)
    if how == "read":
        return file.read(number), file.tell()
    room = bytearray(number)
    return file.readinto(room), bytes(room), file.tell()


@settings(deadline=None, max_examples=300)
@given(_STRETCHES, _STEPS)
def test_it_reads_like_a_plain_file(planned, steps):
    plain = io.BytesIO(CONTENT)
    with StretchedFile(Fetched(), SIZE, planned) as file:
        for step in steps:
            assert take(file, *step) == take(plain, *step), step
            assert len(file._coming) <= 2 * (stretches.AHEAD + stretches.BEHIND)
    assert waiting_threads() == []


_APART = st.lists(st.integers(0, SIZE), unique=True, max_size=14).flatmap(
    lambda cuts: st.permutations(list(zip(sorted(cuts)[::2], sorted(cuts)[1::2])))
)


@settings(deadline=None, max_examples=100)
@given(_APART, st.sampled_from([7, 64, 400]))
def test_each_planned_byte_comes_once_and_no_other_does(planned, step):
    fetched = Fetched()
    with StretchedFile(fetched, SIZE, planned) as file:
        for start, end in planned:
            file.seek(start)
            for at in range(start, end, step):
                assert file.read(min(step, end - at)) == CONTENT[at : min(at + step, end)]
    pieces = pieces_of(planned, SIZE)
    assert sorted(fetched.asked) == sorted(pieces)
    came = fetched.bytes_that_came
    assert len(came) == len(set(came))
    bridged = set(came).difference(*(range(start, end) for start, end in planned))
    assert len(bridged) <= stretches.GAP * max(0, len(planned) - 1)


def test_pieces_travel_ahead_and_no_more_of_them_than_that():
    fetched = Fetched(wait_s=0.02)
    with StretchedFile(fetched, SIZE, [(0, SIZE)]) as file:
        assert fetched.asked == []
        file.read(1)
        assert sorted(fetched.asked) == [(at, at + 100) for at in range(0, 600, 100)]
        file.seek(250)
        file.read(1)
        file.read(SIZE)
    assert fetched.bytes_that_came == list(range(SIZE))
    assert 2 <= fetched.most_at_once <= stretches.AHEAD


def test_gaps_do_not_travel_unless_they_are_read():
    fetched = Fetched()
    with StretchedFile(fetched, SIZE, [(0, 100), (1_000, 1_100), (2_000, 2_100)]) as file:
        for at in (0, 1_000, 2_000):
            file.seek(at)
            assert file.read(100) == CONTENT[at : at + 100]
        assert sorted(fetched.asked) == [(0, 100), (1_000, 1_100), (2_000, 2_100)]
        file.seek(500)
        assert file.read(3) == CONTENT[500:503]
        assert fetched.asked[3:] == [(500, 530)]
        assert file.read(20) == CONTENT[503:523]
        assert len(fetched.asked) == 4
        # What is asked for does not run into a stretch that travels by itself.
        file.seek(995)
        assert file.read(5) == CONTENT[995:1_000]
        assert fetched.asked[4:] == [(995, 1_000)]


def test_without_a_plan_what_is_read_is_asked_for():
    fetched = Fetched()
    with StretchedFile(fetched, SIZE) as file:
        file.seek(-10, io.SEEK_END)
        assert file.read() == CONTENT[-10:]
        file.seek(0)
        assert file.read(2_000) == CONTENT[:2_000]
        assert file.read(1) == CONTENT[2_000:2_001]
        assert file.read(1) == CONTENT[2_001:2_002]
    assert fetched.asked == [(2_990, 3_000), (0, 2_000), (2_000, 2_030)]
    assert waiting_threads() == []


def test_a_small_step_back_is_not_asked_for_again():
    fetched = Fetched()
    with StretchedFile(fetched, SIZE, [(0, SIZE)]) as file:
        file.read(350)
        file.seek(150)
        assert file.read(300) == CONTENT[150:450]
        assert fetched.bytes_that_came == sorted(set(fetched.bytes_that_came))
        # A great one is, in the least piece that is asked for.
        file.read(1_000)
        file.seek(10)
        assert file.read(5) == CONTENT[10:15]
        assert (10, 40) in fetched.asked


def test_reading_backwards_keeps_little():
    with StretchedFile(Fetched(), SIZE, [(0, SIZE)]) as file:
        for at in range(SIZE - 100, -1, -100):
            file.seek(at)
            assert file.read(100) == CONTENT[at : at + 100]
            assert len(file._coming) <= stretches.AHEAD + 2 * stretches.BEHIND


@pytest.mark.parametrize("planned", [[], [(0, SIZE)]])
def test_a_failure_reaches_the_reader(planned):
    with StretchedFile(Fetched(failing=1_234), SIZE, planned) as file:
        assert file.read(1_200) == CONTENT[:1_200]
        with pytest.raises(SourceError, match=r"^byte 1234 is refused$"):
            file.read(200)
    assert waiting_threads() == []


@pytest.mark.parametrize("planned", [[], [(0, SIZE)]])
@pytest.mark.parametrize("came", [b"", b"few", bytes(5_000)])
def test_other_bytes_than_were_asked_for(planned, came):
    """A reader who goes on until it has all would wait for ever."""
    with (
        StretchedFile(lambda start, end: came, SIZE, planned) as file,
        pytest.raises(OSError, match="bytes came instead"),
    ):
        file.read(500)


def test_closing_in_mid_flight_leaves_no_threads():
    fetched = Fetched(wait_s=0.05)
    file = StretchedFile(fetched, SIZE, [(0, SIZE)])
    file.read(10)
    assert len(waiting_threads()) == stretches.AHEAD
    file.close()
    assert waiting_threads() == []
    assert len(fetched.asked) <= stretches.AHEAD + stretches.BEHIND
    file.close()
    for action in (file.read, lambda: file.seek(0), lambda: file.readinto(bytearray(5)), file.readable):
        with pytest.raises(ValueError, match="closed file"):
            action()


def test_the_end_is_told_once_and_when_all_was_read():
    said = []
    fetched = Fetched()
    with StretchedFile(fetched, SIZE, [(0, 300), (1_000, 1_050)], lambda: said.append(len(fetched.asked))) as file:
        file.read(300)
        assert said == []
        file.seek(1_000)
        file.read(10)
        assert said == [4]
        file.read(40)
        file.seek(1_000)
        file.read(10)
    assert said == [4]


def test_a_failure_at_the_end_reaches_the_reader():
    def changed():
        raise SourceError("it changed")

    with StretchedFile(Fetched(), SIZE, [(0, SIZE)], changed) as file:
        file.read(SIZE - 100)
        with pytest.raises(SourceError, match="it changed"):
            file.read(100)


def test_seeking_to_where_nothing_is():
    with StretchedFile(Fetched(), SIZE) as file:
        with pytest.raises(ValueError, match="negative seek position -1"):
            file.seek(-1)
        assert file.seek(9_000) == 9_000
        assert file.read(5) == b""
        assert file.readinto(bytearray(5)) == 0
        assert (file.readable(), file.seekable(), file.writable()) == (True, True, False)


def test_a_buffered_reader_and_lines():
    content = b"first\nsecond\n" + bytes(500) + b"\nlast"
    with io.BufferedReader(StretchedFile(Fetched(content), len(content), [(0, 13)])) as file:
        assert list(file) == content.splitlines(keepends=True)
