"""Look at an evaluation set: counts, sizes, and a contact sheet."""

from __future__ import annotations

import argparse
import io
import random
import sys
import textwrap
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

from mteb_vehicle_search.eval_set import EvalSet
from mteb_vehicle_search.terminal import positive, print_rows

CELL_PX, LINE_PX, LINES, COLUMNS = 200, 13, 6, 6
SIDES_PX = (160, 240, 320, 400, 500, 640, 1000)


class Summary(NamedTuple):
    """Counts of images: by source, by class (name -> count), and by the original's shorter side in pixels."""

    sources: dict[str, int]
    classes: dict[str, int]
    sides: dict[str, int]


def summarise(eval_set: EvalSet) -> Summary:
    """Count the images of an evaluation set."""
    table = eval_set.provenance()
    sources = Counter(table["source"].to_pylist())
    names = zip(table["wnid"].to_pylist(), table["class_name"].to_pylist())
    classes = Counter(f"{wnid} {name}".strip() for wnid, name in names if wnid)
    sides = Counter(_side_range(min(size)) for size in zip(table["width"].to_pylist(), table["height"].to_pylist()))
    ranges = [_side_range(side) for side in (0, *SIDES_PX)]
    counted = {name: sides[name] for name in ranges if sides[name]}
    return Summary(dict(sorted(sources.items())), dict(sorted(classes.items())), counted)


def _side_range(side_px: int) -> str:
    low = max((limit for limit in SIDES_PX if limit <= side_px), default=0)
    high = min((limit for limit in SIDES_PX if limit > side_px), default=None)
    return f"{low} px and more" if high is None else f"{low} to {high - 1} px"


def contact_sheet(eval_set: EvalSet, path: Path, count: int = 24, seed: int = 0) -> None:
    """Write a PNG of random images, half of them captioned ones, with their ids, and first captions or classes."""
    texts = {query.id: query.text for query in eval_set.queries()}
    # Backwards, so that the first query of an image is what stays.
    captions = {qrel.corpus_id: texts[qrel.query_id] for qrel in sorted(eval_set.qrels(), reverse=True)}
    table = eval_set.provenance()
    classes = dict(zip(table["corpus-id"].to_pylist(), table["class_name"].to_pylist()))
    rng = random.Random(seed)
    others = [identifier for identifier in eval_set.corpus_ids() if identifier not in captions]
    half = rng.sample(sorted(captions), min(len(captions), max(count // 2, count - len(others))))
    chosen = sorted(half + rng.sample(others, min(len(others), count - len(half))))
    rows = -(-len(chosen) // COLUMNS)
    height_px = CELL_PX + LINES * LINE_PX
    sheet = Image.new("RGB", (COLUMNS * CELL_PX, max(1, rows) * height_px), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=11)
    for number, identifier in enumerate(chosen):
        left, top = number % COLUMNS * CELL_PX, number // COLUMNS * height_px
        with Image.open(io.BytesIO(eval_set.jpeg(identifier))) as image:
            image.thumbnail((CELL_PX - 8, CELL_PX - 8))
            sheet.paste(image, (left + 4, top + 4))
        source, _, stem = identifier.rpartition("/")
        lines = [source, stem, *textwrap.wrap(captions.get(identifier) or classes[identifier], 34)]
        for row, line in enumerate(lines[:LINES]):
            pen.text((left + 4, top + CELL_PX + LINE_PX * row), line, fill="gray" if row < 2 else "black", font=font)
    sheet.save(path, "PNG")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `vehicle-search-data inspect`."""
    add = parser.add_argument
    add("folder", type=Path)
    add("--sheet", type=Path, metavar="PNG", help="default: contact-sheet.png in the working directory")
    add("--count", type=positive, default=24, metavar="N", help="images on the contact sheet (default: %(default)s)")
    add("--seed", type=int, default=0, metavar="N", help="which images (default: %(default)s)")


def main(args: argparse.Namespace) -> int:
    """Show the counts and draw the sheet; return the exit status."""
    eval_set = EvalSet.open(args.folder)
    summary = summarise(eval_set)
    print_rows("Images by source", ("source", "images"), list(summary.sources.items()))
    if summary.classes:
        print_rows("\nImages by class", ("class", "images"), list(summary.classes.items()))
    most = max(summary.sides.values())
    rows = [(name, count, "#" * round(40 * count / most)) for name, count in summary.sides.items()]
    print_rows("\nShorter side of the originals", ("shorter side", "images", ""), rows)
    sheet = args.sheet or Path("contact-sheet.png")
    contact_sheet(eval_set, sheet, args.count, args.seed)
    sys.stdout.write(f"Contact sheet: {sheet}\n")
    return 0
