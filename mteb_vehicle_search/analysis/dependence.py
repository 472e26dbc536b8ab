"""What queries share in their distractors: the model of `extrapolation.py` takes each query's to be its own.

Distractors that are near everything (hubs) drive all queries at once. So the interval of a modelled score also spans
what hiding a common half of the distractors does to it: a half drawn without replacement spreads about the whole as
the whole spreads about the truth (the delete-d jackknife with d = n / 2 of Shao and Wu, Ann. Statist. 17, 1989).

Two things break the model, and no interval mends them; `dependence` looks for both. A few hubs are too few to tell how
many more there will be. Near duplicates (groups) arrive together, so that N distractors are fewer distinct ones.

A run record names ten images for each query. Distractors above that are not among them are hidden query by query, and
what has left no trace in the top tens is not seen: hubs that the searched corpus lacks; groups of which each lies near
one or two captioned images only; copies that lie farther apart than other neighbours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mteb_vehicle_search.analysis.extrapolation import fit_prior, gather, scores_on_grid
from mteb_vehicle_search.analysis.ranks import RunRanks
from mteb_vehicle_search.analysis.uncertainty import Interval

HALVES = 20
# Student's t at 97.5 % with as many degrees of freedom as halves less one.
T_HALVES = 2.09
# A pair of distractors is taken for near duplicates if it is in the top tens of so many images, in as many of all
# that either is in, and in so many standard deviations more than by chance: in a small corpus, or where both are
# hubs, top tens overlap anyway. benchmarks/growth_worlds.py shows what the bounds find and what they let pass.
COMMON_IMAGES = 3
COMMON_SHARE = 0.5
COMMON_DEVIATIONS = 5.0
AT_A_TIME = 1.35
FEWEST, FEWEST_SHARE = 100.0, 0.1


class NamedAbove(NamedTuple):
    """The distractors in the top tens of q queries, as far as a run record names them; e above a relevant image."""

    query: np.ndarray  # int64 [e], whose relevant image is outranked
    distractor: np.ndarray  # int64 [e], by which distractor, numbered from 0
    unnamed: np.ndarray  # int64 [q], further distractors above, which no top ten names
    seen_by: np.ndarray  # int64 [t], the query of each distractor in a top ten, above or not
    seen: np.ndarray  # int64 [t], the distractor
    total: int  # distractors that were searched


def named_above(ranks: RunRanks) -> NamedAbove:
    """Return the distractors that the top tens of a run name; each query has one relevant image.

    Raises:
        ResultsError: A source holds captioned and uncaptioned images, so that they cannot be told apart.
    """
    above, captioned = ranks.distractors_above, set(ranks.relevant_ids.tolist())
    numbers: dict[str, int] = {}
    rows = [
        (query, numbers.setdefault(image, len(numbers)), place < rank - 1)
        for query, (rank, top) in enumerate(zip(ranks.ranks.tolist(), ranks.top_ids))
        for place, image in enumerate(top)
        if image not in captioned
    ]
    seen_by, seen, beats = np.array(rows, dtype=np.int64).reshape(-1, 3).T
    # A top ten that names more than were counted is of a captioned image without a query; it tells nothing.
    beats = (beats == 1) & (np.bincount(seen_by[beats == 1], minlength=len(above)) <= above)[seen_by]
    query = seen_by[beats]
    unnamed = above - np.bincount(query, minlength=len(above))
    return NamedAbove(query, seen[beats], unnamed, seen_by, seen, ranks.distractors)


def keep_common(named: NamedAbove, keep: int, generator: np.random.Generator) -> np.ndarray:
    """Return how many distractors stay above each query, int64 [q], if all queries keep the same random ones.

    Of those that no top ten names each query keeps its own random ones.
    """
    # Distractors that no top ten names have numbers too, so that exactly `keep` of all stay.
    kept = np.zeros(max(named.total, named.seen.max(initial=-1) + 1), dtype=bool)
    kept[generator.choice(len(kept), keep, replace=False)] = True
    q = len(named.unnamed)
    of_named = np.bincount(named.query, minlength=q)
    stay = np.bincount(named.query[kept[named.distractor]], minlength=q)
    others = named.total - of_named - named.unnamed
    left = np.clip(keep - stay, 0, named.unnamed + others)
    return stay + generator.hypergeometric(named.unnamed, others, left)


def widened(
    modelled: dict[str, list[Interval]], captioned: np.ndarray, named: NamedAbove, sizes: Sequence[int], *, seed: int
) -> dict[str, list[Interval]]:
    """Return the intervals of `extrapolate` for these sizes with the spread from common distractors added."""
    spread = T_HALVES * shared_spread(list(modelled), captioned, named, sizes, seed=seed)

    def wider(of: Interval, more: float) -> Interval:
        mean, low, high = of
        if low is None or high is None or not more:
            return of
        ends = max(0.0, mean - math.hypot(mean - low, more)), min(1.0, mean + math.hypot(high - mean, more))
        return Interval(mean, *ends)

    return {
        metric: [wider(*pair) for pair in zip(intervals, spreads.tolist(), strict=True)]
        for (metric, intervals), spreads in zip(modelled.items(), spread, strict=True)
    }


def shared_spread(
    metrics: Sequence[str], captioned: np.ndarray, named: NamedAbove, sizes: Sequence[int], *, seed: int = 0
) -> np.ndarray:
    """Return the standard deviation of modelled scores that comes from common distractors, float64 [metrics, sizes].

    `captioned` int [q] are the captioned images above, `sizes` numbers of distractors. Zeros if no distractor is named.
    """
    if not len(named.query) or named.total < 2:
        return np.zeros((len(metrics), len(sizes)))
    generator, found = np.random.default_rng([seed, 1]), []
    for _ in range(HALVES):
        keep = named.total // 2
        evidence = gather(captioned, keep_common(named, keep, generator), keep)
        weights = np.bincount(evidence.which).astype(np.float64)
        posterior = evidence.likelihood * fit_prior(evidence, weights)
        posterior *= (weights / np.maximum(posterior.sum(axis=1), 1e-300))[:, None]
        found.append([[np.vdot(posterior, scores_on_grid(metric, evidence, n)) for n in sizes] for metric in metrics])
    return np.std(found, axis=0, ddof=1) / len(captioned)


class Dependence(NamedTuple):
    """How distractors depend on each other, judged by the top tens.

    Attributes:
        at_a_time: Near duplicates above a relevant image for each distinct distractor there; 1 if there are none. None
            if no distractor is in the top tens of three images.
        effective: To how many equally frequent distractors those above relevant images amount, (sum b)^2 / sum b^2
            with b the images that each outranks. None if none is above.
        searched: Distractors of the corpus.
    """

    at_a_time: float | None
    effective: float | None
    searched: int

    @property
    def warning(self) -> str:
        """Why modelled scores cannot be trusted, in a sentence; empty if nothing speaks against them."""
        why = []
        if self.at_a_time is not None and self.at_a_time > AT_A_TIME:
            why.append(f"near duplicates come {self.at_a_time:.1f} at a time")
        if self.effective is not None and self.effective < min(FEWEST, FEWEST_SHARE * self.searched):
            why.append(f"those above an answer amount to {self.effective:.0f} different ones")
        return f"cannot be trusted: distractors depend on each other ({'; '.join(why)})." if why else ""


def dependence_of(ranks: RunRanks) -> Dependence:
    """Return how the distractors of a run depend on each other (see `dependence`)."""
    return dependence(named_above(ranks), ranks.clusters)


def dependence(named: NamedAbove, clusters: np.ndarray) -> Dependence:
    """Return how the distractors of a run depend on each other; `clusters` [q] label the relevant images."""
    image = np.unique(clusters, return_inverse=True)[1].reshape(-1)
    above = np.unique(np.stack([image[named.query], named.distractor]), axis=1)[1]
    outranked = np.bincount(above).astype(np.float64)
    effective = float(outranked.sum() ** 2 / (outranked**2).sum()) if len(above) else None
    seen_by, seen = np.unique(np.stack([image[named.seen_by], named.seen]), axis=1)
    frequency = np.bincount(seen, minlength=1)
    known = frequency[named.distractor] >= COMMON_IMAGES if len(named.query) else np.zeros(0, dtype=bool)
    if not known.any():
        return Dependence(None, effective, named.total)
    group = _groups(seen_by, seen, frequency, int(image.max()) + 1)[named.distractor[known]]
    distinct = np.unique(np.stack([named.query[known], group]), axis=1).shape[1]
    return Dependence(int(known.sum()) / distinct, effective, named.total)


def _groups(seen_by: np.ndarray, seen: np.ndarray, frequency: np.ndarray, images: int) -> np.ndarray:
    """Return a label for each distractor that its near duplicates share, int [distractors].

    If two distractors had nothing to do with each other, the images that both are near would be hypergeometric.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    size = len(frequency)
    # Others are near duplicates of nothing, and most of all.
    often = frequency[seen] >= COMMON_IMAGES
    seen_by, seen = seen_by[often], seen[often]
    lists = coo_array((np.ones(len(seen)), (seen_by, seen)), shape=(int(seen_by.max()) + 1, size)).tocsr()
    pairs = (lists.T @ lists).tocoo()
    a, b, common = pairs.row, pairs.col, pairs.data
    near = (common >= COMMON_IMAGES) & (common >= COMMON_SHARE * (frequency[a] + frequency[b] - common))
    expected = frequency[a] * frequency[b] / images
    variance = expected * (images - frequency[a]) * (images - frequency[b]) / (images * max(images - 1, 1))
    near &= (common - expected) ** 2 >= COMMON_DEVIATIONS**2 * variance
    links = coo_array((np.ones(int(near.sum())), (a[near], b[near])), shape=(size, size))
    return connected_components(links, directed=False)[1]
