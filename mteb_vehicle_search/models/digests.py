"""Digests of model files, which are remembered: gigabytes are hashed once, not at every start."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from mteb_vehicle_search import settings
from mteb_vehicle_search.files import file_sha256, new_file, safe_name

# Smaller files are hashed every time: that takes no longer than to look up what was remembered.
REMEMBERED_BYTES = 16 << 20
# Within this time a file may change again without its time of change telling.
SETTLED_S = 2.0


def remembered_sha256(path: Path) -> str:
    """Return the sha256 of a file, in hexadecimal; of a large one that has not changed, as it was when last asked.

    Raises:
        OSError: It cannot be read.
    """
    path = path.resolve()
    before = _state(path)
    if before["size"] < REMEMBERED_BYTES:
        return file_sha256(path)
    note = settings.home() / "digests" / f"{safe_name(path.name, str(path))}.json"
    with suppress(OSError, ValueError, AttributeError):
        noted = json.loads(note.read_text(encoding="utf-8"))
        if {key: noted.get(key) for key in before} == before and len(noted["sha256"]) == 64:
            return noted["sha256"]
    digest = file_sha256(path)
    settled = time.time() - max(before["mtime_ns"], before["ctime_ns"]) / 1e9 > SETTLED_S
    if settled and _state(path) == before:
        # A note that cannot be written costs the next start its time, and nothing else.
        with suppress(OSError):
            note.parent.mkdir(parents=True, exist_ok=True)
            with new_file(note, f".{os.getpid()}.partial") as file:
                file.write(json.dumps({**before, "sha256": digest}).encode())
    return digest


def _state(path: Path) -> dict[str, Any]:
    """Return what would be another if the content were."""
    found = path.stat()
    times = {"mtime_ns": found.st_mtime_ns, "ctime_ns": found.st_ctime_ns}
    return {"path": str(path), "size": found.st_size, "inode": found.st_ino, **times}


def joint_digest(folder: Path, names: Iterable[str]) -> str:
    """Return one digest over the names and contents of files in a folder: 40 hexadecimal digits, as a commit has.

    Raises:
        OSError: One cannot be read.
    """
    digests = {name: remembered_sha256(folder / name) for name in names}
    return hashlib.sha256(json.dumps(sorted(digests.items())).encode()).hexdigest()[:40]
