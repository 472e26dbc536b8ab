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
from mteb_vehicle_search.eval_set.schema import first_name
from mteb_vehicle_search.terminal import positive, print_rows

CELL_PX, GAP_PX, FONT_PX, LINE_PX, LINES, COLUMNS = 220, 8, 13, 17, 4, 6
SIDES_PX = (160, 240, 320, 400, 500, 640, 1000)


class Summary(NamedTuple):
    """Counts of images: by source, by class (name -> count), by the original's shorter side in pixels, and by arm and
    miners where the set is a sample of a pool."""

    sources: dict[str, int]
    classes: dict[str, int]
    sides: dict[str, int]
    arms: dict[str, int] = {}  # noqa: RUF012 - never changed


def summarise(eval_set: EvalSet) -> Summary:
    """Count the images of an evaluation set."""
    table = eval_set.provenance()
    sources = Counter(table["source"].to_pylist())
    names = zip(table["wnid"].to_pylist(), table["class_name"].to_pylist())
    classes = Counter(f"{wnid} {name}".strip() for wnid, name in names if wnid)
    sides = Counter(_side_range(min(size)) for size in zip(table["width"].to_pylist(), table["height"].to_pylist()))
    ranges = [_side_range(side) for side in (0, *SIDES_PX)]
    counted = {name: sides[name] for name in ranges if sides[name]}
    arms: Counter[str] = Counter()
    if eval_set.pool:
        found = zip(table["arm"].to_pylist(), table["mined_by"].to_pylist())
        arms.update(f"{arm} by {', '.join(miners)}" if miners else arm for arm, miners in found)
    return Summary(dict(sorted(sources.items())), dict(sorted(classes.items())), counted, dict(sorted(arms.items())))


def _side_range(side_px: int) -> str:
    low = max((limit for limit in SIDES_PX if limit <= side_px), default=0)
    high = min((limit for limit in SIDES_PX if limit > side_px), default=None)
    return f"{low} px and more" if high is None else f"{low} to {high - 1} px"


class _Cell(NamedTuple):
    """An image of the sheet, what tells it from others, and its class and first caption, in lines that fit."""

    image: Image.Image
    name: str
    lines: list[str]


class _Row(NamedTuple):
    """Images beside each other, and what stands above them; empty: nothing."""

    cells: list[_Cell]
    heading: str = ""

    @property
    def height(self) -> int:
        """Of the highest image with what stands below it, and of the heading, in pixels."""
        highest = max(cell.image.height + LINE_PX * (1 + len(cell.lines)) for cell in self.cells)
        return highest + 3 * GAP_PX + (LINE_PX + GAP_PX if self.heading else 0)


def contact_sheet(eval_set: EvalSet, path: Path, count: int = 24, seed: int = 0) -> None:
    """Write a PNG of random images, half of them captioned ones, with their ids, sources, classes, and first captions.

    Of a set that was selected by clusters a row of images of each follows, below its commonest words.
    """
    texts = {query.id: query.text for query in eval_set.queries()}
    # Backwards, so that the first query of an image is what stays.
    captions = {qrel.corpus_id: texts[qrel.query_id] for qrel in sorted(eval_set.qrels(), reverse=True)}
    table = eval_set.provenance()
    facts = {row["corpus-id"]: row for row in table.select(["corpus-id", "class_name", "source"]).to_pylist()}
    rng = random.Random(seed)
    others = [identifier for identifier in eval_set.corpus_ids() if identifier not in captions]
    half = rng.sample(sorted(captions), min(len(captions), max(count // 2, count - len(others))))
    chosen = sorted(half + rng.sample(others, min(len(others), count - len(half))))
    font = ImageFont.load_default(size=FONT_PX)

    def cell(identifier: str) -> _Cell:
        with Image.open(io.BytesIO(eval_set.jpeg(identifier))) as image:
            image.thumbnail((CELL_PX - 2 * GAP_PX, CELL_PX - 2 * GAP_PX))
            name, source = first_name(facts[identifier]["class_name"]), facts[identifier]["source"]
            about = [name, captions.get(identifier) or ("" if name else "without caption")]
            lines = [line for text in about if text for line in _wrapped(text, font)][:LINES]
            return _Cell(image.convert("RGB"), f"{identifier.rpartition('/')[2]}, {source}", lines)

    cells = [cell(identifier) for identifier in chosen]
    rows = [_Row(cells[at : at + COLUMNS]) for at in range(0, len(cells), COLUMNS)]
    for cluster in eval_set.manifest["notes"].get("clusters", []):
        # What was removed as a duplicate is not there any more.
        ids = [identifier for identifier in cluster["ids"] if identifier in captions]
        if ids:
            shown = sorted(rng.sample(ids, min(COLUMNS, len(ids))))
            rows.append(_Row([cell(identifier) for identifier in shown], _heading(cluster)))
    _draw(rows, font).save(path, "PNG")


def _heading(cluster: dict[str, Any]) -> str:
    words = ", ".join(cluster["words"]) or "without words"
    return f"Cluster {cluster['number']}: {words}. {cluster['size']:,} images, coherence {cluster['coherence']:.2f}"


def _draw(rows: list[_Row], font: Any) -> Image.Image:
    """Return the sheet; a row is as high as its highest image, and captions follow their images."""
    sheet = Image.new("RGB", (COLUMNS * CELL_PX, max(1, sum(row.height for row in rows))), "white")
    pen, top = ImageDraw.Draw(sheet), 0
    for row in rows:
        begin = top
        if row.heading:
            pen.line([GAP_PX, top, sheet.width - GAP_PX, top], fill="lightgray")
            heading = _cut(row.heading, font, sheet.width - 2 * GAP_PX)
            pen.text((GAP_PX, top + GAP_PX), heading, fill="black", font=font)
            begin += LINE_PX + GAP_PX
        for number, cell in enumerate(row.cells):
            left, below = number * CELL_PX + GAP_PX, begin + GAP_PX + cell.image.height + GAP_PX // 2
            sheet.paste(cell.image, (left, begin + GAP_PX))
            for place, line in enumerate([_cut(cell.name, font), *cell.lines]):
                pen.text((left, below + LINE_PX * place), line, fill="gray" if not place else "black", font=font)
        top += row.height
    return sheet


def _wrapped(text: str, font: Any) -> list[str]:
    """Return the lines of a text that fit under an image; the last one ends with dots if there are more."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= CELL_PX - 2 * GAP_PX or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    cut = [_cut(line, font) for line in lines]
    return cut if len(cut) <= LINES else [*cut[: LINES - 1], _cut(f"{cut[LINES - 1]}...", font)]


def _cut(line: str, font: Any, width_px: int = CELL_PX - 2 * GAP_PX) -> str:
    """Return a line as far as it fits, by default under an image, with dots if that is not all of it."""
    if font.getlength(line) <= width_px:
        return line
    line = line.removesuffix("...")
    while line and font.getlength(f"{line}...") > width_px:
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
    if summary.arms:
        print_rows("\nImages by arm", ("arm", "images"), list(summary.arms.items()))
    if summary.classes:
        print_rows("\nImages by class", ("class", "images"), list(summary.classes.items()))
    if clusters := eval_set.manifest["notes"].get("clusters", []):
        shown = [(c["number"], ", ".join(c["words"]), c["size"], f"{c['coherence']:.2f}") for c in clusters]
        print_rows("\nClusters of captioned images", ("cluster", "commonest words", "images", "coherence"), shown)
    most = max(summary.sides.values())
    rows = [(name, count, "#" * round(40 * count / most)) for name, count in summary.sides.items()]
    print_rows("\nShorter side of the originals", ("shorter side", "images", ""), rows)
    sheet = args.sheet or Path("contact-sheet.png")
    contact_sheet(eval_set, sheet, args.count, args.seed)
    sys.stdout.write(f"Contact sheet: {sheet}\n")
    return 0
