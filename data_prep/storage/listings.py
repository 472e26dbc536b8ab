"""Lists of what is in remote archives, kept on disk: to read one takes a thousand requests, or 160 MB."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from pathlib import Path

from data_prep.storage import Entry, Tree
from mteb_vehicle_search.files import new_file
from mteb_vehicle_search.settings import home


def kept(tree: Tree, name: str, entry: Entry) -> bytes | None:
    """Return the list that was kept of an archive, if the archive is still the same and the list is whole."""
    path = _place(tree, name)
    if not tree.remote or not path.is_file():
        return None
    with path.open("rb") as file:
        head, content = file.readline(), file.read()
    try:
        same = json.loads(head) == _facts(tree, name, entry, content)
    except ValueError:
        return None
    return content if same else None


def keep(tree: Tree, name: str, entry: Entry, content: bytes) -> None:
    """Keep the list of a remote archive, under what tells whether the archive changed; without that, nothing."""
    if not tree.remote or not entry.stamp:
        return
    path = _place(tree, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    with new_file(path, f".{os.getpid()}-{threading.get_ident()}.partial") as file:
        file.write(json.dumps(_facts(tree, name, entry, content)).encode() + b"\n")
        file.write(content)


def _facts(tree: Tree, name: str, entry: Entry, content: bytes) -> list[str | int]:
    return [tree.path(name), entry.size_bytes, entry.stamp, hashlib.sha256(content).hexdigest()]


def _place(tree: Tree, name: str) -> Path:
    return home() / "listings" / hashlib.sha256(tree.path(name).encode()).hexdigest()[:32]
