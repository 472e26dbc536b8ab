"""A folder behind a network that is none: what is read of its files is counted."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any

from data_prep.storage import Entry, Stretch
from data_prep.storage.stretches import StretchedFile
from mteb_vehicle_search.errors import SourceError


class CountedTree:
    """Files in memory, whose bytes come by stretches; see `data_prep.storage.Tree`.

    Attributes:
        files: Their contents, which may be replaced.
        stamps: Of files; others have one that changes with nothing.
        opened: The names of files that were opened, with the stretches that were announced.
        fetched: The names and stretches that came.
    """

    remote = True
    listable = True

    def __init__(self, files: dict[str, bytes], stamp: str = "v1") -> None:
        self.files = files
        self.stamps: dict[str, str] = dict.fromkeys(files, stamp)
        self.where = "far://away"
        self.opened: list[tuple[str, list[Stretch]]] = []
        self.fetched: list[tuple[str, int, int]] = []
        self._lock = threading.Lock()

    @property
    def fetched_bytes(self) -> int:
        return sum(end - start for _, start, end in self.fetched)

    def forget(self) -> None:
        """Count anew."""
        self.opened.clear()
        self.fetched.clear()

    def path(self, name: str) -> str:
        return f"{self.where}/{name}" if name else self.where

    def entry(self, name: str) -> Entry | None:
        return Entry(name, len(self.files[name]), self.stamps[name]) if name in self.files else None

    def entries(self, folder: str = "") -> list[Entry]:
        return [Entry(name, len(data), self.stamps[name]) for name, data in sorted(self.files.items())]

    def walk(self, folder: str = "") -> Iterator[Entry]:
        yield from self.entries()

    def open(self, name: str, stretches: Sequence[Stretch] = ()) -> Any:
        if name not in self.files:
            raise SourceError(f"there is no {self.path(name)}")
        self.opened.append((name, list(stretches)))
        return StretchedFile(partial(self._fetch, name), len(self.files[name]), stretches)

    def read(self, names: Iterable[str]) -> Iterator[tuple[bytes, str]]:
        for name in names:
            yield self._fetch(name, 0, len(self.files[name])), ""

    def travelling(self, names: Iterable[str]) -> int:
        return sum(len(self.files[name]) for name in names)

    def _fetch(self, name: str, start: int, end: int) -> bytes:
        with self._lock:
            self.fetched.append((name, start, end))
        return self.files[name][start:end]
