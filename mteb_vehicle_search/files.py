"""Files written whole or not at all, and folders that one build holds alone."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mteb_vehicle_search.errors import BuildError

_EVAL_SET = {"README.md", "manifest.json", "corpus", "queries", "qrels", "provenance", "rejected.parquet"}


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that it is either complete or not there: temporary file, flush, rename."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the build's lock, which the operating system frees when the process dies.

    Raises:
        BuildError: Another process builds in this folder.
    """
    from filelock import FileLock, Timeout

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "lock"
    lock = FileLock(path, timeout=0)
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
    if not folder.is_dir():
        return
    if foreign := sorted({path.name for path in folder.iterdir()} - _EVAL_SET):
        raise BuildError(f"{folder} holds other things, which a build would delete: {', '.join(foreign[:5])}.", hint)


def replace_folder(new: Path, target: Path) -> None:
    """Put a finished folder in place of an earlier one, on the same file system."""
    old = new.with_name(new.name + ".old")
    if old.exists():
        shutil.rmtree(old)
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        target.rename(old)
    new.rename(target)
    if old.exists():
        shutil.rmtree(old)
