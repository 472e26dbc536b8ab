"""A metric: the share of relevant images among the first three."""

from __future__ import annotations

import numpy as np

from mteb_vehicle_search.metrics import Grouped, Metric


def of_rank(rank: np.ndarray) -> np.ndarray:
    """Return 1 for each rank up to 3, else 0."""
    return (rank <= 3).astype(np.float64)


def of_query(of: Grouped) -> np.ndarray:
    """Return the share of each query."""
    return np.add.reduceat(of_rank(of.ranks), of.first) / of.relevant


def of_chance(of: Grouped, size: int) -> np.ndarray:
    """Return three places among all."""
    return np.full(len(of.relevant), min(3, size) / size)


METRIC = Metric("hits_at_3", "Hits@3", 3, of_rank, of_query, of_chance)
