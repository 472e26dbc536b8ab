"""`vehicle-search-data`: build, verify, amend, inspect and push evaluation sets."""

from __future__ import annotations

from collections.abc import Sequence

from mteb_vehicle_search.cli import Command, Program, run_program

PROGRAM = Program(
    "vehicle-search-data",
    "Build, verify, amend, inspect and push evaluation sets.",
    "'vehicle-search-data build --dry-run' shows what a build would download and need.",
    {
        "init": Command(
            "data_prep.init",
            "look at a folder of images and captions, and write a preset for it",
            "It says what it found; the preset is a commented TOML file that 'vehicle-search-data build' takes.",
        ),
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
        "amend": Command(
            "data_prep.amend",
            "write a set in which what people judged right is relevant too",
            "It has a content id of its own, and the images of the old one; see 'vehicle-search judge'.",
        ),
        "inspect": Command("data_prep.inspect", "counts by source, class and size, and a contact sheet"),
        "recipe": Command(
            "data_prep.recipes.writing",
            "write what others need to rebuild a set from their own copies",
            "It names every image, caption and judgement with digests, and holds neither an image nor a caption.\n"
            "'vehicle-search-data build --recipe' takes it, and says what differs.",
        ),
        "push": Command(
            "data_prep.push",
            "publish a set's recipe on the hub, or all of it; private unless asked",
            "By default only the recipe is sent (see 'vehicle-search-data recipe'), which anybody may have. Images of\n"
            "Flickr30k and ImageNet may go only to people who accepted their terms: send them with --images to a\n"
            "private repository, or with --gated to one where you admit each. Those under no terms may be --public.",
        ),
    },
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run `vehicle-search-data`; see `run_program`."""
    return run_program(PROGRAM, argv)
