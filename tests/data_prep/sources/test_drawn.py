"""The drawn scenes are frozen and varied: the published bytes of Mini and its content id depend on every stroke."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import random
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data_prep.sources.drawn.images import draw, draw_photo_like
from data_prep.sources.drawn.mini import mini_scenes
from data_prep.sources.drawn.phrases import captions
from data_prep.sources.drawn.scene import CHOICES, KINDS, Scene, near_twin, random_scene

# Images of what the tables below change one attribute of: by day, at night from the other side, and three in a row.
BASES = (
    Scene("car", "red", 1, "right", "middle", "field", "clear", "nothing"),
    Scene("tram", "white", 2, "left", "left", "night", "clear", "house"),
    Scene("pickup", "blue", 3, "right", "right", "beach", "rain", "tree"),
)
# attribute, value: what the three look like with it.
IMAGES = {
    ("kind", "car"): "97e5cc4f83d2e98c",
    ("kind", "bus"): "99eecb747388592d",
    ("kind", "truck"): "4cd41569533edd65",
    ("kind", "van"): "aa07a48631ef31e2",
    ("kind", "bicycle"): "080701f42017a215",
    ("kind", "motorcycle"): "fa95b581d4d244f0",
    ("kind", "train"): "a4ecdd3c036e485b",
    ("kind", "tram"): "b280d58ca8d073d2",
    ("kind", "tractor"): "a38958a4baedbb66",
    ("kind", "fire engine"): "7ba7a0fe3e732a04",
    ("kind", "scooter"): "5619f3a006192cb2",
    ("kind", "pickup"): "eb53ff1005d34622",
    ("colour", "red"): "c12a03b4253f04ee",
    ("colour", "blue"): "1f2dcac1614e514b",
    ("colour", "green"): "fb5a865197235c10",
    ("colour", "yellow"): "5d9970b267a6a686",
    ("colour", "white"): "e65c87a74ac2ca61",
    ("colour", "black"): "b48f6cba3e6e3bce",
    ("colour", "orange"): "fb8831c0308cc35c",
    ("colour", "purple"): "eb7878b35d6a403b",
    ("count", 1): "3188eeeb4820c069",
    ("count", 2): "16d6a920b98cc3e0",
    ("count", 3): "c39f4f8d94874108",
    ("heading", "left"): "a67ac4219307e919",
    ("heading", "right"): "c6cbc4de5c9ec445",
    ("side", "left"): "0df58bd1af9d86db",
    ("side", "middle"): "365d7cf9075979df",
    ("side", "right"): "337f71172150ad8d",
    ("place", "road"): "9677362bd8f029c3",
    ("place", "city"): "b6df8e26098889a6",
    ("place", "field"): "6c5cb409191bad99",
    ("place", "beach"): "8c0b146cfaccd1ca",
    ("place", "snow"): "3802bc4174dd72a8",
    ("place", "desert"): "751b8f2118d184a9",
    ("place", "night"): "a58ca53953ba3fe9",
    ("place", "forest"): "464bab6b783d7243",
    ("weather", "clear"): "3fb4cf3033f065e4",
    ("weather", "rain"): "090c61b216574ee5",
    ("weather", "fog"): "611fa253a106af60",
    ("extra", "nothing"): "26387594d3acdf93",
    ("extra", "person"): "33f647fc59af3b60",
    ("extra", "tree"): "f62116ccf92dd1b1",
    ("extra", "dog"): "add58a270b2c3205",
    ("extra", "sign"): "9ade993a34f32245",
    ("extra", "house"): "df69f5b915fba264",
    ("extra", "balloon"): "5d74ee53ae859c20",
}
SCENES = {
    "52c510ee739e1e42": Scene("bus", "red", 1, "left", "middle", "city", "rain", "dog"),
    "05d5bbb848ecdc7a": Scene("train", "green", 2, "right", "left", "snow", "fog", "person"),
    "5dba07d1f06712a9": Scene("bicycle", "yellow", 3, "left", "right", "night", "clear", "balloon"),
}
MINI_TEXTS = "ccf53e0d7db7e9c0"
CAPTIONS = "024c49ac51bba269"


def _differences(one: Scene, other: Scene) -> list[str]:
    return [f.name for f in dataclasses.fields(Scene) if getattr(one, f.name) != getattr(other, f.name)]


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def test_the_table_of_images_has_every_value_of_every_attribute() -> None:
    assert list(IMAGES) == [(name, value) for name, choices in CHOICES.items() for value in choices]


@pytest.mark.parametrize(("attribute", "value"), IMAGES)
def test_every_stroke_is_frozen(attribute: str, value: Any) -> None:
    """Also in a tiny image, in which the thinnest lines are kept at one pixel."""
    scenes = [dataclasses.replace(base, **{attribute: value}) for base in BASES]
    images = [draw(scene, width_px) for scene in scenes for width_px in (192, 24)]
    assert _digest(b"".join(image.tobytes() for image in images)) == IMAGES[attribute, value]


@pytest.mark.parametrize(("digest", "scene"), SCENES.items())
def test_an_image_of_mini_is_frozen(digest: str, scene: Scene) -> None:
    assert draw(scene).size == (192, 160)
    assert _digest(draw(scene).tobytes()) == digest


def test_captions_are_frozen() -> None:
    """In every turn of phrase, with each number, extra, side and weather."""
    told = []
    for number in range(400):
        scene = random_scene(random.Random(f"told/{number}"))
        told += [dataclasses.astuple(scene), captions(scene, str(number))]
    assert _digest(repr(told).encode()) == CAPTIONS


def test_scenes_and_captions_of_mini_are_frozen() -> None:
    told = "\n".join(repr((s.stem, dataclasses.astuple(s.scene), s.captions)) for s in mini_scenes())
    assert _digest(told.encode()) == MINI_TEXTS


def test_a_small_mini_of_another_seed() -> None:
    scenes = mini_scenes("another", captioned=3, distractors=5)
    assert [len(s.captions) for s in scenes] == [5, 5, 5, 0, 0, 0, 0, 0]
    assert sorted(s.stem for s in scenes) == [f"{n:06d}" for n in range(8)]
    assert [s.captions for s in scenes[:3]] == [captions(s.scene, f"another/{s.stem}") for s in scenes[:3]]
    # The first distractor and every second after it are near twins.
    assert [min(len(_differences(s.scene, t.scene)) for t in scenes[:3]) == 1 for s in scenes[3:]] == [
        True,
        False,
        True,
        False,
        True,
    ]
    assert {s.scene for s in scenes}.isdisjoint(s.scene for s in mini_scenes("a third", 3, 5))


def test_mini_has_captioned_scenes_and_near_twins() -> None:
    scenes = mini_scenes()
    captioned = [s.scene for s in scenes if s.captions]
    others = [s.scene for s in scenes if not s.captions]
    assert (len(captioned), len(others)) == (200, 1800)
    assert len({s.stem for s in scenes}) == len({s.scene for s in scenes}) == 2000
    twins = sum(any(len(_differences(scene, other)) == 1 for other in captioned) for scene in others)
    assert twins >= 900


def test_every_attribute_takes_every_value() -> None:
    scenes = [s.scene for s in mini_scenes()]
    assert len(KINDS) >= 10
    for name, choices in CHOICES.items():
        assert {getattr(scene, name) for scene in scenes} == set(choices)


def test_all_images_of_mini_differ_and_fit() -> None:
    images = [draw(s.scene) for s in mini_scenes()]
    assert {(p.mode, min(p.size)) for p in images} == {("RGB", 160)}
    assert len({p.tobytes() for p in images}) == 2000
    stored = 0
    for image in images:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=75)
        stored += len(file.getvalue())
    assert stored <= 7_800_000


@pytest.mark.parametrize("seed", range(50))
def test_near_twin_differs_in_one_attribute_that_is_seen(seed: int) -> None:
    rng = random.Random(f"twins/{seed}")
    scene = random_scene(rng)
    twin = near_twin(scene, rng)
    assert len(_differences(scene, twin)) == 1
    assert draw(scene).tobytes() != draw(twin).tobytes()


def test_five_captions_differ_and_follow_from_the_seed() -> None:
    scene = Scene("bus", "orange", 2, "left", "middle", "city", "rain", "dog")
    told = captions(scene, "a")
    assert told == captions(scene, "a")
    assert told != captions(scene, "b")
    assert "orange buses" in told[0]
    assert "left" in told[0]
    for named in mini_scenes():
        if named.captions:
            assert len({text.lower().rstrip(".") for text in named.captions}) == 5


def test_photo_like_images_weigh_as_much_as_photos() -> None:
    file = io.BytesIO()
    image = draw_photo_like(3)
    assert image.size == (500, 375)
    image.save(file, "JPEG", quality=90)
    assert 90_000 <= len(file.getvalue()) <= 130_000
    assert draw_photo_like(3).tobytes() == draw_photo_like(3).tobytes()
    assert draw_photo_like(3).tobytes() != draw_photo_like(4).tobytes()
    assert draw_photo_like(3, 64, 100).size == (64, 100)


def test_photo_like_images_are_scenes_under_grey_noise() -> None:
    scene = random_scene(random.Random("photo/5"))
    plain = np.asarray(draw(scene).resize((300, 250), Image.Resampling.BICUBIC), dtype=float)
    photo = np.asarray(draw_photo_like(5, 300, 250), dtype=float)
    inside = ((photo > 0) & (photo < 255)).all(axis=2)
    noise = (photo - plain)[inside]
    assert np.ptp(noise, axis=1).max() <= 1  # Noise of brightness, not of colour; 1 by rounding.
    middle = ((plain > 110) & (plain < 145)).all(axis=2)  # Where hardly any noise is clipped.
    assert middle.sum() > 2000
    assert abs((photo - plain)[middle].std() - 40) < 2
    assert abs((photo - plain)[middle].mean()) < 3
