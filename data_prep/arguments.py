"""What `vehicle-search-data` takes on its command line."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from data_prep.stages import STAGES


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
