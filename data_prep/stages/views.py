"""Views as they lie on the disk: what every miner makes of each image, by shard.

The files are Arrow's (IPC): vectors are read where they lie, mapped into memory, in any order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import pyarrow as pa

from mteb_vehicle_search.errors import BuildError

SUFFIX = ".arrow"
ROWS = 8_192  # Of a batch of a file, but for its last one.


@dataclass(frozen=True)
class Views:
    """What the miners make of images; nothing of it is in memory.

    Attributes:
        files: One a shard or chunk: columns `id`, `perceptual_hash` (16 hex characters), and one of unit vectors for
            each miner. Their order is that of the rows.
        digest: What a later stage depends on: it changes if an image, a vector or their order does.
    """

    files: tuple[Path, ...]
    digest: str

    def ids(self) -> list[str]:
        """Return the images' ids, in the order of the rows."""
        return self._column("id")

    def hashes(self) -> np.ndarray:
        """Return the perceptual hashes of the images as they are reduced for the set, uint64 [n]."""
        return np.array([int(text, 16) for text in self._column("perceptual_hash")], dtype=np.uint64)

    def _column(self, name: str) -> list[str]:
        return [value for path in self.files for batch in _batches(path) for value in batch.column(name).to_pylist()]

    @cached_property
    def _ends(self) -> np.ndarray:
        """Where the rows of each file end, int64 [files]."""
        return np.cumsum([sum(batch.num_rows for batch in _batches(path)) for path in self.files], dtype=np.int64)

    def _schema(self) -> pa.Schema | None:
        """Return the columns of the files; None if there are no images."""
        return next((batch.schema for path in self.files for batch in _batches(path)), None)

    def miners(self) -> list[str]:
        """Return the names of the miners that embedded the images."""
        schema = self._schema()
        return [name for name in schema.names if name not in ("id", "perceptual_hash")] if schema else []

    def dimension(self, miner: str) -> int:
        """Return how long a miner's vectors are; 0 if there are no images."""
        schema = self._schema()
        return schema.field(miner).type.list_size if schema else 0

    def chunks(self, miner: str) -> Iterator[np.ndarray]:
        """Yield a miner's unit vectors, float32 [n, d], in the order of `ids`; n is at most `ROWS`."""
        return (_vectors_of(batch, miner) for path in self.files for batch in _batches(path))

    def take(self, miner: str, rows: np.ndarray) -> np.ndarray:
        """Return a miner's unit vectors of some rows (int64 [n], not negative), float32 [n, d]."""
        found = np.empty((len(rows), self.dimension(miner)), dtype=np.float32)
        of_file = np.searchsorted(self._ends, rows, "right")
        for number in np.unique(of_file).tolist():
            begin = int(self._ends[number - 1]) if number else 0
            for batch in _batches(self.files[number]):
                here = (rows >= begin) & (rows < begin + batch.num_rows)
                found[here] = _vectors_of(batch, miner)[rows[here] - begin]
                begin += batch.num_rows
        return found


def _batches(path: Path) -> Iterator[pa.RecordBatch]:
    """Yield the batches of a file that have rows, mapped into memory until nobody holds them any more."""
    reader = pa.ipc.open_file(pa.memory_map(str(path)))
    for number in range(reader.num_record_batches):
        if (batch := reader.get_batch(number)).num_rows:
            yield batch


def _vectors_of(batch: pa.RecordBatch, miner: str) -> np.ndarray:
    column = batch.column(miner)
    return column.flatten().to_numpy().reshape(len(column), column.type.list_size)


class Rows(NamedTuple):
    """What miners make of some images.

    Attributes:
        ids: Of the images.
        hashes: Their perceptual hashes, 16 hex characters.
        vectors: By miner, float32 [n, d].
    """

    ids: list[str]
    hashes: list[str]
    vectors: dict[str, np.ndarray]


def write_views(file: BinaryIO, rows: Iterable[Rows]) -> int:
    """Write rows as they come, in batches of `ROWS`; return how many there are.

    Raises:
        BuildError: A vector is not finite, or has no direction; names the first image.
    """
    count, waiting, writer = 0, [], None
    for some in rows:
        waiting.append(_table(some))
        count += len(some.ids)
        writer = writer or _writer(file, waiting[0].schema)
        if sum(table.num_rows for table in waiting) >= ROWS:
            whole = pa.concat_tables(waiting)
            full = whole.num_rows // ROWS * ROWS
            writer.write_table(_in_one_piece(whole.slice(0, full)), ROWS)
            waiting = [whole.slice(full)]
    # Of a shard without images only the columns that every one has are known.
    with writer or _writer(file, pa.schema({"id": pa.string(), "perceptual_hash": pa.string()})) as closing_writer:
        if waiting and (rest := pa.concat_tables(waiting)).num_rows:
            closing_writer.write_table(_in_one_piece(rest), ROWS)
    return count


def _writer(file: BinaryIO, schema: pa.Schema) -> pa.RecordBatchFileWriter:
    return pa.ipc.new_file(file, schema)


def _in_one_piece(table: pa.Table) -> pa.Table:
    """Return a table whose batches do not depend on the pieces that it came in."""
    return table.combine_chunks()


def _table(rows: Rows) -> pa.Table:
    columns: dict[str, Any] = {"id": pa.array(rows.ids, pa.string())}
    columns["perceptual_hash"] = pa.array(rows.hashes, pa.string())
    for name, vectors in rows.vectors.items():
        odd = np.flatnonzero(~(np.isfinite(vectors).all(axis=1) & vectors.any(axis=1)))
        if odd.size:
            raise BuildError(
                f"The miner {name} gives no vector for {odd.size} of {len(rows.ids)} images, first {rows.ids[odd[0]]}: "
                "it is not finite, or zero.",
                "Its weights may be damaged: get them again; or try --device cpu.",
            )
        flat = pa.array(np.ascontiguousarray(vectors, dtype=np.float32).ravel())
        columns[name] = pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])
    return pa.table(columns)
