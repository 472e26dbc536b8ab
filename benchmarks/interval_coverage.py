"""How often 95 % intervals cover the truth, by simulation: python benchmarks/interval_coverage.py (about ten minutes).

Prints, beside the percentile bootstrap that came before (and, with --rivals, other ways to resample), the coverage for
one score, for a paired difference, within strata, and by number of images; and the time for 10,725 queries. The README
in mteb_vehicle_search/analysis quotes it.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from scipy.special import ndtr, ndtri

from mteb_vehicle_search.analysis import limits, uncertainty
from mteb_vehicle_search.analysis.limits import Limits, difference_limits, score_limits

# The simulations are those of the tests.
sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "helpers"))
from simulated_scores import (
    WORLDS,
    Pair,
    ScoreMethod,
    World,
    by_image,
    covered,
    paired_scores,
    percentile_bootstrap,
    present,
    scores,
    stratum,
    times_drawn,
)
from simulations import clustered_scores

SCORES = (0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.2, 0.5, 0.8, 0.95, 0.98, 0.998)
PAIRS = {
    "0.5 and 0.5": Pair(0.5, 0.5, 0.5),
    "0.6 and 0.5": Pair(0.6, 0.5, 0.7),
    "0.90 and 0.88, alike": Pair(0.9, 0.88, 0.9),
    "0.05 and 0.04, alike": Pair(0.05, 0.04, 0.7),
    "0.5 and 0.5, nearly the same": Pair(0.5, 0.5, 0.99),
    "0.97 and 0.99, nearly the same": Pair(0.97, 0.99, 0.98),
    "0.990 and 0.985": Pair(0.99, 0.985, 0.8),
    "0.003 and 0.002": Pair(0.003, 0.002, 0.5),
    "0.6 and 0.5 on 10 % of the images": Pair(0.6, 0.5, share=0.1),
    "0.95 and 0.5 on 5 % of the images": Pair(0.95, 0.5, share=0.05),
    "0.6 and 0.4 on 2 % of the images": Pair(0.6, 0.4, share=0.02),
    "0.95 and 0.5 on 1 % of the images": Pair(0.95, 0.5, share=0.01),
}


class Resampled:
    """The resamples of images, shared by all data sets: means and standard errors, [resamples, datasets]."""

    def __init__(self, sums: np.ndarray, counts: np.ndarray, times: np.ndarray) -> None:
        c = len(sums)
        self.mean = sums.sum(axis=0) / counts.sum(axis=0)
        self.deviations = (sums - self.mean * counts) * c / counts.sum(axis=0)
        self.error = np.sqrt((self.deviations**2).sum(axis=0) / (c * (c - 1)))
        total = times @ counts
        self.means = (times @ sums) / total
        squares = times @ sums**2 - 2 * self.means * (times @ (sums * counts)) + self.means**2 * (times @ counts**2)
        self.errors = np.sqrt(np.maximum(squares, 0) / (c * (c - 1))) * c / total


def bca(sums: np.ndarray, counts: np.ndarray) -> Limits:
    """Efron, "Better bootstrap confidence intervals", J. Am. Stat. Assoc. 82, 1987."""
    found = Resampled(sums, counts, times_drawn(len(sums)))
    b = len(found.means)
    below = (found.means < found.mean).mean(axis=0) + (found.means == found.mean).mean(axis=0) / 2
    shift = ndtri(np.clip(below, 1 / b, 1 - 1 / b))
    cubes, squares = (found.deviations**3).sum(axis=0), (found.deviations**2).sum(axis=0)
    skewed = cubes / np.maximum(6 * squares**1.5, 1e-300)
    ends, ordered = [], np.sort(found.means, axis=0)
    for end in ndtri([0.025, 0.975]):
        share = ndtr(shift + (shift + end) / (1 - skewed * (shift + end)))
        at = np.clip(np.round(share * (b - 1)), 0, b - 1).astype(int)
        ends.append(ordered[at, np.arange(len(at))])
    return Limits(found.mean, *ends)


def studentised(sums: np.ndarray, counts: np.ndarray) -> Limits:
    """Davison and Hinkley, "Bootstrap methods and their application", 1997, section 5.2."""
    found = Resampled(sums, counts, times_drawn(len(sums)))
    low, high = np.quantile((found.means - found.mean) / np.maximum(found.errors, 1e-9), [0.025, 0.975], axis=0)
    return Limits(found.mean, found.mean - high * found.error, found.mean - low * found.error)


def bayesian(sums: np.ndarray, counts: np.ndarray) -> Limits:
    """Rubin, "The Bayesian bootstrap", Ann. Stat. 9, 1981."""
    weights = np.random.default_rng(0).exponential(size=(500, len(sums)))
    means = (weights @ sums) / (weights @ counts)
    return Limits(sums.sum(axis=0) / counts.sum(axis=0), *np.quantile(means, [0.025, 0.975], axis=0))


METHODS: dict[str, ScoreMethod] = {"closed form": score_limits, "percentile": percentile_bootstrap}
RIVALS: dict[str, ScoreMethod] = {"BCa": bca, "studentised": studentised, "Bayesian": bayesian}


def spans(shares: Iterable[float]) -> str:
    """Return the lowest and the highest coverage."""
    shares = [*shares]
    return f"{100 * min(shares):.1f}-{100 * max(shares):.1f}"


def line(name: str, cells: Iterable[str]) -> None:
    """Print a row of a table."""
    print(f"{name:<36}", *(f"{cell:>11}" for cell in cells), flush=True)


def one_score(datasets: int, images: int, methods: dict[str, ScoreMethod]) -> None:
    """Print the coverage of one score: the closed form and the percentile bootstrap in each world, all at the end."""
    print(f"\nOne score, {images} images: % covered by the closed form / by the percentile bootstrap")
    line("", map(str, SCORES))
    shape = (datasets, images, 5)
    found: dict[tuple[str, float], list[float]] = {}
    for number, (world, even) in enumerate((world, even) for world in WORLDS for even in (True, False)):
        cells = []
        for score in SCORES:
            generator = np.random.default_rng([images, number, round(1_000 * score)])
            values, there = scores(generator, shape, world, score), present(generator, shape, even)
            sums, counts = by_image(values, there), by_image(np.ones(shape), there)
            shares = {name: covered(method(sums, counts), score) for name, method in methods.items()}
            for name, share in shares.items():
                found.setdefault((name, score), []).append(share)
            cells.append(f"{100 * shares['closed form']:.1f}/{100 * shares['percentile']:.1f}")
        line(f"{world.metric} {world.kind} {world.correlation} {'even' if even else 'uneven'}", cells)
    for name in methods:
        line(f"all, {name}", (spans(found[name, score]) for score in SCORES))


def differences(datasets: int, images: int) -> None:
    """Print the coverage of paired differences."""
    print(f"\nPaired difference, {images} images: % covered over R@1, nDCG@10, MRR@10, correlation 0.2 and 0.8")
    line("", ("closed form", "percentile"))
    shape = (datasets, images, 5)
    for name, pair in PAIRS.items():
        new, old = [], []
        for number, metric in enumerate(("recall_at_1", "ndcg_at_10", "mrr_at_10")):
            for correlation in (0.2, 0.8):
                for even in (True, False):
                    generator = np.random.default_rng([images, number, round(10 * correlation), even])
                    world = World("ranks", metric, correlation)
                    a, b, truth = paired_scores(generator, shape, world, pair)
                    there = present(generator, shape, even)
                    counts, signed = by_image(np.ones(shape), there), a - b
                    gains, losses = (by_image(np.maximum(side, 0), there) for side in (signed, -signed))
                    new.append(covered(difference_limits(gains, losses, counts), truth))
                    old.append(covered(percentile_bootstrap(gains - losses, counts), truth))
        line(name, (spans(new), spans(old)))


def strata(datasets: int) -> None:
    """Print the coverage within strata of few captions, in which hard images are more often."""
    print("\nA stratum, uneven and not at random: % covered over R@1, R@10, nDCG@10, MRR@10, scores from 0.02 to 0.98")
    line("", ("closed form", "percentile"))
    for images in (5, 10, 20, 50, 200):
        new, old = [], []
        for number, world in enumerate(world for world in WORLDS if world.kind == "ranks"):
            for score in (0.02, 0.05, 0.3, 0.7, 0.95, 0.98):
                generator = np.random.default_rng([images, number, round(100 * score)])
                values, there = stratum(generator, (datasets, images, 5), world, score)
                sums, counts = by_image(values, there), by_image(np.ones(values.shape), there)
                new.append(covered(score_limits(sums, counts), score))
                old.append(covered(percentile_bootstrap(sums, counts), score))
        line(f"{images} images", (spans(new), spans(old)))


def by_number_of_images(datasets: int) -> None:
    """Print coverage and width by number of images."""
    print(
        "\nBy number of images: % covered over all worlds and scores from 0.02 to 0.98; mean width of the closed form\n"
        f"at 0.5, and where all images score 0. Fewer than {limits.FEWEST_IMAGES} get no interval."
    )
    line("", ("closed form", "percentile", "width", "width at 0"))
    for images in (2, 3, 4, 5, 7, 10, 15, 20, 30, 50, 100, 200):
        new, old, widths = [], [], []
        shape = (datasets, images, 5)
        for number, world in enumerate(WORLDS):
            for score in (0.02, 0.05, 0.2, 0.5, 0.8, 0.95, 0.98):
                generator = np.random.default_rng([images, number, round(100 * score), 1])
                sums = by_image(scores(generator, shape, world, score), np.ones(shape))
                found = score_limits(sums, np.full((images, 1), 5.0))
                new.append(covered(found, score))
                old.append(covered(percentile_bootstrap(sums, np.full((images, 1), 5.0)), score))
                if score == 0.5:
                    widths.append((found.high - found.low).mean())
        nothing = score_limits(np.zeros((images, 1)), np.full((images, 1), 5.0))
        width = f"{min(widths):.2f}-{max(widths):.2f}"
        line(f"{images} images", (spans(new), spans(old), width, f"{float(nothing.high[0]):.3f}"))


def times() -> None:
    """Print how long an interval and a comparison of 10,725 queries take."""
    values, clusters = clustered_scores(np.random.default_rng(0), 2_145, 5)
    other, _ = clustered_scores(np.random.default_rng(1), 2_145, 5)
    names = np.array([f"flickr30k/{10_000_000 + cluster}" for cluster in clusters])

    def best(work) -> float:
        work()
        took = []
        for _ in range(5):
            start = time.perf_counter()
            work()
            took.append(time.perf_counter() - start)
        return min(took)

    def percentile(columns: np.ndarray) -> np.ndarray:
        return np.quantile(uncertainty.resampled_means(columns, names), [0.025, 0.975], axis=0)

    print("\n10,725 queries of 2,145 images, the best of five, in seconds")
    line("", ("closed form", "percentile"))
    line(
        "interval",
        (
            f"{best(lambda: uncertainty.clustered_interval(values, names)):.4f}",
            f"{best(lambda: percentile(values)):.4f}",
        ),
    )
    three = np.stack([values, other, values - other], axis=1)
    flips = best(lambda: uncertainty.sign_flip_p_values(uncertainty.cluster_sums(values - other, names).sums))
    line(
        "comparison, with its sign flips",
        (
            f"{best(lambda: uncertainty.paired_comparison(values, other, names)):.4f}",
            f"{best(lambda: percentile(three)) + flips:.4f}",
        ),
    )


def main() -> None:
    """Run all simulations."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--datasets", type=int, default=2_000, help="simulated data sets of each case (default: 2,000)")
    parser.add_argument("--rivals", action="store_true", help="other bootstraps too: takes three times as long")
    args = parser.parse_args()
    datasets, methods = args.datasets, METHODS | (RIVALS if args.rivals else {})
    error = (0.95 * 0.05 / datasets) ** 0.5
    print(f"{datasets} data sets of each case: the standard error of a share is {100 * error:.1f} %")
    times()
    for images in (200, 20):
        one_score(datasets, images, methods)
        differences(datasets, images)
    strata(datasets)
    by_number_of_images(datasets)


if __name__ == "__main__":
    main()
