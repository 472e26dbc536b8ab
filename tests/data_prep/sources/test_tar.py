"""A tar is read to an end that is proven: whatever hides a member is noticed."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.sources.tar import BLOCK, LEAST_END, LONGEST_END, members, opened, read_member
from mteb_vehicle_search.errors import SourceError

SIZES = (0, 1, 511, 512, 513, 5_000, 30_000)


def tar_of(sizes: tuple[int, ...]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for number, size in enumerate(sizes):
            info = tarfile.TarInfo(f"{number}.jpg")
            info.size = size
            tar.addfile(info, io.BytesIO(bytes([number + 1]) * size))
    return file.getvalue()


def read(path: Path) -> list[tuple[str, int]]:
    with opened(path) as tar:
        return [(member.name, len(read_member(tar, member, path)[0])) for member in members(tar, path)]


def starts(content: bytes) -> list[int]:
    """Where the headers begin, and then the end of the archive."""
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        return [*(member.offset for member in tar), tar.offset]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.tar"


@pytest.mark.parametrize("sizes", [SIZES, SIZES[::-1], (0,), ()])
def test_a_whole_archive_is_read_to_its_end(path, sizes):
    path.write_bytes(tar_of(sizes))
    assert read(path) == [(f"{number}.jpg", size) for number, size in enumerate(sizes)]


@pytest.mark.parametrize("padding", [LEAST_END, LEAST_END + BLOCK, LONGEST_END])
def test_an_end_may_be_as_long_as_the_padding_to_a_record_makes_it(path, padding):
    content = tar_of(SIZES)
    path.write_bytes(content[: starts(content)[-1]] + bytes(padding))
    assert len(read(path)) == len(SIZES)


@pytest.mark.parametrize(
    ("padding", "says"),
    [
        (0, "it is cut short at byte {at:,}, where neither a file nor the end of the archive follows"),
        (BLOCK, "it is cut short at byte {at:,}"),
        (LEAST_END - 1, "it is cut short at byte {at:,}"),
        (LONGEST_END + 1, "at byte {at:,} there are more zeros than the end of an archive has"),
        (1_000_000, "at byte {at:,} there are more zeros than the end of an archive has"),
    ],
)
def test_an_end_that_is_none(path, padding, says):
    content = tar_of(SIZES)
    at = starts(content)[-1]
    path.write_bytes(content[:at] + bytes(padding))
    with pytest.raises(SourceError) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path} is damaged: {says.format(at=at)}")
    assert str(caught.value).endswith(".\nGet the file again.")


@pytest.mark.parametrize("number", range(len(SIZES)))
@pytest.mark.parametrize("damage", ["zeroed", "garbled"])
def test_a_header_that_is_damaged_hides_nothing(path, number, damage):
    """Python's own reader takes it for the end, unless it is the first."""
    content = bytearray(tar_of(SIZES))
    at = starts(bytes(content))[number]
    content[at : at + BLOCK] = bytes(BLOCK) if damage == "zeroed" else bytes(b ^ 0x55 for b in content[at : at + BLOCK])
    path.write_bytes(content)
    if number:
        with tarfile.open(path) as tar:
            assert len(tar.getmembers()) == number
    with pytest.raises(SourceError, match="is damaged: "):
        read(path)


@settings(deadline=None, max_examples=200)
@given(st.integers(0, len(tar_of(SIZES)) - 1), st.integers(1, 40_000), st.sampled_from(["zeroed", "garbled", "cut"]))
def test_wherever_it_is_damaged_no_member_is_lost_in_silence(tmp_path_factory, at, length, damage):
    path = tmp_path_factory.mktemp("tar") / "a.tar"
    content = bytearray(tar_of(SIZES))
    end = min(at + length, len(content))
    if damage == "cut":
        del content[at:]
    else:
        content[at:end] = bytes(end - at) if damage == "zeroed" else bytes(b ^ 0x55 for b in content[at:end])
    path.write_bytes(content)
    try:
        found = read(path)
    except SourceError:
        return
    # Of what was lost at the very end, less than a record, a tar itself keeps no trace.
    last = starts(tar_of(SIZES))
    lost = len(SIZES) - len(found)
    assert lost == 0 or (damage == "zeroed" and at <= last[len(found)] and end >= len(content) - LONGEST_END)
