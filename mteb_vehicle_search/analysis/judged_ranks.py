"""What judgments do to the ranks of a run: images that are right no longer stand above the known ones."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median_low

import numpy as np

from mteb_vehicle_search.analysis.ranks import RunRanks
from mteb_vehicle_search.judgments import Judgments
from mteb_vehicle_search.metrics import Grouped, of_run
from mteb_vehicle_search.run_record import TOP

# How often images are drawn to be right, with the probabilities that were predicted.
DRAWS = 32


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

    def in_question(self, query: int) -> dict[str, int]:
        """Return the images in question of a query, with their places among its ten best, from 0."""
        start, stop = int(self.run.first[query]), int(self.stop[query])
        known = set(self.run.relevant_ids[start:stop].tolist())
        below = min(int(self.run.ranks[start:stop].max()) - 1, TOP)
        return {image: at for at, image in enumerate(self.run.top_ids[start][:below]) if image not in known}

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
        run = self.run
        grouped = Grouped.of(run.query_ids, run.ranks, run.grades)
        within = np.repeat(np.add.reduceat((grouped.ranks <= TOP).astype(np.int64), grouped.first), grouped.relevant)
        above = np.where(grouped.ranks <= TOP, grouped.ranks - grouped.number, TOP - within)
        return of_run(metric).of_query(grouped._replace(ranks=grouped.ranks - above))

    def expected(
        self, queries: np.ndarray, predicted: Mapping[tuple[str, str], float], metric: str, seed: int = 0
    ) -> np.ndarray:
        """Return the metric of queries, float64 [a], expected under the probabilities that their images are right.

        It is the mean over DRAWS random answers. What nothing is predicted of counts as not right.
        """
        chance = np.zeros((len(queries), TOP))
        ids = self.run.query_ids[self.run.first]
        for row, query in enumerate(queries.tolist()):
            name = str(ids[query])
            for image, place in self.in_question(query).items():
                chance[row, place] = predicted.get((name, image), 0.0)
        generator, total = np.random.default_rng(seed), np.zeros(len(queries))
        for _ in range(DRAWS):
            total += self.scores(queries, generator.random(chance.shape) < chance, metric)
        return total / DRAWS
