"""Every pair of models: their difference over all captions, and within each part of the captions."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from mteb_vehicle_search.analysis.matrix import Matrix, all_pairs, differences
from mteb_vehicle_search.analysis.ranks import RunRanks
from mteb_vehicle_search.analysis.strata import groups
from mteb_vehicle_search.analysis.uncertainty import holm

Numbers = list[float | None]


class PartOfPairs(NamedTuple):
    """Some of the captions, and for each pair, (0, 1), (0, 2), ... (1, 2), ..., its difference there.

    A difference is [mean, low, high, p], the ends None where there are too few images; p is adjusted by Holm's method
    for the parts of the division.
    """

    label: str
    queries: int
    images: int
    differences: list[Numbers]


class Pairs(NamedTuple):
    """All pairs of at least two models, in the order of the page; `parts` are by division of the captions."""

    matrix: Matrix
    order: list[int]  # the places in the matrix of the page's models
    parts: dict[str, list[PartOfPairs]]

    def data(self) -> dict[str, Any]:
        """Return the JSON of the pairs, first model less second, both in the order of the page."""
        return {
            "letters": [self.matrix.letters[at] for at in self.order],
            "resamples": self.matrix.resamples,
            "all": [self._of(a, b) for a, b in combinations(self.order, 2)],
            "parts": [{"title": title, "parts": [p._asdict() for p in found]} for title, found in self.parts.items()],
        }

    def _of(self, a: int, b: int) -> list[float | None]:
        pair = self.matrix.pair(a, b)
        same = pair.a == a
        difference = pair.difference if same else pair.difference.mirrored()
        wins, losses = (pair.wins, pair.losses) if same else (pair.losses, pair.wins)
        return [*_short(*difference), *_short(pair.p_value, pair.p_adjusted), wins, losses]


def pairs_of(captions: Sequence[str], runs: Sequence[RunRanks]) -> Pairs | None:
    """Return all pairs of the runs, in nDCG@10; None of a single run. Captions are in the order of the runs' queries.

    Raises:
        ResultsError: The runs do not have the same queries.
    """
    if len(runs) < 2:
        return None
    matrix = all_pairs(runs)
    scores = np.stack([run.scores(matrix.metric) for run in runs], axis=1)
    parts = {title: _parts(scores, runs[0].clusters, found) for title, found in groups(captions).items()}
    return Pairs(matrix, [matrix.order.index(number) for number in range(len(runs))], parts)


def _parts(scores: np.ndarray, clusters: np.ndarray, found: dict[str, list[int]]) -> list[PartOfPairs]:
    """Return the differences of all columns of scores, float64 [q, m], in the parts of one division."""
    parts = [differences(scores[at], clusters[at]) for at in found.values()]
    adjusted = np.stack([holm(p) for p in np.stack([p for _, p in parts]).T], axis=1)
    return [
        PartOfPairs(
            label,
            len(at),
            len(np.unique(clusters[at])),
            [_short(*interval, float(one)) for interval, one in zip(intervals, p)],
        )
        for (label, at), (intervals, _), p in zip(found.items(), parts, adjusted)
    ]


def _short(*values: float | None) -> Numbers:
    return [None if value is None else round(value, 5) for value in values]
