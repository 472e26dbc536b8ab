"""Search of a part of a corpus, and what it found put together with what others found in theirs.

A matrix product gives each score with a small rounding error that depends on the shape of the blocks. So that ranks
do not, a pair's score is *defined* as the dot product of its float32 vectors, summed in float64 in a fixed order and
rounded to float32. Only pairs whose block score comes within the error bound of the relevant image's score are computed
that way; all others are decided by the block score alone.

    scores = scores_together(relevant_scores(search, part) for part in parts)
    found = reduce(together, (rank_part(search, scores, part) for part in parts))
    ranking = ranking_of(search, scores, found, groups_of_relevant)

`together` is associative and commutative: any split of the corpus into parts, joined in any order, gives the same
bytes, as long as the chunks stay the same (the best images have their block scores).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from queue import SimpleQueue
from typing import NamedTuple

import numpy as np
import torch

from mteb_vehicle_search.models.batches import bare_lanes, in_order, threads_of_lane
from mteb_vehicle_search.search.best import MOST_ROWS, Best, count

# Enough blocks for many processors; a GPU has more to do at a time.
QUERY_BLOCK, QUERY_BLOCK_ON_GPU = 256, 1024
PAIR_BLOCK = 1 << 15


class Chunk(NamedTuple):
    """Consecutive images of a corpus: their rows, vectors (float32 [n, d]) and groups (n), which are counted apart."""

    rows: range
    vectors: np.ndarray
    groups: Sequence[str]


@dataclass(frozen=True)
class Search:
    """What is searched for in every part; q queries, p (query, relevant image) pairs, s groups of images.

    Attributes:
        queries: float32 [q, d], on the device that shall do the work.
        pairs: (query row, corpus row) of every judgement, sorted.
        groups: The distinct groups of the whole corpus, sorted (s).
        images: How many the whole corpus has.
        k: Images to return for each query; fewer if the corpus has fewer.
    """

    queries: torch.Tensor
    pairs: Sequence[tuple[int, int]]
    groups: Sequence[str]
    images: int
    k: int = 100


class PartialRanking(NamedTuple):
    """What a search found in a part of a corpus, in numpy arrays.

    Attributes:
        best: int64 [q, min(k, images of the corpus)], keys of the best images (see `search.best`), falling.
        above: int64 [p, s], images of each group with at least the relevant image's score, without itself.
        tied: int64 [p], those of them with exactly its score.
        images: int64 [1], how many were searched.
    """

    best: np.ndarray
    above: np.ndarray
    tied: np.ndarray
    images: np.ndarray


def error_bound(dimension: int) -> float:
    """Return how far a float32 dot product of unit vectors may lie from the exact one.

    The probabilistic bound of Higham and Mary ("A new approach to probabilistic rounding error analysis", SIAM J. Sci.
    Comput. 41, 2019): lambda * sqrt(n) * u with unit roundoff u = 2^-24; lambda = 8 leaves a failure probability
    under 2 n exp(-lambda^2 / 2), about 1e-10 for n = 1,024.
    """
    return 8.0 * math.sqrt(dimension) * 2.0**-24


def relevant_scores(search: Search, part: Iterable[Chunk]) -> np.ndarray:
    """Return each relevant image's defined score, float32 [p]; NaN if it is not in this part."""
    query, row = (np.array([pair[side] for pair in search.pairs], dtype=np.int64) for side in (0, 1))
    scores, device = np.full(len(row), np.nan, dtype=np.float32), search.queries.device
    for chunk in part:
        here = np.nonzero((row >= chunk.rows.start) & (row < chunk.rows.stop))[0]
        images = torch.from_numpy(chunk.vectors[row[here] - chunk.rows.start]).to(device)
        of_query = torch.from_numpy(query[here]).to(device)
        scores[here] = pair_scores(search.queries, of_query, images).cpu().numpy()
    return scores


def scores_together(parts: Iterable[np.ndarray]) -> np.ndarray:
    """Return the scores, float32 [p], that `relevant_scores` found in at least one part, in any order."""
    return reduce(np.fmax, parts)


def rank_part(
    search: Search,
    scores: np.ndarray,
    part: Iterable[Chunk],
    on_progress: Callable[[int], object] = lambda images: None,
) -> PartialRanking:
    """Search all queries against the images of a part.

    Args:
        search: What is searched for.
        scores: Each relevant image's defined score, wherever it is, float32 [p].
        part: Chunks in the order of the corpus; none is possible.
        on_progress: Called with the number of images just searched.

    Raises:
        ValueError: A relevant image's score is missing, the chunks are out of order, or a row is beyond `MOST_ROWS`.
    """
    if len(scores) != len(search.pairs) or np.isnan(scores).any():
        raise ValueError("Relevant images have no score; are their rows in the corpus?")
    searching, images, end = _Searching(search, scores), 0, 0
    for rows, vectors, groups in part:
        if not end <= rows.start <= rows.stop <= MOST_ROWS:
            raise ValueError(f"Rows {rows.start} to {rows.stop} come after row {end}, or are more than {MOST_ROWS}.")
        searching.take(rows, vectors, groups)
        images, end = images + len(rows), rows.stop
        on_progress(len(rows))
    return searching.found(images)


def together(one: PartialRanking, other: PartialRanking) -> PartialRanking:
    """Return what a search found in two parts without a common image; associative and commutative.

    Raises:
        ValueError: They are not of the same search.
    """
    if [array.shape for array in one] != [array.shape for array in other]:
        raise ValueError("The two rankings differ in their queries, judgements, groups or k.")
    best = -np.sort(-np.concatenate([one.best, other.best], axis=1), axis=1)[:, : one.best.shape[1]]
    return PartialRanking(best, one.above + other.above, one.tied + other.tied, one.images + other.images)


class _OnDevice(NamedTuple):
    """A chunk, and how its images are counted by group.

    `order` puts images of one group together, as counting many short stretches takes long (None: they are together);
    then the stretches are (group number, begin, end).
    """

    rows: torch.Tensor  # int64 [n]
    images: torch.Tensor  # float32 [n, d], the vectors
    group: torch.Tensor  # int64 [n], the number of each image's group
    order: torch.Tensor | None  # int64 [n]
    stretches: list[tuple[int, int, int]]

    @classmethod
    def of(cls, chunk: Chunk, names: Sequence[str], device: torch.device) -> _OnDevice:
        """Return a chunk on a device; `names` are all groups, sorted."""
        number_of = {name: number for number, name in enumerate(names)}
        group = np.array([number_of[name] for name in chunk.groups], dtype=np.int64)
        order = np.argsort(group, kind="stable") if (group[1:] < group[:-1]).any() else None
        found, begins = np.unique(group if order is None else group[order], return_index=True)
        stretches = list(zip(found.tolist(), begins.tolist(), [*begins[1:].tolist(), len(group)]))
        rows = torch.arange(chunk.rows.start, chunk.rows.stop, device=device)
        images, groups = (torch.from_numpy(array).to(device) for array in (chunk.vectors, group))
        return cls(rows, images, groups, None if order is None else torch.from_numpy(order).to(device), stretches)


class _Judged(NamedTuple):
    """The p judged pairs, and the images above each that were counted so far."""

    queries: torch.Tensor  # float32 [q, d], the vectors
    query: torch.Tensor  # int64 [p], row of the query
    row: torch.Tensor  # int64 [p], row of the relevant image
    score: torch.Tensor  # float32 [p], its defined score
    above: torch.Tensor  # int64 [p, s], images of each group above it
    tied: torch.Tensor  # int64 [p], other images with exactly its score

    @classmethod
    def of(cls, search: Search, score: torch.Tensor) -> _Judged:
        """Return the pairs with nothing counted yet."""
        device, pairs = search.queries.device, search.pairs
        query, row = (torch.tensor([pair[side] for pair in pairs], device=device) for side in (0, 1))
        above = torch.zeros((len(pairs), len(search.groups)), dtype=torch.int64, device=device)
        tied = torch.zeros(len(pairs), dtype=torch.int64, device=device)
        return cls(search.queries, query, row, score, above, tied)

    def count(self, some: slice, scores: torch.Tensor, slack: torch.Tensor, chunk: _OnDevice) -> None:
        """Count the images of a chunk that are above n pairs: float32 block scores [n, images], off by `slack` [n]."""
        low, high = self.score[some] - slack, self.score[some] + slack
        over = scores > high[:, None]
        together = over if chunk.order is None else over[:, chunk.order]
        for group, begin, end in chunk.stretches:
            self.above[some, group] += count(together[:, begin:end])
        self._settle(some, (scores >= low[:, None]) ^ over, chunk)

    def _settle(self, some: slice, near: torch.Tensor, chunk: _OnDevice) -> None:
        """Decide the pairs whose block score lies within the error bound, by their defined score."""
        where, column = near.nonzero(as_tuple=True)
        if not len(where):
            return
        where = where + some.start
        other = chunk.rows[column] != self.row[where]
        where, column = where[other], column[other]
        for at in range(0, len(where), PAIR_BLOCK):
            pair, image = where[at : at + PAIR_BLOCK], column[at : at + PAIR_BLOCK]
            score = pair_scores(self.queries, self.query[pair], chunk.images[image])
            beats, equal = score >= self.score[pair], score == self.score[pair]
            ones = torch.ones_like(pair)
            self.above.index_put_((pair[beats], chunk.group[image[beats]]), ones[beats], accumulate=True)
            self.tied.index_put_((pair[equal],), ones[equal], accumulate=True)


class _Searching:
    """A search of some chunks, block by block of queries: each in a lane of its own, with memory for its scores."""

    def __init__(self, search: Search, scores: np.ndarray) -> None:
        self._queries, self._groups = search.queries, search.groups
        device, count = search.queries.device, len(search.queries)
        self._best = Best.of(count, min(search.k, search.images), device)
        self._judged = _Judged.of(search, torch.from_numpy(scores).to(device))
        # Norms bound the products' error; for cosine similarity they are 1.
        self._slack = error_bound(search.queries.shape[1]) * torch.linalg.vector_norm(search.queries, dim=1)
        of_pairs = [query for query, _ in search.pairs]
        self._one_each = of_pairs == list(range(count))
        self._first_pair = np.searchsorted(of_pairs, range(count + 1))
        size = QUERY_BLOCK if device.type == "cpu" else QUERY_BLOCK_ON_GPU
        self._blocks = [slice(start, min(start + size, count)) for start in range(0, count, size)]
        self._lanes = bare_lanes(device, threads_of_lane())
        self._memory: SimpleQueue[torch.Tensor] = SimpleQueue()
        for _ in self._lanes:
            self._memory.put(torch.empty(0, device=device))

    def take(self, rows: range, vectors: np.ndarray, groups: Sequence[str]) -> None:
        """Search a chunk."""
        here = _OnDevice.of(Chunk(rows, vectors, groups), self._groups, self._queries.device)
        longest = float(torch.linalg.vector_norm(here.images, dim=1).max())
        for _ in in_order(self._lanes, self._blocks, lambda block, lane: self._search(block, here, longest)):
            pass

    def _search(self, block: slice, here: _OnDevice, longest: float) -> None:
        scores = _product(self._queries[block], here.images, self._memory.get())
        self._best.take(block, scores, here.rows)
        some = slice(int(self._first_pair[block.start]), int(self._first_pair[block.stop]))
        if some.start < some.stop:
            query = self._judged.query[some]
            self._judged.count(
                some, scores if self._one_each else scores[query - block.start], longest * self._slack[query], here
            )
        self._memory.put(scores)

    def found(self, images: int) -> PartialRanking:
        """Return what was found in so many images."""
        best, above, tied = (one.cpu().numpy() for one in (self._best.keys, self._judged.above, self._judged.tied))
        return PartialRanking(best, above, tied, np.array([images], dtype=np.int64))


def _product(queries: torch.Tensor, images: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    """Return the scores, float32 [q, rows], in the memory of the last block's if it fits."""
    if scores.shape != (len(queries), len(images)):
        return queries @ images.T
    return torch.mm(queries, images.T, out=scores)


def pair_scores(queries: torch.Tensor, query: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """Return the defined score of each pair: float64 sum of the products, rounded to float32."""
    parts = [
        _sums(queries[query[at : at + PAIR_BLOCK]].double() * images[at : at + PAIR_BLOCK].double())
        for at in range(0, len(query), PAIR_BLOCK)
    ]
    return torch.cat(parts).float() if parts else torch.empty(0, device=queries.device)


def _sums(products: torch.Tensor) -> torch.Tensor:
    """Return the sum of each row, and overwrite the rows.

    Half is added to half: that order is the same in every batch and on every device, which a library's sum is not.
    """
    while (width := products.shape[1]) > 1:
        half = (width + 1) // 2
        products[:, : width - half] += products[:, half:]
        products = products[:, :half]
    return products[:, 0]
