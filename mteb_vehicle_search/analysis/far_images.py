"""How many of the far images of a pool rank above an answer, from a random sample of them: query by query.

Of N far images n are in the corpus, drawn without replacement, and x of those rank above a query's relevant image. If H
of all N do, x is hypergeometric (N, H, n). Queries share a prior for H with those that as many images beat for certain
(captioned and near ones), since who has few of them above has few far ones. Each group's prior starts as a negative
binomial distribution (thinned at random it stays one, with the mean thinned; Puig and Valero, J. Am. Stat. Assoc. 101,
2006), and takes 20 steps of EM towards the nonparametric maximum likelihood (Laird, J. Am. Stat. Assoc. 73, 1978). The
mean is the group's own, and so unbiased. The shape is not: few hits say next to nothing of it, and whether a query that
was not hit is beaten at all hangs on it. So all groups share a law, shape = a (1 + images above for certain)^c. The
shapes are those that are expected after the hits, and what these leave open is an error of its own.

Priors on the chance p of a random image, as `extrapolation.py` has them, make H more uneven than Poisson, which a pool
that is there is not; here H itself has the prior, so that nothing is left open where all far images were sampled.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

# Where groups of queries begin, by images that beat them for certain; those with fewer queries join the group below.
BASES = (0, 1, 2, 3, 4, 5, 6, 8, 10, 20, 50, 100, 300, 1_000, 3_000, 10_000)
FEWEST_QUERIES = 20
STEPS = 20
# All numbers up to this are points of the grid, then so many to the end.
WHOLE, FURTHER = 100, 120
# All hits up to this are followed, then those that occur and numbers so far apart.
WHOLE_HITS, APART = 40, 1.05
# The law of shapes: factors and powers, all as likely before any hit is seen, and the limits of a shape.
FACTORS, POWERS = np.geomspace(0.01, 30, 30), np.arange(0, 1.75, 0.25)
SHAPES = (0.003, 100.0)


class Step(NamedTuple):
    """A step of EM."""

    prior: np.ndarray  # float64 [g], before it
    chance: np.ndarray  # float64 [v], of the numbers of hits, under it
    factor: np.ndarray  # float64 [g], what each of its points is multiplied with


class Group(NamedTuple):
    """The k queries that share a prior, with b different numbers of images above for certain."""

    bases: np.ndarray  # int64 [b], images above for certain
    queries: np.ndarray  # int64 [k], which queries
    base: np.ndarray  # int64 [k], of each query its place in `bases`
    value: np.ndarray  # int64 [k], of each query the place of its hits in `FarAbove.values`
    counts: np.ndarray  # float64 [b, v], queries by base and hits
    steps: list[Step]  # towards the group's prior, which is that of the last, not taken any more
    by_mean: np.ndarray  # float64 [g], by how much the first prior changes with the mean number of hits
    by_shape: np.ndarray  # float64 [g], and with the logarithm of the shape


class FarAbove(NamedTuple):
    """What is known of H: v numbers of hits, g grid points."""

    values: np.ndarray  # int64 [v], hits: those of the queries, and others between and next to them
    grid: np.ndarray  # int64 [g], numbers of far images above
    likelihood: np.ndarray  # float64 [v, g], the probability of so many hits
    groups: list[Group]
    log_shapes: np.ndarray  # float64 [groups, groups], covariance of what hits leave open of them

    def posterior(self, group: Group) -> np.ndarray:
        """Return what is known of H by hits, float64 [v, g], which sums to 1 by row."""
        last = group.steps[-1]
        return self.likelihood * last.prior / last.chance[:, None]


def far_above(base: np.ndarray, hits: np.ndarray, sampled: int, far: int, alike: float = 1.0) -> FarAbove:
    """Return what `hits` int [q], above among `sampled` of `far` images, say of all of them.

    `base` int [q] are the images above for certain. There is a sample: 0 < `sampled` <= `far`. So many queries as are
    `alike` may at worst say the same, as captions of one image do.
    """
    values = _values(hits)
    grid = _grid(np.unique(hits), sampled, far)
    likelihood = _likelihood(values, grid, sampled, far)
    bases, of_base, sizes = np.unique(base, return_inverse=True, return_counts=True)
    of_group = np.unique(_groups(bases, sizes), return_inverse=True)[1]
    counts = np.zeros((len(bases), len(values)))
    value = np.searchsorted(values, hits)
    np.add.at(counts, (of_base, value), 1.0)
    shapes, left_open = _shapes(values, bases, counts, of_group)
    groups = []
    for label, shape in enumerate(shapes):
        own = np.flatnonzero(of_group == label)
        queries = np.flatnonzero(of_group[of_base] == label)
        weights = counts[own].sum(axis=0)
        start, *changes = _start(values, weights, shape, grid, sampled / far)
        of_queries = (queries, of_base[queries] - own[0], value[queries])
        groups.append(Group(bases[own], *of_queries, counts[own], _steps(weights, likelihood, start), *changes))
    return FarAbove(values, grid, likelihood, groups, left_open * alike)


def _steps(weights: np.ndarray, likelihood: np.ndarray, prior: np.ndarray) -> list[Step]:
    """Return the steps of EM from a prior on, the last one not taken; `weights` [v] are the queries by hits."""
    steps = []
    for _ in range(STEPS + 1):
        chance = np.maximum(likelihood @ prior, 1e-300)
        steps.append(Step(prior, chance, (weights / chance) @ likelihood / weights.sum()))
        prior = prior * steps[-1].factor
    return steps


def _groups(base: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Return a label of the group of each base, which so many queries have; no group has too few queries."""
    group = np.searchsorted(BASES, base, side="right") - 1
    merged = np.arange(len(BASES))
    queries = np.bincount(group, weights=sizes, minlength=len(BASES))
    for label in range(len(BASES) - 1, 0, -1):
        if queries[label] < FEWEST_QUERIES:
            queries[label - 1] += queries[label]
            merged[merged == label] = label - 1
    return merged[group]


def _values(hits: np.ndarray) -> np.ndarray:
    """Return the numbers of hits that are followed, with those that no query has."""
    last = max(int(hits.max()) + 1, WHOLE_HITS)
    steps = 2 + int(np.log(last / WHOLE_HITS) / np.log(APART))
    further = np.geomspace(WHOLE_HITS, last, steps).round().astype(np.int64)
    return np.unique(np.concatenate([np.arange(WHOLE_HITS), hits, further]))


def _grid(hits: np.ndarray, sampled: int, far: int) -> np.ndarray:
    """Return the numbers of far images above that have weight, with the likeliest for each number of hits."""
    likeliest = np.clip(np.round(hits * far / sampled).astype(np.int64), hits, far - sampled + hits)
    further = np.geomspace(min(WHOLE, far) + 1, far + 1, FURTHER).round().astype(np.int64) - 1
    return np.unique(np.concatenate([np.arange(min(WHOLE, far) + 1), further, likeliest]))


def _likelihood(hits: np.ndarray, grid: np.ndarray, sampled: int, far: int) -> np.ndarray:
    """Return the hypergeometric probabilities of the hits at the grid points, float64 [v, g]."""
    factorial = _log_factorials(far)
    x, h = hits[:, None], grid[None, :]
    possible = (h >= x) & (far - h >= sampled - x) & (x <= sampled)
    inside, outside, unsampled = (np.maximum(n, 0) for n in (sampled - x, h - x, far - h - sampled + x))
    log = factorial[h] - factorial[np.minimum(x, far)] - factorial[outside]
    log += factorial[far - h] - factorial[inside] - factorial[np.minimum(unsampled, far)]
    log -= factorial[far] - factorial[sampled] - factorial[far - sampled]
    return np.exp(np.where(possible, log, -np.inf))


@lru_cache(maxsize=2)
def _log_factorials(last: int) -> np.ndarray:
    """Return the logarithms of the factorials of 0 to `last`; a pool asks for the same ones again and again."""
    from scipy.special import gammaln

    return gammaln(np.arange(last + 1) + 1.0)


def _shapes(
    values: np.ndarray, bases: np.ndarray, counts: np.ndarray, of_group: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the shape of each of n groups, [n], and the covariance of what is left open of their logarithms, [n, n].

    `counts` [b, v] are the queries by base and hits. Hits that nobody has say nothing of shapes. Within a group means
    rise with the base as they do over all groups, or else that would be taken for spread.
    """
    from scipy.special import gammaln

    queries = np.bincount(of_group, weights=counts.sum(axis=1))
    hits = np.bincount(of_group, weights=counts @ values)
    log_base = np.log1p(bases)
    middles = np.bincount(of_group, weights=counts.sum(axis=1) * log_base) / queries
    seen = hits > 0
    rise = 0.0
    if seen.sum() > 1:
        rise = max(float(np.polyfit(middles[seen], np.log((hits / queries)[seen]), 1, w=np.sqrt(hits[seen]))[0]), 0.0)
    relative = np.exp(rise * log_base)
    usual = np.bincount(of_group, weights=counts.sum(axis=1) * relative) / queries
    means = (hits / queries / usual)[of_group] * relative
    base, value = np.nonzero(counts * seen[of_group][:, None])
    count, mean, x, group = counts[base, value], means[base], values[value].astype(np.float64), of_group[base]
    factor, power = (part.ravel() for part in np.meshgrid(np.log(FACTORS), POWERS))
    log_shapes = np.clip(factor[:, None] + power[:, None] * middles, *np.log(SHAPES))
    log = np.zeros(len(factor))
    for at, shapes in enumerate(np.exp(log_shapes)):
        k = shapes[group]
        log[at] = count @ (gammaln(x + k) - gammaln(k) - k * np.log1p(mean / k) + x * np.log(mean / (k + mean)))
    weights = np.exp(log - log.max())
    weights /= weights.sum()
    found = np.log(weights @ np.exp(log_shapes))
    off = log_shapes - found
    return np.exp(found), off.T * weights @ off


def _start(
    values: np.ndarray, weights: np.ndarray, shape: float, grid: np.ndarray, share: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the negative binomial prior of a group, and by how much it changes with its mean and log shape.

    As much as one query more is spread evenly over the logarithm of 1 + H, so that no number of images is ruled out.
    """
    from scipy.special import digamma, gammaln

    total = weights.sum()
    # Hits that never come may come once in five times as many queries.
    expected = max(float(weights @ values), 0.2) / total / share
    width = np.gradient(grid.astype(np.float64)) if len(grid) > 1 else np.ones(1)
    log = gammaln(grid + shape) - gammaln(shape) - gammaln(grid + 1.0) + grid * np.log(expected / (shape + expected))
    fitted, even = np.exp(log - log.max()) * width, width / (grid + 1.0)
    fitted *= total / (total + 1) / fitted.sum()
    by_mean = (grid / expected - (grid + shape) / (shape + expected)) / share
    by_shape = shape * (digamma(grid + shape) - (grid + shape) / (shape + expected) - np.log(shape + expected))
    changes = [fitted * (by - fitted @ by / fitted.sum()) for by in (by_mean, by_shape)]
    return fitted + even / even.sum() / (total + 1), *changes
