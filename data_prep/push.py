"""Finished sets sent to the hub: their recipe, or with the images where those may go."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from data_prep import hub
from data_prep.recipes import RECIPE_FILE
from data_prep.recipes.card import recipe_card
from data_prep.recipes.writing import require_recipe, write_recipe
from mteb_vehicle_search.errors import BuildError
from mteb_vehicle_search.eval_set import EvalSet
from mteb_vehicle_search.eval_set.verify import verify

UNTOLD = "the set does not say; build it again with this version to be told"
WITH_IMAGES = ("corpus/", "queries/")  # What a repository has that holds a set, and not its recipe.


class Sharing(NamedTuple):
    """What is sent, and who may see it.

    Attributes:
        images: The whole set with images and captions, not its recipe.
        public: Everybody sees and gets it; else it is private.
        gated: Everybody sees that it is there, and the owner admits each who wants the files.
    """

    images: bool = False
    public: bool = False
    gated: bool = False


def terms(eval_set: EvalSet) -> list[str]:
    """Return the terms that a set's images come under; none if they may go anywhere."""
    sources: dict[str, Any] = eval_set.manifest.get("sources") or {"": {"terms": UNTOLD}}
    return [source["terms"] for source in sources.values() if source.get("terms")]


def terms_warning(eval_set: EvalSet, sharing: Sharing) -> str:
    """Return what the user should know of the terms before a set or its recipe leaves the computer; "" if nothing."""
    if not (found := terms(eval_set)):
        return ""
    if not sharing.images:
        advice = "The recipe holds none of them, nor a caption. Who rebuilds the set needs copies of their own."
    elif sharing.gated:
        advice = "The repository will be gated. Admit only people who accepted the same terms."
    else:
        advice = "The repository will be private. Share it only with people who accepted the same terms."
    return "\n".join(["The images come under terms that go with them:", *(f"  - {text}" for text in found), advice])


def check_sharing(eval_set: EvalSet, sharing: Sharing) -> None:
    """Make sure that the images may be shared so.

    Raises:
        BuildError: They may not, or the wishes exclude each other.
    """
    if sharing.gated and not sharing.images:
        raise BuildError(
            "--gated is for images; a recipe holds nothing that needs a gate.",
            "Say --images as well, or leave --gated away.",
        )
    if sharing.gated and sharing.public:
        raise BuildError("--gated and --public exclude each other.", "A gated repository is visible to everybody.")
    if sharing.images and sharing.public and (found := terms(eval_set)):
        listed = "".join(f"\n  - {text}" for text in found)
        raise BuildError(
            f"The images of {eval_set.folder} come under terms, so they are not published:{listed}",
            "Leave --images away to publish the recipe; or leave --public away (a private repository), or say --gated "
            "(one whose files you give to those who accepted the terms).",
        )


def push(folder: Path, repository: str, sharing: Sharing = Sharing()) -> str:  # noqa: B008 - immutable
    """Upload the recipe of a verified evaluation set, or all of it; return its address.

    Raises:
        BuildError: The set does not verify, has no recipe, or may not be shared so.
        SourceError: There is no login, or the hub refuses.
    """
    hub.require_login(repository)  # Before a minute of verification.
    eval_set = EvalSet.open(folder)
    check_sharing(eval_set, sharing)
    if not sharing.images:
        require_recipe(eval_set)
    checked = verify(folder)
    if checked.violations:
        raise BuildError(
            f"{folder} does not verify, so it is not pushed.", f"See 'vehicle-search-data verify {folder}'."
        )
    private = not (sharing.public or sharing.gated)
    if sharing.images:
        return hub.upload_folder(folder, repository, private=private, gated=sharing.gated)
    with TemporaryDirectory() as above:
        sent = Path(above) / f"recipe of {eval_set.name}"
        sent.mkdir()
        write_recipe(eval_set, sent / RECIPE_FILE)
        (sent / "README.md").write_text(recipe_card(eval_set, repository), encoding="utf-8", newline="\n")
        return hub.upload_folder(sent, repository, private=private, instead_of=WITH_IMAGES)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `vehicle-search-data push`."""
    add = parser.add_argument
    add("folder", type=Path, metavar="SET", help="folder of a finished set")
    add("repository", metavar="REPO", help="name on the hub, such as my-lab/vehicle-image-search")
    images = "send the whole set, with images and captions; without this, its recipe: names and digests"
    add("--images", action="store_true", help=images)
    gated = "with --images: visible to everybody, but you admit each who wants the files"
    add("--gated", action="store_true", help=gated)
    public = "visible to everybody (default: private); with --images only if no source has terms that forbid it"
    add("--public", action="store_true", help=public)


def main(args: argparse.Namespace) -> int:
    """Warn of the sources' terms, upload, and say where it is; return the exit status."""
    sharing = Sharing(args.images, args.public, args.gated)
    eval_set = EvalSet.open(args.folder)
    check_sharing(eval_set, sharing)
    if warning := terms_warning(eval_set, sharing):
        sys.stderr.write(f"{warning}\n")
    what = "the whole set" if sharing.images else "the recipe"
    sys.stdout.write(f"Pushed {what} to {push(args.folder, args.repository, sharing)}\n")
    return 0
