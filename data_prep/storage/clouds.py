"""Files in buckets and on the hub, through the file systems that fsspec knows for them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from data_prep.storage import Entry

# Whatever tells that a file's content changed, by the names that the file systems give it.
_VALIDATORS = ("ETag", "etag", "md5Hash", "crc32c", "content_md5", "blob_id", "LastModified", "mtime")


class Cloud:
    """A file system of fsspec; see `remote.Store`.

    Args:
        system: Of fsspec.
    """

    checked = False  # An answer does not tell which file it is of.

    def __init__(self, system: Any) -> None:
        self._system = system
        # Those that are not made for many requests at once read by a file object, which else reads ahead.
        self._options = {} if system.async_impl else {"cache_type": "none"}

    def look(self, address: str, name: str) -> Entry:
        return _entry(self._system.info(address), name)

    def fetch(self, address: str, entry: Entry, start: int, end: int) -> bytes:
        data = self._system.cat_file(address, start=start, end=end, **self._options)
        if len(data) != end - start:
            raise OSError(f"{len(data):,} bytes came instead of {end - start:,}")
        return data

    def children(self, address: str) -> list[Entry]:
        """Return what is in a folder."""
        # Some list the folder itself, or an empty object that stands for it.
        found = [one for one in self._system.ls(address, detail=True) if one["name"].strip("/") != address]
        return [_entry(one, PurePosixPath(one["name"].rstrip("/")).name) for one in found]

    def walk(self, address: str) -> Iterator[tuple[str, Entry]]:
        """Yield all files below a folder, and their names relative to it."""
        for path, info in self._system.find(address, detail=True).items():
            name = path[len(address) :].strip("/")
            if name:
                yield name, _entry(info, name)


def _entry(info: dict[str, Any], name: str) -> Entry:
    if info.get("type") == "directory":
        return Entry(name, is_folder=True)
    size = info.get("size")
    stamp = next((str(info[key]) for key in _VALIDATORS if info.get(key)), "")
    return Entry(name, -1 if size is None else int(size), stamp)
