"""`vehicle-search-data recipe`: the recipe of a finished set."""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from data_prep.recipes import RECIPE_VERSION
from mteb_vehicle_search.errors import BuildError
from mteb_vehicle_search.eval_set import EvalSet
from mteb_vehicle_search.files import new_file
from mteb_vehicle_search.terminal import in_bytes

_JSON = json.JSONEncoder(ensure_ascii=True, allow_nan=False, sort_keys=True, separators=(",", ":"))


def write_recipe(eval_set: EvalSet, out: Path) -> None:
    """Write the recipe of a set to a file; packed if its name ends in `.gz`. The same set gives the same bytes.

    Raises:
        BuildError: As by `require_recipe`.
        EvalSetError: It is damaged.
    """
    require_recipe(eval_set)
    eval_set.require_content()
    out.parent.mkdir(parents=True, exist_ok=True)
    with new_file(out) as file, _packed(file, out.suffix.lower() == ".gz") as target:
        for line in _lines(eval_set):
            target.write(line.encode("ascii"))


def require_recipe(eval_set: EvalSet) -> None:
    """Make sure that a set can have a recipe.

    Raises:
        BuildError: It does not say what it was made of, is a sample of a pool, or was amended.
    """
    if origin := eval_set.manifest.get("amended_from"):
        raise BuildError(
            f"{eval_set.folder} has no recipe: people's judgments amended it, and a recipe does not hold them.",
            f"Share the recipe of the set with content id {origin['content_id'][:12]} and its judgments: "
            "'vehicle-search-data amend' makes the same set of them.",
        )
    if not eval_set.manifest.get("preset"):
        raise BuildError(
            f"{eval_set.folder} has no recipe: its manifest does not say what it was made of.",
            "Only a set that 'vehicle-search-data build' made can be rebuilt from a recipe.",
        )
    if eval_set.pool is not None:
        raise BuildError(
            f"{eval_set.folder} has no recipe: it is a sample of a pool, and a recipe does not hold its probabilities.",
            "Share its preset: the same sources give the same sample.",
        )


@contextmanager
def _packed(file: IO[bytes], packed: bool) -> Iterator[IO[bytes]]:
    if not packed:
        yield file
        return
    # Neither name nor time: the same recipe has the same bytes.
    with gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as target, io.BufferedWriter(target) as buffered:
        yield buffered


def _lines(eval_set: EvalSet) -> Iterator[str]:
    """Yield the JSON document in pieces: first what is short, then the tables, each row on a line of its own."""
    content = {**_head(eval_set), **_tables(eval_set)}
    for number, (key, value) in enumerate(content.items()):
        yield f"{',' if number else '{'}\n{_JSON.encode(key)}:"
        if isinstance(value, (dict, str, int)):
            yield _JSON.encode(value)
            continue
        first = True
        for row in value:
            yield f"{'[' if first else ','}\n{_JSON.encode(row)}"
            first = False
        yield "[]" if first else "\n]"
    yield "\n}\n"


def _head(eval_set: EvalSet) -> dict[str, Any]:
    manifest = eval_set.manifest
    digests = {key: manifest[key] for key in ("images_id",) if key in manifest}
    return {
        "recipe_version": RECIPE_VERSION,
        "name": eval_set.name,
        "title": eval_set.title,
        "task_name": eval_set.task_name,
        "content_id": eval_set.content_id,
        "sources_id": eval_set.sources_id,
        **digests,
        "policy": eval_set.policy.as_json(),
        "preset": manifest["preset"],
        "sources": manifest.get("sources", {}),
    }


def _tables(eval_set: EvalSet) -> dict[str, Iterable[list[Any]]]:
    table = eval_set.provenance()

    def columns(*names: str) -> Iterator[tuple]:
        return zip(*(table[name].to_pylist() for name in names))

    def images(wanted: bool) -> Iterator[list[Any]]:
        for captioned, score, *facts in columns("captioned", "vehicle_score", "corpus-id", "sha256", "width", "height"):
            if captioned is wanted:
                yield [*facts, _shortest(score)] if wanted else facts

    classes = columns("class_index", "wnid", "class_name")
    return {
        "captioned": images(True),
        "distractors": images(False),
        "classes": [list(row) for row in sorted({row for row in classes if row[0] >= 0})],
        "queries": ([query.id, hashlib.sha256(query.text.encode()).hexdigest()] for query in eval_set.queries()),
        "qrels": (list(qrel) for qrel in eval_set.qrels()),
    }


def _shortest(score: float | None) -> float | None:
    """Return the shortest number that is the same in single precision, as the provenance stores it."""
    import numpy as np

    return None if score is None else float(str(np.float32(score)))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `vehicle-search-data recipe`."""
    parser.add_argument("folder", type=Path, metavar="SET", help="folder of a finished set")
    parser.add_argument("out", type=Path, metavar="OUT", help="file to write; packed if its name ends in .json.gz")


def main(args: argparse.Namespace) -> int:
    """Write the recipe, and say how large it is and what it is good for; return the exit status."""
    out: Path = args.out.expanduser()
    if not out.name.lower().endswith((".json", ".json.gz")):
        raise BuildError(f"{out} is no name of a recipe.", "Let it end in .json, or in .json.gz to have it packed.")
    eval_set = EvalSet.open(args.folder)
    write_recipe(eval_set, out)
    sys.stdout.write(
        f"Recipe of {eval_set.title} with content id {eval_set.content_id}\n"
        f"{out}: {in_bytes(out.stat().st_size)}; it holds names and digests, no image and no caption\n"
        f"Rebuild it elsewhere: vehicle-search-data build --recipe {out.name}\n"
    )
    return 0
