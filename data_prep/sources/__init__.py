"""The sources of images: each yields encoded images with what is known about them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

MAX_FILE_BYTES = 64 << 20  # Of one encoded image; sources read no more of a file than this and one byte.


@dataclass(frozen=True)
class SourceImage:
    """One image as its source holds it: an encoded file and what is known about it.

    Args:
        id: The corpus id, e.g. `flickr30k/1000092795` or `imagenet/train/n03954731_53652`.
        data: The encoded file, unchanged.
        source: Name of the source, such as `flickr30k`.
        split: `train`, `val`, `test`, or empty if unknown.
        class_index: ImageNet-1k class, 0-999; -1 if there is none.
        wnid: WordNet id of the class; empty if there is none.
        captions: The captions in their source's order.
        apply_exif: Whether the EXIF orientation counts. The original evaluation opened Flickr30k's files as they are.
        problem: Why the source cannot give the image; `data` is empty then, and the image becomes a row of rejects.
    """

    id: str
    data: bytes
    source: str
    split: str
    class_index: int = -1
    wnid: str = ""
    captions: tuple[str, ...] = ()
    apply_exif: bool = True
    problem: str = ""


@dataclass(frozen=True)
class Shard:
    """One resumable piece of a distractor source: a shard, an inner tar or a class folder.

    Args:
        name: Unique in its source and the same on every run.
        location: A path on disk, or the file's name in the hub repository.
        size_bytes: Bytes that must be read or downloaded; -1 if unknown.
        split: `train` or `val`.
        class_index: The one class in the shard; -1 if there are several.
        offset: Where the shard starts in `location`, for a tar inside a tar.
        stamp: What changes when the content does (revision, or size and time of change).
    """

    name: str
    location: str
    size_bytes: int
    split: str
    class_index: int = -1
    offset: int = 0
    stamp: str = ""

    def fingerprint(self) -> str:
        """A digest that changes when the shard does, without reading its bytes."""
        facts = (self.name, self.size_bytes, self.split, self.class_index, self.offset, self.stamp)
        return hashlib.sha256(repr(facts).encode()).hexdigest()


def entries(folder: Path) -> list[Path]:
    """What is in a folder, by name, but for hidden files."""
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def entry_sizes(folder: Path) -> list[tuple[str, int]]:
    """The names of a folder's entries and their sizes in bytes, -1 for what is no file."""
    return [(path.name, path.stat().st_size if path.is_file() else -1) for path in entries(folder)]


def read_image_file(path: Path) -> tuple[bytes, str]:
    """The bytes of an image file, no more than one above `MAX_FILE_BYTES`, and why there are none (else "").

    Raises:
        FileNotFoundError: There is no such file.
    """
    try:
        with path.open("rb") as file:
            return file.read(MAX_FILE_BYTES + 1), ""
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not path.is_symlink():
            raise
        return b"", f"cannot be read: {error.strerror or error}"


class CaptionedSource(Protocol):
    """Images with captions, each of which may become relevant to queries."""

    @property
    def download_gb(self) -> float:
        """Gigabytes (1e9 bytes) that `images` has yet to download; 0 for a local form."""
        ...

    def describe(self) -> dict[str, Any]:
        """Form, location, revision and files, for the manifest and for `--dry-run`. Downloads nothing."""
        ...

    def count(self) -> int | None:
        """How many images `images` yields; None if that is not known without a download."""
        ...

    def images(self) -> Iterator[SourceImage]:
        """The images in the order of the captions file.

        Raises:
            SourceError: If a file is missing or is not in the expected format.
        """
        ...


class DistractorSource(Protocol):
    """Images with classes, in shards that can be processed one after the other."""

    @property
    def download_gb(self) -> float:
        """Gigabytes (1e9 bytes) to download for all shards; 0 for a local form."""
        ...

    def describe(self) -> dict[str, Any]:
        """Form, location, revision and files, for the manifest and for `--dry-run`."""
        ...

    def shards(self, wanted: set[int] | None = None) -> list[Shard]:
        """The shards in a fixed order: train before val, by name; only those that can hold a `wanted` class."""
        ...

    def prefetch(self, shard: Shard) -> None:
        """Start to download `shard` in the background; returns at once. Nothing happens for a local form."""
        ...

    def images(self, shard: Shard, wanted: set[int]) -> Iterator[SourceImage]:
        """The images of `shard` whose class is wanted, in the shard's own order; waits for its download.

        Raises:
            SourceError: If the shard is missing, refused or damaged.
        """
        ...

    def release(self, shard: Shard) -> None:
        """Delete what was downloaded for `shard`; local forms and caches the user already had are left alone."""
        ...


@dataclass(frozen=True)
class Source:
    """What is known of a source without looking at it: how it is opened, and the facts that a set of it carries.

    It is opened with where it lies ("hub", or a folder) and a folder for downloads.
    """

    name: str  # in presets and ids, and of its flag
    card: str  # its line in the dataset card, Markdown
    captioned: Callable[[str, Path], CaptionedSource] | None = None  # opens it; None if it has no captions
    distractors: Callable[[str, Path], DistractorSource] | None = None  # likewise for distractors
    help: str = ""  # of the flag that says where it lies; there is none if this is empty
    terms: str = ""  # what to know before its images leave the computer; empty if nothing
    cite: tuple[str, ...] = ()  # works to cite, a line each
    bibtex: str = ""  # the same as BibTeX
    images: int | None = None  # how many it has; None if that is not fixed
    per_class: int | None = None  # about how many of each ImageNet-1k class; None if it has no classes

    def for_manifest(self) -> dict[str, Any]:
        """Return what a set's manifest keeps of it, JSON."""
        return {"terms": self.terms, "cite": list(self.cite), "bibtex": self.bibtex}
