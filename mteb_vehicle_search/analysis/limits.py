"""Confidence limits of scores in [0, 1] and of differences of two, for images with all their captions, in closed form.

A score. Wilson's score interval ("Probable inference, the law of succession, and statistical inference", J. Am. Stat.
Assoc. 22, 1927) for as many independent 0-or-1 values as the score is worth: n = p (1 - p) / v, with v the linearised
variance of a ratio of sums over images, and a quantile of Student's t (Korn and Graubard, "Confidence intervals for
proportions with small expected number of positive counts estimated from survey data", Survey Methodology 24, 1998;
Dean and Pagano, "Evaluating confidence interval methods for binomial proportions in clustered surveys", J. Survey
Stat. Methodol. 3, 2015). Near 0 and 1 the variance rests on few images, on none if nothing differs. So 1 / n is a
weighted mean of what was seen, which counts as the images it rests on, and of all captions of an image being one
fact (n = the number of images), which counts as half an image. Where nothing differs the limits are those of Wilson
for the images: [0, 0.019] for 200 that all score 0.

A difference. What A gains over B and what it loses, query by query, are two such scores; their limits are combined by
the method of variance estimates recovery with the correlation of the two (Newcombe, "Improved confidence intervals for
the difference between binomial proportions based on paired data", Stat. Med. 17, 1998; Zou and Donner, "Construction
of confidence limits about effect measures: a general approach", Stat. Med. 27, 2008).

Chosen by simulation (benchmarks/interval_coverage.py) against the bootstrap: percentile, BCa, studentised and Bayesian.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

# With fewer images there are no limits: they would span most of what is possible (half of [0, 1] and more).
FEWEST_IMAGES = 5
# What the assumption that an image is one fact counts. Half of it covers less where few images differ, twice it more
# than is asked for (see benchmarks/interval_coverage.py).
ASSUMED_IMAGES = 0.5
# Deviations below this are rounding.
ROUNDING = 1e-12


class Limits(NamedTuple):
    """Means with their confidence limits, float64 [m] each."""

    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


def score_limits(sums: np.ndarray, counts: np.ndarray, level: float = 0.95) -> Limits:
    """Return the limits of m scores in [0, 1], of their sums by image, float64 [c, m], and numbers of values, [c, 1].

    The counts may also be [c, m], by column.
    """
    mean, deviations = _linearised(sums, counts)
    return Limits(mean, *_wilson(mean, deviations, counts, level))


def difference_limits(gains: np.ndarray, losses: np.ndarray, counts: np.ndarray, level: float = 0.95) -> Limits:
    """Return the limits of m differences of two scores, by what the first gains and what it loses against the second.

    `gains` and `losses`, float64 [c, m], are the positive and the negative parts of the differences by query (both at
    least 0), added up by image; `counts` are as in `score_limits`.
    """
    gain, up = _linearised(gains, counts)
    loss, down = _linearised(losses, counts)
    gain_low, gain_high = _wilson(gain, up, counts, level)
    loss_low, loss_high = _wilson(loss, down, counts, level)
    scale = np.sqrt((up**2).sum(axis=0) * (down**2).sum(axis=0))
    correlation = (up * down).sum(axis=0) / np.where(scale > 0, scale, 1.0)

    def reach(one: np.ndarray, other: np.ndarray) -> np.ndarray:
        return np.sqrt(np.maximum(one**2 + other**2 - 2 * correlation * one * other, 0.0))

    mean = gain - loss
    low = mean - reach(gain - gain_low, loss_high - loss)
    high = mean + reach(gain_high - gain, loss - loss_low)
    return Limits(mean, np.maximum(low, -1.0), np.minimum(high, 1.0))


def _linearised(sums: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the means [m], and by how much each image moves them, times the number of images [c, m]."""
    total = counts.sum(axis=0)
    mean = np.clip(sums.sum(axis=0) / total, 0.0, 1.0)
    deviations = (sums - mean * counts) * (len(sums) / total)
    return mean, np.where(np.abs(deviations) < ROUNDING, 0.0, deviations)


def _wilson(
    mean: np.ndarray, deviations: np.ndarray, counts: np.ndarray, level: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the lower and upper limits [m]."""
    c = len(deviations)
    squares, fourths = (deviations**2).sum(axis=0), (deviations**4).sum(axis=0)
    # The images that the variance rests on: those that differ if all differ by as much (0 if none does).
    seen = squares**2 / np.where(fourths > 0, fourths, 1.0)
    # Uneven images count as so many even ones (Kish, "Survey Sampling", 1965, section 11.7).
    images = counts.sum(axis=0) ** 2 / (counts**2).sum(axis=0)
    return wilson(mean, squares / (c * max(c - 1, 1)), seen, images, np.maximum(images - 1, 1.0), level)


def wilson(
    mean: np.ndarray, variance: np.ndarray, seen: np.ndarray, images: np.ndarray, degrees: np.ndarray, level: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the lower and upper limits [m] of means in [0, 1] with a variance that rests on `seen` of the images."""
    # scipy takes a tenth of a second to import; whoever reads tables only does without.
    from scipy.special import stdtrit

    spread, n = mean * (1 - mean), worth(mean, variance, seen, images)
    t2 = stdtrit(degrees, (1 + level) / 2) ** 2
    middle = (mean + t2 / (2 * n)) / (1 + t2 / n)
    reach = np.sqrt(t2 * spread / n + (t2 / (2 * n)) ** 2) / (1 + t2 / n)
    return np.clip(middle - reach, 0.0, mean), np.clip(middle + reach, mean, 1.0)


def worth(mean: np.ndarray, variance: np.ndarray, seen: np.ndarray, images: np.ndarray) -> np.ndarray:
    """Return as how many independent values of 0 or 1 means are worth, [m]."""
    spread = mean * (1 - mean)
    share = variance / np.where(spread > 0, spread, 1.0)
    weight = ASSUMED_IMAGES / (seen + ASSUMED_IMAGES)
    return 1 / ((1 - weight) * share + weight / images)
