"""Exact expected scores with fewer distractors, from exact ranks.

A query's relevant image has c captioned images and d of the N distractors above it. Of n distractors drawn at random
without replacement, the number above it is hypergeometric (N, d, n); captioned images always stay. Its rank is one
plus c plus that number, and the expectation of any score of the rank is a finite sum: nothing is sampled.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from mteb_vehicle_search.errors import ResultsError

if TYPE_CHECKING:
    import numpy as np

GROWTH_METRICS = ("ndcg_at_10", "mrr_at_10", "mrr", "recall_at_1", "recall_at_5", "recall_at_10", "recall_at_100")
# Ten standard deviations to either side leave less than 1e-20 of a hypergeometric distribution.
WINDOW_DEVIATIONS = 10
TERMS = 1 << 21


def gain(metric: str) -> Callable[[np.ndarray], np.ndarray]:
    """Return the score of a query as a function of the rank of its only relevant image.

    Raises:
        ResultsError: The metric is unknown.
    """
    import numpy as np

    if metric not in GROWTH_METRICS:
        raise ResultsError(f"Growth knows no metric {metric!r}.", f"Choose one of {', '.join(GROWTH_METRICS)}.")
    limit = cut(metric) or np.inf
    if metric.startswith("ndcg"):
        return lambda rank: np.where(rank <= limit, 1 / np.log2(1.0 + rank), 0.0)
    if metric.startswith("mrr"):
        return lambda rank: np.where(rank <= limit, 1.0 / rank, 0.0)
    return lambda rank: (rank <= limit).astype(np.float64)


def cut(metric: str) -> int | None:
    """Return the last rank that counts; None for `mrr`, which counts all."""
    return int(metric.rsplit("_", 1)[1]) if "_at_" in metric else None


def thinned(metric: str, captioned: np.ndarray, above: np.ndarray, total: int, n: int) -> np.ndarray:
    """Return each query's expected score among n random distractors, float64 [q]; exact to rounding.

    Args:
        metric: One of GROWTH_METRICS.
        captioned: int [q], captioned images above the relevant one.
        above: int [q], distractors above it.
        total: Distractors in the corpus.
        n: Distractors to keep, 0 to total.

    Raises:
        ResultsError: n is out of range or the metric is unknown.
    """
    import numpy as np
    from scipy.special import gammaln

    score = gain(metric)
    if not 0 <= n <= total:
        raise ResultsError(f"Of {total} distractors {n} cannot be kept.")
    pairs, which = np.unique(np.stack([captioned, above]), axis=1, return_inverse=True)
    c, d = pairs.astype(np.int64)
    mean, share = n * d / max(total, 1), d / max(total, 1)
    spread = np.sqrt(n * share * (1 - share) * (total - n) / max(total - 1, 1))
    reach = WINDOW_DEVIATIONS * spread + 40
    first = np.maximum(np.maximum(0, n - (total - d)), np.floor(mean - reach).astype(np.int64))
    last = np.minimum(np.minimum(d, n), np.ceil(mean + reach).astype(np.int64))
    if (limit := cut(metric)) is not None:
        last = np.minimum(last, limit - 1 - c)
    terms = np.maximum(last - first + 1, 0)
    factorial = gammaln(np.arange(total + 2) + 1.0)

    def choose(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return factorial[a] - factorial[b] - factorial[a - b]

    expected, ends = np.zeros(len(c)), np.cumsum(terms)
    start = 0
    while start < len(c):
        before = int(ends[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + TERMS, side="right")))
        rows = np.repeat(np.arange(start, stop), terms[start:stop])
        x = np.arange(len(rows)) - np.repeat(ends[start:stop] - terms[start:stop] - before, terms[start:stop])
        x = x + first[rows]
        log_p = (
            choose(d[rows], x)
            + choose(total - d[rows], n - x)
            - (factorial[total] - factorial[n] - factorial[total - n])
        )
        weighted = np.exp(log_p) * score(1.0 + c[rows] + x)
        expected[start:stop] = np.bincount(rows - start, weights=weighted, minlength=stop - start)
        start = stop
    return expected[which.reshape(-1)]
