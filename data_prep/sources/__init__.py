"""The sources of images: each yields encoded images with what is known about them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from data_prep.storage import PassedOver, Tree, digest_of
from mteb_vehicle_search.addresses import is_url, scheme_of
from mteb_vehicle_search.eval_set.schema import is_line

SPLITS = ("train", "val")
UNWANTED = "of classes that are not wanted"
NOT_SELECTED = "not selected"
LISTED = 8  # Names of what was found instead.


@dataclass(frozen=True)
class SourceImage:
    """One image as its source holds it: an encoded file and what is known about it.

    One whose id or captions no file can hold (they are not text, such as half a surrogate pair) gets an id that shows
    what is odd, and becomes a row of rejects.

    Args:
        id: The corpus id, e.g. `flickr30k/1000092795` or `imagenet/train/n03954731_53652`.
        data: The encoded file, unchanged.
        source: Name of the source, such as `flickr30k`.
        split: `train`, `val`, `test`, or empty if unknown.
        class_index: ImageNet-1k class, 0-999; -1 if there is none.
        wnid: WordNet id of the class; empty if there is none.
        captions: The captions in their source's order.
        problem: Why the source cannot give the image; `data` is empty then, and the image becomes a row of rejects.
    """

    id: str
    data: bytes
    source: str
    split: str
    class_index: int = -1
    wnid: str = ""
    captions: tuple[str, ...] = ()
    problem: str = ""

    def __post_init__(self) -> None:
        problem = ""
        if (name := writable(self.id)) != self.id:
            problem = "its name is not a line of text in UTF-8"
        for number, caption in enumerate(self.captions, start=1):
            if caption != caption.encode("utf-8", "replace").decode("utf-8"):
                problem = problem or f"caption {number} holds half a surrogate pair, which is no text"
        if problem:
            changed = {"id": name, "data": b"", "captions": (), "problem": self.problem or problem}
            for key, value in changed.items():
                object.__setattr__(self, key, value)
        object.__setattr__(self, "problem", writable(self.problem))


def encoded_bytes(image: SourceImage) -> int:
    """Return how many bytes an image has as its source holds it."""
    return len(image.data)


def writable(text: str) -> str:
    """Return a line of text that every file can hold: what is no character, or ends a line, becomes an escape."""
    return text if is_line(text) else "".join(c if is_line(c) else ascii(c)[1:-1] for c in text)


@dataclass(frozen=True)
class Shard:
    """One resumable piece of a distractor source: a shard, an inner tar or a class folder.

    Args:
        name: Unique in its source and the same on every run.
        location: The file's or folder's name in the source's tree, or in the hub repository.
        size_bytes: Bytes that must be read or downloaded; -1 if unknown.
        split: `train` or `val`.
        class_index: The one class in the shard; -1 if there are several.
        offset: Where the shard starts in `location`, for a tar inside a tar.
        stamp: What changes when the content does (revision, or size and time of change).
        images: How many images it holds; -1 if that is not known before it is read.
        travels_bytes: How many bytes would travel over a network to read it.
    """

    name: str
    location: str
    size_bytes: int
    split: str
    class_index: int = -1
    offset: int = 0
    stamp: str = ""
    images: int = -1
    travels_bytes: int = 0

    def fingerprint(self) -> str:
        """A digest that changes when the shard does, without reading its bytes."""
        facts = (self.name, self.size_bytes, self.split, self.class_index, self.offset, self.stamp)
        return digest_of(facts)

    def __str__(self) -> str:
        return self.name


def some_names(tree: Tree) -> str:
    """Return the first names of what is in a folder, for messages."""
    if not tree.listable:
        return "none of the names that are known"
    return ", ".join([entry.name for entry in tree.entries()][:LISTED]) or "nothing"


class CaptionedSource(Protocol):
    """Images with captions, each of which may become relevant to queries."""

    @property
    def notes(self) -> list[str]:
        """What nobody should miss of the source, a sentence each."""
        ...

    def travels_bytes(self, only: Collection[str] | float = 1.0) -> int:
        """How many bytes `images` has yet to bring over a network; 0 for a local form.

        Args:
            only: Ids of the images that are wanted, or about which share of all.
        """
        ...

    def describe(self) -> dict[str, Any]:
        """Form, location, revision and files, for the manifest and for `--dry-run`. Downloads nothing."""
        ...

    def count(self) -> int | None:
        """How many images `images` yields; None if that is not known without a download."""
        ...

    def check(self) -> list[str]:
        """What makes the source look incomplete, a sentence each, found out without reading images.

        Raises:
            SourceError: A file is missing, damaged or refused, so that `images` would fail.
        """
        ...

    def images(self, passed: PassedOver | None = None, only: Collection[str] | None = None) -> Iterator[SourceImage]:
        """The images, the same in the same order every time.

        Args:
            passed: Counts what is not used.
            only: Ids of those that are wanted; the others are not read. None: all.

        Raises:
            SourceError: If a file is missing or is not in the expected format.
        """
        ...


class DistractorSource(Protocol):
    """Images with classes, in shards that can be processed one after the other."""

    def describe(self) -> dict[str, Any]:
        """Form, location, revision and files, for the manifest and for `--dry-run`."""
        ...

    def shards(self, wanted: set[int] | None = None, splits: Sequence[str] = SPLITS) -> list[Shard]:
        """The shards of the splits in a fixed order: train before val, by name; only those that can hold a `wanted`
        class.

        Raises:
            SourceError: What is wanted is not all there; names everything that is missing.
        """
        ...

    def prefetch(self, shard: Shard) -> None:
        """Start to download `shard` in the background; returns at once. Nothing happens for a local form."""
        ...

    def images(self, shard: Shard, wanted: set[int], passed: PassedOver | None = None) -> Iterator[SourceImage]:
        """The images of `shard` whose class is wanted, in the shard's own order; waits for its download.

        `passed` counts what is not used.

        Raises:
            SourceError: If the shard is missing, refused or damaged.
        """
        ...

    def release(self, shard: Shard) -> None:
        """Delete what was downloaded for `shard`; local forms and caches the user already had are left alone."""
        ...


class ReadInPlace:
    """What a source of distractors does with shards that are read where they lie: nothing, before and after."""

    def prefetch(self, shard: Shard) -> None:
        """What travels, travels while it is read."""

    def release(self, shard: Shard) -> None:
        """Nothing was written anywhere, and the user's files are left alone."""


class PerClass(NamedTuple):
    """The least and the greatest number of images that a class has in a split."""

    least: int
    most: int


@dataclass(frozen=True)
class Place:
    """Where a source lies, and how it is read there.

    Args:
        src: A path or an address; "hub" for the repository that is pinned.
        downloads: The folder for what is downloaded and deleted after use.
        captions: A path or an address of the file with the captions; empty for the one that is found.
        file_column: The column of that file with the images' names; empty for the one that is found.
        caption_column: Likewise of the captions.
        fewest_captions: Images with fewer are not used.
    """

    src: str = "hub"
    downloads: Path | None = None
    captions: str = ""
    file_column: str = ""
    caption_column: str = ""
    fewest_captions: int = 1

    @property
    def is_path(self) -> bool:
        """Whether it lies on a machine, and not behind an address."""
        return self.src != "hub" and not (is_url(self.src) and scheme_of(self.src) != "file")

    def elsewhere(self) -> Place:
        """Return the same place as another machine can look for it: paths in full, and downloads of its own."""
        src = _in_full(self.src) if self.is_path else self.src
        beside = not self.captions or is_url(self.captions) or not Path(self.captions).expanduser().is_file()
        return replace(self, src=src, downloads=None, captions=self.captions if beside else _in_full(self.captions))


def _in_full(path: str) -> str:
    return path if is_url(path) else str(Path(path).expanduser().absolute())


@dataclass(frozen=True)
class Source:
    """What is known of a source without looking at it: how it is opened, and the facts that a set of it carries."""

    name: str  # in presets and ids, and of its flag
    card: str  # its line in the dataset card, Markdown
    captioned: Callable[[Place], CaptionedSource] | None = None  # opens it; None if it has no captions
    # Opens distractors at the first place; the second is where captioned images of the same source lie, if they do.
    distractors: Callable[[Place, Place | None], DistractorSource] | None = None
    help: str = ""  # of the flag that says where it lies; there is none if this is empty
    terms: str = ""  # what to know before its images leave the computer; empty if nothing
    cite: tuple[str, ...] = ()  # works to cite, a line each
    bibtex: str = ""  # the same as BibTeX
    images: int | None = None  # how many it has; None if that is not fixed
    also_images: tuple[int, ...] = ()  # other numbers of images with which it is whole
    per_class: dict[str, PerClass] | None = None  # by split, of each ImageNet-1k class; None if it has no classes
    located: bool = False  # whether the preset says where it lies, as of images of one's own
    keeps_endings: bool = False  # whether ids of its images are their names with folders and endings

    def for_manifest(self) -> dict[str, Any]:
        """Return what a set's manifest keeps of it, JSON."""
        return {"terms": self.terms, "cite": list(self.cite), "bibtex": self.bibtex}

    def doubts_of_count(self, count: int | None) -> list[str]:
        """Say that a number of captioned images is not that of the whole source, if it is not."""
        if count is None or self.images is None or count in (self.images, *self.also_images):
            return []
        return [f"{self.name}: {count:,} images are there; the whole data set has {self.images:,}."]

    def doubts_of_classes(self, images: dict[tuple[str, str], int], refused: int = 0) -> list[str]:
        """Say which splits hold classes with more or fewer images than the source has of them.

        Args:
            images: (split, WordNet id) -> how many images.
            refused: How many more there are that were refused, whatever their class.
        """
        found = []
        for split, (least, most) in (self.per_class or {}).items():
            of_split = {wnid: count for (of, wnid), count in sorted(images.items()) if of == split}
            odd = {wnid: n for wnid, n in of_split.items() if not least - refused <= n <= most}
            if odd:
                usual = f"{least:,}" if least == most else f"{least:,} to {most:,}"
                first = ", ".join(f"{wnid} {count:,}" for wnid, count in list(odd.items())[:3])
                found.append(
                    f"{self.name}: a class has {usual} {split} images, but {len(odd)} of {len(of_split)} have other "
                    f"numbers here ({first}{', ...' if len(odd) > 3 else ''})."
                )
        return found
