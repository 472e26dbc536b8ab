"""A judge's file keeps every line whatever happens: full disks, kills, two processes at once."""

import errno
import os
import signal
from pathlib import Path

import filelock
import pytest
from forked import status_of
from small_judgments import judgment

from mteb_vehicle_search.judgments import JudgeFile, judgments_folder, read_judgments

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


def grades(folder):
    return [one.grade for one in read_judgments(folder).lines]


def test_lines_are_added_in_the_order_of_what_was_said(tmp_path):
    file = JudgeFile(tmp_path / "new" / "folder", "ada")
    said = [judgment(f"q{number}", grade=number) for number in range(4)]
    for one in said:
        file.append(one)
    assert file.path.read_bytes() == b"".join(one.as_line() for one in said)


def test_a_judgment_is_on_the_disk_before_the_call_returns(tmp_path, monkeypatch):
    synced, sync = [], os.fsync
    file = JudgeFile(tmp_path, "ada")
    monkeypatch.setattr(os, "fsync", lambda number: (synced.append(file.path.read_bytes()), sync(number)))
    file.append(judgment())
    assert synced == [judgment().as_line()]


@pytest.mark.parametrize("judge", ["con", "NUL", "com1.old", "ada.", "Ada@home", "a+b"])
def test_names_of_judges_are_files_on_every_system(tmp_path, judge):
    path = JudgeFile(tmp_path, judge).path
    stem = path.name.partition(".")[0].lower()
    assert stem not in {"con", "nul", "com1"}
    assert path.suffix == ".jsonl"
    assert not set(path.name) & set('<>:"/\\|?*@')
    JudgeFile(tmp_path, judge).append(judgment(judge=judge))
    assert [one.judge for one in read_judgments(tmp_path).lines] == [judge]


def test_judges_have_files_of_their_own(tmp_path):
    names = ["ada", "a@da", "a+da", "con", "ada."]
    assert len({JudgeFile(tmp_path, name).path for name in names}) == len(names)


def test_judgments_lie_in_a_folder_for_each_evaluation_set(tmp_path, monkeypatch):
    monkeypatch.setenv("VEHICLE_SEARCH_HOME", str(tmp_path))
    assert judgments_folder("5" * 64) == tmp_path / "judgments" / ("5" * 64)
    assert judgments_folder("5" * 64, Path("results/judgments")) == Path("results/judgments") / ("5" * 64)


@pytest.mark.parametrize("cut", [1, 40, -1])
def test_a_line_that_was_cut_off_is_named_and_does_not_take_the_next_with_it(tmp_path, cut):
    file = JudgeFile(tmp_path, "ada")
    file.path.write_bytes(judgment("q1", grade=2).as_line() + judgment("q2").as_line()[:cut])
    file.append(judgment("q3", grade=3))
    found = read_judgments(tmp_path)
    # Without its end of line, a line may still be whole.
    assert [one.query for one in found.lines] == (["q1", "q2", "q3"] if cut == -1 else ["q1", "q3"])
    assert [(one.path, one.line) for one in found.problems] == ([] if cut == -1 else [(file.path, 2)])


class Filling:
    """A file on a disk that has room for some bytes yet."""

    def __init__(self, file, room):
        self._file, self._room = file, room

    def write(self, line):
        taken = self._file.write(line[: self._room])
        self._room -= taken
        if not taken:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return taken

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._file.close()

    def __getattr__(self, name):
        return getattr(self._file, name)


@pytest.mark.parametrize("room", [0, 50])
@pytest.mark.parametrize(
    "before", [b"", judgment("q1").as_line(), judgment("q1").as_line()[:-1]], ids=["empty", "whole", "without its end"]
)
def test_a_full_disk_leaves_the_file_as_it_was(tmp_path, monkeypatch, before, room):
    file = JudgeFile(tmp_path, "ada")
    file.path.write_bytes(before)
    opened = Path.open
    with monkeypatch.context() as full:
        full.setattr(Path, "open", lambda *given, **more: Filling(opened(*given, **more), room))
        with pytest.raises(OSError, match="No space") as caught:
            file.append(judgment("q2"))
    assert caught.value.errno == errno.ENOSPC
    assert file.path.read_bytes() == before
    file.append(judgment("q2"))
    assert [one.query for one in read_judgments(tmp_path).lines] == (["q1", "q2"] if before else ["q2"])


def test_a_line_that_the_disk_did_not_keep_is_taken_away(tmp_path, monkeypatch):
    file = JudgeFile(tmp_path, "ada")
    file.append(judgment("q1"))

    def refuse(number):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        file.append(judgment("q2"))
    assert file.path.read_bytes() == judgment("q1").as_line()


@forks
def test_a_kill_before_the_disk_is_asked_loses_no_other_line(tmp_path, monkeypatch):
    file = JudgeFile(tmp_path, "ada")
    file.append(judgment("q1"))
    monkeypatch.setattr(os, "fsync", lambda number: os.kill(os.getpid(), signal.SIGKILL))
    assert status_of(lambda: file.append(judgment("q2"))) == -signal.SIGKILL
    monkeypatch.undo()
    file.append(judgment("q3"))
    found = read_judgments(tmp_path)
    assert [one.query for one in found.lines] == ["q1", "q2", "q3"]
    assert found.problems == ()


@forks
def test_two_processes_may_write_one_file(tmp_path):
    file, each = JudgeFile(tmp_path, "ada"), 200

    def write(name):
        for number in range(each):
            file.append(judgment(f"{name}{number}", image="x" * 300))

    pid = os.fork()
    if pid == 0:
        try:
            write("child")
        finally:
            os._exit(0)
    write("parent")
    os.waitpid(pid, 0)
    found = read_judgments(tmp_path)
    assert found.problems == ()
    assert len(found.lines) == 2 * each


@forks
def test_a_failed_line_takes_away_no_line_of_another_process(tmp_path, monkeypatch):
    """The lock is held from the look at the end of the file until what failed is taken away."""
    file = JudgeFile(tmp_path, "ada")
    file.append(judgment("q1"))
    lock = filelock.FileLock(file.path.with_name(f".{file.path.name}.lock"))

    def refuse(number):
        with pytest.raises(filelock.Timeout):
            filelock.FileLock(lock.lock_file, timeout=0).acquire()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="No space"):
        file.append(judgment("q2"))
    lock.acquire(timeout=0)
    lock.release()


def test_where_there_are_no_locks_lines_are_added_all_the_same(tmp_path, monkeypatch):
    def refuse(self, *given, **more):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(filelock.FileLock, "acquire", refuse)
    JudgeFile(tmp_path, "ada").append(judgment(grade=2))
    assert grades(tmp_path) == [2]
