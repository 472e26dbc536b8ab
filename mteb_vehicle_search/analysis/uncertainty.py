"""Intervals and tests that respect that captions of one image are not independent.

Everything resamples *clusters* (the relevant image with all its captions), never single queries. Plain numpy; an
evaluation calls `clustered_interval` after every run, so it must be quick and need nothing else.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mteb_vehicle_search.errors import ResultsError

RESAMPLES = 10_000
# With at most this many clusters that differ, all sign flips are enumerated: 2^13 = 8,192 < 10,000.
ENUMERATED = 13
# Numbers held at once; bounds the memory to tens of megabytes whatever the size of the evaluation set.
BLOCK = 1 << 21


class Interval(NamedTuple):
    """A mean with its confidence interval."""

    mean: float
    low: float
    high: float


class ClusterSums(NamedTuple):
    """Values added up by cluster; c clusters in sorted order."""

    sums: np.ndarray  # float64 [c] or [c, m]
    counts: np.ndarray  # float64 [c], values in each cluster


def cluster_sums(values: np.ndarray, clusters: np.ndarray) -> ClusterSums:
    """Add up values (float [q] or [q, m]) by cluster label (any sortable array [q]).

    Raises:
        ResultsError: There is no value, a value is not finite, or the lengths differ.
    """
    values, clusters = np.asarray(values, dtype=np.float64), np.asarray(clusters)
    if len(values) == 0:
        raise ResultsError("There are no values to average.")
    if values.shape[0] != clusters.shape[0]:
        raise ResultsError(f"There are {len(values)} values but {len(clusters)} cluster labels.")
    finite = np.isfinite(values).reshape(len(values), -1).all(axis=1)
    if not finite.all():
        raise ResultsError(f"Value {int(np.argmin(finite))} of {len(values)} is not a finite number.")
    _, which = np.unique(clusters, return_inverse=True)
    counts = np.bincount(which).astype(np.float64)
    columns = values.reshape(len(values), -1)
    sums = np.stack([np.bincount(which, weights=column) for column in columns.T], axis=1)
    return ClusterSums(sums.reshape(len(counts), *values.shape[1:]), counts)


def resampled_means(
    values: np.ndarray, clusters: np.ndarray, *, resamples: int = RESAMPLES, seed: int = 0
) -> np.ndarray:
    """Return the mean of each bootstrap resample of clusters, float64 [resamples] or [resamples, m].

    Whole clusters are drawn with replacement, as many as there are (Field and Welsh, "Bootstrapping clustered data",
    J. R. Statist. Soc. B 69, 2007). The m columns share their resamples, so that columns can be compared.
    """
    grouped = cluster_sums(values, clusters)
    c = len(grouped.counts)
    columns = grouped.sums.reshape(c, -1)
    generator = np.random.default_rng(seed)
    means = np.empty((resamples, columns.shape[1]))
    step = max(1, BLOCK // c)
    even = bool((grouped.counts == grouped.counts[0]).all())
    for start in range(0, resamples, step):
        stop = min(start + step, resamples)
        drawn = generator.integers(0, c, size=(stop - start, c), dtype=np.int32)
        if columns.shape[1] <= 4:
            totals = np.stack([column[drawn].sum(axis=1) for column in columns.T], axis=1)
            counts = c * grouped.counts[0] if even else grouped.counts[drawn].sum(axis=1)[:, None]
        else:
            # For many columns one product with the number of times each cluster was drawn is much cheaper.
            offsets = np.arange(stop - start, dtype=np.int64)[:, None] * c
            times = np.bincount((drawn + offsets).ravel(), minlength=(stop - start) * c).reshape(-1, c)
            times = times.astype(np.float64)
            totals, counts = times @ columns, (times @ grouped.counts)[:, None]
        means[start:stop] = totals / counts
    return means.reshape(resamples, *grouped.sums.shape[1:])


def clustered_interval(
    values: np.ndarray, clusters: np.ndarray, *, resamples: int = RESAMPLES, seed: int = 0, level: float = 0.95
) -> Interval:
    """Return the mean with its percentile bootstrap interval, clusters resampled as wholes.

    `values` float [q] are by query, `clusters` [q] label the relevant image of each. The same seed gives the same
    interval, whatever the order of the queries. A single cluster says nothing of the spread: the interval is then the
    mean itself. With few clusters (under about 50) percentile intervals are somewhat too short.

    Raises:
        ResultsError: There is no value, a value is not finite, or the lengths differ.
    """
    if not 0 < level < 1:
        raise ResultsError(f"A level lies between 0 and 1, not at {level}.")
    mean = float(np.mean(values)) if len(values) else float("nan")
    means = resampled_means(values, clusters, resamples=resamples, seed=seed)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(mean, float(low), float(high))


def sign_flip_p_values(sums: np.ndarray, *, flips: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """Return two-sided p-values of paired differences, by flipping the sign of whole clusters.

    If two models are exchangeable, each cluster's summed difference is as likely to have the other sign. The p-value
    is the share of sign patterns whose total is at least as far from 0 as the observed one: of all patterns when few
    clusters differ, else of random ones with the observed one counted in (Phipson and Smyth, "Permutation p-values
    should never be zero", Stat. Appl. Genet. Mol. Biol. 9, 2010), so that it is never below 1 / (flips + 1).

    `sums`, float [c] or [c, m], are differences summed by cluster; the m columns share their random sign patterns, the
    result is float64 [m] (m = 1 for one column).
    """
    columns = np.asarray(sums, dtype=np.float64).reshape(len(sums), -1)
    p_values = np.ones(columns.shape[1])
    many = []
    for number, column in enumerate(columns.T):
        differing = column[column != 0]
        if len(differing) > ENUMERATED:
            many.append(number)
        elif len(differing):
            codes = np.arange(1 << len(differing))[:, None] >> np.arange(len(differing)) & 1
            p_values[number] = _as_far((2 * codes - 1) @ differing, differing.sum(), differing).mean()
    if many:
        columns = columns[:, many]
        c, generator = len(columns), np.random.default_rng(seed)
        hits, step = np.zeros(len(many)), max(1, BLOCK // c)
        for start in range(0, flips, step):
            rows = min(step, flips - start)
            bits = np.unpackbits(generator.integers(0, 256, size=(rows, (c + 7) // 8), dtype=np.uint8), axis=1)[:, :c]
            totals = 2.0 * (bits.astype(np.float64) @ columns) - columns.sum(axis=0)
            hits += _as_far(totals, columns.sum(axis=0), columns).sum(axis=0)
        p_values[many] = (hits + 1) / (flips + 1)
    return p_values


def _as_far(totals: np.ndarray, observed: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Say which totals are at least as far from 0; sums in another order may differ by rounding only."""
    slack = 1e-12 * np.abs(columns).sum(axis=0)
    return np.abs(totals) >= np.abs(observed) - slack


def holm(p_values: np.ndarray) -> np.ndarray:
    """Return p-values adjusted for their number by Holm's step-down method, in the given order.

    Source: Holm, "A simple sequentially rejective multiple test procedure", Scand. J. Statist. 6, 1979.
    """
    p_values = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p_values, kind="stable")
    factors = np.arange(len(p_values), 0, -1)
    adjusted = np.empty_like(p_values)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p_values[order] * factors))
    return adjusted


class Paired(NamedTuple):
    """How model A compares with model B in one score; differences are A - B.

    The p-value is two-sided, from sign flips clustered by image. A wins where it is better; an image is all its queries
    together.
    """

    a: Interval
    b: Interval
    difference: Interval
    p_value: float
    query_wins: int
    query_losses: int
    query_ties: int
    image_wins: int
    image_losses: int
    image_ties: int


def paired_comparison(
    a: np.ndarray,
    b: np.ndarray,
    clusters: np.ndarray,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = 0.95,
) -> Paired:
    """Compare the scores, float [q], of two models on the same queries; `clusters` [q] name their relevant images.

    There are as many sign flips as bootstrap resamples, and `seed` is of both.

    Raises:
        ResultsError: The lengths differ, there is no query, or a score is not finite.
    """
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if a.shape != b.shape:
        raise ResultsError(f"Model A has {len(a)} queries, model B {len(b)}: they were not run on the same data.")
    difference = a - b
    columns = np.stack([a, b, difference], axis=1)
    means = resampled_means(columns, clusters, resamples=resamples, seed=seed)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2], axis=0)
    intervals = [Interval(float(columns[:, j].mean()), float(low[j]), float(high[j])) for j in range(3)]
    sums = cluster_sums(difference, clusters).sums
    sums = np.where(np.abs(sums) < 1e-12, 0.0, sums)
    p_value = float(sign_flip_p_values(sums, flips=resamples, seed=seed)[0])
    counts = [int(met.sum()) for one in (difference, sums) for met in (one > 0, one < 0, one == 0)]
    return Paired._make([*intervals, p_value, *counts])
