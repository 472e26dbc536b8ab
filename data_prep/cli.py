"""`vehicle-search-data`: build, verify, inspect and push evaluation sets."""

from __future__ import annotations

import argparse
import errno
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_prep.markers import STAGES
from mteb_vehicle_search import settings
from mteb_vehicle_search.errors import VehicleSearchError

SHOWN_REJECTS = 5


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return the exit status: 0, 1 for an error (usage errors exit with 2)."""
    options = parser().parse_args(arguments)
    command = {"build": _build, "verify": _verify, "inspect": _inspect, "push": _push}[options.command]
    try:
        return command(options)
    except VehicleSearchError as error:
        if options.debug:
            raise
        print(f"Error: {error}", file=sys.stderr)
    except OSError as error:
        if options.debug:
            raise
        message = str(error)
        if error.errno == errno.ENOSPC:
            message = (
                f"the disk is full ({error.filename or error.strerror}).\n"
                "Free some space and run the same command again; finished stages are kept."
            )
        print(f"Error: {message}", file=sys.stderr)
    except KeyboardInterrupt:
        print("Interrupted; run the same command again to go on.", file=sys.stderr)
        return 130
    return 1


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number and column != "" else "left", overflow="fold")
    for row in rows:
        table.add_row(*(f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row))
    # Fixed width in a pipe, so that output does not depend on the terminal.
    console = Console(width=None if sys.stdout.isatty() else 80, highlight=False)
    console.print(table, markup=False)


def _build(options: argparse.Namespace) -> int:
    from data_prep.build import BuildOptions, build
    from data_prep.preset import load_preset
    from mteb_vehicle_search.terminal import Reporter

    # Pillow tells of broken EXIF and of large images; both are dealt with, and rejects say why.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    if options.quiet:
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # Before the hub's client is imported.
    preset = load_preset(options.preset)
    default = settings.evaluation_data() if options.preset == "original" else settings.data_folder(preset.name)
    chosen = BuildOptions(
        preset=preset,
        out=(options.out.expanduser() if options.out else default).absolute(),
        flickr30k=options.flickr30k,
        imagenet=options.imagenet,
        selection=options.selection,
        workers=options.workers,
        device=options.device,
        batch_size=options.batch_size,
        rebuild=tuple(options.rebuild),
        allow_rejects=options.allow_rejects,
    )
    if options.dry_run:
        from data_prep.plan import plan

        planned = plan(chosen)
        _table("Plan", ("what", ""), planned.rows)
        if planned.needed_gb > planned.free_gb:
            print("There is not enough space on the disk.")
            return 1
        return 0
    evaluation = build(chosen, Reporter(options.quiet))
    notes = evaluation.manifest["notes"]
    expected = notes["expected"]
    rows = [
        (
            name.replace("_", " "),
            notes["counts"][name],
            expected.get(name, "-"),
            _compared(notes["counts"][name], expected.get(name)),
        )
        for name in ("captioned", "distractors", "queries", "distinct_texts", "rejected")
    ]
    columns = ("count", "built", "published", "difference")[: 4 if expected else 2]
    _table(evaluation.manifest["title"], columns, [row[: len(columns)] for row in rows])
    for row in evaluation.rejected().slice(0, SHOWN_REJECTS).to_pylist():
        print("  {} ({}): {}".format(*row.values()))
    if notes["counts"]["rejected"] > SHOWN_REJECTS:
        print(f"  ...; all of them are in {evaluation.folder / 'rejected.parquet'}")
    print(f"Content id {evaluation.content_id}\nVerified; at {evaluation.folder}")
    print(f"{chosen.work} holds the finished stages; delete it when no rebuild is planned.")
    return 0


def _compared(built: int, published: int | None) -> str:
    return "-" if published is None else f"{built - published:+,}" if built != published else "same"


def _verify(options: argparse.Namespace) -> int:
    from mteb_vehicle_search.eval_set.verify import verify

    checked = verify(options.folder, progress=not options.quiet)
    _table(f"{options.folder}", ("part", "rows"), list(checked.counts.items()))
    print(f"Content id {checked.content_id}")
    for violation in checked.violations:
        print(f"  {violation.where}: {violation.what}")
    print(f"{len(checked.violations)} violations." if checked.violations else "No violation.")
    return 1 if checked.violations else 0


def _inspect(options: argparse.Namespace) -> int:
    from data_prep.inspect import contact_sheet, summarise
    from mteb_vehicle_search.eval_set import EvalSet

    evaluation = EvalSet.open(options.folder)
    summary = summarise(evaluation)
    _table("Images by source", ("source", "images"), list(summary.sources.items()))
    if summary.classes:
        _table("Images by class", ("class", "images"), list(summary.classes.items()))
    most = max(summary.sides.values())
    rows = [(name, count, "#" * round(40 * count / most)) for name, count in summary.sides.items()]
    _table("Shorter side of the originals", ("shorter side", "images", ""), rows)
    sheet = options.sheet or Path("contact-sheet.png")
    contact_sheet(evaluation, sheet, options.count, options.seed)
    print(f"Contact sheet: {sheet}")
    return 0


def _push(options: argparse.Namespace) -> int:
    from data_prep.hub import push, terms_warning
    from mteb_vehicle_search.eval_set import EvalSet

    if warning := terms_warning(EvalSet.open(options.folder), options.public):
        print(warning, file=sys.stderr)
    print(f"Pushed to {push(options.folder, options.repository, options.public)}")
    return 0


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    main_parser = argparse.ArgumentParser(
        prog="vehicle-search-data",
        description="Build, verify, inspect and push evaluation sets.",
        epilog="'vehicle-search-data build --dry-run' shows what a build would download and need.",
    )
    main_parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = main_parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    build = _command(
        commands,
        "build",
        "build an evaluation set, or finish an interrupted build",
        "Whatever is finished is kept beside the output, in FOLDER.build; the same command goes on from there.",
    )
    build.add_argument(
        "--preset", default="original", metavar="NAME", help="original (default), wordnet, mini, or a .toml file"
    )
    build.add_argument(
        "--flickr30k",
        default="hub",
        metavar="SRC",
        help="'hub' (default), or a folder with the captions CSV and the zip or the images, or of parquet files",
    )
    build.add_argument(
        "--imagenet",
        default="hub",
        metavar="SRC",
        help="'hub' (default), or a folder with the hub's shards, the original tar files, or train/ and val/",
    )
    build.add_argument("--out", type=Path, metavar="FOLDER", help="default: where the task looks for it")
    build.add_argument(
        "--selection",
        metavar="LIST",
        help="'published', or a file of image names: keep these images and run no classifier",
    )
    build.add_argument(
        "--workers",
        type=_positive,
        default=os.cpu_count() or 1,
        metavar="N",
        help="threads that decode and resize (default: one per core)",
    )
    build.add_argument("--device", default="auto", help="of the classifier: auto (default), cpu, cuda or cuda:N")
    build.add_argument(
        "--batch-size", type=_positive, default=32, metavar="N", help="of the classifier (default: %(default)s)"
    )
    build.add_argument(
        "--rebuild",
        action="append",
        default=[],
        metavar="STAGE",
        choices=STAGES,
        help=f"do a stage again although nothing changed: {', '.join(STAGES)}",
    )
    build.add_argument("--allow-rejects", action="store_true", help="go on with more than 0.5 %% of bad images")
    build.add_argument("--dry-run", action="store_true", help="show the plan and stop")
    build.add_argument("--quiet", action="store_true", help="no progress bars")

    verify = _command(
        commands,
        "verify",
        "read everything and report every violation",
        "Every file's digest, every id, and every image is checked. Exits with 1 if something is wrong.",
    )
    verify.add_argument("folder", type=Path)
    verify.add_argument("--quiet", action="store_true", help="no progress bar")

    inspect = _command(commands, "inspect", "counts by source, class and size, and a contact sheet")
    inspect.add_argument("folder", type=Path)
    inspect.add_argument(
        "--sheet", type=Path, metavar="PNG", help="default: contact-sheet.png in the working directory"
    )
    inspect.add_argument(
        "--count", type=_positive, default=24, metavar="N", help="images on the contact sheet (default: %(default)s)"
    )
    inspect.add_argument("--seed", type=int, default=0, metavar="N", help="which images (default: %(default)s)")

    push = _command(commands, "push", "upload to the hub; private unless asked")
    push.add_argument("folder", type=Path)
    push.add_argument("repository", metavar="REPO", help="name on the hub, such as my-lab/vehicle-image-search")
    push.add_argument("--public", action="store_true", help="visible to everybody: read the warning first")
    return main_parser


def _command(commands: Any, name: str, does: str, more: str = "") -> argparse.ArgumentParser:
    described = does[0].upper() + does[1:] + "."
    return commands.add_parser(name, help=does, description=f"{described} {more}".strip())


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value
