"""Images of a folder or an archive, with captions and without."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from functools import cached_property
from typing import Any

from data_prep.sources import NOT_SELECTED, SPLITS, Place, ReadInPlace, Shard, SourceImage
from data_prep.sources.own.captions import Captions, captions_of
from data_prep.sources.own.listing import NO_IMAGES, Location
from data_prep.storage import Entry, PassedOver, digest_of, stamp_of
from data_prep.storage.tar_trees import TarTree
from mteb_vehicle_search.errors import SourceError

# Sets hold these words, in their manifests and under their digests, so that they stay.
UNNAMED = "images without captions"
FEWER = "images with fewer captions than captioned.fewest_captions"
PIECE = 2_000  # Images of a shard: minutes of work, which is what an interruption may cost.


class FolderCaptioned:
    """The captioned images of a location; see `CaptionedSource`. Ids are their names there, with folders and endings.

    Args:
        location: Of the images.
        place: Where the captions lie, and how they are read.
        fewest: Images with fewer captions are not used.
    """

    def __init__(self, location: Location, place: Place, fewest: int = 1) -> None:
        self.location, self.place, self.fewest = location, place, fewest

    @cached_property
    def captions(self) -> Captions:
        """The captions, read when they are needed."""
        self.location.require_images()
        return captions_of(self.location, self.place)

    @property
    def notes(self) -> list[str]:
        bad = self.captions.bad
        if not bad:
            return []
        return [f"{len(bad):,} rows of captions are not used; the first: {bad[0].where}: {bad[0].reason}."]

    @cached_property
    def _used(self) -> list[str]:
        return [name for name, captions in self.captions.of.items() if len(captions) >= self.fewest]

    def travels_bytes(self, only: Collection[str] | float = 1.0) -> int:
        tree = self.location.tree
        if isinstance(only, (int, float)):
            return round((only if self.location.form != "tar" else 1.0) * tree.travelling(self._used))
        return tree.travelling([name for name in self._used if self._id(name) in only])

    def describe(self) -> dict[str, Any]:
        facts = (self.location.stamp(), self.captions.digest(), self.fewest)
        return {
            "form": self.location.form,
            "location": self.location.tree.where,
            "revision": "",
            "files": [self.captions.name] if self.captions.name else [],
            "stamp": digest_of(facts),
        }

    def count(self) -> int:
        return len(self._used)

    def check(self) -> list[str]:
        """See `CaptionedSource.check`.

        Raises:
            SourceError: No image has captions.
        """
        captions = self.captions
        if not self._used:
            raise self._nothing()
        if not captions.missing:
            return []
        why = next(iter(captions.missing.values()))
        more = f", and {len(captions.missing) - 1:,} more" if len(captions.missing) > 1 else ""
        return [f"{captions.name} names images that {self.location.tree.where} does not hold: {why}{more}."]

    def images(self, passed: PassedOver | None = None, only: Collection[str] | None = None) -> Iterator[SourceImage]:
        captions = self.captions
        chosen = [name for name in self._used if only is None or self._id(name) in only]
        if passed is not None:
            self._count(passed, len(self._used) - len(chosen))
        if only is None:
            yield from refused("folder", captions)
        for name, (data, problem) in zip(chosen, self.location.tree.read(chosen)):
            split = captions.splits.get(name, "")
            yield SourceImage(self._id(name), data, "folder", split, captions=captions.of[name], problem=problem)

    def _id(self, name: str) -> str:
        return f"folder/{self.location.relative(name)}"

    def _count(self, passed: PassedOver, not_selected: int) -> None:
        listing, captions = self.location.listing, self.captions
        passed.update(listing.passed)
        counts = {
            NO_IMAGES: len(listing.others) - (captions.name in {name.rpartition("/")[2] for name in listing.others}),
            UNNAMED: len(listing.images) - len(captions.named),
            FEWER: len(captions.of) - len(self._used),
            NOT_SELECTED: not_selected,
        }
        passed.update({reason: count for reason, count in counts.items() if count})

    def _nothing(self) -> SourceError:
        captions, images = self.captions, self.location.listing.images
        if captions.of:
            return SourceError(
                f"no image of {self.location.tree.where} has {self.fewest} captions",
                "Lower captioned.fewest_captions.",
            )
        said = next(iter(captions.missing), "") or next((row.name for row in captions.bad if row.name), "")
        row = f"it names files such as {said}" if said else "it names none"
        return SourceError(
            f"{captions.where} has captions of no image in {self.location.tree.where}: {row}, and the images are "
            f"such as {self.location.relative(next(iter(images)))}",
            "Correct the names in the table, or captioned.location, captioned.table and captioned.file_column.",
        )


def refused(source: str, captions: Captions) -> Iterator[SourceImage]:
    """Yield rows of captions that are not used, as images that are refused."""
    for number, bad in enumerate(captions.bad, start=1):
        name = captions.name or bad.name
        yield SourceImage(f"{source}/{name}, bad row {number}", b"", source, "", problem=f"{bad.where}: {bad.reason}")
    for name, why in captions.missing.items():
        yield SourceImage(f"{source}/{name}", b"", source, "", problem=why)


class FolderDistractors(ReadInPlace):
    """The uncaptioned images of a location; see `DistractorSource`.

    Args:
        location: Of the images.
        captioned: The captioned ones; those that lie in both are no distractors.
    """

    def __init__(self, location: Location, captioned: FolderCaptioned | None = None) -> None:
        self.location, self.captioned = location, captioned
        shared = captioned is None or captioned.location.tree.where == location.tree.where
        # Two locations may hold files of the same name.
        self.prefix = "folder" if shared else "folder-distractors"

    def describe(self) -> dict[str, Any]:
        return {"form": self.location.form, "location": self.location.tree.where, "revision": "", "files": []}

    @cached_property
    def _pieces(self) -> dict[str, list[str]]:
        """The images by shard."""
        self.location.require_images()
        names = self._names()
        if isinstance(self.location.tree, TarTree):  # Read from its begin to its end, whatever is wanted of it.
            return {self.location.stem: names} if names else {}
        return _pieces(names)

    def _names(self) -> list[str]:
        taken: set[str] = set()
        if self.captioned is not None:
            tree = self.captioned.location.tree
            taken = {tree.path(name) for name in self.captioned.captions.named}
        return [name for name in self.location.listing.images if self.location.tree.path(name) not in taken]

    def shards(self, wanted: set[int] | None = None, splits: Sequence[str] = SPLITS) -> list[Shard]:
        """Folders, or pieces of them; they hold no classes."""
        tree, images = self.location.tree, self.location.listing.images
        shards = []
        for name, files in self._pieces.items():
            entries = [images[file] for file in files]
            size = sum(max(0, entry.size_bytes) for entry in entries)
            stamp, travels = self._stamp(entries), tree.travelling(files)
            shards.append(Shard(name, "", size, "", stamp=stamp, images=len(files), travels_bytes=travels))
        return shards

    def _stamp(self, entries: list[Entry]) -> str:
        facts = (
            stamp_of(entries),
            self.prefix,
            self.location.stamp() if isinstance(self.location.tree, TarTree) else "",
        )
        return digest_of(facts)

    def images(self, shard: Shard, wanted: set[int], passed: PassedOver | None = None) -> Iterator[SourceImage]:
        files = self._pieces[shard.name]
        for name, (data, problem) in zip(files, self.location.tree.read(files)):
            yield SourceImage(f"{self.prefix}/{self.location.relative(name)}", data, "folder", "", problem=problem)


def _pieces(names: list[str]) -> dict[str, list[str]]:
    """Files by shard: small folders that follow each other together, and pieces of big ones."""
    folders: dict[str, list[str]] = {}
    for name in names:
        folders.setdefault(name.rpartition("/")[0], []).append(name)
    found: dict[str, list[str]] = {}
    together: list[str] = []

    def finish() -> None:
        if together:
            files = [name for folder in together for name in folders[folder]]
            first, last = (together[place] or "." for place in (0, -1))
            found[first if first == last else f"{first} to {last}"] = files
            together.clear()

    for folder in sorted(folders):
        files = folders[folder]
        if sum(len(folders[one]) for one in together) + len(files) > PIECE:
            finish()
        if len(files) <= PIECE:
            together.append(folder)
            continue
        for at in range(0, len(files), PIECE):
            first = files[at].rpartition("/")[2]
            found[f"{folder or '.'} from {first}"] = files[at : at + PIECE]
    finish()
    return found
