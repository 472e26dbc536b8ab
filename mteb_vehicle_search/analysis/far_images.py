"""How many of the far images of a pool rank above an answer, from a random sample of them: query by query.

Of N far images n are in the corpus, drawn without replacement, and x of those rank above a query's relevant image. If H
of all N do, x is hypergeometric (N, H, n). Queries share a prior for H with those that as many images beat for certain
(captioned and near ones), since who has few of them above has few far ones. Each group's prior starts as the negative
binomial distribution of the same mean and spread (thinned at random it stays one, with the mean thinned; Puig and
Valero, J. Am. Stat. Assoc. 101, 2006), and takes 20 steps of EM towards the nonparametric maximum likelihood (Laird, J.
Am. Stat. Assoc. 73, 1978). One prior for all queries overstates how often far images beat those that nothing near
does; more steps spread more, and are less biased in some figures only (README.md).

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
# Of the start, what is spread evenly over the logarithm of 1 + H, so that no number of images is ruled out.
SPREAD = 0.1
# All numbers up to this are points of the grid, then so many to the end.
WHOLE, FURTHER = 100, 120


class FarAbove(NamedTuple):
    """What is known of H for the u distinct (base, x) of the queries, at g grid points: one of w distributions."""

    base: np.ndarray  # int64 [u], images above for certain
    which: np.ndarray  # int64 [q], the pair of each query
    grid: np.ndarray  # int64 [g], numbers of far images above
    posterior: np.ndarray  # float64 [w, g], sums to 1 by row
    row: np.ndarray  # int64 [u], the posterior of each pair


def far_above(base: np.ndarray, hits: np.ndarray, sampled: int, far: int) -> FarAbove:
    """Return what `hits` int [q], above among `sampled` of `far` images, say of all of them.

    `base` int [q] are the images above for certain. There is a sample: 0 < `sampled` <= `far`.
    """
    pairs, which = np.unique(base.astype(np.int64) * (sampled + 1) + hits, return_inverse=True)
    base, hits = np.divmod(pairs, sampled + 1)
    values, of_value = np.unique(hits, return_inverse=True)
    grid = _grid(values, sampled, far)
    likelihood = _likelihood(values, grid, sampled, far)
    counts = np.bincount(which).astype(np.float64)
    _, group = np.unique(_groups(base, counts), return_inverse=True)
    weights = np.zeros((int(group.max()) + 1, len(values)))
    np.add.at(weights, (group, of_value), counts)
    prior = np.stack([_prior(values, of_group, likelihood, grid, sampled / far) for of_group in weights])
    distinct, row = np.unique(group * len(values) + of_value, return_inverse=True)
    posterior = likelihood[distinct % len(values)]
    posterior *= prior[distinct // len(values)]
    posterior /= posterior.sum(axis=1, keepdims=True)
    return FarAbove(base, which, grid, posterior, row)


def _prior(hits: np.ndarray, counts: np.ndarray, likelihood: np.ndarray, grid: np.ndarray, share: float) -> np.ndarray:
    """Return the prior of a group of queries at the grid points; `counts` [v] are its queries with so many `hits`."""
    seen = counts > 0
    hits, counts, likelihood = hits[seen], counts[seen], likelihood[seen]
    prior = _start(hits, counts, grid, share)
    for _ in range(STEPS):
        prior = prior * ((counts / np.maximum(likelihood @ prior, 1e-300)) @ likelihood) / counts.sum()
    return prior


def _groups(base: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return a label of the group of each pair, of which the queries have `counts`; no group has too few queries."""
    group = np.searchsorted(BASES, base, side="right") - 1
    merged = np.arange(len(BASES))
    sizes = np.bincount(group, weights=counts, minlength=len(BASES))
    for label in range(len(BASES) - 1, 0, -1):
        if sizes[label] < FEWEST_QUERIES:
            sizes[label - 1] += sizes[label]
            merged[merged == label] = label - 1
    return merged[group]


def _grid(hits: np.ndarray, sampled: int, far: int) -> np.ndarray:
    """Return the numbers of far images above that have weight, with the likeliest for each number of hits."""
    likeliest = np.clip(np.round(hits * far / sampled).astype(np.int64), hits, far - sampled + hits)
    further = np.geomspace(min(WHOLE, far) + 1, far + 1, FURTHER).round().astype(np.int64) - 1
    return np.unique(np.concatenate([np.arange(min(WHOLE, far) + 1), further, likeliest]))


def _likelihood(hits: np.ndarray, grid: np.ndarray, sampled: int, far: int) -> np.ndarray:
    """Return hypergeometric likelihoods of the hits at the grid points, scaled to a maximum of 1, float64 [u, g]."""
    factorial = _log_factorials(far)
    x, h = hits[:, None], grid[None, :]
    possible = (h >= x) & (far - h >= sampled - x)
    outside, unsampled = np.maximum(h - x, 0), np.maximum(far - h - sampled + x, 0)
    log = factorial[h] - factorial[x] - factorial[outside]
    log += factorial[far - h] - factorial[sampled - x] - factorial[unsampled]
    log = np.where(possible, log, -np.inf)
    return np.exp(log - log.max(axis=1, keepdims=True))


@lru_cache(maxsize=2)
def _log_factorials(last: int) -> np.ndarray:
    """Return the logarithms of the factorials of 0 to `last`; a pool asks for the same ones again and again."""
    from scipy.special import gammaln

    return gammaln(np.arange(last + 1) + 1.0)


def _start(hits: np.ndarray, counts: np.ndarray, grid: np.ndarray, share: float) -> np.ndarray:
    """Return the negative binomial prior of the same mean and variance, with a little everywhere, float64 [g]."""
    from scipy.special import gammaln

    total = counts.sum()
    mean = float(counts @ hits) / total
    excess = float(counts @ (hits - mean) ** 2) / total - mean
    # Hits that never come may come once in five times as many queries; hits as even as by chance are nearly Poisson.
    shape = float(np.clip(mean**2 / excess, 0.02, 50.0)) if mean > 0 and excess > 0.02 * mean else 50.0
    expected = max(mean, 0.2 / total) / share
    width = np.gradient(grid.astype(np.float64)) if len(grid) > 1 else np.ones(1)
    log = gammaln(grid + shape) - gammaln(shape) - gammaln(grid + 1.0)
    log += shape * np.log(shape / (shape + expected)) + grid * np.log(expected / (shape + expected))
    fitted, even = np.exp(log) * width, width / (grid + 1.0)
    return (1 - SPREAD) * fitted / max(fitted.sum(), 1e-300) + SPREAD * even / even.sum()
