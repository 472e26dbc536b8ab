"""Encoded images of every kind, decoded to the library's own pixels, or refused with the reason."""

from __future__ import annotations

import contextlib
import io
import random
import re
import struct
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from encoded_images import ADOBE_EXPONENT, ADOBE_RGB, huge_png, icc_profile, photo, saved
from PIL import Image, ImageOps

from data_prep.stages import decoding
from data_prep.stages.decoding import ImageRejected

JPEG, PROGRESSIVE = saved(photo()), saved(photo(), progressive=True)
END = b"\xff\xd9"

REJECTED = {
    "empty": (b"", "empty file"),
    "text": (b"<html>404</html>", "not an image: begins with b'<html>40'"),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image: begins with b'<svg xml'"),
    "zeros": (bytes(5000), r"not an image: begins with b'\x00\x00\x00\x00\x00\x00\x00\x00'"),
    "header only": (JPEG[:300], "truncated: the file ends before the image does"),
    "half a JPEG": (JPEG[: len(JPEG) // 2], "truncated: the file ends before the image does"),
    "half a PNG": (saved(photo(), "PNG")[:50_000], "truncated: the file ends before the image does"),
    "bomb just above the limit": (
        huge_png(10_000, 9_000),
        "too many pixels: 10000 x 9000 = 90,000,000, the limit is 89,478,485",
    ),
    "bomb that Pillow refuses": (huge_png(60_000, 60_000), "too many pixels: the limit is 89,478,485"),
}


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("name", REJECTED)
def test_attacks_are_rejected_with_their_reason(name):
    data, reason = REJECTED[name]
    with pytest.raises(ImageRejected) as caught:
        decoding.decode(data)
    assert caught.value.reason == reason


def decode(data, **options):
    return decoding.decode(data, **options).image


def pixel(image, x=0, y=0):
    return np.asarray(image)[y, x].tolist()


def refused(data: bytes, **options) -> str:
    """The reason why an image is refused."""
    with pytest.raises(ImageRejected) as caught:
        decoding.decode(data, **options)
    assert str(caught.value) == caught.value.reason
    return caught.value.reason


def test_the_reason_is_the_message():
    assert str(ImageRejected("why")) == ImageRejected("why").reason == "why"


def test_what_libjpeg_warns_about_is_recorded_if_no_pixel_is_lost():
    """Of a colour JPEG, which simplejpeg decodes, and of a grey one, which Pillow does."""
    for data in (JPEG, saved(photo().convert("L")), saved(photo().convert("CMYK"))):
        image, warning = decoding.decode(data[:-2] + b"some more" + END)
        assert re.fullmatch(r"Corrupt JPEG data: \d extraneous bytes before marker 0xd9", warning)
        assert np.array_equal(image, decode(data))
        assert decoding.decode(data).warning == ""


@pytest.mark.parametrize(
    ("warning", "reason"),
    [
        ("Premature end of JPEG file", "truncated: the file ends before the image does"),
        (
            "Corrupt JPEG data: premature end of data segment",
            "damaged: Corrupt JPEG data: premature end of data segment",
        ),
        ("Corrupt JPEG data: bad Huffman code", "damaged: Corrupt JPEG data: bad Huffman code"),
        ("Corrupt JPEG data: bad arithmetic code", "damaged: Corrupt JPEG data: bad arithmetic code"),
        (
            "Corrupt JPEG data: found marker 0xd3 instead of RST1",
            "damaged: Corrupt JPEG data: found marker 0xd3 instead of RST1",
        ),
        ("Invalid SOS parameters for sequential JPEG", None),
        ("Corrupt JPEG data: 7 extraneous bytes before marker 0xd9", None),
        ("Unknown Adobe color transform code 3", None),
    ],
)
def test_each_complaint_of_libjpeg_is_known_to_lose_pixels_or_not(monkeypatch, warning, reason):
    monkeypatch.setattr(decoding, "_turbo", lambda data: (None, warning))
    if reason:
        assert refused(JPEG) == reason
    else:
        assert decoding.decode(JPEG).warning == warning


def test_a_lost_restart_marker_loses_pixels():
    data = saved(photo(), restart_marker_rows=1)
    place = data.index(b"\xff\xd1")
    assert refused(data[: place + 1] + b"\xd5" + data[place + 2 :]).startswith("damaged: Corrupt JPEG data: ")


@pytest.mark.parametrize(
    ("mode", "options"),
    [
        ("RGB", {}),
        ("RGB", {"progressive": True}),
        ("RGB", {"subsampling": "4:4:4"}),
        ("RGB", {"subsampling": "4:1:1"}),
        ("RGB", {"keep_rgb": True}),
        ("L", {}),
        ("CMYK", {}),
    ],
)
@pytest.mark.parametrize("size", [(500, 375), (17, 1), (1, 9)])
def test_a_jpeg_has_the_pixels_that_pillow_gives(mode, options, size):
    data = saved(photo().resize(size).convert(mode), **options)
    wanted = Image.open(io.BytesIO(data)).convert("RGB")
    image = decode(data)
    assert image.mode == "RGB"
    assert np.array_equal(image, wanted)


def test_colour_jpegs_are_not_decoded_by_pillow(monkeypatch):
    """It would take longer, and keep silent about what is lost."""
    data, wanted = JPEG, np.asarray(Image.open(io.BytesIO(JPEG)))
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda self: pytest.fail("decoded by Pillow"))
    assert np.array_equal(decode(data), wanted)


@pytest.mark.parametrize("form", ["PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM"])
def test_other_formats_have_the_pixels_that_pillow_gives(form):
    data = saved(photo(), form)
    image, warning = decoding.decode(data)
    assert np.array_equal(image, Image.open(io.BytesIO(data)).convert("RGB"))
    assert warning == ""


@pytest.mark.parametrize("form", ["JPEG2000", "ICO", "TGA", "SGI", "PCX", "DDS", "EPS"])
def test_formats_that_nobody_has_photographs_in_are_no_images(form):
    """Each decoder that is not asked is one that cannot be attacked."""
    assert refused(saved(photo(width=64, height=48), form)).startswith("not an image: begins with b")


def test_a_jpeg_of_several_images_is_its_first():
    data = saved(photo(1), "MPO", save_all=True, append_images=[photo(2)])
    assert Image.open(io.BytesIO(data)).format == "MPO"
    assert np.array_equal(decode(data), decode(saved(photo(1))))
    assert refused(saved(photo(), "MPO")[: len(JPEG) // 2] + END).startswith("damaged: ")


def test_a_moving_image_is_its_first():
    first, second = photo(1).convert("P"), photo(2).convert("P")
    data = saved(first, "GIF", save_all=True, append_images=[second])
    assert np.array_equal(decode(data), first.convert("RGB"))


def test_as_many_pixels_as_are_allowed_are_decoded():
    data = saved(photo(width=30, height=20))
    assert decode(data, max_pixels=600).size == (30, 20)
    assert refused(data, max_pixels=599) == "too many pixels: 30 x 20 = 600, the limit is 599"
    assert decoding.MAX_PIXELS == Image.MAX_IMAGE_PIXELS
    assert refused(huge_png(60_000, 60_000), max_pixels=7000) == "too many pixels: the limit is 7,000"


def test_as_many_bytes_as_are_allowed_are_decoded(monkeypatch):
    from data_prep import storage

    assert decoding.MAX_FILE_BYTES == storage.MAX_FILE_BYTES == 64 << 20
    monkeypatch.setattr(decoding, "MAX_FILE_BYTES", len(JPEG))
    assert decode(JPEG).size == (500, 375)
    monkeypatch.setattr(decoding, "MAX_FILE_BYTES", len(JPEG) - 1)
    assert refused(JPEG) == f"too many bytes: the limit is {len(JPEG) - 1:,}"


def test_images_larger_and_smaller_than_the_kept_buffer_do_not_touch_each_other(monkeypatch):
    """The buffer is used again: an earlier image must not change, nor a later one hold what was left there."""
    monkeypatch.setattr(decoding, "_KEPT_BYTES", 3 * 60 * 40)
    monkeypatch.setattr(decoding, "_kept", threading.local())
    sizes = [(60, 40), (61, 40), (20, 10), (60, 40), (30, 20), (200, 100), (8, 8)]
    data = [saved(photo(n, *size)) for n, size in enumerate(sizes)]
    images = [decode(item) for item in data]
    for image, item in zip(images, data):
        assert np.array_equal(image, Image.open(io.BytesIO(item)))


def test_the_buffer_is_kept_for_images_of_up_to_1_4_megapixels(monkeypatch):
    monkeypatch.setattr(decoding, "_kept", threading.local())
    assert decoding._KEPT_BYTES == 4 * 1024 * 1024
    assert decoding._buffer(decoding._KEPT_BYTES) is decoding._buffer(1)
    assert len(decoding._buffer(1)) == decoding._KEPT_BYTES
    large = decoding._buffer(decoding._KEPT_BYTES + 1)
    assert len(large) == decoding._KEPT_BYTES + 1
    assert large is not decoding._buffer(decoding._KEPT_BYTES + 1)


def test_threads_do_not_share_a_buffer():
    data = [saved(photo(n, 90, 60)) for n in range(12)]
    wanted = [np.asarray(Image.open(io.BytesIO(item))) for item in data]
    with ThreadPoolExecutor(6) as pool:
        for image, expected in zip(pool.map(decode, data * 10), wanted * 10):
            assert np.array_equal(image, expected)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (EOFError(), "damaged: EOFError"),
        (SyntaxError("broken PNG"), "damaged: broken PNG"),
        (struct.error("unpack requires more"), "damaged: unpack requires more"),
        (
            OSError("image file is Truncated (3 bytes not processed)"),
            "truncated: the file ends before the image does",
        ),
        (ImageRejected("truncated, says the decoder"), "truncated, says the decoder"),
    ],
)
def test_whatever_a_decoder_raises_is_a_reject(monkeypatch, error, reason):
    data = saved(photo(), "PNG")

    def load(self):
        raise error

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", load)
    assert refused(data) == reason


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_damaged_files_are_decoded_or_refused_and_nothing_else():
    """Bytes changed and cut at random, in every format; a build must not stop at one."""
    rng = random.Random(7)
    small = photo(width=60, height=40)
    files = [saved(small, form) for form in decoding.FORMATS]
    decoded = 0
    for number in range(700):
        data = bytearray(files[number % len(files)])
        for _ in range(rng.choice((1, 3, 12))):
            data[rng.randrange(min(len(data), rng.choice((60, 10**6))))] = rng.randrange(256)
        data = data[: rng.randrange(1, len(data))] if rng.random() < 0.3 else data
        with contextlib.suppress(ImageRejected):
            assert decoding.decode(bytes(data), max_pixels=10**6).image.mode == "RGB"
            decoded += 1
    assert 50 < decoded < 650


@pytest.mark.parametrize("error", [ValueError("no way"), OSError("no way")])
def test_a_mode_without_a_way_to_rgb_is_refused(monkeypatch, error):
    def convert(image):
        raise error

    monkeypatch.setattr(decoding, "_to_rgb", convert)
    assert refused(saved(photo().convert("CMYK"))) == "mode CMYK cannot be turned into RGB: no way"


def test_the_orientation_counts_unless_it_is_said_that_it_does_not():
    exif = Image.Exif()
    exif[0x0112] = 6
    for form in ("JPEG", "PNG", "WEBP"):
        data = saved(photo(), form, exif=exif)
        assert decode(data).size == decode(data, apply_exif=True).size == (375, 500)
        assert decode(data, apply_exif=False).size == (500, 375)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "RGBa", "PA"])
def test_half_of_a_colour_lies_over_white(mode):
    grey = mode.startswith("L")
    image = Image.new("LA" if grey else "RGBA", (4, 4), (100, 128) if grey else (100, 50, 0, 128))
    image = image.convert(mode) if mode != "PA" else palette_with_alpha()
    share = 128 / 255
    wanted = [255 + (colour - 255) * share for colour in ((100,) * 3 if grey else (100, 50, 0))]
    assert pixel(decoding._to_rgb(image)) == pytest.approx(wanted, abs=1.5)


def palette_with_alpha() -> Image.Image:
    image = Image.new("P", (4, 4), 0)
    image.putpalette([100, 50, 0])
    image = image.convert("PA")
    image.putalpha(128)
    return image


def test_a_transparent_colour_lies_over_white():
    """PNG can name one colour that is transparent, in grey and colour images without alpha as well."""
    for mode, seen, unseen in (("RGB", (9, 8, 7), (200, 0, 0)), ("L", 9, 200)):
        image = Image.new(mode, (20, 10), seen)
        image.paste(unseen, (10, 0, 20, 10))
        found = decode(saved(image, "PNG", transparency=unseen))
        assert found.mode == "RGB"
        assert pixel(found, 0) == list(seen if mode == "RGB" else (seen,) * 3)
        assert pixel(found, 15) == [255, 255, 255]


@pytest.mark.parametrize(
    ("values", "kind", "wanted"),
    [
        ([0, 128, 129, 255, 65535], np.uint16, [0, 0, 1, 1, 255]),  # 16 bits, however dark; rounded.
        ([0, 100, 255], np.int32, [0, 100, 255]),  # 32 bits that hold 8.
        ([0, 256, 65535], np.int32, [0, 1, 255]),  # 32 bits that hold 16.
        ([-5, 0, 300, 70_000], np.int32, [0, 0, 1, 255]),
        ([0, 0.5, 1], np.float32, [0, 128, 255]),  # Shares of white; half to even.
        ([0, 0.25, np.nan], np.float32, [0, 64, 0]),
        ([0, 1, 2], np.float32, [0, 1, 2]),  # More than 1 is no share.
        ([-1, 0, 1.25, 255], np.float32, [0, 0, 1, 255]),
        ([0, 257, 65535], np.float32, [0, 1, 255]),
    ],
)
def test_wide_grey_keeps_its_brightness(values, kind, wanted):
    image = Image.fromarray(np.array([values] * 2, kind))
    assert image.mode in ("I;16", "I", "F")
    found = decode(saved(image, "TIFF"))
    assert np.asarray(found)[0].tolist() == [[value] * 3 for value in wanted]


def test_big_endian_grey_is_16_bits_too():
    values = np.array([[0, 257, 65535]], ">u2")
    image = Image.frombytes("I;16B", (3, 1), values.tobytes())
    assert [pixel(decoding._to_rgb(image), x)[0] for x in range(3)] == [0, 1, 255]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (JPEG[: len(JPEG) // 2] + END, "damaged: Corrupt JPEG data: premature end of data segment"),
        (JPEG[:-30] + END, "damaged: Corrupt JPEG data: premature end of data segment"),
        (JPEG[:50_000] + JPEG[60_000:], "damaged: Corrupt JPEG data: premature end of data segment"),
        (PROGRESSIVE[:40_000] + END, "damaged: Corrupt JPEG data: premature end of data segment"),
        (saved(photo().convert("CMYK"))[:40_000] + END, "damaged: Corrupt JPEG data: premature end of data segment"),
        (saved(photo().convert("L"))[:20_000] + END, "damaged: Corrupt JPEG data: premature end of data segment"),
        (PROGRESSIVE[:30_000] + b"\xa7" * 500 + PROGRESSIVE[30_500:], "damaged: Corrupt JPEG data: bad Huffman code"),
    ],
)
def test_what_libjpeg_only_warns_about_is_refused_if_pixels_are_lost(data, reason):
    assert Image.open(io.BytesIO(data)).convert("RGB").size == (500, 375)  # Pillow passes over it.
    with pytest.raises(ImageRejected) as caught:
        decoding.decode(data)
    assert caught.value.reason == reason


def test_broken_exif_is_tolerated():
    for exif in (
        b"Exif\x00\x00MM\x00*\x00\x00\xff\xff\x00\x12broken",
        b"Exif\x00\x00",
        b"Exif\x00\x00II*\x00" + b"\xff" * 90,
    ):
        data = saved(photo(), exif=exif)
        assert decode(data).size == (500, 375)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_or_left_alone(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(photo(), exif=exif)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    assert np.array_equal(np.asarray(decode(data)), np.asarray(expected))
    assert decode(data, apply_exif=False).size == (500, 375)


def test_an_unknown_orientation_counts_as_upright():
    exif = Image.Exif()
    exif[0x0112] = 77
    assert decode(saved(photo(), exif=exif)).size == (500, 375)


def test_cmyk_becomes_rgb():
    image = decode(saved(photo().convert("CMYK")))
    assert image.mode == "RGB"
    difference = np.abs(np.asarray(image, int) - np.asarray(photo(), int)).mean()
    assert difference < 20


def test_a_png_named_jpeg_is_read_for_what_it_is():
    assert np.array_equal(np.asarray(decode(saved(photo(), "PNG"))), np.asarray(photo()))


def test_alpha_lies_over_white():
    image = Image.new("RGBA", (200, 200), (255, 0, 0, 0))
    image.paste((0, 0, 255, 255), (0, 0, 100, 200))
    image = decode(saved(image, "PNG"))
    assert pixel(image, 10, 10) == [0, 0, 255]
    assert pixel(image, 150, 10) == [255, 255, 255]


def test_a_transparent_palette_lies_over_white():
    image = Image.new("P", (200, 200), 1)
    image.putpalette([255, 0, 0, 0, 255, 0])
    image.paste(0, (0, 0, 100, 200))
    image = decode(saved(image, "PNG", transparency=0))
    assert pixel(image, 10, 10) == [255, 255, 255]
    assert pixel(image, 150, 10) == [0, 255, 0]


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_16_bit_grey_keeps_its_brightness(format):
    values = np.linspace(0, 65535, 200 * 200).astype(np.uint16).reshape(200, 200)
    image = np.asarray(decode(saved(Image.fromarray(values), format)))
    assert image.shape == (200, 200, 3)
    assert np.array_equal(image[..., 0], np.rint(values / 257).astype(np.uint8))


# Linear sRGB from XYZ of D50 (IEC 61966-2-1 with the Bradford adaptation, as the ICC publishes it).
SRGB_FROM_D50 = np.linalg.inv(
    np.array([[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]])
)


def in_srgb(pixels: np.ndarray) -> np.ndarray:
    """Pixels of Adobe RGB in sRGB, by the formulas of both standards."""
    linear = (pixels / 255.0) ** ADOBE_EXPONENT @ np.array(ADOBE_RGB) @ SRGB_FROM_D50.T
    linear = np.clip(linear, 0, 1)
    coded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.rint(255 * coded)


class TestColourProfiles:
    PIXELS = np.random.default_rng(5).integers(0, 256, (40, 50, 3), dtype=np.uint8)

    def data(self, form: str, mode: str = "RGB", profile: bytes = b"", **more) -> bytes:
        """The pixels as a file with a profile."""
        return saved(Image.fromarray(self.PIXELS).convert(mode), form, icc_profile=profile or icc_profile(), **more)

    def test_the_numbers_stay_as_the_original_evaluation_took_them(self):
        for form in ("PNG", "JPEG"):
            with_profile, without = (
                decoding.decode(saved(Image.fromarray(self.PIXELS), form, **more)).image
                for more in ({"icc_profile": icc_profile()}, {})
            )
            assert np.array_equal(np.asarray(with_profile), np.asarray(without))

    @pytest.mark.parametrize("mode", ["RGB", "RGBA"])
    def test_srgb_is_what_both_standards_say(self, mode):
        found = decoding.decode(self.data("PNG", mode), colour_profile="srgb")
        assert found.warning == ""
        away = np.abs(np.asarray(found.image, dtype=int) - in_srgb(self.PIXELS))
        assert away.max() <= 3
        assert away.mean() < 0.5
        assert np.abs(self.PIXELS - in_srgb(self.PIXELS)).mean() > 5, "the profile matters"

    def test_a_jpeg_too_upright_and_all(self):
        exif = Image.Exif()
        exif[0x0112] = 6
        data = self.data("JPEG", quality=95, exif=exif)
        plain = np.asarray(decoding.decode(data).image, dtype=np.uint8)
        found = np.asarray(decoding.decode(data, colour_profile="srgb").image, dtype=int)
        assert found.shape == plain.shape == (50, 40, 3)
        assert np.abs(found - in_srgb(plain)).mean() < 0.5

    def test_grey_images_have_grey_profiles(self):
        found = decoding.decode(self.data("PNG", "L", icc_profile(exponent=1.0, space=b"GRAY")), colour_profile="srgb")
        grey = np.asarray(Image.fromarray(self.PIXELS).convert("L")) / 255
        wanted = 255 * np.where(grey <= 0.0031308, 12.92 * grey, 1.055 * grey ** (1 / 2.4) - 0.055)
        away = np.abs(np.asarray(found.image)[..., 0] - wanted)
        # In the darkest of 255 steps the curve is steep, and the library counts in fixed point.
        assert away.mean() < 1
        assert away.max() <= 12
        assert found.image.mode == "RGB"

    @pytest.mark.parametrize(
        ("mode", "profile", "says"),
        [
            ("RGB", b"no profile", "its colour profile cannot be used: "),
            ("L", icc_profile(), ""),  # Grey numbers are colours too.
            ("RGB", icc_profile(space=b"GRAY"), "its colour profile is of GRAY, not of RGB, and is not used"),
        ],
    )
    def test_a_profile_that_cannot_be_used_is_dropped_with_a_word(self, mode, profile, says):
        data = self.data("PNG", mode, profile)
        found = decoding.decode(data, colour_profile="srgb")
        assert found.warning.startswith(says)
        assert bool(found.warning) == bool(says)
        if says:
            assert np.array_equal(np.asarray(found.image), np.asarray(decoding.decode(data).image))

    def test_an_image_without_a_profile_is_srgb_already(self):
        data = saved(Image.fromarray(self.PIXELS), "PNG")
        assert np.array_equal(np.asarray(decoding.decode(data, colour_profile="srgb").image), self.PIXELS)
