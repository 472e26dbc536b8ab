"""Ranks in the whole pool that a corpus was drawn from: estimated for any model, mined with or not, with intervals.

The corpus holds all captioned and all near images, and a random sample of the far ones. So the mean rank,
1 + captioned + near + hits x far / sampled, is unbiased (Horvitz and Thompson, J. Am. Stat. Assoc. 47, 1952). Other
figures are not linear: they are expectations over how many far images are above (`far_images.py`).

Each figure has two intervals. `sampling` is for the pool that is there: the spread over which far images were sampled,
by leaving out one of their replicates at a time (the delete-a-group jackknife; Kott, J. Off. Stat. 17, 2001), and what
shrinking each query to what its like have adds. `interval` is for further captioned images like these, too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from mteb_vehicle_search.analysis.arms import Arms
from mteb_vehicle_search.analysis.far_images import FarAbove, far_above
from mteb_vehicle_search.analysis.ranks import RunRanks
from mteb_vehicle_search.analysis.sets import title_of
from mteb_vehicle_search.analysis.uncertainty import Interval, cluster_sums, clustered_interval, too_few
from mteb_vehicle_search.errors import ResultsError
from mteb_vehicle_search.metrics import METRICS, of_growth

MEAN, MEDIAN = "mean_rank", "median_rank"
FIGURES = ("recall_at_1", "recall_at_5", "recall_at_10", "ndcg_at_10", "mrr", MEAN, MEDIAN)
HEADINGS = {MEAN: "mean rank", MEDIAN: "median rank"}
LEVEL = 0.95
# Chosen by simulation, not derived; without it, 22 % are covered where hits are rarest (README.md).
ASSUMED_HITS = 0.2
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

    def without(self, replicate: int) -> Sample:
        """Return the sample as it were without one of its replicates."""
        others = np.arange(len(self.sizes)) != replicate
        return self._replace(hits=self.hits[:, others], sizes=self.sizes[others])


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
    """The expectations of each query under one sample: how many far images are above, and their mean."""

    sample: Sample
    above: FarAbove

    @classmethod
    def of(cls, sample: Sample) -> Estimate:
        """Return the estimate from a sample that is not complete."""
        sampled = int(sample.sizes.sum())
        return cls(sample, far_above(sample.base, sample.hits.sum(axis=1), sampled, sample.far))

    def expected(self, metric: str, middle: int = 0) -> np.ndarray:
        """Return the expectation of each query's score, float64 [q]; `middle` is the median rank."""
        if metric == MEAN:
            scale = self.sample.far / self.sample.sizes.sum()
            return 1.0 + self.sample.base + self.sample.hits.sum(axis=1) * scale
        return self._integrated(self._scores(metric, middle))

    def spread(self, metric: str, middle: int = 0) -> np.ndarray:
        """Return what the sample leaves open of each query's score, as a variance, float64 [q]; 0 for mean ranks."""
        if metric == MEAN:
            return np.zeros(len(self.above.which))
        score = self._scores(metric, middle)
        return np.maximum(self._integrated(score**2) - self._integrated(score) ** 2, 0.0)

    def _scores(self, metric: str, middle: int) -> np.ndarray:
        """Return scores at the grid points for each distinct number of images that are above for certain."""
        rank = 1.0 + np.unique(self.above.base)[:, None] + self.above.grid[None, :]
        return (rank <= middle).astype(np.float64) if metric == MEDIAN else METRICS[metric].of_rank(rank)

    def _integrated(self, scores: np.ndarray) -> np.ndarray:
        _, of_base = np.unique(self.above.base, return_inverse=True)
        # Beyond some number of images above, scores of the first ten are 0.
        counted = int(scores.any(axis=0).sum())
        posterior, scores = self.above.posterior[:, :counted], scores[:, :counted]
        return np.einsum("ug,ug->u", posterior[self.above.row], scores[of_base])[self.above.which]

    def ranked_by(self, share: float) -> float:
        """Return the rank that this share of the queries has at most."""
        weights = np.bincount(self.above.which).astype(np.float64)[:, None] * self.above.posterior[self.above.row]
        ranks = (1 + self.above.base[:, None] + self.above.grid[None, :]).ravel()
        order = np.argsort(ranks, kind="stable")
        below = np.cumsum(weights.ravel()[order])
        at = np.searchsorted(below, share * below[-1] * (1 - 1e-12))
        return float(ranks[order][min(int(at), len(order) - 1)])


def _figures(sample: Sample, ranks: np.ndarray, metrics: Sequence[str]) -> list[Figure]:
    corpus = {metric: _of_ranks(ranks.astype(np.float64), metric) for metric in metrics}
    few = bool(too_few(len(np.unique(sample.clusters))))
    if sample.complete:
        return [_exact(metric, corpus[metric], ranks.astype(np.float64), sample.clusters, few) for metric in metrics]
    whole = Estimate.of(sample)
    middle = int(whole.ranked_by(0.5)) if MEDIAN in metrics else 0
    replicates = len(sample.sizes)
    parts = [Estimate.of(sample.without(one)) for one in range(replicates)] if replicates > 1 else []
    found = []
    for metric in metrics:
        values, spread = whole.expected(metric, middle), whole.spread(metric, middle)
        left_out = np.array([part.expected(metric, middle) for part in parts])
        error = standard_error(left_out, spread, sample.sizes.sum() / sample.far, _of_one_hit(metric))
        if few or error is None:
            value = float(middle) if metric == MEDIAN else float(values.mean())
            interval = sampling = Interval(value, None, None)
        else:
            reach = _t(replicates - 1) * error
            interval, sampling = _intervals(metric, values, sample.clusters, reach, whole.ranked_by)
        found.append(Figure(metric, corpus[metric], interval, sampling))
    return found


def _of_ranks(ranks: np.ndarray, metric: str) -> float:
    if metric == MEAN:
        return float(ranks.mean())
    return float(np.median(ranks) if metric == MEDIAN else METRICS[metric].of_rank(ranks).mean())


def _of_one_hit(metric: str) -> float:
    """Return the most that one image more above a relevant one takes from a score; nothing of a mean rank."""
    if metric == MEAN:
        return 0.0
    if metric == MEDIAN:
        return 1.0
    ranks = np.arange(1.0, 102.0)
    return float(-np.diff(METRICS[metric].of_rank(ranks)).min())


def standard_error(left_out: np.ndarray, spread: np.ndarray, share: float, of_one_hit: float) -> float | None:
    """Return the standard error of the mean of a score in the pool; None with fewer than two replicates.

    `left_out` [r, q] are the scores without each replicate, `spread` [q] the posterior variances, `share` what of the
    far images is in the sample. The jackknife is the variance of the mean, given the pool that is there. A posterior
    variance is a query's squared error: its variance, which is in the jackknife already and which that of each query by
    itself estimates, and what shrinking to the prior costs. Only the latter is added. Where next to none of the far
    images is above, replicates do not differ, and one more would have stood for 1 / `share` images: it counts as
    ASSUMED_HITS.
    """
    if len(left_out) < 2:
        return None
    replicates, queries = left_out.shape
    scale = (replicates - 1) / replicates * (1 - share)
    together = scale * ((left_out.mean(axis=1) - left_out.mean()) ** 2).sum()
    each_alone = scale * ((left_out - left_out.mean(axis=0)) ** 2).sum() / queries**2
    shrunk = max(float(spread.sum()) / queries**2 - each_alone, 0.0)
    unseen = ASSUMED_HITS * (of_one_hit / share / queries) ** 2 * (1 - share)
    return float(np.sqrt(together + shrunk + unseen))


def _t(degrees: int) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(degrees, (1 + LEVEL) / 2))


def _intervals(
    metric: str, values: np.ndarray, clusters: np.ndarray, reach: float, to_rank: Callable[[float], float]
) -> tuple[Interval, Interval]:
    """Return the interval over images and sampling, and that over sampling alone, which reaches as far on both sides.

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
    both = mean - float(np.hypot(mean - low, reach)), mean + float(np.hypot(high - mean, reach))
    alone = mean - reach, mean + reach
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
