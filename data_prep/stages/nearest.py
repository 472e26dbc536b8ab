"""The nearest images of a pool for each captioned one, by exact search of the views as they lie on the disk."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
import torch

from mteb_vehicle_search.models.batches import bare_lanes, in_order
from mteb_vehicle_search.search.best import Best, keys_of, rows_of, scores_of
from mteb_vehicle_search.search.parts import error_bound, pair_scores

T = TypeVar("T")

# Of a product: so small that the lanes share the work, so large that the choosing is little of it.
QUERY_BLOCK, CHUNK, PAIRS = 256, 8_192, 16_384
# Candidates beyond the neighbours, which are chosen among them by their defined scores (see `search.parts`).
SPARE = 16
_CPU = torch.device("cpu")
_NONE = torch.iinfo(torch.int64).min


class Vectors(Protocol):
    """The unit vectors of a pool, float32 [n, d] in all, by row."""

    def chunks(self) -> Iterable[np.ndarray]:
        """Yield them in order, in pieces of any size."""
        ...

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Return those of some rows (int64 [m]), float32 [m, d]."""
        ...


Highest = tuple[torch.Tensor, torch.Tensor]


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
    vectors: Vectors,
    order: np.ndarray,
    left_out: np.ndarray,
    *,
    k: int,
    same_above: float = 0.0,
    on_progress: Callable[[int], object] = lambda images: None,
) -> Nearest:
    """Search the pool for the `k` nearest images of each captioned one, by cosine.

    A block of a product is computed by one thread, and what its rounding may decide is decided by defined scores: so
    neither processors nor the pieces that the pool comes in change anything.

    Args:
        queries: Unit vectors of the captioned images, float32 [c, d].
        vectors: Those of the pool; read once, or twice where very many images are equally near.
        order: int64 [n], a permutation: of equally near images the one with the smaller number is nearer.
        left_out: bool [n], images that are no neighbours.
        same_above: Cosine from which an image is a near duplicate; 0: none is.
        on_progress: Called with the number of images just searched.
    """
    if not len(order):
        return Nearest(np.full((len(queries), k), -1), *np.empty((2, 0), dtype=np.int64))
    pool = _Pool(vectors, torch.from_numpy(order), torch.from_numpy(left_out))
    captioned = torch.from_numpy(queries)
    candidates, same_as = _search(captioned, pool, min(k + SPARE, len(order)), same_above, on_progress)
    keys = _settled(captioned, pool, rows_of(candidates), min(k, len(order)))
    # Where more images than the candidates may be among the nearest, all of those are looked at.
    slack, scores = 2 * error_bound(queries.shape[1]), scores_of(candidates)
    least = scores[:, keys.shape[1] - 1] - slack
    open_ones = torch.nonzero((scores[:, -1] >= least) & torch.isfinite(scores[:, -1])).squeeze(1)
    if len(open_ones) and candidates.shape[1] < len(order):
        keys[open_ones] = _search_again(captioned[open_ones], pool, least[open_ones], keys.shape[1])
    places = rows_of(keys).numpy()
    rows = np.full((len(queries), k), -1, dtype=np.int64)
    rows[:, : keys.shape[1]] = np.where((keys == _NONE).numpy(), -1, np.argsort(order)[np.maximum(places, 0)])
    same = np.flatnonzero(same_as >= 0)
    return Nearest(rows, same, same_as[same])


class _Pool(NamedTuple):
    """The pool: its vectors, and by row the place in the order (int64 [n]) and whether it is left out (bool [n])."""

    vectors: Vectors
    order: torch.Tensor
    left_out: torch.Tensor

    def parts(self) -> Iterator[tuple[slice, torch.Tensor]]:
        """Yield rows and vectors of `CHUNK` images, wherever the borders of the chunks are."""
        begin = 0
        for vectors in _joined(self.vectors.chunks()):
            yield slice(begin, begin + len(vectors)), torch.from_numpy(vectors)
            begin += len(vectors)


def _in_blocks(queries: torch.Tensor, compute: Callable[[slice], T]) -> list[T]:
    """Return what is computed of each block of captioned images, each in a lane of its own."""
    starts = range(0, len(queries), QUERY_BLOCK)
    blocks = [slice(start, min(start + QUERY_BLOCK, len(queries))) for start in starts]
    return [*in_order(bare_lanes(_CPU, 1), blocks, lambda block, lane: compute(block))]


def _search(
    queries: torch.Tensor, pool: _Pool, k: int, same_above: float, on_progress: Callable[[int], object]
) -> tuple[torch.Tensor, np.ndarray]:
    """Return the keys of the k best images by the scores of blocks (rows are places in the order), int64 [c, k], and
    for each image of the pool the captioned one that it is a near duplicate of, int64 [n]; -1: of none."""
    best, same_as = Best.of(len(queries), k, _CPU), np.full(len(pool.order), -1, dtype=np.int64)
    for here, images in pool.parts():
        left_out = pool.left_out[here].nonzero().squeeze(1)

        def search(block: slice, here=here, images=images, left_out=left_out) -> Highest | None:
            """Return of each image the highest score in this block, and whose it is."""
            scores = queries[block] @ images.T
            # Near duplicates are few, so that a look at the highest score of all mostly suffices.
            highest = scores.max(dim=0) if same_above and scores.max() >= same_above else None
            scores[:, left_out] = -torch.inf
            best.take(block, scores, pool.order[here])
            return highest and (highest.values, highest.indices + block.start)

        if found := [one for one in _in_blocks(queries, search) if one]:
            value, which = torch.stack([value for value, _ in found]).max(dim=0)
            nearest_to = torch.stack([captioned for _, captioned in found]).gather(0, which[None])[0]
            same_as[here] = torch.where(value >= same_above, nearest_to, -1).numpy()
        on_progress(len(images))
    return best.keys, same_as


def _settled(queries: torch.Tensor, pool: _Pool, places: torch.Tensor, k: int) -> torch.Tensor:
    """Return the keys of the k nearest of some candidates (places in the order, int64 [c, m]), by defined scores."""
    rows = torch.argsort(pool.order)[places.clamp(min=0)]
    query, column = ((places >= 0) & ~pool.left_out[rows]).nonzero(as_tuple=True)
    keys = torch.full(places.shape, _NONE)
    for at in range(0, len(query), PAIRS):
        some, place = query[at : at + PAIRS], column[at : at + PAIRS]
        images = torch.from_numpy(pool.vectors.take(rows[some, place].numpy()))
        keys[some, place] = keys_of(pair_scores(queries, some, images), places[some, place])
    return torch.topk(keys, k, dim=1).values


def _search_again(queries: torch.Tensor, pool: _Pool, least: torch.Tensor, k: int) -> torch.Tensor:
    """Return the keys of the k nearest images by defined scores, of all with at least these block scores [c]."""
    keys = torch.full((len(queries), k), _NONE)
    for here, images in pool.parts():
        order, left_out = pool.order[here], pool.left_out[here]

        def search(block: slice, images=images, order=order, left_out=left_out) -> None:
            near = queries[block] @ images.T >= least[block, None]
            near[:, left_out] = False
            query, column = near.nonzero(as_tuple=True)
            found = torch.full(near.shape, _NONE)
            found[query, column] = keys_of(pair_scores(queries[block], query, images[column]), order[column])
            both = torch.cat([keys[block], torch.topk(found, min(k, len(images)), dim=1).values], dim=1)
            keys[block] = torch.topk(both, k, dim=1).values

        _in_blocks(queries, search)
    return keys


def _joined(chunks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Yield the rows of many arrays in arrays of `CHUNK` rows, and what is left."""
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
