"""A look at images of one's own: what they are, where their captions lie, and what does not fit together."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import islice

from data_prep.sources import Place
from data_prep.sources.own.beside import read_beside
from data_prep.sources.own.captions import (
    EXPECTED,
    Captions,
    TableFile,
    find_file,
    read_captions,
    sidecars,
    tables_of,
)
from data_prep.sources.own.listing import Location, archive_in, has_image_ending, open_location
from data_prep.sources.own.webdataset import Tars
from data_prep.sources.samples import TAR
from data_prep.storage import PassedOver, plain
from mteb_vehicle_search.errors import SourceError

SAMPLES = 1_000  # Of the first tar: to count all takes as long as reading them.
TABLES = 20  # More files that may be tables are not tried.


@dataclass
class Survey:
    """What was found.

    Attributes:
        source: The preset's name of it: "folder" or "webdataset".
        where: The location, for people.
        inside: The archive in the folder that was named, if that is what is meant; else "".
        endings: How many images end so.
        counts: How many images have so many captions.
        unnamed: How many have none.
        captions: Where they lie, and which rows cannot be used; None of samples in tars.
        table: The file with the captions; None if they lie beside the images.
        others: Other files that might be tables -> what is known of them.
        sampled: Whether only the first samples were read.
    """

    source: str
    where: str
    inside: str = ""
    endings: Counter[str] = field(default_factory=Counter)
    counts: Counter[int] = field(default_factory=Counter)
    unnamed: int = 0
    captions: Captions | None = None
    table: TableFile | None = None
    others: dict[str, str] = field(default_factory=dict)
    sampled: bool = False


def look(place: Place) -> Survey:
    """Look at a folder, an archive or an address, and find the captions.

    Args:
        place: Where the images lie, and what is known of the captions.

    Raises:
        SourceError: There are no images, or no captions of them; says what is there and what is expected.
    """
    location = open_location(place.src)
    if location.form == "tar" and location.tree.remote and location.beside is not None and not place.captions:
        return _look_at_tars(Tars(location.beside, location.tree.where.rpartition("/")[2], column=place.caption_column))
    location, inside = _archive_inside(location)
    if location.is_of_tars:
        return _look_at_tars(Tars(location.tree, column=place.caption_column))
    location.require_images()
    found = Survey("folder", location.tree.where, inside)
    found.endings.update(name.rpartition(".")[2].lower() for name in location.listing.images)
    found.table, found.captions = _choose(location, place, found.others)
    found.counts.update(len(texts) for texts in found.captions.of.values())
    found.unnamed = len(location.listing.images) - len(found.captions.named)
    return found


def _archive_inside(location: Location) -> tuple[Location, str]:
    """The only archive of a folder without images, if the captions lie beside it, and its name; else the folder."""
    if location.form != "folder" or location.listing.images:
        return location, ""
    names = [name for name in location.listing.others if name.lower().endswith(".zip") or TAR.search(name)]
    if len(names) == 1 and (names[0].lower().endswith(".zip") or tables_of(location)):
        return archive_in(location.tree, names[0]), names[0]
    return location, ""


def _choose(location: Location, place: Place, others: dict[str, str]) -> tuple[TableFile | None, Captions]:
    """The captions of most images, and the table with them; what other files hold is told in `others`."""
    if place.captions:
        table = find_file(location, place.captions)
        return table, _useful(read_captions(location, table, place), location)
    read: list[tuple[TableFile | None, Captions]] = []
    failures: list[SourceError] = []
    for table in tables_of(location)[:TABLES]:
        try:
            read.append((table, read_captions(location, table, place)))
        except SourceError as error:
            failures.append(error)
            others[table.name] = error.message
    if sidecars(location):
        read.append((None, read_captions(location, None, place)))
    useful = [one for one in read if one[1].of]
    if not useful:
        if read:
            _useful(read[0][1], location)
        if len(failures) == 1:
            raise failures[0]
        told = "".join(f"\n  {failure.message}" for failure in failures)
        raise SourceError(f"{location.tree.where} holds images, but no captions of them{told}", EXPECTED)
    useful.sort(key=lambda one: -len(one[1].of))
    if len(useful) > 1 and len(useful[0][1].of) == len(useful[1][1].of) and useful[1][0] is not None:
        both = " and ".join(captions.where for _, captions in useful[:2])
        raise SourceError(f"{both} have captions of equally many images", "Say which one is meant: --table FILE")
    for table, captions in read:
        if captions is not useful[0][1]:
            others[table.name if table else "files beside images"] = f"captions of {len(captions.of):,} images"
    return useful[0]


def _useful(captions: Captions, location: Location) -> Captions:
    if captions.of:
        return captions
    said = next(iter(captions.missing.values()), "") or "no row has a caption"
    images = ", ".join(list(location.listing.images)[:3])
    raise SourceError(
        f"{captions.where} has captions of no image in {location.tree.where}: {said}",
        f"The images are such as {images}.",
    )


def _look_at_tars(tars: Tars) -> Survey:
    """What the first samples are."""
    found = Survey("webdataset", tars.where, sampled=True)
    tar = next(iter(plain(tars.entries.values()))).name
    for _, sample in islice(tars.samples(tar, PassedOver()), SAMPLES):
        found.endings[sample.image.rpartition(".")[2].lower()] += has_image_ending(sample.image)
        captions, _, named = read_beside(sample.texts, tars.column)
        if captions:
            found.counts[len(captions)] += 1
        found.unnamed += not named
    if not found.counts:
        raise SourceError(
            f"the samples of {tars.tree.path(tar)} have no captions", "Expected a .txt or .json beside each image."
        )
    return found
