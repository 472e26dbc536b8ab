"""Small images for the page: each once, many to a file.

One file per image would be tens of thousands of files, most smaller than a block of the disk, each with its own
header. So they lie on sheets of `COLUMNS` x `ROWS` tiles, in the order in which the page first shows them: what a
query needs is mostly on one or two sheets.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from mteb_vehicle_search.errors import EvalSetError
from mteb_vehicle_search.eval_set import EvalSet
from mteb_vehicle_search.terminal import progress_bar

COLUMNS, ROWS = 8, 6
PER_SHEET = COLUMNS * ROWS
# Longest side in pixels and WebP quality, best first. Multiples of 16 keep a tile to whole blocks of the encoder.
LEVELS = ((160, 75), (144, 70), (128, 65), (128, 55), (112, 50), (112, 40), (96, 40), (96, 30), (80, 30), (64, 25))
SAMPLED_SHEETS = 12
# Sheets differ; what a sample of them says of all is off by a few per cent.
SAMPLE_MARGIN = 1.05
# Sheets whose JPEG bytes are held at once: about 60 MB.
BATCH = 200


class Thumbnails(NamedTuple):
    """What the page must know to cut an image out of its sheet.

    Attributes:
        tile_px: Side of a tile; image n is tile n % PER_SHEET of sheet n // PER_SHEET, at the tile's top left.
        quality: Of the WebP encoder.
        sizes: (width, height) of each image in pixels.
        bytes: Size of all sheets.
    """

    tile_px: int
    quality: int
    sizes: list[tuple[int, int]]
    bytes: int


def write_thumbnails(eval_set: EvalSet, shown: Sequence[str], folder: Path, budget: int) -> Thumbnails:
    """Write the sheets `folder/0.webp`, `folder/1.webp`, ... as good as `budget` bytes for all together allow.

    `shown` are the ids of the images, in the order of their numbers; `folder` is created.

    Raises:
        EvalSetError: An image cannot be decoded.
    """
    folder.mkdir(parents=True)
    sheets = [list(shown[at : at + PER_SHEET]) for at in range(0, len(shown), PER_SHEET)]
    tile, quality = _level(eval_set, sheets, budget)
    sizes: list[tuple[int, int]] = []
    total = 0
    # Pillow decodes, resizes and encodes without Python's lock, so threads use all processors.
    with ThreadPoolExecutor() as workers, progress_bar("thumbnails", len(shown)) as progress:
        for start in range(0, len(sheets), BATCH):
            batch = sheets[start : start + BATCH]
            read = _read(eval_set, batch)
            made = workers.map(lambda sheet, read=read: make_sheet(sheet, read, tile, quality), batch)
            for number, (data, of_sheet) in enumerate(made, start):
                (folder / f"{number}.webp").write_bytes(data)
                sizes += of_sheet
                total += len(data)
                progress.update(len(of_sheet))
    return Thumbnails(tile, quality, sizes, total)


def _level(eval_set: EvalSet, sheets: list[list[str]], budget: int) -> tuple[int, int]:
    """Return the best (longest side, quality) whose sampled sheets fit the budget."""
    step = max(1, len(sheets) // SAMPLED_SHEETS)
    sample = sheets[::step][:SAMPLED_SHEETS]
    read = _read(eval_set, sample)
    with ThreadPoolExecutor() as workers:
        for tile, quality in LEVELS:
            made = workers.map(lambda sheet, t=tile, q=quality: len(make_sheet(sheet, read, t, q)[0]), sample)
            if sum(made) / len(read) * sum(map(len, sheets)) * SAMPLE_MARGIN <= budget:
                return tile, quality
    return LEVELS[-1]


def _read(eval_set: EvalSet, sheets: list[list[str]]) -> dict[str, bytes]:
    """Return JPEG bytes by id, read in the order of the corpus, since images lie in groups."""
    return {image: eval_set.jpeg(image) for image in sorted(chain.from_iterable(sheets))}


def make_sheet(
    images: Sequence[str], read: dict[str, bytes], tile: int, quality: int
) -> tuple[bytes, list[tuple[int, int]]]:
    """Return one sheet as WebP bytes, and (width, height) of the images on it.

    Raises:
        EvalSetError: An image cannot be decoded.
    """
    rows = -(-len(images) // COLUMNS)
    sheet = Image.new("RGB", (tile * min(COLUMNS, len(images)), tile * rows), (128, 128, 128))
    sizes = []
    for place, image in enumerate(images):
        y, x = divmod(place, COLUMNS)
        decoded = decode_image(image, read[image])
        ratio = min(1.0, tile / max(decoded.size))
        size = (max(1, round(decoded.width * ratio)), max(1, round(decoded.height * ratio)))
        sheet.paste(decoded.resize(size, Image.Resampling.LANCZOS), (x * tile, y * tile))
        sizes.append(size)
    buffer = io.BytesIO()
    sheet.save(buffer, "WEBP", quality=quality, method=4)
    return buffer.getvalue(), sizes


def decode_image(image: str, data: bytes) -> Image.Image:
    """Return the pixels, in RGB, that the JPEG bytes of an image hold.

    Raises:
        EvalSetError: It cannot be decoded.
    """
    try:
        with Image.open(io.BytesIO(data)) as opened:
            return opened.convert("RGB")
    except (OSError, Image.DecompressionBombError) as error:
        hint = "See 'vehicle-search-data verify FOLDER'."
        raise EvalSetError(f"Image {image!r} cannot be decoded: {error}.", hint) from error
