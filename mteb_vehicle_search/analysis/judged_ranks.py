"""What judgments do to the ranks of a run: images that are right no longer stand above the known ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from statistics import median_low

import numpy as np

from mteb_vehicle_search.analysis.ranks import RunRanks
from mteb_vehicle_search.judgments import Judgments
from mteb_vehicle_search.metrics import Grouped, of_run
from mteb_vehicle_search.run_record import TOP


def judged_pairs(judgments: Judgments) -> dict[tuple[str, str], int]:
    """Return the grade of every judged (query, image): of several judges' the middle one, the lower of two."""
    return {pair: median_low(grades.values()) for pair, grades in judgments.grades.items()}


class Judgeable:
    """A run, asked what its scores were if images in question were right; q queries, p pairs.

    Attributes:
        run: The run.
        stop: int64 [q], the pair behind the last of each query, which begin at `run.first`.
        counts: int64 [q], images in question of each query.
    """

    def __init__(self, run: RunRanks) -> None:
        self.run = run
        self.stop = np.append(run.first[1:], len(run.ranks))
        # Relevant images within the ten best are not in question; those above the last known one are.
        within = np.add.reduceat((run.ranks <= TOP).astype(np.int64), run.first)
        last = np.maximum.reduceat(run.ranks, run.first)
        self.counts = np.where(last <= TOP, last - within, TOP - within)

    @cached_property
    def _tops(self) -> list[list[str]]:
        """The best images of each query."""
        return [self.run.top_ids[at] for at in self.run.first.tolist()]

    @cached_property
    def _below(self) -> np.ndarray:
        """int64 [q], how many of the ten best are above the last relevant one."""
        listed = np.fromiter(map(len, self._tops), dtype=np.int64)
        return np.minimum(np.maximum.reduceat(self.run.ranks, self.run.first) - 1, np.minimum(listed, TOP))

    @cached_property
    def asked(self) -> np.ndarray:
        """bool [q, TOP], which of the ten best are in question, by place."""
        asked = np.arange(TOP) < self._below[:, None]
        query = np.repeat(np.arange(len(asked)), self.stop - self.run.first)
        for at, image in zip(query.tolist(), self.run.relevant_ids.tolist()):
            if image in self._tops[at][:TOP]:
                asked[at, self._tops[at].index(image)] = False
        return asked

    @cached_property
    def _grouped(self) -> Grouped:
        return Grouped.of(self.run.query_ids, self.run.ranks, self.run.grades)

    @cached_property
    def _above(self) -> np.ndarray:
        """float64 [p], images in question above each pair of `_grouped`."""
        grouped = self._grouped
        within = np.repeat(np.add.reduceat((grouped.ranks <= TOP).astype(np.int64), grouped.first), grouped.relevant)
        return np.where(grouped.ranks <= TOP, grouped.ranks - grouped.number, TOP - within)

    def in_question(self, query: int) -> dict[str, int]:
        """Return the images in question of a query, with their places among its ten best, from 0."""
        return {self._tops[query][at]: at for at in np.flatnonzero(self.asked[query]).tolist()}

    def numbers(self, queries: np.ndarray, numbers: Iterable[Mapping[str, int]]) -> np.ndarray:
        """Return the number that an image in question has among those of its query, int64 [n, TOP], by place.

        -1 where it has none; what stands where nothing is in question does not matter.
        """
        below = self._below[queries]
        each = zip(queries.tolist(), below.tolist(), numbers)
        found = np.full((len(queries), TOP), -1)
        found[np.arange(TOP) < below[:, None]] = [
            of.get(image, -1) for query, most, of in each for image in self._tops[query][:most]
        ]
        return found

    def scores(self, queries: np.ndarray, right: np.ndarray, metric: str) -> np.ndarray:
        """Return the metric of queries, float64 [a], of which some images in question are right.

        `queries` int64 [a] are positions, and may repeat; `right` bool [a, TOP] is by place among the ten best.
        """
        if not len(queries):
            return np.zeros(0)
        sizes = (self.stop - self.run.first)[queries]
        answer = np.repeat(np.arange(len(queries)), sizes)
        pair = self.run.first[queries][answer] + np.arange(len(answer)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        before = np.hstack([np.zeros((len(queries), 1), dtype=np.int64), np.cumsum(right, axis=1)])
        ranks = self.run.ranks[pair] - before[answer, np.minimum(self.run.ranks[pair] - 1, TOP)]
        return of_run(metric).of_query(Grouped.of(answer, ranks, self.run.grades[pair]))

    def best(self, metric: str) -> np.ndarray:
        """Return the metric of each query, float64 [q], if all images in question were right."""
        return self._without(metric, self._above)

    def expected(self, chances: np.ndarray, metric: str) -> np.ndarray:
        """Return the metric of each query, float64 [q], expected if its images are right with these chances.

        `chances` float64 [q, TOP] are by place among the ten best, each by itself, 0 where nothing is in question. It
        is exact where a query has one relevant image; those of several take their even share of the right ones.
        """
        # By query: how likely so many of its images are right, after each place.
        likely = np.zeros((len(chances), TOP + 1))
        likely[:, 0] = 1.0
        for chance in chances.T:
            likely[:, 1:] = likely[:, 1:] * (1 - chance[:, None]) + likely[:, :-1] * chance[:, None]
            likely[:, 0] *= 1 - chance
        grouped = self._grouped
        query = np.repeat(np.arange(len(chances)), grouped.relevant)
        sums = np.hstack([np.zeros((len(chances), 1)), np.cumsum(chances, axis=1)])
        before = sums[query, np.minimum(grouped.ranks.astype(np.int64) - 1, TOP)]
        total = sums[query, -1]
        share = before / np.where(total > 0, total, 1.0)
        expected = np.zeros(len(chances))
        for right in range(TOP + 1):
            if likely[:, right].any():
                expected += likely[:, right] * self._without(metric, np.minimum(np.rint(right * share), self._above))
        return expected

    def _without(self, metric: str, above: np.ndarray) -> np.ndarray:
        """Return the metric of each query without so many images above each pair of `_grouped`, [p]."""
        return of_run(metric).of_query(self._grouped._replace(ranks=self._grouped.ranks - above))
