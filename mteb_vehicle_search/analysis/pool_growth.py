"""Growth in corpora that were drawn from a pool: only random images come and go, and all that can come are in the pool.

Captioned and mined images always stay: what a miner found near is no random distractor. Up to the sampled far images
the curve is exact (`thinning.py`), up to all far images of the pool estimated (`population.py`), and there it ends.
Top tens do not say of which arm an image is, so that nothing of `dependence.py` is asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from mteb_vehicle_search.analysis.arms import Arms
from mteb_vehicle_search.analysis.population import pool_figures, require_arms, sample_of
from mteb_vehicle_search.analysis.ranks import RunRanks
from mteb_vehicle_search.analysis.thinning import thinned
from mteb_vehicle_search.analysis.uncertainty import Interval, clustered_interval
from mteb_vehicle_search.errors import ResultsError

STEPS = [m * 10**e for e in range(2, 9) for m in (1, 3)]


class Grown(NamedTuple):
    """The score among so many random images; the method is "exact", or "pool" where it is estimated."""

    distractors: int
    interval: Interval
    method: str


def pool_sizes(arms: Arms) -> list[int]:
    """Return 0, powers of ten and three times those, the sampled far images, and as the last all far ones."""
    return sorted({0, arms.sampled, arms.far, *(n for n in STEPS if n < arms.far)})


def grown(ranks: RunRanks, metrics: Sequence[str], sizes: Sequence[int] | None = None) -> dict[str, list[Grown]]:
    """Return, for each metric of `metrics.growing()`, the expected score among these numbers of random images, sorted.

    `sizes` are `pool_sizes` if None.

    Raises:
        ResultsError: A size is beyond the pool, or a query has several relevant images.
    """
    arms, sample = require_arms(ranks), sample_of(ranks)
    sizes = pool_sizes(arms) if sizes is None else sizes
    beyond = [n for n in sizes if n > arms.far]
    if beyond:
        raise ResultsError(
            f"{ranks.record.folder}: the pool has {arms.far:,} far images; of {beyond[0]:,} nothing is known.",
            f"Choose sizes up to {arms.far}.",
        )
    hits = sample.hits.sum(axis=1)
    found: dict[str, list[Grown]] = {metric: [] for metric in metrics}
    for n in sorted(sizes):
        if n > arms.sampled:
            figures = pool_figures(ranks, metrics, far=n)
        for metric, points in found.items():
            if n > arms.sampled:
                points.append(Grown(n, figures[metric].interval, "pool"))
            else:
                kept = thinned(metric, sample.base, hits, arms.sampled, n)
                points.append(Grown(n, clustered_interval(kept, ranks.clusters), "exact"))
    return found


def what_stays(arms: Arms) -> str:
    """Return in plain words which images always stay, and which come and go."""
    staying = " and ".join(f"{arms.images(arm):,} {arm}" for arm in ("captioned", "mined") if arms.images(arm))
    return (
        f"The {staying} images always stay; distractors are the random ones, {arms.sampled:,} of {arms.far:,} far "
        "images of the pool."
    )
