"""A preset for images of one's own: what is in a folder, and the TOML that makes an evaluation set of it."""

from __future__ import annotations

import argparse
import json
import re
import shlex
import sys
import unicodedata
from pathlib import Path
from typing import NamedTuple

from data_prep.job import REJECT_LIMIT
from data_prep.preset_rules import is_preset_name
from data_prep.sources import Place
from data_prep.sources.own import BESIDE
from data_prep.sources.own.survey import Survey, look
from data_prep.sources.samples import TAR
from data_prep.storage.local import LocalTree
from mteb_vehicle_search.addresses import is_url, shown
from mteb_vehicle_search.errors import BuildError
from mteb_vehicle_search.eval_set.schema import camel_case, is_line, is_task_name
from mteb_vehicle_search.files import write_whole
from mteb_vehicle_search.terminal import print_rows

KEPT = 5  # Captions of an image, as in the published evaluation.
LONGEST_CELL = 110


class Names(NamedTuple):
    """What the preset is called, and where it will lie."""

    path: Path
    name: str
    title: str

    @property
    def task(self) -> str:
        """The name of its mteb task."""
        task = camel_case(self.name)
        return task if is_task_name(task) else f"Own{task}"[:60]


def toml(survey: Survey, names: Names, src: str, caption_column: str = "") -> str:
    """Return a preset, with comments, that builds a set of what was found.

    Args:
        survey: What was found.
        names: Of the preset.
        src: Where the images lie.
        caption_column: The one that was asked for; empty for the one that was found.
    """
    location = text(_located(src, names.path))
    most, fewest = max(survey.counts), min(survey.counts)
    lines = [
        "# Images of one's own, as 'vehicle-search-data init' found them. Paths are relative to this file.",
        f"name = {text(names.name)}",
        f"title = {text(names.title)}",
        f"task_name = {text(names.task)} # mteb run -t {names.task} -m MODEL",
        "",
        "[captioned]",
        f"source = {text(survey.source)}",
        f"location = {location}",
        *_captions(survey, names, caption_column),
        f"captions = {min(most, KEPT)} # the first ones of each image become queries; here {_range(fewest, most)}",
        "fewest_captions = 1 # images with fewer are not used",
        "",
        "[distractors] # what is searched, too, and answers no query",
    ]
    if survey.unnamed:
        shown = "those" if survey.sampled else f"the {survey.unnamed:,}"
        lines += [
            f"source = {text(survey.source)}",
            f"location = {location} # {shown} without captions; or another place",
        ]
        lines += ['# source = "none" # without a location: only images with captions are searched']
    else:
        lines += ['source = "none" # only images with captions are searched; or:']
        lines += ['# source = "folder"', '# location = "more-images"']
    return "\n".join([*lines, _REST])


_REST = """\
# source = "imagenet"
# classes = "orig49" # or a .tsv file of ImageNet classes

# Keep only the captioned images that show something of these classes:
# [classifier]
# library = "transformers"
# model = "google/vit-base-patch16-224"
# revision = "3f49326eb077187dfe1c2a2bb15fbd74e6ab91e3"
# [selection]
# classes = "orig49"
# threshold = 0.6 # of the summed probability; or: share = 0.5

[images]
shortest_side_px = 160 # smaller ones stay as they are
resample = "bicubic"
jpeg_quality = 75
exif = "all" # images are turned upright as their cameras say
colour_profile = "srgb" # colours as they were meant

[duplicates]
policy = "report" # "remove" drops images without captions that show the same as one with captions
max_distance = 4
"""


def text(value: str) -> str:
    """Return a TOML string (toml.io, v1.0.0, "Basic strings"); JSON's escapes are those of TOML, but for U+007F.

    Raises:
        BuildError: It is no text, as the name of a file in another encoding.
    """
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise BuildError(f"{value!a} cannot be written: it is not UTF-8.", "Rename that folder or file.") from error
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _captions(survey: Survey, names: Names, caption_column: str) -> list[str]:
    if survey.captions is None:
        return [f"caption_column = {text(caption_column)}"] if caption_column else []
    if survey.table is None or survey.captions.table is None:
        beside = [f"table = {text(BESIDE)} # a .txt or .json beside each image"]
        return [*beside, f"caption_column = {text(caption_column)}"] if caption_column else beside
    tree, name = survey.table
    if isinstance(tree, LocalTree):
        place = _located(str(tree.root / name), names.path)
    else:
        place = name if tree.where == survey.where else tree.path(name)
    columns = survey.captions.table.caption_column
    several = ", " in columns and not caption_column
    return [
        f"table = {text(place)} # {survey.captions.table.form}",
        f"file_column = {text(survey.captions.table.file_column)}",
        *([] if several else [f"caption_column = {text(columns)}"]),
    ]


def _range(fewest: int, most: int) -> str:
    return f"{most:,}" if fewest == most else f"{fewest:,} to {most:,}"


def _located(src: str, preset: Path) -> str:
    """A place as the preset in that file says it: relative to it if it is below; an address without its secrets."""
    if is_url(src):
        return shown(src)
    path, folder = Path(src).expanduser().absolute(), preset.absolute().parent
    for place, above in ((path, folder), (path.resolve(), folder.resolve())):
        if place.is_relative_to(above) and ".." not in place.parts:
            return place.relative_to(above).as_posix()
    return str(path.resolve())


def show(survey: Survey) -> None:
    """Print what was found."""
    which = f" (the first {survey.endings.total():,} samples)" if survey.sampled else ""
    endings = [(f".{ending}", count) for ending, count in sorted(survey.endings.items())]
    sys.stdout.write(f"{survey.where}{which}\n")  # Whole, however narrow the console is.
    print_rows("", ("images", "count"), endings)
    rows: list[tuple[str, str]] = []
    if captions := survey.captions:
        rows.append(("where", captions.where))
        if table := captions.table:
            rows += [("form", table.form), ("file names in", table.file_column), ("captions in", table.caption_column)]
    rows += [
        ("images with captions", f"{survey.counts.total():,}"),
        ("captions of an image", _range(min(survey.counts), max(survey.counts))),
        ("images without", f"{survey.unnamed:,}"),
    ]
    if captions := survey.captions:
        bad = [f"{row.where}: {row.reason}" for row in captions.bad]
        for what, found in (("names of no image", list(captions.missing.values())), ("rows not used", bad)):
            rows.append((what, f"{len(found):,}" + (f"; the first: {found[0]}" if found else "")))
    rows += [(f"not used: {name}", why) for name, why in survey.others.items()]
    cells = [(what, said if len(said) <= LONGEST_CELL else f"{said[: LONGEST_CELL - 3]}...") for what, said in rows]
    print_rows("\nCaptions", ("captions", ""), cells)


def _names(args: argparse.Namespace) -> Names:
    """Check what the preset shall be called, before anything is read.

    Raises:
        BuildError: It cannot be called so, or cannot be written there.
    """
    last = re.split(r"[?#]", args.folder)[0].rstrip("/") if is_url(args.folder) else str(Path(args.folder).resolve())
    own = re.sub(r"\.zip$", "", TAR.sub("", Path(last).name), flags=re.IGNORECASE)
    plain = unicodedata.normalize("NFKD", own).encode("ascii", "ignore").decode().lower()
    made = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:60]
    name = args.name or (made if is_preset_name(made) else "own-images")
    if not is_preset_name(name):
        raise BuildError(f"{name!r} cannot be the name of a set.", "Give --name 1 to 60 of a-z, 0-9 and '-'.")
    title = args.title if args.title is not None else f"Image search in {own if own and is_line(own) else name}"
    if not is_line(title) or not title.strip():
        raise BuildError("The title must be a line of text.", "Give --title another one.")
    path = args.out or Path(f"{name}.toml")
    if path.suffix != ".toml":
        raise BuildError(f"{path} does not end in .toml, as presets in files do.", "Give --out another file.")
    if not path.absolute().parent.is_dir():
        raise BuildError(f"There is no folder {path.absolute().parent}.", "Make it, or give --out another file.")
    if path.is_dir() or (path.exists() and not args.force):
        raise BuildError(f"{path} exists.", "Give --out another file, or overwrite it with --force.")
    return Names(path, name, title)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `vehicle-search-data init`."""
    add = parser.add_argument
    add(
        "folder",
        metavar="FOLDER",
        help="of images; or a zip, a tar, or an address of https://, s3://, gs:// or hf://",
    )
    add("--out", type=Path, metavar="FILE", help="the preset, ending in .toml (default: NAME.toml here)")
    add("--name", default="", help="of the set, 1 to 60 of a-z, 0-9 and '-' (default: made of the folder's)")
    add("--title", help="a line that people read above tables (default: made of the folder's name)")
    add("--table", default="", metavar="FILE", help="with the captions (default: the one that is found)")
    add("--file-column", default="", metavar="COLUMN", help="of the table, with file names (default: found)")
    add("--caption-column", default="", metavar="COLUMN", help="likewise with captions")
    add("--force", action="store_true", help="overwrite the preset")


def main(args: argparse.Namespace) -> int:
    """Say what is in a folder and write a preset for it; return the exit status."""
    names = _names(args)
    table = str(Path(args.table).absolute()) if args.table and Path(args.table).is_file() else args.table
    survey = look(Place(args.folder, None, table, args.file_column, args.caption_column))
    src = args.folder
    if survey.inside:
        src = f"{src.rstrip('/')}/{survey.inside}" if is_url(src) else str(Path(src) / survey.inside)
    content = toml(survey, names, src, args.caption_column)
    show(survey)
    write_whole(names.path, content.encode())
    sys.stdout.write(f"\nWrote {names.path}. Read it, and build the set:\n  {_command(survey, names, src)}\n")
    return 0


def _command(survey: Survey, names: Names, src: str) -> str:
    command = ["vehicle-search-data", "build", "--preset", str(names.path)]
    if is_url(src) and _located(src, names.path) != src.rstrip("/"):  # Logins and signatures are not written down.
        command += ["--captioned", src, *(["--distractors", src] if survey.unnamed else [])]
    if captions := survey.captions:
        refused = len(captions.bad) + len(captions.missing)
        command += ["--allow-incomplete"] if captions.missing else []
        if refused > REJECT_LIMIT * (survey.counts.total() + survey.unnamed + refused):
            command += ["--allow-rejects"]
    return shlex.join(command)
