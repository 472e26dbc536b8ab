"""Real photographs and captions for tests: they may not be published, so they lie outside the repository.

`VEHICLE_SEARCH_REAL` names their folder; without it, it is `../shared/real` beside the repository. Tests that need it
are marked and skipped by `@needs_real`. The folder holds `captioned/` (Flickr30k's form) and `imagenet/`.
"""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import pytest

# `tests/conftest.py` hands the variable on under this name: the product complains of VEHICLE_SEARCH_* that it does not
# know.
HANDED_ON = "REAL_PHOTOGRAPHS"
BESIDE = Path(__file__).parents[3] / "shared" / "real"


def real_folder() -> Path | None:
    """Return the folder of real photographs, or None if it is not on this computer."""
    folder = Path(os.environ.get("VEHICLE_SEARCH_REAL") or os.environ.get(HANDED_ON) or BESIDE)
    return folder if folder.is_dir() else None


def needs_real(test):
    """Mark a test as `real`, and skip it where there are no real photographs."""
    skip = pytest.mark.skipif(real_folder() is None, reason="no folder of real photographs (VEHICLE_SEARCH_REAL)")
    return pytest.mark.real(skip(test))


def real_captions() -> list[list[str]]:
    """Return the captions of each captioned photograph, in the order of the file: 152 lists of 5."""
    folder = real_folder()
    assert folder is not None
    path = folder / "captioned" / "flickr_annotations_30k.csv"
    with path.open(encoding="utf-8", newline="") as lines:
        return [json.loads(row["raw"]) for row in csv.DictReader(lines)]


def real_photographs(part: str) -> list[Path]:
    """Return the files of "captioned" or "imagenet" photographs, sorted."""
    folder = real_folder()
    assert folder is not None
    return sorted(path for path in (folder / part).rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
