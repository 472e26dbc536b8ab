"""Scores of simulated images with a truth that is known exactly, and how often an interval covers it.

The rank of a caption's image is the whole part of exp(m + 2 z), at least 1, with z standard normal and correlated
within the image. So every metric has its exact mean whatever the correlation is. Beside these, R@1 with a chance by
image that is beta distributed: with much correlation an image is all right or all wrong. Arrays are [datasets, images,
captions]; `present` says which captions there are.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtr

from mteb_vehicle_search.analysis.limits import Limits
from mteb_vehicle_search.metrics import METRICS

SPREAD = 2.0
CUT = 10


class World(NamedTuple):
    """How scores come about: the kind ("ranks" or "beta"), the metric, and the correlation within an image."""

    kind: str
    metric: str
    correlation: float


WORLDS = (
    *(World("beta", "recall_at_1", rho) for rho in (0.0, 0.1, 0.3, 0.6, 0.9)),
    *(
        World("ranks", metric, rho)
        for metric in ("recall_at_1", "recall_at_10", "ndcg_at_10", "mrr_at_10")
        for rho in (0.0, 0.4, 0.8)
    ),
)


def expected(metric: str, middle: np.ndarray | float, spread: float = SPREAD) -> np.ndarray:
    """Return the exact mean of a metric cut at 10 where log ranks are normal (middle, spread)."""
    ends = np.log(np.arange(2, CUT + 2))
    below = ndtr((ends - np.asarray(middle)[..., None]) / spread)
    return np.diff(below, axis=-1, prepend=0.0) @ METRICS[metric].of_rank(np.arange(1.0, CUT + 1))


def middle_of(metric: str, score: float) -> float:
    """Return the middle of the log ranks with which a metric has the mean `score`."""
    return float(brentq(lambda middle: float(expected(metric, middle)) - score, -60, 60))


def latent(generator: np.random.Generator, shape: tuple[int, int, int], correlation: float) -> np.ndarray:
    """Return standard normal numbers that are correlated within images."""
    of_image = generator.standard_normal((*shape[:2], 1))
    return np.sqrt(correlation) * of_image + np.sqrt(1 - correlation) * generator.standard_normal(shape)


def of_log_ranks(metric: str, log_ranks: np.ndarray) -> np.ndarray:
    """Return the scores of ranks whose logarithms are given."""
    gains = np.append(METRICS[metric].of_rank(np.arange(1.0, CUT + 1)), 0.0)
    ranks = np.floor(np.exp(np.clip(log_ranks, 0.0, 5.0))).astype(np.int64)
    return gains[np.minimum(ranks, CUT + 1) - 1]


def scores(generator: np.random.Generator, shape: tuple[int, int, int], world: World, score: float) -> np.ndarray:
    """Return scores whose expectation is `score`."""
    if world.kind == "ranks":
        log_ranks = middle_of(world.metric, score) + SPREAD * latent(generator, shape, world.correlation)
        return of_log_ranks(world.metric, log_ranks)
    if world.correlation == 0:
        return (generator.random(shape) < score).astype(np.float64)
    total = (1 - world.correlation) / world.correlation
    chances = generator.beta(score * total, (1 - score) * total, (*shape[:2], 1))
    return (generator.random(shape) < chances).astype(np.float64)


def present(generator: np.random.Generator, shape: tuple[int, int, int], even: bool) -> np.ndarray:
    """Return which captions there are: all, or any number from one for each image."""
    counts = shape[2] if even else generator.integers(1, shape[2] + 1, (*shape[:2], 1))
    return np.broadcast_to(np.arange(shape[2]) < counts, shape)


class Pair(NamedTuple):
    """How the second model differs from the first: in all images a little, or wholly in a share of them.

    `alike` is the correlation of their log ranks; with a `share`, models are the same but in that share of the images,
    drawn at random, where they have nothing in common.
    """

    a: float
    b: float
    alike: float = 0.0
    share: float | None = None


def paired_scores(
    generator: np.random.Generator, shape: tuple[int, int, int], world: World, pair: Pair
) -> tuple[np.ndarray, np.ndarray, float]:
    """Return the scores of two models on ranks, and the true difference of their means."""
    first, second = (middle_of(world.metric, score) for score in (pair.a, pair.b))
    own = [latent(generator, shape, world.correlation) for _ in range(2)]
    if pair.share is None:
        common = latent(generator, shape, world.correlation)
        own = [np.sqrt(pair.alike) * common + np.sqrt(1 - pair.alike) * each for each in own]
    a, b = (of_log_ranks(world.metric, m + SPREAD * each) for m, each in zip((first, second), own))
    if pair.share is None:
        return a, b, pair.a - pair.b
    differs = generator.random((*shape[:2], 1)) < pair.share
    return a, np.where(differs, b, a), pair.share * (pair.a - pair.b)


def stratum(
    generator: np.random.Generator, shape: tuple[int, int, int], world: World, score: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return scores on ranks, and which captions are in a stratum that hard images are more often in.

    Those in the stratum have the expectation `score`; each image has at least one.
    """
    shared, own = np.sqrt(world.correlation), np.sqrt(1 - world.correlation)

    def chance(image: np.ndarray) -> np.ndarray:
        return ndtr(image - 2.0)

    grid = np.linspace(-9, 9, 2_001)
    weight = np.exp(-(grid**2) / 2) * chance(grid)
    weight /= weight.sum()

    def missing(middle: float) -> float:
        return float(expected(world.metric, middle + SPREAD * shared * grid, SPREAD * own) @ weight) - score

    middle, wanted = float(brentq(missing, -60, 60)), shape[0] * shape[1]
    kept, inside = [], []
    while sum(map(len, kept)) < wanted:
        image = generator.standard_normal((wanted, 1))
        there = generator.random((wanted, shape[2])) < chance(image)
        some = there.any(axis=1)
        kept.append((shared * image + own * generator.standard_normal((wanted, shape[2])))[some])
        inside.append(there[some])
    numbers, there = (np.concatenate(each)[:wanted].reshape(shape) for each in (kept, inside))
    return of_log_ranks(world.metric, middle + SPREAD * numbers), there


def by_image(values: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Return sums by image with a column for each data set, [images, datasets]."""
    return np.ascontiguousarray((values * there).sum(axis=2).T, dtype=np.float64)


def covered(limits: Limits, truth: float) -> float:
    """Return the share of the intervals that hold the truth."""
    return float(((limits.low <= truth + 1e-12) & (truth - 1e-12 <= limits.high)).mean())


ScoreMethod = Callable[[np.ndarray, np.ndarray], Limits]


def percentile_bootstrap(sums: np.ndarray, counts: np.ndarray, resamples: int = 500) -> Limits:
    """Return percentile bootstrap limits; all data sets share their resamples of images."""
    times = times_drawn(len(sums), resamples)
    means = np.ascontiguousarray(((times @ sums) / (times @ counts)).T)
    return Limits(sums.sum(axis=0) / counts.sum(axis=0), *np.quantile(means, [0.025, 0.975], axis=1))


@functools.cache
def times_drawn(images: int, resamples: int = 500) -> np.ndarray:
    """Return how often each image is drawn into each bootstrap resample, float64 [resamples, images]."""
    return np.random.default_rng(0).multinomial(images, np.full(images, 1 / images), resamples).astype(np.float64)
