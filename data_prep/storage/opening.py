"""What a path or an address means: a folder, what is in a zip, or a file in its folder."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import NamedTuple
from urllib.request import url2pathname

from data_prep.storage import Tree, kind_of
from data_prep.storage.local import LocalTree
from data_prep.storage.zips import ZipTree
from mteb_vehicle_search.addresses import is_url
from mteb_vehicle_search.errors import SourceError

_FILE = "file://"


class Found(NamedTuple):
    """A tree, and the file in it that was named; "" if the tree itself was named."""

    tree: Tree
    file: str = ""


def open_tree(src: str | Path) -> Found:
    """Open a folder, or what a file belongs to: the content of a zip; of others, the folder they lie in.

    Args:
        src: A path, or an address that fsspec knows (https://, s3://, gs://, hf://, file://).

    Raises:
        SourceError: Nothing is there, it is refused, or what reads such addresses is not installed.
    """
    text = str(src)
    if is_url(text) and not text.lower().startswith(_FILE):
        from data_prep.storage.remote import open_remote  # Imports an HTTP stack.

        found = Found(*open_remote(text))
    else:
        path = _local(text)
        if (kind := _kind(path)) == "a folder":
            return Found(LocalTree(path))
        if kind:
            raise SourceError(f"{path} is {kind}, neither a folder nor a file")
        found = Found(LocalTree(path.parent), path.name)
    return Found(ZipTree(found.tree, found.file)) if found.file.lower().endswith(".zip") else found


def _local(text: str) -> Path:
    try:
        if not is_url(text):
            return Path(text).expanduser()
    except RuntimeError as error:  # Of ~ and of ~name where there is no such user.
        raise SourceError(f"there is no folder {text} ({error})") from error
    host, slash, rest = text[len(_FILE) :].partition("/")
    if host.lower() not in ("", "localhost"):
        raise SourceError(f"{text} is on another computer, {host}", f"On this one it would be {_FILE}/{rest}.")
    return Path(url2pathname(slash + rest))


def _kind(path: Path) -> str:
    """Say what is at a path, "" for a file.

    Raises:
        SourceError: Nothing, or it cannot be known.
    """
    absent = f"there is no {path}" if path.suffix else f"there is no folder {path}"
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise SourceError(f"{absent} (a link to what is not there)" if path.is_symlink() else absent) from None
    except (OSError, ValueError) as error:
        raise SourceError(f"{absent} ({getattr(error, 'strerror', None) or error})") from error
    return "a folder" if stat.S_ISDIR(mode) else kind_of(mode)
