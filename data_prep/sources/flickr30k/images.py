"""Where Flickr30k's images lie: a folder, what is in a zip, or a tar that is read from its begin to its end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, NamedTuple, Protocol

from data_prep.sources.flickr30k.captions import is_image_name
from data_prep.storage import OUTSIDE, Entry, PassedOver, Tree, leads_out, not_an_image, plain, stamp_of
from data_prep.storage.tars import parts_of, read_tar
from data_prep.storage.zips import ZipTree
from mteb_vehicle_search.errors import SourceError

NO_IMAGES = "files whose names are not those of JPEG images"


class Read(NamedTuple):
    """An image by its bare name: its bytes, and why there are none (else "")."""

    name: str
    data: bytes
    problem: str


class Images(Protocol):
    """Images by bare names."""

    form: str
    where: str
    short: str  # Its own name, without what it lies in.
    absent_hint: str  # What mends that an image is missing.
    in_one_piece: bool  # Whether it is read whole, however few images are wanted.

    @property
    def stamp(self) -> Any:
        """What changes when the images do, without reading their bytes."""
        ...

    def names(self, passed: PassedOver) -> set[str] | None:
        """The names of the images, found out in seconds; None if that takes reading them. `passed` counts others."""
        ...

    def read(self, names: Sequence[str], passed: PassedOver) -> Iterator[Read]:
        """Yield the images of these names, perhaps in another order, and not those that are missing."""
        ...

    def travels_bytes(self, names: Sequence[str]) -> int:
        """How many bytes travel over a network to read these."""
        ...


class FolderImages:
    """Images in a folder, without those below it."""

    form, in_one_piece = "folder", False
    absent_hint = "Unpack the images again: an unpacking may have been interrupted."

    def __init__(self, tree: Tree, folder: str = "", beside: str = "") -> None:
        self.tree, self.folder, self.beside = tree, folder, beside
        self.where = tree.path(folder)
        self.short = self.where.rstrip("/").rpartition("/")[2]

    @cached_property
    def _entries(self) -> list[Entry]:
        return self.tree.entries(self.folder)

    @property
    def stamp(self) -> Any:
        return stamp_of(plain(self._entries))

    def names(self, passed: PassedOver) -> set[str] | None:
        entries = (entry for entry in plain(self._entries, passed) if entry.name != self.beside)
        return _images_among((entry.name for entry in entries), passed)

    def read(self, names: Sequence[str], passed: PassedOver) -> Iterator[Read]:
        for name, (data, problem) in zip(names, self.tree.read(map(self._at, names))):
            yield Read(name, data, problem)

    def travels_bytes(self, names: Sequence[str]) -> int:
        return self.tree.travelling(map(self._at, names))

    def _at(self, name: str) -> str:
        return f"{self.folder}/{name}" if self.folder else name


class ZipImages:
    """Images in a zip, whatever folders they have there. Names never become paths; those that lead out are not used."""

    form, in_one_piece = "zip", False
    absent_hint = "Get the zip and the captions file that belong together."

    def __init__(self, tree: Tree, name: str) -> None:
        self.zip = ZipTree(tree, name)
        self.where, self.short = tree.path(name), name.rpartition("/")[2]

    @property
    def stamp(self) -> Any:
        return self.zip.own_entry.size_bytes, self.zip.own_entry.stamp

    def names(self, passed: PassedOver) -> set[str] | None:
        members, others = self._members
        passed.update(others)
        return _images_among(members, passed)

    def read(self, names: Sequence[str], passed: PassedOver) -> Iterator[Read]:
        members, _ = self._members
        there = [name for name in names if name in members]
        for name, (data, problem) in zip(there, self.zip.read([members[name] for name in there])):
            yield Read(name, data, problem)

    def travels_bytes(self, names: Sequence[str]) -> int:
        members, _ = self._members
        return self.zip.travelling([members[name] for name in names if name in members])

    @cached_property
    def _members(self) -> tuple[dict[str, str], PassedOver]:
        """The members' whole names by their bare ones, and what was passed over."""
        found: dict[str, str] = {}
        passed = PassedOver()
        for entry in self.zip.walk():
            if reason := (OUTSIDE if leads_out(entry.name) else not_an_image(entry.name)):
                passed[reason] += 1
                continue
            name = entry.name.rpartition("/")[2]
            if name in found:
                raise SourceError(
                    f"{self.where} holds {name} twice: as {found[name]} and as {entry.name}",
                    "Which one is meant is unknown: get the zip again.",
                )
            found[name] = entry.name
        return found, passed


class TarImages:
    """Images in a tar, packed by gzip or not, in the archive's own order."""

    form, in_one_piece = "tar", True
    absent_hint = "Get the tar and the captions file that belong together."

    def __init__(self, tree: Tree, name: str) -> None:
        self.tree, self.name = tree, name
        self.where, self.short = tree.path(name), name.rpartition("/")[2]

    @cached_property
    def _entry(self) -> Entry:
        return self.tree.entry(self.name) or Entry(self.name)

    @property
    def stamp(self) -> Any:
        return self._entry.size_bytes, self._entry.stamp

    @property
    def _has_list(self) -> bool:
        """A list of what is packed, or lies behind a network, takes as long as reading it."""
        return not self.tree.remote and self.name.lower().endswith(".tar")

    @cached_property
    def _members(self) -> list[str]:
        return [part.name for part in parts_of(self.tree, self.name)]

    def names(self, passed: PassedOver) -> set[str] | None:
        if not self._has_list:
            return None
        found = set()
        for name in self._members:
            if reason := not_an_image(name):
                passed[reason] += 1
            else:
                found.add(name.rpartition("/")[2])
        return _images_among(found, passed)

    def read(self, names: Sequence[str], passed: PassedOver) -> Iterator[Read]:
        wanted, seen = set(names), set()
        # Counted by `names` where that can be.
        counted = PassedOver() if self._has_list else passed
        for member, data, problem in read_tar(self.tree, self.name, counted):
            name = member.rpartition("/")[2]
            if name in seen:
                raise SourceError(
                    f"{self.where} holds {name} twice", "Which one is meant is unknown: get the tar again."
                )
            seen.add(name)
            if name in wanted:
                yield Read(name, data, problem)
            elif not is_image_name(name):
                counted[NO_IMAGES] += 1

    def travels_bytes(self, names: Sequence[str]) -> int:
        return self.tree.travelling([self.name])


def _images_among(names: Any, passed: PassedOver) -> set[str]:
    found = set()
    for name in names:
        if is_image_name(name):
            found.add(name)
        else:
            passed[NO_IMAGES] += 1
    return found
