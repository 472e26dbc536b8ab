"""Folders on this computer."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from data_prep.storage import MAX_FILE_BYTES, Entry, Stretch, kind_of
from mteb_vehicle_search.errors import SourceError


class LocalTree:
    """A folder on this computer; see `Tree`. Links are followed."""

    remote = False
    listable = True

    def __init__(self, root: Path) -> None:
        self.root = root
        self.where = str(root)

    def path(self, name: str) -> str:
        return str(self.root / name)

    def entry(self, name: str) -> Entry | None:
        path = self.root / name
        status = _status(path)
        if status is None:
            return Entry(path.name) if _is_link(path) else None
        is_file = stat.S_ISREG(status.st_mode)
        return _entry(path.name, status, str(status.st_mtime_ns) if is_file else "")

    def entries(self, folder: str = "") -> list[Entry]:
        """See `Tree.entries`; without stamps, since a copy of a file is the same file."""
        root = self.root / folder
        if not _is_folder(root):
            return []
        try:
            return sorted(_entry(path.name, _status(path)) for path in root.iterdir())
        except OSError as error:
            raise _unreadable(root, error) from error

    def walk(self, folder: str = "") -> Iterator[Entry]:
        root = self.root / folder
        if not _is_folder(root):
            return
        found = []

        def failed(error: OSError) -> None:
            raise _unreadable(Path(error.filename), error) from error

        # Links to folders are followed, as people put big data elsewhere; one that leads back up is not.
        for top, folders, files in os.walk(root, onerror=failed, followlinks=True):
            above = {os.path.realpath(path) for path in (top, *Path(top).absolute().parents)}
            folders[:] = [name for name in folders if os.path.realpath(Path(top) / name) not in above]
            for name in files:
                path = Path(top) / name
                found.append(_entry(path.relative_to(root).as_posix(), _status(path)))
        yield from sorted(found)

    def open(self, name: str, stretches: Sequence[Stretch] = ()) -> BinaryIO:
        path = self.root / name
        status = _status(path)
        # It may never answer, as a pipe that nobody writes to.
        if status is not None and (kind := kind_of(status.st_mode)):
            raise SourceError(f"{path} is {kind}, not a file")
        try:
            return path.open("rb")
        except (OSError, ValueError) as error:
            raise _unreadable(path, error) from error

    def read(self, names: Iterable[str]) -> Iterator[tuple[bytes, str]]:
        for name in names:
            yield read_image_file(self.root / name)

    def travelling(self, names: Iterable[str]) -> int:
        return 0


def read_image_file(path: Path) -> tuple[bytes, str]:
    """The bytes of an image file, no more than one above `MAX_FILE_BYTES`, and why there are none (else "").

    Raises:
        SourceError: There is no such file.
    """
    try:
        # What is neither a file nor a folder may never answer, as a pipe that nobody writes to.
        if kind := kind_of(path.stat().st_mode):
            return b"", f"is {kind}, not a file"
        with path.open("rb") as file:
            return file.read(MAX_FILE_BYTES + 1), ""
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not path.is_symlink():
            raise SourceError(f"{path} is missing") from None
        return b"", f"cannot be read: {error.strerror or error}"
    except ValueError as error:  # Of names that no file can have.
        raise SourceError(f"{path} is missing: {error}") from None


# Of names for which there is nothing, or only a broken link: too long ones, and links in a circle, among them.
_NOTHING = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL}


def _status(path: Path) -> os.stat_result | None:
    """What there is at a path; None if there is nothing.

    Raises:
        SourceError: It cannot be known.
    """
    try:
        return path.stat()
    except ValueError:  # Of names that no file can have.
        return None
    except OSError as error:
        if error.errno in _NOTHING:
            return None
        raise _unreadable(path, error) from error


def _is_folder(path: Path) -> bool:
    status = _status(path)
    return status is not None and stat.S_ISDIR(status.st_mode)


def _is_link(path: Path) -> bool:
    try:
        return path.is_symlink()
    except (OSError, ValueError):
        return False


def _entry(name: str, status: os.stat_result | None, stamp: str = "") -> Entry:
    if status is not None and stat.S_ISREG(status.st_mode):
        return Entry(name, status.st_size, stamp)
    return Entry(name, is_folder=status is not None and stat.S_ISDIR(status.st_mode))


def _unreadable(path: Path, error: Exception) -> SourceError:
    return SourceError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}")
