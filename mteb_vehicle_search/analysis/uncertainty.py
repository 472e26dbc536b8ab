"""Intervals and tests that respect that captions of one image are not independent.

The unit is the *cluster* (the relevant image with all its captions), never the single query. `limits.py` has the
intervals; an evaluation calls `clustered_interval` after every run, so it must be quick.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mteb_vehicle_search.analysis.limits import FEWEST_IMAGES, Limits, difference_limits, score_limits
from mteb_vehicle_search.errors import ResultsError

RESAMPLES = 10_000
# With at most this many clusters that differ, all sign flips are enumerated: 2^13 = 8,192 < 10,000.
ENUMERATED = 13
# Numbers held at once; bounds the memory to tens of megabytes whatever the size of the evaluation set.
BLOCK = 1 << 21

TOO_FEW_NOTE = f"–: no interval from fewer than {FEWEST_IMAGES} images."


class Interval(NamedTuple):
    """A mean with its confidence interval; both ends are None where there are too few images for any."""

    mean: float
    low: float | None
    high: float | None

    def ends(self, form: str = ".4f", between: str = "–") -> str:
        """Return both ends as text, or a dash where there are none."""
        return "–" if self.low is None or self.high is None else f"{self.low:{form}}{between}{self.high:{form}}"

    def mirrored(self) -> Interval:
        """Return the interval of the value with the other sign."""
        return Interval(-self.mean, *(None if end is None else -end for end in (self.high, self.low)))


def p_text(p_value: float) -> str:
    """Return a p-value as sentences have it."""
    return f"p = {p_value:.4f}" if p_value >= 0.001 else "p < 0.001"


def too_few(images: int) -> str:
    """Return why so many images have no interval; "" if they have one."""
    return f"too few images: {images}" if images < FEWEST_IMAGES else ""


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


def clustered_interval(values: np.ndarray, clusters: np.ndarray, *, level: float = 0.95) -> Interval:
    """Return the mean of scores with its interval over clusters, in closed form (see `limits.score_limits`).

    `values` float [q] lie in [0, 1], by query; `clusters` [q] label the relevant image of each. Neither the order of
    the queries nor the labels matter. With fewer than FEWEST_IMAGES clusters there is no interval: its ends are None.

    Raises:
        ResultsError: There is no value, a value is no score, or the lengths differ.
    """
    grouped = cluster_sums(values, clusters)
    _require_scores(values, level)
    limits = score_limits(grouped.sums[:, None], grouped.counts[:, None], level)
    return _interval(np.asarray(values), limits, len(grouped.counts))


def _interval(values: np.ndarray, limits: Limits, clusters: int) -> Interval:
    """Return the mean of values with the limits of the first column; without any if there are too few clusters."""
    few = clusters < FEWEST_IMAGES
    return Interval(float(values.mean()), *(None if few else float(end[0]) for end in (limits.low, limits.high)))


def _require_scores(values: np.ndarray, level: float) -> None:
    if not 0 < level < 1:
        raise ResultsError(f"A level lies between 0 and 1, not at {level}.")
    values = np.asarray(values, dtype=np.float64)
    # Expected scores are sums, which may pass 1 by rounding.
    outside = np.abs(values - 0.5) > 0.5 + 1e-9
    if outside.any():
        at = int(np.argmax(outside))
        raise ResultsError(f"Value {at} of {len(values)} is {values[at]}; scores lie between 0 and 1.")


def paired_difference(difference: np.ndarray, clusters: np.ndarray) -> tuple[Interval, np.ndarray, np.ndarray]:
    """Return the mean of differences of scores, float64 [q], with its 95 % interval over clusters.

    Beside it their sums and the number of queries by cluster, float64 [c].
    """
    gains, losses = np.maximum(difference, 0.0), np.maximum(-difference, 0.0)
    grouped = cluster_sums(np.stack([gains, losses, difference], axis=1), clusters)
    limits = difference_limits(grouped.sums[:, :1], grouped.sums[:, 1:2], grouped.counts[:, None])
    return _interval(difference, limits, len(grouped.counts)), grouped.sums[:, 2], grouped.counts


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

    @property
    def queries(self) -> int:
        """The number of queries."""
        return self.query_wins + self.query_losses + self.query_ties

    @property
    def images(self) -> int:
        """The number of images; too few have no intervals."""
        return self.image_wins + self.image_losses + self.image_ties


def paired_comparison(
    a: np.ndarray,
    b: np.ndarray,
    clusters: np.ndarray,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = 0.95,
) -> Paired:
    """Compare the scores, float [q] in [0, 1], of two models on the same queries; `clusters` [q] name their images.

    There are `resamples` random sign flips (if not all are tried), of the `seed`. The intervals need neither.

    Raises:
        ResultsError: The lengths differ, there is no query, or a score is none.
    """
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if a.shape != b.shape:
        raise ResultsError(f"Model A has {len(a)} queries, model B {len(b)}: they were not run on the same data.")
    difference = a - b
    gains, losses = np.maximum(difference, 0.0), np.maximum(-difference, 0.0)
    grouped = cluster_sums(np.stack([a, b, gains, losses, difference], axis=1), clusters)
    for scores in (a, b):
        _require_scores(scores, level)
    columns, counts = np.split(grouped.sums, 5, axis=1), grouped.counts[:, None]
    limits = (
        score_limits(columns[0], counts, level),
        score_limits(columns[1], counts, level),
        difference_limits(columns[2], columns[3], counts, level),
    )
    intervals = [_interval(scores, found, len(counts)) for scores, found in zip((a, b, difference), limits)]
    sums = np.where(np.abs(columns[4][:, 0]) < 1e-12, 0.0, columns[4][:, 0])
    p_value = float(sign_flip_p_values(sums, flips=resamples, seed=seed)[0])
    wins = [int(met.sum()) for one in (difference, sums) for met in (one > 0, one < 0, one == 0)]
    return Paired._make([*intervals, p_value, *wins])
