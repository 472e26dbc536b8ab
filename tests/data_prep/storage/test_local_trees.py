"""Folders on this computer, with all that can lie in them."""

from __future__ import annotations

import errno
import os
import re
import socket
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.storage import Entry, PassedOver, Tree, kind_of, local, not_an_image, plain, stamp_of
from data_prep.storage.local import LocalTree
from mteb_vehicle_search.errors import SourceError

posix = pytest.mark.skipif(os.name == "nt", reason="has no such files")


def write(path: Path, data: bytes = b"data") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


@pytest.fixture
def tree(tmp_path):
    for name in ("b.jpg", "a/2.jpg", "a/1.jpg", "a/c/3.jpg", "a-b/4.jpg", "Z.jpg", "é.jpg"):
        write(tmp_path / name, name.encode())
    (tmp_path / "empty").mkdir()
    return LocalTree(tmp_path)


def test_it_is_a_tree(tree):
    one: Tree = tree
    assert (one.remote, one.listable, one.where) == (False, True, str(tree.root))
    assert one.path("a/1.jpg") == str(tree.root / "a" / "1.jpg")
    assert one.path("") == str(tree.root)


def test_what_is_in_a_folder(tree):
    folders, files = ["a", "a-b", "empty"], ["Z.jpg", "b.jpg", "é.jpg"]
    wanted = [Entry(name, is_folder=True) for name in folders] + [Entry(name, len(name.encode())) for name in files]
    assert tree.entries() == sorted(wanted)
    assert tree.entries("a") == [Entry("1.jpg", 7), Entry("2.jpg", 7), Entry("c", is_folder=True)]
    assert tree.entries("empty") == []


@pytest.mark.parametrize("name", ["none", "none/below", "b.jpg", "b.jpg/below", "a\0b", "x" * 300, "\ud800"])
def test_a_folder_that_is_none(tree, name):
    assert tree.entries(name) == []
    assert list(tree.walk(name)) == []


@pytest.mark.parametrize("name", ["none", "none/below", "b.jpg/below", "a\0b", "x" * 300, "\ud800"])
def test_a_file_that_is_none(tree, name):
    assert tree.entry(name) is None
    with pytest.raises(SourceError, match="cannot be read: "):
        tree.open(name)


def test_all_files_below_a_folder(tree):
    names = [entry.name for entry in tree.walk()]
    assert names == ["Z.jpg", "a-b/4.jpg", "a/1.jpg", "a/2.jpg", "a/c/3.jpg", "b.jpg", "é.jpg"]
    assert all(entry == Entry(entry.name, len(entry.name.encode())) for entry in tree.walk())
    assert [entry.name for entry in tree.walk("a")] == ["1.jpg", "2.jpg", "c/3.jpg"]
    assert [data.decode() for data, _ in tree.read(names)] == names


def test_one_entry_and_when_it_was_changed(tree):
    assert tree.entry("a") == Entry("a", is_folder=True)
    before = tree.entry("a/1.jpg")
    assert (before.name, before.size_bytes, before.is_folder) == ("1.jpg", 7, False)
    assert before.stamp == str((tree.root / "a" / "1.jpg").stat().st_mtime_ns)
    os.utime(tree.root / "a" / "1.jpg", ns=(1, 1))
    assert tree.entry("a/1.jpg") == before._replace(stamp="1")
    assert tree.entry("").is_folder


def test_a_file_is_read_in_the_middle(tree):
    with tree.open("a/1.jpg") as file:
        file.seek(2)
        assert file.read(3) == b"1.j"
    assert tree.travelling(["a/1.jpg"]) == 0


def test_files_are_read_in_order_and_one_that_is_missing_is_an_error(tree):
    reading = tree.read(["a/2.jpg", "a/1.jpg", "a/none.jpg"])
    assert [next(reading), next(reading)] == [(b"a/2.jpg", ""), (b"a/1.jpg", "")]
    with pytest.raises(SourceError, match=rf"^{re.escape(tree.path('a/none.jpg'))} is missing$"):
        next(reading)
    with pytest.raises(SourceError, match="is missing: "):
        next(tree.read(["a\0b"]))


def test_no_more_of_a_file_is_read_than_one_byte_too_many(tree, monkeypatch):
    monkeypatch.setattr(local, "MAX_FILE_BYTES", 100)
    for size in (0, 99, 100, 101, 102, 5_000):
        write(tree.root / "big.jpg", b"x" * size)
        assert next(tree.read(["big.jpg"])) == (b"x" * min(size, 101), "")


def test_a_folder_where_a_file_should_be(tree):
    assert list(tree.read(["a"])) == [(b"", "cannot be read: Is a directory")]
    with pytest.raises(SourceError, match=rf"^{re.escape(tree.path('a'))} cannot be read: "):
        tree.open("a")


# Links.


@posix
def test_links_to_files_and_folders_are_followed(tree, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    write(elsewhere / "deep" / "5.jpg", b"five")
    (tree.root / "n1").symlink_to(elsewhere / "deep")
    (tree.root / "6.jpg").symlink_to(elsewhere / "deep" / "5.jpg")
    assert tree.entry("n1") == Entry("n1", is_folder=True)
    assert tree.entry("6.jpg").size_bytes == 4
    assert Entry("6.jpg", 4) in tree.entries()
    assert Entry("n1", is_folder=True) in tree.entries()
    assert {"6.jpg", "n1/5.jpg"} <= {entry.name for entry in tree.walk()}
    assert [data for data, _ in tree.read(["6.jpg", "n1/5.jpg"])] == [b"five", b"five"]


@posix
@pytest.mark.parametrize("relative", [False, True])
def test_links_that_lead_back_up(tree, monkeypatch, relative):
    """Also to a folder above the one that is walked, and to each other."""
    names = [entry.name for entry in tree.walk()]
    (tree.root / "a" / "up").symlink_to(tree.root)
    (tree.root / "a" / "c" / "self").symlink_to(tree.root / "a" / "c")
    (tree.root / "above").symlink_to(tree.root.parent)
    (tree.root / "round").symlink_to(tree.root / "round")
    if relative:
        monkeypatch.chdir(tree.root.parent)
        tree = LocalTree(Path(tree.root.name))
    assert [entry.name for entry in tree.walk()] == sorted([*names, "round"])
    assert tree.entry("round") == Entry("round")


@posix
@pytest.mark.parametrize("relative", [False, True])
def test_a_link_to_far_above_shows_nothing_that_is_there(tmp_path, monkeypatch, relative):
    write(tmp_path / "here" / "deep" / "in.jpg")
    write(tmp_path / "out.jpg")
    (tmp_path / "here" / "deep" / "up").symlink_to(tmp_path)
    monkeypatch.chdir(tmp_path / "here")
    tree = LocalTree(Path("deep") if relative else tmp_path / "here" / "deep")
    assert [entry.name for entry in tree.walk()] == ["in.jpg"]


@posix
def test_two_folders_that_lead_to_each_other(tmp_path):
    for one, other in (("a", "b"), ("b", "a")):
        write(tmp_path / one / f"{one}.jpg")
        (tmp_path / one / "link").symlink_to(tmp_path / other)
    assert [entry.name for entry in LocalTree(tmp_path).walk()] == [
        "a/a.jpg",
        "a/link/b.jpg",
        "b/b.jpg",
        "b/link/a.jpg",
    ]


@posix
def test_a_broken_link(tree):
    (tree.root / "broken.jpg").symlink_to(tree.root / "nowhere.jpg")
    assert tree.entry("broken.jpg") == Entry("broken.jpg")
    assert Entry("broken.jpg") in tree.entries()
    assert Entry("broken.jpg") in list(tree.walk())
    assert list(tree.read(["broken.jpg"])) == [(b"", "cannot be read: No such file or directory")]
    with pytest.raises(SourceError, match=r"broken\.jpg cannot be read: No such file or directory$"):
        tree.open("broken.jpg")


# What is no file, and what may not be read.


@posix
@pytest.mark.parametrize("kind", ["pipe", "socket", "device"])
def test_what_may_never_answer_is_not_read(tree, kind, tmp_path, monkeypatch):
    path = tree.root / "odd.jpg"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to(os.devnull)
    else:
        monkeypatch.chdir(tmp_path)  # Their names may be but short.
        server = socket.socket(socket.AF_UNIX)
        server.bind("odd.jpg")
        server.close()
    assert tree.entry("odd.jpg") == Entry("odd.jpg")
    assert Entry("odd.jpg") in tree.entries()
    assert Entry("odd.jpg") in list(tree.walk())
    assert list(tree.read(["odd.jpg", "b.jpg"])) == [(b"", f"is a {kind}, not a file"), (b"b.jpg", "")]
    with pytest.raises(SourceError, match=rf"odd\.jpg is a {kind}, not a file$"):
        tree.open("odd.jpg")


def test_kinds():
    assert (kind_of(0o100644), kind_of(0o040755), kind_of(0)) == ("", "", "something else")


@posix
def test_what_may_not_be_read(tree):
    (tree.root / "b.jpg").chmod(0)
    (tree.root / "a").chmod(0)
    if os.access(tree.root / "b.jpg", os.R_OK):
        (tree.root / "a").chmod(0o700)
        pytest.skip("who runs this may read everything")
    try:
        assert list(tree.read(["b.jpg"])) == [(b"", "cannot be read: Permission denied")]
        for action in (
            lambda: tree.open("b.jpg"),
            lambda: tree.entry("a/1.jpg"),
            lambda: tree.entries("a"),
            lambda: list(tree.walk()),
        ):
            with pytest.raises(SourceError, match="cannot be read: Permission denied"):
                action()
    finally:
        (tree.root / "a").chmod(0o700)


def test_a_folder_that_is_refused_is_not_passed_over(tree, monkeypatch):
    def refused(path, *rest):
        if Path(path).name == "c":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path, *rest)

    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(SourceError, match=r"c cannot be read: Permission denied$"):
        list(tree.walk())
    assert len(list(tree.walk("a-b"))) == 1


def test_a_disk_that_fails(tree, monkeypatch):
    def failing(path, **how):
        raise OSError(errno.EIO, "Input/output error", str(path))

    monkeypatch.setattr(Path, "stat", failing)
    for action in (lambda: tree.entry("b.jpg"), lambda: tree.entries(), lambda: tree.open("b.jpg")):
        with pytest.raises(SourceError, match="cannot be read: Input/output error"):
            action()
    assert list(tree.read(["b.jpg"])) == [(b"", "cannot be read: Input/output error")]


# Entries.


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        *((name, "") for name in ("a.jpg", "a/b.jpg", "a.", "Icon", "./a.jpg", "../a.jpg", "x\\a.jpg")),
        *((name, "hidden files") for name in (".a.jpg", ".git/a.jpg", "a/._b.jpg", "x\\.a.jpg", ".DS_Store")),
        *(
            (name, "files of the operating system")
            for name in ("Thumbs.db", "a/DESKTOP.INI", "__MACOSX/._a.jpg", "__macosx\\a.jpg", "lost+found/1", "Icon\r")
        ),
    ],
)
def test_what_is_no_image_by_its_name(name, reason):
    assert not_an_image(name) == reason
    passed = PassedOver()
    assert plain([Entry(name), Entry("good.jpg")], passed) == [Entry(name)] * (not reason) + [Entry("good.jpg")]
    assert passed == ({reason: 1} if reason else {})
    assert plain([Entry(name)]) == [Entry(name)] * (not reason)


_FACTS = st.tuples(st.text("ab", max_size=2), st.integers(-1, 2), st.sampled_from(["", "1", "2"]))
_ENTRIES = st.lists(_FACTS.map(lambda facts: Entry(*facts)), max_size=3)


@settings(deadline=None)
@given(_ENTRIES, _ENTRIES)
def test_stamps_differ_when_an_entry_does(one, other):
    assert (stamp_of(one) == stamp_of(other)) == (one == other)
