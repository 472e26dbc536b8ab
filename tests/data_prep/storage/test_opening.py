"""What a path or an address means."""

from __future__ import annotations

import os
import re
import zipfile
from pathlib import Path

import pytest

from data_prep.storage.local import LocalTree
from data_prep.storage.opening import open_tree
from data_prep.storage.zips import ZipTree
from mteb_vehicle_search.addresses import is_url
from mteb_vehicle_search.errors import SourceError

posix = pytest.mark.skipif(os.name == "nt", reason="has no such files or names")


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "with space é"
    folder.mkdir()
    (folder / "a.tar").write_bytes(b"tar")
    for name in ("a.zip", "B.ZIP"):
        with zipfile.ZipFile(folder / name, "w") as archive:
            archive.writestr("in.jpg", name)
    (folder / "folder.zip").mkdir()
    return folder


def opened(src) -> tuple[str, str, str]:
    """The kind of tree, where it is, and the file in it."""
    tree, file = open_tree(src)
    assert isinstance(tree, LocalTree | ZipTree)
    return type(tree).__name__, tree.where, file


@pytest.mark.parametrize("form", [str, Path, lambda path: path.as_uri(), lambda path: f"FILE://{path.as_posix()}"])
@pytest.mark.parametrize(
    ("name", "kind", "file"),
    [
        ("", "LocalTree", ""),
        ("folder.zip", "LocalTree", ""),
        ("a.tar", "LocalTree", "a.tar"),
        ("a.zip", "ZipTree", ""),
        ("B.ZIP", "ZipTree", ""),
    ],
)
def test_paths_and_addresses_of_this_computer(folder, form, name, kind, file):
    where = folder if file else folder / name
    assert opened(form(folder / name)) == (kind, str(where), file)


def test_what_is_in_a_zip(folder):
    tree, file = open_tree(folder / "B.ZIP")
    assert file == ""
    assert list(tree.read(["in.jpg"])) == [(b"B.ZIP", "")]


@posix
def test_an_address_that_names_this_computer(folder):
    assert opened(f"file://localhost{folder}/a.tar") == ("LocalTree", str(folder), "a.tar")
    with pytest.raises(SourceError) as caught:
        open_tree("file://data/a.tar")
    assert str(caught.value) == "file://data/a.tar is on another computer, data\nOn this one it would be file:///a.tar."


def test_relative_paths(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert opened("a.tar") == ("LocalTree", ".", "a.tar")
    assert opened(".") == ("LocalTree", ".", "")
    assert opened("a.zip") == ("ZipTree", "a.zip", "")
    assert opened(f"..{os.sep}{folder.name}") == ("LocalTree", str(Path("..") / folder.name), "")


@posix
def test_the_home_folder(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder))
    assert opened("~") == ("LocalTree", str(folder), "")
    assert opened("~/a.zip") == ("ZipTree", str(folder / "a.zip"), "")
    with pytest.raises(SourceError, match=r"^there is no folder ~nobody-of-that-name/x \("):
        open_tree("~nobody-of-that-name/x")


@pytest.mark.parametrize("name", ["none", "none.zip", "none/a.zip", "a.tar/below", "a\0b", "x" * 300])
def test_what_is_not_there(folder, name):
    what = "" if name.endswith(".zip") else "folder "
    with pytest.raises(SourceError, match=rf"^there is no {what}{re.escape(str(folder / name))}( \(.+\))?$"):
        open_tree(folder / name)


@posix
def test_links(folder):
    (folder / "link").symlink_to(folder)
    (folder / "link.zip").symlink_to(folder / "a.zip")
    (folder / "broken.zip").symlink_to(folder / "none")
    (folder / "round.zip").symlink_to(folder / "round.zip")
    assert opened(folder / "link")[0] == "LocalTree"
    assert opened(folder / "link.zip") == ("ZipTree", str(folder / "link.zip"), "")
    with pytest.raises(SourceError, match=r"broken\.zip \(a link to what is not there\)$"):
        open_tree(folder / "broken.zip")
    with pytest.raises(SourceError, match=r"^there is no .*round\.zip \(.+\)$"):
        open_tree(folder / "round.zip")


@posix
def test_what_is_neither_a_folder_nor_a_file(folder):
    os.mkfifo(folder / "pipe.zip")
    with pytest.raises(SourceError, match=r"pipe\.zip is a pipe, neither a folder nor a file$"):
        open_tree(folder / "pipe.zip")
    with pytest.raises(SourceError, match=r"null is a device, neither a folder nor a file$"):
        open_tree(os.devnull)


def test_a_zip_is_looked_into_when_it_is_needed(folder):
    (folder / "bad.zip").write_bytes(b"no zip")
    tree, _ = open_tree(folder / "bad.zip")
    with pytest.raises(SourceError, match=r"bad\.zip is not a readable zip: "):
        tree.entries()


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("https://example.org/a.zip", True),
        ("S3://bucket/a", True),
        ("hf://datasets/a/b", True),
        ("file:///a", True),
        ("C:\\data", False),
        ("C:/data", False),
        ("c://data", False),
        ("/a/b", False),
        ("a://", False),
        ("https:/example.org", False),
        ("1a://b", False),
        ("", False),
    ],
)
def test_addresses_are_told_from_paths(text, wanted):
    assert is_url(text) is wanted
