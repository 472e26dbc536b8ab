"""Small archives for remote places, and waits that are written down instead of waited."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile

import pytest

from mteb_vehicle_search.remote import patience

SIZES = {"a/0.jpg": 70_000, "a/1.jpg": 3, "a/2.jpg": 150_000, "b/0.jpg": 90_000, "b/deep/1.jpg": 20_000, "c.txt": 12}
# A member of a class, among many of others: neither neighbours nor near an end.
FILES = {name: bytes((place * 7 + at) % 251 for at in range(size)) for place, (name, size) in enumerate(SIZES.items())}


def zip_of(files: dict[str, bytes]) -> bytes:
    """A zip of files, not packed, as images are."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()


def tar_of(files: dict[str, bytes]) -> bytes:
    """A tar of files."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return out.getvalue()


def tar_gz_of(files: dict[str, bytes]) -> bytes:
    """The same, packed."""
    return gzip.compress(tar_of(files), mtime=0)


def without_waiting(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Let no attempt wait; return the list of the waits that would have been."""
    waits: list[float] = []
    monkeypatch.setattr(patience, "_wait", lambda seconds, what, stop: waits.append(seconds))
    return waits
