"""What a rank is worth: each metric once, with its name, its heading, and its score of a rank and of a query.

As trec_eval defines them: nDCG gains the grade of an image, the others count every relevant image the same; the tests
check them against it. nDCG: Järvelin and Kekäläinen, "Cumulated gain-based evaluation of IR techniques", ACM TOIS 20,
2002.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from mteb_vehicle_search.errors import ResultsError


class Grouped(NamedTuple):
    """The ranks of all relevant images, query by query; p pairs, q queries.

    Attributes:
        ranks: float64 [p], ascending within each query; 1 = best.
        first: int64 [q], where each query begins.
        relevant: int64 [q], relevant images of each query.
        number: int64 [p], 1 for the query's best relevant image, 2 for the next.
        grades: float64 [p], how relevant each image is, above 0.
    """

    ranks: np.ndarray
    first: np.ndarray
    relevant: np.ndarray
    number: np.ndarray
    grades: np.ndarray

    @classmethod
    def of(cls, queries: np.ndarray, ranks: np.ndarray, grades: np.ndarray) -> Grouped:
        """Return the ranks and grades [p] of relevant images grouped by their queries [p], which sort."""
        order = np.lexsort((ranks, queries))
        first = np.unique(queries[order], return_index=True)[1]
        relevant = np.diff(np.append(first, len(ranks)))
        number = np.arange(len(ranks)) - np.repeat(first, relevant) + 1
        return cls(ranks[order].astype(np.float64), first, relevant, number, grades[order].astype(np.float64))


class Metric(NamedTuple):
    """A metric.

    Attributes:
        key: Its name in mteb's results, in files and on the command line.
        heading: Its name in tables.
        cut: The last rank that counts; None if all count.
        of_rank: Ranks of images that are the only relevant ones of their queries [q] -> float64 [q].
        of_query: Ranks of queries with any number of relevant images -> float64 [q].
        of_chance: The relevant images (their ranks do not count) and the size of a corpus -> float64 [q], the expected
            score of each query if the corpus is ranked at random.
        copy_of: The metric that it equals, but for a constant factor, where every query has one relevant image.
        scored: Whether it is one of the scores of a run.
        grows: Whether it is followed against the size of the corpus.
    """

    key: str
    heading: str
    cut: int | None
    of_rank: Callable[[np.ndarray], np.ndarray]
    of_query: Callable[[Grouped], np.ndarray]
    of_chance: Callable[[Grouped, int], np.ndarray]
    copy_of: str | None = None
    scored: bool = True
    grows: bool = True


def _anywhere(of_rank: Callable[[np.ndarray], np.ndarray], cut: int, size: int) -> float:
    """Return what one relevant image is worth on average if each of `size` ranks is as likely."""
    return float(of_rank(np.arange(1.0, min(cut, size) + 1)).sum()) / size


def _ndcg(cut: int) -> Metric:
    def of_rank(rank: np.ndarray) -> np.ndarray:
        return np.where(rank <= cut, 1 / np.log2(1.0 + rank), 0.0)

    def ideal(of: Grouped) -> np.ndarray:
        best_first = of.grades[np.lexsort((-of.grades, np.repeat(of.first, of.relevant)))]
        return np.add.reduceat(best_first * of_rank(of.number), of.first)

    def of_query(of: Grouped) -> np.ndarray:
        return np.add.reduceat(of.grades * of_rank(of.ranks), of.first) / ideal(of)

    def of_chance(of: Grouped, size: int) -> np.ndarray:
        return np.add.reduceat(of.grades, of.first) * _anywhere(of_rank, cut, size) / ideal(of)

    return Metric(f"ndcg_at_{cut}", f"nDCG@{cut}", cut, of_rank, of_query, of_chance)


def _map(cut: int) -> Metric:
    def of_query(of: Grouped) -> np.ndarray:
        return np.add.reduceat(np.where(of.ranks <= cut, of.number / of.ranks, 0.0), of.first) / of.relevant

    def of_chance(of: Grouped, size: int) -> np.ndarray:
        # A relevant image at rank r has (r - 1)(m - 1) / (size - 1) of the others before it on average.
        ranks = np.arange(1.0, min(cut, size) + 1)[None, :]
        before = (ranks - 1) * (of.relevant[:, None] - 1) / max(size - 1, 1)
        return ((1 + before) / ranks).sum(axis=1) / size

    # With one relevant image it is the reciprocal rank, which is followed already.
    return Metric(f"map_at_{cut}", f"MAP@{cut}", cut, _mrr(cut).of_rank, of_query, of_chance, grows=False)


def _mrr(cut: int | None) -> Metric:
    def of_rank(rank: np.ndarray) -> np.ndarray:
        return np.where(rank <= (cut or np.inf), 1.0 / rank, 0.0)

    def of_query(of: Grouped) -> np.ndarray:
        return np.maximum.reduceat(of_rank(of.ranks), of.first)

    def of_chance(of: Grouped, size: int) -> np.ndarray:
        # Rank r is the first with a relevant image if none is above it and the next of those left is one.
        expected, none_yet = np.zeros(len(of.relevant)), np.ones(len(of.relevant))
        for rank in range(1, min(cut or size, size) + 1):
            here = none_yet * np.minimum(1.0, of.relevant / (size - rank + 1))
            expected += here / rank
            none_yet -= here
        return expected

    key, heading = (f"mrr_at_{cut}", f"MRR@{cut}") if cut else ("mrr", "MRR")
    copy_of = f"map_at_{cut}" if cut else None
    return Metric(key, heading, cut, of_rank, of_query, of_chance, copy_of, scored=cut is not None)


def _recall(cut: int) -> Metric:
    def of_rank(rank: np.ndarray) -> np.ndarray:
        return (rank <= cut).astype(np.float64)

    def of_query(of: Grouped) -> np.ndarray:
        return np.add.reduceat(of_rank(of.ranks), of.first) / of.relevant

    def of_chance(of: Grouped, size: int) -> np.ndarray:
        return np.full(len(of.relevant), _anywhere(of_rank, cut, size))

    return Metric(f"recall_at_{cut}", f"R@{cut}", cut, of_rank, of_query, of_chance)


def _precision(cut: int) -> Metric:
    def of_rank(rank: np.ndarray) -> np.ndarray:
        return (rank <= cut) / cut

    def of_query(of: Grouped) -> np.ndarray:
        return np.add.reduceat((of.ranks <= cut).astype(np.float64), of.first) / cut

    def of_chance(of: Grouped, size: int) -> np.ndarray:
        return of.relevant * _anywhere(of_rank, cut, size)

    # With one relevant image it is a tenth of the recall.
    copy_of = f"recall_at_{cut}"
    return Metric(f"precision_at_{cut}", f"P@{cut}", cut, of_rank, of_query, of_chance, copy_of, grows=False)


METRICS = {
    metric.key: metric
    for metric in (
        *(_ndcg(10), _map(10), _mrr(10), _mrr(None)),
        *(_recall(1), _recall(5), _recall(10), _recall(100), _precision(10)),
    )
}


def of_run(key: str) -> Metric:
    """Return one of the scores of a run.

    Raises:
        ResultsError: The metric is unknown.
    """
    return _one_of(scored(), key, "There is no metric")


def of_growth(key: str) -> Metric:
    """Return one of the metrics that are followed against the size of the corpus.

    Raises:
        ResultsError: The metric is unknown.
    """
    return _one_of(growing(), key, "Growth knows no metric")


def _one_of(keys: tuple[str, ...], key: str, refusal: str) -> Metric:
    if key not in keys:
        raise ResultsError(f"{refusal} {key!r}.", f"Choose one of {', '.join(keys)}.")
    return METRICS[key]


def scored() -> tuple[str, ...]:
    """Return the metrics that are scores of a run, in the order in which tables have them."""
    return tuple(key for key, metric in METRICS.items() if metric.scored)


def growing() -> tuple[str, ...]:
    """Return the metrics that are followed against the size of the corpus."""
    return tuple(key for key, metric in METRICS.items() if metric.grows)
