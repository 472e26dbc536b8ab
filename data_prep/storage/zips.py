"""What is in a zip, as a tree: listed from its central directory, read member by member, never unpacked.

Python's reader makes an object of each member, which takes more than a gigabyte for the 1.4 million of ImageNet's zip.
So the list is kept as columns here, and the reader is given a zip whose directory names one member, each time.
"""

from __future__ import annotations

import io
import lzma
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any, BinaryIO, cast

import numpy as np

from data_prep.storage import MAX_FILE_BYTES, Entry, Stretch, Tree
from data_prep.storage.central import Central, OneMember, find_central, member_table, read_central
from data_prep.storage.listings import keep, kept
from data_prep.storage.stretches import PIECE
from mteb_vehicle_search.errors import SourceError

DAMAGES = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error),
    # Of names that are no UTF-8, of packers that this Python does not have, and of the disk.
    *(ValueError, NotImplementedError, RuntimeError, OSError, EOFError),
)
_METHOD = struct.Struct("<H")
AGAIN = "Download the zip again."
WHICH = "Which one is meant is unknown: get the zip again."


class ZipTree:
    """What is in a zip; see `Tree`.

    Args:
        tree: What the zip lies in.
        name: Of the zip there.
    """

    def __init__(self, tree: Tree, name: str) -> None:
        self.outer, self.name = tree, name
        self.where = tree.path(name)
        self.remote = tree.remote
        self.listable = True

    def path(self, name: str) -> str:
        return f"{self.where}, member {name}" if name else self.where

    @cached_property
    def own_entry(self) -> Entry:
        """The zip's own entry in its folder."""
        entry = self.outer.entry(self.name)
        if entry is None:
            raise SourceError(f"there is no {self.where}")
        return entry

    @cached_property
    def _central(self) -> Central:
        entry = self.own_entry
        content = kept(self.outer, self.name, entry)
        try:
            with self.outer.open(self.name) as file:
                place = find_central(file, entry.size_bytes)
                if content is not None and len(content) == place.length:
                    return Central(content, place)
                central = read_central(file, place) if place.length <= PIECE else None
            if central is None:  # A long one travels in several pieces at once.
                with self.outer.open(self.name, [(place.at, place.at + place.length)]) as file:
                    central = read_central(file, place)
        except (ValueError, struct.error, OSError) as error:
            raise SourceError(f"{self.where} is not a readable zip: {error}", AGAIN) from error
        keep(self.outer, self.name, entry, central.records)
        return central

    @cached_property
    def _members(self) -> dict[str, Any]:
        try:
            return member_table(self._central)
        except (struct.error, ValueError) as error:
            raise SourceError(
                f"{self.where} is not a readable zip: its list of members is damaged: {error}", AGAIN
            ) from error

    def entry(self, name: str) -> Entry | None:
        last = name.rpartition("/")[2]
        if (row := self._row(name)) is not None:
            return self._entry(row, last)
        return Entry(last, is_folder=True) if not name or self._starts(self._first(f"{name}/"), f"{name}/") else None

    def entries(self, folder: str = "") -> list[Entry]:
        found: dict[str, Entry] = {}
        prefix = f"{folder}/" if folder else ""
        row = self._first(prefix)
        while row < len(self._names) and (name := self._names[row].as_py()).startswith(prefix):
            child, below, _ = name[len(prefix) :].partition("/")
            if not child:  # The folder itself, or a name that leads out of the zip.
                row += 1
                continue
            if child in found:
                how = "both as a file and as a folder" if below else "twice"
                raise SourceError(f"{self.where} holds {prefix}{child} {how}", WHICH)
            if below:
                found[child] = Entry(child, is_folder=True)
                row = self._first(f"{prefix}{child}0")  # "0" is what follows "/".
            else:
                found[child] = self._entry(row, child)
                row += 1
        return [found[child] for child in sorted(found)]

    def walk(self, folder: str = "") -> Iterator[Entry]:
        prefix = f"{folder}/" if folder else ""
        for row in range(self._first(prefix), len(self._names)):
            name = self._names[row].as_py()
            if not name.startswith(prefix):
                return
            if not name.endswith("/"):
                yield self._entry(row, name[len(prefix) :])

    def open(self, name: str, stretches: Sequence[Stretch] = ()) -> BinaryIO:
        if (row := self._row(name)) is None:
            raise SourceError(f"there is no {self.path(name)}")
        size = self._members["size"][row].as_py()
        if size > MAX_FILE_BYTES:
            raise SourceError(
                f"{self.path(name)} has {size:,} bytes: what is packed so cannot be read in the middle",
                "Unpack the zip.",
            )
        [(data, problem)] = self.read([name])
        if problem:
            raise SourceError(f"{self.path(name)}: {problem}", AGAIN)
        return io.BytesIO(data)

    def read(self, names: Iterable[str]) -> Iterator[tuple[bytes, str]]:
        names = list(names)
        rows = np.array([self._required(name) for name in names], dtype=np.int64)
        record, length, at, end = (self._numbers(key)[rows].tolist() for key in ("record", "length", "at", "end"))
        records, place = self._central
        with self.outer.open(self.name, list(zip(at, end)) if self.remote else []) as file:
            for name, start, long in zip(names, record, length):
                own = records[start : start + long]
                yield _read_member(OneMember(file, place, own), name, _METHOD.unpack_from(own, 10)[0])

    def travelling(self, names: Iterable[str]) -> int:
        if not self.remote:
            return 0
        rows = np.array([self._required(name) for name in names], dtype=np.int64)
        at, end = (self._numbers(key) for key in ("at", "end"))
        return int((end[rows] - at[rows]).sum())

    def _numbers(self, column: str) -> np.ndarray:
        return self._members[column].to_numpy()

    @property
    def _names(self) -> Any:
        return self._members["name"]

    def _first(self, text: str) -> int:
        """The first row whose name is not before a text."""
        low, high = 0, len(self._names)
        while low < high:
            middle = (low + high) // 2
            if self._names[middle].as_py() < text:
                low = middle + 1
            else:
                high = middle
        return low

    def _starts(self, row: int, text: str) -> bool:
        return row < len(self._names) and self._names[row].as_py().startswith(text)

    def _row(self, name: str) -> int | None:
        """The row of a file; None if there is none.

        Raises:
            SourceError: There are two.
        """
        row = self._first(name)
        if not name or name.endswith("/") or row == len(self._names) or self._names[row].as_py() != name:
            return None
        if row + 1 < len(self._names) and self._names[row + 1].as_py() == name:
            raise SourceError(f"{self.where} holds {name} twice", WHICH)
        return row

    def _required(self, name: str) -> int:
        if (row := self._row(name)) is None:
            raise SourceError(f"{self.where} has no {name}")
        return row

    def _entry(self, row: int, name: str) -> Entry:
        # The checksum is in the list: it tells of another content without reading it.
        return Entry(name, self._members["size"][row].as_py(), f"crc {self._members['crc'][row].as_py():08x}")


def _read_member(file: OneMember, name: str, method: int) -> tuple[bytes, str]:
    what = f"zip member {name}"
    try:
        with zipfile.ZipFile(cast(Any, file)) as archive:
            [member] = archive.infolist()
            if stat.S_ISLNK(member.external_attr >> 16):
                return b"", "is a link in the zip, not a file"
            if member.flag_bits & 1:
                return b"", f"{what} is encrypted"
            with archive.open(member) as content:
                data = content.read(min(member.file_size, MAX_FILE_BYTES) + 1)
    except NotImplementedError as error:
        return b"", f"{what} is packed in a way (method {method}) that cannot be unpacked here: {error}"
    except DAMAGES as error:
        return b"", f"{what} is damaged: {error}"
    if len(data) < min(member.file_size, MAX_FILE_BYTES):
        return b"", f"{what} is damaged: it has {len(data):,} bytes instead of {member.file_size:,}"
    return data, ""
