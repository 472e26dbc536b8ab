"""Whole or not at all, and one build at a time: what lies on disk, and in which order it came there."""

from __future__ import annotations

import errno
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import filelock
import pytest

from mteb_vehicle_search.errors import BuildError, EncodeError
from mteb_vehicle_search.files import (
    check_replaceable,
    check_writable,
    locked,
    new_folder,
    replace_folder,
    write_whole,
)

PARTS = ("README.md", "manifest.json", "corpus", "queries", "qrels", "provenance", "rejected.parquet")


@pytest.fixture
def calls(monkeypatch):
    """What is synced and renamed, in order: ("sync", the file, its bytes) and ("rename", from, to)."""
    found = []
    fsync, replace, rename = os.fsync, Path.replace, Path.rename

    def synced(number):
        path = Path(f"/proc/self/fd/{number}").resolve()
        found.append(("sync", path.name, path.read_bytes()))
        return fsync(number)

    def moved(move):
        def record(self, target):
            found.append(("rename", self.name, Path(target).name))
            return move(self, target)

        return record

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", moved(replace))
    monkeypatch.setattr(Path, "rename", moved(rename))
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc which file is synced")
@pytest.mark.parametrize("content", [b"less than a buffer", bytes(range(256)) * 1000 + b"end"])
def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path, calls, content):
    write_whole(tmp_path / "x.json", content)
    assert calls == [("sync", "x.json.partial", content), ("rename", "x.json.partial", "x.json")]
    assert (tmp_path / "x.json").read_bytes() == content
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


def test_a_file_takes_the_place_of_an_earlier_one(tmp_path):
    (tmp_path / "x").write_bytes(b"a longer earlier content")
    (tmp_path / "x.partial").write_bytes(b"what a killed process left, which is longer still")
    write_whole(tmp_path / "x", b"new")
    assert (tmp_path / "x").read_bytes() == b"new"
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_a_write_that_breaks_off_leaves_the_earlier_file(tmp_path, monkeypatch):
    (tmp_path / "x").write_bytes(b"old")

    def full(number):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_whole(tmp_path / "x", b"new")
    assert (tmp_path / "x").read_bytes() == b"old"


def test_a_lock_names_its_holder_and_is_free_afterwards(tmp_path):
    folder = tmp_path / "a" / "b"
    with locked(folder):
        holder = json.loads((folder / "holder.json").read_text(encoding="utf-8"))
        assert (holder["process"], holder["host"]) == (os.getpid(), socket.gethostname())
        began = datetime.fromisoformat(holder["since"])
        assert timedelta() <= datetime.now(UTC) - began < timedelta(minutes=1)
        holder["since"] = (datetime.now(UTC) - timedelta(hours=3, minutes=2)).isoformat()
        (folder / "holder.json").write_text(json.dumps(holder), encoding="utf-8")
        with pytest.raises(BuildError) as caught, locked(folder):
            pytest.fail("two builds at once")
        who = f"process {os.getpid()} on {socket.gethostname()}, for 3:02:00"
        assert caught.value.message == f"Another build is working on {folder} ({who})."
        assert str(caught.value.hint).startswith("Wait for it to finish, or give --out another folder.")
        assert str(caught.value.hint).endswith(f"If that process is gone, delete {folder / 'lock'}.")
    with locked(folder, "Another run", error=EncodeError, hint="Wait."):
        with pytest.raises(EncodeError) as refused, locked(folder, "Another run", error=EncodeError, hint="Wait."):
            pytest.fail("two runs at once")
        assert str(refused.value).startswith("Another run (process ")
        assert str(refused.value.hint).startswith("Wait. If that")


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_where_the_file_system_has_no_locks_a_file_stands_for_one(tmp_path, monkeypatch, number):
    import fcntl

    def refuse(*given):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with locked(tmp_path), pytest.raises(BuildError, match="Another build"), locked(tmp_path):
        pytest.fail("two builds at once")
    with locked(tmp_path):
        pass


def test_a_lock_that_cannot_be_made_is_told(tmp_path, monkeypatch):
    import fcntl

    def refuse(*given):
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(OSError, match="broken"), locked(tmp_path):
        pytest.fail("without a lock")


def test_a_held_lock_is_not_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: pytest.fail("waited for the other build"))
    with locked(tmp_path), pytest.raises(BuildError), locked(tmp_path):
        pytest.fail("two builds at once")


def test_a_lock_is_freed_when_the_build_fails(tmp_path, monkeypatch):
    """Also where somebody still holds the object, which would free it as garbage."""
    held = []

    def kept(*args, **options):
        held.append(file_lock(*args, **options))
        return held[-1]

    file_lock = filelock.FileLock
    monkeypatch.setattr(filelock, "FileLock", kept)
    with pytest.raises(RuntimeError), locked(tmp_path):
        raise RuntimeError
    assert len(held) == 1
    with locked(tmp_path):
        pass


def test_a_lock_whose_holder_is_not_known_yet_still_holds(tmp_path):
    with locked(tmp_path):
        (tmp_path / "holder.json").unlink()
        with pytest.raises(BuildError, match=r"\(process unknown\)"), locked(tmp_path):
            pytest.fail("two builds at once")


def test_a_second_process_is_refused_at_once(tmp_path):
    code = "import sys; from pathlib import Path; from mteb_vehicle_search.files import locked\n"
    code += "with locked(Path(sys.argv[1])): print('held')"
    with locked(tmp_path):
        second = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True)
    assert second.stdout == ""
    assert f"(process {os.getpid()} on " in second.stderr


def test_nothing_or_an_empty_folder_may_be_replaced(tmp_path):
    check_replaceable(tmp_path / "none")
    check_replaceable(tmp_path)


@pytest.mark.parametrize("names", [PARTS, *((part,) for part in PARTS)])
def test_an_evaluation_set_may_be_replaced(tmp_path, names):
    for name in names:
        (tmp_path / name).touch()
    check_replaceable(tmp_path)


def test_other_things_are_not_deleted_and_five_are_named(tmp_path):
    for name in (*PARTS, *"gfedcba"):
        (tmp_path / name).touch()
    with pytest.raises(BuildError) as caught:
        check_replaceable(tmp_path)
    message = f"{tmp_path} holds other things, which a build would delete: a, b, c, d, e."
    assert caught.value.message == message
    assert "--out" in caught.value.hint


def test_a_file_or_a_link_is_no_folder(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for name in ("file", "link", "dangling"):
        with pytest.raises(BuildError) as caught:
            check_replaceable(tmp_path / name)
        assert caught.value.message == f"{tmp_path / name} is not a folder."
        assert "--out" in caught.value.hint


def folder(path: Path, content: str) -> Path:
    (path / "corpus").mkdir(parents=True)
    (path / "corpus" / "x").write_text(content, encoding="utf-8")
    return path


def content(path: Path) -> str:
    return (path / "corpus" / "x").read_text(encoding="utf-8")


def test_a_finished_folder_takes_the_place_of_an_earlier_one(tmp_path):
    new, target = folder(tmp_path / "work" / "export" / "set", "new"), folder(tmp_path / "out" / "set", "old")
    (target / "only-in-the-old").touch()
    replace_folder(new, target)
    assert content(target) == "new"
    assert not (target / "only-in-the-old").exists()
    assert list((tmp_path / "work" / "export").iterdir()) == []
    assert [p.name for p in target.parent.iterdir()] == ["set"]


def test_the_folders_above_are_made(tmp_path):
    replace_folder(folder(tmp_path / "new", "new"), tmp_path / "a" / "b" / "set")
    assert content(tmp_path / "a" / "b" / "set") == "new"


def test_what_a_killed_run_set_aside_is_deleted(tmp_path):
    new, target = folder(tmp_path / "new", "new"), folder(tmp_path / "set", "old")
    folder(tmp_path / ".set.old", "older")
    replace_folder(new, target)
    assert content(target) == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["set"]


def test_the_earlier_folder_is_deleted_only_when_the_new_one_stands(tmp_path, calls, monkeypatch):
    new, target = folder(tmp_path / "new", "new"), folder(tmp_path / "set", "old")
    rmtree = shutil.rmtree

    def removed(path, *args, **options):
        if Path(path).parent == tmp_path:
            calls.append(("delete", Path(path).name, content(target)))
        return rmtree(path, *args, **options)

    monkeypatch.setattr(shutil, "rmtree", removed)
    replace_folder(new, target)
    assert calls == [("rename", "set", ".set.old"), ("rename", "new", "set"), ("delete", ".set.old", "new")]


def test_a_folder_from_another_file_system_is_copied_first(tmp_path):
    """As where the work folder is a link to another disk."""
    elsewhere = Path("/dev/shm")
    if not elsewhere.is_dir() or elsewhere.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no other file system here")
    with tempfile.TemporaryDirectory(dir=elsewhere) as other:
        new, target = folder(Path(other) / "new", "new"), folder(tmp_path / "set", "old")
        replace_folder(new, target)
        assert content(target) == "new"
        assert list(Path(other).iterdir()) == []
        assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_a_new_folder_goes_where_a_link_points(tmp_path):
    target = folder(tmp_path / "disk" / "set", "old")
    (tmp_path / "link").symlink_to(target)
    with new_folder(tmp_path / "link") as partial:
        assert partial.parent == tmp_path / "disk"
        folder(partial, "new")
    assert content(target) == content(tmp_path / "link") == "new"
    assert (tmp_path / "link").is_symlink()


class TestWhereAFileSystemIsMounted:
    """Such a folder cannot be renamed, which would come out when all work is done."""

    @pytest.fixture
    def mounted(self, tmp_path, monkeypatch):
        """A folder with a space in its name, as `/proc/self/mountinfo` tells of a part of a disk mounted there."""
        path = tmp_path / "my sets"
        path.mkdir()
        name = str(path).replace(" ", "\\040")
        line = f"98 59 254:0 /home {name} rw,relatime shared:1 - ext4 /dev/vda rw\n"
        read_text = Path.read_text
        monkeypatch.setattr(
            Path,
            "read_text",
            lambda self, *a, **k: line if str(self) == "/proc/self/mountinfo" else read_text(self, *a, **k),
        )
        return path

    def test_it_is_refused_at_once(self, mounted):
        for attempt in (check_replaceable, lambda folder: new_folder(folder).__enter__()):
            with pytest.raises(BuildError) as caught:
                attempt(mounted)
            assert caught.value.message == (
                f"{mounted} is where a file system is mounted, so it cannot be replaced as a whole."
            )
            assert caught.value.hint == f"Give --out a folder inside it, such as {mounted / 'set'}."
        assert list(mounted.parent.iterdir()) == [mounted]

    def test_a_folder_inside_is_fine(self, mounted):
        check_replaceable(mounted / "set")
        with new_folder(mounted / "set") as partial:
            folder(partial, "new")
        assert content(mounted / "set") == "new"

    def test_the_root_is_one_on_every_system(self):
        with pytest.raises(BuildError, match="is where a file system is mounted"):
            check_replaceable(Path("/"))


def test_where_the_system_does_not_tell_mounts(tmp_path, monkeypatch):
    def fail(self, *given, **more):
        raise FileNotFoundError(self)

    monkeypatch.setattr(Path, "read_text", fail)
    check_replaceable(tmp_path)


@pytest.mark.parametrize("there", ["a", "a/b", "a/b/c"])
def test_a_folder_that_can_be_made_or_written(tmp_path, there):
    (tmp_path / there).mkdir(parents=True)
    check_writable(tmp_path / "a" / "b" / "c")
    assert {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")} <= {"a", "a/b", "a/b/c"}


def test_a_folder_that_cannot_be_made(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for name in ("file", "dangling"):
        with pytest.raises(BuildError) as caught:
            check_writable(tmp_path / name / "set")
        assert caught.value.message == f"{tmp_path / name}/set cannot be made: {tmp_path / name} is not a folder."
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)
    with pytest.raises(BuildError) as caught:
        check_writable(tmp_path / "new" / "set")
    assert caught.value.message == f"{tmp_path}/new/set cannot be written: {tmp_path} may not be written into."


def test_an_earlier_folder_outlives_a_failed_rename(tmp_path, monkeypatch):
    new, target = folder(tmp_path / "new", "new"), folder(tmp_path / "set", "old")
    rename = Path.rename

    def failing(self, to):
        if self == new:
            raise OSError(5, "Input/output error")
        return rename(self, to)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", failing)
        with pytest.raises(OSError, match="Input/output"):
            replace_folder(new, target)
    assert content(tmp_path / ".set.old") == "old"
    assert content(new) == "new"
    replace_folder(new, target)
    assert content(target) == "new"
