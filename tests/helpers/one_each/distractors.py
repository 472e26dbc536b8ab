"""A distractor source: grey noise in two shards."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from PIL import Image

from data_prep.sources import SPLITS, Shard, Source, SourceImage
from data_prep.storage import PassedOver


class Noise:
    """Two shards of two images each."""

    def __init__(self, where: str) -> None:
        self.where = where

    def describe(self) -> dict[str, Any]:
        """Say where they are."""
        return {"form": "noise", "location": self.where}

    def shards(self, wanted: set[int] | None = None, splits: Sequence[str] = SPLITS) -> list[Shard]:
        """Return the two."""
        return [Shard(name, self.where, 0, "train") for name in ("a", "b")]

    def prefetch(self, shard: Shard) -> None:
        """Nothing to download."""

    def images(self, shard: Shard, wanted: set[int], passed: PassedOver | None = None) -> Iterator[SourceImage]:
        """Yield the images of a shard."""
        for number in range(2):
            generator = np.random.default_rng([ord(shard.name), number])
            buffer = io.BytesIO()
            Image.fromarray(generator.integers(0, 256, (200, 220, 3), dtype=np.uint8)).save(buffer, "PNG")
            yield SourceImage(f"noise/{shard.name}{number}", buffer.getvalue(), "noise", "train")

    def release(self, shard: Shard) -> None:
        """Nothing to give back."""


SOURCE = Source(
    name="noise",
    card="**Noise**, drawn by a generator.",
    distractors=lambda place, captioned: Noise(place.src),
    help="where the noise is",
)
