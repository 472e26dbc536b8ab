"""Which captioned images are kept, and how that compares with the published selection."""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from data_prep.preset import Selection
from mteb_vehicle_search.errors import BuildError, SourceError
from mteb_vehicle_search.eval_set import file_sha256
from mteb_vehicle_search.files import write_whole

PUBLISHED_REPOSITORY = "lukemerrick/vehicle-image-search-eval"
PUBLISHED_COMMIT = "5320e45153c783bbae0e810a553ed379ae5f45ff"
PUBLISHED_URL = (
    f"https://raw.githubusercontent.com/{PUBLISHED_REPOSITORY}/{PUBLISHED_COMMIT}/vehicle_image_search/qrels.csv"
)
PUBLISHED_SHA256 = "f4e4c1d3122ac1894b5a2b4a8b3eb0c99ec455f1834dbcd53e24452867dc8c59"
PUBLISHED_BYTES = 413_446


def select(scores: Iterable[tuple[str, float]], rule: Selection) -> dict[str, float]:
    """Return the kept ids with their scores, sorted by id.

    Scores equal at a share's border are decided by id.
    """
    ranked = sorted(scores, key=lambda item: (-item[1], item[0]))
    if rule.threshold is not None:
        kept = [item for item in ranked if item[1] > rule.threshold]
    else:
        kept = ranked[: round((rule.share or 0) * len(ranked))]
    return dict(sorted(kept))


def selection_digest(ids: Iterable[str]) -> str:
    """Return the sha256 of the file names `<stem>.jpg`, sorted bytewise, one per line."""
    names = sorted(f"{identifier.rpartition('/')[2]}.jpg".encode() for identifier in ids)
    return hashlib.sha256(b"".join(name + b"\n" for name in names)).hexdigest()


def published_file(folder: Path) -> Path:
    """Return the published list, downloaded into `folder` once and checked."""
    import urllib.request  # Imports an HTTP stack.

    path = folder / "published.csv"
    if path.is_file() and file_sha256(path) == PUBLISHED_SHA256:
        return path
    try:
        with urllib.request.urlopen(PUBLISHED_URL, timeout=60) as response:
            content = response.read(PUBLISHED_BYTES + 1)
    except OSError as error:
        raise SourceError(
            f"The published selection cannot be downloaded from {PUBLISHED_URL}: {error}.",
            "Check the connection and try again, or download it by hand and name the file: --selection FILE.",
        ) from error
    found = hashlib.sha256(content).hexdigest()
    if found != PUBLISHED_SHA256:
        raise SourceError(f"{PUBLISHED_URL} has sha256 {found} instead of {PUBLISHED_SHA256}; it is not used.")
    write_whole(path, content)
    return path


def read_selection(path: Path, source: str) -> set[str]:
    """Return the ids of the images that a list names: a qrels CSV (`document_id`) or one file name per line.

    Raises:
        BuildError: The file is missing or names nothing.
    """
    if not path.is_file():
        raise BuildError(f"There is no selection {path}.", "Give --selection published, or a file.")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise BuildError(
            f"{path} is not a list of file names: {error.reason} at byte {error.start:,}.",
            "Expected one name such as 1000092795.jpg per line, or a CSV with the column document_id.",
        ) from error
    if lines and "document_id" in lines[0].split(","):
        names = {row["document_id"] for row in csv.DictReader(lines)}
    else:
        names = {line.strip() for line in lines if line.strip()}
    if odd := sorted(name for name in names if not re.fullmatch(r"[\w.-]+", name)):
        raise BuildError(
            f"{path}: {odd[0]!r} is not a file name.", "Expected one name such as 1000092795.jpg per line."
        )
    if not names:
        raise BuildError(f"{path} names no image.")
    return {f"{source}/{re.sub(r'[.]jpe?g$', '', name)}" for name in names}


def compare(
    kept: Iterable[str], expected_count: int | None, expected_sha256: str | None, published: set[str] | None
) -> dict[str, Any]:
    """Say how a selection compares with the published one, as JSON for the manifest.

    Args:
        kept: Ids of the kept images.
        expected_count: How many the published selection has, if known.
        expected_sha256: Its `selection_digest`, if known.
        published: Its ids, if the list is at hand; then missing and extra ones are named.
    """
    kept = set(kept)
    digest = selection_digest(kept)
    found: dict[str, Any] = {"count": len(kept), "sha256": digest}
    if expected_sha256:
        found |= {
            "expected_count": expected_count,
            "expected_sha256": expected_sha256,
            "same": digest == expected_sha256,
        }
    if published is not None:
        found |= {"missing": sorted(published - kept), "extra": sorted(kept - published)}
    return found


def describe(compared: dict[str, Any]) -> list[str]:
    """Say in words what `compare` found."""
    lines = [f"Selection: {compared['count']} images, sha256 {compared['sha256'][:16]}..."]
    if "same" in compared:
        verdict = "the same as the published one" if compared["same"] else "NOT the published one"
        count = compared["expected_count"]
        lines.append(f"  It is {verdict} ({count} images, sha256 {compared['expected_sha256'][:16]}...).")
    for key in ("missing", "extra"):
        if names := compared.get(key):
            lines.append(f"  {len(names)} {key}, first {', '.join(names[:5])}")
    return lines
