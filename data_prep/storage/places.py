"""The folder that an address means, and how the files in it are addressed."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from mteb_vehicle_search.addresses import scheme_of, shown
from mteb_vehicle_search.errors import SourceError

_FILE = re.compile(r"\.(zip|tar|tar\.gz|tgz|parquet|csv|tsv|txt|json|json\.gz|jsonl|ndjson|token)$", re.IGNORECASE)


class Folder(NamedTuple):
    """A folder behind an address.

    Args:
        root: As its file system or server names it.
        where: For people.
        named: The one file that was asked for; "" if it was the folder.
        address: Of that file.
        query: What belongs to the address of each file, such as a signature.
        quoted: Whether names are quoted in addresses.
    """

    root: str
    where: str
    named: str = ""
    address: str = ""
    query: str = ""
    quoted: bool = False

    def address_of(self, name: str) -> str:
        """Return the address of a file in it, or of itself if the name is empty."""
        if name and name == self.named:
            return self.address
        address = "/".join(filter(None, (self.root, quote(name) if self.quoted else name)))
        return f"{address}?{self.query}" if self.query else address


def is_file(name: str) -> bool:
    """Tell whether a name is a file's that is read by itself, such as an archive's, and not a folder's."""
    return _FILE.search(name) is not None


def web_place(url: str) -> Folder:
    """Return what a web address means.

    Raises:
        SourceError: It is none.
    """
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise SourceError(f"{shown(url)} cannot be read: {error}", "Check the address.") from None
    above, name = parts.path.rstrip("/"), ""
    if is_file(parts.path):
        above, _, name = parts.path.rpartition("/")
    scheme = scheme_of(url)
    root = urlunsplit((scheme, parts.netloc, above, "", ""))
    address = urlunsplit((scheme, parts.netloc, parts.path, parts.query, ""))
    return Folder(root, shown(root), unquote(name), address, parts.query, quoted=True)


def cloud_place(url: str, path: str) -> Folder:
    """Return what an address of a cloud means, whose file system calls it `path`."""
    path = path.rstrip("/")
    if not is_file(path):
        return Folder(path, shown(url))
    above, _, name = path.rpartition("/")
    return Folder(above, shown(url).rpartition("/")[0], name, path)
