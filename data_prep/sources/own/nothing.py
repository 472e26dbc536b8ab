"""No distractors: only images with captions are searched."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from data_prep.sources import SPLITS, ReadInPlace, Shard, SourceImage
from data_prep.storage import PassedOver


class NoDistractors(ReadInPlace):
    """See `DistractorSource`."""

    def describe(self) -> dict[str, Any]:
        return {"form": "none"}

    def shards(self, wanted: set[int] | None = None, splits: Sequence[str] = SPLITS) -> list[Shard]:
        return []

    def images(self, shard: Shard, wanted: set[int], passed: PassedOver | None = None) -> Iterator[SourceImage]:
        return iter(())
