"""The nearest images of a pool for each captioned one, by exact search of the views as they lie on the disk."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np
import torch

from mteb_vehicle_search.models.batches import bare_lanes, in_order
from mteb_vehicle_search.search.best import Best, rows_of, scores_of

# Of a product: so small that the lanes share the work, so large that the choosing is little of it.
QUERY_BLOCK, CHUNK = 256, 8_192
# More candidates than neighbours. A product's last bits depend on the place of an image in its block, so the
# neighbours are chosen among these by exact sums; float32 products do not err by so much that others could be nearer.
SPARE = 16
_CPU = torch.device("cpu")


class Nearest(NamedTuple):
    """What one miner finds; c captioned images, n of the pool.

    Attributes:
        rows: int64 [c, k], of the nearest pool images, the nearest first; -1 where there are fewer.
        same: int64 [s], images of the pool with a cosine that makes them near duplicates of a captioned one, sorted;
            they may be among the nearest.
        same_as: int64 [s], the captioned image that each is nearest to.
    """

    rows: np.ndarray
    same: np.ndarray
    same_as: np.ndarray


def nearest(
    queries: np.ndarray,
    chunks: Callable[[], Iterable[np.ndarray]],
    order: np.ndarray,
    left_out: np.ndarray,
    *,
    k: int,
    same_above: float = 0.0,
    on_progress: Callable[[int], object] = lambda images: None,
) -> Nearest:
    """Search the pool for the `k` nearest images of each captioned one, by cosine.

    Every block of a product is computed by one thread, so that the number of processors decides nothing.

    Args:
        queries: Unit vectors of the captioned images, float32 [c, d].
        chunks: Called twice; yields unit vectors of the pool, float32 [m, d], in the order of its rows.
        order: int64 [n], a permutation: of equally near images the one with the smaller number is nearer.
        left_out: bool [n], images that are no neighbours.
        same_above: Cosine from which an image is a near duplicate; 0: none is.
        on_progress: Called with the number of images just searched.
    """
    searching = _Searching(torch.from_numpy(queries), order, left_out, k + SPARE, same_above)
    begin = 0
    for vectors in _joined(chunks()):
        searching.take(begin, vectors)
        begin += len(vectors)
        on_progress(len(vectors))
    found = searching.candidates()
    rows = _settled(queries, found, _vectors_of(found, chunks()), order, k)
    same = np.flatnonzero(searching.same_as >= 0)
    return Nearest(rows, same, searching.same_as[same])


class _Searching:
    """A search of the pool, block by block of captioned images, each in a lane of its own."""

    def __init__(
        self, queries: torch.Tensor, order: np.ndarray, left_out: np.ndarray, k: int, same_above: float
    ) -> None:
        self._queries, self._same_above = queries, same_above
        self._order, self._left_out = torch.from_numpy(order), torch.from_numpy(left_out)
        self._row_of = np.argsort(order)
        self._best = Best.of(len(queries), min(k, max(1, len(order))), _CPU)
        self._lanes = bare_lanes(_CPU, 1)
        starts = range(0, len(queries), QUERY_BLOCK)
        self._blocks = [slice(start, min(start + QUERY_BLOCK, len(queries))) for start in starts]
        self.same_as = np.full(len(order), -1, dtype=np.int64)

    def take(self, begin: int, vectors: np.ndarray) -> None:
        """Search the images from row `begin` on."""
        images, here = torch.from_numpy(vectors), slice(begin, begin + len(vectors))
        left_out = self._left_out[here].nonzero().squeeze(1)

        def search(block: slice, lane: object) -> tuple[torch.Tensor, torch.Tensor] | None:
            """Return of each image the highest score in this block of captioned images, and whose it is."""
            scores = self._queries[block] @ images.T
            highest = scores.max(dim=0) if self._same_above else None
            scores[:, left_out] = -torch.inf
            self._best.take(block, scores, self._order[here])
            return highest and (highest.values, highest.indices + block.start)

        found = [one for one in in_order(self._lanes, self._blocks, search) if one]
        if found:
            value, block = torch.stack([value for value, _ in found]).max(dim=0)
            nearest_to = torch.stack([captioned for _, captioned in found]).gather(0, block[None])[0]
            self.same_as[here] = torch.where(value >= self._same_above, nearest_to, -1).numpy()

    def candidates(self) -> np.ndarray:
        """Return the rows of the best images, int64 [c, k], best first; -1 where there are none."""
        rows = rows_of(self._best.keys)
        rows[torch.isinf(scores_of(self._best.keys))] = -1
        places = rows.numpy()
        return np.where(places >= 0, self._row_of[np.maximum(places, 0)], -1) if len(self._row_of) else places


def _joined(chunks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Yield the rows of many arrays in arrays of `CHUNK` rows, wherever the borders were, and the rest."""
    held: list[np.ndarray] = []
    for vectors in chunks:
        held.append(vectors)
        if sum(map(len, held)) >= CHUNK:
            whole = np.concatenate(held)
            for begin in range(0, len(whole) - CHUNK + 1, CHUNK):
                yield whole[begin : begin + CHUNK]
            held = [whole[len(whole) // CHUNK * CHUNK :]]
    if held and (rest := np.concatenate(held)).size:
        yield rest


def _vectors_of(rows: np.ndarray, chunks: Iterable[np.ndarray]) -> dict[int, np.ndarray]:
    """Return the vectors of pool rows, by row; only these are held."""
    wanted, found, begin = np.unique(rows[rows >= 0]), dict[int, np.ndarray](), 0
    for vectors in chunks:
        first, last = np.searchsorted(wanted, [begin, begin + len(vectors)])
        found |= {int(row): vectors[row - begin].copy() for row in wanted[first:last]}
        begin += len(vectors)
    return found


def _settled(
    queries: np.ndarray, candidates: np.ndarray, vectors: dict[int, np.ndarray], order: np.ndarray, k: int
) -> np.ndarray:
    """Return the k nearest of the candidates by their float64 sums, rounded to float32; equals by `order`."""
    rows = np.full((len(candidates), min(k, candidates.shape[1])), -1, dtype=np.int64)
    for number, (query, of_query) in enumerate(zip(queries.astype(np.float64), candidates)):
        known = of_query[of_query >= 0]
        if not len(known):
            continue
        images = np.stack([vectors[int(row)] for row in known]).astype(np.float64)
        scores = (images * query).sum(axis=1).astype(np.float32)
        best = known[np.lexsort((order[known], -scores))][: rows.shape[1]]
        rows[number, : len(best)] = best
    return rows
