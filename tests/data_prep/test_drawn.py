"""The drawn scenes are frozen and varied, and the embedded model that was trained on them searches them."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import random
from pathlib import Path

import pytest

import mteb_vehicle_search
from data_prep.sources.drawn import (
    CHOICES,
    KINDS,
    Scene,
    captions,
    draw,
    draw_photo_like,
    mini_scenes,
    near_twin,
    random_scene,
)

TINY_CLIP = Path(mteb_vehicle_search.__file__).parent / "models" / "tiny_clip"
SCENES = {
    "52c510ee739e1e42": Scene("bus", "red", 1, "left", "middle", "city", "rain", "dog"),
    "05d5bbb848ecdc7a": Scene("train", "green", 2, "right", "left", "snow", "fog", "person"),
    "5dba07d1f06712a9": Scene("bicycle", "yellow", 3, "left", "right", "night", "clear", "balloon"),
}
MINI_TEXTS = "ccf53e0d7db7e9c0"


def _differences(one: Scene, other: Scene) -> list[str]:
    return [f.name for f in dataclasses.fields(Scene) if getattr(one, f.name) != getattr(other, f.name)]


@pytest.mark.parametrize(("digest", "scene"), SCENES.items())
def test_drawing_is_frozen(digest: str, scene: Scene) -> None:
    assert hashlib.sha256(draw(scene).tobytes()).hexdigest()[:16] == digest


def test_scenes_and_captions_of_mini_are_frozen() -> None:
    told = "\n".join(repr((s.stem, dataclasses.astuple(s.scene), s.captions)) for s in mini_scenes())
    assert hashlib.sha256(told.encode()).hexdigest()[:16] == MINI_TEXTS


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


def test_all_pictures_of_mini_differ_and_fit() -> None:
    pictures = [draw(s.scene) for s in mini_scenes()]
    assert {(p.mode, min(p.size)) for p in pictures} == {("RGB", 160)}
    assert len({p.tobytes() for p in pictures}) == 2000
    stored = 0
    for picture in pictures:
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=75)
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


def test_photo_like_pictures_weigh_as_much_as_photos() -> None:
    file = io.BytesIO()
    draw_photo_like(3).save(file, "JPEG", quality=90)
    assert 90_000 <= len(file.getvalue()) <= 130_000
    assert draw_photo_like(3).tobytes() == draw_photo_like(3).tobytes()
    assert draw_photo_like(3).tobytes() != draw_photo_like(4).tobytes()
    assert draw_photo_like(3, 64, 100).size == (64, 100)


def test_training_is_reproducible_to_the_bit(tmp_path: Path) -> None:
    import torch

    from data_prep.train_tiny_clip import Training, save, train

    threads = torch.get_num_threads()
    training = Training(seed="test", pairs=16, steps=5, batch_pairs=6, warm_up=2, threads=1)
    try:
        for name in ("one", "two"):
            save(tmp_path / name, *train(training))
        save(tmp_path / "other", *train(dataclasses.replace(training, seed="test-2")))
    finally:
        torch.set_num_threads(threads)
    files = sorted(p.name for p in (tmp_path / "one").iterdir())
    assert files == ["bpe_vocabulary.txt.gz", "open_clip_config.json", "open_clip_model.safetensors"]
    for name in files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    weights = "open_clip_model.safetensors"
    assert (tmp_path / "one" / weights).read_bytes() != (tmp_path / "other" / weights).read_bytes()


def test_captions_of_mini_fit_in_the_shipped_model() -> None:
    import open_clip
    import torch

    from data_prep.bpe_vocabulary import VOCABULARY_FILE, tokenize

    vocabulary = TINY_CLIP / VOCABULARY_FILE
    tokenizer = open_clip.get_tokenizer(f"local-dir:{TINY_CLIP}", bpe_path=str(vocabulary))
    texts = [text for named in mini_scenes() for text in named.captions]
    tokens = tokenizer(texts)
    assert torch.equal(tokens, tokenize(vocabulary.read_bytes(), texts))
    assert int((tokens != 0).sum(dim=1).max()) < tokens.shape[1], "a caption does not fit in the context"


def test_no_scene_of_mini_is_trained_on() -> None:
    from data_prep.training_scenes import pool_scenes

    scenes = pool_scenes("tiny-clip-2", 4000)
    assert len(scenes) == 8000
    assert not {named.scene for named in mini_scenes()} & set(scenes)
