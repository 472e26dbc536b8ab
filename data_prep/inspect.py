"""Look at an evaluation set: counts, sizes, and a contact sheet."""

from __future__ import annotations

import argparse
import io
import random
import sys
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image, ImageDraw, ImageFont

from mteb_vehicle_search.eval_set import EvalSet
from mteb_vehicle_search.terminal import positive, print_rows

CELL_PX, GAP_PX, FONT_PX, LINE_PX, LINES, COLUMNS = 220, 8, 13, 17, 4, 6
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


class _Cell(NamedTuple):
    """A picture of the sheet, what tells it from others, and its first caption or its class."""

    image: Image.Image
    name: str
    lines: list[str]


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
    font = ImageFont.load_default(size=FONT_PX)
    cells = []
    for identifier in chosen:
        with Image.open(io.BytesIO(eval_set.jpeg(identifier))) as image:
            image.thumbnail((CELL_PX - 2 * GAP_PX, CELL_PX - 2 * GAP_PX))
            text = captions.get(identifier) or classes[identifier] or "without caption"
            cells.append(_Cell(image.convert("RGB"), identifier.rpartition("/")[2], _wrapped(text, font)))
    rows = [cells[at : at + COLUMNS] for at in range(0, len(cells), COLUMNS)]
    # A row is as high as its highest picture; captions follow their pictures.
    heights = [max(cell.image.height + LINE_PX * (1 + len(cell.lines)) for cell in row) + 3 * GAP_PX for row in rows]
    sheet = Image.new("RGB", (COLUMNS * CELL_PX, max(1, sum(heights))), "white")
    pen, top = ImageDraw.Draw(sheet), 0
    for row, height in zip(rows, heights):
        for number, cell in enumerate(row):
            left, below = number * CELL_PX + GAP_PX, top + GAP_PX + cell.image.height + GAP_PX // 2
            sheet.paste(cell.image, (left, top + GAP_PX))
            for place, line in enumerate([_cut(cell.name, font), *cell.lines]):
                pen.text((left, below + LINE_PX * place), line, fill="gray" if not place else "black", font=font)
        top += height
    sheet.save(path, "PNG")


def _wrapped(text: str, font: Any) -> list[str]:
    """Return the lines of a text that fit under a picture; the last one ends with dots if there are more."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= CELL_PX - 2 * GAP_PX or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    cut = [_cut(line, font) for line in lines]
    return cut if len(cut) <= LINES else [*cut[: LINES - 1], _cut(f"{cut[LINES - 1]}...", font)]


def _cut(line: str, font: Any) -> str:
    """Return a line as far as it fits under a picture, with dots if that is not all of it."""
    if font.getlength(line) <= CELL_PX - 2 * GAP_PX:
        return line
    line = line.removesuffix("...")
    while line and font.getlength(f"{line}...") > CELL_PX - 2 * GAP_PX:
        line = line[:-1]
    return f"{line}..."


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
