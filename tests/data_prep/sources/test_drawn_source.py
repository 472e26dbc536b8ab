"""The drawn scenes as sources: the captioned ones, and the others as distractors."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from data_prep.sources import NOT_SELECTED, Shard
from data_prep.sources.drawn.images import draw
from data_prep.sources.drawn.mini import mini_scenes
from data_prep.sources.drawn.source import MINI, POOL, CaptionedScenes, DistractorScenes, World
from data_prep.storage import PassedOver

MADE = mini_scenes("few", 3, 4)
FEW = World("few", lambda: MADE, 10)


@pytest.fixture
def few():
    """Three captioned scenes and four others, whose names are in another order than they are made in."""
    assert [s.stem for s in MADE] != sorted(s.stem for s in MADE)
    return sorted(MADE, key=lambda scene: scene.stem)


def test_mini_has_200_captioned_scenes():
    assert CaptionedScenes(MINI).count() == 200


def check(images, expected, source):
    assert [image.id for image in images] == [f"few/{scene.stem}" for scene in expected]
    assert [image.captions for image in images] == [scene.captions for scene in expected]
    assert {(i.source, i.split, i.class_index, i.wnid, i.problem) for i in images} == {(source, "", -1, "", "")}
    for image, scene in zip(images, expected):
        stored = Image.open(io.BytesIO(image.data))
        assert stored.format == "PNG"
        assert np.array_equal(np.asarray(stored), np.asarray(draw(scene.scene)))


def test_captioned_scenes_come_by_name_without_loss(few):
    source = CaptionedScenes(FEW)
    expected = [scene for scene in few if scene.captions]
    check(list(source.images()), expected, "few")
    assert source.count() == len(expected) == 3
    assert source.describe() == {"form": "drawn scenes"}


def test_the_other_scenes_are_one_part_of_no_class(few):
    source = DistractorScenes(FEW)
    (shard,) = source.shards()
    assert shard == Shard("scenes", "", 0, "", -1, images=4)
    assert source.shards({1}) == [shard]
    source.prefetch(shard)
    check(list(source.images(shard, set())), [scene for scene in few if not scene.captions], "few_distractor")
    source.release(shard)
    assert source.describe() == {"form": "drawn scenes"}


def test_a_pool_comes_in_shards_that_hold_each_image_once(few):
    source = DistractorScenes(World("few-pool", lambda: MADE, 3))
    assert source.shards() == [Shard(f"scenes-{n:03d}", "", 0, "", -1, images=count) for n, count in enumerate((3, 1))]
    found = [image for shard in source.shards() for image in source.images(shard, set())]
    assert [image.id for image in found] == [f"few-pool/{scene.stem}" for scene in few if not scene.captions]
    assert {image.source for image in found} == {"few_pool_distractor"}


def test_the_worlds_are_named_after_their_sources():
    assert [(world.name, world.shard) for world in (MINI, POOL)] == [("drawn", 10_000), ("drawn-pool", 1_000)]


def test_of_the_captioned_scenes_those_asked_for_come(few):
    captioned, passed = [f"few/{scene.stem}" for scene in few if scene.captions], PassedOver()
    found = CaptionedScenes(FEW).images(passed, captioned[1:])
    assert [image.id for image in found] == captioned[1:]
    assert dict(passed) == {NOT_SELECTED: 1}
