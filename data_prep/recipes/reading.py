"""A recipe read as what a stranger may have written: everything of it is checked first."""

from __future__ import annotations

import gzip
import io
import json
import math
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from data_prep.class_set import ClassSet, ImageClass
from data_prep.preset import check_preset
from data_prep.recipes import RECIPE_VERSION, Recipe, RecipeImage, RecipePreset
from data_prep.sources.imagenet.classes import wnids
from data_prep.storage.opening import open_tree
from data_prep.toml_schema import parse
from mteb_vehicle_search.addresses import is_url
from mteb_vehicle_search.errors import BuildError
from mteb_vehicle_search.eval_set.manifest import manifest_problem
from mteb_vehicle_search.eval_set.schema import ImagePolicy, Qrel, images_id, is_content_id, is_id, is_line

MAX_BYTES = 128 << 20  # Of a recipe, unpacked: of a million images.


def load_recipe(where: str) -> Recipe:
    """Return the recipe at a path or an address (https://, s3://, gs://, hf://), packed by gzip or not.

    Raises:
        SourceError: It cannot be read there.
        BuildError: It is no recipe, is of another version, or holds what cannot be; says which key.
    """
    data, shown = _read(where)
    try:
        content = json.loads(data.decode("utf-8"), parse_constant=_refuse, object_pairs_hook=_once)
        version = content["recipe_version"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        reason = "it has no 'recipe_version'" if isinstance(error, (KeyError, TypeError)) else error
        raise BuildError(f"{shown} is not a recipe: {reason}.", "'vehicle-search-data recipe' writes one.") from error
    if type(version) is not int or version != RECIPE_VERSION:
        raise BuildError(
            f"{shown} is a recipe of version {version!r}; this package reads {RECIPE_VERSION}.",
            "Install the matching version of mteb-vehicle-search.",
        )
    if problem := _problem(content):
        raise BuildError(f"{shown} is not a sound recipe: {problem}.", "Ask whoever gave it for another copy.")
    return _recipe(content, shown)


def _read(where: str) -> tuple[bytes, str]:
    """Return the bytes of a recipe, unpacked, and where it lies, for people."""
    if not is_url(where) and not Path(where).expanduser().is_file():
        raise BuildError(f"There is no recipe {where}.", "Give a file or an address that ends in .json or .json.gz.")
    tree, name = open_tree(where)
    if not name:
        raise BuildError(f"{tree.where} is a folder, not a recipe.", "Name the file: it ends in .json or .json.gz.")
    shown, entry = tree.path(name), tree.entry(name)
    size = entry.size_bytes if entry else 0
    with tree.open(name, [(0, max(0, size))]) as file:
        data = file.read(MAX_BYTES + 1)
    try:
        if data[:2] == b"\x1f\x8b":
            with gzip.GzipFile(fileobj=io.BytesIO(data)) as packed:
                data = packed.read(MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise BuildError(f"{shown} cannot be unpacked: {error}.", "Get it again: it is damaged.") from error
    if len(data) > MAX_BYTES:
        raise BuildError(f"{shown} is not a recipe: it has more than {MAX_BYTES:,} bytes.")
    return data, shown


def _refuse(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(name for name in names if names.count(name) > 1)!r} stands twice")
    return found


class _Column(NamedTuple):
    """A column of a table: its name, and what a value of it must be."""

    name: str
    holds: Callable[[Any], bool]


def _is_size(value: Any) -> bool:
    return type(value) is int and value > 0


def _is_score(value: Any) -> bool:
    return value is None or (type(value) in (int, float) and math.isfinite(value))


def _is_index(value: Any) -> bool:
    return type(value) is int and 0 <= value < len(wnids())


_DIGEST = _Column("sha256", is_content_id)
_IMAGE = (_Column("id", is_id), _DIGEST, _Column("width", _is_size), _Column("height", _is_size))
# Sorted by as many of the first columns as the number says, which are the same in no two rows.
_TABLES: dict[str, tuple[int, tuple[_Column, ...]]] = {
    "captioned": (1, (*_IMAGE, _Column("score", _is_score))),
    "distractors": (1, _IMAGE),
    "classes": (1, (_Column("index", _is_index), _Column("wnid", is_line), _Column("name", is_line))),
    "queries": (1, (_Column("id", is_id), _DIGEST)),
    "qrels": (2, (_Column("query id", is_id), _Column("corpus id", is_id), _Column("score", _is_size))),
}
_HEAD = {"recipe_version", "name", "title", "task_name", "content_id", "sources_id", "policy", "preset", "sources"}
_OPTIONAL = {"images_id"}


def _problem(content: dict[str, Any]) -> str | None:
    """Return what is wrong with a recipe; None if nothing is that can be seen without its preset."""
    known = _HEAD | _OPTIONAL | set(_TABLES)
    if unknown := sorted(set(content) - known):
        return f"unknown key {unknown[0]!r}"
    if missing := sorted(known - _OPTIONAL - set(content)):
        return f"{missing[0]!r} is missing"
    if wrong := manifest_problem(content):
        return wrong
    for name, (keys, columns) in _TABLES.items():
        if wrong := _table_problem(name, content[name], keys, columns):
            return wrong
    captioned, distractors = ({row[0] for row in content[name]} for name in ("captioned", "distractors"))
    if both := captioned & distractors:
        return f"{min(both)!r} stands in 'captioned' and in 'distractors'"
    if odd := [row for row in content["classes"] if wnids()[row[0]] != row[1]]:
        return f"class {odd[0][0]} of ImageNet-1k is {wnids()[odd[0][0]]}, not {odd[0][1]} as in 'classes'"
    queries, answered = {row[0] for row in content["queries"]}, set()
    for query_id, corpus_id, _ in content["qrels"]:
        if query_id not in queries or corpus_id not in captioned:
            return f"'qrels' has {query_id!r} -> {corpus_id!r}, which is no query or no captioned image of it"
        answered.add(query_id)
    if unanswered := queries - answered:
        return f"the query {min(unanswered)!r} has no answer in 'qrels'"
    digest = images_id(sorted((row[0], row[1]) for name in ("captioned", "distractors") for row in content[name]))
    if digest != content["sources_id"]:
        return f"'sources_id' is {content['sources_id']}, but its images give {digest}"
    return None


def _table_problem(name: str, rows: Any, keys: int, columns: tuple[_Column, ...]) -> str | None:
    if not isinstance(rows, list):
        return f"{name!r} is not a list of rows"
    before: list[Any] = []
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, list) or len(row) != len(columns):
            return f"row {number} of {name!r} is {repr(row)[:80]}, not [{', '.join(c.name for c in columns)}]"
        for column, value in zip(columns, row):
            if not column.holds(value):
                return f"row {number} of {name!r} has the {column.name} {repr(value)[:80]}"
        if before and row[:keys] <= before:
            return f"row {number} of {name!r} stands twice or not in order: {', '.join(map(repr, row[:keys]))}"
        before = row[:keys]
    if not rows and name not in ("classes", "distractors"):
        return f"{name!r} is empty"
    return None


def _recipe(content: dict[str, Any], shown: str) -> Recipe:
    plain = ("name", "title", "task_name", "content_id", "sources_id", "sources")
    captioned, distractors = (
        {row[0]: RecipeImage(*row[1:]) for row in content[name]} for name in ("captioned", "distractors")
    )
    return Recipe(
        where=shown,
        **{key: content[key] for key in plain},
        images_id=content.get("images_id", ""),
        policy=ImagePolicy(**content["policy"]),
        preset=_preset(content, shown),
        captioned=captioned,
        distractors=distractors,
        queries=dict(content["queries"]),
        qrels=frozenset(Qrel(*row) for row in content["qrels"]),
    )


def _preset(content: dict[str, Any], shown: str) -> RecipePreset:
    """Return the checked preset of a recipe, but for what the recipe says itself.

    Raises:
        BuildError: A key is unknown, missing or of another type, or it is not the preset of that set.
    """
    # The recipe's lists take the place of a classifier and its rule, whose files may be nowhere but there, and of the
    # removal of near duplicates, which another version of Pillow may see otherwise.
    said = {key: value for key, value in content["preset"].items() if key not in ("classifier", "selection")}
    # So do they of miners that captioned images were clustered by.
    wanted = said.get("distractors")
    if isinstance(wanted, dict) and wanted.get("method", "class") == "class":
        said.pop("miners", None)
    preset = parse(RecipePreset, _without_none(said), Path(shown), "preset")
    if name := preset.distractors.classes:
        classes = tuple(ImageClass(*row, roots="") for row in content["classes"])
        preset = replace(preset, classes=ClassSet(Path(name).stem, classes))
    preset = replace(preset, duplicates=replace(preset.duplicates, policy="report"))
    check_preset(preset, Path(shown))
    ours = {"name": preset.name, "title": preset.title, "task_name": preset.task, "policy": preset.images.as_json()}
    for key, value in ours.items():
        if content[key] != value:
            raise BuildError(f"{shown} is not a sound recipe: {key!r} is {content[key]!r}, but {value!r} in 'preset'.")
    return preset


def _without_none(value: Any) -> Any:
    """Return JSON without what is said to be nothing, which TOML, and so a preset, leaves out."""
    if not isinstance(value, dict):
        return value
    return {key: _without_none(inner) for key, inner in value.items() if inner is not None}
