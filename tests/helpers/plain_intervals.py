"""The intervals once more, a cluster at a time, as the sources of `analysis/limits.py` put them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.stats import t


def _moves(values: Sequence[float], clusters: Sequence) -> tuple[float, list[float], list[int]]:
    """Return the mean, what each cluster moves it by (times their number), and the clusters' sizes."""
    groups: dict = {}
    for value, cluster in zip(values, clusters, strict=True):
        groups.setdefault(cluster, []).append(float(value))
    mean = math.fsum(map(float, values)) / len(values)
    each = len(values) / len(groups)
    moves = [math.fsum(value - mean for value in group) / each for group in groups.values()]
    return mean, [0.0 if abs(move) < 1e-12 else move for move in moves], [len(group) for group in groups.values()]


def score_interval(values: np.ndarray, clusters: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Return Wilson's interval for the number of independent values that the mean of scores is worth."""
    mean, moves, sizes = _moves(values.tolist(), clusters.tolist())
    c, squares = len(moves), math.fsum(move**2 for move in moves)
    seen = squares**2 / math.fsum(move**4 for move in moves) if squares else 0.0
    even = sum(sizes) ** 2 / sum(size**2 for size in sizes)
    per_value = squares / (c * (c - 1)) / (mean * (1 - mean)) if squares else 0.0
    n = (seen + 0.5) / (seen * per_value + 0.5 / even)
    z = float(t.ppf((1 + level) / 2, max(even - 1, 1)))
    # The ends are the p with n (mean - p)^2 = z^2 p (1 - p).
    low, high = sorted(np.roots([n + z**2, -(2 * n * mean + z**2), n * mean**2]).real.tolist())
    return max(0.0, min(low, mean)), min(1.0, max(high, mean))


def difference_interval(differences: np.ndarray, clusters: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Return the interval of a mean difference from those of what is gained and what is lost."""
    gains, losses = np.maximum(differences, 0), np.maximum(-differences, 0)
    (gain, up, _), (loss, down, _) = (_moves(part.tolist(), clusters.tolist()) for part in (gains, losses))
    (gain_low, gain_high), (loss_low, loss_high) = (score_interval(part, clusters, level) for part in (gains, losses))
    product = math.fsum(a**2 for a in up) * math.fsum(b**2 for b in down)
    r = math.fsum(a * b for a, b in zip(up, down)) / math.sqrt(product) if product else 0.0

    def reach(a: float, b: float) -> float:
        return math.sqrt(max(0.0, a**2 - 2 * r * a * b + b**2))

    low = gain - loss - reach(gain - gain_low, loss_high - loss)
    return max(-1.0, low), min(1.0, gain - loss + reach(gain_high - gain, loss - loss_low))
