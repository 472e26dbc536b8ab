"""Exact expected scores with fewer distractors, from exact ranks.

A query's relevant image has c captioned images and d of the N distractors above it. Of n distractors drawn at random
without replacement, the number above it is hypergeometric (N, d, n); captioned images always stay. Its rank is one
plus c plus that number, and the expectation of any score of the rank is a finite sum: nothing is sampled.
"""

from __future__ import annotations

import numpy as np

from mteb_vehicle_search.errors import ResultsError
from mteb_vehicle_search.metrics import of_growth

# Ten standard deviations to either side leave less than 1e-20 of a hypergeometric distribution.
WINDOW_DEVIATIONS = 10
TERMS = 1 << 21


def thinned(metric: str, captioned: np.ndarray, above: np.ndarray, total: int, n: int) -> np.ndarray:
    """Return each query's expected score among n random distractors, float64 [q]; exact to rounding.

    `captioned` and `above` int [q] are the captioned images and the distractors, of `total`, above the relevant image.
    The metric is one of `metrics.growing()`.

    Raises:
        ResultsError: n is out of range or the metric is unknown.
    """
    from scipy.special import gammaln

    followed = of_growth(metric)
    if not 0 <= n <= total:
        raise ResultsError(f"Of {total} distractors {n} cannot be kept.")
    pairs, which = np.unique(np.stack([captioned, above]), axis=1, return_inverse=True)
    c, d = pairs.astype(np.int64)
    mean, share = n * d / max(total, 1), d / max(total, 1)
    spread = np.sqrt(n * share * (1 - share) * (total - n) / max(total - 1, 1))
    reach = WINDOW_DEVIATIONS * spread + 40
    first = np.maximum(np.maximum(0, n - (total - d)), np.floor(mean - reach).astype(np.int64))
    last = np.minimum(np.minimum(d, n), np.ceil(mean + reach).astype(np.int64))
    if followed.cut is not None:
        last = np.minimum(last, followed.cut - 1 - c)
    terms = np.maximum(last - first + 1, 0)
    factorial = gammaln(np.arange(total + 2) + 1.0)

    def choose(a: np.ndarray | int, b: np.ndarray | int) -> np.ndarray:
        return factorial[a] - factorial[b] - factorial[a - b]

    expected, ends, start = np.zeros(len(c)), np.cumsum(terms), 0
    while start < len(c):
        before = int(ends[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + TERMS, side="right")))
        rows = np.repeat(np.arange(start, stop), terms[start:stop])
        x = np.arange(len(rows)) - np.repeat(ends[start:stop] - terms[start:stop] - before, terms[start:stop])
        x = x + first[rows]
        log_p = choose(d[rows], x) + choose(total - d[rows], n - x) - choose(total, n)
        weighted = np.exp(log_p) * followed.of_rank(1.0 + c[rows] + x)
        expected[start:stop] = np.bincount(rows - start, weights=weighted, minlength=stop - start)
        start = stop
    return expected[which.reshape(-1)]
