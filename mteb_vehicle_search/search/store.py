"""Vectors on disk, chunk by chunk, so that an interrupted run goes on where it stopped."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mteb_vehicle_search.errors import EncodeError

if TYPE_CHECKING:
    import numpy as np

CHUNK_ROWS = 4096


class EmbeddingStore:
    """Corpus vectors of one model on one evaluation set, in files of `CHUNK_ROWS` rows.

    A chunk's file appears whole (written beside, flushed, renamed). `identity` says what made the vectors; a store
    with another identity is deleted, never used.

    Attributes:
        folder: Where the chunks lie.
        rows: Number of corpus images.
    """

    def __init__(self, folder: Path, rows: int, identity: dict[str, Any]) -> None:
        self.folder = folder
        self.rows = rows
        path = folder / "identity.json"
        text = json.dumps(identity, sort_keys=True, indent=2)
        if folder.exists() and (not path.is_file() or path.read_text(encoding="utf-8") != text):
            shutil.rmtree(folder)
        if not folder.exists():
            folder.mkdir(parents=True)
            _write(path, lambda file: file.write(text.encode()))

    def ranges(self) -> list[range]:
        """Return the row numbers of each chunk."""
        return [range(a, min(a + CHUNK_ROWS, self.rows)) for a in range(0, self.rows, CHUNK_ROWS)]

    def path(self, chunk: int) -> Path:
        """Return the file of a chunk."""
        return self.folder / f"chunk-{chunk:06d}.npy"

    def has(self, chunk: int) -> bool:
        """Say whether a chunk is there."""
        return self.path(chunk).is_file()

    def write(self, chunk: int, vectors: np.ndarray) -> None:
        """Store the vectors (float32, [rows of the chunk, dimension]) of a chunk.

        Raises:
            EncodeError: The disk is full or not writable; what was stored stays.
        """
        import numpy as np

        try:
            _write(self.path(chunk), lambda file: np.save(file, vectors, allow_pickle=False))
        except OSError as error:
            raise EncodeError(
                f"Cannot store vectors in {self.folder}: {error}.",
                "Free some room, or set VEHICLE_SEARCH_HOME to a larger disk; the next run continues.",
            ) from error

    def read(self, chunk: int) -> np.ndarray:
        """Return the vectors of a chunk, float32 [rows, dimension].

        Raises:
            EncodeError: The file is damaged.
        """
        import numpy as np

        try:
            vectors = np.load(self.path(chunk), allow_pickle=False)
        except (OSError, ValueError) as error:
            raise EncodeError(
                f"{self.path(chunk)} is damaged: {error}.", f"Delete the folder {self.folder} and run again."
            ) from error
        return vectors

    def chunks(self) -> Iterator[tuple[range, np.ndarray]]:
        """Yield (row numbers, vectors) of all chunks in order."""
        for number, rows in enumerate(self.ranges()):
            yield rows, self.read(number)

    def clear(self) -> None:
        """Delete all chunks, keep the identity."""
        for path in self.folder.glob("chunk-*"):
            path.unlink()

    def delete(self) -> None:
        """Delete the store."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _write(path: Path, write: Any) -> None:
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
