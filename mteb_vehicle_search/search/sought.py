"""What travels of a search: what is searched for, once, and which part of the corpus each worker has to search."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from mteb_vehicle_search.engine import Shared
from mteb_vehicle_search.search.parts import Search

# Chunks of consecutive images.
Unit = tuple[range, ...]


class Sought(NamedTuple):
    """A search as it travels: see `parts.Search`, and the relevant images' defined scores (float32 [p])."""

    queries: np.ndarray
    pairs: list[tuple[int, int]]
    groups: list[str]
    images: int
    k: int
    scores: np.ndarray

    @classmethod
    def of(cls, search: Search, scores: np.ndarray) -> Sought:
        """Return what travels of a search."""
        queries = search.queries.cpu().numpy()
        return cls(queries, [*search.pairs], [*search.groups], search.images, search.k, scores)

    def on(self, device: torch.device) -> Search:
        """Return the search on a device."""
        # A copy: what came from elsewhere may not be written to, which torch warns of.
        queries = torch.from_numpy(self.queries.copy()).to(device)
        return Search(queries, self.pairs, self.groups, self.images, self.k)


@dataclass(frozen=True, eq=False)
class Rank:
    """A unit of work: images to encode and search; the result is a `PartialRanking`."""

    chunks: Unit
    sought: Shared[Sought]

    def __str__(self) -> str:
        return f"images {self.chunks[0].start:,} to {self.chunks[-1].stop:,}"
