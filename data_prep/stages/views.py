"""Views as they lie on the disk: what every miner makes of each image, by shard."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

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
        names = pq.read_schema(self.files[0]).names if self.files else []
        return [name for name in names if name not in ("id", "perceptual_hash")]

    def dimension(self, miner: str) -> int:
        """Return how long a miner's vectors are; 0 if there are no images."""
        return pq.read_schema(self.files[0]).field(miner).type.list_size if self.files else 0

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
