"""What is in a tar is listed as a folder and read in the tar's order."""

from __future__ import annotations

import io
import tarfile

import pytest

from data_prep.storage import Entry
from data_prep.storage import tar_trees as module
from data_prep.storage.local import LocalTree
from data_prep.storage.tar_trees import TarTree
from mteb_vehicle_search.errors import SourceError

MEMBERS = {"b/2.jpg": b"second", "a/1.jpg": b"first", "b/c/3.jpg": b"third", "0.jpg": b"zero"}


@pytest.fixture
def tree(tmp_path):
    """Those members, in this order, and a link."""
    with tarfile.open(tmp_path / "photos.tar", "w") as tar:
        for name, data in MEMBERS.items():
            member = tarfile.TarInfo(f"./{name}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
        link = tarfile.TarInfo("b/link.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "2.jpg"
        tar.addfile(link)
    return TarTree(LocalTree(tmp_path), "photos.tar")


def test_folders_are_listed_in_order_of_their_names_and_walked_in_that_of_the_tar(tree):
    assert tree.entries() == [Entry("0.jpg", 4), Entry("a", is_folder=True), Entry("b", is_folder=True)]
    assert tree.entries("b") == [Entry("2.jpg", 6), Entry("c", is_folder=True)]
    assert [entry.name for entry in tree.walk()] == [*MEMBERS]
    assert [entry.name for entry in tree.walk("b")] == ["2.jpg", "c/3.jpg"]


def test_an_entry_is_a_file_a_folder_or_nothing(tree):
    assert tree.entry("b/c/3.jpg") == Entry("3.jpg", 5)
    assert tree.entry("b/c") == Entry("c", is_folder=True)
    assert tree.entry("") == Entry("", is_folder=True)
    assert tree.entry("b/") is None
    # A name that only begins so.
    assert tree.entry("b/c/3") is None
    assert tree.entry("b/link.jpg") is None


def test_files_are_read_in_the_order_of_the_tar(tree):
    assert list(tree.read([])) == []
    wanted = ["b/2.jpg", "b/c/3.jpg"]
    assert list(tree.read(wanted)) == [(MEMBERS[name], "") for name in wanted]
    with pytest.raises(ValueError, match=r"b/2\.jpg is asked for out of the order of .*photos\.tar"):
        list(tree.read(["a/1.jpg", "b/2.jpg"]))
    with pytest.raises(SourceError, match=r"photos\.tar has no 0\.jpeg"):
        list(tree.read(["b/2.jpg", "0.jpeg"]))


def test_one_file_is_opened(tree, monkeypatch):
    assert tree.open("a/1.jpg").read() == b"first"
    with pytest.raises(SourceError, match=r"photos\.tar has no a/9\.jpg"):
        tree.open("a/9.jpg")
    monkeypatch.setattr(module, "MAX_FILE_BYTES", 5)
    assert tree.open("a/1.jpg").read() == b"first"
    with pytest.raises(SourceError, match=r"member b/2\.jpg has 6 bytes: that much is not read in a tar"):
        tree.open("b/2.jpg")


def test_what_travels_of_a_tar_elsewhere_is_all_of_it(tree, tmp_path):
    assert tree.travelling(MEMBERS) == 0
    tree.remote = True
    assert tree.travelling([]) == 0
    assert tree.travelling(["a/1.jpg"]) == (tmp_path / "photos.tar").stat().st_size


def test_a_name_that_it_holds_twice_is_refused(tmp_path):
    with tarfile.open(tmp_path / "twice.tar", "w") as tar:
        for name in ("1.jpg", "./1.jpg"):
            tar.addfile(tarfile.TarInfo(name))
    with pytest.raises(SourceError, match=r"twice\.tar holds 1\.jpg twice"):
        TarTree(LocalTree(tmp_path), "twice.tar").entries()
