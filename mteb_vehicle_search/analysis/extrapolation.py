"""Expected scores with more distractors than were searched: a model, with its limits.

The model. A new distractor ranks above a query's relevant image with a probability p that belongs to the query; new
distractors are drawn like the old ones. Then d of N old distractors above is binomial (N, p). The queries share a
prior for p: weights on a grid of log odds from 2e-9 up to 0.73, fitted by maximum likelihood over all queries (the
EM algorithm for the nonparametric mixture of Laird, J. Am. Stat. Assoc. 73, 1978), started flat and stopped after
300 steps, which keeps it smooth. Each query's posterior over the grid weighs binomial (M - N, p) further distractors
above. A single beta prior was tried first: it missed by up to 0.12 where this misses by 0.01.

The limits. Whether a query that no distractor has beaten yet has p = 1e-7 or 0 leaves no trace in N distractors, and
decides its score in a corpus many times larger. So the interval spans two extreme priors that fit the ranks about as
well: one has no weight below a probability, which is raised as far as the likelihood allows; the other has a gap
between 0 and a probability raised likewise. "Allows" means that twice the log likelihood falls by at most 3.84 (the
95 % point of chi square with one degree of freedom) times the captions per image, since at worst the captions of an
image say the same. To each extreme is added the bootstrap over images (the prior refitted every time). That queries
share their distractors is not in it; `dependence.py` is for that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mteb_vehicle_search.analysis.uncertainty import Interval, too_few
from mteb_vehicle_search.errors import ResultsError
from mteb_vehicle_search.metrics import of_growth

GRID = 160
LOG_ODDS = (-20.0, 1.0)
STEPS = 300
REFIT_STEPS = 50
LEVEL = 0.95
# Up to so many expected further distractors above, all their numbers are summed over.
SUMMED = 200


class Evidence(NamedTuple):
    """What is known of the queries; u distinct (captioned above, distractors above) pairs."""

    captioned: np.ndarray  # int64 [u]
    above: np.ndarray  # int64 [u]
    which: np.ndarray  # int64 [q], the pair of each query
    total: int  # distractors that were searched
    likelihood: np.ndarray  # float64 [u, g], of each pair at each grid point, scaled to a maximum of 1
    grid: np.ndarray  # float64 [g], probabilities


def gather(captioned: np.ndarray, above: np.ndarray, total: int) -> Evidence:
    """Return the evidence of int [q] counts among `total` distractors."""
    from scipy.special import expit

    if total < 1:
        raise ResultsError("A corpus without distractors tells nothing of a larger one.")
    pairs, which = np.unique(np.stack([captioned, above]), axis=1, return_inverse=True)
    grid = expit(np.linspace(*LOG_ODDS, GRID))
    d = pairs[1][:, None].astype(np.float64)
    log = d * np.log(grid) + (total - d) * np.log1p(-grid)
    likelihood = np.exp(log - log.max(axis=1, keepdims=True))
    return Evidence(pairs[0], pairs[1], which.reshape(-1), total, likelihood, grid)


def fit_prior(
    evidence: Evidence,
    weights: np.ndarray,
    allowed: np.ndarray | None = None,
    start: np.ndarray | None = None,
    steps: int = STEPS,
) -> np.ndarray:
    """Return the pooled prior, float64 [g], after so many EM steps.

    `weights` float64 [u] is how often each pair counts, `allowed` bool [g] which grid points may have weight (all if
    None), `start` float64 [g] where to start (flat if None).
    """
    if start is None:
        start = np.ones(len(evidence.grid)) if allowed is None else allowed.astype(np.float64)
    prior = start / start.sum()
    likelihood, counts = _by_above(evidence, weights)
    for _ in range(steps):
        prior = prior * ((counts / np.maximum(likelihood @ prior, 1e-300)) @ likelihood) / counts.sum()
    return prior / prior.sum()


def _by_above(evidence: Evidence, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return likelihoods and counts of the distinct numbers of distractors above."""
    _, first, group = np.unique(evidence.above, return_index=True, return_inverse=True)
    counts = np.bincount(group.reshape(-1), weights=weights)
    return evidence.likelihood[first][counts > 0], counts[counts > 0]


def extreme_priors(
    evidence: Evidence, weights: np.ndarray, prior: np.ndarray, per_image: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the grid points that the lowest and the highest compatible prediction may use, bool [g] each.

    `weights` float64 [u] and `prior` float64 [g] are as in `fit_prior`; `per_image` are the captions per image.
    """
    likelihood, counts = _by_above(evidence, weights)

    def fit(mask: np.ndarray) -> float:
        found = fit_prior(evidence, weights, mask)
        return float(counts @ np.log(np.maximum(likelihood @ found, 1e-300)))

    least = float(counts @ np.log(likelihood @ prior)) - 3.84 / 2 * per_image
    points, masks = np.arange(len(prior)), []
    for zero in (False, True):
        good, bad = 1, len(prior) - 1
        while bad - good > 1:
            middle = (good + bad) // 2
            mask = (points >= middle) | (zero & (points == 0))
            good, bad = (middle, bad) if fit(mask) >= least else (good, middle)
        masks.append((points >= good) | (zero & (points == 0)))
    return masks[0], masks[1]


def scores_on_grid(metric: str, evidence: Evidence, size: int) -> np.ndarray:
    """Return the expected score of each pair at each grid point among `size` distractors, float64 [u, g].

    Without a last rank (`mrr`) the sum is exact where at most SUMMED further distractors are expected above; where more
    are, it is the second-order expansion about their mean, which is off by less than 1e-4 of the score.
    """
    from scipy.stats import binom

    followed = of_growth(metric)
    rest, rank = size - evidence.total, 1.0 + (evidence.captioned + evidence.above)[:, None]
    expected = rest * evidence.grid
    # Twelve standard deviations above the mean leave nothing.
    terms = followed.cut or 1 + min(rest, round(SUMMED + 12 * SUMMED**0.5))
    further = np.arange(terms)
    scores = followed.of_rank(rank + further[None, :]) @ binom.pmf(further[:, None], rest, evidence.grid[None, :])
    if followed.cut is None and (many := expected > SUMMED).any():
        middle, spread = rank + expected[many], expected[many] * (1 - evidence.grid[many])
        bend = followed.of_rank(middle + 1) - 2 * followed.of_rank(middle) + followed.of_rank(middle - 1)
        scores[:, many] = followed.of_rank(middle) + bend * spread / 2
    return scores


def extrapolate(
    metrics: Sequence[str],
    captioned: np.ndarray,
    above: np.ndarray,
    clusters: np.ndarray,
    total: int,
    sizes: list[int],
    *,
    resamples: int = 200,
    seed: int = 0,
) -> dict[str, list[Interval]]:
    """Return, for each metric, the expected score for each number of distractors in `sizes`, each at least `total`.

    The metrics are of `metrics.growing()`. `captioned` and `above` int [q] are the captioned images and
    the distractors, of the `total` searched, above each query's relevant image, which `clusters` [q] names. Images are
    resampled by bootstrap; 0 `resamples` give the two extremes only. Too few images have no interval.

    Raises:
        ResultsError: A size is below `total`, or there are no distractors.
    """
    if any(size < total for size in sizes):
        raise ResultsError(f"Extrapolation starts at the {total} distractors that were searched.")
    evidence = gather(captioned, above, total)
    tables = [scores_on_grid(metric, evidence, size) for metric in metrics for size in sizes]
    u = len(evidence.above)
    weights = np.bincount(evidence.which, minlength=u).astype(np.float64)
    prior = fit_prior(evidence, weights)
    middle = _means(evidence, tables, weights, prior)[0]
    labels, cluster = np.unique(clusters, return_inverse=True)
    masks = extreme_priors(evidence, weights, prior, len(cluster) / len(labels))
    starts = [fit_prior(evidence, weights, mask) for mask in masks]
    outer = [_means(evidence, tables, weights, *starts)]
    generator = np.random.default_rng(seed)
    for _ in range(resamples):
        times = np.bincount(generator.integers(0, len(labels), len(labels)), minlength=len(labels))
        drawn = np.bincount(evidence.which, weights=times[cluster].astype(np.float64), minlength=u)
        refitted = [fit_prior(evidence, drawn, start=start, steps=REFIT_STEPS) for start in starts]
        outer.append(_means(evidence, tables, drawn, *refitted))
    bottom, top = np.quantile(outer, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    low, high = bottom.min(axis=0), top.max(axis=0)
    intervals = [Interval(float(m), float(min(m, lo)), float(max(m, hi))) for m, lo, hi in zip(middle, low, high)]
    if too_few(len(labels)):
        intervals = [Interval(interval.mean, None, None) for interval in intervals]
    return {metric: intervals[i * len(sizes) : (i + 1) * len(sizes)] for i, metric in enumerate(metrics)}


def _means(evidence: Evidence, tables: list[np.ndarray], weights: np.ndarray, *priors: np.ndarray) -> np.ndarray:
    """Return the mean score by prior and table, float64 [priors, tables]."""
    # Pairs that already score nothing under every metric stay at nothing.
    live = (weights > 0) & np.any([table[:, 0] > 0 for table in tables], axis=0)
    tables = [table[live] for table in tables]
    result = []
    for prior in priors:
        joint = evidence.likelihood[live] * prior
        joint *= (weights[live] / np.maximum(joint.sum(axis=1), 1e-300))[:, None]
        result.append([np.vdot(joint, table) / weights.sum() for table in tables])
    return np.array(result)
