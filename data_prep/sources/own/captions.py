"""The captions of a location's images: of a table, or of a text or JSON beside each."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from data_prep.sources import Place
from data_prep.sources.own import BESIDE
from data_prep.sources.own.beside import read_beside
from data_prep.sources.own.listing import Location
from data_prep.sources.own.matching import match_names
from data_prep.sources.tables import MAX_TABLE_BYTES, BadRow, CaptionTable, find_tables, read_table
from data_prep.storage import Tree, content_of, digest_of, has_file
from data_prep.storage.opening import open_tree
from mteb_vehicle_search.addresses import is_url
from mteb_vehicle_search.errors import SourceError

EXPECTED = (
    "Expected a table of file names and captions (CSV, TSV, JSON, JSON lines, parquet or COCO's), or a .txt or .json "
    "beside each image."
)


@dataclass
class Captions:
    """What is known of the images of a location.

    Attributes:
        where: Where the captions lie, for messages.
        name: Of the table; "" if they lie beside the images.
        of: Image -> its captions.
        named: Images that a row names, or that something lies beside, used or not.
        splits: Image -> train, val or test.
        bad: Rows that are not used.
        missing: Names of the table that mean no file -> where they stand, and why.
        table: The table as it was read.
    """

    where: str
    name: str
    of: dict[str, tuple[str, ...]] = field(default_factory=dict)
    named: set[str] = field(default_factory=set)
    splits: dict[str, str] = field(default_factory=dict)
    bad: list[BadRow] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    table: CaptionTable | None = None

    def digest(self) -> str:
        """Return what changes when a caption does, or what is told of rows that are not used."""
        facts = (sorted(self.of.items()), sorted(self.splits.items()), self.bad, sorted(self.missing.items()))
        return digest_of(facts)


class TableFile(NamedTuple):
    """A file in a tree."""

    tree: Tree
    name: str

    @property
    def where(self) -> str:
        """Where it lies, for messages."""
        return self.tree.path(self.name)

    def read(self, place: Place) -> CaptionTable:
        """Read it as a table of captions.

        Raises:
            SourceError: It is none, or too long.
        """
        entry = self.tree.entry(self.name)
        if entry is not None and entry.size_bytes > MAX_TABLE_BYTES:
            raise SourceError(f"{self.where} has {entry.size_bytes:,} bytes; the limit is {MAX_TABLE_BYTES:,}")
        content = content_of(self.tree, self.name)
        return read_table(content, self.where, file_column=place.file_column, caption_column=place.caption_column)


def captions_of(location: Location, place: Place) -> Captions:
    """Return the captions of a location's images, from where the place says or where they are found.

    Raises:
        SourceError: There are none, it is not clear which file is meant, or it is damaged; says what mends it.
    """
    return read_captions(location, find_file(location, place.captions), place)


def read_captions(location: Location, file: TableFile | None, place: Place) -> Captions:
    """Return the captions of a location's images from a table; from beside the images if there is none.

    Raises:
        SourceError: They are damaged, or not clear.
    """
    return _beside(location, place.caption_column) if file is None else _of_table(location, file, place)


def find_file(location: Location, wanted: str) -> TableFile | None:
    """Return the table with the captions; None if they lie beside the images.

    Args:
        location: Of the images.
        wanted: A path, an address, a name inside the location or beside an archive; "beside"; empty for what is found.

    Raises:
        SourceError: There is none, or several.
    """
    if wanted == BESIDE:
        return None
    if wanted:
        return _named(location, wanted)
    tables = tables_of(location)
    if len(tables) == 1:
        return tables[0]
    described = len(sidecars(location))
    if described and (not tables or 2 * described >= len(location.listing.images)):
        return None
    if tables:
        raise SourceError(
            f"which of {len(tables)} files holds the captions of {location.tree.where} is not clear: "
            f"{', '.join(table.name for table in tables[:8])}",
            "Name it in the preset: captioned.table.",
        )
    raise SourceError(f"{location.tree.where} holds no captions", f"{EXPECTED} Or name the table: captioned.table.")


def tables_of(location: Location) -> list[TableFile]:
    """Return the files that can be tables, by their names: those in a location, or else those beside an archive."""
    found = [TableFile(location.tree, name) for name in find_tables(_names(location))]
    if found or location.beside is None or not location.beside.listable:
        return found
    names = find_tables(entry.name for entry in location.beside.entries() if not entry.is_folder)
    # Beside an archive there may be tables of others.
    return [TableFile(location.beside, name) for name in [n for n in names if location.stem in n] or names]


def _names(location: Location) -> list[str]:
    return [*location.listing.images, *location.listing.others]


def _named(location: Location, wanted: str) -> TableFile:
    if is_url(wanted) or Path(wanted).expanduser().is_file():
        tree, file = open_tree(wanted)
        if not file:
            raise SourceError(f"{wanted} is no table of captions", EXPECTED)
        return TableFile(tree, file)
    for tree in (location.tree, location.beside):
        if tree is not None and not Path(wanted).is_absolute() and has_file(tree, wanted):
            return TableFile(tree, wanted)
    if location.root and location.tree.entry(location.root + wanted) is not None:
        return TableFile(location.tree, location.root + wanted)
    raise SourceError(
        f"there is no {wanted}, neither beside the preset nor in {location.tree.where}", "Correct captioned.table."
    )


def _of_table(location: Location, file: TableFile, place: Place) -> Captions:
    table = file.read(place)
    files = {location.relative(name): name for name in location.listing.images}
    matches = match_names(table.lines, files)
    found = Captions(file.where, file.name.rpartition("/")[2], bad=list(table.bad), table=table)
    found.missing = {name: f"{table.lines[name]}: {reason}" for name, reason in matches.problems.items()}
    # In the order of the files, which is that of reading.
    for relative, name in files.items():
        if (stated := matches.files.get(relative)) is not None:
            found.named.add(name)
            if stated in table.captions:
                found.of[name] = table.captions[stated]
                if stated in table.splits:
                    found.splits[name] = table.splits[stated]
    return found


def sidecars(location: Location) -> dict[str, dict[str, str]]:
    """Return the texts beside images: image -> ending -> file.

    Raises:
        SourceError: Two images share one.
    """
    stems: dict[str, str] = {}
    shared: dict[str, str] = {}
    for name in location.listing.images:
        stem = name.rpartition(".")[0]
        if stem in stems:
            shared[stem] = name
        stems[stem] = name
    found: dict[str, dict[str, str]] = {}
    for name in location.listing.others:
        stem, _, ending = name.rpartition(".")
        if ending.lower() in ("txt", "json") and stem in stems:
            if stem in shared:
                raise SourceError(
                    f"{location.tree.path(name)} lies beside two images, {stems[stem]} and another ending",
                    "Which one it describes is unknown: rename one, or name a table: captioned.table.",
                )
            found.setdefault(stems[stem], {})[ending.lower()] = name
    return found


def _beside(location: Location, column: str) -> Captions:
    found = Captions(f"the files beside the images of {location.tree.where}", "")
    files = sidecars(location)
    names = {name for of_one in files.values() for name in of_one.values()}
    ordered = [name for name in location.listing.others if name in names]
    texts = {name: data for name, (data, _) in zip(ordered, location.tree.read(ordered))}
    for image in location.listing.images:
        if image not in files:
            continue
        contents = {ending: texts[name] for ending, name in files[image].items()}
        captions, problems, named = read_beside(contents, column)
        if named:
            found.named.add(image)
        found.bad += [BadRow(location.tree.path(image), image, problem) for problem in problems]
        if captions:
            found.of[image] = captions
    return found
