"""Preprocessing, bit by bit against open_clip's own transform."""

import dataclasses
import io

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from torchvision.transforms.functional import _compute_resized_output_size

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


def blocks(width, height, mode="RGB"):
    generator = np.random.default_rng(width * 1000 + height)
    coarse = generator.integers(0, 256, (max(1, height // 4), max(1, width // 4), 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.NEAREST).convert(mode)


def open_clips(size, **given):
    cfg = PreprocessCfg(size=size, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), **given)
    transform = image_transform_v2(cfg, is_train=False)
    # ToTensor divides by 255 in fp32; rounding gives the uint8 value back exactly.
    return lambda image: (transform(image) * 255).round().to(torch.uint8)


@pytest.mark.parametrize("name", ["quick", "Exact"])
def test_an_unknown_mode_is_refused_with_the_choice(monkeypatch, name):
    monkeypatch.setenv("VEHICLE_SEARCH_PREPROCESS", name)
    with pytest.raises(EncodeError, match=f"VEHICLE_SEARCH_PREPROCESS='{name}' is unknown") as caught:
        chosen_mode()
    assert caught.value.hint == "Choose from exact, fast."


def test_the_mode_is_exact_unless_the_variable_says_fast(monkeypatch):
    assert chosen_mode() == "exact"
    for name in ("exact", "fast"):
        monkeypatch.setenv("VEHICLE_SEARCH_PREPROCESS", name)
        assert chosen_mode() == name


def test_what_is_wanted_decides_before_the_variable(monkeypatch):
    monkeypatch.setenv("VEHICLE_SEARCH_PREPROCESS", "fast")
    assert chosen_mode("exact") == "exact"
    with pytest.raises(EncodeError, match=r"^preprocess='quick' is unknown"):
        chosen_mode("quick")
    monkeypatch.setenv("VEHICLE_SEARCH_PREPROCESS", "quick")
    with pytest.raises(EncodeError, match=r"^VEHICLE_SEARCH_PREPROCESS='quick' is unknown"):
        chosen_mode()


@pytest.mark.parametrize("kind", [ShortestSideCrop, Squash])
def test_nothing_said_means_exact_and_bicubic(kind):
    assert kind(96) == kind(96, "exact", "bicubic") == kind(size_px=96, mode="exact", interpolation="bicubic")
    # It stands in the encoder's fingerprint, so it must not change after that.
    with pytest.raises(dataclasses.FrozenInstanceError):
        kind(96).mode = "fast"


@settings(derandomize=True, deadline=None)
@given(st.integers(1, 1200), st.integers(1, 1200), st.sampled_from([1, 96, 224, 336, 448, 512]))
@example(97, 96, 96)
@example(96, 97, 96)
@example(512, 512, 512)
def test_sizes_after_the_resize_are_torchvisions(width, height, size):
    wanted_height, wanted_width = _compute_resized_output_size((height, width), [size])
    assert ShortestSideCrop(size).resized(width, height) == (wanted_width, wanted_height)
    assert Squash(size).resized(width, height) == (size, size)


@pytest.mark.parametrize("extra", range(6))
@pytest.mark.parametrize("mode", ["exact", "fast"])
def test_the_square_is_cut_where_open_clip_cuts_it(mode, extra):
    # Nothing is resized, so that a cut one pixel off shows in both modes; odd rests are rounded to even, as there.
    for shape in ((64, 64 + extra), (64 + extra, 64)):
        image = Image.fromarray(np.random.default_rng(extra).integers(0, 256, (*shape, 3), dtype=np.uint8))
        assert torch.equal(ShortestSideCrop(64, mode)(image), open_clips(64)(image))


def test_the_shorter_side_is_enlarged_as_well():
    image = blocks(40, 30)
    assert torch.equal(ShortestSideCrop(96)(image), open_clips(96)(image))
    assert (ShortestSideCrop(96, "fast")(image).int() - open_clips(96)(image).int()).abs().max() <= 3


def jpeg(mode="RGB", **options):
    file = io.BytesIO()
    blocks(213, 160, mode).save(file, "JPEG", **options)
    return file.getvalue()


@pytest.mark.parametrize("mode", ["exact", "fast"])
@pytest.mark.parametrize("colours", ["RGB", "L", "CMYK"])
def test_pixels_are_uint8_with_the_channels_last_in_memory(mode, colours):
    for found in (ShortestSideCrop(96, mode).decode(jpeg(colours)), ShortestSideCrop(96, mode)(blocks(213, 160))):
        assert (found.dtype, found.shape) == (torch.uint8, (3, 96, 96))
        assert found.stride(0) == 1


@pytest.mark.parametrize(
    ("mode", "colours", "wanted"),
    [("exact", "RGB", 0), ("exact", "L", 0), ("fast", "RGB", 1), ("fast", "L", 1), ("fast", "CMYK", 0)],
)
def test_only_fast_decodes_past_pillow_and_only_what_both_turn_into_the_same_rgb(monkeypatch, mode, colours, wanted):
    import simplejpeg

    decode, calls = simplejpeg.decode_jpeg, []
    monkeypatch.setattr(simplejpeg, "decode_jpeg", lambda *args: calls.append(args[1:]) or decode(*args))
    ShortestSideCrop(96, mode).decode(jpeg(colours))
    assert calls == [("RGB",)] * wanted


@pytest.mark.parametrize("colours", ["RGB", "L", "CMYK"])
def test_decoding_converts_to_rgb_before_it_resizes(colours):
    with Image.open(io.BytesIO(jpeg(colours))) as image:
        wanted = image.convert("RGB")
    assert torch.equal(ShortestSideCrop(96).decode(jpeg(colours)), open_clips(96)(wanted))
    apart = ShortestSideCrop(96, "fast").decode(jpeg(colours)).int() - open_clips(96)(wanted).int()
    assert apart.abs().max() <= 3


def test_fast_is_another_way_than_exact():
    image = blocks(213, 160)
    assert not torch.equal(ShortestSideCrop(96, "fast")(image), ShortestSideCrop(96)(image))


@pytest.mark.parametrize("size", [96, 224, 512])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_exact_is_open_clips_bit_by_bit(size, shape):
    image = blocks(*shape)
    assert torch.equal(ShortestSideCrop(size)(image), open_clips(size)(image))


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize(("kind", "resize_mode"), [(ShortestSideCrop, "shortest"), (Squash, "squash")])
def test_every_way_to_resize_is_open_clips_bit_by_bit(kind, resize_mode, interpolation):
    wanted = open_clips(96, interpolation=interpolation, resize_mode=resize_mode)
    for shape in SHAPES:
        image = blocks(*shape)
        assert torch.equal(kind(96, interpolation=interpolation)(image), wanted(image)), shape
        apart = (kind(96, "fast", interpolation)(image).int() - wanted(image).int()).abs()
        # Squashing a strip of 37 x 900 is up to 8 apart.
        assert apart.max() <= (3 if max(shape) < 10 * min(shape) else 8), shape


def test_grey_images_become_rgb_as_open_clip_does():
    # Evaluation sets hold RGB or grey JPEGs. CMYK and palettes, which open_clip resizes before it converts, are
    # converted on decoding by mteb, by `datasets` and by us alike.
    image = blocks(160, 213, "L")
    assert torch.equal(ShortestSideCrop(224)(image.convert("RGB")), open_clips(224)(image))


def test_decoding_is_that_of_pillow():
    file = io.BytesIO()
    blocks(200, 160).save(file, "JPEG")
    with Image.open(io.BytesIO(file.getvalue())) as image:
        wanted = open_clips(224)(image)
    assert torch.equal(ShortestSideCrop(224).decode(file.getvalue()), wanted)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_fast_stays_within_three_255ths(shape):
    image = blocks(*shape)
    apart = (ShortestSideCrop(224, "fast")(image).int() - ShortestSideCrop(224)(image).int()).abs()
    assert apart.max() <= 3
    assert apart.float().mean() <= 0.02


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("options", [{}, {"quality": 95, "subsampling": 0}, {"quality": 50, "progressive": True}])
def test_fast_decodes_every_kind_of_jpeg_as_pillow_does(mode, options):
    file = io.BytesIO()
    blocks(213, 160, mode).save(file, "JPEG", **(options if mode == "RGB" else {}))
    fast, exact = (ShortestSideCrop(224, name).decode(file.getvalue()) for name in ("fast", "exact"))
    assert fast.shape == exact.shape == (3, 224, 224)
    assert (fast.int() - exact.int()).abs().max() <= 3


@pytest.mark.parametrize("mode", ["exact", "fast"])
def test_a_truncated_jpeg_is_an_error(mode):
    file = io.BytesIO()
    blocks(213, 160).save(file, "JPEG")
    with pytest.raises((OSError, ValueError)):
        ShortestSideCrop(224, mode).decode(file.getvalue()[:900])
