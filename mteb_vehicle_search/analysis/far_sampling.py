"""How far a mean score in a pool may be off for what was sampled: its variance, and limits that count hits.

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
    """The squared error to be expected of a mean, and what the far images that are above have to do with it."""

    variance: float
    degrees: float  # of freedom of the variance
    without: float  # the mean, if no far image were above any query
    hit: float  # by how much it changes with a hit; where hits differ, half of the most
    unsampled: float  # share of the far images that are not in the corpus

    def limits(self, mean: float, level: float) -> tuple[float, float]:
        """Return the means from which the estimate differs by no more than chance has it.

        What far images do to the mean is a sum of few things that weigh differently: a gamma distribution (Fay and
        Feuer, Stat. Med. 16, 1997). Half a hit is added to those seen, as Jeffreys' prior has it, which holds what it
        claims best of all where few are seen (Brown, Cai and DasGupta, Stat. Sin. 13, 2003); where all of them do no
        more than that, the limit on that side is that none is above. What leaves the variance open widens it as
        Student's quantiles are wider than those of the normal distribution.
        """
        from scipy.special import gammaincinv, ndtri, stdtrit

        upper, hit = (1 + level) / 2, abs(self.hit)
        wider = float(stdtrit(min(self.degrees, 1e9), upper) / ndtri(upper)) ** 2
        lost = abs(mean - self.without)
        expected, variance = lost + hit / 2, wider * self.variance + self.unsampled * hit**2 / 2
        if not expected or not variance:
            return mean, mean
        fewest, most = gammaincinv(expected**2 / variance, [1 - upper, upper]) * variance / expected
        ends = [self.without + np.sign(self.hit) * end for end in (fewest if lost > hit else 0.0, most)]
        return min(ends), max(ends)


class Measured(NamedTuple):
    """A score of the queries."""

    values: np.ndarray  # float64 [q], the expectations
    error: SamplingError  # of their mean


class _Part(NamedTuple):
    """Sums over the queries of a group, of m scores."""

    variance: np.ndarray  # float64 [m]
    squared_bias: np.ndarray  # float64 [m]
    by_shape: np.ndarray  # float64 [m], by how much the sum changes with the logarithm of the shape
    together: np.ndarray  # float64 [m, r], by how much the sum falls without each replicate
    alone: np.ndarray  # float64 [m], the squares of that, query by query


def measured(above: FarAbove, hits: np.ndarray, share: float, scores: Sequence[Score]) -> list[Measured]:
    """Return what queries score, with the error of the mean, for each of `scores`, which give what ranks are worth.

    `hits` int [q, r] are far images above, by replicate of the sample, `share` what of the far images was sampled. No
    score is greater for a greater rank. Scores that are 0 from about the same rank on are quicker together.
    """
    values, parts, numbers = np.zeros((len(scores), len(hits))), [], []
    without, most = np.zeros(len(scores)), np.zeros(len(scores))
    chances = _chances(above)
    for number, group in enumerate(above.groups):
        rank = 1.0 + group.bases[:, None] + above.grid[None, :]
        worth = np.stack([score(rank) for score in scores])
        without += (worth[:, :, 0] @ group.counts.sum(axis=1)) / len(hits)
        most = np.maximum(most, (-np.diff(worth) / np.diff(above.grid)).max(axis=(1, 2)))
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
    log_shapes, hit = above.log_shapes[np.ix_(numbers, numbers)], -most / (2 * share * len(hits))
    found = []
    for m, of_score in enumerate(values):
        own = _Part._make(np.array([column[m] for column in columns]) for columns in zip(*parts)) if parts else None
        error = _error(own, log_shapes, len(hits), share) if own else (0.0, np.inf)
        found.append(Measured(of_score, SamplingError(*error, float(without[m]), float(hit[m]), 1 - share)))
    return found


def _error(parts: _Part, log_shapes: np.ndarray, queries: int, share: float) -> tuple[float, float]:
    """Return the variance of a mean and its degrees of freedom (Satterthwaite, Biometrics Bull. 2, 1946), by group."""
    own, bias, by_shape, together, alone = parts
    lost = together.sum(axis=0)
    scale = len(lost) / max(len(lost) - 1, 1) * (1 - share)
    replicated = scale * float(((lost - lost.mean()) ** 2).sum())
    shared = max(replicated - scale * float(alone.sum()), 0.0)
    variance = float(own.sum() + bias.sum() + by_shape @ log_shapes @ by_shape) + shared
    degrees = (len(lost) - 1) * max(variance / replicated, 1.0) ** 2 if shared and replicated else np.inf
    return variance / queries**2, degrees


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
    weights = group.counts @ posterior
    own, bias = (np.einsum("bg,mbg->m", weights, one) for one in (variance, (usual - scores) ** 2))
    together, alone = _without_replicates(above.values, group, added, hits[group.queries])
    return expected, _Part(own, bias, by_shape, together, alone)


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
