"""The drawn scenes as sources: the captioned ones, and the others as distractors."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from data_prep.sources import Shard
from data_prep.sources.drawn import source as scenes
from data_prep.sources.drawn.mini import mini_scenes
from data_prep.sources.drawn.pictures import draw
from data_prep.sources.drawn.source import CaptionedScenes, DistractorScenes


@pytest.fixture
def few(monkeypatch):
    """Three captioned scenes and four others, whose names are in another order than they are made in."""
    made = mini_scenes("few", 3, 4)
    monkeypatch.setattr(scenes, "mini_scenes", lambda: made)
    assert [s.stem for s in made] != sorted(s.stem for s in made)
    return sorted(made, key=lambda scene: scene.stem)


def test_mini_has_200_captioned_scenes():
    assert CaptionedScenes().count() == 200


def check(images, expected, source):
    assert [image.id for image in images] == [f"drawn/{scene.stem}" for scene in expected]
    assert [image.captions for image in images] == [scene.captions for scene in expected]
    assert {(i.source, i.split, i.class_index, i.wnid, i.problem) for i in images} == {(source, "", -1, "", "")}
    for image, scene in zip(images, expected):
        stored = Image.open(io.BytesIO(image.data))
        assert stored.format == "PNG"
        assert np.array_equal(np.asarray(stored), np.asarray(draw(scene.scene)))


def test_captioned_scenes_come_by_name_without_loss(few):
    source = CaptionedScenes()
    expected = [scene for scene in few if scene.captions]
    check(list(source.images()), expected, "drawn")
    assert source.count() == len(expected) == 3
    assert source.describe() == {"form": "drawn scenes"}


def test_the_other_scenes_are_one_part_of_no_class(few):
    source = DistractorScenes()
    (shard,) = source.shards()
    assert shard == Shard("scenes", "", 0, "", -1)
    assert source.shards({1}) == [shard]
    source.prefetch(shard)
    check(list(source.images(shard, set())), [scene for scene in few if not scene.captions], "drawn_distractor")
    source.release(shard)
    assert source.describe() == {"form": "drawn scenes"}
