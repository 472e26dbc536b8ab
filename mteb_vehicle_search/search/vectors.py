"""What an encoder returned, checked, and stored chunk by chunk, so that an interrupted run goes on where it stopped.

A vector that cannot be searched is refused, and its id named.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mteb_vehicle_search.errors import EncodeError
from mteb_vehicle_search.files import new_file, write_whole


def compares_by_cosine(model: Any) -> bool:
    """Say whether vectors are normalised (cosine) or taken as they are (dot product).

    Raises:
        EncodeError: The model wants another similarity.
    """
    wanted = getattr(model.mteb_model_meta, "similarity_fn_name", None)
    name = str(getattr(wanted, "value", wanted or "cosine")).lower()
    if name not in ("cosine", "dot"):
        raise EncodeError(
            f"{model.mteb_model_meta.name} compares vectors by {name!r}; exact search offers cosine and dot product."
        )
    return name == "cosine"


def checked(
    vectors: Any, ids: list[str], kind: str, model: str, dimension: int | None, *, normalise: bool
) -> np.ndarray:
    """Return float32 [n, d] on the CPU; refuse what cannot be searched.

    Args:
        vectors: What the model returned for `ids`: a tensor or an array.
        ids: Of the inputs, in order.
        kind: "image" or "query", for the message, like the model's name (`model`).
        dimension: What the vectors before had; None: any.
        normalise: Whether to give them unit length.

    Raises:
        EncodeError: There are too few or too many, of another dimension, or one is zero or not finite.
    """
    if isinstance(vectors, torch.Tensor):
        array = vectors.detach().float().cpu().numpy()
    else:
        array = np.asarray(vectors, dtype=np.float32)
    if array.ndim != 2:
        raise EncodeError(f"{model} returned vectors of shape {array.shape} instead of [n, dimension].")
    if len(array) != len(ids):
        at = ids[min(len(array), len(ids) - 1)]
        raise EncodeError(
            f"{model} returned {len(array)} vectors for {len(ids)} inputs; the first {kind} without its own is {at}."
        )
    if dimension not in (None, array.shape[1]):
        raise EncodeError(
            f"{model} returned dimension {array.shape[1]} from {kind} {ids[0]} on; it was {dimension} before."
        )
    norms = np.sqrt(np.einsum("ij,ij->i", array, array, dtype=np.float64))
    for bad, what in ((~np.isfinite(norms), "NaN or infinite values"), (norms == 0, "an all-zero vector")):
        if bad.any():
            first = ids[int(bad.argmax())]
            raise EncodeError(f"{model} returned {what} for {bad.sum()} of {len(ids)} inputs, first {kind} {first}.")
    if normalise:
        array = array / norms[:, None].astype(np.float32)
    return np.ascontiguousarray(array, dtype=np.float32)


CHUNK_ROWS = 4096


class EmbeddingStore:
    """Corpus vectors of one model on one evaluation set, in files of `CHUNK_ROWS` rows that appear whole.

    `identity` says what made the vectors; a store in `folder` with another identity is deleted, never used.
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
            write_whole(path, text.encode())

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
        try:
            with new_file(self.path(chunk)) as file:
                np.save(file, vectors, allow_pickle=False)
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
        try:
            return np.load(self.path(chunk), allow_pickle=False)
        except (OSError, ValueError) as error:
            raise EncodeError(
                f"{self.path(chunk)} is damaged: {error}.", f"Delete the folder {self.folder} and run again."
            ) from error

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
