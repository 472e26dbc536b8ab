"""What a location of one's own images is: files in a folder or an archive, or tars of samples."""

from __future__ import annotations

from pathlib import Path

from data_prep.sources import CaptionedSource, DistractorSource, Place
from data_prep.sources.own.folder import FolderCaptioned, FolderDistractors
from data_prep.sources.own.listing import open_location
from data_prep.sources.own.webdataset import Tars, WebdatasetCaptioned, WebdatasetDistractors
from data_prep.sources.samples import TAR
from data_prep.storage.opening import open_tree
from mteb_vehicle_search.addresses import is_url
from mteb_vehicle_search.errors import SourceError


def open_folder(place: Place) -> CaptionedSource:
    """Return the captioned images of a folder, a zip or a tar; of a folder with nothing but tars, their samples.

    Raises:
        SourceError: It is not there, or cannot be listed.
    """
    location = open_location(_absolute(place.src))
    fewest = place.fewest_captions
    if location.is_of_tars:
        if place.captions:
            raise SourceError(
                f"{location.tree.where} holds tars of samples, whose captions lie inside them; "
                f"{place.captions} cannot be used",
                "Leave out captioned.table, or name one tar of images as captioned.location.",
            )
        return WebdatasetCaptioned(Tars(location.tree, "", "folder", place.caption_column), fewest)
    return FolderCaptioned(location, place, fewest)


def open_folder_distractors(place: Place, captioned: Place | None) -> DistractorSource:
    """Return the uncaptioned images of a location: those that the captioned source does not name, if it shares it."""
    known = open_folder(captioned) if captioned else None
    if captioned and isinstance(known, FolderCaptioned) and _absolute(captioned.src) == _absolute(place.src):
        return FolderDistractors(known.location, known)
    location = open_location(_absolute(place.src))
    if location.is_of_tars:
        others = known.tars if isinstance(known, WebdatasetCaptioned) else None
        return WebdatasetDistractors(Tars(location.tree, "", "folder"), others)
    return FolderDistractors(location, known if isinstance(known, FolderCaptioned) else None)


def open_webdataset(place: Place) -> CaptionedSource:
    """Return the captioned samples of a tar, or of all tars below a folder."""
    return WebdatasetCaptioned(_tars(place), place.fewest_captions)


def open_webdataset_distractors(place: Place, captioned: Place | None) -> DistractorSource:
    """Return the samples without captions, or all of another location."""
    return WebdatasetDistractors(_tars(place), _tars(captioned) if captioned else None)


def _tars(place: Place) -> Tars:
    tree, named = open_tree(_absolute(place.src))
    if named and not TAR.search(named):
        raise SourceError(f"{tree.path(named)} is no tar", "Expected a webdataset tar, or a folder of such.")
    return Tars(tree, named, column=place.caption_column)


def _absolute(src: str) -> str:
    """A path in one writing, since two places are the same if they are written alike."""
    return src if is_url(src) else str(Path(src).expanduser().resolve())
