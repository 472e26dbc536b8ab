"""How far a mean score in a pool may be off for what was sampled: variance, and how that changes with the score.

A figure is a mean over queries of a score expected of each. What a query adds to it, by its hits, is its expectation,
and what its hits do to the prior that the queries of its group share: the derivative of the steps of EM, carried
backwards. Given how many far images H are above a query, hits are hypergeometric, so that variance and bias of what it
adds are sums, and their expectations are over its posterior for H. (The jackknife over replicates, which was here
before, is too large for scores that are not linear in the hits, by up to half; Efron and Stein, Ann. Stat. 9, 1981.)
What queries have to do with each other, as they share far images, is the jackknife's sum less that of each query by
itself; it is not below 0, since images that are above two queries move both alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from mteb_vehicle_search.analysis.far_images import WHOLE_HITS, FarAbove, Group

Score = Callable[[np.ndarray], np.ndarray]


class SamplingError(NamedTuple):
    """The squared error to be expected of a mean, and how it would be for another one; all but `slope` at least 0."""

    variance: float
    replicated: float  # the jackknife's variance, which has as many degrees of freedom as replicates less one
    slope: float  # by how much the variance grows with the mean

    def limits(self, mean: float, replicates: int, level: float) -> tuple[float, float]:
        """Return the means from which the estimate differs by no more than chance has it.

        The error is that which would be there if such a mean were the true one (Wilson, J. Am. Stat. Assoc. 22, 1927):
        where few far images are above, few are sampled by chance, and the variance seems as low as the score high.
        Quantiles are Student's; the degrees of freedom are by Satterthwaite (Biometrics Bull. 2, 1946). Towards means
        of fewer hits half a hit is spared, which is what the slope stands for, since hits are whole (Yates, J. R. Stat.
        Soc. Suppl. 1, 1934): without, one that comes by chance excludes that next to none are above.
        """
        from scipy.special import stdtrit

        ratio = max(self.variance / self.replicated, 1.0) if self.replicated else np.inf
        squared = float(stdtrit(min((replicates - 1) * ratio**2, 1e9), (1 + level) / 2)) ** 2
        skew = abs(self.slope)
        middle, spared = squared * skew / 2, min(skew / 2, self.variance**0.5)
        more = middle + float(np.sqrt(middle**2 + squared * self.variance))
        fewer = spared - middle + float(np.sqrt(middle**2 + squared * max(self.variance - skew**2 / 2, 0.0)))
        return (mean - more, mean + fewer) if self.slope < 0 else (mean - fewer, mean + more)


class Measured(NamedTuple):
    """A score of the queries."""

    values: np.ndarray  # float64 [q], the expectations
    error: SamplingError  # of their mean


class _Part(NamedTuple):
    """Sums over the queries of a group, of m scores."""

    variance: np.ndarray  # float64 [m]
    squared_bias: np.ndarray  # float64 [m]
    covariance: np.ndarray  # float64 [m], of what queries add to the mean with what they add to the variance
    by_shape: np.ndarray  # float64 [m], by how much the sum changes with the logarithm of the shape
    together: np.ndarray  # float64 [m, r], by how much the sum falls without each replicate
    alone: np.ndarray  # float64 [m], the squares of that, query by query


def measured(above: FarAbove, hits: np.ndarray, share: float, scores: Sequence[Score]) -> list[Measured]:
    """Return what queries score, with the error of the mean, for each of `scores`, which give what ranks are worth.

    `hits` int [q, r] are far images above, by replicate of the sample, `share` what of the far images was sampled. No
    score is greater for a greater rank. Scores that are 0 from about the same rank on are quicker together.
    """
    values, parts, numbers = np.zeros((len(scores), len(hits))), [], []
    chances = _chances(above)
    for number, group in enumerate(above.groups):
        rank = 1.0 + group.bases[:, None] + above.grid[None, :]
        worth = np.stack([score(rank) for score in scores])
        live = int(worth[:, :, 0].any(axis=0).sum())
        if not live:
            continue
        # What is worth nothing whatever is far above is one row.
        counts = np.concatenate([group.counts[:live], group.counts[live:].sum(axis=0, keepdims=True)])
        group = group._replace(base=np.minimum(group.base, live), counts=counts)
        worth = np.concatenate([worth[:, :live], np.zeros((len(scores), 1, len(above.grid)))], axis=1)
        expected, part = _of_group(above, group, worth, chances, hits)
        values[:, group.queries] = expected[:, group.base, group.value]
        parts.append(part)
        numbers.append(number)
    if not parts:
        return [Measured(of_score, SamplingError(0.0, 0.0, 0.0)) for of_score in values]
    log_shapes = above.log_shapes[np.ix_(numbers, numbers)]
    whole = _Part._make(np.array(column) for column in zip(*parts))
    errors = [
        _error(_Part._make(column[:, m] for column in whole), log_shapes, len(hits), share) for m in range(len(scores))
    ]
    return [Measured(*one) for one in zip(values, errors)]


def _error(parts: _Part, log_shapes: np.ndarray, queries: int, share: float) -> SamplingError:
    """Return the error of a mean, of what is said of its sum by group."""
    own, bias, covariance, by_shape, together, alone = parts
    lost = together.sum(axis=0)
    scale = len(lost) / max(len(lost) - 1, 1) * (1 - share)
    replicated = scale * float(((lost - lost.mean()) ** 2).sum())
    shared = max(replicated - scale * float(alone.sum()), 0.0)
    variance = float(own.sum() + bias.sum() + by_shape @ log_shapes @ by_shape) + shared
    slope = float(covariance.sum() / own.sum()) / queries if own.any() else 0.0
    return SamplingError(variance / queries**2, replicated / queries**2, slope)


def _chances(above: FarAbove) -> np.ndarray:
    """Return the probability of hits as near to each of the values as to no other, float64 [v, g]; columns sum to 1."""
    width = np.gradient(above.values.astype(np.float64))
    width[: WHOLE_HITS - 1] = 1.0
    chances = above.likelihood * width[:, None]
    return chances / np.maximum(chances.sum(axis=0), 1e-300)


def _of_group(
    above: FarAbove, group: Group, scores: np.ndarray, chances: np.ndarray, hits: np.ndarray
) -> tuple[np.ndarray, _Part]:
    """Return the expected scores [m, b, v] of a group, of `scores` [m, b, g], and its part of the error."""
    posterior = above.posterior(group)
    expected, added, by_shape = _added(above, group, posterior, scores)
    usual = added @ chances
    variance = np.maximum(added**2 @ chances - usual**2, 0.0)
    _, to_variance, _ = _added(above, group, posterior, variance)
    covariance = (added * to_variance) @ chances - usual * (to_variance @ chances)
    weights = group.counts @ posterior
    own, bias, with_variance = (
        np.einsum("bg,mbg->m", weights, one) for one in (variance, (usual - scores) ** 2, covariance)
    )
    together, alone = _without_replicates(above.values, group, added, hits[group.queries])
    return expected, _Part(own, bias, with_variance, by_shape, together, alone)


def _without_replicates(
    values: np.ndarray, group: Group, added: np.ndarray, hits: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return by how much sums fall without each replicate, [m, r], and the squares of that query by query, [m]."""
    query, replicate = np.nonzero(hits)
    left = hits.sum(axis=1)[query] - hits[query, replicate]
    base = group.base[query]
    lost = added[:, base, group.value[query]] - _between(values, added, base, left)
    together = np.stack([np.bincount(replicate, weights=one, minlength=hits.shape[1]) for one in lost])
    each = np.stack([np.bincount(query, weights=one, minlength=1) for one in lost])
    return together, (lost**2).sum(axis=1) - (each**2).sum(axis=1) / hits.shape[1]


def _added(
    above: FarAbove, group: Group, posterior: np.ndarray, scores: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the expected scores, what a query with such a base and such hits adds to their sum, [m, b, v] each.

    The third, [m], is by how much the sum changes with the logarithm of the shape of the first prior.
    """
    expected = scores @ posterior.T
    weights = group.counts.sum(axis=0)
    seen, total, through = weights > 0, weights.sum(), 0.0
    likelihood, of_seen, weights = above.likelihood, above.likelihood[seen], weights[seen]
    counts = group.counts[:, seen]
    off = counts.T @ scores - (counts * expected[:, :, seen]).sum(axis=1)[:, :, None]
    gradient = (of_seen * off / group.steps[-1].chance[seen, None]).sum(axis=1)
    for step in group.steps[-2::-1]:
        moved = (gradient * step.prior) @ likelihood.T / step.chance
        through += moved / total
        gradient = gradient * step.factor - (weights / step.chance[seen] * moved[:, seen]) @ of_seen / total
    mean = float(weights @ above.values[seen]) / total
    through += (gradient @ group.by_mean)[:, None] * (above.values - mean) / total
    return expected, expected + through[:, None, :], gradient @ group.by_shape


def _between(values: np.ndarray, tables: np.ndarray, rows: np.ndarray, hits: np.ndarray) -> np.ndarray:
    """Return the entries of tables [m, b, v] at rows and hits, also at those that are between two of the values."""
    after = np.searchsorted(values, hits)
    before = np.where(values[after] == hits, after, after - 1)
    part = (hits - values[before]) / np.maximum(values[after] - values[before], 1)
    return (1 - part) * tables[:, rows, before] + part * tables[:, rows, after]
