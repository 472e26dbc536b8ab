"""Files behind addresses, by fsspec: whole small ones, and stretches of big ones.

Logins, tokens and signatures are the affair of the libraries (netrc, the clients of clouds, the hub's login) or stand
in the address; they are never written down.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import PurePosixPath
from threading import Event
from typing import BinaryIO, Protocol, TypeVar, cast

from data_prep.storage import MAX_FILE_BYTES, Entry, Stretch
from data_prep.storage.clouds import Cloud
from data_prep.storage.places import Folder, cloud_place, is_file, web_place
from data_prep.storage.stretches import StretchedFile
from data_prep.storage.web import Changed, NotByRanges, Web, WebPage
from mteb_vehicle_search.addresses import WEB, scheme_of
from mteb_vehicle_search.errors import SourceError
from mteb_vehicle_search.remote.failures import Absent, Refused, again_and_again
from mteb_vehicle_search.remote.systems import file_system

T = TypeVar("T")
READERS = 8  # Small files that travel at once: a bucket answers each after tens of milliseconds.
DOWNLOAD = "Download it, and name the local file."


class Store(Protocol):
    """What answers for addresses: web servers, or a file system of fsspec. Failures are the clients' own."""

    checked: bool  # Whether `fetch` notices by itself that a file changed.

    def look(self, address: str, name: str) -> Entry:
        """Return what there is at an address, under that name."""
        ...

    def fetch(self, address: str, entry: Entry, start: int, end: int) -> bytes:
        """Return the bytes of a stretch, as many as it has, of a file that was looked at."""
        ...


def open_remote(url: str) -> tuple[RemoteTree, str]:
    """Return the folder that an address means, and the file in it; "" if the address is a folder's.

    Raises:
        SourceError: What reads such addresses is not installed or does not take this one, or there is no such folder.
    """
    scheme = scheme_of(url)
    if scheme in WEB:
        place = web_place(url)
        return RemoteTree(Web(), place), place.named
    system, path = file_system(url)
    place = cloud_place(url, path)
    tree = RemoteTree(Cloud(system), place)
    if not place.named and ((entry := tree.entry("")) is None or not entry.is_folder):
        raise SourceError(f"there is no folder {tree.where}", "Check the address, and whether it needs a login.")
    return tree, place.named


class RemoteTree:
    """A folder behind an address; see `Tree`.

    Args:
        store: What answers.
        place: The folder.
    """

    remote = True

    def __init__(self, store: Store, place: Folder) -> None:
        self._store, self._place = store, place
        self.where = place.where
        self._cloud = store if isinstance(store, Cloud) else None
        self.listable = self._cloud is not None
        self._entries: dict[str, Entry] = {}
        self._first: dict[str, Entry] = {}  # As a file was when it was looked at for the first time.

    def path(self, name: str) -> str:
        return f"{self.where}/{name}" if name else self.where

    def entry(self, name: str) -> Entry | None:
        address, last = self._place.address_of(name), PurePosixPath(name).name
        # A signature is of one file: what lies beside it and is refused was not meant.
        beside = bool(self._place.named) and name != self._place.named
        try:
            entry = self._patiently(lambda: self._store.look(address, last), name)
        except Absent:
            return None
        except WebPage:
            if beside or not is_file(name):
                return None
            raise SourceError(
                f"{self.path(name)} is a page for people, not the file",
                f"It may need a login, or this is the address of a page about it. {DOWNLOAD}",
            ) from None
        except Refused:
            if beside and not self.listable:
                return None
            raise
        self._entries[name] = entry
        self._first.setdefault(name, entry)
        return entry

    def entries(self, folder: str = "") -> list[Entry]:
        cloud, address = self._listing(folder), self._place.address_of(folder)
        try:
            found = sorted(self._patiently(lambda: cloud.children(address), folder))
        except Absent:
            return []
        self._entries |= {f"{folder}/{entry.name}" if folder else entry.name: entry for entry in found}
        return found

    def walk(self, folder: str = "") -> Iterator[Entry]:
        cloud, address = self._listing(folder), self._place.address_of(folder)
        try:
            found = self._patiently(lambda: sorted(cloud.walk(address)), folder)
        except Absent:
            return
        for name, entry in found:
            self._entries[f"{folder}/{name}" if folder else name] = entry
            yield entry

    def open(self, name: str, stretches: Sequence[Stretch] = ()) -> BinaryIO:
        first = self._first.get(name)
        # Where each answer is checked, no look is needed.
        entry = first if first and first.stamp and self._store.checked else self.entry(name)
        if entry is None or entry.is_folder:
            raise SourceError(f"there is no {self.path(name)}")
        if first and first != entry:  # What was found out about it before is of another file.
            raise self._changed(name)
        if entry.size_bytes < 0:
            raise SourceError(
                f"{self.path(name)} cannot be read in the middle: its server does not tell its size", DOWNLOAD
            )
        stop = Event()
        fetch, size = partial(self._fetch, name, entry, stop), entry.size_bytes
        if self._store.checked:
            return cast(BinaryIO, StretchedFile(fetch, size, stretches, at_close=stop.set))
        check = partial(self._check_unchanged, name, entry)
        return cast(BinaryIO, StretchedFile(fetch, size, stretches, check, stop.set))

    def read(self, names: Iterable[str]) -> Iterator[tuple[bytes, str]]:
        pending: deque[Future[bytes]] = deque()
        pool, stop = ThreadPoolExecutor(READERS, thread_name_prefix="read"), Event()
        try:
            for name in names:
                pending.append(pool.submit(self._read_whole, name, stop))
                if len(pending) > 2 * READERS:
                    yield pending.popleft().result(), ""
            while pending:
                yield pending.popleft().result(), ""
        finally:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)

    def travelling(self, names: Iterable[str]) -> int:
        return sum(max(0, self._entry_of(name).size_bytes) for name in names)

    def _listing(self, folder: str) -> Cloud:
        if self._cloud is None:
            raise SourceError(
                f"{self.path(folder)} cannot be listed: web servers do not tell what is in a folder",
                "Name the archive itself (a zip or a tar), or a folder of s3://, gs:// or hf://.",
            )
        return self._cloud

    def _entry_of(self, name: str) -> Entry:
        entry = self._entries.get(name) or self.entry(name)
        if entry is None or entry.is_folder:
            raise SourceError(f"{self.path(name)} is missing")
        return entry

    def _read_whole(self, name: str, stop: Event) -> bytes:
        entry = self._entry_of(name)
        if entry.size_bytes < 0:
            raise SourceError(f"{self.path(name)} cannot be read: its server does not tell its size", DOWNLOAD)
        return self._fetch(name, entry, stop, 0, min(entry.size_bytes, MAX_FILE_BYTES + 1))

    def _fetch(self, name: str, entry: Entry, stop: Event, start: int, end: int) -> bytes:
        """Return a stretch of a file; as long as it is, or not at all."""
        if end <= start:
            return b""
        address = self._place.address_of(name)
        try:
            return self._patiently(lambda: self._store.fetch(address, entry, start, end), name, stop)
        except Absent:
            raise SourceError(f"{self.path(name)} is gone", "It was there before: run the command again.") from None
        except Changed:
            raise self._changed(name) from None
        except NotByRanges as error:
            raise SourceError(f"{self.path(name)} cannot be read in the middle: its server {error}", DOWNLOAD) from None

    def _check_unchanged(self, name: str, before: Entry) -> None:
        now = self.entry(name)
        if now is None or (now.size_bytes, now.stamp) != (before.size_bytes, before.stamp):
            raise self._changed(name)

    def _changed(self, name: str) -> SourceError:
        return SourceError(
            f"{self.path(name)} changed while it was read", "Run the command again: it starts anew with that file."
        )

    def _patiently(self, action: Callable[[], T], name: str, stop: Event | None = None) -> T:
        return again_and_again(action, self.path(name), scheme_of(self.where), stop)
