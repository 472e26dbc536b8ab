"""Intervals of corrected scores and differences, from the estimates of `judged_sample.py`.

What judging may add to a score lies between nothing and what it would be if all images in question were right, the
`gain`, which is known. So a correction is a share of the gain, and its interval is that of a share (`limits.wilson`):
where no image was judged right, it still has a width. It has none once all is judged. The interval for further images
adds, end by end, what the images leave open.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mteb_vehicle_search.analysis.judged_sample import Design, Estimate, Frame, design_of, estimate
from mteb_vehicle_search.analysis.limits import wilson
from mteb_vehicle_search.analysis.uncertainty import (
    RESAMPLES,
    Interval,
    cluster_sums,
    paired_difference,
    sign_flip_p_values,
)

LEVEL = 0.95
# In a difference, what was not seen yet counts as half a unit in which only one of the two gains all it can.
ASSUMED_UNITS = 0.5


class Sampled(NamedTuple):
    """A score of a run, and what judging says of it; q queries, j judged units.

    Attributes:
        raw: float64 [q], by the labels.
        gain: float64 [q], what it would gain if all images in question were right.
        correction: float64 [j], what it gains by the judgments; the mean over the judges of a unit.
        noise: float64 [j], the variance of one judge's corrections about all judges' mean; NaN where there is one.
        expected: float64 [q], the correction that was predicted; zeros without predictions.
    """

    raw: np.ndarray
    gain: np.ndarray
    correction: np.ndarray
    noise: np.ndarray
    expected: np.ndarray

    def estimate(self, clusters: np.ndarray, frame: Frame) -> Estimate:
        """Return the estimated mean of the corrected score."""
        residual = self.correction - self.expected[frame.query[frame.judged]]
        return estimate(self.raw + self.expected, clusters, frame, residual, self.noise)

    def less(self, other: Sampled) -> Sampled:
        """Return the difference; its gain is what both together may gain."""
        difference = [a - b for a, b in zip(self, other)]
        # Judges err about images, and an image may be above the known one in both runs: their errors may add up.
        noise = (np.sqrt(self.noise) + np.sqrt(other.noise)) ** 2
        return Sampled(*difference)._replace(gain=self.gain + other.gain, noise=noise)


class Unseen(NamedTuple):
    """How much of the gain is not judged, as a share, and how many even units the judged ones amount to."""

    share: float
    units: float

    @classmethod
    def of(cls, sampled: Sampled, frame: Frame, design: Design) -> Unseen:
        """Return it for a sample."""
        gain = sampled.gain[frame.query[frame.judged]]
        total, expanded = float(sampled.gain[frame.query].sum()), design.weight * gain
        squares = float((expanded**2).sum())
        share = 1 - float(gain.sum()) / total if total else 0.0
        return cls(share if share > 1e-12 else 0.0, float(expanded.sum()) ** 2 / squares if squares else 0.0)


def score_intervals(sampled: Sampled, clusters: np.ndarray, frame: Frame) -> tuple[Interval, Interval]:
    """Return the corrected mean with its 95 % interval for further images, and with that over judging alone.

    Args:
        sampled: The score.
        clusters: int64 [q], numbers of clusters, from 0.
        frame: The units, at least one of turn 0 judged.
    """
    found = sampled.estimate(clusters, frame)
    raw, gain = float(sampled.raw.mean()), float(sampled.gain.sum()) / len(sampled.raw)
    correction = min(max(found.mean - raw, 0.0), gain)
    mean = min(raw + correction, 1.0)
    low, high = _share(correction, gain, found, Unseen.of(sampled, frame, design_of(frame)))
    judging = Interval(mean, raw + low, min(raw + high, 1.0))
    grouped = cluster_sums(sampled.raw, clusters)
    deviations = grouped.sums - raw * grouped.counts
    seen, images = _effective(deviations), _effective_count(grouped.counts)
    ends = _wilson(mean, found.images, seen, images, max(images - 1, 1.0))
    below, above = math.hypot(mean - ends[0], correction - low), math.hypot(ends[1] - mean, high - correction)
    return Interval(mean, max(mean - below, 0.0), min(mean + above, 1.0)), judging


def _share(correction: float, gain: float, found: Estimate, unseen: Unseen) -> tuple[float, float]:
    """Return the limits of a correction, which is a share of what may be gained."""
    if not gain or (unseen.share == 0 and found.judging == 0):
        return correction, correction
    if not unseen.units:
        return 0.0, gain
    images = unseen.units / unseen.share if unseen.share else math.inf
    if found.seen:
        low, high = _wilson(correction / gain, found.judging / gain**2, found.seen, images, found.degrees)
        return low * gain, high * gain
    # No judged unit differs from what was predicted: as much is open on both sides as of a share that is 0.
    reach = _wilson(0.0, 0.0, 0.0, images, found.degrees)[1] * gain
    return max(correction - reach, 0.0), min(correction + reach, gain)


def _wilson(mean: float, variance: float, seen: float, images: float, degrees: float) -> tuple[float, float]:
    one = [np.array([value]) for value in (mean, variance, seen, images, degrees)]
    low, high = wilson(one[0], one[1], one[2], one[3], one[4], LEVEL)
    return float(low[0]), float(high[0])


def _effective(values: np.ndarray) -> float:
    """Return how many values a sum of squares rests on: those that differ, if all differ by as much."""
    fourths = float((values**4).sum())
    return float((values**2).sum()) ** 2 / fourths if fourths else 0.0


def _effective_count(counts: np.ndarray) -> float:
    return float(counts.sum()) ** 2 / float((counts**2).sum())


def difference_intervals(
    pairs: Sequence[tuple[Sampled, Sampled]],
    clusters: np.ndarray,
    frame: Frame,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[tuple[Interval, float]]:
    """Return corrected differences a - b, each with its 95 % interval for further images and its p-value.

    What the images leave open is the interval of the raw difference, stretched by the ratio of the standard errors.
    The test flips the sign of each image's part of the difference, its judgments with their weights included: if two
    models are exchangeable, either sign is as likely, whatever images were drawn. All pairs share the signs.
    """
    design = design_of(frame)
    differences = [a.less(b) for a, b in pairs]
    intervals = [_difference(both, clusters, frame, design) for both in differences]
    parts = np.stack([_parts(both, clusters, frame, design) for both in differences], axis=1)
    return list(zip(intervals, sign_flip_p_values(parts, flips=resamples, seed=seed).tolist()))


def _difference(both: Sampled, clusters: np.ndarray, frame: Frame, design: Design) -> Interval:
    from scipy.special import stdtrit

    found = both.estimate(clusters, frame)
    (middle, low, high), sums, counts = paired_difference(both.raw, clusters)
    error = _standard_error(sums, counts, middle)
    stretch = math.sqrt(found.images) / error if error else 1.0
    unseen = Unseen.of(both, frame, design)
    gain = float(both.gain.sum()) / len(both.raw)
    assumed = ASSUMED_UNITS * unseen.share * (gain / unseen.units) ** 2 if unseen.units else 0.0
    judging = float(stdtrit(found.degrees, (1 + LEVEL) / 2)) * math.sqrt(found.judging + assumed)
    if low is None or high is None:
        return Interval(found.mean, None, None)
    reach = [math.hypot(stretch * side, judging) for side in (middle - low, high - middle)]
    return Interval(found.mean, max(found.mean - reach[0], -1.0), min(found.mean + reach[1], 1.0))


def _standard_error(sums: np.ndarray, counts: np.ndarray, mean: float) -> float:
    c, deviations = len(sums), sums - mean * counts
    error = math.sqrt(c / max(c - 1, 1) * float((deviations**2).sum())) / float(counts.sum())
    return error if error > 1e-12 else 0.0


def _parts(both: Sampled, clusters: np.ndarray, frame: Frame, design: Design) -> np.ndarray:
    """Return each image's part of the estimated total, float64 [c]."""
    residual = both.correction - both.expected[frame.query[frame.judged]]
    parts = np.bincount(clusters, weights=both.raw + both.expected)
    np.add.at(parts, frame.cluster[frame.judged], design.weight * residual)
    return np.where(np.abs(parts) < 1e-12, 0.0, parts)
