"""Chunks of a corpus cut into the units that many workers share, and what they return put together again."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

# A device has them for a second or so: all are busy to the end.
PIECE_ROWS = 1024

Result = TypeVar("Result")
# Number of the chunk, and some of its rows.
Piece = tuple[int, range]


def cut(chunks: Sequence[range], batch_size: int) -> list[Piece]:
    """Return the pieces of chunks, about `PIECE_ROWS` long, whose batches are those of the chunks."""
    size = batch_size * max(1, PIECE_ROWS // batch_size)
    return [
        (number, rows[start : start + size])
        for number, rows in enumerate(chunks)
        for start in range(0, len(rows), size)
    ]


def joined(
    pieces: Sequence[Piece], results: Iterable[tuple[int, Result]]
) -> Iterator[tuple[int, list[tuple[range, Result]]]]:
    """Yield (number of the chunk, (rows, result) of its pieces in order) for each chunk that is whole.

    Args:
        pieces: All that there are.
        results: (number of the piece, its result), in any order.
    """
    wanted, parts = Counter(number for number, _ in pieces), defaultdict[int, list[tuple[range, Result]]](list)
    for index, result in results:
        number, rows = pieces[index]
        parts[number].append((rows, result))
        if len(parts[number]) == wanted[number]:
            yield number, sorted(parts.pop(number), key=lambda part: part[0].start)
