"""Drawn scenes as sources of images: what the presets `mini` and `mini-million` are made of."""

from __future__ import annotations

import io
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import cached_property
from typing import Any, NamedTuple

from data_prep.sources import NOT_SELECTED, SPLITS, ReadInPlace, Shard, SourceImage
from data_prep.sources.drawn.images import draw
from data_prep.sources.drawn.mini import DrawnScene, mini_scenes
from data_prep.sources.drawn.pool import pool_scenes
from data_prep.storage import PassedOver


class World(NamedTuple):
    """Scenes that belong together.

    Attributes:
        name: Of their sources, with which their ids begin.
        scenes: Makes them.
        shard: How many distractors are in a shard.
    """

    name: str
    scenes: Callable[[], list[DrawnScene]]
    shard: int


MINI = World("drawn", lambda: mini_scenes(), 10_000)
POOL = World("drawn-pool", lambda: pool_scenes(), 1_000)


class _Scenes:
    """What both sources share; nothing is downloaded."""

    def __init__(self, world: World) -> None:
        self._world = world

    @cached_property
    def _scenes(self) -> list[DrawnScene]:
        return sorted(self._world.scenes(), key=lambda item: item.stem)

    def describe(self) -> dict[str, Any]:
        return {"form": "drawn scenes"}

    def _id(self, scene: DrawnScene) -> str:
        return f"{self._world.name}/{scene.stem}"

    def _image(self, scene: DrawnScene, source: str) -> SourceImage:
        file = io.BytesIO()
        draw(scene.scene).save(file, "PNG")
        return SourceImage(self._id(scene), file.getvalue(), source, "", captions=scene.captions)


class CaptionedScenes(_Scenes):
    """The captioned scenes, which queries describe."""

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
            if scene.captions and (only is None or self._id(scene) in only):
                yield self._image(scene, self._world.name)
            elif scene.captions and passed is not None:
                passed[NOT_SELECTED] += 1


class DistractorScenes(_Scenes, ReadInPlace):
    """The scenes without captions, of no class."""

    @cached_property
    def _shards(self) -> dict[str, list[DrawnScene]]:
        uncaptioned = [scene for scene in self._scenes if not scene.captions]
        size = self._world.shard
        parts = [uncaptioned[at : at + size] for at in range(0, len(uncaptioned), size)]
        return {"scenes" if len(parts) == 1 else f"scenes-{n:03d}": part for n, part in enumerate(parts)}

    def shards(self, wanted: set[int] | None = None, splits: Sequence[str] = SPLITS) -> list[Shard]:
        return [Shard(name, "", 0, "", images=len(scenes)) for name, scenes in self._shards.items()]

    def images(self, shard: Shard, wanted: set[int], passed: PassedOver | None = None) -> Iterator[SourceImage]:
        source = f"{self._world.name.replace('-', '_')}_distractor"
        return (self._image(scene, source) for scene in self._shards[shard.name])
