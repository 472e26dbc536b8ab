"""Files that are read in one direction, or in small parts alone, as tarfile wants them."""

from __future__ import annotations

import gzip
import io
import tarfile
from typing import Any

from data_prep.storage import MAX_FILE_BYTES

_BEHIND = 64 << 10
_MOST_AT_ONCE = MAX_FILE_BYTES + 1024


class Onward(io.RawIOBase):
    """What is unpacked on the fly, read onward, and a little back as tarfile does; gzip would start over for that."""

    def __init__(self, file: gzip.GzipFile) -> None:
        super().__init__()
        self._file, self._kept, self._end, self._at = file, b"", 0, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        at = offset + (self._at if whence == io.SEEK_CUR else 0)
        if whence == io.SEEK_END or at < self._end - len(self._kept):
            raise io.UnsupportedOperation("what is packed is read onward")
        self._at = at
        return at

    def read(self, size: int = -1) -> bytes:
        while self._at > self._end:
            if not self._onward(min(self._at - self._end, 1 << 20)):
                return b""
        back = self._kept[len(self._kept) - (self._end - self._at) :] if self._at < self._end else b""
        data = back if size is None or size < 0 else back[:size]
        if size is None or size < 0:
            data += self._onward(-1)
        elif len(data) < size:
            data += self._onward(size - len(data))
        self._at += len(data)
        return data

    def _onward(self, size: int) -> bytes:
        data = self._file.read(size)
        self._end += len(data)
        self._kept = (self._kept + data)[-_BEHIND:] if len(data) < _BEHIND else data[-_BEHIND:]
        return data


class InParts:
    """A file for tarfile, which reads names and PAX headers into memory whole, however long they say that they are."""

    def __init__(self, file: Any) -> None:
        self._file, self.seek, self.tell, self.seekable = file, file.seek, file.tell, file.seekable

    def read(self, size: int) -> bytes:
        if size > _MOST_AT_ONCE:
            raise tarfile.ReadError(f"a name or a header says that it has {size:,} bytes")
        return self._file.read(size)
