"""The ranks of relevant images in a run that another program made, as far as its lines tell them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa

from mteb_vehicle_search.eval_set import EvalSet
from mteb_vehicle_search.exchange.trec import Lines
from mteb_vehicle_search.run_record import TOP

LARGEST = float(np.finfo(np.float32).max)


class Asked(NamedTuple):
    """What an evaluation set asks, by places in its sorted ids; p (query, relevant image) pairs, sorted.

    Attributes:
        query_ids, image_ids: All ids, sorted.
        queries, images: int64 [p] each.
        grades: int64 [p].
        groups: int64 [images], the group of each image, a place in `group_names`.
        group_names: Sorted.
    """

    query_ids: list[str]
    image_ids: list[str]
    queries: np.ndarray
    images: np.ndarray
    grades: np.ndarray
    groups: np.ndarray
    group_names: list[str]

    @classmethod
    def of(cls, eval_set: EvalSet) -> Asked:
        """Return what a set asks."""
        query_ids, image_ids = [query.id for query in eval_set.queries()], eval_set.corpus_ids()
        query_place, image_place = ({name: at for at, name in enumerate(ids)} for ids in (query_ids, image_ids))
        qrels = sorted(one for one in eval_set.qrels() if one.score > 0)
        names, groups = np.unique(np.array(eval_set.groups), return_inverse=True)
        return cls(
            query_ids,
            image_ids,
            np.array([query_place[one.query_id] for one in qrels], dtype=np.int64),
            np.array([image_place[one.corpus_id] for one in qrels], dtype=np.int64),
            np.array([one.score for one in qrels], dtype=np.int64),
            groups.astype(np.int64),
            names.tolist(),
        )

    def is_relevant(self, queries: np.ndarray, images: np.ndarray) -> np.ndarray:
        """Return whether each image is relevant to its query, bool [n]."""
        size = len(self.image_ids)
        return np.isin(queries * size + images, self.queries * size + self.images)


class Placed(NamedTuple):
    """The table of a run record (see `RunRecord.queries`), and what it does not tell.

    Attributes:
        table: Without a rank, a score and counts where the run does not tell them.
        depth: The rank as far as which it is known which relevant images rank where; None if all ranks are known.
        missing: Ids of queries without a line.
        shortest: The id of a query that limits the depth, and its number of ranks; None if none does.
        gaps: Whether images are left out between some that are told.
        reads_ranks: Whether the column of ranks agrees with the scores; else it is ignored, as trec_eval does.
    """

    table: pa.Table
    depth: int | None
    missing: list[str]
    shortest: tuple[str, int] | None
    gaps: bool
    reads_ranks: bool


class _Ordered(NamedTuple):
    """Lines by query, and within one by falling score, the relevant images last among equals, then by id.

    `start` [q + 1] says where each query begins, `position` [n] counts within it from 1, `told` [n] is the rank that
    the line tells, and `prefix` [q] how many lines of each query stand before the first gap of those.
    """

    queries: np.ndarray
    images: np.ndarray
    scores: np.ndarray
    relevant: np.ndarray
    start: np.ndarray
    position: np.ndarray
    told: np.ndarray
    prefix: np.ndarray


def placed(lines: Lines, asked: Asked, complete_to: int = 0) -> Placed:
    """Return where a run puts the relevant images.

    An image is above another if its score is higher; the relevant image is last among its equals, as everywhere here.
    The column of ranks counts only for gaps: a line that tells rank 500 after one of rank 10 has rank 500.

    What a query does not list ranks after what it lists, so that the shortest list that lacks a relevant image says how
    deep the run is; but shorter lists than `complete_to` ended because nothing more was found, if somebody knows that.
    """
    told, reads_ranks = _told_ranks(lines)
    ordered = _ordered(lines, asked, told)
    row, listed = _rows_of_pairs(ordered, asked)
    in_prefix = listed & (ordered.position[row] <= ordered.prefix[asked.queries])
    rank = np.where(in_prefix, ordered.position[row], ordered.told[row])
    lines_of = np.diff(ordered.start)
    asks, at_most = asked.queries, len(asked.image_ids)
    answered = lines_of[asks] > 0
    # A list of the whole corpus has no beyond.
    open_end = answered & ~listed & (ordered.prefix[asks] < at_most)
    depth, shortest = None, None
    if open_end.any():
        known_to = np.maximum(ordered.prefix, np.where(ordered.prefix == lines_of, min(complete_to, at_most), 0))[asks]
        at = int(np.argmin(np.where(open_end, known_to, at_most + 1)))
        depth = int(known_to[at])
        shortest = asked.query_ids[asks[at]], depth
    elif not answered.all():
        depth = max(int(ordered.prefix.max()), 1)
    table = _table(ordered, asked, row, listed, in_prefix, rank)
    missing = [asked.query_ids[at] for at in np.unique(asks[~answered])]
    return Placed(table, depth, missing, shortest, bool((ordered.prefix < lines_of).any()), reads_ranks)


def _told_ranks(lines: Lines) -> tuple[np.ndarray, bool]:
    """Return the ranks that lines tell, from 1, and whether they can be believed; else their places by score.

    They can where each query begins with the same of 0 and 1, no rank stands twice, and scores fall along them.
    """
    order = np.lexsort((-lines.scores, lines.queries))
    by_score = np.empty(len(order), dtype=np.int64)
    queries = lines.queries[order]
    first = np.flatnonzero(np.r_[True, queries[1:] != queries[:-1]])
    by_score[order] = np.arange(len(order)) - np.repeat(first, np.diff(np.r_[first, len(order)])) + 1
    if lines.told_ranks is None:
        return by_score, False
    order = np.lexsort((lines.told_ranks, lines.queries))
    queries, told, scores = lines.queries[order], lines.told_ranks[order], lines.scores[order]
    same = queries[1:] == queries[:-1]
    base = int(told[first[0]])
    begins = np.r_[True, ~same]
    fits = (
        base in (0, 1)
        and bool((told[begins] == base).all())
        and bool((np.diff(told)[same] > 0).all())
        and bool((np.diff(scores)[same] <= 0).all())
    )
    return (lines.told_ranks - base + 1, True) if fits else (by_score, False)


def _ordered(lines: Lines, asked: Asked, told: np.ndarray) -> _Ordered:
    relevant = asked.is_relevant(lines.queries, lines.images)
    # What stands after a gap stays after it, whatever equals it.
    by_told = np.lexsort((told, lines.queries))
    counts = np.bincount(lines.queries, minlength=len(asked.query_ids))
    start = np.r_[0, np.cumsum(counts)]
    position = np.arange(len(told)) - np.repeat(start[:-1], counts) + 1
    unbroken = told[by_told] == position
    prefix = np.bincount(lines.queries[by_told], weights=unbroken, minlength=len(counts)).astype(np.int64)
    after = np.zeros(len(told), dtype=bool)
    after[by_told] = ~unbroken
    order = np.lexsort((lines.images, relevant, -lines.scores, after, lines.queries))
    queries, images, scores = lines.queries[order], lines.images[order], lines.scores[order]
    return _Ordered(queries, images, scores, relevant[order], start, position, told[order], prefix)


def _rows_of_pairs(ordered: _Ordered, asked: Asked) -> tuple[np.ndarray, np.ndarray]:
    """Return the line of each pair, int64 [p] (any where there is none), and whether there is one, bool [p]."""
    size = len(asked.image_ids)
    rows = np.flatnonzero(ordered.relevant)
    keys = ordered.queries[rows] * size + ordered.images[rows]
    wanted = asked.queries * size + asked.images
    by_key = np.argsort(keys)
    at = np.searchsorted(keys[by_key], wanted)
    listed = at < len(keys)
    listed[listed] = keys[by_key][at[listed]] == wanted[listed]
    found = np.zeros(len(wanted), dtype=np.int64)
    found[listed] = rows[by_key][at[listed]]
    return found, listed


def _table(
    ordered: _Ordered, asked: Asked, row: np.ndarray, listed: np.ndarray, in_prefix: np.ndarray, rank: np.ndarray
) -> pa.Table:
    query_ids, image_ids = np.array(asked.query_ids), np.array(asked.image_ids)
    begin, end = (ordered.start[asked.queries + more] for more in (0, 1))
    # Records hold float32.
    scores = np.clip(ordered.scores, -LARGEST, LARGEST)
    tied = _tied(ordered, row, begin, end)
    columns = {
        "query_id": pa.array(query_ids[asked.queries].tolist()),
        "relevant_id": pa.array(image_ids[asked.images].tolist()),
        "rank": pa.array(rank, pa.int32(), mask=~listed),
        "score": pa.array(scores[row], pa.float32(), mask=~listed),
        "tied": pa.array(tied, pa.int32(), mask=~in_prefix),
        "grade": pa.array(asked.grades, pa.int32()),
    }
    for group, name in enumerate(asked.group_names):
        counted = np.r_[0, np.cumsum(asked.groups[ordered.images] == group)]
        columns[f"above_{name}"] = pa.array(counted[row] - counted[begin], pa.int32(), mask=~in_prefix)
    tops = [slice(at, at + min(TOP, int(prefix))) for at, prefix in zip(begin, ordered.prefix[asked.queries])]
    columns["top_ids"] = pa.array([image_ids[ordered.images[top]].tolist() for top in tops], pa.list_(pa.string()))
    columns["top_scores"] = pa.array([scores[top].tolist() for top in tops], pa.list_(pa.float32()))
    return pa.table(columns)


def _tied(ordered: _Ordered, row: np.ndarray, begin: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Return how many images that are not relevant have the very score of each pair's line, int64 [p]."""
    count = np.zeros(len(row), dtype=np.int64)
    for pair, (at, first, last) in enumerate(zip(row.tolist(), begin.tolist(), end.tolist())):
        if first <= at < last:
            own = ordered.scores[first:last] == ordered.scores[at]
            count[pair] = int((own & ~ordered.relevant[first:last]).sum())
    return count
