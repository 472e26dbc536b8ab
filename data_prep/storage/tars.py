"""Tar archives read where they lie, member by member, to an end that is proven.

A tar has no list of its members. Python's reader, like others, takes whatever is no header for the end of the archive,
so that a hole in an unfinished download hides all that follows. What follows the last member is therefore looked at.
"""

from __future__ import annotations

import gzip
import json
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar, cast

from data_prep.storage import MAX_FILE_BYTES, Entry, PassedOver, Tree, not_an_image
from data_prep.storage.listings import keep, kept
from data_prep.storage.onward import InParts, Onward
from mteb_vehicle_search.errors import SourceError

T = TypeVar("T")
BLOCK = 512
# POSIX.1-2024, pax, "ustar Interchange Format": two blocks of zeros end an archive, which is filled up with zeros to
# whole records, of 20 blocks by default.
LEAST_END = 2 * BLOCK
LONGEST_END = LEAST_END + 20 * BLOCK - 1
AGAIN = "Get the file again."
_PACKED = (".gz", ".tgz")


class Part(NamedTuple):
    """A tar inside a tar: its name there, where its bytes begin, and how many they are."""

    name: str
    at: int
    size_bytes: int


@contextmanager
def opened(where: str, fileobj: Any) -> Iterator[tarfile.TarFile]:
    """Give the tar in `fileobj` for as long as it is read.

    Raises:
        SourceError: It is damaged, when it is opened or later; names `where`.
    """
    try:
        with _understood(lambda: tarfile.open(fileobj=cast(Any, InParts(fileobj)), mode="r:")) as tar:
            yield tar
    except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise SourceError(f"{where} is damaged: {error}", AGAIN) from error


def _understood(action: Callable[[], T]) -> T:
    """Return what an action makes of headers; tarfile has several ways to fail at those that make no sense."""
    try:
        return action()
    except (ValueError, OverflowError, RecursionError) as error:
        raise tarfile.ReadError(f"a header makes no sense: {error}") from error


@contextmanager
def opened_in(tree: Tree, name: str, part: Part | None = None, *, whole: bool = False) -> Iterator[tarfile.TarFile]:
    """Give a tar in a tree, packed by gzip or not, or a tar inside of it.

    Args:
        tree: Where it lies.
        name: Of the (outer) tar.
        part: The inner tar that is meant, if it is one.
        whole: Whether all of it will be read, from its begin to its end, so that it may travel ahead.

    Raises:
        SourceError: It is missing, refused or damaged.
    """
    where = tree.path(name)
    packed = name.lower().endswith(_PACKED)
    entry = tree.entry(name)
    if entry is None or entry.is_folder:
        raise SourceError(f"there is no {where}")
    stretches = [(0, entry.size_bytes)] if whole or packed else []
    if part is not None:
        stretches = [(part.at, part.at + part.size_bytes)]
    with tree.open(name, stretches) as file:
        if part is not None:
            inner = tarfile.TarInfo(part.name)
            inner.offset_data, inner.size = part.at, part.size_bytes
            # The inner tar is read where it lies: a member is no more than a stretch of the outer file.
            inside = f"{where}, inner tar {part.name}"
            with opened(where, file) as outer, opened(inside, outer.extractfile(inner)) as tar:
                yield tar
        elif packed:
            with gzip.GzipFile(fileobj=file) as unpacked, opened(where, Onward(unpacked)) as tar:
                yield tar
        else:
            with opened(where, file) as tar:
                yield tar


def members(tar: tarfile.TarFile, where: str) -> Iterator[tarfile.TarInfo]:
    """Yield all members but folders, in the archive's order.

    Raises:
        SourceError: What follows the last one is not the end of an archive.
    """
    while (member := _understood(tar.next)) is not None:
        if member.size < 0 or tar.offset <= member.offset:  # Else the same headers would come forever.
            raise SourceError(f"{where} is damaged: the size of {member.name} is negative", AGAIN)
        if not member.isdir():
            yield member
        # tarfile keeps each for a second reading, which never comes.
        tar.members = []  # pyright: ignore[reportAttributeAccessIssue]
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
    raise SourceError(f"{where} is damaged: {problem}.", AGAIN)


def read_member(tar: tarfile.TarFile, member: tarfile.TarInfo, where: str) -> tuple[bytes, str]:
    """Return the bytes of a member, no more than one above `MAX_FILE_BYTES`, and why there are none (else "").

    Raises:
        SourceError: The archive ends within it.
    """
    if not member.isfile():
        return b"", "is a link or a device in the tar, not a file"
    stream = tar.extractfile(member)
    try:
        data = stream.read(min(member.size, MAX_FILE_BYTES) + 1) if stream is not None else b""
    except tarfile.ReadError:
        data = b""
    if len(data) != min(member.size, MAX_FILE_BYTES + 1):
        raise SourceError(f"{where} ends within {member.name}", "It is cut short; get the file again.")
    return data, ""


class Read(NamedTuple):
    """A member that was read: its whole name, its bytes, and why there are none (else "")."""

    name: str
    data: bytes
    problem: str


def read_tar(
    tree: Tree,
    name: str,
    passed: PassedOver,
    part: Part | None = None,
    wanted: Callable[[str], str] = lambda name: "",
) -> Iterator[Read]:
    """Yield the members of a tar (or of one inside of it) in the archive's order, to an end that is proven.

    Args:
        tree: Where it lies.
        name: Of the (outer) tar.
        passed: Counts what is not used.
        part: The inner tar that is meant, if it is one.
        wanted: Says of a member's name why it is not used; "" if it is.

    Raises:
        SourceError: It is missing, refused or damaged.
    """
    where = tree.path(name) + (f", inner tar {part.name}" if part else "")
    with opened_in(tree, name, part, whole=True) as tar:
        for member in members(tar, where):
            if reason := not_an_image(member.name) or wanted(member.name):
                passed[reason] += 1
            else:
                yield Read(member.name, *read_member(tar, member, where))


def parts_of(tree: Tree, name: str) -> list[Part]:
    """List the members of a tar that is not packed, in its order; those of a remote one are kept on disk.

    Raises:
        SourceError: It is missing, refused or damaged.
    """
    entry = tree.entry(name) or Entry(name)
    if (content := kept(tree, name, entry)) is not None:
        return [Part(*part) for part in json.loads(content)]
    with opened_in(tree, name) as tar:
        found = [_part(member, tree.path(name)) for member in members(tar, tree.path(name)) if member.isfile()]
    keep(tree, name, entry, json.dumps(found).encode())
    return found


def _part(member: tarfile.TarInfo, where: str) -> Part:
    if member.issparse():
        raise SourceError(
            f"{where}: {member.name} is a sparse file, whose bytes are not in one piece",
            "Make the tar anew without --sparse, or get the original.",
        )
    return Part(member.name, member.offset_data, member.size)
