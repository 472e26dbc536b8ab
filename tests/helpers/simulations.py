"""The simulations that check the methods; the tests run small ones, benchmarks/analysis.py full ones."""

from __future__ import annotations

import numpy as np
from scipy.special import expit
from scipy.stats import norm

from mteb_vehicle_search.analysis.extrapolation import extrapolate
from mteb_vehicle_search.analysis.uncertainty import cluster_sums, sign_flip_p_values
from mteb_vehicle_search.metrics import of_growth


def clustered_scores(generator: np.random.Generator, images: int, captions: int) -> tuple[np.ndarray, np.ndarray]:
    """Return scores between 0 and 1 whose expectation over images is 1/2, and the image of each."""
    clusters = np.repeat(np.arange(images), captions)
    shared = np.repeat(generator.normal(0, 1.5, images), captions)
    return expit(shared + generator.normal(0, 1.0, images * captions)), clusters


def type_1_error(datasets: int, images: int, captions: int, flips: int, seed: int) -> tuple[float, float]:
    """Return how often two equally good models are told apart at 5 %: clustered, and by queries."""
    generator, hits = np.random.default_rng(seed), np.zeros(2)
    for number in range(datasets):
        a, clusters = clustered_scores(generator, images, captions)
        b, _ = clustered_scores(generator, images, captions)
        for kind, labels in enumerate((clusters, np.arange(len(a)))):
            sums = cluster_sums(a - b, labels).sums
            hits[kind] += sign_flip_p_values(sums, flips=flips, seed=number)[0] < 0.05
    return hits[0] / datasets, hits[1] / datasets


def rank_distributions(generator: np.random.Generator, images: int, captions: int) -> dict[str, np.ndarray]:
    """Return, by kind, each query's chance that a random distractor outranks its relevant image."""
    q = images * captions

    def shared(spread: float) -> np.ndarray:
        return np.repeat(generator.normal(0, spread, images), captions)

    return {
        "beta": generator.beta(0.25, 20, q),
        "log odds normal": expit(-8 + shared(2.0) + generator.normal(0, 2.0, q)),
        "normal similarities": norm.sf(3.2 + shared(0.7) + generator.normal(0, 0.7, q)),
        "half never beaten": np.where(generator.random(q) < 0.5, 0.0, 10 ** generator.uniform(-6, -1, q)),
        "two kinds of queries": np.where(generator.random(q) < 0.6, 2e-6, 1e-3),
    }


def extrapolations(
    images: int, captions: int, total: int, seed: int, share: float = 0.1, metric: str = "ndcg_at_10"
) -> dict[str, tuple[float, float, float, float]]:
    """Return, by kind, what a share of the distractors predicts for all (mean, low, high), and the truth."""
    generator, found = np.random.default_rng(seed), {}
    clusters = np.repeat(np.arange(images), captions)
    for kind, p in rank_distributions(generator, images, captions).items():
        captioned = generator.binomial(images - 1, np.minimum(2 * p, 0.9))
        above = generator.binomial(total, p)
        seen = round(share * total)
        kept = generator.hypergeometric(above, total - above, seen)
        predicted = extrapolate([metric], captioned, kept, clusters, seen, [total], resamples=50, seed=seed)
        truth = float(of_growth(metric).of_rank(1.0 + captioned + above).mean())
        found[kind] = (*predicted[metric][0], truth)
    return found


def far_extrapolations(
    images: int, captions: int, total: int, sizes: list[int], seed: int
) -> dict[str, list[tuple[float, float, float, float]]]:
    """Return, by kind and size beyond `total`, what is predicted (mean, low, high) and the truth."""
    generator, found = np.random.default_rng(seed), {}
    clusters = np.repeat(np.arange(images), captions)
    for kind, p in rank_distributions(generator, images, captions).items():
        captioned = generator.binomial(images - 1, np.minimum(2 * p, 0.9))
        above = generator.binomial(total, p)
        predicted = extrapolate(["ndcg_at_10"], captioned, above, clusters, total, sizes, resamples=50, seed=seed)
        truths = [
            float(of_growth("ndcg_at_10").of_rank(1.0 + captioned + above + generator.binomial(n - total, p)).mean())
            for n in sizes
        ]
        found[kind] = [(*interval, truth) for interval, truth in zip(predicted["ndcg_at_10"], truths)]
    return found
