"""Flickr30k from the hub, a zip, a tar, an unpacked folder or parquet files; always the same ids and captions."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from data_prep.hub import HubRepository
from data_prep.sources import NOT_SELECTED, CaptionedSource, SourceImage, some_names
from data_prep.sources.flickr30k import IMAGES
from data_prep.sources.flickr30k.captions import CSV_NAME, EXPECTED, FOLDER_NAME, ZIP_NAME, Row, captioned_image
from data_prep.sources.flickr30k.captions_files import (
    CaptionsFile,
    FileCaptions,
    HubCaptions,
    captions_for,
    find_captions,
)
from data_prep.sources.flickr30k.images import FolderImages, Images, TarImages, ZipImages
from data_prep.sources.flickr30k.parquet import ParquetFlickr30k
from data_prep.sources.samples import TAR
from data_prep.storage import PassedOver, Tree, digest_of, not_an_image, plain
from data_prep.storage.local import LocalTree
from data_prep.storage.opening import open_tree
from data_prep.storage.zips import ZipTree
from mteb_vehicle_search.errors import SourceError

REPOSITORY = HubRepository("nlphuji/flickr30k", "2b239befc81b6e3f035ce6bd52f5f4d60f5625f7")
CONVERSION = HubRepository("nlphuji/flickr30k", "refs/convert/parquet")
ZIP_BYTES = 4_390_000_000
UNNAMED = "images that no row of the captions file names"
# Folders of images: unpacked from the hub, of one's own, as Kaggle's two copies unpack.
FOLDERS = (FOLDER_NAME, "images", "flickr30k_images/flickr30k_images", "flickr30k_images", "Images")
TARS = tuple(f"{FOLDER_NAME}{ending}" for ending in (".tar", ".tar.gz", ".tgz"))


def open_source(src: str | Path, captions: str = "") -> CaptionedSource:
    """See `data_prep.sources.flickr30k.open_flickr30k`."""
    if str(src) == "hub":
        return HubFlickr30k(captions=captions)
    try:
        tree, named = open_tree(src)
    except SourceError as error:
        raise SourceError(error.message, error.hint or EXPECTED) from error
    packed = isinstance(tree, ZipTree)
    images = ZipImages(tree.outer, tree.name) if isinstance(tree, ZipTree) else _images(tree, named)
    if images is not None:
        # The hub's zip holds images alone; its captions lie beside it.
        beside = tree.outer if isinstance(tree, ZipTree) and find_captions(tree) is None else tree
        if isinstance(images, FolderImages) and not captions and not images.folder and find_captions(tree) is None:
            images = None
        else:
            file = _named_captions(captions) if captions else captions_for(beside, REPOSITORY)
            return FilesFlickr30k(file, images)
    if not packed and (shards := _parquet_files(tree)):
        return ParquetFlickr30k(tree, shards)
    if (found := find_captions(tree)) is not None:
        raise SourceError(f"{found.where} is there, but no images: neither a zip nor {FOLDER_NAME}/", EXPECTED)
    raise SourceError(f"{tree.path(named)} does not hold Flickr30k; found: {some_names(tree)}", EXPECTED)


def _named_captions(name: str) -> FileCaptions:
    """The captions file that the user named."""
    tree, file = open_tree(name)
    if not file:
        raise SourceError(f"{name} is not a captions file", f"Expected {CSV_NAME}, or the captions of UIUC or Kaggle.")
    return FileCaptions(tree, file)


def _images(tree: Tree, named: str = "") -> Images | None:
    """The images of a folder: in a folder there, a zip or a tar, or beside the captions; None if there are none."""
    if TAR.search(named):
        return TarImages(tree, named)
    if not tree.listable:
        there = [name for name in (ZIP_NAME, *TARS) if tree.entry(name) is not None]
        return (ZipImages if there[0] == ZIP_NAME else TarImages)(tree, there[0]) if there else None
    for folder in FOLDERS:
        entry = tree.entry(folder)
        if entry is not None and entry.is_folder:
            return FolderImages(tree, folder)
    names = [entry.name for entry in plain(tree.entries()) if not entry.is_folder]
    for kind, known, fits in (
        (ZipImages, (ZIP_NAME,), [name for name in names if name.lower().endswith(".zip")]),
        (TarImages, TARS, [name for name in names if TAR.search(name)]),
    ):
        if chosen := [name for name in known if name in names] or (fits if len(fits) == 1 else []):
            return kind(tree, chosen[0])
    if any(name.lower().endswith((".jpg", ".jpeg")) for name in names):
        captions = find_captions(tree)
        return FolderImages(tree, "", captions.name if captions else "")
    return None


def _parquet_files(tree: Tree) -> list[str]:
    if not tree.listable:
        return []
    names = (entry.name for entry in tree.walk() if entry.size_bytes >= 0)
    return sorted(name for name in names if name.lower().endswith(".parquet") and not not_an_image(name))


class FilesFlickr30k:
    """A captions file, and images each of which is one of its rows."""

    def __init__(self, captions: CaptionsFile, image_files: Images) -> None:
        self.captions, self.image_files = captions, image_files
        self.form = image_files.form

    @cached_property
    def rows(self) -> list[Row]:
        """The rows of the captions file."""
        return self.captions.content.rows

    @property
    def notes(self) -> list[str]:
        return [self.captions.note] if self.captions.note else []

    def count(self) -> int | None:
        return len(self.rows) if self.captions.ready else IMAGES

    def check(self) -> list[str]:
        """See `CaptionedSource.check`; a captions file that was cut at the end of a row looks like a whole one."""
        held = self.image_files.names(PassedOver())
        if not self.captions.ready or held is None:
            return []
        named = {row.filename for row in self.rows}
        if absent := [row.filename for row in self.rows if row.filename not in held]:
            raise SourceError(
                f"{self.image_files.where} has no {absent[0]}, but {self.captions.name} names it"
                + (f", and {len(absent) - 1:,} others like it" if absent[1:] else ""),
                self.image_files.absent_hint,
            )
        if len(named) == IMAGES or not (unnamed := held - named):
            return []
        return [
            f"{self.captions.where} names {len(named):,} images, which is not the {IMAGES:,} of Flickr30k, and "
            f"{len(unnamed):,} images of {self.image_files.short} are named by no row, first {min(unnamed)}: is the "
            "file cut short?"
        ]

    def describe(self) -> dict[str, Any]:
        facts = (self.captions.digest, self.image_files.stamp)
        return {
            "form": self.form,
            "location": self.image_files.where,
            "revision": "",
            "files": [self.captions.name, self.image_files.short],
            "stamp": digest_of(facts),
        }

    def travels_bytes(self, only: Collection[str] | float = 1.0) -> int:
        share = 1.0
        if self.captions.ready and not isinstance(only, (int, float)):
            names = [row.filename for row in self.rows if _id(row) in only]
        else:  # Without the captions, the images that will be wanted are not known by their names.
            names = sorted(self.image_files.names(PassedOver()) or ())
            share = only if isinstance(only, (int, float)) else len(only) / IMAGES
        size = self.image_files.travels_bytes(names)
        return size if self.image_files.in_one_piece else round(share * size)

    def images(self, passed: PassedOver | None = None, only: Collection[str] | None = None) -> Iterator[SourceImage]:
        passed = PassedOver() if passed is None else passed
        held = self.image_files.names(passed)
        named = {row.filename for row in self.rows}
        if held is not None and (unnamed := len(held - named)):
            passed[UNNAMED] += unnamed
        for number, bad in enumerate(self.captions.content.bad, start=1):
            if only is None:
                identifier = f"flickr30k/{self.captions.name}, bad row {number}"
                yield SourceImage(identifier, b"", "flickr30k", "", problem=f"{bad.where}: {bad.reason}")
        rows = {row.filename: row for row in self.rows if only is None or _id(row) in only}
        if left := len(self.rows) - len(rows):
            passed[NOT_SELECTED] += left
        missing = dict.fromkeys(rows)
        for name, data, problem in self.image_files.read(list(rows), passed):
            del missing[name]
            yield captioned_image(rows[name], data, problem)
        for name in missing:
            raise SourceError(
                f"{self.image_files.where} has no {name}, but {self.captions.name} names it",
                self.image_files.absent_hint,
            )


def _id(row: Row) -> str:
    return f"flickr30k/{row.filename.rpartition('.')[0]}"


class HubFlickr30k:
    """The hub's zip with its captions file, or its parquet conversion if these are gone, read in place by ranges.

    A zip in the hub's cache is read there.
    """

    form = "hub"
    notes: list[str] = []  # noqa: RUF012 - never changed

    def __init__(
        self, dataset: HubRepository | None = None, conversion: HubRepository | None = None, captions: str = ""
    ) -> None:
        self.dataset = dataset or REPOSITORY
        self.conversion = conversion or CONVERSION
        self._named = captions
        self._opened: FilesFlickr30k | ParquetFlickr30k | None = None
        self._used = self.dataset

    def count(self) -> int | None:
        return self._opened.count() if self._opened else IMAGES

    def travels_bytes(self, only: Collection[str] | float = 1.0) -> int:
        share = only if isinstance(only, (int, float)) else len(only) / IMAGES
        return 0 if self.dataset.cached(ZIP_NAME) else round(share * ZIP_BYTES)

    def describe(self) -> dict[str, Any]:
        files = [CSV_NAME, ZIP_NAME] if self._used is self.dataset else ["TEST/test/*.parquet"]
        named = {"captions": self._captions().digest} if self._named else {}
        commit = self._used.commit()
        return {"form": self.form, "location": self._used.repo, "revision": commit, "files": files, **named}

    def check(self) -> list[str]:
        """See `CaptionedSource.check`; of what is not downloaded yet, whether the hub would give it."""
        if self.dataset.cached(CSV_NAME) and self.dataset.cached(ZIP_NAME):
            return self._files().check()
        self.dataset.files()
        return []

    def images(self, passed: PassedOver | None = None, only: Collection[str] | None = None) -> Iterator[SourceImage]:
        if self._opened is None:
            self._opened = self._open()
        for doubt in self._opened.check():
            raise SourceError(doubt, "Get the captions file and the images again.")
        return self._opened.images(passed, only)

    def _captions(self) -> CaptionsFile:
        return _named_captions(self._named) if self._named else HubCaptions(self.dataset)

    def _files(self) -> FilesFlickr30k:
        """The zip and its captions, where they are: in the cache, or on the hub."""
        cached = self.dataset.cached(ZIP_NAME)
        tree = LocalTree(cached.parent) if cached else self.dataset.tree()
        return FilesFlickr30k(self._captions(), ZipImages(tree, ZIP_NAME))

    def _open(self) -> FilesFlickr30k | ParquetFlickr30k:
        if self.dataset.cached(CSV_NAME) and self.dataset.cached(ZIP_NAME):
            return self._files()
        if {CSV_NAME, ZIP_NAME} <= {file.path for file in self.dataset.files()}:
            return self._files()
        shards = [file for file in self.conversion.files() if file.path.endswith(".parquet")]
        shards = [file for file in shards if "/test/" in f"/{file.path}"] or shards
        if not shards:
            raise SourceError(
                f"{self.dataset.repo} holds neither {ZIP_NAME} with {CSV_NAME} nor parquet files", EXPECTED
            )
        self._used = self.conversion
        return ParquetFlickr30k(self.conversion.tree(), [file.path for file in shards])
