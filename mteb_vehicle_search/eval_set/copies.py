"""Copies of evaluation sets that lie behind an address: where they are on this machine, and what they are copies of.

A copy is named by where it is from and by the sha256 of its `manifest.json`, which names those of all other files: it
never changes. What lies at an address may: a note says which copy is its last.

    copies/NAME__DIGEST/          a copy, whole and checked; NAME__DIGEST.json says what it is a copy of
    copies/.NAME__DIGEST.partial/ one that is not whole yet: what is there of it is not fetched again
    copies/NAME__ANOTHER.json     the note on an address
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from mteb_vehicle_search import settings
from mteb_vehicle_search.addresses import shown
from mteb_vehicle_search.errors import VehicleSearchError
from mteb_vehicle_search.files import new_file, safe_name


@dataclass(frozen=True)
class Origin:
    """What was found at an address; the same on every machine.

    Attributes:
        address: With the full commit where its store has commits.
        manifest: The sha256 of `manifest.json` there, in hexadecimal.
    """

    address: str
    manifest: str

    @property
    def folder(self) -> Path:
        """Where its copy is on this machine, or would be."""
        return settings.copies_folder() / _name(self.address, [self.address, self.manifest])


def place(address: str) -> Path:
    """Return the folder of the last copy from an address; what is no folder if there is none. Asks nobody."""
    origin = noted(address)
    return origin.folder if origin else _of_address(address).with_suffix("")


def noted(address: str) -> Origin | None:
    """Return what was last copied from an address; None if nothing was, or the copy is gone."""
    return _read(_of_address(address))


def origin_of(folder: Path) -> Origin | None:
    """Return what a folder is a copy of; None if it is none."""
    origin = _read(folder.with_name(f"{folder.name}.json"))
    return origin if origin and origin.folder == folder else None


def all_copies() -> list[Path]:
    """Return the folders of all copies on this machine, sorted."""
    try:
        return sorted(path.parent for path in settings.copies_folder().glob("[!.]*/manifest.json"))
    except (VehicleSearchError, OSError):
        return []


def note_copy(origin: Origin) -> None:
    """Write down what a copy is a copy of."""
    _write(origin.folder.with_name(f"{origin.folder.name}.json"), origin)


def note_last(address: str, origin: Origin) -> None:
    """Write down which copy is the last one from an address."""
    if origin != noted(address):
        _write(_of_address(address), origin)


def _read(note: Path) -> Origin | None:
    try:
        said = json.loads(note.read_text(encoding="utf-8"))
        origin = Origin(str(said["address"]), str(said["manifest_sha256"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return origin if origin.folder.is_dir() else None


def _write(note: Path, origin: Origin) -> None:
    said = {"address": origin.address, "manifest_sha256": origin.manifest}
    text = json.dumps({**said, "noted": datetime.now(UTC).isoformat(timespec="seconds")}, indent=2)
    with new_file(note, suffix=f".{os.getpid()}.partial") as file:
        file.write(f"{text}\n".encode())


def _of_address(address: str) -> Path:
    return settings.copies_folder() / f"{_name(address, [address])}.json"


def _name(address: str, identity: list[str]) -> str:
    readable = re.sub("@[0-9a-f]{40}", "", shown(address).partition("://")[2])
    return safe_name(readable[-60:], identity)
