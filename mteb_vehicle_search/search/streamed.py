"""Search of a corpus whose vectors are kept nowhere: workers return what they found, and that is put together.

What the driver holds and stores of it, a `Checkpoint`, has one size for any corpus.
"""

from __future__ import annotations

import hashlib
import json
import time
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mteb_vehicle_search import settings
from mteb_vehicle_search.errors import EngineError
from mteb_vehicle_search.search.at_work import ModelAtWork
from mteb_vehicle_search.search.checkpoint import Checkpoint, PartialStore
from mteb_vehicle_search.search.parts import (
    Chunk,
    PartialRanking,
    Search,
    rank_part,
    relevant_scores,
    scores_together,
    together,
)
from mteb_vehicle_search.search.ranking import Ranking, ranking_of
from mteb_vehicle_search.search.sought import Rank, Sought, Unit

# Of these, vectors of 1,024 dimensions take 8 GB.
KEPT_IMAGES = 2_000_000
# What was found in a unit is as large as the vectors of some 2,000 images: units are longer, and many all the same.
MOST_CHUNKS, LEAST_UNITS = 16, 64
CHECKPOINT_S = 10.0


def wanted(images: int) -> bool:
    """Tell whether a corpus of so many images is streamed: as `VEHICLE_SEARCH_STREAM` says, else by its size."""
    return settings.flag("VEHICLE_SEARCH_STREAM") if settings.text("VEHICLE_SEARCH_STREAM") else images > KEPT_IMAGES


def units_of(chunks: Sequence[range]) -> list[Unit]:
    """Return the units of a corpus, whoever does them: a checkpoint knows them by number."""
    size = max(1, min(MOST_CHUNKS, len(chunks) // LEAST_UNITS))
    return [tuple(chunks[at : at + size]) for at in range(0, len(chunks), size)]


def batches_with(rows: Iterable[int], chunks: Sequence[range], batch_size: int | None) -> list[range]:
    """Return the batches of the chunks, or without a size the whole chunks, in which some of the rows are.

    An image encoded in the same batch has the same vector, to the bit.
    """
    starts, found = [chunk.start for chunk in chunks], dict[int, range]()
    for row in sorted(set(rows)):
        chunk = chunks[bisect_right(starts, row) - 1]
        if row not in chunk:
            raise ValueError(f"Row {row} is in no chunk.")
        size = batch_size or len(chunk)
        start = chunk.start + (row - chunk.start) // size * size
        found[start] = range(start, min(start + size, chunk.stop))
    return [*found.values()]


class Together:
    """What units found, put together as it comes; a run that was interrupted goes on where it stopped.

    Args:
        store: Where it is kept.
        units: All of the corpus.
        begun: What was found in some of them before.
    """

    def __init__(self, store: PartialStore, units: Sequence[Unit], begun: Checkpoint) -> None:
        self._store, self._units = store, units
        self._done, self._scores, self.found = set(begun.units), begun.scores, begun.found
        self.missing = [number for number in range(len(units)) if number not in self._done]
        self._stored, self._next_s = len(self._done), time.monotonic() + CHECKPOINT_S

    def __enter__(self) -> Together:
        return self

    def __exit__(self, *error: object) -> None:
        """Store it, whatever happened."""
        if len(self._done) > self._stored:
            self._write()

    def take(self, number: int, found: PartialRanking) -> None:
        """Take in what was found in a unit.

        Raises:
            EngineError: It is of another number of images, or of another search.
            EncodeError: It cannot be stored.
        """
        searched, images = int(found.images.item()), sum(map(len, self._units[number]))
        if searched != images:
            raise EngineError(f"Unit {number} has {images:,} images, and its worker searched {searched:,}.")
        try:
            self.found = together(self.found, found)
        except ValueError as error:
            raise EngineError(f"What a worker found in unit {number} is of another search: {error}") from error
        self._done.add(number)
        if time.monotonic() >= self._next_s:
            self._write()

    def _write(self) -> None:
        self._store.write(self._done, self._scores, self.found)
        self._stored, self._next_s = len(self._done), time.monotonic() + CHECKPOINT_S


class StreamedCorpus:
    """A corpus that is searched by whoever encodes it.

    Args:
        work: The model that encodes it.
        chunks: Of the corpus.
        folder: Of what is found so far.
        identity: What decides the vectors.

    Attributes:
        encoded_images, resumed_images: How many `rank` had searched now, and an earlier run before.
    """

    def __init__(self, work: ModelAtWork, chunks: Sequence[range], folder: Path, identity: dict[str, Any]) -> None:
        self._work, self._chunks, self._folder, self._identity = work, chunks, folder, identity
        self.encoded_images = self.resumed_images = 0

    def rank(self, queries: torch.Tensor, pairs: Sequence[tuple[int, int]], k: int) -> Ranking:
        """Search all queries against all images; see `ranking.rank_exactly`.

        Raises:
            EncodeError, EngineError: As `Engine.map`, `PartialStore`, and what a worker raises of a vector.
        """
        work, units, groups = self._work, units_of(self._chunks), self._work.eval_set.groups
        search = Search(queries, pairs, sorted(set(groups)), len(groups), k)
        store = self._store(search, units)
        begun = store.read() or self._begun(search)
        with Together(store, units, begun) as together, work.bar(search.images, "encode and search images") as bar:
            missing = together.missing
            self.encoded_images = sum(sum(map(len, units[number])) for number in missing)
            self.resumed_images = search.images - self.encoded_images
            bar.update(self.resumed_images)
            sought = work.share(Sought.of(search, begun.scores))
            asked = (Rank(units[number], sought) for number in missing)
            with closing(work.results(asked, work.shown(bar))) as results:
                for index, found in results:
                    together.take(missing[index], found)
        return ranking_of(search, begun.scores, together.found, [groups[row] for _, row in pairs])

    def _store(self, search: Search, units: Sequence[Unit]) -> PartialStore:
        identity = {**self._identity, "units": [len(units), len(units[0])], **_digest(search)}
        name = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]
        return PartialStore(self._folder / f"found-{name}.safetensors", identity)

    def _begun(self, search: Search) -> Checkpoint:
        """Return the relevant images' scores, and that nothing is found yet."""
        work, scores = self._work, np.full(len(search.pairs), np.nan, dtype=np.float32)
        size = work.batch_size if work.streams else None
        batches = batches_with({row for _, row in search.pairs}, self._chunks, size)
        with (
            work.bar(sum(map(len, batches)), "encode relevant images") as bar,
            closing(work.results(batches, work.shown(bar))) as results,
        ):
            for index, vectors in results:
                part = [Chunk(batches[index], work.images(vectors(), batches[index]), ())]
                scores = scores_together([scores, relevant_scores(search, part)])
        return Checkpoint(frozenset(), scores, rank_part(search, scores, ()))


def _digest(search: Search) -> dict[str, Any]:
    """Return what says which search it is."""
    arrays = {"queries": search.queries.cpu().numpy(), "pairs": np.array(search.pairs, dtype=np.int64)}
    return {
        **{name: hashlib.sha256(np.ascontiguousarray(array).data).hexdigest() for name, array in arrays.items()},
        "groups": [*search.groups],
        "images": search.images,
        "k": search.k,
    }
