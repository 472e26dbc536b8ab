"""Near duplicates of the relevant image: by hash and by colour, on made images and on real photographs."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from real import needs_real, real_photographs

from data_prep.stages.reduce import perceptual_hash
from mteb_vehicle_search.report.twins import FARTHEST, MOST, Twin, grid_of, near

SHAPE = np.zeros((8, 8, 3), np.uint8)
SHAPE[:, 4:] = (200, 120, 60)


def alike(image: int) -> np.ndarray:
    return SHAPE


def test_near_duplicates_of_the_relevant_image():
    tops = [[[5, 6, 0], [6]], [[7], [5]]]
    hashes = [0b1111, 0b0000, None, None, None, 0b1110, 0b0011, None]
    assert near([0, 1], tops, hashes, 2, alike) == [
        Twin(0, 5, [0], 1, 0),
        Twin(0, 6, [0], 2, 0),
        Twin(1, 6, [1], 2, 0),
    ]
    assert near([0, 1], tops, hashes, 1, alike) == [Twin(0, 5, [0], 1, 0)]


def test_near_duplicates_are_those_of_a_plain_comparison_with_the_nearest_first():
    generator = np.random.default_rng(11)
    seen = 0
    for _ in range(200):
        models, rows, images = int(generator.integers(1, 4)), int(generator.integers(1, 7)), 6
        relevant = generator.integers(0, images, rows).tolist()
        tops = [[generator.permutation(images)[:3].tolist() for _ in range(rows)] for _ in range(models)]
        hashes = [None if number % 7 == 6 else int(number) for number in generator.integers(0, 64, images)]
        grids = [SHAPE + np.uint8(shift) for shift in generator.integers(0, 56, images)]
        expected = []
        for right in range(images):
            for image in range(images):
                at = [row for row in range(rows) if relevant[row] == right and any(image in top[row] for top in tops)]
                one, other = hashes[right], hashes[image]
                if right == image or not at or one is None or other is None:
                    continue
                differing = sum(a != b for a, b in zip(f"{one:06b}", f"{other:06b}"))
                apart = max(abs(int(a) - int(b)) for a, b in zip(grids[right].ravel(), grids[image].ravel()))
                if differing <= 3 and apart <= 40:
                    expected.append(Twin(right, image, at, differing, apart))
        expected.sort(key=lambda twin: (twin.bits, twin.colour, twin.rows[0], twin.image))
        assert near(relevant, tops, hashes, 3, grids.__getitem__) == expected
        seen += len(expected)
    assert seen > 150


@pytest.mark.parametrize(("shift", "twins"), [(0, True), (40, True), (41, False), (-40, True), (-41, False)])
def test_the_greatest_difference_of_any_part_in_any_colour_counts(shift, twins):
    other = SHAPE.copy()
    other[7, 7, 1] = int(other[7, 7, 1]) + shift
    for grids in ([SHAPE, other], [other, SHAPE]):
        found = near([0], [[[1]]], [0, 0], 0, grids.__getitem__)
        assert found == ([Twin(0, 1, [0], 0, abs(shift))] if twins else [])


def of_parts(*odd: int) -> np.ndarray:
    """Return the grid of an orange image some of whose parts differ in blue."""
    grid = np.full((8, 8, 3), (200, 120, 60), np.uint8)
    for place, value in enumerate(odd):
        grid[place, 5, 2] = 60 + value
    return grid


def test_a_flat_image_is_nobodys_twin():
    flat, barely, shaped = of_parts(), of_parts(20, -20), of_parts(20, -21)
    for one in (flat, barely, shaped):
        for other in (flat, barely):
            assert near([0], [[[1]]], [5, 5], 0, [one, other].__getitem__) == []
            assert near([0], [[[1]]], [5, 5], 0, [other, one].__getitem__) == []
    assert near([0], [[[1]]], [5, 5], 0, [shaped, shaped].__getitem__) == [Twin(0, 1, [0], 0, 0)]


def test_only_images_whose_hashes_agree_are_looked_at():
    asked = []

    def colours(image: int) -> np.ndarray:
        asked.append(image)
        return SHAPE

    near([0, 0, 1], [[[2, 3], [2], [3]]], [0, 1 << 40, 1, 0b111], 1, colours)
    assert set(asked) == {0, 2}


def test_a_hash_of_zero_is_a_hash():
    assert near([0], [[[1]]], [0, 0], 0, alike) == [Twin(0, 1, [0], 0, 0)]


def test_only_the_most_alike_are_kept():
    assert MOST == 2_000
    count = MOST + 1
    images = list(range(1, count + 1))
    pairs = near([0] * count, [[[image] for image in images]], [0, *[1] * (count - 1), 0], 1, alike)
    assert len(pairs) == MOST
    assert (pairs[0].image, pairs[-1].image) == (count, count - 2)


def test_a_grid_is_the_mean_of_equal_parts():
    pixels = np.zeros((16, 24, 3), np.uint8)
    pixels[:2, :3] = (10, 20, 30)
    pixels[14:, 21:] = (200, 100, 50)
    grid = grid_of(Image.fromarray(pixels))
    assert grid.shape == (8, 8, 3)
    assert (grid[0, 0].tolist(), grid[7, 7].tolist()) == ([10, 20, 30], [200, 100, 50])
    assert grid_of(Image.new("L", (5, 5), 9)).tolist() == [[[9, 9, 9]] * 8] * 8


def reduced(image: Image.Image) -> Image.Image:
    ratio = 160 / min(image.size)
    return image.resize((round(image.width * ratio), round(image.height * ratio)), Image.Resampling.BICUBIC)


def encoded(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer)


def cropped(image: Image.Image, share: float) -> Image.Image:
    x, y = image.width * share / 2, image.height * share / 2
    return image.crop((round(x), round(y), round(image.width - x), round(image.height - y)))


def repainted(image: Image.Image) -> Image.Image:
    red, green, blue = image.split()
    return Image.merge("RGB", (green, blue, red))


@needs_real
def test_twins_of_real_photographs_are_found_and_other_pairs_are_not():
    """The figures stand in the README of `analysis`."""
    photographs = [
        reduced(Image.open(path).convert("RGB"))
        for part in ("captioned", "imagenet")
        for path in real_photographs(part)
    ]
    assert len(photographs) == 328
    hashes = [int(perceptual_hash(image), 16) for image in photographs]
    grids = [grid_of(image).astype(np.int16) for image in photographs]
    apart = [np.abs(np.stack(grids[n + 1 :]) - grid).max(axis=(1, 2, 3)) for n, grid in enumerate(grids[:-1])]
    assert sum(map(len, apart)) == 53_628
    # Not one pair of different photographs agrees in colour, nor in the hash.
    assert min(map(min, apart)) > FARTHEST
    assert min((a ^ b).bit_count() for n, a in enumerate(hashes) for b in hashes[n + 1 :]) > 4
    # And no photograph is flat.
    assert min(np.ptp(grid.reshape(-1, 3), axis=0).max() for grid in grids) > FARTHEST

    def kept(change) -> tuple[int, int]:
        """Return how many changed photographs the hash takes for twins of their originals, and of these the colours."""
        twins = [change(image) for image in photographs]
        same = [n for n, twin in enumerate(twins) if (int(perceptual_hash(twin), 16) ^ hashes[n]).bit_count() <= 4]
        found = [n for n in same if np.abs(grid_of(twins[n]) - grids[n]).max() <= FARTHEST]
        return len(same), len(found)

    figures = {
        "JPEG of quality 30": kept(lambda image: encoded(image, 30)),
        "halved": kept(lambda image: reduced(image.resize((image.width * 3 // 5, image.height * 3 // 5)))),
        "cropped by 4 %": kept(lambda image: reduced(cropped(image, 0.04))),
        "10 % brighter": kept(lambda image: image.point(lambda value: min(255, round(1.1 * value)))),
        "other colours": kept(repainted),
    }
    print(figures)
    *twins, painted = figures.values()
    assert all(of_colours >= 0.99 * of_hash for of_hash, of_colours in twins)
    assert painted[1] <= 0.25 * painted[0]
