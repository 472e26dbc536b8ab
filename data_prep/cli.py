"""`vehicle-search-data`: build, verify, inspect and push evaluation sets."""

from __future__ import annotations

from collections.abc import Sequence

from mteb_vehicle_search.cli import Command, Program, run_program

PROGRAM = Program(
    "vehicle-search-data",
    "Build, verify, inspect and push evaluation sets.",
    "'vehicle-search-data build --dry-run' shows what a build would download and need.",
    {
        "build": Command(
            "data_prep.build",
            "build an evaluation set, or finish an interrupted build",
            "Whatever is finished is kept beside the output, in FOLDER.build; the same command goes on from there.",
        ),
        "verify": Command(
            "mteb_vehicle_search.eval_set.verify",
            "read everything and report every violation",
            "Every file's digest, every id, and every image is checked. Exits with 1 if something is wrong.",
        ),
        "inspect": Command("data_prep.inspect", "counts by source, class and size, and a contact sheet"),
        "push": Command("data_prep.push", "upload to the hub; private unless asked"),
    },
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run `vehicle-search-data`; see `run_program`."""
    return run_program(PROGRAM, argv)
