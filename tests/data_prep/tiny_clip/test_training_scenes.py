"""The images and captions of a training run: none of Mini's, stored and seen as in an evaluation, and varied."""

from __future__ import annotations

import dataclasses
import io
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from torchvision.transforms import functional

from data_prep.preset import load_preset
from data_prep.sources.drawn.images import draw
from data_prep.sources.drawn.mini import DrawnScene, mini_scenes
from data_prep.sources.drawn.scene import Scene
from data_prep.tiny_clip import scenes as training_scenes
from data_prep.tiny_clip.scenes import (
    IMAGE_PX,
    JPEG_QUALITY,
    MARGIN_PX,
    OPENAI_MEAN,
    OPENAI_STD,
    as_seen,
    augment,
    normalise,
    pool_images,
    pool_scenes,
    stored,
    two_captions,
)


@pytest.fixture
def in_this_process(monkeypatch):
    """Draws in a thread; records with how many workers and from which start method it would have been."""
    asked = []

    def executor(workers: int, mp_context: Any) -> ThreadPoolExecutor:
        asked.append((workers, mp_context.get_start_method()))
        return ThreadPoolExecutor(1)

    monkeypatch.setattr(training_scenes, "ProcessPoolExecutor", executor)
    return asked


def smooth(width: int, height: int, seed: int = 0) -> Image.Image:
    """Smooth colours, so that little is lost in a JPEG."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 7, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def test_constants_are_those_of_the_preset_and_of_openai():
    assert load_preset("mini").images.jpeg_quality == JPEG_QUALITY
    assert (OPENAI_MEAN, OPENAI_STD) == (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)
    assert (IMAGE_PX, MARGIN_PX) == (96, 3)


def test_every_scene_comes_with_a_near_twin():
    scenes = pool_scenes("s", 50)
    assert len(scenes) == 100
    for scene, twin in zip(scenes[::2], scenes[1::2]):
        assert sum(a != b for a, b in zip(dataclasses.astuple(scene), dataclasses.astuple(twin))) == 1
    assert scenes == pool_scenes("s", 50)
    assert scenes[:20] == pool_scenes("s", 10)
    assert scenes != pool_scenes("t", 50)
    assert pool_scenes("s", 0) == []


@pytest.mark.parametrize("place", [2, 5], ids=["a scene", "a near twin"])
def test_a_pair_with_a_scene_of_mini_is_left_out(monkeypatch, place):
    scenes = pool_scenes("s", 5)
    monkeypatch.setattr(training_scenes, "mini_scenes", lambda: [DrawnScene("0", scenes[place])])
    pair = place // 2 * 2
    assert pool_scenes("s", 4) == scenes[:pair] + scenes[pair + 2 :]


def test_no_scene_of_mini_is_trained_on() -> None:
    scenes = pool_scenes("tiny-clip-2", 4000)
    assert len(scenes) == 8000
    assert not {named.scene for named in mini_scenes()} & set(scenes)


def test_images_are_drawn_in_processes_of_their_own():
    scenes = pool_scenes("s", 1)
    images = pool_images(scenes, 1)
    assert (images.dtype, images.shape) == (torch.uint8, (2, 3, 96, 96))
    for scene, image in zip(scenes, images):
        assert np.array_equal(image.permute(1, 2, 0).numpy(), np.asarray(as_seen(draw(scene))))


def test_images_of_several_chunks_are_in_the_order_of_their_scenes(monkeypatch, in_this_process):
    """The processes are not forked: torch has threads by then."""
    scenes = [Scene("car", "red", n, "left", "left", "road", "clear", "nothing") for n in range(501)]
    monkeypatch.setattr(training_scenes, "draw", lambda scene: scene)
    monkeypatch.setattr(
        training_scenes, "as_seen", lambda scene: Image.new("RGB", (96, 96), (scene.count % 256, scene.count // 256, 7))
    )
    images = pool_images(scenes, 3)
    assert images.shape == (501, 3, 96, 96)
    numbers = images[:, 0].long() + 256 * images[:, 1].long()
    assert torch.equal(numbers, torch.arange(501).view(-1, 1, 1).expand(-1, 96, 96))
    assert images[:, 2].eq(7).all()
    assert images.is_contiguous()
    assert in_this_process == [(3, "spawn")]


def test_a_stored_image_is_the_jpeg_of_an_evaluation_set():
    file = io.BytesIO()
    smooth(40, 30).convert("L").save(file, "JPEG", quality=70)
    found = stored(smooth(40, 30).convert("L"))
    assert found.mode == "RGB"
    assert np.array_equal(np.asarray(found), np.asarray(Image.open(file).convert("RGB")))


@pytest.mark.parametrize("size", [(200, 160), (160, 200), (160, 160), (96, 96), (300, 120), (50, 100)])
def test_an_image_is_seen_resized_and_cropped_to_the_middle(size):
    whole = smooth(*size)
    small = functional.resize(stored(whole), [96], functional.InterpolationMode.BICUBIC)
    expected = functional.center_crop(small, [96])
    assert as_seen(whole).size == (96, 96)
    assert np.array_equal(np.asarray(as_seen(whole)), np.asarray(expected))


def test_a_scene_is_seen_within_a_pixel_of_open_clips_crop():
    whole = draw(pool_scenes("s", 1)[0])
    small = functional.resize(stored(whole), [96], functional.InterpolationMode.BICUBIC)
    assert small.size == (115, 96)
    assert np.array_equal(np.asarray(as_seen(whole)), np.asarray(small)[:, 9:105])  # open_clip's begins at 10.


def test_pixels_are_normalised_as_the_library_does_it():
    pixels = torch.randint(0, 256, (3, 3, 5, 7), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    expected = functional.normalize(pixels / 255, list(OPENAI_MEAN), list(OPENAI_STD))
    assert normalise(pixels).dtype == torch.float32
    torch.testing.assert_close(normalise(pixels), expected)


def test_training_images_are_shifted_together_and_brightened_one_by_one():
    """Red tells a pixel's column and green its row; blue is the same everywhere and tells the gain."""
    place = torch.arange(96, dtype=torch.uint8)
    red, green = (2 * place).expand(96, 96), (2 * place).view(-1, 1).expand(96, 96)
    pixels = torch.stack([red, green, torch.full((96, 96), 255, dtype=torch.uint8)]).expand(2, 3, 96, 96)
    full = (1 - OPENAI_MEAN[2]) / OPENAI_STD[2]
    generator = torch.Generator().manual_seed(0)
    shifts, gains = set(), []
    for _ in range(120):
        seen = augment(pixels, generator).numpy()
        assert seen.shape == (2, 3, 96, 96)
        gain = seen[:, 2, 50, 50] / full
        levels = (seen / gain[:, None, None, None]) * np.reshape(OPENAI_STD, (3, 1, 1)) + np.reshape(
            OPENAI_MEAN, (3, 1, 1)
        )
        column, row = levels[:, 0] * 255 / 2, levels[:, 1] * 255 / 2
        x, y = round(column[0, 50, 50]) - 50, round(row[0, 50, 50]) - 50
        shifted = [np.clip(np.arange(96) + shift, 0, 95) for shift in (x, y)]  # The margin is repeated.
        assert np.abs(column - shifted[0]).max() < 0.01
        assert np.abs(row - shifted[1][:, None]).max() < 0.01
        shifts.add((x, y))
        gains.append(gain)
    assert {x for x, _ in shifts} == {y for _, y in shifts} == set(range(-3, 4))
    assert len(shifts) > 40  # Both directions, independent of each other.
    assert 0.9 <= np.min(gains) < 0.91
    assert 1.09 < np.max(gains) <= 1.1
    assert abs(np.corrcoef(np.array(gains).T)[0, 1]) < 0.25


def test_the_generator_decides():
    pixels = torch.from_numpy(np.array(smooth(96, 96))).permute(2, 0, 1)[None]
    one, two, other = (augment(pixels, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    tokens = torch.arange(50 * 5 * 2).view(50, 5, 2)
    one, two, other = (torch.stack(two_captions(tokens, torch.Generator().manual_seed(seed))) for seed in (1, 1, 2))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


def test_two_different_captions_of_every_scene_are_read_each_pair_as_often():
    tokens = torch.arange(4000).view(-1, 1, 1) * 100 + torch.arange(5).view(1, -1, 1) * 10 + torch.arange(3)
    one, other = two_captions(tokens, torch.Generator().manual_seed(0))
    for captions in (one, other):
        assert torch.equal(captions // 100, torch.arange(4000).view(-1, 1).expand(-1, 3))
        assert torch.equal(captions % 10, torch.arange(3).expand(4000, -1))
    pairs = torch.stack([one[:, 0] % 100 // 10, other[:, 0] % 100 // 10], dim=1)
    found, counts = pairs.unique(dim=0, return_counts=True)
    assert len(found) == 20
    assert (found[:, 0] != found[:, 1]).all()
    assert counts.min() > 140  # 200 are expected.
