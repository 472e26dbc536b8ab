"""Near duplicates: images whose perceptual hashes and colours hardly differ."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from mteb_vehicle_search.report.suspects import MOST

GRID = 8
# Of 255. Measured on 328 real photographs (README.md of analysis): of the re-encoded, resized, cropped and brightened
# twins that the hash keeps this keeps at least 99 %, and of the 53,628 other pairs none.
FARTHEST = 40


class Twin(NamedTuple):
    """An image (by its number) that looks like the relevant one, and the rows of the page in whose top tens it is.

    `bits` of the perceptual hashes differ, and no mean colour of the grid by more than `colour` of 255.
    """

    relevant: int
    image: int
    rows: list[int]
    bits: int
    colour: int


def near(
    relevant: Sequence[int],
    tops: Sequence[Sequence[Sequence[int]]],
    hashes: Sequence[int | None],
    bits: int,
    colours: Callable[[int], np.ndarray],
) -> list[Twin]:
    """Return images of any top ten that look like the relevant image, by differing bits, then by colour.

    The hash is of grey images: it takes equal shapes in other colours, and any two flat images, for equal. So the
    colours must agree as well, and a flat image is nobody's twin.

    Args:
        relevant: That of `page_data.Rows`, [r].
        tops: Those of `page_data.Rows`, [m][r].
        hashes: Perceptual hashes [images] of 64 bits; None if not known.
        bits: Greatest number of bits that differ.
        colours: Gives `grid_of` the image with a number; asked for few images only.
    """
    found: dict[tuple[int, int], Twin] = {}
    for row, right in enumerate(relevant):
        for image in sorted({image for top in tops for image in top[row]} - {right}):
            one, other = hashes[right], hashes[image]
            if one is None or other is None or (distance := (one ^ other).bit_count()) > bits:
                continue
            if (right, image) not in found:
                a, b = colours(right), colours(image)
                flat = _flat(a) or _flat(b)
                found[right, image] = Twin(right, image, [], distance, FARTHEST + 1 if flat else _apart(a, b))
            found[right, image].rows.append(row)
    pairs = [twin for twin in found.values() if twin.colour <= FARTHEST]
    return sorted(pairs, key=lambda one: (one.bits, one.colour, one.rows[0], one.image))[:MOST]


def grid_of(image: Image.Image) -> np.ndarray:
    """Return the mean colours of GRID x GRID equal parts of an image, uint8 [GRID, GRID, 3]."""
    return np.asarray(image.convert("RGB").resize((GRID, GRID), Image.Resampling.BOX))


def _apart(a: np.ndarray, b: np.ndarray) -> int:
    return int(np.abs(a.astype(np.int16) - b).max())


def _flat(grid: np.ndarray) -> bool:
    """Say whether the parts of an image differ by less than twins may."""
    return bool((np.ptp(grid.reshape(-1, 3), axis=0) <= FARTHEST).all())
