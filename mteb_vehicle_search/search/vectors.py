"""What an encoder returned, checked, and stored chunk by chunk, so that an interrupted run goes on where it stopped.

A vector that cannot be searched is refused, and its id named.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
import torch
from mteb.models.abs_encoder import AbsEncoder

from mteb_vehicle_search.errors import EncodeError
from mteb_vehicle_search.files import write_whole
from mteb_vehicle_search.models.handover import one_array
from mteb_vehicle_search.run_record import RunKey
from mteb_vehicle_search.search.suited import EXPECTED, foreign_similarity, similarity_stated
from mteb_vehicle_search.settings import embeddings_folder

logger = logging.getLogger(__name__)

IDENTITY, QUERIES = "identity.json", "queries.safetensors"


def compares_by_cosine(model: Any) -> bool:
    """Say whether vectors are normalised (cosine) or taken as they are (dot product).

    Raises:
        EncodeError: The model wants another similarity.
    """
    if why := foreign_similarity(model.mteb_model_meta):
        raise EncodeError(f"{model.mteb_model_meta.name} {why}.")
    return similarity_stated(model.mteb_model_meta) == "cosine"


def similarity_of(model: Any) -> Callable[..., Any] | None:
    """Return the model's own `similarity`; None if it is that of mteb, which does what the model's metadata states."""
    own = getattr(model, "similarity", None)
    stated = getattr(model.mteb_model_meta, "similarity_fn_name", None) or not hasattr(model, "model")
    of_mteb = getattr(type(model), "similarity", None) is AbsEncoder.similarity and stated
    return own if callable(own) and not of_mteb else None


def require_same_order(
    own: Callable[..., Any], queries: np.ndarray, images: np.ndarray, model: str, *, cosine: bool
) -> None:
    """Refuse a similarity that orders images otherwise than cosine, or the dot product, does.

    Args:
        own: The model's: tensors of queries [q, d] and images [n, d] -> scores [q, n].
        queries: Some vectors as the model gave them, float32 [q, d], like the `images` [n, d].
        model: Its name, for the message.
        cosine: Whether images are ordered by cosine.

    Raises:
        EncodeError: It does; says what to declare.
    """
    scores = _dense(own(torch.from_numpy(queries), torch.from_numpy(images)), ["of the sample"], "similarity", model)
    lengths = np.linalg.norm(images.astype(np.float64), axis=1) if cosine else np.ones(len(images))
    ours = queries.astype(np.float64) @ (images / lengths[:, None]).T
    for mine, its in zip(ours, scores, strict=True):
        # As it orders them, equals as we do: no image may then be better than one before it.
        ordered = mine[np.lexsort((-mine, -its))]
        behind = np.maximum.accumulate(ordered[::-1])[::-1] - ordered
        if behind.max() > 1e-3 * np.ptp(ours):
            kind, other = ("cosine", "dot product") if cosine else ("dot product", "cosine")
            raise EncodeError(
                f"{model} has a similarity() of its own, which orders images otherwise than the {kind} that is "
                "searched by.",
                f"State in its ModelMeta what is meant (similarity_fn_name: here {kind}; {other} is offered as well), "
                "or return vectors that are compared so.",
            )


def checked(
    vectors: Any, ids: list[str], kind: str, model: str, dimension: int | None, *, normalise: bool, encoder: str
) -> np.ndarray:
    """Return float32 [n, d] on the CPU; refuse what cannot be searched.

    Args:
        vectors: What the model returned for `ids`: a tensor (dense or sparse), an array, or a list of such.
        ids: Of the inputs, in order.
        kind: "image" or "query", for the message, like the model's name (`model`).
        dimension: What the vectors before had; None: any.
        normalise: Whether to give them unit length.
        encoder: The class of the model, for the hint.

    Raises:
        EncodeError: They are no vectors of numbers, too few or too many, of another dimension, or one is zero or not
            finite.
    """
    hint = f"{encoder}.encode is to be mended: {EXPECTED}"
    array = _dense(vectors, ids, kind, model, hint)
    if array.ndim != 2:
        where = f"for {kind} {ids[0]} and those after it"
        raise EncodeError(f"{model} returned vectors of shape {array.shape} {where}, instead of [n, dimension].", hint)
    if len(array) != len(ids):
        at = ids[min(len(array), len(ids) - 1)]
        raise EncodeError(
            f"{model} returned {len(array)} vectors for {len(ids)} inputs; the first {kind} without its own is {at}."
        )
    if dimension not in (None, array.shape[1]):
        raise EncodeError(
            f"{model} returned dimension {array.shape[1]} from {kind} {ids[0]} on; it was {dimension} before."
        )
    # In float64, so that no finite float32 vector has an infinite length.
    norms = np.sqrt(np.einsum("ij,ij->i", array, array, dtype=np.float64))
    for bad, what in ((~np.isfinite(norms), "NaN or infinite values"), (norms == 0, "an all-zero vector")):
        if bad.any():
            first = ids[int(bad.argmax())]
            raise EncodeError(f"{model} returned {what} for {bad.sum()} of {len(ids)} inputs, first {kind} {first}.")
    if normalise:
        array = array / (norms[:, None] if norms.max() > LONGEST else norms[:, None].astype(np.float32))
    return np.ascontiguousarray(array, dtype=np.float32)


def checked_of(
    model: Any, vectors: Any, ids: list[str], kind: str, dimension: int | None = None, *, normalise: bool
) -> np.ndarray:
    """Return what `checked` does of an encoder's vectors; errors name the encoder and its class."""
    name, encoder = model.mteb_model_meta.name, type(model).__name__
    return checked(vectors, ids, kind, name, dimension, normalise=normalise, encoder=encoder)


# Of float32: what is longer than this is divided by its length in float64.
LONGEST = float(np.finfo(np.float32).max)


def _dense(vectors: Any, ids: list[str], kind: str, model: str, hint: str | None = None) -> np.ndarray:
    """Return float32 of any shape; refuse what is no array of numbers."""
    try:
        return one_array(vectors)
    except (TypeError, ValueError, RuntimeError) as error:
        found = type(vectors).__name__
        raise EncodeError(
            f"{model} returned a {found} that is no array of numbers, for {kind} {ids[0]} and those after it: {error}.",
            hint,
        ) from error


CHUNK_ROWS = 4096


def store_folder(key: RunKey) -> Path:
    """Return the folder of a run's vectors."""
    return embeddings_folder() / key.content_id[:16] / key.folder_name


class EmbeddingStore:
    """Vectors of one model on one evaluation set: the corpus in files of `CHUNK_ROWS` rows, and the queries in one.

    Each appears whole and proves itself when it is read: its digest, its rows, and the store's `identity`, which says
    what made the vectors. A store in `folder` with another identity is deleted, never used.

    Raises:
        EncodeError: The folder holds other things.
    """

    def __init__(self, folder: Path, rows: int, identity: dict[str, Any]) -> None:
        self.folder = folder
        self.rows = rows
        text = json.dumps(identity, sort_keys=True, indent=2)
        self._identity = hashlib.sha256(text.encode()).hexdigest()
        path = folder / IDENTITY
        if folder.exists() and not path.is_file() and any(folder.iterdir()):
            raise EncodeError(f"{folder} is no store of vectors; it is left alone.", "Move it elsewhere.")
        if path.is_file() and path.read_text(encoding="utf-8") != text:
            self.delete()
        if not path.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            write_whole(path, text.encode())

    def ranges(self) -> list[range]:
        """Return the row numbers of each chunk."""
        return [range(a, min(a + CHUNK_ROWS, self.rows)) for a in range(0, self.rows, CHUNK_ROWS)]

    def path(self, chunk: int) -> Path:
        """Return the file of a chunk."""
        return self.folder / f"chunk-{chunk:06d}.safetensors"

    def has(self, chunk: int) -> bool:
        """Say whether a chunk is there and proves itself; one that does not is named in the log."""
        try:
            return self.path(chunk).is_file() and self.read(chunk) is not None
        except EncodeError as error:
            logger.warning("%s It is encoded again.", error.message)
            return False

    def write(self, chunk: int, vectors: np.ndarray) -> None:
        """Store the vectors (float32, [rows of the chunk, dimension]) of a chunk.

        Raises:
            EncodeError: The disk is full or not writable; what was stored stays.
        """
        self._write(self.path(chunk), self.ranges()[chunk], vectors)

    def read(self, chunk: int) -> np.ndarray:
        """Return the vectors of a chunk, float32 [rows, dimension].

        Raises:
            EncodeError: The file is damaged, or is not of these rows or not of this store.
        """
        return self._read(self.path(chunk), self.ranges()[chunk])[0]

    def chunks(self) -> Iterator[tuple[range, np.ndarray]]:
        """Yield (row numbers, vectors) of all chunks in order."""
        for number, rows in enumerate(self.ranges()):
            yield rows, self.read(number)

    def write_queries(self, vectors: np.ndarray, told: Mapping[str, int]) -> None:
        """Store the vectors of all queries, float32 [queries, dimension], and what the encoder told of their texts.

        Raises an EncodeError as `write` does.
        """
        self._write(self.folder / QUERIES, range(len(vectors)), vectors, json.dumps(told))

    def queries(self, count: int) -> tuple[np.ndarray, dict[str, int]] | None:
        """Return what `write_queries` stored of all `count` queries; None if there are none to trust."""
        path = self.folder / QUERIES
        try:
            if not path.is_file():
                return None
            vectors, told = self._read(path, range(count))
            return vectors, json.loads(told or "{}")
        except EncodeError as error:
            logger.warning("%s The queries are encoded again.", error.message)
            return None

    def _write(self, path: Path, rows: range, vectors: np.ndarray, told: str = "") -> None:
        vectors = np.ascontiguousarray(vectors, dtype=np.float32)
        content = safetensors.numpy.save({"vectors": vectors}, self._proof(rows, vectors, told))
        try:
            write_whole(path, content)
        except OSError as error:
            raise EncodeError(
                f"Cannot store vectors in {self.folder}: {error}.",
                "Free some room, or set VEHICLE_SEARCH_HOME to a larger disk; the next run continues.",
            ) from error

    def _read(self, path: Path, rows: range) -> tuple[np.ndarray, str]:
        """Return the vectors of a file, and what is told beside them."""
        try:
            with safetensors.safe_open(path, "numpy") as file:
                # Earlier versions told nothing.
                proof, vectors = {"told": "", **(file.metadata() or {})}, file.get_tensor("vectors")
            if proof != self._proof(rows, vectors, proof["told"]) or vectors.ndim != 2 or len(vectors) != len(rows):
                raise ValueError("it is not of these images and this model")
        except (OSError, ValueError, KeyError, safetensors.SafetensorError) as error:
            hint = f"Delete the folder {self.folder} and run again."
            raise EncodeError(f"{path} is damaged: {error}.", hint) from error
        return vectors, proof["told"]

    def _proof(self, rows: range, vectors: np.ndarray, told: str) -> dict[str, str]:
        """Return what a file says of its vectors: what made them, their rows, what is told, and the digest of both."""
        digest = hashlib.sha256(np.ascontiguousarray(vectors).data)
        digest.update(told.encode())
        kind = f"{vectors.dtype} {list(vectors.shape)}"
        return {
            "identity": self._identity,
            "rows": f"{rows.start} to {rows.stop}",
            "kind": kind,
            "told": told,
            "sha256": digest.hexdigest(),
        }

    def clear(self) -> None:
        """Delete all vectors, keep the identity."""
        for path in self.folder.iterdir():
            if path.name != IDENTITY:
                path.unlink()

    def delete(self) -> None:
        """Delete the store."""
        delete_store(self.folder)


def delete_store(folder: Path) -> None:
    """Delete a store of vectors, and nothing that is none."""
    if (folder / IDENTITY).is_file():
        shutil.rmtree(folder, ignore_errors=True)
