"""Files written whole or not at all, and folders that one build holds alone."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from socket import gethostname
from typing import BinaryIO

from mteb_vehicle_search.errors import BuildError, VehicleSearchError

_EVAL_SET = {"README.md", "manifest.json", "corpus", "queries", "qrels", "provenance", "rejected.parquet"}


@contextmanager
def new_file(path: Path, suffix: str = ".partial") -> Iterator[BinaryIO]:
    """Give a file to write to; it takes its place when it is complete and on the disk, or not at all.

    Args:
        path: Its place; an earlier file there is replaced.
        suffix: Of the name that it has until then; one of its own where several processes may write it.
    """
    partial = path.with_name(path.name + suffix)
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that it is either complete or not there."""
    with new_file(path) as file:
        file.write(content)


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Give an empty folder to fill; it takes its place, where an earlier one stands until then, whole or not at all.

    If a link stands there, it is the folder that the link points to.

    Raises:
        BuildError: A file system is mounted there.
    """
    folder = folder.resolve() if folder.is_symlink() else folder
    check_not_mounted(folder)
    partial = folder.with_name(f".{folder.name}.partial")
    if partial.exists():
        shutil.rmtree(partial)
    partial.mkdir(parents=True)
    try:
        yield partial
        for path in partial.rglob("*"):
            if path.is_file():
                sync_file(path)
        replace_folder(partial, folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def sync_file(path: Path) -> None:
    """Make sure that what was written to a file is on the disk."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def replace_folder(new: Path, target: Path) -> None:
    """Put a finished folder in place of an earlier one; from another file system it is copied first.

    The earlier one goes aside first and is deleted last: `recover_folder` brings it back if the process dies between.
    """
    if target.parent.is_dir() and new.stat().st_dev != target.parent.stat().st_dev:
        with new_folder(target) as partial:
            shutil.copytree(new, partial, dirs_exist_ok=True)
        shutil.rmtree(new)
        return
    old = _aside(target)
    recover_folder(target)
    if old.exists():
        shutil.rmtree(old)
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        target.rename(old)
    new.rename(target)
    if old.exists():
        shutil.rmtree(old)


def recover_folder(target: Path) -> None:
    """Put back what `replace_folder` had moved aside when its process died before the new one was in place."""
    if not target.exists() and _aside(target).exists():
        _aside(target).rename(target)


def _aside(target: Path) -> Path:
    return target.with_name(f".{target.name}.old")


def safe_name(readable: str, identity: object = None) -> str:
    """Return a name for a file or folder that is safe on every system.

    Characters that some system refuses become `_`. With an `identity` (JSON), no other identity gets the same name; a
    text that is safe and short already stays as it is without one.
    """
    kept = "".join(c if c.isascii() and (c.isalnum() or c in "._-+") else "_" for c in readable[:100]).strip(". ")
    if identity is None and kept == readable:
        return kept
    text = json.dumps([readable] if identity is None else identity)
    return f"{kept}__{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@cache
def code_digest(package: Path) -> str:
    """Return twelve hexadecimal digits that change with any module below the folder of a package."""
    files = sorted((path.relative_to(package).as_posix(), file_sha256(path)) for path in package.rglob("*.py"))
    return hashlib.sha256(repr(files).encode()).hexdigest()[:12]


@contextmanager
def locked(
    folder: Path,
    doing: str = "",
    *,
    error: type[VehicleSearchError] = BuildError,
    hint: str = "",
    on_wait: Callable[[str], object] | None = None,
) -> Iterator[None]:
    """Hold the lock of a folder, which is made for it, until the end of the block.

    The operating system frees it when the process dies; on a file system that has no locks, a file stands for it.

    Args:
        folder: Where the lock lies, in the files `lock` (or `lock.file`) and `holder.json`.
        doing: What is done, for the one who is refused: "Another build is working on ...".
        error: What a refusal is.
        hint: What the one who is refused can do.
        on_wait: Nobody is refused: it is called with what would be said, and then the lock is waited for.

    Raises:
        VehicleSearchError: Another process holds it (an `error`); says which, where, for how long, and which file to
            delete if it is gone.
    """
    from filelock import FileLock, SoftFileLock, Timeout

    folder.mkdir(parents=True, exist_ok=True)
    path, holder = folder / "lock", folder / "holder.json"
    lock: FileLock | SoftFileLock = FileLock(path, timeout=0)
    try:
        try:
            lock.acquire()
        except (OSError, NotImplementedError) as trouble:
            if isinstance(trouble, Timeout) or (isinstance(trouble, OSError) and trouble.errno not in _NO_LOCKS):
                raise
            path = folder / "lock.file"
            lock = SoftFileLock(path, timeout=0)
            lock.acquire()
    except Timeout as timeout:
        refusal = error(
            f"{doing or f'Another build is working on {folder}'} ({_held_by(holder)}).",
            f"{hint or 'Wait for it to finish, or give --out another folder.'} If that process is gone, delete {path}.",
        )
        if on_wait is None:
            raise refusal from timeout
        on_wait(str(refusal))
        lock.acquire(timeout=-1)
    try:
        since = datetime.now(UTC).isoformat(timespec="seconds")
        holder.write_text(json.dumps({"process": os.getpid(), "host": gethostname(), "since": since}), encoding="utf-8")
        yield
    finally:
        lock.release()


# Of network disks and the like.
_NO_LOCKS = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS}


def _held_by(holder: Path) -> str:
    try:
        said = json.loads(holder.read_text(encoding="utf-8"))
        age = datetime.now(UTC) - datetime.fromisoformat(said["since"])
        return f"process {said['process']} on {said['host']}, for {str(age).partition('.')[0]}"
    except (OSError, ValueError, TypeError, KeyError):
        return "process unknown"


def check_replaceable(folder: Path) -> None:
    """Make sure that a build may put its result there: nothing, an empty folder, or an earlier evaluation set.

    Raises:
        BuildError: Other things are there, which a build would delete.
    """
    hint = "Give --out a folder that does not exist yet."
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise BuildError(f"{folder} is not a folder.", hint)
    check_not_mounted(folder)
    if folder.is_dir() and (foreign := sorted({path.name for path in folder.iterdir()} - _EVAL_SET)):
        raise BuildError(f"{folder} holds other things, which a build would delete: {', '.join(foreign[:5])}.", hint)


def check_not_mounted(folder: Path) -> None:
    """Make sure that a folder can be moved and replaced.

    Raises:
        BuildError: A file system is mounted there.
    """
    if os.path.ismount(folder) or str(folder.absolute()) in _mount_points():
        raise BuildError(
            f"{folder} is where a file system is mounted, so it cannot be replaced as a whole.",
            f"Give --out a folder inside it, such as {folder / 'set'}.",
        )


def _mount_points() -> set[str]:
    """Return where file systems are mounted, also a part of one at another place, where the system tells (Linux)."""
    try:
        lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return set()
    # Spaces and the like stand as three octal digits (proc_pid_mountinfo(5)).
    escaped = re.compile(r"\\([0-7]{3})")
    return {escaped.sub(lambda found: chr(int(found[1], 8)), line.split()[4]) for line in lines}


def check_writable(folder: Path) -> None:
    """Make sure that a folder could be made, or written into; nothing is made.

    Raises:
        BuildError: Something else is in the way, or writing there is not allowed.
    """
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists() or path.is_symlink())
    hint = "Give --out another folder."
    if not there.is_dir():
        raise BuildError(f"{folder} cannot be made: {there} is not a folder.", hint)
    if not os.access(there, os.W_OK | os.X_OK):
        raise BuildError(f"{folder} cannot be written: {there} may not be written into.", hint)
