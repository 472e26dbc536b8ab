"""A zip's central directory: where it is, what it names, and another one in its place that names one member."""

from __future__ import annotations

import io
import struct
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import pyarrow as pa

# APPNOTE.TXT 6.3.10, sections 4.3.12 to 4.3.16.
_MEMBER, _END, _END64, _LOCATOR = b"PK\x01\x02", b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07"
_RECORD = struct.Struct("<4s4xH6xLLLHHH8xL")  # Magic, flags, CRC, packed, size, lengths of name, extra, comment; place.
_END_BYTES, _END64_BYTES, _LOCATOR_BYTES = 22, 56, 20
_LONGEST_END = _LOCATOR_BYTES + _END64_BYTES + _END_BYTES + 0xFFFF  # The last record may hold a comment.
_UTF8, _FULL, _CHUNK = 0x800, 0xFFFFFFFF, 50_000
_COLUMNS = pa.schema(
    [("name", pa.large_string()), *[(name, pa.int64()) for name in ("record", "length", "at", "size", "crc")]]
)


class Located(NamedTuple):
    """Where a zip's central directory lies.

    Attributes:
        at: Where its records begin in the file.
        length: Of all records, in bytes.
        shift: How far the offsets in it are off, as something stands before the zip.
        members: How many the zip says that it names; a number of 16 bits unless `whole`.
        whole: Whether that number is written in 64 bits.
    """

    at: int
    length: int
    shift: int
    members: int
    whole: bool


class Central(NamedTuple):
    """A zip's central directory: its records, and where they lie."""

    records: bytes
    place: Located


def find_central(file: BinaryIO, size_bytes: int) -> Located:
    """Find the central directory of a zip.

    Raises:
        ValueError: There is none.
    """
    start = max(0, size_bytes - _LONGEST_END)
    file.seek(start)
    tail = file.read(max(0, size_bytes - start))
    # The last record ends the file, but for its comment.
    place = tail.rfind(_END)
    while place >= 0 and (
        len(tail) - place < _END_BYTES
        or place + _END_BYTES + struct.unpack_from("<H", tail, place + 20)[0] != len(tail)
    ):
        place = tail.rfind(_END, 0, place)
    if place < 0:
        raise ValueError("its end is missing, as of an unfinished download" if tail else "the file is empty")
    _, disk, first_disk, _, members, length, at, _ = struct.unpack_from("<4s4H2LH", tail, place)
    end, volumes, whole = start + place, 1, False
    locator = place - _LOCATOR_BYTES
    if locator >= 0 and tail[locator : locator + 4] == _LOCATOR:
        place64 = locator - _END64_BYTES
        if place64 < 0 or tail[place64 : place64 + 4] != _END64:
            raise ValueError("its zip64 record is missing")
        volumes = struct.unpack_from("<L", tail, locator + 16)[0]
        _, _, _, _, disk, first_disk, _, members, length, at = struct.unpack_from("<4sQ2H2L4Q", tail, place64)
        end, whole = start + place64, True
    if disk or first_disk or volumes > 1:
        raise ValueError("it is one of several volumes")
    # Something may stand before the zip, such as a program that unpacks it.
    begin, shift = end - length, end - length - at
    if not length and end:
        raise ValueError(f"its end says that it holds nothing, after {end:,} bytes")
    if begin < 0 or shift < 0:
        raise ValueError("its list of members begins before the file: bytes in its middle are missing")
    return Located(begin, length, shift, members, whole)


def read_central(file: BinaryIO, place: Located) -> Central:
    """Read a central directory where it lies.

    Raises:
        ValueError: It is not there.
    """
    file.seek(place.at)
    records = file.read(place.length)
    if len(records) != place.length or (records and records[:4] != _MEMBER):
        raise ValueError("its list of members is not where its end says")
    return Central(records, place)


def member_table(central: Central) -> dict[str, Any]:
    """Return the members as columns, sorted by name; of 1.4 million ones they take 200 MB.

    The columns are the name, the record's place among the records and its length, where the member begins and ends in
    the file, its size unpacked, and its checksum.

    Raises:
        ValueError: There is something else among the records, or fewer or more of them than the zip says.
    """
    records, place, batches = central.records, 0, []
    while place < len(records):
        rows = []
        while place < len(records) and len(rows) < _CHUNK:
            if len(records) - place < _RECORD.size:
                raise ValueError(f"it is cut short at its byte {place:,}")
            magic, flags, crc, packed, size, name_bytes, extra_bytes, comment_bytes, at = _RECORD.unpack_from(
                records, place
            )
            if magic != _MEMBER:
                raise ValueError(f"at its byte {place:,} there is no member")
            first = place + _RECORD.size
            name = _text(records[first : first + name_bytes], flags)
            if _FULL in (packed, size, at):
                extra = records[first + name_bytes : first + name_bytes + extra_bytes]
                size, at = _zip64(extra, packed, size, at)
            if max(size, at + central.place.shift) >= 1 << 63:
                raise ValueError(f"the size or place of {name!r} is no number of bytes")
            length = _RECORD.size + name_bytes + extra_bytes + comment_bytes
            rows.append((name, place, length, at + central.place.shift, size, crc))
            place += length
        batches.append(
            pa.record_batch(
                [pa.array(column, kind) for column, kind in zip(zip(*rows), _COLUMNS.types)], schema=_COLUMNS
            )
        )
    if place != len(records):
        raise ValueError("it is cut short in its last member")
    table = pa.Table.from_batches(batches, _COLUMNS).combine_chunks()
    _check_count(table.num_rows, central.place)
    # A member ends where the next one begins, or the directory: what stands before its data has no length of its own.
    at = table["at"].to_numpy()
    begins = np.append(np.unique(at), central.place.at)
    end = begins[np.searchsorted(begins[:-1], at, side="right")]
    table = table.append_column("end", pa.array(np.maximum(at, np.minimum(end, central.place.at))))
    table = table.sort_by([("name", "ascending"), ("record", "ascending")]).combine_chunks()
    return {name: table[name].combine_chunks() for name in table.column_names}


def _text(name: bytes, flags: int) -> str:
    """A member's name: UTF-8 where the flag says so, and where it is though the flag does not, as macOS writes it."""
    try:
        return name.decode()
    except UnicodeDecodeError:
        if flags & _UTF8:
            raise
        return name.decode("cp437")


def _check_count(found: int, place: Located) -> None:
    # Some writers of more than 65,535 members without zip64 let the number run over.
    if found != place.members if place.whole else (found - place.members) % 0x10000:
        raise ValueError(f"it names {found:,} members, and the zip's end says {place.members:,}")


def _zip64(extra: bytes, packed: int, size: int, at: int) -> tuple[int, int]:
    """Size and place of a member that are too great for 32 bits: APPNOTE.TXT 4.5.3."""
    place = 0
    while place + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, place)
        if kind == 1:
            values = iter(struct.unpack_from(f"<{length // 8}Q", extra, place + 4))
            size, packed, at = (next(values, value) if value == _FULL else value for value in (size, packed, at))
            break
        place += 4 + length
    return size, at


class OneMember(io.RawIOBase):
    """A zip up to its central directory, without what stands before it, followed by a directory that names one member.

    Args:
        file: The zip.
        place: Of its own central directory.
        record: The member's, from there.
    """

    def __init__(self, file: BinaryIO, place: Located, record: bytes) -> None:
        super().__init__()
        self._file, self._before, self._position = file, place.shift, 0
        self._border = place.at - place.shift
        end64 = struct.pack("<4sQ2H2L4Q", _END64, 44, 45, 45, 0, 0, 1, 1, len(record), self._border)
        locator = struct.pack("<4sLQL", _LOCATOR, 0, self._border + len(record), 1)
        end = struct.pack("<4s4H2LH", _END, 0, 0, 0xFFFF, 0xFFFF, _FULL, _FULL, 0)
        self._tail = record + end64 + locator + end

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        size = self._border + len(self._tail)
        self._position = max(0, offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: size}[whence])
        return self._position

    def read(self, size: int = -1) -> bytes:
        if self._position >= self._border:
            start = self._position - self._border
            data = self._tail[start:] if size is None or size < 0 else self._tail[start : start + size]
        else:
            left = self._border - self._position
            self._file.seek(self._before + self._position)
            data = self._file.read(left if size is None or size < 0 else min(size, left))
        self._position += len(data)
        return data
