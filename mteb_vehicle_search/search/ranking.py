"""Exact search over vectors: the best k images of each query, and the exact rank of every relevant image.

A matrix product gives each score with a small rounding error that depends on the shape of the blocks. So that ranks
do not, a pair's score is *defined* as the dot product of its float32 vectors, summed in float64 and rounded to
float32. Only pairs whose block score comes within the error bound of the relevant image's score are computed that
way; all others are decided by the block score alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby, permutations
from typing import NamedTuple

import numpy as np
import torch

Chunks = Callable[[], Iterator[tuple[range, "np.ndarray"]]]

QUERY_BLOCK = 1024
PAIR_BLOCK = 1 << 15


class Ranking(NamedTuple):
    """What a search found; q queries, p (query, relevant image) pairs, s sources.

    Attributes:
        top: int64 [q, k], row numbers of the best images by descending score; -1 if the corpus has fewer than k.
        top_scores: float32 [q, k].
        above: int64 [p, s], images of each source that rank above the relevant image: the better ones, its equals that
            are not relevant to the query, and those of its equals that are and come before it in the corpus.
        tied: int64 [p], images with exactly the relevant image's score that are not relevant to the query.
        scores: float32 [p], the relevant image's score.
    """

    top: np.ndarray
    top_scores: np.ndarray
    above: np.ndarray
    tied: np.ndarray
    scores: np.ndarray

    @property
    def ranks(self) -> np.ndarray:
        """int64 [p], 1 = best; the relevant image ranks last among equals that are not relevant."""
        return self.above.sum(axis=1) + 1


def error_bound(dimension: int) -> float:
    """Return how far a float32 dot product of unit vectors may lie from the exact one.

    The probabilistic bound of Higham and Mary ("A new approach to probabilistic rounding error analysis", SIAM J. Sci.
    Comput. 41, 2019): lambda * sqrt(n) * u with unit roundoff u = 2^-24; lambda = 8 leaves a failure probability
    under 2 n exp(-lambda^2 / 2), about 1e-10 for n = 1,024.
    """
    return 8.0 * math.sqrt(dimension) * 2.0**-24


def rank_exactly(
    queries: torch.Tensor,
    chunks: Chunks,
    pairs: Sequence[tuple[int, int]],
    sources: Sequence[str],
    k: int = 100,
    on_progress: Callable[[int], None] | None = None,
) -> Ranking:
    """Search all queries against all images; the ranking is in numpy arrays.

    Args:
        queries: float32 [q, d], on the device that shall do the work.
        chunks: Called twice; each time yields (row numbers, float32 [rows, d]) in order over the whole corpus.
        pairs: (query row, corpus row) of every judgement, sorted.
        sources: Source of each corpus row; its sorted distinct values are the columns of `Ranking.above`.
        k: Images to return for each query.
        on_progress: Called with the number of corpus rows just searched.
    """
    device, names = queries.device, sorted(set(sources))
    relevant = torch.from_numpy(_gather(chunks, [row for _, row in pairs], queries.shape[1])).to(device)
    judged = _Judged.of(queries, pairs, relevant, len(names))
    best = _Best.of(len(queries), min(k, len(sources)), device)
    # Norms bound the products' error; for cosine similarity they are 1.
    norms = torch.linalg.vector_norm(queries, dim=1)
    of_pairs = [query for query, _ in pairs]
    one_each = of_pairs == list(range(len(queries)))
    first_pair = np.searchsorted(of_pairs, range(len(queries) + 1))
    scores = torch.empty(0, device=device)
    for rows, vectors in chunks():
        chunk = _Chunk(rows, torch.from_numpy(vectors).to(device), _runs(sources, rows, names))
        longest = float(torch.linalg.vector_norm(chunk.images, dim=1).max())
        for start in range(0, len(queries), QUERY_BLOCK):
            block = slice(start, min(start + QUERY_BLOCK, len(queries)))
            scores = _product(queries[block], chunk.images, scores)
            best.merge(block, scores, rows.start)
            some = slice(int(first_pair[block.start]), int(first_pair[block.stop]))
            if some.start < some.stop:
                of_pair = scores if one_each else scores[judged.query[some] - start]
                slack = error_bound(queries.shape[1]) * longest * norms[judged.query[some]]
                judged.count(some, of_pair, slack, chunk)
        if on_progress:
            on_progress(len(rows))
    ranking = Ranking(*(tensor.cpu().numpy() for tensor in (*best, judged.above, judged.tied, judged.score)))
    _order_relevant_equals(ranking, pairs, [names.index(sources[row]) for _, row in pairs])
    return ranking


def _order_relevant_equals(ranking: Ranking, pairs: Sequence[tuple[int, int]], source: Sequence[int]) -> None:
    """Let relevant images of one query with equal scores rank in the order of the corpus; all were counted as above."""
    by_query = groupby(range(len(pairs)), key=lambda pair: pairs[pair][0])
    for own, other in (two for _, of_query in by_query for two in permutations(list(of_query), 2)):
        if ranking.scores[own] == ranking.scores[other]:
            ranking.tied[own] -= 1
            if pairs[own][1] < pairs[other][1]:
                ranking.above[own, source[other]] -= 1


class _Chunk(NamedTuple):
    """Some consecutive rows of the corpus: their numbers, vectors float32 [n, d], and stretches of one source."""

    rows: range
    images: torch.Tensor
    runs: list[tuple[int, int, int]]


class _Best(NamedTuple):
    """The best images of each query so far: rows int64 [q, k] (-1: none) and scores float32 [q, k], best first."""

    rows: torch.Tensor
    scores: torch.Tensor

    @classmethod
    def of(cls, queries: int, k: int, device: torch.device) -> _Best:
        """Return it for no image yet."""
        return cls(
            torch.full((queries, k), -1, dtype=torch.int64, device=device),
            torch.full((queries, k), -torch.inf, device=device),
        )

    def merge(self, block: slice, scores: torch.Tensor, first_row: int) -> None:
        """Take in the scores of a block of queries with a chunk of images, float32 [block, n]."""
        # Once the best k are known, few images of a block are better, and choosing few is much faster than choosing k.
        better, k = int(_count(scores > self.scores[block, -1:]).max()), self.rows.shape[1]
        if not better:
            return
        value, index = torch.topk(scores, min(k, better), dim=1)
        both = torch.cat([self.scores[block], value], dim=1)
        rows = torch.cat([self.rows[block], index + first_row], dim=1)
        value, index = torch.topk(both, k, dim=1)
        self.scores[block] = value
        self.rows[block] = rows.gather(1, index)


class _Judged(NamedTuple):
    """The p judged pairs, and the images above each that were counted so far."""

    queries: torch.Tensor  # float32 [q, d], the vectors
    query: torch.Tensor  # int64 [p], row of the query
    row: torch.Tensor  # int64 [p], row of the relevant image
    score: torch.Tensor  # float32 [p], its defined score
    above: torch.Tensor  # int64 [p, s], images of each source above it
    tied: torch.Tensor  # int64 [p], other images with exactly its score

    @classmethod
    def of(
        cls, queries: torch.Tensor, pairs: Sequence[tuple[int, int]], relevant: torch.Tensor, sources: int
    ) -> _Judged:
        """Return the pairs with nothing counted yet; `relevant`: float32 [p, d], the relevant images."""
        device = queries.device
        query, row = (torch.tensor([pair[side] for pair in pairs], device=device) for side in (0, 1))
        above = torch.zeros((len(pairs), sources), dtype=torch.int64, device=device)
        score = _pair_scores(queries, query, relevant)
        return cls(queries, query, row, score, above, torch.zeros(len(pairs), dtype=torch.int64, device=device))

    def count(self, some: slice, scores: torch.Tensor, slack: torch.Tensor, chunk: _Chunk) -> None:
        """Count the images of a chunk that are above n pairs: float32 block scores [n, images], off by `slack` [n]."""
        low, high = self.score[some] - slack, self.score[some] + slack
        over = scores > high[:, None]
        for source, begin, end in chunk.runs:
            self.above[some, source] += _count(over[:, begin:end])
        self._settle(some, (scores >= low[:, None]) ^ over, chunk)

    def _settle(self, some: slice, near: torch.Tensor, chunk: _Chunk) -> None:
        """Decide the pairs whose block score lies within the error bound, by their defined score."""
        where, column = near.nonzero(as_tuple=True)
        if not len(where):
            return
        source_of = torch.empty(len(chunk.rows), dtype=torch.int64, device=near.device)
        for source, begin, end in chunk.runs:
            source_of[begin:end] = source
        where = where + some.start
        other = column + chunk.rows.start != self.row[where]
        where, column = where[other], column[other]
        for at in range(0, len(where), PAIR_BLOCK):
            pair, image = where[at : at + PAIR_BLOCK], column[at : at + PAIR_BLOCK]
            score = _pair_scores(self.queries, self.query[pair], chunk.images[image])
            beats, equal = score >= self.score[pair], score == self.score[pair]
            ones = torch.ones_like(pair)
            self.above.index_put_((pair[beats], source_of[image[beats]]), ones[beats], accumulate=True)
            self.tied.index_put_((pair[equal],), ones[equal], accumulate=True)


def _product(queries: torch.Tensor, images: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    """Return the scores, float32 [q, rows], in the memory of the last block's if it fits."""
    if scores.shape != (len(queries), len(images)):
        return queries @ images.T
    return torch.mm(queries, images.T, out=scores)


def _count(mask: torch.Tensor) -> torch.Tensor:
    """Return the number of true values by row, int32; as a sum of bytes much faster than a count of booleans."""
    return mask.view(torch.uint8).sum(dim=1, dtype=torch.int32)


def _pair_scores(queries: torch.Tensor, query: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """Return the defined score of each pair: float64 sum of the products, rounded to float32."""
    parts = [
        (queries[query[at : at + PAIR_BLOCK]].double() * images[at : at + PAIR_BLOCK].double()).sum(dim=1)
        for at in range(0, len(query), PAIR_BLOCK)
    ]
    return torch.cat(parts).float() if parts else torch.empty(0, device=queries.device)


def _gather(chunks: Chunks, wanted: list[int], dimension: int) -> np.ndarray:
    """Return the vectors of the wanted corpus rows, float32 [len(wanted), dimension]."""
    wanted_rows = np.asarray(wanted, dtype=np.int64)
    found = np.empty((len(wanted), dimension), dtype=np.float32)
    for rows, vectors in chunks():
        here = np.nonzero((wanted_rows >= rows.start) & (wanted_rows < rows.stop))[0]
        found[here] = vectors[wanted_rows[here] - rows.start]
    return found


def _runs(sources: Sequence[str], rows: range, names: list[str]) -> list[tuple[int, int, int]]:
    """Return (source number, begin, end) of the stretches of one source within a chunk."""
    runs, begin = [], 0
    for name, members in groupby(sources[rows.start : rows.stop]):
        end = begin + sum(1 for _ in members)
        runs.append((names.index(name), begin, end))
        begin = end
    return runs


class OrderedRun(NamedTuple):
    """The first k images of each query in the order of our ranks.

    Attributes:
        rows: int64 [q, k], corpus rows, the relevant images at their exact ranks; -1 past the end of the corpus.
        scores: float32 [q, k], strictly falling, so that every evaluator sorts as we do.
    """

    rows: np.ndarray
    scores: np.ndarray


def ordered_run(ranking: Ranking, pairs: Sequence[tuple[int, int]]) -> OrderedRun:
    """Put the relevant images at their exact ranks and make the scores strictly falling.

    An evaluator that sorts by score would break ties by id (trec_eval: by descending id), and so could place a
    relevant image before its equals. Scores are lowered by as few float32 steps as it takes to state our order.
    """
    rows, scores = ranking.top.copy(), ranking.top_scores.copy()
    k = rows.shape[1]
    by_query: dict[int, list[tuple[int, int, float]]] = {}
    for (query, row), rank, score in zip(pairs, ranking.ranks.tolist(), ranking.scores.tolist()):
        by_query.setdefault(query, []).append((rank, row, score))
    for query, relevant in by_query.items():
        ids = {row for _, row, _ in relevant}
        others = [i for i, row in enumerate(rows[query].tolist()) if row not in ids and row >= 0]
        placed_rows, placed_scores = rows[query][others].tolist(), scores[query][others].tolist()
        last = -1
        for rank, row, score in sorted(relevant):
            last = max(rank - 1, last + 1)
            if last <= len(placed_rows):
                placed_rows.insert(last, row)
                placed_scores.insert(last, score)
        n = min(k, len(placed_rows))
        rows[query, :n], scores[query, :n] = placed_rows[:n], placed_scores[:n]
        rows[query, n:], scores[query, n:] = -1, -np.inf
    for j in range(1, k):
        scores[:, j] = np.minimum(scores[:, j], np.nextafter(scores[:, j - 1], np.float32(-np.inf)))
    return OrderedRun(rows, scores)
