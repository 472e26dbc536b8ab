"""Read everything of an evaluation set and report every violation of its contract."""

from __future__ import annotations

import argparse
import hashlib
import io
import os
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from mteb_vehicle_search.errors import EvalSetError, first_line
from mteb_vehicle_search.eval_set import EvalSet
from mteb_vehicle_search.eval_set.groups import pool_problem
from mteb_vehicle_search.eval_set.schema import content_id, images_id, is_id, schemas
from mteb_vehicle_search.files import file_sha256
from mteb_vehicle_search.settings import usable_cores
from mteb_vehicle_search.terminal import print_rows, progress_bar


class Violation(NamedTuple):
    """One thing that is wrong, and where (a file or an id)."""

    where: str
    what: str


class Verification(NamedTuple):
    """What `verify` found.

    Attributes:
        violations: Everything that is wrong; empty if the set keeps its contract.
        counts: Rows read by table.
        content_id: The content id computed from the data, or the manifest's if the data could not be read.
    """

    violations: list[Violation]
    counts: dict[str, int]
    content_id: str


def verify(folder: str | os.PathLike[str], progress: bool = True) -> Verification:
    """Read every file of the evaluation set in `folder`, decode every image, and check all ids and counts.

    Raises:
        DataNotFoundError, EvalSetError: The set cannot even be opened.
    """
    eval_set = EvalSet.open(folder)
    found: list[Violation] = []
    found.extend(check_files(eval_set))
    odd = _check_columns(eval_set, found)
    lost = {*odd}
    rows: dict[str, list] = {}
    counts: dict[str, int] = {}
    for table, read in (
        ("corpus", eval_set.corpus_ids),
        ("queries", eval_set.queries),
        ("qrels", eval_set.qrels),
        ("provenance", lambda: eval_set.read("provenance", ["corpus-id"])["corpus-id"].to_pylist()),
        ("rejected", lambda: [tuple(row.values()) for row in eval_set.rejected().to_pylist()]),
    ):
        try:
            read_rows = [] if table in odd else list(read())
        except (EvalSetError, OSError, KeyError, ValueError) as error:
            found.append(Violation(table, f"cannot be read: {first_line(error)}"))
            lost.add(table)
            read_rows = []
        counts[table] = len(read_rows)
        rows[table] = [row for row in read_rows if row is not None and (isinstance(row, str) or None not in row)]
        if empty := len(read_rows) - len(rows[table]):
            found.append(Violation(table, f"rows in which a value is missing: {empty}"))
            lost.add(table)
    _check_ids(rows, lost, found)
    _check_counts(eval_set, counts, lost, found)
    computed = eval_set.content_id
    if not lost & {"corpus", "queries", "qrels"}:
        computed = content_id(rows["corpus"], rows["queries"], rows["qrels"], eval_set.policy, eval_set.pool)
    if computed != eval_set.content_id:
        found.append(Violation("manifest.json", f"content id {eval_set.content_id} but the data gives {computed}"))
    digests = {}
    if "corpus" not in odd:
        searched = _check_images(eval_set, found, progress, counts["corpus"])
        digests |= {} if "corpus" in lost else {"images_id": searched}
    if "provenance" not in lost:
        digests["sources_id"] = eval_set.sources_id
        if eval_set.pool is not None and (wrong := pool_problem(eval_set.provenance(), eval_set.pool)):
            found.append(Violation("provenance", f"the pool does not fit the images: {wrong}"))
    for key, digest in digests.items():
        # Sets of earlier versions do not state them.
        if eval_set.manifest.get(key, digest) != digest:
            what = f"{key} {eval_set.manifest[key]} but the data gives {digest}"
            found.append(Violation("manifest.json", what))
    return Verification(found, counts, computed)


def check_files(eval_set: EvalSet) -> list[Violation]:
    """Return which files are not there as the manifest names them, and which parquet files it does not name."""
    found: list[Violation] = []
    for name, expected in sorted(eval_set.manifest["files"].items()):
        path = eval_set.folder / name
        if not path.is_file():
            found.append(Violation(name, "is missing"))
        elif path.stat().st_size != expected["bytes"]:
            found.append(Violation(name, f"has {path.stat().st_size} bytes instead of {expected['bytes']}"))
        elif file_sha256(path) != expected["sha256"]:
            found.append(Violation(name, "has another sha256 than the manifest says"))
    there = (path.relative_to(eval_set.folder).as_posix() for path in sorted(eval_set.folder.rglob("*.parquet")))
    found.extend(Violation(n, "is not in the manifest") for n in there if n not in eval_set.manifest["files"])
    return found


def _check_columns(eval_set: EvalSet, found: list[Violation]) -> set[str]:
    """Return the parts that have not the columns of their schema, which nobody can read as what they should be."""
    odd = set()
    for table, schema in schemas(arms=eval_set.pool is not None).items():
        for path in eval_set.files(table) or [eval_set.folder / f"{table}.parquet"]:
            try:
                held = pq.read_schema(path)
            except (OSError, pa.ArrowException):
                continue  # Reported when its rows are read.
            for field in schema:
                kind = held.field(field.name).type if field.name in held.names else None
                if kind != field.type:
                    what = "is missing" if kind is None else f"holds {kind} instead of {field.type}"
                    name = path.relative_to(eval_set.folder).as_posix()
                    found.append(Violation(name, f"column {field.name!r} {what}"))
                    odd.add(table)
    return odd


def _check_counts(eval_set: EvalSet, counts: dict[str, int], lost: set[str], found: list[Violation]) -> None:
    expected = eval_set.manifest.get("counts", {})
    for table in ("corpus", "queries", "qrels", "rejected"):
        if table not in lost and expected.get(table) != counts[table]:
            what = f"{table}: says {expected.get(table)} rows, the data has {counts[table]}"
            found.append(Violation("manifest.json", what))
    if "provenance" not in lost:
        sources = dict(Counter(eval_set.sources()))
        if expected.get("sources") != sources:
            found.append(Violation("manifest.json", f"sources: says {expected.get('sources')}, the data has {sources}"))


def _check_ids(rows: dict[str, list], lost: set[str], found: list[Violation]) -> None:
    corpus, queries, qrels = rows["corpus"], rows["queries"], rows["qrels"]
    for table, values in (("corpus", corpus), ("queries", [q.id for q in queries]), ("qrels", [q[:2] for q in qrels])):
        for value, count in Counter(values).items():
            if count > 1:
                found.append(Violation(table, f"id {value!r} stands {count} times"))
        if values != sorted(values):
            found.append(Violation(table, "is not sorted by id"))
        if table not in lost and not values:
            found.append(Violation(table, "has no row"))
        if table != "qrels":
            odd = [value for value in values if not is_id(value)]
            found.extend(Violation(table, f"id {value!r} is empty or has control characters") for value in odd)
    known, asked = set(corpus), {query.id for query in queries}
    for qrel in qrels:
        if "corpus" not in lost and qrel.corpus_id not in known:
            found.append(Violation("qrels", f"{qrel.query_id!r} points to unknown image {qrel.corpus_id!r}"))
        if "queries" not in lost and qrel.query_id not in asked:
            found.append(Violation("qrels", f"unknown query {qrel.query_id!r}"))
        if qrel.score < 1:
            found.append(Violation("qrels", f"{qrel.query_id!r} has score {qrel.score}"))
    if "qrels" not in lost:
        unanswered = sorted(asked - {qrel.query_id for qrel in qrels})
        found.extend(Violation("queries", f"{query_id!r} has no relevant image") for query_id in unanswered)
    found.extend(Violation("queries", f"{query.id!r} is empty") for query in queries if not query.text.strip())
    if not lost & {"corpus", "provenance"} and rows["provenance"] != corpus:
        odd = sorted(set(rows["provenance"]) ^ known)[:3]
        found.append(Violation("provenance", f"its ids are not those of the corpus, in order; differing: {odd}"))


def _jpegs(eval_set: EvalSet, found: list[Violation]) -> Iterator[tuple[str, bytes | None]]:
    for path in eval_set.files("corpus"):
        try:
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches(batch_size=128):
                    data = batch.column("image").field("bytes")
                    yield from zip(batch.column("id").to_pylist(), data.to_pylist())
        except (OSError, pa.ArrowException, KeyError) as error:
            found.append(Violation(path.name, f"images cannot be read: {first_line(error)}"))


def _problem(item: tuple[str, bytes | None], shortest_side_px: int) -> Violation | None:
    corpus_id, jpeg = item
    if not jpeg:
        return Violation(corpus_id, "has no image")
    try:
        with Image.open(io.BytesIO(jpeg)) as image:
            image.load()
            size, mode, form = image.size, image.mode, image.format
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        return Violation(corpus_id, f"does not decode: {error}")
    if form != "JPEG" or mode != "RGB":
        return Violation(corpus_id, f"is {form} {mode} instead of JPEG RGB")
    if min(size) > shortest_side_px:
        return Violation(corpus_id, f"is {size[0]} x {size[1]} px; the short side may have {shortest_side_px}")
    return None


def _check_images(eval_set: EvalSet, found: list[Violation], progress: bool, total: int) -> str:
    """Decode every image; return the `images_id` of what was there."""
    stream = _jpegs(eval_set, found)
    side_px = eval_set.policy.shortest_side_px
    digests: list[tuple[str, str]] = []
    with (
        ThreadPoolExecutor(usable_cores()) as pool,
        progress_bar("verify", total, quiet=not progress) as bar,
    ):
        while items := list(islice(stream, 1024)):
            found.extend(filter(None, pool.map(lambda item: _problem(item, side_px), items)))
            digests.extend((name, hashlib.sha256(jpeg or b"").hexdigest()) for name, jpeg in items)
            bar.update(len(items))
    return images_id(digests)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `vehicle-search-data verify`."""
    parser.add_argument("folder", type=Path)
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def main(args: argparse.Namespace) -> int:
    """Show what a set holds and what is wrong with it; return 1 if anything is."""
    checked = verify(args.folder, progress=not args.quiet)
    print_rows(str(args.folder), ("table", "rows"), list(checked.counts.items()))
    lines = [f"Content id {checked.content_id}", *(f"  {one.where}: {one.what}" for one in checked.violations)]
    lines.append(f"{len(checked.violations)} violations." if checked.violations else "No violation.")
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    return 1 if checked.violations else 0
