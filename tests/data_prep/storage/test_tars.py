"""A tar is read to an end that is proven: whatever hides a member is noticed."""

from __future__ import annotations

import gzip
import io
import random
import re
import tarfile
import tracemalloc
from pathlib import Path

import pytest
from counted_tree import CountedTree
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.storage import PassedOver, tars
from data_prep.storage.local import LocalTree
from data_prep.storage.onward import Onward
from data_prep.storage.tars import (
    BLOCK,
    LEAST_END,
    LONGEST_END,
    Part,
    Read,
    members,
    opened,
    opened_in,
    parts_of,
    read_member,
    read_tar,
)
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
    with path.open("rb") as file, opened(str(path), file) as tar:
        return [(member.name, len(read_member(tar, member, str(path))[0])) for member in members(tar, str(path))]


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


# Every way to write a tar.


def made(contents, form: int = tarfile.GNU_FORMAT) -> bytes:
    """A tar of names (or TarInfo) and contents."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form) as tar:
        for name, data in contents:
            member = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return file.getvalue()


def of_type(name: str, kind: bytes, linkname: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, linkname
    return member


def got(folder: Path, content: bytes, name: str = "a.tar", part: Part | None = None) -> list[Read]:
    (folder / name).write_bytes(content)
    return list(read_tar(LocalTree(folder), name, PassedOver(), part))


LONG = "folder/" * 40 + "a long name.jpg"
_FORMS = [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT]
_TAR_NAMES = st.text(st.sampled_from("abc é日_"), min_size=1, max_size=60).map(lambda name: f"x{name}x.jpg")
_CONTENTS = st.lists(
    st.tuples(_TAR_NAMES, st.sampled_from([0, 1, 511, 512, 513, 3_000]).map(random.Random(5).randbytes))
)


@settings(deadline=None, max_examples=60)
@given(_CONTENTS, st.sampled_from(_FORMS), st.sampled_from(["a.tar", "a.tar.gz", "A.TGZ", "a.TAR"]), st.booleans())
def test_any_tar_is_read_as_it_was_written(tmp_path_factory, contents, form, name, remote):
    content = made(contents, form if max([len(one.encode()) for one, _ in contents], default=0) < 99 else _FORMS[0])
    if name.lower().endswith("gz"):
        content = gzip.compress(content, compresslevel=1)
    wanted = [Read(one, data, "") for one, data in contents]
    if remote:
        assert list(read_tar(CountedTree({name: content}), name, PassedOver())) == wanted
    else:
        assert got(tmp_path_factory.mktemp("tar"), content, name) == wanted


@pytest.mark.parametrize("form", _FORMS[:2])
def test_long_names(tmp_path, form):
    contents = [(LONG, b"1"), ("short.jpg", b"2"), ("é" * 90, b"3")]
    assert got(tmp_path, made(contents, form)) == [Read(name, data, "") for name, data in contents]


def test_a_name_and_a_size_in_a_pax_header(tmp_path):
    member = tarfile.TarInfo("other.jpg")
    member.pax_headers = {"path": "real.jpg", "size": "700", "comment": "x" * 3_000, "SCHILY.xattr.user.a": "\n1 b=c"}
    content = bytearray(made([(member, b"y" * 700), ("next.jpg", b"z")], tarfile.PAX_FORMAT))
    assert got(tmp_path, bytes(content)) == [Read("real.jpg", b"y" * 700, ""), Read("next.jpg", b"z", "")]


@pytest.mark.parametrize(
    "kind", [tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE], ids=str
)
def test_links_and_devices(tmp_path, kind):
    odd = of_type("odd.jpg", kind, "../../etc/passwd")
    found = got(
        tmp_path, made([("1.jpg", b"1"), (odd, b""), (of_type("folder", tarfile.DIRTYPE), b""), ("2.jpg", b"2")])
    )
    problem = "is a link or a device in the tar, not a file"
    assert found == [Read("1.jpg", b"1", ""), Read("odd.jpg", b"", problem), Read("2.jpg", b"2", "")]


def test_what_is_not_wanted_is_counted(tmp_path):
    (tmp_path / "a.tar").write_bytes(made([("a.jpg", b"1"), ("._a.jpg", b"2"), ("b.jpg", b"3"), ("c.jpg", b"4")]))
    passed = PassedOver()
    found = read_tar(LocalTree(tmp_path), "a.tar", passed, wanted=lambda name: "no b" if name == "b.jpg" else "")
    assert [read.name for read in found] == ["a.jpg", "c.jpg"]
    assert passed == {"hidden files": 1, "no b": 1}


@pytest.mark.parametrize(("size", "read"), [(99, 99), (100, 100), (101, 101), (102, 101), (5_000, 101)])
def test_no_more_of_a_member_is_read_than_one_byte_too_many(tmp_path, monkeypatch, size, read):
    monkeypatch.setattr(tars, "MAX_FILE_BYTES", 100)
    assert [len(one.data) for one in got(tmp_path, made([("a.jpg", bytes(size)), ("b.jpg", b"b")]))] == [read, 1]


# Sparse members, whose holes are not in the tar.

SPARSE = b"begin" + bytes(2_043) + b"middle" + bytes(2_042) + bytes(4_000)  # Data at 0 and at 2,048, a hole at the end.
STORED = b"begin" + bytes(507) + b"middle" + bytes(506)
MAP = [(0, 512), (2_048, 512)]


def with_checksum(header: bytes) -> bytes:
    header = header[:148] + b" " * 8 + header[156:]
    return header[:148] + b"%06o\0 " % sum(header) + header[156:]


def sparse_tar(form: str, others: bool = True) -> bytes:
    if form == "old GNU":
        header = bytearray(of_type("sparse.jpg", b"S").tobuf(tarfile.GNU_FORMAT))
        header[124:136] = b"%011o\0" % len(STORED)
        for number, (at, length) in enumerate(MAP):
            header[386 + 24 * number : 410 + 24 * number] = b"%011o\0%011o\0" % (at, length)
        header[483:495] = b"%011o\0" % len(SPARSE)
        block = with_checksum(bytes(header)) + STORED
    else:
        member, flat = tarfile.TarInfo("GNUSparseFile.0/sparse.jpg"), ",".join(str(n) for pair in MAP for n in pair)
        data, facts = STORED, {"size": len(SPARSE), "name": "sparse.jpg", "numblocks": 2, "map": flat}
        if form == "PAX 1.0":
            facts = {"major": 1, "minor": 0, "realsize": len(SPARSE), "name": "sparse.jpg"}
            data = f"2\n{flat.replace(',', chr(10))}\n".encode().ljust(512, b"\0") + STORED
        member.pax_headers = {f"GNU.sparse.{key}": str(value) for key, value in facts.items()}
        whole = made([(member, data)], tarfile.PAX_FORMAT)
        block = whole[: starts(whole)[-1]]
    if not others:
        return block + bytes(LEAST_END)
    first, last = made([("1.jpg", b"1")]), made([("2.jpg", b"2")])
    return first[: 2 * BLOCK] + block + last


SPARSE_FORMS = ["old GNU", "PAX 0.1", "PAX 1.0"]


@pytest.mark.parametrize("form", SPARSE_FORMS)
@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz"])
def test_a_sparse_member_is_read_with_its_holes(tmp_path, form, name):
    content = sparse_tar(form)
    found = got(tmp_path, gzip.compress(content) if name.endswith("gz") else content, name)
    assert found == [Read("1.jpg", b"1", ""), Read("sparse.jpg", SPARSE, ""), Read("2.jpg", b"2", "")]


@pytest.mark.parametrize("form", SPARSE_FORMS)
def test_a_sparse_inner_tar_is_refused(tmp_path, form):
    """Where it lies, its bytes are not in one piece."""
    (tmp_path / "a.tar").write_bytes(sparse_tar(form))
    with pytest.raises(SourceError) as caught:
        parts_of(LocalTree(tmp_path), "a.tar")
    assert str(caught.value) == (
        f"{tmp_path}/a.tar: sparse.jpg is a sparse file, whose bytes are not in one piece\n"
        "Make the tar anew without --sparse, or get the original."
    )


def test_a_hole_of_a_terabyte_fills_no_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(tars, "MAX_FILE_BYTES", 1_000_000)
    content = sparse_tar("old GNU").replace(b"%011o\0" % len(SPARSE), b"\x80" + (1 << 40).to_bytes(11, "big"))
    at = content.index(b"sparse.jpg")
    found = got(tmp_path, content[:at] + with_checksum(content[at : at + BLOCK]) + content[at + BLOCK :])
    assert [len(read.data) for read in found] == [1, 1_000_001, 1]


# Headers that make no sense.


def changed_header(content: bytes, at: int, place: int, data: bytes) -> bytes:
    header = content[at : at + place] + data + content[at + place + len(data) : at + BLOCK]
    return content[:at] + with_checksum(header) + content[at + BLOCK :]


@pytest.mark.parametrize("kind", [b"L", b"K", b"x", b"g"], ids=str)
@pytest.mark.parametrize("size", [1 << 30, 1 << 50, (1 << 62) + 5])
@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz"])
def test_a_name_of_a_gigabyte_fills_no_memory(tmp_path, kind, size, name):
    content = made([("1.jpg", b"1"), (of_type("2", kind), b"name"), ("3.jpg", b"3")])
    content = changed_header(content, 1_024, 124, b"\x80" + size.to_bytes(11, "big"))
    tracemalloc.start()
    try:
        with pytest.raises(
            SourceError, match=rf"a\.tar(\.gz)? is damaged: .*says that it has {size // 512 * 512:,}"[:30]
        ):
            got(tmp_path, gzip.compress(content) if name.endswith("gz") else content, name)
        assert tracemalloc.get_traced_memory()[1] < 20e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("size", [-1, -512, -1_024, -(1 << 40)])
@pytest.mark.parametrize("first", [False, True])
def test_a_negative_size_does_not_lead_in_a_circle(tmp_path, size, first):
    negative = b"\xff" + (size + (1 << 88)).to_bytes(11, "big")
    content = changed_header(made([("1.jpg", b"1"), ("2.jpg", b"2")]), 0 if first else 1_024, 124, negative)
    with pytest.raises(SourceError, match=r"a\.tar is damaged: "):
        got(tmp_path, content)


@pytest.mark.parametrize(
    "facts",
    [
        {"GNU.sparse.map": "1,x"},
        {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "9"},
        {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "x"},
        {"GNU.sparse.size": "many"},
        {"size": "-5000"},
        {"size": "9" * 30},
        {"hdrcharset": "é"},
    ],
)
def test_a_pax_header_that_makes_no_sense(tmp_path, facts):
    member = tarfile.TarInfo("2.jpg")
    member.pax_headers = facts
    try:
        found = got(tmp_path, made([("1.jpg", b"1"), (member, b"22"), ("3.jpg", b"3")], tarfile.PAX_FORMAT))
    except SourceError as error:
        assert " is damaged: " in str(error) or " ends within " in str(error)  # noqa: PT017
    else:
        assert found == [Read("1.jpg", b"1", ""), Read("2.jpg", b"22", ""), Read("3.jpg", b"3", "")]


def test_a_thousand_headers_for_one_member(tmp_path):
    block = made([(of_type("x", b"L"), b"name")])[: 2 * BLOCK]
    with pytest.raises(SourceError, match="is damaged: a header makes no sense: "):
        got(tmp_path, made([("1.jpg", b"1")])[: 2 * BLOCK] + block * 5_000 + made([("2.jpg", b"2")]))


ODD = sparse_tar("PAX 1.0")[:-10_240] + sparse_tar("old GNU")[1_024:-10_240]
ODD += made([(LONG, b"long"), ("é" * 60, b"pax")], tarfile.PAX_FORMAT)[:-10_240] + made([(LONG, b"long"), ("z", b"z")])


@settings(deadline=None, max_examples=300)
@given(st.integers(0, len(ODD) // BLOCK - 22), st.integers(0, BLOCK - 1), st.binary(min_size=1, max_size=12))
def test_a_changed_byte_anywhere_raises_nothing_raw(tmp_path_factory, block, place, data):
    folder = tmp_path_factory.mktemp("tar")
    content = ODD[: block * BLOCK + place] + data + ODD[block * BLOCK + place + len(data) :]
    at = block * BLOCK
    if ODD[at + 257 : at + 262] == b"ustar":  # A header whose checksum is right again.
        content = content[:at] + with_checksum(content[at : at + BLOCK]) + content[at + BLOCK :]
    try:
        found = got(folder, content)
    except SourceError as error:
        assert re.search("is damaged: |ends within", str(error))  # noqa: PT017
    else:
        # A header that is told to be a file's adds itself.
        assert 4 <= len(found) <= 10


# Packed by gzip.


def drawn_tar(*sizes: int) -> bytes:
    """A tar that cannot be packed."""
    return made([(f"{number}.jpg", random.Random(number).randbytes(size)) for number, size in enumerate(sizes)])


def test_packed_or_not_it_is_the_same(tmp_path):
    contents = [
        (f"{number}.jpg", random.Random(number).randbytes(size)) for number, size in enumerate([*SIZES, 200_000])
    ]
    content = made(contents)
    wanted = got(tmp_path, content)
    assert got(tmp_path, gzip.compress(content), "a.tar.gz") == wanted
    # Packed in parts, as several programs do at once; filled up with zeros, as on a tape.
    parts = b"".join(gzip.compress(content[at : at + 7_777]) for at in range(0, len(content), 7_777))
    assert got(tmp_path, parts + bytes(5_000), "b.tgz") == wanted


PACKED = gzip.compress(
    made([(f"{number}.jpg", random.Random(number).randbytes(size)) for number, size in enumerate(SIZES)])
)


@settings(deadline=None, max_examples=200)
@given(
    st.integers(0, len(PACKED) - 1), st.integers(1, 5_000), st.sampled_from(["zeroed", "garbled", "cut", "unfinished"])
)
def test_wherever_it_is_damaged_the_checksum_tells(tmp_path_factory, at, length, damage):
    end = min(at + length, len(PACKED))
    changed = {
        "zeroed": PACKED[:at] + bytes(end - at) + PACKED[end:],
        "garbled": PACKED[:at] + bytes(byte ^ 0x55 for byte in PACKED[at:end]) + PACKED[end:],
        "cut": PACKED[:at],
        "unfinished": PACKED[:at] + bytes(len(PACKED) - at),
    }[damage]
    folder = tmp_path_factory.mktemp("tar")
    try:
        found = got(folder, changed, "a.tar.gz")
    except SourceError as error:
        assert str(error).startswith(f"{folder}/a.tar.gz ")  # noqa: PT017
        return
    # The name, the time and the like of the packed file are not in the checksum.
    assert changed == PACKED or at < 10
    assert [len(read.data) for read in found] == list(SIZES)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "empty file"),
        (made([("1.jpg", b"1")]), "Not a gzipped file"),
        (gzip.compress(b""), "empty file"),
        (gzip.compress(b"x" * 5_000), "truncated header|invalid header|bad checksum"),
        (PACKED[:-1], "ended before the end"),
        (PACKED[:-8] + bytes(4) + PACKED[-4:], "CRC check failed"),
        (PACKED + b"junk", "Not a gzipped file"),
        (gzip.compress(made([("1.jpg", b"1")])[:600]), "unexpected end of data|cut short"),
        (gzip.compress(made([("1.jpg", b"1")])[:1_024]), "it is cut short at byte 1,024"),
        (gzip.compress(made([("1.jpg", b"1")]) + bytes(50_000)), "at byte 1,024 there are more zeros"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "bytes",  # Which hold the time.
)
def test_a_packed_tar_that_is_none(tmp_path, content, says):
    with pytest.raises(SourceError, match=says):
        got(tmp_path, content, "a.tar.gz")


def test_what_is_packed_is_read_onward_and_a_little_back():
    content = random.Random(2).randbytes(500_000)
    file = Onward(gzip.GzipFile(fileobj=io.BytesIO(gzip.compress(content))))
    assert (file.readable(), file.seekable()) == (True, True)
    assert file.read(100_000) == content[:100_000]
    assert file.seek(-60_000, io.SEEK_CUR) == file.tell() == 40_000
    assert file.read(100_000) == content[40_000:140_000]
    for _ in range(300):
        file.read(512)
    assert file.seek(-60_000, io.SEEK_CUR) == 140_000 + 300 * 512 - 60_000
    assert file.read(1_000) == content[233_600:234_600]
    assert file.seek(400_000) == 400_000
    assert file.read(10) == content[400_000:400_010]
    for wrong in (lambda: file.seek(0), lambda: file.seek(0, io.SEEK_END)):
        with pytest.raises(io.UnsupportedOperation, match="read onward"):
            wrong()
    assert file.tell() == 400_010
    assert file.read() == content[400_010:]
    assert file.read(5) == b""
    assert file.seek(9_000_000) == 9_000_000
    assert file.read(5) == b""


# A tar in a tar.


INNER = {
    f"n{number}.tar": made([(f"n{number}_{n}.JPEG", bytes([number]) * (n * 700)) for n in range(4)])
    for number in range(9)
}
OUTER = made([*INNER.items(), (of_type("link", tarfile.SYMTYPE, "n1.tar"), b"")])


def test_parts_are_where_they_are_said_to_be(tmp_path):
    (tmp_path / "a.tar").write_bytes(OUTER)
    parts = parts_of(LocalTree(tmp_path), "a.tar")
    assert [part.name for part in parts] == list(INNER)
    for part in parts:
        assert OUTER[part.at : part.at + part.size_bytes] == INNER[part.name]
        assert got(tmp_path, OUTER, part=part) == got(tmp_path, INNER[part.name], "inner.tar")


def test_an_inner_tar_that_is_damaged_is_named(tmp_path):
    (tmp_path / "a.tar").write_bytes(OUTER)
    part = parts_of(LocalTree(tmp_path), "a.tar")[3]
    header = OUTER.index(b"n3_2.JPEG")
    with pytest.raises(SourceError, match=rf"^{re.escape(str(tmp_path))}/a\.tar, inner tar n3\.tar is damaged: "):
        got(tmp_path, OUTER[:header] + bytes(BLOCK) + OUTER[header + BLOCK :], part=part)
    with pytest.raises(SourceError, match=r"a\.tar, inner tar n3\.tar (is damaged: |ends within)"):
        got(tmp_path, OUTER[: part.at + 2_000], part=part)
    # A list of another tar.
    with pytest.raises(SourceError, match=r"a\.tar, inner tar n3\.tar is damaged: "):
        got(tmp_path, OUTER, part=part._replace(at=part.at + 100))


def test_only_headers_and_the_wanted_inner_tar_travel(tmp_path):
    big = {name: made([("x.JPEG", random.Random(name).randbytes(90_000))]) for name in INNER}
    far = CountedTree({"a.tar": made(big.items())})
    parts = parts_of(far, "a.tar")
    assert [part.name for part in parts] == list(big)
    assert far.fetched_bytes < 9 * 4_096 + 20_000
    far.forget()
    assert parts_of(far, "a.tar") == parts
    assert far.fetched == []  # It was kept.
    ((name, data, problem),) = read_tar(far, "a.tar", PassedOver(), parts[4])
    assert (name, len(data), problem) == ("x.JPEG", 90_000, "")
    assert far.opened == [("a.tar", [(parts[4].at, parts[4].at + parts[4].size_bytes)])]
    assert far.fetched_bytes < parts[4].size_bytes + 3 * 4_096
    far.stamps["a.tar"] = "v2"
    far.files["a.tar"] = OUTER
    assert [part.name for part in parts_of(far, "a.tar")] == list(INNER)


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz"])
def test_a_tar_that_is_read_whole_travels_once(name):
    content = drawn_tar(*[50_000] * 20)
    content = gzip.compress(content, 1) if name.endswith("gz") else content
    far = CountedTree({name: content})
    assert len(list(read_tar(far, name, PassedOver()))) == 20
    assert far.fetched_bytes == len(content)


@pytest.mark.parametrize("name", ["none.tar", "folder", "folder.tar"])
def test_a_tar_that_is_missing(tmp_path, name):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder.tar").mkdir()
    for action in (
        lambda: parts_of(LocalTree(tmp_path), name),
        lambda: list(read_tar(LocalTree(tmp_path), name, PassedOver())),
    ):
        with pytest.raises(SourceError, match=rf"^there is no {re.escape(str(tmp_path))}/{name}$"):
            action()


def test_what_the_reader_of_a_tar_raises_is_not_taken_for_damage(tmp_path):
    (tmp_path / "a.tar").write_bytes(OUTER)
    with pytest.raises(ValueError, match="of the reader"), opened_in(LocalTree(tmp_path), "a.tar"):
        raise ValueError("of the reader")
