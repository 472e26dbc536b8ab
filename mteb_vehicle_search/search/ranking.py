"""Exact search over vectors: the best k images of each query, and the exact rank of every relevant image.

The search of a whole corpus is that of one part, see `search.parts`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby, permutations
from typing import NamedTuple

import numpy as np
import torch

from mteb_vehicle_search.search.best import rows_of, scores_of
from mteb_vehicle_search.search.parts import Chunk, PartialRanking, Search, rank_part, relevant_scores

Chunks = Callable[[], Iterator[tuple[range, "np.ndarray"]]]


class Ranking(NamedTuple):
    """What a search found; q queries, p (query, relevant image) pairs, s groups of images.

    Attributes:
        top: int64 [q, k], row numbers of the best images by descending score, of equals the earlier first; -1 if the
            corpus has fewer than k.
        top_scores: float32 [q, k].
        above: int64 [p, s], images of each group that rank above the relevant image: the better ones, its equals that
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


def rank_exactly(
    queries: torch.Tensor,
    chunks: Chunks,
    pairs: Sequence[tuple[int, int]],
    groups: Sequence[str],
    k: int = 100,
    on_progress: Callable[[int], object] = lambda images: None,
) -> Ranking:
    """Search all queries against all images; the ranking is in numpy arrays.

    Args:
        queries: float32 [q, d], on the device that shall do the work.
        chunks: Called twice; each time yields (row numbers, float32 [rows, d]) in order over the whole corpus.
        pairs: (query row, corpus row) of every judgement, sorted.
        groups: Group of each corpus row; the sorted distinct ones are the columns of `Ranking.above`.
        k: Images to return for each query.
        on_progress: Called with the number of corpus rows just searched.

    Raises:
        ValueError: The chunks are not all rows of `groups` in order, or a relevant image is in none.
    """

    def corpus() -> Iterator[Chunk]:
        return (Chunk(rows, vectors, groups[rows.start : rows.stop]) for rows, vectors in chunks())

    search = Search(queries, pairs, sorted(set(groups)), len(groups), k)
    scores = relevant_scores(search, corpus())
    found = rank_part(search, scores, corpus(), on_progress)
    return ranking_of(search, scores, found, [groups[row] for _, row in pairs])


def ranking_of(search: Search, scores: np.ndarray, found: PartialRanking, groups: Sequence[str]) -> Ranking:
    """Return the ranking of the whole corpus.

    Args:
        search: What was searched for.
        scores: Each relevant image's defined score, float32 [p].
        found: What was found in all parts together.
        groups: Group of each relevant image (p).

    Raises:
        ValueError: Not every image was searched, or some more than once.
    """
    if found.images.item() != search.images:
        raise ValueError(f"{found.images.item()} images were searched; the corpus has {search.images}.")
    keys = torch.from_numpy(found.best)
    ranking = Ranking(
        rows_of(keys).numpy(), scores_of(keys).numpy(), found.above.copy(), found.tied.copy(), scores.copy()
    )
    _order_relevant_equals(ranking, search.pairs, [search.groups.index(group) for group in groups])
    return ranking


def _order_relevant_equals(ranking: Ranking, pairs: Sequence[tuple[int, int]], group: Sequence[int]) -> None:
    """Let relevant images of one query with equal scores rank in the order of the corpus; all were counted as above."""
    by_query = groupby(range(len(pairs)), key=lambda pair: pairs[pair][0])
    for own, other in (two for _, of_query in by_query for two in permutations(list(of_query), 2)):
        if ranking.scores[own] == ranking.scores[other]:
            ranking.tied[own] -= 1
            if pairs[own][1] < pairs[other][1]:
                ranking.above[own, group[other]] -= 1


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
