"""Which captions file belongs to Flickr30k's images: the pinned CSV, beside them or from the hub, or another one."""

from __future__ import annotations

import csv
import hashlib
import io
from functools import cached_property
from typing import NamedTuple

from data_prep.hub import HubFile, HubRepository
from data_prep.sources.flickr30k.captions import CSV_COLUMNS, CSV_NAME, EXPECTED, Row, is_image_name, read_annotations
from data_prep.sources.tables import BadRow, read_table
from data_prep.storage import Tree, content_of, has_file, plain
from mteb_vehicle_search.errors import SourceError

TOKEN_NAME = "results_20130124.token"  # noqa: S105 - UIUC's name of the captions, no secret
# Where other captions lie in the copies of UIUC and Kaggle.
OTHERS = (TOKEN_NAME, f"flickr30k/{TOKEN_NAME}", "results.csv", "flickr30k_images/results.csv", "captions.txt")
_HEADER_BYTES = 4_096


class Captions(NamedTuple):
    """What a captions file says: a row per image, and rows that are not used."""

    rows: list[Row]
    bad: tuple[BadRow, ...] = ()


class FileCaptions:
    """A captions file in a tree, in the form of the pinned CSV or another one.

    Attributes:
        ready: Whether it can be read without a download.
    """

    ready = True

    def __init__(self, tree: Tree, name: str) -> None:
        self.tree, self.path = tree, name
        self.name, self.where = name.rpartition("/")[2], tree.path(name)

    @cached_property
    def _bytes(self) -> bytes:
        return content_of(self.tree, self.path)

    @cached_property
    def pinned(self) -> bool:
        """Whether it is in the form of the pinned CSV."""
        return self.name == CSV_NAME or header_of(self._bytes) >= CSV_COLUMNS or not is_other(self.name, self._bytes)

    @property
    def note(self) -> str:
        """What nobody should miss of it; empty if nothing."""
        if self.pinned:
            return ""
        return (
            f"The captions are those of {self.where}. The published evaluation has those of {CSV_NAME}, which differ "
            "in spaces and punctuation: the content id will be another one, and scores will not be comparable with "
            "published ones. Name that file with --captions to have the published ones."
        )

    @cached_property
    def digest(self) -> str:
        """The sha256 of its bytes."""
        return hashlib.sha256(self._bytes).hexdigest()

    @cached_property
    def content(self) -> Captions:
        """What it says.

        Raises:
            SourceError: It is not what it should be; names the line.
        """
        if self.pinned:
            return Captions(read_annotations(self._bytes, self.where))
        table = read_table(self._bytes, self.where)
        rows, bad = [], list(table.bad)
        for name, captions in sorted(table.captions.items()):
            if is_image_name(name):
                rows.append(Row(name, table.splits.get(name, ""), captions))
            else:
                bad.append(BadRow(table.lines.get(name, self.where), name, f"{name!r} is not the name of a JPEG file"))
        return Captions(rows, tuple(bad))


class HubCaptions:
    """The pinned CSV, from the hub or its cache."""

    name, note, pinned = CSV_NAME, "", True

    def __init__(self, dataset: HubRepository) -> None:
        self.dataset = dataset
        self.where = f"{dataset.repo}/{CSV_NAME}"

    @property
    def ready(self) -> bool:
        """Whether it can be read without a download."""
        return self.dataset.cached(CSV_NAME) is not None

    @property
    def digest(self) -> str:
        """The same as of a file: what changes when the captions do."""
        # A pinned file is known by its revision before it is there.
        return f"{self.dataset.repo}@{self.dataset.commit()}"

    @cached_property
    def content(self) -> Captions:
        """What it says, downloaded if need be."""
        path = self.dataset.cached(CSV_NAME) or self.dataset.download(self._file())
        return Captions(read_annotations(path.read_bytes(), str(path)))

    def _file(self) -> HubFile:
        found = next((file for file in self.dataset.files() if file.path == CSV_NAME), None)
        if found is None:
            raise SourceError(f"{self.dataset.repo} holds no {CSV_NAME}", EXPECTED)
        return found


CaptionsFile = FileCaptions | HubCaptions


def header_of(content: bytes) -> set[str]:
    """The columns that a CSV's first line names; none if it is no CSV."""
    try:
        lines = csv.reader(io.StringIO(content[:_HEADER_BYTES].decode("utf-8-sig", "replace"), newline=""))
        return {column.strip() for column in next(lines, [])}
    except csv.Error:
        return set()


def is_other(name: str, content: bytes) -> bool:
    """Whether a file is of a known form that is not that of the pinned CSV."""
    if name.lower().endswith((".token", ".txt")):
        return True
    return any("image" in column and ("|" in column or len(header_of(content)) > 1) for column in header_of(content))


def find_captions(tree: Tree) -> FileCaptions | None:
    """Return the captions file of a folder: in the form of the pinned CSV, or else the first of `OTHERS`."""
    if has_file(tree, CSV_NAME):
        return FileCaptions(tree, CSV_NAME)
    if tree.listable:
        tables = [entry.name for entry in plain(tree.entries()) if entry.name.lower().endswith(".csv")]
        if len(tables) == 1 and tables[0] not in OTHERS:
            return FileCaptions(tree, tables[0])
    return next((FileCaptions(tree, name) for name in OTHERS if has_file(tree, name)), None)


def captions_for(tree: Tree, dataset: HubRepository) -> CaptionsFile:
    """Return the captions file for the images of a folder: the pinned CSV beside them, or from the hub, or another one.

    Another one is used only if the hub cannot be asked.

    Raises:
        SourceError: There is none beside them, and the hub does not give the pinned one.
    """
    beside = find_captions(tree)
    if beside is not None and beside.pinned:
        return beside
    hub = HubCaptions(dataset)
    if not hub.ready:
        try:
            dataset.files()
        except SourceError as error:
            if beside is not None:
                return beside
            raise SourceError(
                f"{tree.where} holds no captions file, and {error.message}",
                f"Put {CSV_NAME} there, or name one with --captions.",
            ) from error
    return hub
