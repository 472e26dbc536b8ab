"""Flickr30k from the hub, a zip, an unpacked folder or parquet files; always the same ids, captions and order."""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from data_prep.hub import HubRepository
from data_prep.sources import (
    MAX_FILE_BYTES,
    CaptionedSource,
    PassedOver,
    SourceImage,
    entries,
    entry_sizes,
    not_an_image,
    read_image_file,
)
from data_prep.sources.flickr30k import IMAGES
from data_prep.sources.flickr30k.captions import (
    CSV_NAME,
    EXPECTED,
    FOLDER_NAME,
    ZIP_NAME,
    Row,
    captioned_image,
    is_image_name,
    read_annotations,
)
from data_prep.sources.flickr30k.parquet import ParquetFlickr30k
from mteb_vehicle_search.errors import SourceError
from mteb_vehicle_search.files import file_sha256

REPOSITORY = HubRepository("nlphuji/flickr30k", "2b239befc81b6e3f035ce6bd52f5f4d60f5625f7")
CONVERSION = HubRepository("nlphuji/flickr30k", "refs/convert/parquet")
ZIP_GB = 4.39
UNNAMED = "images that no row of the captions file names"


def open_source(src: str | Path) -> CaptionedSource:
    """See `data_prep.sources.flickr30k.open_flickr30k`."""
    if str(src) == "hub":
        return HubFlickr30k()
    folder = Path(src).expanduser()
    if not folder.is_dir():
        raise SourceError(f"there is no folder {folder} with Flickr30k", EXPECTED)
    if annotations := _one_of(folder, CSV_NAME, "*.csv"):
        archive = _one_of(folder, ZIP_NAME, "*.zip")
        images = next((p for p in (folder / FOLDER_NAME, folder / "images") if p.is_dir()), None)
        if not images and not archive and any(folder.glob("*.jpg")):
            images = folder
        if images:
            return FolderFlickr30k(annotations, images)
        if archive:
            return ZipFlickr30k(annotations, archive)
        raise SourceError(f"{annotations} is there, but no images: neither a zip nor {FOLDER_NAME}/", EXPECTED)
    if shards := sorted(p for p in folder.rglob("*.parquet") if p.is_file() and not not_an_image(p.name)):
        return ParquetFlickr30k(shards, folder)
    found = ", ".join(sorted(p.name for p in folder.iterdir())[:8]) or "nothing"
    raise SourceError(f"{folder} does not hold Flickr30k; found: {found}", EXPECTED)


class _Local:
    """What the local forms share: rows of the captions file, each with its image file."""

    form = ""
    download_gb = 0.0

    def __init__(self, annotations: Path, location: Path) -> None:
        self.annotations = annotations
        self.location = location

    @cached_property
    def rows(self) -> list[Row]:
        """The rows of the captions file."""
        return read_annotations(self.annotations)

    def count(self) -> int:
        return len(self.rows)

    def check(self) -> list[str]:
        """See `CaptionedSource.check`; a captions file that was cut at the end of a row looks like a whole one."""
        held, named = self._names(PassedOver()), {row.filename for row in self.rows}
        if absent := [row.filename for row in self.rows if row.filename not in held]:
            raise SourceError(
                f"{self.location} has no {absent[0]}, but {self.annotations.name} names it"
                + (f", and {len(absent) - 1:,} others like it" if absent[1:] else ""),
                self.absent_hint,
            )
        if len(named) == IMAGES or not (unnamed := held - named):
            return []
        return [
            f"{self.annotations} names {len(named):,} images, which is not the {IMAGES:,} of Flickr30k, and "
            f"{len(unnamed):,} images of {self.location.name} are named by no row, first {min(unnamed)}: is the file "
            "cut short?"
        ]

    def describe(self) -> dict[str, Any]:
        facts = (file_sha256(self.annotations), self._image_facts())
        return {
            "form": self.form,
            "location": str(self.location),
            "revision": "",
            "files": [self.annotations.name, self.location.name],
            "stamp": hashlib.sha256(repr(facts).encode()).hexdigest(),
        }

    absent_hint = ""

    def _image_facts(self) -> Any:
        """What changes when the images do, without reading their bytes."""
        raise NotImplementedError

    def _names(self, passed: PassedOver) -> set[str]:
        """The names of the images that are there; `passed` counts files that are none."""
        raise NotImplementedError

    def _pass_over(self, passed: PassedOver | None) -> None:
        """Count what no row of the captions file names."""
        if passed is not None and (unnamed := len(self._names(passed) - {row.filename for row in self.rows})):
            passed[UNNAMED] += unnamed


class FolderFlickr30k(_Local):
    """A captions file and a folder of images."""

    form = "folder"
    absent_hint = "Unpack the images again: an unpacking may have been interrupted."

    def _image_facts(self) -> Any:
        return entry_sizes(self.location)

    def _names(self, passed: PassedOver) -> set[str]:
        names = (path.name for path in entries(self.location, passed) if path != self.annotations)
        return _images_among(names, passed)

    def images(self, passed: PassedOver | None = None) -> Iterator[SourceImage]:
        self._pass_over(passed)
        for row in self.rows:
            path = self.location / row.filename
            try:
                data, problem = read_image_file(path)
            except FileNotFoundError:
                raise SourceError(
                    f"{path} is missing, but {self.annotations.name} names it", self.absent_hint
                ) from None
            yield captioned_image(row, data, problem)


class ZipFlickr30k(_Local):
    """A captions file and a zip, whose members are read one by one and never extracted."""

    form = "zip"
    absent_hint = "Get the zip and the captions file that belong together."

    def _image_facts(self) -> Any:
        status = self.location.stat()
        return status.st_size, status.st_mtime_ns

    def _names(self, passed: PassedOver) -> set[str]:
        with _open_zip(self.location) as archive:
            return _images_among(self._members(archive, passed), passed)

    def images(self, passed: PassedOver | None = None) -> Iterator[SourceImage]:
        self._pass_over(passed)
        with _open_zip(self.location) as archive:
            members = self._members(archive, PassedOver())
            for row in self.rows:
                member = members.get(row.filename)
                if member is None:
                    raise SourceError(
                        f"{self.location} has no {row.filename}, but {self.annotations.name} names it", self.absent_hint
                    )
                try:
                    with archive.open(member) as file:
                        data, problem = file.read(MAX_FILE_BYTES + 1), ""
                except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, OSError, EOFError) as error:
                    data, problem = b"", f"zip member {member.filename} is damaged: {error}"
                yield captioned_image(row, data, problem)

    def _members(self, archive: zipfile.ZipFile, passed: PassedOver) -> dict[str, zipfile.ZipInfo]:
        """The files by bare name. Names never become paths; those that point out of the zip are passed over."""
        members: dict[str, zipfile.ZipInfo] = {}
        for member in archive.infolist():
            if member.is_dir():
                continue
            if reason := _leads_out(member.filename) or not_an_image(member.filename):
                passed[reason] += 1
                continue
            name = PurePosixPath(member.filename).name
            if name in members:
                raise SourceError(
                    f"{self.location} holds {name} twice: as {members[name].filename} and as {member.filename}",
                    "Which one is meant is unknown: get the zip again.",
                )
            members[name] = member
        return members


class HubFlickr30k:
    """The hub's zip and captions file at the pinned revision; its parquet conversion if these are gone."""

    form = "hub"

    def __init__(self, dataset: HubRepository | None = None, conversion: HubRepository | None = None) -> None:
        self.dataset = dataset or REPOSITORY
        self.conversion = conversion or CONVERSION
        self._local: ZipFlickr30k | ParquetFlickr30k | None = None
        self._used = self.dataset

    @property
    def download_gb(self) -> float:
        return 0.0 if self._local or self.dataset.cached(ZIP_NAME) else ZIP_GB

    def count(self) -> int:
        return self._local.count() if self._local else IMAGES

    def describe(self) -> dict[str, Any]:
        files = [CSV_NAME, ZIP_NAME] if self._used is self.dataset else ["TEST/test/*.parquet"]
        return {"form": self.form, "location": self._used.repo, "revision": self._used.commit(), "files": files}

    def check(self) -> list[str]:
        """See `CaptionedSource.check`; of what is not downloaded yet, whether the hub would give it."""
        cached = [self.dataset.cached(name) for name in (CSV_NAME, ZIP_NAME)]
        if cached[0] and cached[1]:
            return ZipFlickr30k(cached[0], cached[1]).check()
        self.dataset.files()
        return []

    def images(self, passed: PassedOver | None = None) -> Iterator[SourceImage]:
        if self._local is None:
            self._local = self._fetch()
        for doubt in self._local.check():
            raise SourceError(doubt, "Get the captions file and the images again.")
        return self._local.images(passed)

    def _fetch(self) -> ZipFlickr30k | ParquetFlickr30k:
        cached = [self.dataset.cached(name) for name in (CSV_NAME, ZIP_NAME)]
        if cached[0] and cached[1]:
            return ZipFlickr30k(cached[0], cached[1])
        files = {file.path: file for file in self.dataset.files()}
        if CSV_NAME in files and ZIP_NAME in files:
            return ZipFlickr30k(*(self.dataset.download(files[name]) for name in (CSV_NAME, ZIP_NAME)))
        shards = [file for file in self.conversion.files() if file.path.endswith(".parquet")]
        shards = [file for file in shards if "/test/" in f"/{file.path}"] or shards
        if not shards:
            raise SourceError(
                f"{self.dataset.repo} holds neither {ZIP_NAME} with {CSV_NAME} nor parquet files", EXPECTED
            )
        self._used = self.conversion
        paths = [self.conversion.download(file) for file in shards]
        return ParquetFlickr30k(paths, paths[0].parent)


def _one_of(folder: Path, name: str, pattern: str) -> Path | None:
    if (folder / name).is_file():
        return folder / name
    found = sorted(folder.glob(pattern))
    return found[0] if len(found) == 1 else None


def _images_among(names: Iterable[str], passed: PassedOver) -> set[str]:
    found = set()
    for name in names:
        if is_image_name(name):
            found.add(name)
        else:
            passed["files whose names are not those of JPEG images"] += 1
    return found


def _leads_out(name: str) -> str:
    """Why a member is passed over: its name points out of the zip; "" if it does not."""
    outside = ".." in PurePosixPath(name).parts or name.startswith("/")
    return "names that lead out of the archive" if outside else ""


def _open_zip(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError) as error:
        raise SourceError(f"{path} is not a readable zip: {error}", "Download the zip again.") from error
