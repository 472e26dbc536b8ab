"""Exact search over vectors: the best k images of each query, and the exact rank of every relevant image.

A matrix product gives each score with a small rounding error that depends on the shape of the blocks. So that ranks
do not, a pair's score is *defined* as the dot product of its float32 vectors, summed in float64 and rounded to
float32. Only pairs whose block score comes within the error bound of the relevant image's score are computed that
way; all others are decided by the block score alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
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
        above: int64 [p, s], images of each source that rank above the relevant image (its equals included).
        tied: int64 [p], other images with exactly the relevant image's score.
        scores: float32 [p], the relevant image's score.
    """

    top: np.ndarray
    top_scores: np.ndarray
    above: np.ndarray
    tied: np.ndarray
    scores: np.ndarray

    @property
    def ranks(self) -> np.ndarray:
        """int64 [p], 1 = best; the relevant image ranks last among equals."""
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
    """Search all queries against all images.

    Args:
        queries: float32 [q, d], on the device that shall do the work.
        chunks: Called twice; each time yields (row numbers, float32 [rows, d]) in order over the whole corpus.
        pairs: (query row, corpus row) of every judgement, sorted.
        sources: Source of each corpus row; its sorted distinct values are the columns of `Ranking.above`.
        k: Images to return for each query.
        on_progress: Called with the number of corpus rows just searched.

    Returns:
        The ranking, in numpy arrays.
    """
    import numpy as np
    import torch

    device, dimension = queries.device, queries.shape[1]
    pair_query = torch.tensor([p[0] for p in pairs], device=device)
    pair_row = torch.tensor([p[1] for p in pairs], device=device)
    relevant = torch.from_numpy(_gather(chunks, [p[1] for p in pairs], dimension)).to(device)
    exact = _pair_scores(queries, pair_query, relevant)
    # Norms bound the products' error; for cosine similarity they are 1.
    norms = torch.linalg.vector_norm(queries, dim=1)
    names = sorted(set(sources))
    above = torch.zeros((len(pairs), len(names)), dtype=torch.int64, device=device)
    tied = torch.zeros(len(pairs), dtype=torch.int64, device=device)
    k = min(k, len(sources))
    top_scores = torch.full((len(queries), k), -torch.inf, device=device)
    top = torch.full((len(queries), k), -1, dtype=torch.int64, device=device)
    one_each = len(pairs) == len(queries) and [p[0] for p in pairs] == list(range(len(queries)))
    first_pair = np.searchsorted([p[0] for p in pairs], range(len(queries) + 1))
    scores = torch.empty(0, device=device)
    for rows, vectors in chunks():
        images = torch.from_numpy(vectors).to(device)
        longest = float(torch.linalg.vector_norm(images, dim=1).max())
        runs = _runs(sources, rows, names)
        for start in range(0, len(queries), QUERY_BLOCK):
            block = slice(start, min(start + QUERY_BLOCK, len(queries)))
            scores = _product(queries[block], images, scores)
            _merge_top(top, top_scores, block, scores, rows.start, k)
            some = slice(int(first_pair[block.start]), int(first_pair[block.stop]))
            if some.start == some.stop:
                continue
            of_pair = scores if one_each else scores[pair_query[some] - start]
            slack = error_bound(dimension) * longest * norms[pair_query[some]]
            low, high = exact[some] - slack, exact[some] + slack
            over = of_pair > high[:, None]
            for name, begin, end in runs:
                above[some, name] += _count(over[:, begin:end])
            _settle(of_pair, low, over, images, queries, rows, runs, pair_query, pair_row, exact, some, above, tied)
        if on_progress:
            on_progress(len(rows))
    return Ranking(
        top.cpu().numpy(),
        top_scores.cpu().numpy(),
        above.cpu().numpy(),
        tied.cpu().numpy(),
        exact.cpu().numpy(),
    )


def _product(queries: torch.Tensor, images: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    """Return the scores, float32 [q, rows], in the memory of the last block's if it fits."""
    import torch

    if scores.shape != (len(queries), len(images)):
        return queries @ images.T
    return torch.mm(queries, images.T, out=scores)


def _count(mask: torch.Tensor) -> torch.Tensor:
    """Return the number of true values by row, int32; as a sum of bytes much faster than a count of booleans."""
    import torch

    return mask.view(torch.uint8).sum(dim=1, dtype=torch.int32)


def _settle(scores, low, over, images, queries, rows, runs, pair_query, pair_row, exact, some, above, tied) -> None:
    """Decide the pairs whose block score lies within the error bound, by their defined score."""
    import torch

    near = (scores >= low[:, None]) ^ over
    where, column = near.nonzero(as_tuple=True)
    if not len(where):
        return
    source_of = torch.empty(len(rows), dtype=torch.int64, device=scores.device)
    for name, begin, end in runs:
        source_of[begin:end] = name
    where = where + some.start
    other = column + rows.start != pair_row[where]
    where, column = where[other], column[other]
    for at in range(0, len(where), PAIR_BLOCK):
        pair, image = where[at : at + PAIR_BLOCK], column[at : at + PAIR_BLOCK]
        score = _pair_scores(queries, pair_query[pair], images[image])
        beats = score >= exact[pair]
        above.index_put_((pair[beats], source_of[image[beats]]), torch.ones_like(pair[beats]), accumulate=True)
        equal = score == exact[pair]
        tied.index_put_((pair[equal],), torch.ones_like(pair[equal]), accumulate=True)


def _pair_scores(queries: torch.Tensor, query: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """Return the defined score of each pair: float64 sum of the products, rounded to float32."""
    import torch

    parts = [
        (queries[query[at : at + PAIR_BLOCK]].double() * images[at : at + PAIR_BLOCK].double()).sum(dim=1)
        for at in range(0, len(query), PAIR_BLOCK)
    ]
    return torch.cat(parts).float() if parts else torch.empty(0, device=queries.device)


def _merge_top(top, top_scores, block, scores, first_row, k) -> None:
    import torch

    # Once the best k are known, few images of a block are better, and choosing few is much faster than choosing k.
    better = int(_count(scores > top_scores[block, -1:]).max())
    if not better:
        return
    value, index = torch.topk(scores, min(k, better), dim=1)
    both = torch.cat([top_scores[block], value], dim=1)
    rows = torch.cat([top[block], index + first_row], dim=1)
    value, index = torch.topk(both, k, dim=1)
    top_scores[block] = value
    top[block] = rows.gather(1, index)


def _gather(chunks: Chunks, wanted: list[int], dimension: int) -> np.ndarray:
    """Return the vectors of the wanted corpus rows, float32 [len(wanted), dimension]."""
    import numpy as np

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
    import numpy as np

    rows, scores = ranking.top.copy(), ranking.top_scores.copy()
    k = rows.shape[1]
    ranks = ranking.ranks
    by_query: dict[int, list[tuple[int, int, float]]] = {}
    for (query, row), rank, score in zip(pairs, ranks.tolist(), ranking.scores.tolist()):
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
