"""Preprocessing, bit by bit against open_clip's own transform."""

import io

import numpy as np
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image

from mteb_vehicle_search.errors import EncodeError
from mteb_vehicle_search.models.preprocess import ShortestSideCrop, Squash, chosen_mode

SHAPES = [
    (160, 213),
    (213, 160),
    (160, 160),
    (500, 375),
    (333, 500),
    (37, 900),
    (900, 37),
    (224, 224),
    (1, 1),
    (96, 97),
]


def picture(width, height, mode="RGB"):
    generator = np.random.default_rng(width * 1000 + height)
    coarse = generator.integers(0, 256, (max(1, height // 4), max(1, width // 4), 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.NEAREST).convert(mode)


def open_clips(size, **given):
    cfg = PreprocessCfg(size=size, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), **given)
    transform = image_transform_v2(cfg, is_train=False)
    # ToTensor divides by 255 in fp32; rounding gives the uint8 value back exactly.
    return lambda image: (transform(image) * 255).round().to(torch.uint8)


@pytest.mark.parametrize("size", [96, 224, 512])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_exact_is_open_clips_bit_by_bit(size, shape):
    image = picture(*shape)
    assert torch.equal(ShortestSideCrop(size)(image), open_clips(size)(image))


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize(("kind", "resize_mode"), [(ShortestSideCrop, "shortest"), (Squash, "squash")])
def test_every_way_to_resize_is_open_clips_bit_by_bit(kind, resize_mode, interpolation):
    wanted = open_clips(96, interpolation=interpolation, resize_mode=resize_mode)
    for shape in SHAPES:
        image = picture(*shape)
        assert torch.equal(kind(96, interpolation=interpolation)(image), wanted(image)), shape
        apart = (kind(96, "fast", interpolation)(image).int() - wanted(image).int()).abs()
        # Squashing a strip of 37 x 900 is up to 8 apart.
        assert apart.max() <= (3 if max(shape) < 10 * min(shape) else 8), shape


def test_grey_images_become_rgb_as_open_clip_does():
    # Evaluation sets hold RGB or grey JPEGs. CMYK and palettes, which open_clip resizes before it converts, are
    # converted on decoding by mteb, by `datasets` and by us alike.
    image = picture(160, 213, "L")
    assert torch.equal(ShortestSideCrop(224)(image.convert("RGB")), open_clips(224)(image))


def test_decoding_is_that_of_pillow():
    file = io.BytesIO()
    picture(200, 160).save(file, "JPEG")
    with Image.open(io.BytesIO(file.getvalue())) as image:
        wanted = open_clips(224)(image)
    assert torch.equal(ShortestSideCrop(224).decode(file.getvalue()), wanted)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_fast_stays_within_three_255ths(shape):
    image = picture(*shape)
    apart = (ShortestSideCrop(224, "fast")(image).int() - ShortestSideCrop(224)(image).int()).abs()
    assert apart.max() <= 3
    assert apart.float().mean() <= 0.02


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("options", [{}, {"quality": 95, "subsampling": 0}, {"quality": 50, "progressive": True}])
def test_fast_decodes_every_kind_of_jpeg_as_pillow_does(mode, options):
    file = io.BytesIO()
    picture(213, 160, mode).save(file, "JPEG", **(options if mode == "RGB" else {}))
    fast, exact = (ShortestSideCrop(224, name).decode(file.getvalue()) for name in ("fast", "exact"))
    assert fast.shape == exact.shape == (3, 224, 224)
    assert (fast.int() - exact.int()).abs().max() <= 3


@pytest.mark.parametrize("mode", ["exact", "fast"])
def test_a_truncated_jpeg_is_an_error(mode):
    file = io.BytesIO()
    picture(213, 160).save(file, "JPEG")
    with pytest.raises((OSError, ValueError)):
        ShortestSideCrop(224, mode).decode(file.getvalue()[:900])


def test_an_unknown_mode_is_refused(monkeypatch):
    monkeypatch.setenv("VEHICLE_SEARCH_PREPROCESS", "quick")
    with pytest.raises(EncodeError, match="'quick' is unknown"):
        chosen_mode()
