"""What is in a tar as a folder: listed once, and read from its begin to its end."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import BinaryIO

from data_prep.storage import MAX_FILE_BYTES, Entry, PassedOver, Stretch, Tree
from data_prep.storage.tars import members, opened_in, parts_of, read_tar
from mteb_vehicle_search.errors import SourceError


class TarTree:
    """What is in a tar, packed by gzip or not; see `Tree`. Files come in the tar's order, and are read in it.

    Args:
        tree: What the tar lies in.
        name: Of the tar there.
    """

    listable = True

    def __init__(self, tree: Tree, name: str) -> None:
        self.outer, self.name = tree, name
        self.where, self.remote = tree.path(name), tree.remote
        self.packed = not name.lower().endswith(".tar")

    def path(self, name: str) -> str:
        return f"{self.where}, member {name}" if name else self.where

    @cached_property
    def own_entry(self) -> Entry:
        """The tar's own entry in its folder."""
        return self.outer.entry(self.name) or Entry(self.name)

    @cached_property
    def _files(self) -> dict[str, Entry]:
        if self.packed and self.remote:
            raise SourceError(
                f"{self.where} cannot be listed without reading all of it, since it is packed",
                "Download it, or pack the images as .zip or .tar.",
            )
        if self.packed:
            with opened_in(self.outer, self.name, whole=True) as tar:
                found = [(m.name, m.size) for m in members(tar, self.where) if m.isfile()]
        else:
            found = [(part.name, part.size_bytes) for part in parts_of(self.outer, self.name)]
        files: dict[str, Entry] = {}
        for name, size in found:
            name = _plain(name)
            if name in files:
                raise SourceError(
                    f"{self.where} holds {name} twice", "Which one is meant is unknown: pack the tar again."
                )
            files[name] = Entry(name, size)
        return files

    def entry(self, name: str) -> Entry | None:
        if name in self._files:
            return self._files[name]._replace(name=name.rpartition("/")[2])
        inside = any(other.startswith(f"{name}/" if name else "") for other in self._files)
        return Entry(name.rpartition("/")[2], is_folder=True) if inside else None

    def entries(self, folder: str = "") -> list[Entry]:
        found: dict[str, Entry] = {}
        for entry in self.walk(folder):
            child, below, _ = entry.name.partition("/")
            found[child] = Entry(child, is_folder=True) if below else entry
        return [found[child] for child in sorted(found)]

    def walk(self, folder: str = "") -> Iterator[Entry]:
        """See `Tree.walk`; but in the tar's order."""
        prefix = f"{folder}/" if folder else ""
        for name, entry in self._files.items():
            if name.startswith(prefix):
                yield entry._replace(name=name[len(prefix) :])

    def open(self, name: str, stretches: Sequence[Stretch] = ()) -> BinaryIO:
        size = self._files[name].size_bytes if name in self._files else 0
        if size > MAX_FILE_BYTES:
            raise SourceError(f"{self.path(name)} has {size:,} bytes: that much is not read in a tar", "Unpack it.")
        for data, problem in self.read([name]):
            if problem:
                raise SourceError(f"{self.path(name)} {problem}")
            return io.BytesIO(data)
        raise SourceError(f"there is no {self.path(name)}")

    def read(self, names: Iterable[str]) -> Iterator[tuple[bytes, str]]:
        """See `Tree.read`; names come in the tar's order.

        Raises:
            ValueError: They do not.
        """
        names = list(names)
        wanted = set(names)
        if not names:
            return
        order = iter(names)
        # Why others are not read is told by whoever chose these.
        for member, data, problem in read_tar(
            self.outer, self.name, PassedOver(), wanted=lambda name: "" if _plain(name) in wanted else "not wanted"
        ):
            name = _plain(member)
            if name not in self._files:  # A link of that name.
                continue
            if next(order, None) != name:
                raise ValueError(f"{name} is asked for out of the order of {self.where}")
            yield data, problem
        if (left := next(order, None)) is not None:
            raise SourceError(f"{self.where} has no {left}")

    def travelling(self, names: Iterable[str]) -> int:
        return self.own_entry.size_bytes if self.remote and any(True for _ in names) else 0


def _plain(name: str) -> str:
    """A member's name without the "./" that `tar -C folder .` writes."""
    while name.startswith("./"):
        name = name[2:]
    return name
