"""A file of which only what is needed travels: known stretches ahead of their use, others when they are asked for."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from data_prep.storage import Stretch

PIECE = 4 << 20  # Bytes of one request: at 1 Gbit/s it takes as long as an answer is often on its way.
AHEAD = 6  # Pieces that travel at once or wait to be read: 24 MiB.
BEHIND = 2  # Pieces that are kept when they were read: archives are read in small steps back, too.
GAP = 16 << 10  # Two stretches with no more between them are one request.
LOOK = 4 << 10  # The least that is asked for outside of the stretches, such as the header of a member.


def pieces_of(stretches: Sequence[Stretch], size_bytes: int) -> list[Stretch]:
    """Cut stretches into pieces of up to `PIECE` bytes, in their order; neighbours become one piece."""
    joined: list[Stretch] = []
    for start, end in stretches:
        end = min(end, size_bytes)
        if start >= end:
            continue
        if joined and joined[-1][0] <= start <= joined[-1][1] + GAP:
            joined[-1] = joined[-1][0], max(end, joined[-1][1])
        else:
            joined.append((start, end))
    return [(at, min(at + PIECE, end)) for start, end in joined for at in range(start, end, PIECE)]


class StretchedFile(io.RawIOBase):
    """A file that is read anywhere by requests for stretches of it.

    Args:
        fetch: Returns the bytes of a stretch; called from several threads.
        size_bytes: Of the whole file.
        stretches: What will be read, in that order; several pieces of it travel at once, ahead of being read.
        at_end: Called once, when the last of the stretches is read and all have come.
        at_close: Called when nothing more is wanted, before what is on its way is waited for.
    """

    def __init__(
        self,
        fetch: Callable[[int, int], bytes],
        size_bytes: int,
        stretches: Sequence[Stretch] = (),
        at_end: Callable[[], None] = lambda: None,
        at_close: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__()
        self._fetch, self._size, self._at_end, self._at_close = fetch, size_bytes, at_end, at_close
        self._pieces = pieces_of(stretches, size_bytes)
        self._coming: dict[int, Future[bytes]] = {}
        self._looked: tuple[int, bytes] = (0, b"")
        self._at = self._current = 0
        self._ended = False
        self._pool = ThreadPoolExecutor(AHEAD, thread_name_prefix="stretches") if self._pieces else None

    def readable(self) -> bool:
        self._check_open()
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._check_open()
        at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        if at < 0:
            raise ValueError(f"negative seek position {at}")
        self._at = at
        return at

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        found = self.read(len(view))
        view[: len(found)] = found
        return len(found)

    def read(self, size: int = -1) -> bytes:
        """Return `size` bytes (-1: all that follow), fewer only at the file's end, unlike other raw files."""
        self._check_open()
        left = max(0, self._size - self._at)
        left = left if size is None or size < 0 else min(size, left)
        parts = []
        while left:
            start, data = self._holding(self._at, left)
            parts.append(data[self._at - start :][:left])
            self._at += len(parts[-1])
            left -= len(parts[-1])
        return b"".join(parts)

    def close(self) -> None:
        self._at_close()
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
        self._coming.clear()
        super().close()

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed file")

    def _holding(self, at: int, wanted: int) -> tuple[int, bytes]:
        """Return bytes around `at`, and where they start."""
        if (number := self._piece(at)) is not None:
            return self._pieces[number][0], self._arrived(number)
        start, data = self._looked
        if not start <= at < start + len(data):
            start = at
            following = next((piece[0] for piece in self._pieces if piece[0] > at), self._size)
            end = min(at + max(wanted, LOOK), max(at + wanted, following), self._size)
            data = self._fetched(start, end)
            self._looked = start, data
        return start, data

    def _piece(self, at: int) -> int | None:
        """The number of the piece that holds a byte; None if it is in none, or in one that was given up."""
        for number in range(max(0, self._current - BEHIND), len(self._pieces)):
            if self._pieces[number][0] <= at < self._pieces[number][1]:
                return number
        return None

    def _arrived(self, number: int) -> bytes:
        self._current = number
        # What was skipped, and what a reader who goes back and back has left above.
        for far in [one for one in self._coming if not number - BEHIND <= one < number + AHEAD + BEHIND]:
            self._coming.pop(far).cancel()
        for one in range(number, min(number + AHEAD, len(self._pieces))):
            if one not in self._coming and self._pool is not None:
                self._coming[one] = self._pool.submit(self._fetched, *self._pieces[one])
        data = self._coming[number].result()
        if number == len(self._pieces) - 1 and not self._ended:
            self._at_end()
            self._ended = True
        return data

    def _fetched(self, start: int, end: int) -> bytes:
        data = self._fetch(start, end)
        if len(data) != end - start:
            raise OSError(f"{len(data):,} bytes came instead of {end - start:,}")
        return data
