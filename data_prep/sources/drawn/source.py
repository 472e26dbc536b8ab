"""The drawn scenes as sources of images: what the preset `mini` is made of."""

from __future__ import annotations

import io
from collections.abc import Collection, Iterator, Sequence
from functools import cached_property
from typing import Any

from data_prep.sources import NOT_SELECTED, SPLITS, ReadInPlace, Shard, SourceImage
from data_prep.sources.drawn.mini import DrawnScene, mini_scenes
from data_prep.sources.drawn.pictures import draw
from data_prep.storage import PassedOver


class _Scenes:
    """What both sources share; nothing is downloaded."""

    @cached_property
    def _scenes(self) -> list[DrawnScene]:
        return sorted(mini_scenes(), key=lambda item: item.stem)

    def describe(self) -> dict[str, Any]:
        return {"form": "drawn scenes"}

    def _image(self, scene: DrawnScene, source: str) -> SourceImage:
        file = io.BytesIO()
        draw(scene.scene).save(file, "PNG")
        return SourceImage(f"drawn/{scene.stem}", file.getvalue(), source, "", captions=scene.captions)


class CaptionedScenes(_Scenes):
    """The captioned scenes, which the queries of `mini` describe."""

    notes: list[str] = []  # noqa: RUF012 - never changed

    def travels_bytes(self, only: Collection[str] | float = 1.0) -> int:
        return 0

    def count(self) -> int:
        return sum(bool(scene.captions) for scene in self._scenes)

    def check(self) -> list[str]:
        """Nothing can be missing."""
        return []

    def images(self, passed: PassedOver | None = None, only: Collection[str] | None = None) -> Iterator[SourceImage]:
        for scene in self._scenes:
            if scene.captions and (only is None or f"drawn/{scene.stem}" in only):
                yield self._image(scene, "drawn")
            elif scene.captions and passed is not None:
                passed[NOT_SELECTED] += 1


class DistractorScenes(_Scenes, ReadInPlace):
    """The scenes without captions, in one shard and of no class."""

    def shards(self, wanted: set[int] | None = None, splits: Sequence[str] = SPLITS) -> list[Shard]:
        return [Shard("scenes", "", 0, "")]

    def images(self, shard: Shard, wanted: set[int], passed: PassedOver | None = None) -> Iterator[SourceImage]:
        return (self._image(scene, "drawn_distractor") for scene in self._scenes if not scene.captions)
