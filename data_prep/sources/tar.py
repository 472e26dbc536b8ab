"""Tar archives read where they lie, member by member, to an end that is proven.

A tar has no list of its members. Python's reader, like others, takes whatever is no header for the end of the archive,
so that a hole in an unfinished download hides all that follows. What follows the last member is therefore looked at.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from data_prep.sources import MAX_FILE_BYTES
from mteb_vehicle_search.errors import SourceError

BLOCK = 512
# POSIX.1-2024, pax, "ustar Interchange Format": two blocks of zeros end an archive, which is filled up with zeros to
# whole records, of 20 blocks by default.
LEAST_END = 2 * BLOCK
LONGEST_END = LEAST_END + 20 * BLOCK - 1


@contextmanager
def opened(where: Path | str, fileobj: Any = None) -> Iterator[tarfile.TarFile]:
    """Give the tar at `where`, or in `fileobj`, for as long as it is read.

    Raises:
        SourceError: It is damaged, when it is opened or later; names `where`.
    """
    try:
        with tarfile.open(None if fileobj else where, "r:", fileobj=fileobj) as tar:
            yield tar
    except tarfile.TarError as error:
        raise SourceError(f"{where} is damaged: {error}", "Get the file again.") from error


def members(tar: tarfile.TarFile, where: Path | str) -> Iterator[tarfile.TarInfo]:
    """Yield all members but folders, in the archive's order.

    Raises:
        SourceError: What follows the last one is not the end of an archive.
    """
    for member in tar:
        if not member.isdir():
            yield member
    file: Any = tar.fileobj
    file.seek(tar.offset)
    rest = file.read(LONGEST_END + 1)
    at = f"at byte {tar.offset:,}"
    if any(rest):
        problem = f"{at} there is neither a file nor the end of the archive"
    elif len(rest) < LEAST_END:
        problem = f"it is cut short {at}, where neither a file nor the end of the archive follows"
    elif len(rest) > LONGEST_END:
        problem = f"{at} there are more zeros than the end of an archive has, as where a download was not finished"
    else:
        return
    raise SourceError(f"{where} is damaged: {problem}.", "Get the file again.")


def read_member(tar: tarfile.TarFile, member: tarfile.TarInfo, where: Path | str) -> tuple[bytes, str]:
    """Return the bytes of a member, no more than one above `MAX_FILE_BYTES`, and why there are none (else "").

    Raises:
        SourceError: The archive ends within it.
    """
    if not member.isfile():
        return b"", "is a link or a device in the tar, not a file"
    stream = tar.extractfile(member)
    try:
        data = stream.read(MAX_FILE_BYTES + 1) if stream is not None else b""
    except tarfile.ReadError:
        data = b""
    if len(data) != min(member.size, MAX_FILE_BYTES + 1):
        raise SourceError(f"{where} ends within {member.name}", "It is cut short; get the file again.")
    return data, ""
