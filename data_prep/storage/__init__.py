"""Files wherever people hold them: in a folder, a zip or a bucket, on this computer or behind an address.

A `Tree` is a folder and what is below it; `opening.open_tree` makes one of a path or a URL. Sources list and open files
through it alone, so that what is a form of a data set does not depend on where it lies.
"""

from __future__ import annotations

import hashlib
import re
import stat
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import BinaryIO, NamedTuple, Protocol

MAX_FILE_BYTES = 64 << 20  # Of one encoded image; no more of a file than this and one byte is read.

PassedOver = Counter[str]
"""How many files or rows of a source were not used, by reason; not counting rejects, which have rows of their own."""

HIDDEN, SYSTEM = "hidden files", "files of the operating system"
OUTSIDE = "names that lead out of the archive"
_SYSTEM_NAMES = {
    *("thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "system volume information"),  # Windows
    *("__macosx", "icon\r", "lost+found", "@eadir", "#recycle"),  # macOS, Linux, Synology
}

Stretch = tuple[int, int]
"""Bytes of a file, from the first to before the second number."""


class Entry(NamedTuple):
    """A file or folder in a folder: its name there, bytes (-1: no file), and what changes when its content does.

    The stamp is a validator of where it lies (ETag, date of change, checksum); "" if there is none.
    """

    name: str
    size_bytes: int = -1
    stamp: str = ""
    is_folder: bool = False


class Tree(Protocol):
    """A folder, wherever it lies. Names are relative to it, with "/" between folders; "" is the folder itself."""

    where: str  # For people and manifests: without logins, signatures and other secrets.
    remote: bool  # Whether what is read travels over a network.
    listable: bool  # Whether it tells what is in its folders, unlike a web server.

    def path(self, name: str) -> str:
        """Say where a file lies, for messages and manifests."""
        ...

    def entry(self, name: str) -> Entry | None:
        """Return what there is of that name; None if there is nothing."""
        ...

    def entries(self, folder: str = "") -> list[Entry]:
        """Return what is in a folder, by name, and nothing if there is no such folder; all files, odd ones too.

        Raises:
            SourceError: Where it lies, folders cannot be listed.
        """
        ...

    def walk(self, folder: str = "") -> Iterator[Entry]:
        """Yield all files below a folder by name, whose names are relative to that folder."""
        ...

    def open(self, name: str, stretches: Sequence[Stretch] = ()) -> BinaryIO:
        """Open a file, to be read anywhere.

        Args:
            name: Of the file.
            stretches: What will be read, in that order, where that is known: it travels ahead, and nothing else does.

        Raises:
            SourceError: It is not there, is refused, or cannot be read in the middle.
        """
        ...

    def read(self, names: Iterable[str]) -> Iterator[tuple[bytes, str]]:
        """Yield the bytes of files, in that order, and why there are none (else "").

        No more of a file is read than `MAX_FILE_BYTES` and one byte.

        Raises:
            SourceError: A file is not there, or what it lies in is damaged.
        """
        ...

    def travelling(self, names: Iterable[str]) -> int:
        """Return how many bytes would travel over a network to read these files."""
        ...


def not_an_image(name: str) -> str:
    """Return why a file is passed over, by its name or path: hidden, or the operating system's; "" if it is not."""
    parts = name.replace("\\", "/").split("/")
    if any(part.casefold() in _SYSTEM_NAMES for part in parts):
        return SYSTEM
    return HIDDEN if any(part.startswith(".") and part.strip(".") for part in parts) else ""


def leads_out(name: str) -> bool:
    """Tell whether a member's name points out of its archive, on any system: by .., a slash or a drive at its begin."""
    parts = name.replace("\\", "/").split("/")
    return ".." in parts or (not parts[0] and len(parts) > 1) or _DRIVE.match(name) is not None


_DRIVE = re.compile("[a-z]:", re.IGNORECASE)


def plain(entries: Iterable[Entry], passed: PassedOver | None = None) -> list[Entry]:
    """Return entries but for hidden files and those of operating systems, which `passed` counts."""
    kept = []
    for entry in entries:
        if reason := not_an_image(entry.name):
            if passed is not None:
                passed[reason] += 1
        else:
            kept.append(entry)
    return kept


def has_file(tree: Tree, name: str) -> bool:
    """Tell whether a tree has a file of that name."""
    entry = tree.entry(name)
    return entry is not None and not entry.is_folder


def content_of(tree: Tree, name: str) -> bytes:
    """Return the bytes of a small file.

    Raises:
        SourceError: It is not there, or is refused.
    """
    with tree.open(name) as file:
        return file.read()


def digest_of(facts: object) -> str:
    """Return the sha256 of what facts look like, in hexadecimal; of texts and numbers, the same on every run."""
    return hashlib.sha256(repr(facts).encode("utf-8", "surrogatepass")).hexdigest()


def stamp_of(entries: Iterable[Entry]) -> str:
    """Return a digest of files that changes when one of them does, without reading them."""
    facts = [(e.name, e.size_bytes, *([e.stamp] if e.stamp else [])) for e in entries]
    return digest_of(facts)


def kind_of(mode: int) -> str:
    """Say what a file is by its mode, if it is neither a file nor a folder; else ""."""
    kind = stat.S_IFMT(mode)
    return "" if kind in (stat.S_IFREG, stat.S_IFDIR) else _KINDS.get(kind, "something else")


_KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
