"""Images of every kind become safe JPEGs, or are rejected with a reason that says why."""

from __future__ import annotations

import hashlib
import io
import threading
import time

import numpy as np
import pytest
from encoded_images import photo, saved
from format_twins import captioned_files, classed_files
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from data_prep.sources import SourceImage
from data_prep.stages import reduce as images
from data_prep.stages.decoding import ImageRejected
from data_prep.stages.reduce import perceptual_hash, prepare, prepare_all, target_size
from mteb_vehicle_search.eval_set.schema import ImagePolicy

JPEG = saved(photo())


def refused(data: bytes) -> str:
    """The reason why an image is refused."""
    with pytest.raises(ImageRejected) as caught:
        prepare(data)
    return caught.value.reason


def test_an_image_that_cannot_be_decoded_is_refused():
    assert refused(b"") == "empty file"
    assert refused(JPEG[: len(JPEG) // 2]) == "truncated: the file ends before the image does"


@pytest.mark.parametrize(("long", "ok"), [(65_500, True), (65_501, False)])
def test_a_jpeg_may_have_65500_px_a_side(long, ok):
    for size in ((long, 2), (2, long)):
        data = saved(Image.new("RGB", size), "PNG")
        if ok:
            assert Image.open(io.BytesIO(prepare(data).jpeg)).size == size
        else:
            assert refused(data) == f"too long for a JPEG: {size[0]} x {size[1]}, the limit is 65,500 a side"


def test_what_is_too_long_before_it_is_reduced_is_fine():
    done = prepare(saved(Image.new("RGB", (66_000, 32)), "PNG"), ImagePolicy(shortest_side_px=16))
    assert (done.width, done.height) == (66_000, 32)
    assert Image.open(io.BytesIO(done.jpeg)).size == (33_000, 16)


def test_a_prepared_image_has_no_warning_unless_one_is_given():
    assert images.Prepared(b"", 1, 1, "", "").warning == ""


def test_what_the_decoder_complains_of_is_kept():
    done = prepare(JPEG[:-2] + b"some more\xff\xd9")
    assert done.warning == "Corrupt JPEG data: 7 extraneous bytes before marker 0xd9"
    assert done.jpeg == prepare(JPEG).jpeg
    assert prepare(JPEG).warning == ""


@pytest.mark.parametrize("orientation", [1, 6])
def test_sizes_are_those_of_the_upright_image_unless_exif_is_left_alone(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(photo(), exif=exif)
    upright = (500, 375) if orientation == 1 else (375, 500)
    assert (prepare(data).width, prepare(data).height) == upright
    left = prepare(data, apply_exif=False)
    assert (left.width, left.height) == (500, 375)
    assert Image.open(io.BytesIO(left.jpeg)).size == (213, 160)


@pytest.mark.parametrize(
    ("policy", "resampling"),
    [
        (ImagePolicy(90, "bicubic", 75), Image.Resampling.BICUBIC),
        (ImagePolicy(90, "bilinear", 75), Image.Resampling.BILINEAR),
        (ImagePolicy(90, "lanczos", 90), Image.Resampling.LANCZOS),
        (ImagePolicy(90, "box", 30), Image.Resampling.BOX),
    ],
)
def test_the_policy_is_followed(policy, resampling):
    out = io.BytesIO()
    Image.open(io.BytesIO(JPEG)).resize((120, 90), resampling).save(out, "JPEG", quality=policy.jpeg_quality)
    assert prepare(JPEG, policy).jpeg == out.getvalue()


def test_an_image_that_is_small_enough_is_only_encoded():
    data = saved(photo(width=200, height=160), "PNG")
    out = io.BytesIO()
    photo(width=200, height=160).save(out, "JPEG", quality=75)
    assert prepare(data).jpeg == out.getvalue()


@pytest.mark.parametrize(("colour", "bits"), [(0, "0" * 16), (255, "8" + "0" * 15), (77, "8" + "0" * 15)])
def test_a_flat_image_has_the_same_hash_everywhere(colour, bits):
    """Only its first coefficient, the brightness, is above the median; noise of 1e-13 must not decide."""
    assert perceptual_hash(Image.new("RGB", (213, 160), (colour,) * 3)) == bits


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


@settings(derandomize=True, deadline=None)
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


@pytest.mark.parametrize(("policy", "turned"), [("distractors", [0, 1]), ("all", [1, 1]), ("none", [0, 0])])
def test_the_policy_says_which_images_are_turned(policy, turned):
    """The original evaluation opened Flickr30k's files as they are, and let `datasets` turn ImageNet's."""
    exif = Image.Exif()
    exif[0x0112] = 6
    data = saved(photo(), exif=exif)
    asked = [SourceImage("a", data, "flickr30k", "", captions=("A bus.",)), SourceImage("b", data, "imagenet", "")]
    sizes = [(r.width, r.height) for _, r in prepare_all(asked, ImagePolicy(exif=policy))]
    assert sizes == [((500, 375), (375, 500))[number] for number in turned]


def test_only_a_few_images_are_read_ahead():
    read = []

    def source():
        for number in range(100):
            read.append(number)
            yield SourceImage(str(number), JPEG, "imagenet", "")

    stream = prepare_all(source(), workers=2)
    next(stream)
    assert len(read) <= 8
    before = threading.active_count()
    stream.close()
    assert threading.active_count() < before
    assert len(read) <= 8


def test_an_error_of_the_source_is_not_swallowed():
    def source():
        yield SourceImage("a", JPEG, "imagenet", "")
        raise RuntimeError("the shard is gone")

    with pytest.raises(RuntimeError, match="the shard is gone"):
        list(prepare_all(source()))


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_four_images_for_each_worker_are_in_memory(workers):
    """As many as keep the workers busy, and no more: when the first comes out, 4 x workers were read."""
    read = []

    def source():
        for number in range(60):
            read.append(number)
            yield SourceImage(str(number), b"", "imagenet", "")

    stream = prepare_all(source(), workers=workers)
    assert read == []
    for done in range(1, 20):
        next(stream)
        assert len(read) == 4 * workers + done - 1
    stream.close()


def test_a_stream_shorter_than_what_is_read_ahead_is_whole():
    given = [SourceImage(str(n), JPEG if n else b"", "imagenet", "") for n in range(3)]
    done = list(prepare_all(given, workers=4))
    assert [image for image, _ in done] == given
    assert [type(result) for _, result in done] == [ImageRejected, images.Prepared, images.Prepared]
    assert list(prepare_all([])) == []


def test_what_the_source_could_not_read_is_refused_with_its_reason():
    ((_, result),) = prepare_all([SourceImage("a", JPEG, "imagenet", "", problem="cannot be read: is a directory")])
    assert isinstance(result, ImageRejected)
    assert result.reason == "cannot be read: is a directory"


def test_all_images_follow_the_policy():
    given = [SourceImage(str(n), JPEG, "imagenet", "") for n in range(3)]
    wanted = prepare(JPEG, ImagePolicy(50, "box", 40))
    assert [result for _, result in prepare_all(given, ImagePolicy(50, "box", 40))] == [wanted] * 3
    assert [result for _, result in prepare_all(given)] == [prepare(JPEG)] * 3
    with pytest.raises(ValueError, match="resample must be one of"):
        list(prepare_all(given, ImagePolicy(resample="magic")))


@pytest.mark.parametrize(("workers", "threads"), [(3, 3), (None, 2), (0, 2)])
def test_the_usable_cores_are_used_unless_a_number_is_given(monkeypatch, workers, threads):
    started = []
    pool = images.ThreadPoolExecutor

    def counted(number, **options):
        started.append((number, options["thread_name_prefix"]))
        return pool(number, **options)

    monkeypatch.setattr(images, "ThreadPoolExecutor", counted)
    monkeypatch.setattr(images, "usable_cores", lambda: 2)
    list(prepare_all([SourceImage("a", JPEG, "imagenet", "")], workers=workers))
    assert started == [(threads, "prepare")]


def test_work_that_nobody_waits_for_is_dropped(monkeypatch):
    """Leaving the stream waits for the image under way, and begins no other."""
    begun, ended = [], []
    under_way, go_on = threading.Event(), threading.Event()

    def slow(image, policy):
        begun.append(image.id)
        if image.id != "0":
            under_way.set()
            go_on.wait(30)
            time.sleep(0.05)
        ended.append(image.id)
        return ImageRejected("x")

    class Pool(images.ThreadPoolExecutor):
        def shutdown(self, wait=True, *, cancel_futures=False):
            super().shutdown(wait=False, cancel_futures=cancel_futures)
            go_on.set()
            super().shutdown(wait=wait)

    monkeypatch.setattr(images, "ThreadPoolExecutor", Pool)
    monkeypatch.setattr(images, "_prepare_or_reject", slow)
    stream = prepare_all([SourceImage(str(n), b"", "imagenet", "") for n in range(9)], workers=1)
    next(stream)
    assert under_way.wait(30)
    stream.close()
    assert begun == ended == ["0", "1"]
