"""Files written whole or not at all, and folders that one build holds alone."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from mteb_vehicle_search.errors import BuildError

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
    """Give an empty folder to fill; it takes its place, where an earlier one stands until then, whole or not at all."""
    partial = folder.with_name(f".{folder.name}.partial")
    if partial.exists():
        shutil.rmtree(partial)
    partial.mkdir(parents=True)
    try:
        yield partial
        replace_folder(partial, folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def replace_folder(new: Path, target: Path) -> None:
    """Put a finished folder in place of an earlier one, on the same file system."""
    old = target.with_name(f".{target.name}.old")
    if old.exists():
        shutil.rmtree(old)
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        target.rename(old)
    new.rename(target)
    if old.exists():
        shutil.rmtree(old)


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the build's lock, which the operating system frees when the process dies.

    Raises:
        BuildError: Another process builds in this folder.
    """
    from filelock import FileLock, Timeout

    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / "lock", timeout=0)
    holder = folder / "lock.pid"
    try:
        lock.acquire()
    except Timeout as error:
        pid = holder.read_text(encoding="utf-8").strip() if holder.is_file() else "unknown"
        raise BuildError(
            f"Another build is working on {folder} (process {pid}).",
            "Wait for it to finish, or give --out another folder.",
        ) from error
    try:
        holder.write_text(str(os.getpid()), encoding="utf-8")
        yield
    finally:
        lock.release()


def check_replaceable(folder: Path) -> None:
    """Make sure that a build may put its result there: nothing, an empty folder, or an earlier evaluation set.

    Raises:
        BuildError: Other things are there, which a build would delete.
    """
    hint = "Give --out a folder that does not exist yet."
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise BuildError(f"{folder} is not a folder.", hint)
    if folder.is_dir() and (foreign := sorted({path.name for path in folder.iterdir()} - _EVAL_SET)):
        raise BuildError(f"{folder} holds other things, which a build would delete: {', '.join(foreign[:5])}.", hint)
