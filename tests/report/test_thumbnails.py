"""The sheets of small images: where each image lies, how good it is, and what that costs."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tqdm
from PIL import Image
from small_runs import CAPTIONED, DISTRACTORS, colour, image_id, write_set

from mteb_vehicle_search.errors import EvalSetError
from mteb_vehicle_search.report import thumbnails
from mteb_vehicle_search.report.thumbnails import COLUMNS, LEVELS, PER_SHEET, ROWS, make_sheet, write_thumbnails

IMAGES = [image_id(number) for number in range(CAPTIONED + DISTRACTORS)]
# Longest side and quality, best first.
EXPECTED_LEVELS = (
    *((160, 75), (144, 70), (128, 65), (128, 55), (112, 50)),
    *((112, 40), (96, 40), (96, 30), (80, 30), (64, 25)),
)


class ImagesOnly:
    """What `write_thumbnails` needs of an evaluation set; remembers what was read."""

    def __init__(self, images: dict[str, bytes]) -> None:
        self.images = images
        self.read: list[str] = []

    def jpeg(self, image: str) -> bytes:
        self.read.append(image)
        return self.images[image]


def encoded(image: Image.Image, form: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form)
    return buffer.getvalue()


def noise(seed: int, size: tuple[int, int] = (160, 160)) -> Image.Image:
    """Return an image that hardly compresses."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), np.uint8))


def plain(number: int) -> bytes:
    return encoded(Image.new("RGB", (20, 10), colour(number % 60)))


def many(count: int) -> Any:
    return ImagesOnly({f"{number:04}": plain(number) for number in range(count)})


def written(folder: Path) -> list[bytes]:
    """Return the sheets in order."""
    names = sorted((path.name for path in folder.iterdir()), key=lambda name: int(name.removesuffix(".webp")))
    assert names == [f"{number}.webp" for number in range(len(names))]
    return [(folder / name).read_bytes() for name in names]


def opened(sheet: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(sheet))
    assert image.format == "WEBP"
    return image.convert("RGB")


# One sheet


def drawn_by_hand(images: list[Image.Image], tile: int, quality: int) -> bytes:
    """Return the sheet as Pillow alone makes it."""
    size = (tile * min(8, len(images)), tile * math.ceil(len(images) / 8))
    sheet = Image.new("RGB", size, (128, 128, 128))
    for number, image in enumerate(images):
        longest = max(image.size)
        if longest > tile:
            width, height = (max(1, round(side * tile / longest)) for side in image.size)
            image = image.resize((width, height), Image.Resampling.LANCZOS)
        sheet.paste(image, (number % 8 * tile, number // 8 * tile))
    return saved(sheet, quality)


def saved(sheet: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    sheet.save(buffer, "WEBP", quality=quality, method=4)
    return buffer.getvalue()


@pytest.mark.parametrize("count", [1, 3, 8, 9, 17, 48])
def test_a_sheet_is_what_pillow_makes_of_its_images(count):
    sides = [(50, 30), (30, 50), (64, 64), (10, 6), (200, 32), (33, 32)]
    images = [noise(number, sides[number % len(sides)]) for number in range(count)]
    read = {str(number): encoded(image) for number, image in enumerate(images)}
    data, sizes = make_sheet(list(read), read, 32, 60)
    assert data == drawn_by_hand(images, 32, 60)
    assert sizes == [[(32, 19), (19, 32), (32, 32), (10, 6), (32, 5), (32, 31)][n % len(sides)] for n in range(count)]


def test_small_images_are_not_enlarged():
    _, sizes = make_sheet(["a"], {"a": encoded(noise(0, (20, 10)))}, 160, 75)
    assert sizes == [(20, 10)]


@pytest.mark.parametrize(("size", "shown"), [((4000, 3), (64, 1)), ((3, 4000), (1, 64))])
def test_the_thinnest_image_is_one_pixel_wide(size, shown):
    _, sizes = make_sheet(["a"], {"a": encoded(Image.new("RGB", size))}, 64, 25)
    assert sizes == [shown]


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK"])
def test_images_of_any_mode_are_shown_in_colours(mode):
    image = Image.new("RGB", (32, 32), (51, 51, 51)).convert(mode)
    data, _ = make_sheet(["a"], {"a": encoded(image, "JPEG" if mode == "CMYK" else "PNG")}, 32, 90)
    middle: Any = opened(data).getpixel((16, 16))
    assert max(abs(value - 51) for value in middle) < 6


def test_what_no_image_covers_is_grey():
    data, _ = make_sheet(list("abc"), dict.fromkeys("abc", encoded(Image.new("RGB", (64, 16)))), 64, 90)
    sheet = opened(data)
    assert sheet.size == (192, 64)
    empty: Any = sheet.getpixel((150, 50))
    assert max(abs(value - 128) for value in empty) < 4


def test_an_image_that_cannot_be_decoded(tmp_path):
    damaged = write_set(tmp_path / "set")
    damaged.jpeg = lambda image: b"no jpeg"  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(EvalSetError, match="'flickr30k/000' cannot be decoded") as refused:
        write_thumbnails(damaged, IMAGES, tmp_path / "thumbs", 10**9)
    assert refused.value.hint == "See 'vehicle-search-data verify FOLDER'."


def test_a_truncated_image_and_a_bomb_are_refused_by_name(monkeypatch):
    whole = encoded(noise(0), "JPEG")
    with pytest.raises(EvalSetError, match=r"'b' cannot be decoded.*truncated"):
        make_sheet(["a", "b"], {"a": whole, "b": whole[: len(whole) // 2]}, 32, 60)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(EvalSetError, match=r"'a' cannot be decoded.*bomb"):
        make_sheet(["a"], {"a": whole}, 32, 60)


# All sheets


def test_a_sheet_has_eight_columns_of_six():
    assert (COLUMNS, ROWS, PER_SHEET) == (8, 6, 48)


def test_sheets_hold_each_image_where_the_page_looks(eval_set, tmp_path):
    made = write_thumbnails(eval_set, IMAGES, tmp_path / "thumbs", 10**9)
    assert (made.tile_px, made.quality) == (160, 75)
    sheets = [opened(sheet) for sheet in written(tmp_path / "thumbs")]
    assert [sheet.size for sheet in sheets] == [(8 * 160, 6 * 160), (8 * 160, 2 * 160)]
    assert len(made.sizes) == len(IMAGES)
    for number, (width, height) in enumerate(made.sizes):
        place = number % 48
        x, y = place % 8 * made.tile_px + width // 2, place // 8 * made.tile_px + height // 2
        found: Any = sheets[number // 48].getpixel((x, y))
        assert max(abs(a - b) for a, b in zip(found, colour(number))) < 16
        assert max(width, height) == made.tile_px
        assert abs(width / height - (160 + number) / 160) < 0.02


@pytest.mark.parametrize("count", [1, 48, 97])
def test_every_image_is_on_a_sheet_and_no_sheet_is_empty(tmp_path, count):
    made = write_thumbnails(many(count), list(many(count).images), tmp_path / "new" / "thumbs", 10**9)
    sheets = written(tmp_path / "new" / "thumbs")
    assert len(sheets) == math.ceil(count / 48)
    assert made.sizes == [(20, 10)] * count
    assert made.bytes == sum(map(len, sheets))


def test_more_sheets_than_are_held_at_once(tmp_path, monkeypatch):
    assert thumbnails.BATCH == 200
    monkeypatch.setattr(thumbnails, "PER_SHEET", 1)
    count = thumbnails.BATCH + 3
    held = many(count)
    # Not in the order of the corpus: the page shows them otherwise.
    shown = np.random.default_rng(0).permutation(list(held.images)).tolist()
    made = write_thumbnails(held, shown, tmp_path / "thumbs", 10**9)
    sheets = written(tmp_path / "thumbs")
    assert len(sheets) == len(made.sizes) == count
    assert made.bytes == sum(map(len, sheets))
    for image, sheet in zip(shown, sheets):
        found: Any = opened(sheet).getpixel((10, 5))
        assert max(abs(a - b) for a, b in zip(found, colour(int(image) % 60))) < 16
    # Images lie in groups: a batch is read in the order of the corpus, one batch after another.
    read = held.read[-count:]
    assert read == [*sorted(shown[:200]), *sorted(shown[200:])]


def test_progress_counts_images(tmp_path, monkeypatch):
    bars = []

    class Bar(tqdm.tqdm):
        def __init__(self, **settings: Any) -> None:
            super().__init__(**{**settings, "disable": False, "file": io.StringIO()})
            bars.append((self, settings))

    monkeypatch.setattr("tqdm.auto.tqdm", Bar)
    write_thumbnails(many(100), list(many(100).images), tmp_path / "thumbs", 10**9)
    ((bar, settings),) = bars
    assert (bar.n, bar.total) == (100, 100)
    assert (settings["desc"], settings["unit"]) == ("thumbnails", "image")


# The budget


def test_levels_fall_in_size_and_quality_and_end_readable():
    assert LEVELS == EXPECTED_LEVELS


@pytest.mark.parametrize("at", range(len(EXPECTED_LEVELS)))
def test_the_best_level_that_fits_the_budget_is_taken(tmp_path, at):
    tile, quality = EXPECTED_LEVELS[at]
    noisy: Any = ImagesOnly({name: encoded(noise(number)) for number, name in enumerate("ab")})
    # A sample is a few per cent off, so that much must be left.
    needed = 1.05 * len(drawn_by_hand([noise(number) for number in range(2)], tile, quality))
    made = write_thumbnails(noisy, "ab", tmp_path / "fits", math.ceil(needed))
    assert (made.tile_px, made.quality) == (tile, quality)
    assert made.bytes < needed
    made = write_thumbnails(noisy, "ab", tmp_path / "too large", math.ceil(needed) - 1)
    assert (made.tile_px, made.quality) == EXPECTED_LEVELS[min(at + 1, len(EXPECTED_LEVELS) - 1)]


@pytest.mark.parametrize(
    ("sheets", "sampled"),
    [
        (1, [0]),
        (12, list(range(12))),
        (23, list(range(12))),
        (24, list(range(0, 24, 2))),
        (61, list(range(0, 60, 5))),
    ],
)
def test_at_most_twelve_sheets_are_tried_spread_over_all(sheets, sampled):
    held = many(sheets)
    level = thumbnails._level(held, [[image] for image in held.images], 10**9)
    assert level == (160, 75)
    assert held.read == [f"{number:04}" for number in sampled]


def test_the_sample_stands_for_all_images():
    # Three times as many sheets as are sampled, all alike; the last sheet is not full.
    noisy: Any = ImagesOnly(dict.fromkeys((f"{number:02}" for number in range(71)), encoded(noise(0))))
    names = list(noisy.images)
    sheets = [names[at : at + 2] for at in range(0, len(names), 2)]
    needed = 1.05 * 71 / 2 * len(drawn_by_hand([noise(0), noise(0)], 160, 75))
    assert thumbnails._level(noisy, sheets, math.ceil(needed)) == (160, 75)
    assert thumbnails._level(noisy, sheets, math.ceil(needed) - 1) == (144, 70)
