"""Images of every kind become safe JPEGs, or are rejected with a reason that says why."""

from __future__ import annotations

import hashlib
import io
import struct
import threading
import zlib

import numpy as np
import pytest
from format_twins import captioned_files, classed_files
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from data_prep import decoding
from data_prep.decoding import ImageRejected
from data_prep.images import perceptual_hash, prepare, prepare_all, target_size
from data_prep.sources import SourceImage
from data_prep.sources.drawn import draw_photo_like
from mteb_vehicle_search.eval_set import ImagePolicy


def saved(image, format="JPEG", **options):
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def decode(data, **options):
    return decoding.decode(data, **options).image


def photo(seed=1, width=500, height=375):
    return draw_photo_like(seed, width, height)


def pixel(image, x=0, y=0):
    return np.asarray(image)[y, x].tolist()


def huge_png(width, height):
    """A PNG whose header promises more than it holds, as a decompression bomb does."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


JPEG, PROGRESSIVE = saved(photo()), saved(photo(), progressive=True)
END = b"\xff\xd9"

REJECTED = {
    "empty": (b"", "empty file"),
    "text": (b"<html>404</html>", "not an image: begins with b'<html>40'"),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image: begins with b'<svg xml'"),
    "zeros": (bytes(5000), r"not an image: begins with b'\x00\x00\x00\x00\x00\x00\x00\x00'"),
    "header only": (JPEG[:300], "truncated: the file ends before the picture does"),
    "half a JPEG": (JPEG[: len(JPEG) // 2], "truncated: the file ends before the picture does"),
    "half a PNG": (saved(photo(), "PNG")[:50_000], "truncated: the file ends before the picture does"),
    "bomb just above the limit": (
        huge_png(10_000, 9_000),
        "too many pixels: 10000 x 9000 = 90,000,000, the limit is 89,478,485",
    ),
    "bomb that Pillow refuses": (huge_png(60_000, 60_000), "too many pixels: the limit is 89,478,485"),
    "too long for a JPEG": (
        saved(Image.new("RGB", (70_000, 100)), "PNG"),
        "too long for a JPEG: 70000 x 100, the limit is 65,500 a side",
    ),
}


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("name", REJECTED)
def test_attacks_are_rejected_with_their_reason(name):
    data, reason = REJECTED[name]
    with pytest.raises(ImageRejected) as caught:
        prepare(data)
    assert caught.value.reason == reason


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
        prepare(data)
    assert caught.value.reason == reason


def test_what_libjpeg_warns_about_is_recorded_if_no_pixel_is_lost():
    done = prepare(JPEG[:-2] + b"some more" + END)
    assert done.warning == "Corrupt JPEG data: 7 extraneous bytes before marker 0xd9"
    assert done.jpeg == prepare(JPEG).jpeg
    assert prepare(JPEG).warning == ""


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
    from PIL import ImageOps

    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(photo(), exif=exif)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    assert np.array_equal(np.asarray(decode(data)), np.asarray(expected))
    assert decode(data, apply_exif=False).size == (500, 375)
    assert (prepare(data).width, prepare(data).height) == expected.size


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


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "F"])
def test_every_mode_becomes_an_rgb_jpeg(mode):
    grey = photo().convert("L")
    image = Image.fromarray(np.asarray(grey, np.uint16) * 257) if mode == "I;16" else photo().convert(mode)
    data = saved(image, "TIFF" if mode == "F" else "PNG")
    small = Image.open(io.BytesIO(prepare(data).jpeg))
    assert (small.format, small.mode, small.size) == ("JPEG", "RGB", (213, 160))
    brightness = np.asarray(small.convert("L"), float).mean()
    assert abs(brightness - np.asarray(grey, float).mean()) < 12


def test_the_bytes_are_those_of_plain_pillow():
    """The original evaluation: Pillow's default filter for `resize` and its default JPEG quality."""
    data = saved(photo(3))
    out = io.BytesIO()
    Image.open(io.BytesIO(data)).resize((213, 160)).save(out, "JPEG")
    done = prepare(data)
    assert done.jpeg == out.getvalue()
    assert (done.width, done.height) == (500, 375)
    assert done.sha256 == hashlib.sha256(data).hexdigest()


def test_the_perceptual_hash_is_near_for_twins_and_far_for_others():
    import imagehash

    def bits(data):
        return imagehash.hex_to_hash(prepare(data).perceptual_hash)

    first = bits(saved(photo(1)))
    assert len(str(first)) == 16
    assert first - bits(saved(photo(1).resize((400, 300)), quality=60)) <= 6
    assert first - bits(saved(photo(2))) > 10


def test_the_perceptual_hash_is_the_librarys():
    import imagehash

    for seed in range(30):
        small = photo(seed).resize((213, 160))
        tiny = small.convert("L").resize((32, 32), Image.Resampling.BOX, reducing_gap=1.0)
        assert perceptual_hash(small) == str(imagehash.phash(tiny))


def test_metadata_of_the_source_does_not_reach_the_corpus():
    done = prepare(saved(photo(), comment=b"somebody's name", exif=b"Exif\x00\x00secret"))
    assert b"somebody" not in done.jpeg
    assert b"secret" not in done.jpeg


@given(st.integers(1, 6000), st.integers(1, 6000))
def test_sizes_follow_the_rule(width, height):
    new = target_size(width, height, 160)
    if min(width, height) <= 160:
        assert new == (width, height)
    else:
        assert min(new) == 160
        assert abs(max(new) - max(width, height) * 160 / min(width, height)) <= 0.5 + 1e-9


def test_sizes_of_known_cases():
    assert target_size(500, 375, 160) == (213, 160)
    assert target_size(500, 333, 160) == (240, 160)
    assert target_size(320, 325, 160) == (160, 162)  # 162.5 goes to the even neighbour, as Python rounds.
    assert target_size(100, 90, 160) == (100, 90)


def test_an_unknown_filter_is_refused():
    with pytest.raises(ValueError, match="resample must be one of"):
        prepare(JPEG, ImagePolicy(resample="nearest"))


def source_images(files):
    return [SourceImage(getattr(f, "filename", None) or f.stem, f.data, "imagenet", "train") for f in files]


@pytest.mark.parametrize("workers", [1, 3])
def test_all_nasty_twins_pass_in_order(workers):
    images = source_images([*captioned_files(), *classed_files()])
    done = list(prepare_all(iter(images), workers=workers))
    assert [image.id for image, _ in done] == [image.id for image in images]
    assert [result for _, result in done] == [prepare(image.data) for image in images]


def test_rejects_come_in_their_place():
    images = source_images(classed_files(damaged=True))
    done = list(prepare_all(images, workers=2))
    rejects = {image.id: result.reason for image, result in done if isinstance(result, ImageRejected)}
    assert len(done) == len(images)
    assert sorted(rejects.values())[0] == "empty file"
    assert sorted(rejects.values())[1].startswith("truncated: ")
    assert len(rejects) == 2


def test_the_sources_wish_about_exif_counts():
    exif = Image.Exif()
    exif[0x0112] = 6
    data = saved(photo(), exif=exif)
    asked = [SourceImage("a", data, "flickr30k", "", apply_exif=False), SourceImage("b", data, "imagenet", "")]
    sizes = [(r.width, r.height) for _, r in prepare_all(asked)]
    assert sizes == [(500, 375), (375, 500)]


def test_only_a_few_images_are_read_ahead():
    read = []

    def images():
        for number in range(100):
            read.append(number)
            yield SourceImage(str(number), JPEG, "imagenet", "")

    stream = prepare_all(images(), workers=2)
    next(stream)
    assert len(read) <= 8
    before = threading.active_count()
    stream.close()
    assert threading.active_count() < before
    assert len(read) <= 8


def test_an_error_of_the_source_is_not_swallowed():
    def images():
        yield SourceImage("a", JPEG, "imagenet", "")
        raise RuntimeError("the shard is gone")

    with pytest.raises(RuntimeError, match="the shard is gone"):
        list(prepare_all(images()))
