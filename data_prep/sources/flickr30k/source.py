"""Flickr30k from the hub, a zip, an unpacked folder or parquet files; always the same ids, captions and order."""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from data_prep.hub import HubRepository
from data_prep.sources import MAX_FILE_BYTES, CaptionedSource, SourceImage, entry_sizes, read_image_file
from data_prep.sources.flickr30k import IMAGES
from data_prep.sources.flickr30k.captions import (
    CSV_NAME,
    EXPECTED,
    FOLDER_NAME,
    ZIP_NAME,
    Row,
    captioned_image,
    read_annotations,
)
from data_prep.sources.flickr30k.parquet import ParquetFlickr30k
from mteb_vehicle_search.errors import SourceError
from mteb_vehicle_search.files import file_sha256

REPOSITORY = HubRepository("nlphuji/flickr30k", "2b239befc81b6e3f035ce6bd52f5f4d60f5625f7")
CONVERSION = HubRepository("nlphuji/flickr30k", "refs/convert/parquet")
ZIP_GB = 4.39


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
    if shards := sorted(p for p in folder.rglob("*.parquet") if p.is_file()):
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

    def describe(self) -> dict[str, Any]:
        facts = (file_sha256(self.annotations), self._image_facts())
        return {
            "form": self.form,
            "location": str(self.location),
            "revision": "",
            "files": [self.annotations.name, self.location.name],
            "stamp": hashlib.sha256(repr(facts).encode()).hexdigest(),
        }

    def _image_facts(self) -> Any:
        """What changes when the images do, without reading their bytes."""
        raise NotImplementedError


class FolderFlickr30k(_Local):
    """A captions file and a folder of images."""

    form = "folder"

    def _image_facts(self) -> Any:
        return entry_sizes(self.location)

    def images(self) -> Iterator[SourceImage]:
        for row in self.rows:
            path = self.location / row.filename
            try:
                data, problem = read_image_file(path)
            except FileNotFoundError:
                raise SourceError(
                    f"{path} is missing, but {self.annotations.name} names it",
                    "Unpack the images again: an unpacking may have been interrupted.",
                ) from None
            yield captioned_image(row, data, problem)


class ZipFlickr30k(_Local):
    """A captions file and a zip, whose members are read one by one and never extracted."""

    form = "zip"

    def _image_facts(self) -> Any:
        status = self.location.stat()
        return status.st_size, status.st_mtime_ns

    def images(self) -> Iterator[SourceImage]:
        with _open_zip(self.location) as archive:
            members = self._members(archive)
            for row in self.rows:
                member = members.get(row.filename)
                if member is None:
                    raise SourceError(
                        f"{self.location} has no {row.filename}, but {self.annotations.name} names it",
                        "Get the zip and the captions file that belong together.",
                    )
                try:
                    with archive.open(member) as file:
                        data, problem = file.read(MAX_FILE_BYTES + 1), ""
                except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, OSError, EOFError) as error:
                    data, problem = b"", f"zip member {member.filename} is damaged: {error}"
                yield captioned_image(row, data, problem)

    def _members(self, archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
        """The images by bare name. Names never become paths; those that point out of the zip are passed over."""
        members: dict[str, zipfile.ZipInfo] = {}
        for member in filter(_is_member, archive.infolist()):
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

    def images(self) -> Iterator[SourceImage]:
        if self._local is None:
            self._local = self._fetch()
        return self._local.images()

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


def _is_member(member: zipfile.ZipInfo) -> bool:
    parts = PurePosixPath(member.filename).parts
    outside = ".." in parts or member.filename.startswith("/")
    return not member.is_dir() and not outside and "__MACOSX" not in parts and not parts[-1].startswith("._")


def _open_zip(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError) as error:
        raise SourceError(f"{path} is not a readable zip: {error}", "Download the zip again.") from error
