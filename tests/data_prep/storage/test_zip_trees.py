"""What is in a zip is read as Python's own reader reads it, and whatever is wrong with it is said."""

from __future__ import annotations

import io
import random
import re
import stat
import struct
import tracemalloc
import warnings
import zipfile
from pathlib import Path

import pyarrow as pa
import pytest
from counted_tree import CountedTree
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.storage import Entry, central, leads_out, zips
from data_prep.storage.local import LocalTree
from data_prep.storage.zips import ZipTree
from mteb_vehicle_search.errors import SourceError

MEMBERS = {
    "a.jpg": b"first",
    "train/n1/1.jpg": bytes(range(256)) * 40,
    "train/n1/2.jpg": b"",
    "train/n2/3.jpg": b"third" * 3_000,
    "train.txt": b"words",
    "train-old/4.jpg": b"fourth",
    "val/Zürich/5.jpg": b"fifth",
    "val/日本/6.jpg": b"sixth",
}


def zip_of(members, compression=zipfile.ZIP_DEFLATED, comment=b"", folders=()) -> bytes:
    """A zip of names (or ZipInfo) and contents; a list may hold a name twice."""
    file = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(file, "w", compression) as archive:
        warnings.simplefilter("ignore", UserWarning)  # Of names that are there twice.
        for name in folders:
            archive.writestr(zipfile.ZipInfo(name), b"")
        for name, data in members.items() if isinstance(members, dict) else members:
            archive.writestr(name, data)
        archive.comment = comment
    return file.getvalue()


@pytest.fixture
def tree_of(tmp_path):
    def make(content: bytes) -> ZipTree:
        (tmp_path / "a.zip").write_bytes(content)
        return ZipTree(LocalTree(tmp_path), "a.zip")

    return make


def info(name: str, **facts) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name)
    for key, value in facts.items():
        setattr(member, key, value)
    return member


def contents(tree: ZipTree) -> dict[str, bytes]:
    names = [entry.name for entry in tree.walk()]
    assert len(set(names)) == len(names)
    found = list(tree.read(names))
    assert [problem for _, problem in found] == [""] * len(names)
    return dict(zip(names, (data for data, _ in found)))


def listed(tree: ZipTree, folder: str = "") -> dict[str, bool]:
    """All that is below a folder, found folder by folder; and whether it is a folder."""
    found = {}
    for entry in tree.entries(folder):
        name = f"{folder}/{entry.name}" if folder else entry.name
        found[name] = entry.is_folder
        if entry.is_folder:
            found |= listed(tree, name)
    return found


def folders_above(names) -> set[str]:
    return {name[: place.start()] for name in names for place in re.finditer("/", name)}


# What is there.


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
@pytest.mark.parametrize("folders", [(), ("train/", "train/n1/", "empty/", "val/日本/")])
def test_a_zip_is_read_as_python_reads_it(tree_of, compression, folders):
    tree = tree_of(zip_of(MEMBERS, compression, folders=folders))
    assert contents(tree) == MEMBERS
    assert [entry.name for entry in tree.walk()] == sorted(MEMBERS)
    above = folders_above(MEMBERS) | {name.rstrip("/") for name in folders}
    assert listed(tree) == dict.fromkeys(MEMBERS, False) | dict.fromkeys(above, True)
    with zipfile.ZipFile(tree.where) as archive:
        for member in archive.infolist():
            name = member.filename
            if not member.is_dir():
                wanted = Entry(name.rpartition("/")[2], member.file_size, f"crc {member.CRC:08x}")
                assert tree.entry(name) == wanted
                assert tree.open(name).read() == archive.read(name)


def test_names_sort_around_the_slash(tree_of):
    names = ["a", "a b/c", "a!", "a-/x", "a./x", "a/b/c", "a/b.c", "a/b0", "a0/x", "a1", "aa/x"]
    tree = tree_of(zip_of({name: name.encode() for name in names if name != "a"}))
    assert [entry.name for entry in tree.entries()] == ["a", "a b", "a!", "a-", "a.", "a0", "a1", "aa"]
    assert [entry.name for entry in tree.entries("a")] == ["b", "b.c", "b0"]
    assert [(entry.name, entry.is_folder) for entry in tree.entries("a/b")] == [("c", False)]
    assert [entry.name for entry in tree.walk("a")] == ["b.c", "b/c", "b0"]
    assert contents(tree).keys() == set(names) - {"a"}


def test_what_is_not_there(tree_of):
    tree = tree_of(zip_of(MEMBERS, folders=["empty/"]))
    for name in ("train/n", "train/n1/", "nothing", "a.jpg/x", "val/Zürich/5.jp", "empty/", "/", "/a.jpg", "zzz"):
        assert tree.entry(name) is None, name
        assert list(tree.walk(name)) == []
        assert tree.entries(name) == []
        with pytest.raises(SourceError, match=rf"a\.zip, member {re.escape(name)}$"):
            tree.open(name)
        with pytest.raises(SourceError, match=rf"a\.zip has no {re.escape(name)}$"):
            next(tree.read(["a.jpg", name]))
    assert tree.entry("train") == Entry("train", is_folder=True)
    assert tree.entry("train/n1") == Entry("n1", is_folder=True)
    assert tree.entry("empty") == Entry("empty", is_folder=True)
    assert tree.entries("empty") == []
    assert tree.entry("") == Entry("", is_folder=True)


def test_members_are_read_in_the_order_asked_for_and_as_often(tree_of):
    tree = tree_of(zip_of(MEMBERS))
    names = [*reversed(MEMBERS), "a.jpg", "a.jpg"]
    assert [data for data, _ in tree.read(names)] == [MEMBERS[name] for name in names]
    assert list(tree.read([])) == []
    assert tree.travelling(MEMBERS) == 0


_NAMES = st.lists(
    st.text(st.sampled_from("ab/.-0 é日\\"), min_size=1, max_size=8).filter(lambda name: not name.endswith("/")),
    min_size=1,
    max_size=12,
    unique=True,
)


@settings(deadline=None, max_examples=70)
@given(_NAMES, st.integers(0, 2**32), st.sampled_from([b"", b"PK said the comment"]), st.booleans())
def test_any_zip_is_read_as_python_reads_it(tmp_path_factory, names, seed, comment, remote):
    drawn = random.Random(seed)
    # A name that is a folder's, too, is a test of its own.
    names = [name for name in names if name not in folders_above(names)]
    members = {name: drawn.randbytes(drawn.choice([0, 1, 300])) * drawn.choice([1, 200]) for name in names}
    content = drawn.choice([b"", b"#!/bin/sh\n"]) + zip_of(members, drawn.choice([0, 8]), comment)
    folder = tmp_path_factory.mktemp("zip")
    (folder / "a.zip").write_bytes(content)
    tree = ZipTree(CountedTree({"a.zip": content}, stamp="") if remote else LocalTree(folder), "a.zip")
    assert contents(tree) == members
    with zipfile.ZipFile(folder / "a.zip") as archive:
        assert {member.orig_filename: member.CRC for member in archive.infolist()} == {
            entry.name: int(entry.stamp.removeprefix("crc "), 16) for entry in tree.walk()
        }
    for folder in folders_above(names) - {""}:
        inside = [name[len(folder) + 1 :] for name in names if name.startswith(f"{folder}/")]
        assert [entry.name for entry in tree.walk(folder)] == sorted(inside)
        children = {name.partition("/")[0] for name in inside} - {""}
        assert [entry.name for entry in tree.entries(folder)] == sorted(children)


def test_names_in_the_old_encoding(tree_of):
    content = zip_of({"Z____rich/x.jpg": b"1", "plain.jpg": b"2"})
    tree = tree_of(content.replace(b"Z____rich", "Zürich é".encode("cp437").ljust(9, b"!")))
    assert contents(tree) == {"Zürich é!/x.jpg": b"1", "plain.jpg": b"2"}


def test_something_may_stand_before_the_zip_and_a_comment_behind_it(tree_of):
    tree = tree_of(b"MZ" + bytes(5_000) + zip_of(MEMBERS, comment=b"c" * 0xFFFF))
    assert contents(tree) == MEMBERS


def test_the_end_of_a_zip_in_the_comment_is_not_taken_for_its_end(tree_of):
    inner = zip_of({"wrong.jpg": b"wrong"})
    tree = tree_of(zip_of(MEMBERS, comment=inner[inner.rfind(b"PK\x05\x06") :] + b"more"))
    assert contents(tree) == MEMBERS


def test_a_zip_in_a_zip(tree_of):
    inner = zip_of(MEMBERS)
    tree = tree_of(zip_of({"inner.zip": inner, "other": b""}, zipfile.ZIP_STORED))
    assert contents(ZipTree(tree, "inner.zip")) == MEMBERS


def test_an_empty_zip(tree_of):
    tree = tree_of(zip_of({}))
    assert (list(tree.walk()), tree.entries(), list(tree.read([])), tree.entry("a")) == ([], [], [], None)


# Zip64.


def wide(members: dict[str, bytes], prefix: bytes = b"") -> bytes:
    """A zip whose sizes and places all stand in 64 bits, written by hand."""
    body, records = bytearray(), bytearray()
    for name, data in members.items():
        crc, raw = zipfile.crc32(data), name.encode()
        at = len(body)
        body += struct.pack("<4s5H3L2H", b"PK\3\4", 45, 0x800, 0, 0, 33, crc, 0xFFFFFFFF, 0xFFFFFFFF, len(raw), 20)
        body += raw + struct.pack("<2H2Q", 1, 16, len(data), len(data)) + data
        # Another extra field stands before the one that is looked for.
        extra = struct.pack("<2H5s", 0x5455, 5, b"times") + struct.pack("<2H3Q", 1, 24, len(data), len(data), at)
        fields = (b"PK\1\2", 45, 45, 0x800, 0, 0, 33, crc, 0xFFFFFFFF, 0xFFFFFFFF, len(raw), len(extra), 1, 0, 0, 0)
        records += struct.pack("<4s6H3L5H2L", *fields, 0xFFFFFFFF) + raw + extra + b"c"
    at, count = len(body), len(members)
    end64 = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count, len(records), at)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, at + len(records), 1)
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    return bytes(prefix + body + records + end64 + locator + end)


@pytest.mark.parametrize("prefix", [b"", b"MZ" + bytes(3_000)])
def test_sizes_and_places_in_64_bits(tree_of, prefix):
    tree = tree_of(wide(MEMBERS, prefix))
    with zipfile.ZipFile(tree.where) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == MEMBERS
    assert contents(tree) == MEMBERS
    assert tree.entry("train.txt").size_bytes == 5


def test_members_that_were_written_for_64_bits(tree_of):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in MEMBERS.items():
            with archive.open(name, "w", force_zip64=True) as member:
                member.write(data)
    assert contents(tree_of(file.getvalue())) == MEMBERS


def test_a_place_beyond_four_gibibytes(tmp_path):
    """The file has a hole, which takes no room on the disk."""
    hole = 5 << 30
    with (tmp_path / "a.zip").open("wb") as file, zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.jpg", b"first")
        file.seek(hole)
        archive.start_dir = hole
        archive.writestr("b.jpg", b"second")
    tree = ZipTree(LocalTree(tmp_path), "a.zip")
    assert contents(tree) == {"a.jpg": b"first", "b.jpg": b"second"}


@pytest.mark.parametrize("make", [zip_of, wide])
def test_more_than_65535_members(tree_of, monkeypatch, make):
    names = [f"{number % 7}/{number:06}.jpg" for number in range(66_000)]
    if make is zip_of:  # Too slow a writer for so many.
        monkeypatch.setattr(central, "_CHUNK", 7)
        names = names[:50]
    tree = tree_of(make(dict.fromkeys(names, b"x")))
    assert [entry.name for entry in tree.walk()] == sorted(names)
    assert [entry.name for entry in tree.entries()] == list("0123456")
    assert len(tree.entries("3")) == sum(name.startswith("3/") for name in names)
    assert [data for data, _ in tree.read([names[-1], names[0]])] == [b"x", b"x"]


def test_what_is_done_for_a_member_does_not_grow_with_their_number():
    class Counted(bytes):
        most = 0

        def __getitem__(self, key):
            found = super().__getitem__(key)
            Counted.most = max(Counted.most, len(found))
            return found

    content = wide(dict.fromkeys((f"{number}.jpg" for number in range(500)), b"x"))
    place = central.find_central(io.BytesIO(content), len(content))
    records, _ = central.read_central(io.BytesIO(content), place)
    assert len(central.member_table(central.Central(Counted(records), place))["name"]) == 500
    assert 0 < Counted.most < 100


def test_more_than_65535_members_whose_number_runs_over(tree_of):
    content = wide({f"{number:05}": b"" for number in range(65_540)})
    end64 = content.rindex(b"PK\6\6")
    length, at = struct.unpack_from("<2Q", content, end64 + 40)
    content = content[:end64] + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 4, 4, length, at, 0)
    assert len(list(tree_of(content).walk())) == 65_540


def test_fifty_thousand_members_take_little_memory(tree_of):
    names = [f"ILSVRC/Data/CLS-LOC/train/n{number // 1300:08}/n{number:08}_{number}.JPEG" for number in range(50_000)]
    parts = []
    for number, name in enumerate(names):
        fields = (b"PK\1\2", 20, 20, 0, 8, 0, 33, 7, 10, 10, len(name), 0, 0, 0, 0, 0, number)
        parts.append(struct.pack("<4s6H3L5H2L", *fields) + name.encode())
    body, records = bytes(50_000), b"".join(parts)
    end64 = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, 50_000, 50_000, len(records), len(body))
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, len(body) + len(records), 1)
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    tree = tree_of(body + records + end64 + locator + end)
    del parts, body
    arrow = pa.total_allocated_bytes()
    tracemalloc.start()
    try:
        assert tree.entry(names[777]).size_bytes == 10
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # A quarter of what an object takes for each; the directory itself has 5 MB.
    assert held - len(records) < 1e6
    assert pa.total_allocated_bytes() - arrow < 7e6


# Odd names.


OUT = ["../x.jpg", "a/../../x.jpg", "/etc/x.jpg", "//host/x.jpg", "C:\\x.jpg", "c:/x.jpg", "d:x.jpg", "..\\x.jpg"]
OUT += ["a\\..\\..\\x.jpg", "\\x.jpg", "\\\\host\\share\\x.jpg", "..", "a/.."]


@pytest.mark.parametrize("name", OUT)
def test_names_that_lead_out_are_told_and_become_no_paths(tree_of, name, tmp_path):
    assert leads_out(name)
    before = sorted(tmp_path.rglob("*"))
    tree = tree_of(zip_of({name: b"out", "in.jpg": b"in"}))
    assert contents(tree) == {name: b"out", "in.jpg": b"in"}
    assert sorted(tmp_path.rglob("*")) == [*before, tmp_path / "a.zip"]


@pytest.mark.parametrize("name", ["x.jpg", "a/x.jpg", "..x.jpg", "x..", "...", "a/...b/x.jpg", "./x.jpg", "", "ab:c"])
def test_names_that_do_not_lead_out(name):
    assert not leads_out(name)


def test_a_backslash_is_part_of_a_name(tree_of):
    tree = tree_of(zip_of({"train\\n1\\1.jpg": b"1"}))
    assert tree.entries() == [Entry("train\\n1\\1.jpg", 1, f"crc {zipfile.crc32(b'1'):08x}")]
    assert tree.entry("train") is None


def test_a_name_that_python_cuts_off(tree_of):
    """Behind a zero byte; and two members are then of one name for it."""
    content = zip_of({"a.jpg_1": b"1", "a.jpg_2": b"2"}).replace(b"jpg_", b"jpg\0")
    assert contents(tree_of(content)) == {"a.jpg\x001": b"1", "a.jpg\x002": b"2"}


def test_two_members_of_one_name(tree_of):
    tree = tree_of(zip_of([("a/x.jpg", b"1"), ("a/y.jpg", b"2"), ("a/x.jpg", b"3"), ("b.jpg", b"4")]))
    twice = rf"^{re.escape(tree.where)} holds a/x\.jpg twice\nWhich one is meant is unknown: get the zip again\.$"
    for action in (
        lambda: tree.entries("a"),
        lambda: tree.entry("a/x.jpg"),
        lambda: tree.open("a/x.jpg"),
        lambda: list(tree.read(["b.jpg", "a/x.jpg"])),
    ):
        with pytest.raises(SourceError, match=twice):
            action()
    # Who walks sees both, and the others can be had.
    assert [entry.name for entry in tree.walk()] == ["a/x.jpg", "a/x.jpg", "a/y.jpg", "b.jpg"]
    assert list(tree.read(["a/y.jpg"])) == [(b"2", "")]


def test_a_file_and_a_folder_of_one_name(tree_of):
    tree = tree_of(zip_of({"a/b": b"1", "a/b.c": b"2", "a/b/d": b"3"}))
    with pytest.raises(SourceError, match=r"a\.zip holds a/b both as a file and as a folder\n"):
        tree.entries("a")
    assert contents(tree) == {"a/b": b"1", "a/b.c": b"2", "a/b/d": b"3"}


def test_two_names_of_one_place(tree_of):
    """The reader takes neither for the other: of one the header says another name."""
    content = bytearray(zip_of({"a.jpg": b"first", "b.jpg": b"second"}))
    record = content.rindex(b"PK\1\2")
    content[record + 42 : record + 46] = bytes(4)
    tree = tree_of(bytes(content))
    for names in (["a.jpg", "b.jpg"], ["b.jpg", "a.jpg"]):
        found = dict(zip(names, tree.read(names)))
        assert found["a.jpg"] == (b"first", "")
        assert found["b.jpg"][1].startswith("zip member b.jpg is damaged: File name in directory 'b.jpg'")


# What is wrong with a member is its own affair.


def refused(tree: ZipTree, name: str, says: str):
    """The member is rejected with a reason; others are there; to open it is an error."""
    assert list(tree.read(["good.jpg", name, "other.jpg"])) == [(b"good", ""), (b"", says), (b"other", "")]
    with pytest.raises(SourceError) as caught:
        tree.open(name)
    assert caught.value.message == f"{tree.path(name)}: {says}"


def with_others(name, data: bytes, compression=zipfile.ZIP_DEFLATED) -> bytes:
    return zip_of([("good.jpg", b"good"), (name, data), ("other.jpg", b"other")], compression)


def test_a_link(tree_of):
    link = info("link.jpg", external_attr=(stat.S_IFLNK | 0o777) << 16)
    refused(tree_of(with_others(link, b"/etc/passwd")), "link.jpg", "is a link in the zip, not a file")


def patched(content: bytes, name: bytes, *changes: tuple[int, bytes], header: bool = False) -> bytes:
    """Replace bytes of a member's record (or of its header), counted from its begin."""
    magic, length = (b"PK\3\4", 30) if header else (b"PK\1\2", 46)
    changed = bytearray(content)
    places = [found.start() for found in re.finditer(re.escape(magic), content)]
    at = next(place for place in places if content[place + length :].startswith(name))
    for place, data in changes:
        changed[at + place : at + place + len(data)] = data
    return bytes(changed)


def test_an_encrypted_member(tree_of):
    content = patched(with_others("secret.jpg", b"secret"), b"secret.jpg", (8, b"\1"))
    refused(tree_of(content), "secret.jpg", "zip member secret.jpg is encrypted")


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
@pytest.mark.parametrize("seed", range(8))
def test_data_that_is_damaged(tree_of, compression, seed):
    data = random.Random(seed).randbytes(3_000)
    content = bytearray(with_others("bad.jpg", data, compression))
    header = bytes(content).index(b"bad.jpg") + 7
    place = random.Random(seed).randrange(header, header + 2_900)
    content[place : place + 40] = bytes(byte ^ 0x5A for byte in content[place : place + 40])
    tree = tree_of(bytes(content))
    found = list(tree.read(["good.jpg", "bad.jpg", "other.jpg"]))
    assert (found[0], found[2]) == ((b"good", ""), (b"other", ""))
    assert found[1][0] == b""
    assert found[1][1].startswith("zip member bad.jpg is damaged: ")


DAMAGED = {
    "a checksum": ([(16, b"\1\2\3\4")], False, "Bad CRC-32 for file 'bad.jpg'"),
    "a smaller size": ([(24, b"\5\0\0\0")], False, "Bad CRC-32 for file 'bad.jpg'"),
    "a greater size": ([(24, b"\xff\0\0\0")], False, "it has 9 bytes instead of 255"),
    "no header": ([(0, b"xxxx")], True, "Bad magic number for file header"),
    "a header of another name": ([(30, b"had")], True, "File name in directory 'bad.jpg' and header b'had.jpg'"),
    "a header whose name is no UTF-8": ([(6, b"\0\x08"), (30, b"\xff\xff")], True, "'utf-8' codec can't decode"),
    "a place beyond the file": ([(42, b"\xff\xff\xff\x7f")], False, "Truncated file header"),
    "a place in the middle": ([(42, b"\3\0\0\0")], False, "Bad magic number for file header"),
}


@pytest.mark.parametrize("remote", [False, True])
@pytest.mark.parametrize("name", DAMAGED)
def test_records_and_headers_that_are_damaged(tree_of, name, remote):
    changes, header, says = DAMAGED[name]
    content = patched(with_others("bad.jpg", b"not right"), b"bad.jpg", *changes, header=header)
    tree = ZipTree(CountedTree({"a.zip": content}), "a.zip") if remote else tree_of(content)
    found = list(tree.read(["other.jpg", "bad.jpg", "good.jpg"]))
    assert (found[0], found[2]) == ((b"other", ""), (b"good", ""))
    assert found[1][0] == b""
    assert found[1][1].startswith(f"zip member bad.jpg is damaged: {says}")
    if remote:
        assert all(0 <= tree.travelling([f"{one}.jpg"]) < 100 for one in ("good", "bad", "other"))


@pytest.mark.parametrize("method", [9, 77])
def test_ways_of_packing_that_python_does_not_know(tree_of, method):
    content = patched(with_others("odd.jpg", b"odd"), b"odd.jpg", (10, bytes([method, 0])))
    ((data, problem),) = tree_of(content).read(["odd.jpg"])
    assert data == b""
    how = f"zip member odd.jpg is packed in a way (method {method}) that cannot be unpacked here: "
    assert problem.startswith(how)


@pytest.mark.parametrize("declared", [10, 5_000_000])
def test_a_bomb_fills_no_memory(tree_of, monkeypatch, declared):
    """A member of 50 MB, packed into 50 kB, that says it has fewer."""
    monkeypatch.setattr(zips, "MAX_FILE_BYTES", 1_000_000)
    content = with_others("bomb.jpg", bytes(50_000_000))
    tree = tree_of(patched(content, b"bomb.jpg", (24, struct.pack("<L", declared))))
    tracemalloc.start()
    try:
        ((data, problem),) = tree.read(["bomb.jpg"])
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    if declared < 1_000_000:
        assert (data, problem) == (b"", "zip member bomb.jpg is damaged: Bad CRC-32 for file 'bomb.jpg'")
    else:
        assert (len(data), problem) == (1_000_001, "")
    assert most < 10_000_000


@pytest.mark.parametrize(("size", "read"), [(99, 99), (100, 100), (101, 101), (102, 101), (5_000, 101)])
def test_no_more_of_a_member_is_read_than_one_byte_too_many(tree_of, monkeypatch, size, read):
    monkeypatch.setattr(zips, "MAX_FILE_BYTES", 100)
    tree = tree_of(zip_of({"a.jpg": b"x" * size, "b.jpg": b"b"}))
    assert list(tree.read(["a.jpg", "b.jpg"])) == [(b"x" * read, ""), (b"b", "")]
    if size <= 100:
        assert tree.open("a.jpg").read() == b"x" * size
        return
    with pytest.raises(SourceError) as caught:
        tree.open("a.jpg")
    why = f"has {size:,} bytes: what is packed so cannot be read in the middle\nUnpack the zip."
    assert str(caught.value) == f"{tree.where}, member a.jpg {why}"


# What is wrong with the zip itself.


def unreadable(tree: ZipTree) -> str:
    with pytest.raises(SourceError) as caught:
        list(tree.walk())
    assert caught.value.message.startswith(f"{tree.where} is not a readable zip: ")
    assert caught.value.hint == "Download the zip again."
    return caught.value.message.removeprefix(f"{tree.where} is not a readable zip: ")


GOOD = zip_of(MEMBERS)
END = GOOD.rindex(b"PK\5\6")
CUT = "its end is missing, as of an unfinished download"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "the file is empty"),
        (b"x", CUT),
        (b"This is no zip." * 10_000, CUT),
        (GOOD[:-1], CUT),
        (GOOD[: len(GOOD) // 2], CUT),
        (GOOD[:100], CUT),
        (GOOD + bytes(10_000), CUT),
        (GOOD[100:], "its list of members begins before the file: bytes in its middle are missing"),
        (GOOD[:END] + b"PK\5\6" + bytes(18), f"its end says that it holds nothing, after {END:,} bytes"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "bytes",  # Which hold the time.
)
def test_what_is_no_whole_zip(tree_of, content, says):
    assert unreadable(tree_of(content)) == says


def end_with(place: int, form: str, *values: int) -> bytes:
    content = bytearray(GOOD)
    struct.pack_into(form, content, END + place, *values)
    return bytes(content)


LENGTH, AT = struct.unpack_from("<2L", GOOD, END + 12)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (end_with(4, "<H", 1), "it is one of several volumes"),
        (end_with(6, "<H", 1), "it is one of several volumes"),
        (end_with(10, "<H", 9), "its list of members is damaged: it names 8 members, and the zip's end says 9"),
        (end_with(12, "<L", LENGTH - 1), "its list of members is not where its end says"),
        (end_with(12, "<L", LENGTH + 1), "its list of members begins before the file"),
        (end_with(16, "<L", AT + 1), "its list of members begins before the file"),
        (end_with(16, "<L", 0xFFFFFFFF), "its list of members begins before the file"),
        (end_with(12, "<2L", LENGTH + AT + 5, 0), "its list of members begins before the file"),
    ],
)
def test_an_end_that_is_wrong(tree_of, content, says):
    assert unreadable(tree_of(content)).startswith(says)


@pytest.mark.parametrize(
    ("place", "data", "says"),
    [
        (0, b"xxxx", "its zip64 record is missing"),
        (16, b"\1", "it is one of several volumes"),
        (20, b"\1", "it is one of several volumes"),
        (32, b"\7", "its list of members is damaged: it names 8 members, and the zip's end says 7"),
        (40, b"\xff" * 8, "its list of members begins before the file"),
        (48, b"\xff" * 8, "its list of members begins before the file"),
        (56 + 16, b"\2", "it is one of several volumes"),
    ],
)
def test_an_end_of_64_bits_that_is_wrong(tree_of, place, data, says):
    content = bytearray(wide(MEMBERS))
    at = content.rindex(b"PK\6\6") + place
    content[at : at + len(data)] = data
    assert unreadable(tree_of(bytes(content))).startswith(says)


@pytest.mark.parametrize(
    ("place", "data", "says"),
    [
        (0, b"PK\1\3", "at its byte {record:,} there is no member"),
        (28, b"\xff", "at its byte "),
        (30, b"\1", "at its byte "),
        (32, b"\xff\xff", "it is cut short in its last member"),
    ],
)
def test_a_record_that_is_wrong(tree_of, place, data, says):
    content = patched(GOOD, b"train/n1/1", (place, data))
    record = patched(GOOD, b"train/n1/1", (0, b"here")).index(b"here") - AT
    problem = unreadable(tree_of(content))
    assert problem.startswith("its list of members is damaged: " + says.format(record=record))


def test_a_list_that_ends_in_the_middle_of_a_record(tree_of):
    cut = GOOD[: END - 3] + end_with(12, "<L", LENGTH - 3)[END:]
    assert unreadable(tree_of(cut)) == "its list of members is damaged: it is cut short in its last member"
    at = GOOD.rindex(b"PK\1\2")
    cut = GOOD[: at + 20] + end_with(12, "<L", at + 20 - AT)[END:]
    assert unreadable(tree_of(cut)) == f"its list of members is damaged: it is cut short at its byte {at - AT:,}"


def test_a_name_that_is_no_text(tree_of):
    content = GOOD.replace("日本".encode(), b"\xff\xfe____")
    assert unreadable(tree_of(content)).startswith("its list of members is damaged: 'utf-8' codec can't decode")


@pytest.mark.parametrize(
    ("extra", "listed_anyway"),
    [
        (struct.pack("<2H3Q", 1, 24, 5, 5, 1 << 63), False),
        (struct.pack("<2H3Q", 1, 24, 1 << 63, 5, 0), False),
        (struct.pack("<2H3Q", 1, 200, 5, 5, 0), False),
        (struct.pack("<2H2Q8x", 1, 16, 5, 5), True),
        (struct.pack("<2H24x", 9, 24), True),
    ],
)
def test_numbers_of_64_bits_that_are_wrong(tree_of, extra, listed_anyway):
    raw, crc = b"a.jpg", zipfile.crc32(b"first")
    body = struct.pack("<4s5H3L2H", b"PK\3\4", 45, 0, 0, 0, 33, crc, 5, 5, 5, 0) + raw + b"first"
    fields = (b"PK\1\2", 45, 45, 0, 0, 0, 33, crc, 0xFFFFFFFF, 0xFFFFFFFF, 5, len(extra), 0, 0, 0, 0)
    record = struct.pack("<4s6H3L5H2L", *fields, 0xFFFFFFFF) + raw + extra
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, len(record), len(body), 0)
    tree = tree_of(body + record + end)
    if not listed_anyway:
        assert unreadable(tree).startswith("its list of members is damaged: ")
        return
    assert [entry.name for entry in tree.walk()] == ["a.jpg"]
    ((data, problem),) = tree.read(["a.jpg"])
    assert (data, problem[:28]) == (b"", "zip member a.jpg is damaged:")


@settings(deadline=None, max_examples=400)
@given(st.integers(0, len(GOOD) - 1), st.integers(1, 60), st.sampled_from(["zeroed", "garbled", "cut", "flipped"]))
def test_wherever_it_is_damaged_nothing_wrong_is_read_and_nothing_raw_is_raised(at, length, damage):
    content = bytearray(GOOD)
    end = min(at + length, len(GOOD))
    if damage == "cut":
        del content[at:end]
    elif damage == "flipped":
        content[at] ^= 1 << (length % 8)
    else:
        content[at:end] = bytes(end - at) if damage == "zeroed" else bytes(byte ^ 0x55 for byte in content[at:end])
    tree = ZipTree(CountedTree({"a.zip": bytes(content)}, stamp=""), "a.zip")
    try:
        names = [entry.name for entry in tree.walk()]
        found = list(tree.read(names))
        listed(tree)
    except SourceError:
        return
    for name, (data, problem) in zip(names, found):
        assert problem or data in MEMBERS.values(), name
        assert not (problem and data)
    assert len(names) == len(MEMBERS)


def test_a_zip_that_is_missing(tmp_path):
    with pytest.raises(SourceError, match=rf"^there is no {re.escape(str(tmp_path))}/none\.zip$"):
        list(ZipTree(LocalTree(tmp_path), "none.zip").walk())


# Over a network.


@pytest.fixture
def big():
    drawn = random.Random(3)
    members = {f"{folder}/{number:03}.jpg": drawn.randbytes(30_000) for folder in "abcd" for number in range(50)}
    return members, CountedTree({"a.zip": zip_of(members)})


def test_only_what_is_wanted_travels(big):
    members, far = big
    tree = ZipTree(far, "a.zip")
    wanted = [name for name in members if name.startswith("b/")]
    directory = tree.entries("b")
    # The end of the zip, which holds its whole list too.
    assert len(directory) == 50
    assert far.fetched_bytes < 100_000
    announced = tree.travelling(wanted)
    assert 50 * 30_000 < announced < 50 * 30_200
    far.forget()
    assert [data for data, _ in tree.read(wanted)] == [members[name] for name in wanted]
    assert far.fetched_bytes == announced
    # Neighbours are one request.
    assert len(far.fetched) == 1
    assert len(far.opened) == 1
    far.forget()
    apart = ["d/049.jpg", "a/000.jpg", "c/020.jpg"]
    assert [data for data, _ in tree.read(apart)] == [members[name] for name in apart]
    assert far.fetched_bytes == tree.travelling(apart) < 3 * 30_200
    assert len(far.fetched) == 3


def test_the_list_is_kept_while_the_zip_is_the_same(big):
    members, far = big
    assert len(list(ZipTree(far, "a.zip").walk())) == 200
    far.forget()
    assert contents(ZipTree(far, "a.zip")) == members
    # To know where the list lies, the end is read again.
    assert far.opened[0] == ("a.zip", [])
    far.files["a.zip"] = zip_of({"other.jpg": b"other"})
    far.stamps["a.zip"] = "v2"
    assert contents(ZipTree(far, "a.zip")) == {"other.jpg": b"other"}


def test_a_long_list_travels_in_pieces_and_once(monkeypatch):
    monkeypatch.setattr(zips, "PIECE", 1_000)
    names = [f"{number:05}.jpg" for number in range(3_000)]
    far = CountedTree({"a.zip": wide(dict.fromkeys(names, b""))})
    assert [entry.name for entry in ZipTree(far, "a.zip").walk()] == names
    (_, nothing), (_, [(start, end)]) = far.opened
    assert nothing == []
    assert far.files["a.zip"][start : start + 4] == b"PK\1\2"
    assert far.files["a.zip"][end : end + 4] == b"PK\6\6"
    far.forget()
    assert len(list(ZipTree(far, "a.zip").walk())) == 3_000
    assert len(far.opened) == 1
    assert far.fetched_bytes < 70_000


def test_a_zip_that_is_cut_short_over_a_network(big):
    _, far = big
    far.files["a.zip"] = far.files["a.zip"][:-1]
    assert unreadable(ZipTree(far, "a.zip")) == CUT
    with pytest.raises(SourceError, match=r"^there is no far://away/none\.zip$"):
        ZipTree(far, "none.zip").entries()


def test_reading_that_is_given_up_leaves_nothing_open(big, tmp_path: Path):
    members, far = big
    reading = ZipTree(far, "a.zip").read(members)
    next(reading)
    reading.close()
    (tmp_path / "a.zip").write_bytes(far.files["a.zip"])
    local = ZipTree(LocalTree(tmp_path), "a.zip").read(members)
    next(local)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        local.close()


def test_names_in_utf_8_without_its_flag_as_macos_writes_them(tmp_path):
    name = "Bücher/車.jpg"
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(name, b"data")
    content = bytearray((tmp_path / "a.zip").read_bytes())
    for magic, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = content.index(magic) + at
        content[place : place + 2] = (int.from_bytes(content[place : place + 2], "little") & ~0x800).to_bytes(
            2, "little"
        )
    (tmp_path / "a.zip").write_bytes(content)
    tree = ZipTree(LocalTree(tmp_path), "a.zip")
    assert [entry.name for entry in tree.walk()] == [name]
    assert list(tree.read([name])) == [(b"data", "")]
