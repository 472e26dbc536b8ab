"""Which images lie in a folder or an archive, and what else does."""

from __future__ import annotations

import re
import unicodedata
from functools import cached_property
from typing import NamedTuple

from data_prep.sources import some_names
from data_prep.sources.samples import IMAGE_ENDINGS, TAR
from data_prep.storage import HIDDEN, OUTSIDE, Entry, PassedOver, Tree, leads_out, not_an_image, stamp_of
from data_prep.storage.opening import open_tree
from data_prep.storage.tar_trees import TarTree
from data_prep.storage.zips import ZipTree
from mteb_vehicle_search.errors import SourceError

NO_IMAGES = "files that are no images"
ENDINGS = f"Images end in {', '.join(f'.{ending}' for ending in IMAGE_ENDINGS)}."


class Listing(NamedTuple):
    """The files of a location: images and others, in the order in which they are read, and what was passed over."""

    images: dict[str, Entry]
    others: dict[str, Entry]
    passed: PassedOver


class Location:
    """A folder, zip or tar of images.

    Args:
        tree: What is in it.
        form: "folder", "zip" or "tar".
        beside: What an archive lies in; None for a folder.
        stem: Of the archive's name; "" for a folder.
    """

    def __init__(self, tree: Tree, form: str, beside: Tree | None = None, stem: str = "") -> None:
        self.tree, self.form, self.beside, self.stem = tree, form, beside, stem

    @cached_property
    def listing(self) -> Listing:
        """What is there.

        Raises:
            SourceError: It cannot be listed, or two images' names differ in case or accents alone.
        """
        found = Listing({}, {}, PassedOver())
        folded: dict[str, str] = {}
        for entry in self.tree.walk():
            name = entry.name
            if reason := _passed_over(name):
                found.passed[reason] += 1
            elif not has_image_ending(name):
                found.others[name] = entry
            elif name in found.images:
                raise SourceError(
                    f"{self.tree.where} holds {name} twice", "Which one is meant is unknown: pack it again."
                )
            else:
                if (other := folded.setdefault(fold(name), name)) != name:
                    raise SourceError(
                        f"{self.tree.where} holds {other} and {name}, which differ in case or accents alone",
                        "On Windows and macOS both are one file: rename one.",
                    )
                found.images[name] = entry
        return found

    @cached_property
    def root(self) -> str:
        """The folder in an archive that names are relative to: the one of the archive's own name, if all is in it."""
        names = [*self.listing.images, *self.listing.others]
        prefix = f"{self.stem}/"
        return prefix if self.stem and names and all(name.startswith(prefix) for name in names) else ""

    @property
    def is_of_tars(self) -> bool:
        """Whether it is a folder without images, but with tars."""
        listing = self.listing if self.form == "folder" else None
        return listing is not None and not listing.images and any(map(TAR.search, listing.others))

    def relative(self, name: str) -> str:
        """Return a file's name as ids have it."""
        return name.removeprefix(self.root)

    def stamp(self) -> object:
        """Return what changes when the images do, without reading them."""
        if isinstance(self.tree, TarTree):
            return self.tree.own_entry.size_bytes, self.tree.own_entry.stamp
        return stamp_of(self.listing.images.values())

    def require_images(self) -> None:
        """Make sure that there are images.

        Raises:
            SourceError: There are none; says what is there.
        """
        if not self.listing.images:
            raise SourceError(f"{self.tree.where} holds no images; found: {some_names(self.tree)}", ENDINGS)


def open_location(src: str) -> Location:
    """Open a path or an address.

    Raises:
        SourceError: Nothing is there, or it is a file that is no archive.
    """
    tree, named = open_tree(src)
    if isinstance(tree, ZipTree):
        return archive_in(tree.outer, tree.name)
    if not named:
        return Location(tree, "folder")
    if TAR.search(named):
        return archive_in(tree, named)
    raise SourceError(
        f"{tree.path(named)} is neither a folder nor a zip or tar",
        "Name the folder or the archive of the images as location; a table of captions is captioned.table.",
    )


def archive_in(tree: Tree, name: str) -> Location:
    """Return the zip or tar of that name in a folder."""
    stem = TAR.sub("", re.sub(r"\.zip$", "", name.rpartition("/")[2], flags=re.IGNORECASE))
    if TAR.search(name):
        return Location(TarTree(tree, name), "tar", tree, stem)
    return Location(ZipTree(tree, name), "zip", tree, stem)


def has_image_ending(name: str) -> bool:
    """Tell whether a file is an image, by its ending."""
    return name.rpartition(".")[2].lower() in IMAGE_ENDINGS


def fold(name: str) -> str:
    """Return what two names share that some file systems take for one."""
    return unicodedata.normalize("NFC", name).casefold()


def _passed_over(name: str) -> str:
    if leads_out(name):
        return OUTSIDE
    if reason := not_an_image(name):
        return reason
    return HIDDEN if any(part.startswith(".") for part in name.split("/")) else ""
