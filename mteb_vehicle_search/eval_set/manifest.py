"""The manifest of an evaluation set, read as what a stranger may have written: what is used of it is checked first."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

from mteb_vehicle_search.errors import DataNotFoundError, EvalSetError
from mteb_vehicle_search.eval_set.schema import (
    FORMAT_VERSION,
    ImagePolicy,
    is_content_id,
    is_line,
    is_task_name,
)

BUILD_HINT = (
    "Build it with 'vehicle-search-data build' (needs access to Flickr30k and ImageNet-1k), see\n"
    "'vehicle-search-data build --dry-run' for what that takes; or point VEHICLE_SEARCH_DATA at an existing\n"
    "evaluation set. Without data, 'mteb run -t VehicleImageSearchMini -m vehicle-search/tiny-clip' works now."
)


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the checked `manifest.json` of a folder.

    Raises:
        DataNotFoundError: There is none.
        EvalSetError: It is damaged, of another format version, or a field of it is not what it must be.
    """
    path = folder / "manifest.json"
    if not path.is_file():
        raise DataNotFoundError(f"No evaluation set in {folder} (no manifest.json there).", BUILD_HINT)
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        version = manifest["format_version"]
        if missing := _REQUIRED - set(manifest):
            raise KeyError(*sorted(missing))
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise EvalSetError(f"{path} is not a manifest: {error!r}.", BUILD_HINT) from error
    if type(version) is not int or version != FORMAT_VERSION:
        raise EvalSetError(
            f"{path} has format version {version}; this package reads {FORMAT_VERSION}.",
            "Install the matching version of mteb-vehicle-search, or rebuild the evaluation set.",
        )
    if wrong := manifest_problem(manifest):
        raise EvalSetError(f"{path} is not a manifest: {wrong}.", BUILD_HINT)
    return manifest


def manifest_problem(manifest: dict[str, Any]) -> str | None:
    """Return what is wrong with the first field that is not what it must be; None if there is none."""
    for key, (holds, what) in _FIELDS.items():
        if key in manifest and not holds(manifest[key]):
            return f"{key!r} is {repr(manifest[key])[:80]}, not {what}"
    return None


def _is_name(value: Any) -> bool:
    """Tell whether it is a name that leads out of no folder."""
    return is_line(value) and value.strip(". ") != "" and not re.search(r"[/\\]", value)


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _are_counts(value: Any) -> bool:
    keys = {"corpus", "queries", "qrels", "rejected", "sources"}
    return isinstance(value, dict) and all(
        _all(value.get(key), _is_count) if key == "sources" else _is_count(value.get(key)) for key in keys
    )


def _is_policy(value: Any) -> bool:
    kinds = {field.name: type(field.default) for field in fields(ImagePolicy)}
    return isinstance(value, dict) and all(
        key in kinds and type(held) is kinds[key] and (is_line(held) if kinds[key] is str else held > 0)
        for key, held in value.items()
    )


def _are_files(value: Any) -> bool:
    """Tell whether all names are relative and stay inside the folder, on every system."""
    return _all(value, _is_file) and all(
        is_line(name) and not re.search(r"[\\:]", name) and all(part.strip(". ") for part in name.split("/"))
        for name in value
    )


def _is_file(value: Any) -> bool:
    return isinstance(value, dict) and _is_count(value.get("bytes")) and is_content_id(value.get("sha256"))


def _is_preset(value: Any) -> bool:
    rule = value.get("duplicates", {}) if isinstance(value, dict) else None
    distance = rule.get("max_distance", 0) if isinstance(rule, dict) else None
    return distance == -1 or _is_count(distance)


def _is_source(value: Any) -> bool:
    if not isinstance(value, dict) or not isinstance(value.get("cite", []), list):
        return False
    texts = [value.get("terms", ""), value.get("bibtex", ""), *value.get("cite", [])]
    return all(isinstance(text, str) for text in texts)


def _is_pool(value: Any) -> bool:
    """Tell whether it says how many images are near and far, and by which miners they are told."""
    counts, facts = ("images", "near", "far", "near_each"), ("library", "model", "revision", "family")
    if not isinstance(value, dict) or not all(_is_count(value.get(key)) for key in counts):
        return False
    miners = value.get("miners")
    return (
        value["images"] == value["near"] + value["far"]
        and is_line(value.get("seed"))
        and bool(miners)
        and _all(miners, lambda one: isinstance(one, dict) and all(is_line(one.get(key)) for key in facts))
    )


def _is_origin(value: Any) -> bool:
    """Tell whether it says which set was amended, by which judgments of whom."""
    if not isinstance(value, dict) or not isinstance(value.get("judges"), list):
        return False
    digests = all(is_content_id(value.get(key)) for key in ("content_id", "judgments"))
    return digests and all(map(is_line, value["judges"])) and _is_count(value.get("added"))


def _all(value: Any, holds: Callable[[Any], bool]) -> bool:
    return isinstance(value, dict) and all(map(holds, value.values()))


_REQUIRED = {"content_id", "name", "files", "policy", "counts"}
_DIGEST = (is_content_id, "64 lower-case hexadecimal digits")
_FIELDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "content_id": _DIGEST,
    "bytes_id": _DIGEST,
    "images_id": _DIGEST,
    "sources_id": _DIGEST,
    "name": (_is_name, "a name without path separators"),
    "title": (is_line, "a line of text"),
    "task_name": (
        lambda value: value == "" or is_task_name(value),
        "a capital and then letters and digits",
    ),
    "policy": (_is_policy, f"an image policy ({', '.join(field.name for field in fields(ImagePolicy))})"),
    "counts": (_are_counts, "the rows of each table"),
    "files": (_are_files, "the size and sha256 of files in this folder"),
    "preset": (_is_preset, "a preset"),
    "notes": (lambda value: isinstance(value, dict), "notes by their names"),
    "pool": (_is_pool, "near and far images (together images), near_each, seed, and miners"),
    "amended_from": (_is_origin, "content_id and judgments (digests), judges, and how many were added"),
    "sources": (lambda value: _all(value, _is_source), "what is known of each source"),
}
