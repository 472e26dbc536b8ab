"""The drawn scenes as sources of images: what the preset `mini` is made of."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

from data_prep.sources import SPLITS, PassedOver, Shard, SourceImage
from data_prep.sources.drawn.mini import DrawnScene, mini_scenes
from data_prep.sources.drawn.pictures import draw


class _Scenes:
    """What both sources share; nothing is downloaded."""

    download_gb = 0.0

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

    def count(self) -> int:
        return sum(bool(scene.captions) for scene in self._scenes)

    def check(self) -> list[str]:
        """Nothing can be missing."""
        return []

    def images(self, passed: PassedOver | None = None) -> Iterator[SourceImage]:
        return (self._image(scene, "drawn") for scene in self._scenes if scene.captions)


class DistractorScenes(_Scenes):
    """The scenes without captions, in one shard and of no class."""

    def shards(self, wanted: set[int] | None = None, splits: Sequence[str] = SPLITS) -> list[Shard]:
        return [Shard("scenes", "", 0, "")]

    def prefetch(self, shard: Shard) -> None:
        """Nothing to download."""

    def images(self, shard: Shard, wanted: set[int], passed: PassedOver | None = None) -> Iterator[SourceImage]:
        return (self._image(scene, "drawn_distractor") for scene in self._scenes if not scene.captions)

    def release(self, shard: Shard) -> None:
        """Nothing to give back."""
