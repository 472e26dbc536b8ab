"""Ranks in the whole pool that a corpus was drawn from: estimated for any model, mined with or not, with intervals.

The corpus holds all captioned and all near images, and a random sample of the far ones. So the mean rank,
1 + captioned + near + hits x far / sampled, is unbiased (Horvitz and Thompson, J. Am. Stat. Assoc. 47, 1952). Other
figures are not linear: they are expectations over how many far images are above (`far_images.py`).

Each figure has two intervals. `sampling` is for the pool that is there: the spread over which far images were sampled
(`far_sampling.py`). `interval` is for further captioned images like these, too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from mteb_vehicle_search.analysis.arms import Arms
from mteb_vehicle_search.analysis.far_images import FarAbove, far_above
from mteb_vehicle_search.analysis.far_sampling import Measured, SamplingError, measured
from mteb_vehicle_search.analysis.ranks import RunRanks
from mteb_vehicle_search.analysis.sets import title_of
from mteb_vehicle_search.analysis.uncertainty import Interval, cluster_sums, clustered_interval, too_few
from mteb_vehicle_search.errors import ResultsError
from mteb_vehicle_search.metrics import METRICS, of_growth

MEAN, MEDIAN = "mean_rank", "median_rank"
FIGURES = ("recall_at_1", "recall_at_5", "recall_at_10", "ndcg_at_10", "mrr", MEAN, MEDIAN)
HEADINGS = {MEAN: "mean rank", MEDIAN: "median rank"}
LEVEL = 0.95
BUILD_HINT = (
    "Build one whose distractors are a sample of a pool: vehicle-search-data build --preset mini-million, and run the "
    "model on it."
)


class Figure(NamedTuple):
    """A figure of one run: among the images of the corpus, and in the whole pool with its two intervals."""

    metric: str
    corpus: float
    interval: Interval
    sampling: Interval

    @property
    def pool(self) -> float:
        """The estimate for the pool."""
        return self.interval.mean


class Sample(NamedTuple):
    """What a run says of the far images: r replicates of the sample; q queries, each with one relevant image."""

    base: np.ndarray  # int64 [q], images above that are in the corpus for certain
    hits: np.ndarray  # int64 [q, r], sampled far images above, by replicate
    sizes: np.ndarray  # int64 [r], images of each replicate
    far: int
    clusters: np.ndarray  # [q]

    @property
    def complete(self) -> bool:
        """Whether all far images are in the corpus."""
        return int(self.sizes.sum()) == self.far


def require_arms(ranks: RunRanks) -> Arms:
    """Return the arms of a run; raise a ResultsError that names what to build if its set has none."""
    if ranks.arms is None:
        raise ResultsError(
            f"{ranks.record.folder}: {title_of(ranks.record.info)} does not say with which probabilities its images "
            "were chosen.",
            BUILD_HINT,
        )
    return ranks.arms


def sample_of(ranks: RunRanks) -> Sample:
    """Return what a run says of the far images of its pool.

    Raises:
        ResultsError: The set was not drawn from a pool, a query has several relevant images, or the run is cut off.
    """
    arms = require_arms(ranks)
    if not ranks.one_relevant:
        raise ResultsError(
            f"{ranks.record.folder}: queries have several relevant images; ranks in a pool are estimated for exactly "
            "one."
        )
    ranks.require_whole()
    groups = arms.of_arm("random")
    hits = np.stack([ranks.above[name] for name in groups], axis=1) if groups else np.zeros((len(ranks.ranks), 0), int)
    sizes = np.array([group.images for group in groups.values()], dtype=np.int64)
    return Sample(ranks.ranks - 1 - hits.sum(axis=1), hits, sizes, arms.far, ranks.clusters)


def pool_figures(ranks: RunRanks, metrics: Sequence[str] = FIGURES, *, far: int | None = None) -> dict[str, Figure]:
    """Return figures of a run in the pool that its corpus was drawn from, with 95 % intervals.

    `metrics` are of `metrics.growing()`, "mean_rank" and "median_rank". With `far`, the pool has only so many far
    images, at least those sampled. If all are in the corpus, the figures are its own. Too few images have no interval.

    Raises:
        ResultsError: The set was not drawn from a pool, a query has several relevant images, or a metric is unknown.
    """
    sample = sample_of(ranks)
    if far is not None:
        sample = sample._replace(far=far)
    for metric in metrics:
        _ = metric in HEADINGS or of_growth(metric)
    return {one.metric: one for one in _figures(sample, ranks.ranks, metrics)}


class Estimate(NamedTuple):
    """What one sample, which is not complete, says of all far images of the pool."""

    sample: Sample
    above: FarAbove

    @classmethod
    def of(cls, sample: Sample) -> Estimate:
        """Return the estimate from a sample that is not complete."""
        hits, alike = sample.hits.sum(axis=1), len(sample.base) / len(np.unique(sample.clusters))
        return cls(sample, far_above(sample.base, hits, int(sample.sizes.sum()), sample.far, alike))

    def measured(self, metrics: Sequence[str], middle: int = 0) -> dict[str, Measured]:
        """Return the expectation of each query's score with the error of their mean; `middle` is the median rank."""
        sample, share = self.sample, float(self.sample.sizes.sum() / self.sample.far)
        scores = {metric: METRICS[metric].of_rank for metric in metrics if metric not in HEADINGS}
        scores[MEDIAN] = lambda rank: (rank <= middle).astype(np.float64)
        cut = [metric for metric in metrics if metric not in HEADINGS and METRICS[metric].cut]
        found = {MEAN: _mean_rank(sample, share)}
        for together in (cut, *([one] for one in metrics if one not in (*cut, MEAN))):
            of_scores = measured(self.above, sample.hits, share, [scores[one] for one in together]) if together else []
            found |= zip(together, of_scores)
        return {metric: found[metric] for metric in metrics}

    def ranked_by(self, share: float) -> float:
        """Return the rank that this share of the queries has at most."""
        groups = self.above.groups
        weights = np.concatenate([(group.counts @ self.above.posterior(group)).ravel() for group in groups])
        ranks = np.concatenate([(1 + group.bases[:, None] + self.above.grid[None, :]).ravel() for group in groups])
        order = np.argsort(ranks, kind="stable")
        below = np.cumsum(weights[order])
        at = np.searchsorted(below, share * below[-1] * (1 - 1e-12))
        return float(ranks[order][min(int(at), len(order) - 1)])


def _mean_rank(sample: Sample, share: float) -> Measured:
    """Return the ranks that Horvitz and Thompson give; of the error of their mean all is from the replicates."""
    sums, queries, replicates = sample.hits.sum(axis=0), len(sample.base), len(sample.sizes)
    scale = replicates / max(replicates - 1, 1) * (1 - share) / (share * queries) ** 2
    variance = scale * float(((sums - sums.mean()) ** 2).sum())
    without, hit = 1.0 + float(sample.base.mean()), 1 / (share * queries)
    error = SamplingError(variance, replicates - 1, without, hit, 1 - share)
    return Measured(1.0 + sample.base + sample.hits.sum(axis=1) / share, error)


def _figures(sample: Sample, ranks: np.ndarray, metrics: Sequence[str]) -> list[Figure]:
    corpus = {metric: _of_ranks(ranks.astype(np.float64), metric) for metric in metrics}
    few = bool(too_few(len(np.unique(sample.clusters))))
    if sample.complete:
        return [_exact(metric, corpus[metric], ranks.astype(np.float64), sample.clusters, few) for metric in metrics]
    whole = Estimate.of(sample)
    middle = int(whole.ranked_by(0.5)) if MEDIAN in metrics else 0
    replicates, found = len(sample.sizes), []
    for metric, (values, error) in whole.measured(metrics, middle).items():
        mean = float(values.mean())
        if few or replicates < 2:
            interval = sampling = Interval(float(middle) if metric == MEDIAN else mean, None, None)
        else:
            alone = error.limits(mean, LEVEL)
            interval, sampling = _intervals(metric, values, sample.clusters, alone, whole.ranked_by)
        found.append(Figure(metric, corpus[metric], interval, sampling))
    return found


def _of_ranks(ranks: np.ndarray, metric: str) -> float:
    if metric == MEAN:
        return float(ranks.mean())
    return float(np.median(ranks) if metric == MEDIAN else METRICS[metric].of_rank(ranks).mean())


def _t(degrees: int) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(degrees, (1 + LEVEL) / 2))


def _intervals(
    metric: str,
    values: np.ndarray,
    clusters: np.ndarray,
    alone: tuple[float, float],
    to_rank: Callable[[float], float],
) -> tuple[Interval, Interval]:
    """Return the interval over images and sampling, and that over sampling `alone`.

    The median's are of the share of queries up to it, read back as ranks (Woodruff, J. Am. Stat. Assoc. 47, 1952).
    """
    if metric == MEAN:
        images = _mean_interval(values, clusters)
    else:
        images = clustered_interval(np.clip(values, 0.0, 1.0), clusters)
    mean, low, high = images
    if low is None or high is None:
        return images, images
    least, most = (1.0, np.inf) if metric == MEAN else (0.0, 1.0)
    both = mean - float(np.hypot(mean - low, mean - alone[0])), mean + float(np.hypot(high - mean, alone[1] - mean))
    ends = [tuple(float(np.clip(end, least, most)) for end in pair) for pair in (both, alone)]
    if metric == MEDIAN:
        mean, ends = to_rank(0.5), [_as_ranks(mean, pair, to_rank) for pair in ends]
    return Interval(mean, *ends[0]), Interval(mean, *ends[1])


def _as_ranks(share: float, ends: tuple[float, float], to_rank: Callable[[float], float]) -> tuple[float, float]:
    """Return the ranks between which the median lies, by the limits of the share of queries up to it."""
    low, high = 0.5 - (ends[1] - share), 0.5 + (share - ends[0])
    return to_rank(max(low, 0.0)), to_rank(min(high, 1.0))


def _mean_interval(values: np.ndarray, clusters: np.ndarray) -> Interval:
    """Return the mean with its interval over clusters, as that of a ratio of sums, with Student's t."""
    grouped = cluster_sums(values, clusters)
    c, mean = len(grouped.counts), float(values.mean())
    deviations = grouped.sums - mean * grouped.counts
    error = np.sqrt(c / (c - 1) * (deviations**2).sum()) / grouped.counts.sum()
    return Interval(mean, mean - _t(c - 1) * error, mean + _t(c - 1) * error)


def _exact(metric: str, value: float, ranks: np.ndarray, clusters: np.ndarray, few: bool) -> Figure:
    """Return the figure of a corpus that is the pool: nothing is estimated but what further images would give."""
    if few:
        return Figure(metric, value, Interval(value, None, None), Interval(value, value, value))
    if metric == MEAN:
        interval = _mean_interval(ranks, clusters)
    elif metric == MEDIAN:
        share, low, high = clustered_interval((ranks <= value).astype(np.float64), clusters)

        def to_rank(of: float) -> float:
            return float(np.quantile(ranks, of, method="inverted_cdf"))

        interval = Interval(value, *_as_ranks(share, (low or 0.0, high or 1.0), to_rank))
    else:
        interval = clustered_interval(METRICS[metric].of_rank(ranks), clusters)
    return Figure(metric, value, interval._replace(mean=value), Interval(value, value, value))
