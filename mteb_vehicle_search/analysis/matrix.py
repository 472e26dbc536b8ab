"""All pairs of several models on one evaluation set: differences, intervals, adjusted p-values, and letters."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations
from string import ascii_letters
from typing import NamedTuple

import numpy as np

from mteb_vehicle_search.analysis.compare_corrected import CorrectedPair
from mteb_vehicle_search.analysis.names import shown_names
from mteb_vehicle_search.analysis.ranks import RunRanks, require_same_queries
from mteb_vehicle_search.analysis.sets import title_of
from mteb_vehicle_search.analysis.uncertainty import (
    RESAMPLES,
    Interval,
    clustered_interval,
    holm,
    paired_difference,
    sign_flip_p_values,
)

SIGNIFICANCE = 0.05


class Pair(NamedTuple):
    """Two models by their places in `Matrix.names`, a before b; the difference is a - b.

    `p_adjusted` is Holm's over all pairs; `wins` and `losses` are queries that a answers better and worse.
    """

    a: int
    b: int
    difference: Interval
    p_value: float
    p_adjusted: float
    wins: int
    losses: int

    @property
    def better(self) -> int | None:
        """The place of the better model; None if the two are not told apart."""
        if self.p_adjusted >= SIGNIFICANCE:
            return None
        return self.a if self.difference.mean > 0 else self.b


class Matrix(NamedTuple):
    """Models, best mean first, with every pair of them.

    Attributes:
        task, title, content_id: Of the evaluation set.
        metric: The score that is compared.
        queries, images: What it is over.
        names: Of the models; no two are alike.
        scores: The mean of each with its 95 % interval.
        letters: Of each model; two models share a letter if, and only if, they are not told apart.
        pairs: (0, 1), (0, 2), ... (1, 2), ...
        resamples: Random sign flips behind a p-value.
        order: Which of the runs that were given each model is.
        corrected: The pairs as corrected by judgments; none if there are no judgments of the set.
    """

    task: str
    title: str
    content_id: str
    metric: str
    queries: int
    images: int
    names: tuple[str, ...]
    scores: tuple[Interval, ...]
    letters: tuple[str, ...]
    pairs: tuple[Pair, ...]
    resamples: int
    order: tuple[int, ...] = ()
    corrected: tuple[CorrectedPair, ...] = ()

    def pair(self, one: int, other: int) -> Pair:
        """Return the pair of two places in either order; its difference is first place less second, of the names."""
        a, b = sorted((one, other))
        return self.pairs[a * (2 * len(self.names) - a - 1) // 2 + b - a - 1]


def all_pairs(
    runs: Sequence[RunRanks],
    metric: str = "ndcg_at_10",
    *,
    names: Sequence[str] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Matrix:
    """Compare every run with every other in one of `metrics.scored()`; p-values are those of `compare` for each pair.

    `names` are those of the runs, in their order; by default `shown_names` gives them. Equal means keep the order.

    Raises:
        ResultsError: The runs are on different evaluation sets or do not have the same queries, or there is no metric.
    """
    for run in runs[1:]:
        require_same_queries(runs[0], run)
    given = names or shown_names([run.record.key for run in runs])
    scores = np.stack([run.scores(metric) for run in runs], axis=1)
    order: list[int] = np.argsort(-scores.mean(axis=0), kind="stable").tolist()
    scores, clusters, info = scores[:, order], runs[0].clusters, runs[0].record.info
    pairs = _pairs(scores, clusters, resamples, seed)
    return Matrix(
        task=info["task_name"],
        title=title_of(info),
        content_id=info["content_id"],
        metric=metric,
        queries=len(scores),
        images=len(np.unique(clusters)),
        names=tuple(given[at] for at in order),
        scores=tuple(clustered_interval(column, clusters) for column in scores.T),
        letters=letters(len(runs), ((one.a, one.b) for one in pairs if one.better is not None)),
        pairs=pairs,
        resamples=resamples,
        order=tuple(order),
    )


def differences(
    scores: np.ndarray, clusters: np.ndarray, *, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[list[Interval], np.ndarray]:
    """Return the differences of all pairs of columns of scores, float64 [q, m], and their p-values, float64 [pairs].

    The pairs are (0, 1), (0, 2), ... (1, 2), ..., first less second; there is at least one.
    """
    found, sums = [], []
    # One column at a time, for the memory of many pairs.
    for a, b in combinations(range(scores.shape[1]), 2):
        interval, by_cluster, _ = paired_difference(scores[:, a] - scores[:, b], clusters)
        found.append(interval)
        sums.append(np.where(np.abs(by_cluster) < 1e-12, 0.0, by_cluster))
    return found, sign_flip_p_values(np.stack(sums, axis=1), flips=resamples, seed=seed)


def _pairs(scores: np.ndarray, clusters: np.ndarray, resamples: int, seed: int) -> tuple[Pair, ...]:
    """Return all pairs of the columns of scores, float64 [q, m]."""
    places = list(combinations(range(scores.shape[1]), 2))
    if not places:
        return ()
    intervals, p_values = differences(scores, clusters, resamples=resamples, seed=seed)
    won = [(int((scores[:, a] > scores[:, b]).sum()), int((scores[:, a] < scores[:, b]).sum())) for a, b in places]
    return tuple(
        Pair(*place, interval, float(p), float(adjusted), *counts)
        for place, interval, p, adjusted, counts in zip(places, intervals, p_values, holm(p_values), won)
    )


def letters(count: int, apart: Iterable[tuple[int, int]]) -> tuple[str, ...]:
    """Return letters for so many models, of which two share one if, and only if, the pair is not among those `apart`.

    By insertion and absorption (Piepho, "An algorithm for a letter-based representation of all-pairwise comparisons",
    J. Comput. Graph. Stat. 13, 2004). The first letter is that of the first models.
    """
    columns = [frozenset(range(count))]
    for a, b in sorted(apart):
        split = [part for one in columns for part in ([one - {a}, one - {b}] if {a, b} <= one else [one])]
        unique = list(dict.fromkeys(split))
        columns = [one for one in unique if not any(one < other for other in unique)]
    columns.sort(key=sorted)
    return tuple("".join(_letter(number) for number, one in enumerate(columns) if at in one) for at in range(count))


def _letter(number: int) -> str:
    """Return one character: a to z, A to Z, and then Latin letters of other languages."""
    return ascii_letters[number] if number < len(ascii_letters) else chr(0x100 + number - len(ascii_letters))
