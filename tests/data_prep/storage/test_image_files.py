"""Which files are no images by their names, and how one image file is read."""

from __future__ import annotations

import errno
import os
import socket
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from data_prep import storage
from data_prep.storage import PassedOver, local, not_an_image, plain
from data_prep.storage.local import LocalTree, read_image_file
from mteb_vehicle_search.errors import SourceError


def test_no_more_than_64_mebibytes_of_an_image_are_read():
    assert storage.MAX_FILE_BYTES == 64 * 1024 * 1024


def wake(pipe: Path) -> None:
    with suppress(OSError):  # Of a pipe that nobody reads.
        os.close(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))


@pytest.mark.parametrize("kind", ["a pipe", "a socket"])
def test_what_is_no_file_is_not_waited_for(tmp_path, kind):
    path = tmp_path / "x.jpg"
    if kind == "a pipe":
        os.mkfifo(path)
        # Whoever waits for it is woken, so that the test ends.
        waking = threading.Timer(2, wake, [path])
        waking.start()
        assert read_image_file(path) == (b"", "is a pipe, not a file")
        waking.cancel()
    else:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(os.path.relpath(path))
            assert read_image_file(path) == (b"", "is a socket, not a file")


def test_files_of_systems_are_passed_over_and_counted(tmp_path):
    system = ("Thumbs.db", "desktop.ini", "@eaDir", "__MACOSX", "lost+found", "THUMBS.DB ")
    for name in (".DS_Store", "._1.jpg", "1.jpg", *system):
        (tmp_path / name).touch()
    passed = PassedOver()
    entries = LocalTree(tmp_path).entries()
    assert [entry.name for entry in plain(entries, passed)] == ["1.jpg", "THUMBS.DB "]
    assert passed == {"hidden files": 2, "files of the operating system": 5}
    assert plain(entries) == plain(entries, PassedOver())


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("a/b.jpg", ""),
        ("./a/../b.jpg", ""),
        ("a/.b.jpg", "hidden files"),
        (".data/b.jpg", "hidden files"),
        ("a/.ipynb_checkpoints/b.jpg", "hidden files"),
        ("a/.../b.jpg", ""),
        ("a/@eaDir/b.jpg", "files of the operating system"),
        ("__MACOSX/a/._b.jpg", "files of the operating system"),
        ("a\\Thumbs.db", "files of the operating system"),
    ],
)
def test_a_path_says_why_a_file_is_passed_over(name, why):
    assert not_an_image(name) == why


@pytest.mark.parametrize(("size", "read"), [(0, 0), (9, 9), (10, 10), (11, 11), (12, 11), (1000, 11)])
def test_a_file_is_read_to_one_byte_above_the_limit(tmp_path, monkeypatch, size, read):
    monkeypatch.setattr(local, "MAX_FILE_BYTES", 10)
    content = bytes(range(256)) * 4
    (tmp_path / "image.jpg").write_bytes(content[:size])
    assert read_image_file(tmp_path / "image.jpg") == (content[:read], "")


def test_a_file_that_is_not_there_is_an_error_and_a_link_to_nowhere_a_reject(tmp_path):
    with pytest.raises(SourceError, match=r"none\.jpg is missing"):
        read_image_file(tmp_path / "none.jpg")
    (tmp_path / "link.jpg").symlink_to(tmp_path / "none.jpg")
    assert read_image_file(tmp_path / "link.jpg") == (b"", "cannot be read: No such file or directory")
    (tmp_path / "folder.jpg").mkdir()
    assert read_image_file(tmp_path / "folder.jpg") == (b"", "cannot be read: Is a directory")


@pytest.mark.parametrize(
    ("error", "says"),
    [(OSError(errno.EIO, "Input/output error"), "Input/output error"), (OSError("a bad sector"), "a bad sector")],
)
def test_a_disk_that_fails(tmp_path, monkeypatch, error, says):
    def fail(path: Path, *arguments: Any) -> Any:
        raise error

    (tmp_path / "image.jpg").touch()
    monkeypatch.setattr(Path, "open", fail)
    assert read_image_file(tmp_path / "image.jpg") == (b"", f"cannot be read: {says}")
