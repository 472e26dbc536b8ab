"""Views as they lie on the disk: what every miner makes of each image, by shard."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mteb_vehicle_search.errors import BuildError

ROW_GROUP = 1_024  # Rows that are read at a time.


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
        return [
            identifier for file in self.files for identifier in pq.read_table(file, columns=["id"])["id"].to_pylist()
        ]

    def hashes(self) -> np.ndarray:
        """Return the perceptual hashes of the images as they are reduced for the set, uint64 [n]."""
        read = (pq.read_table(file, columns=["perceptual_hash"])["perceptual_hash"].to_pylist() for file in self.files)
        return np.array([int(text, 16) for column in read for text in column], dtype=np.uint64)

    def miners(self) -> list[str]:
        """Return the names of the miners that embedded the images."""
        names = max((pq.read_schema(file).names for file in self.files), key=len, default=[])
        return [name for name in names if name not in ("id", "perceptual_hash")]

    def dimension(self, miner: str) -> int:
        """Return how long a miner's vectors are; 0 if there are no images."""
        schemas = map(pq.read_schema, self.files)
        return next((schema.field(miner).type.list_size for schema in schemas if miner in schema.names), 0)

    def chunks(self, miner: str) -> Iterator[np.ndarray]:
        """Yield a miner's unit vectors, float32 [n, d], in the order of `ids`; n is at most `ROW_GROUP`."""
        for file in self.files:
            with pq.ParquetFile(file) as opened:
                for number in range(opened.num_row_groups):
                    yield vectors_of(opened.read_row_group(number, columns=[miner])[miner])


def vectors_of(column: pa.ChunkedArray) -> np.ndarray:
    """Return a column of vectors, float32 [n, d]."""
    whole = column.combine_chunks()
    return whole.flatten().to_numpy().reshape(len(whole), whole.type.list_size)


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
    """Write rows as they come, in row groups of `ROW_GROUP`; return how many there are.

    Raises:
        BuildError: A vector is not finite, or has no direction; names the first image.
    """
    count, waiting, writer = 0, [], None
    for some in rows:
        waiting.append(_table(some))
        count += len(some.ids)
        writer = writer or _writer(file, waiting[0].schema)
        if sum(table.num_rows for table in waiting) >= ROW_GROUP:
            whole = pa.concat_tables(waiting)
            full = whole.num_rows // ROW_GROUP * ROW_GROUP
            writer.write_table(whole.slice(0, full), row_group_size=ROW_GROUP)
            waiting = [whole.slice(full)]
    # Of a shard without images only the columns that every one has are known.
    with writer or _writer(file, pa.schema({"id": pa.string(), "perceptual_hash": pa.string()})) as closing_writer:
        if waiting and (rest := pa.concat_tables(waiting)).num_rows:
            closing_writer.write_table(rest)
    return count


def _writer(file: BinaryIO, schema: pa.Schema) -> pq.ParquetWriter:
    # Vectors do not compress, and are read as often as there are miners.
    return pq.ParquetWriter(file, schema, compression="none", use_dictionary=False)


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
