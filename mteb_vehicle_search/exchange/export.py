"""`vehicle-search export`: a run for other programs, exactly as far as its record tells it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from mteb_vehicle_search.analysis.names import MODEL_HELP
from mteb_vehicle_search.analysis.ranks import RunRanks, load_ranks
from mteb_vehicle_search.analysis.selection import add_selection_arguments, choose_runs
from mteb_vehicle_search.errors import ResultsError, UsageError
from mteb_vehicle_search.files import new_file
from mteb_vehicle_search.run_record import TOP
from mteb_vehicle_search.terminal import say

FORMATS = ("trec", "parquet")
WARNING = (
    f"Scores as far as rank {TOP} are exact in every program. Beyond, programs that go by order alone (trec_eval, "
    f"ir_measures) take a relevant image of rank 500 for one of rank {TOP + 1}: ask them for no deeper score, or "
    "export with --top-only. 'vehicle-search import' reads the ranks, and knows them all."
)


class Place(NamedTuple):
    """An image in the ranking of a query; `grade` says how relevant it is, 0 not at all."""

    query_id: str
    image_id: str
    rank: int
    score: float
    grade: int


def places(run: RunRanks, *, top_only: bool = False) -> Iterator[Place]:
    """Yield the best images of each query, and the relevant ones at their ranks, in that order.

    Scores fall strictly, so that every program orders as we do. Of a run that was imported and is cut off, relevant
    images beyond are not there.

    Raises:
        ResultsError: The record is damaged.
    """
    table = run.record.queries().sort_by([("query_id", "ascending"), ("relevant_id", "ascending")])
    if missing := {"score", "top_scores"} - set(table.column_names):
        raise ResultsError(f"{run.record.folder} has no column {', '.join(sorted(missing))}.", "Run the model again.")
    for _, rows in groupby(_rows(table), key=lambda row: row["query_id"]):
        yield from _of_query(list(rows), top_only)


def _rows(table: pa.Table) -> Iterator[dict[str, Any]]:
    wanted = ["query_id", "relevant_id", "rank", "score", "top_ids", "top_scores"]
    for batch in table.select([*wanted, *(["grade"] if "grade" in table.column_names else [])]).to_batches():
        yield from batch.to_pylist()


def _of_query(rows: list[dict[str, Any]], top_only: bool) -> Iterator[Place]:
    query = rows[0]["query_id"]
    relevant = {row["relevant_id"]: row for row in rows}
    grades = {image: row.get("grade", 1) for image, row in relevant.items()}
    last = np.float32(np.inf)
    listed = list(zip(rows[0]["top_ids"], rows[0]["top_scores"], range(1, TOP + 1)))
    if not top_only:
        top = {*rows[0]["top_ids"]}
        further = [row for image, row in relevant.items() if image not in top and row["rank"] is not None]
        listed += [
            (row["relevant_id"], row["score"], row["rank"]) for row in sorted(further, key=lambda row: row["rank"])
        ]
    for image, score, rank in listed:
        last = min(np.float32(score), np.nextafter(last, np.float32(-np.inf)))
        yield Place(query, image, rank, float(last), grades.get(image, 0))


def write_trec(path: Path, found: Iterator[Place], tag: str) -> None:
    """Write a run in TREC's form.

    Raises:
        ResultsError: An id holds a blank, which ends a word there.
        OSError: It cannot be written.
    """
    with new_file(path) as file:
        for one in found:
            words = (one.query_id, "Q0", one.image_id, str(one.rank), str(np.float32(one.score)), tag)
            if any(len(word.split()) != 1 for word in words):
                raise ResultsError(
                    f"{one.query_id!r} with {one.image_id!r} cannot be written: ids hold blanks.", "Use parquet."
                )
            file.write(f"{' '.join(words)}\n".encode())


def write_parquet(path: Path, found: Iterator[Place], run: RunRanks) -> None:
    """Write a table of query_id, image_id, rank (int32), score (float32) and grade (int32, 0: not relevant).

    Raises:
        OSError: It cannot be written.
    """
    import pyarrow.parquet as pq

    columns = zip(*found)
    types = (pa.string(), pa.string(), pa.int32(), pa.float32(), pa.int32())
    arrays = [pa.array(column, kind) for column, kind in zip(columns, types)]
    about = {key: str(value) for key, value in run.about.items() if value is not None}
    with new_file(path) as file:
        pq.write_table(
            pa.table(arrays, names=list(Place._fields)).replace_schema_metadata(about), file, compression="zstd"
        )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `vehicle-search export`."""
    parser.description = (
        f"Write the best {TOP} images of every query of a run, and the relevant images at their ranks: what its record "
        "holds. " + WARNING
    )
    parser.add_argument("run", metavar="RUN", help=MODEL_HELP)
    parser.add_argument("--format", choices=FORMATS, default="trec", help="(default: trec)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="(default: the model's name with .trec or .parquet)")
    parser.add_argument("--top-only", action="store_true", help=f"without relevant images beyond rank {TOP}")
    add_selection_arguments(parser)


def main(args: argparse.Namespace) -> int:
    """Write a run; return the exit code."""
    (record,) = choose_runs([args.run], args.runs, content_id=args.content_id, task=args.task)
    run = load_ranks(record)
    name = record.key.model.replace("/", "__")
    out = args.out or Path(f"{name}.{args.format}")
    if args.out is None and out.exists():
        raise UsageError(f"{out} exists already.", "Name another file with --out.")
    found = places(run, top_only=args.top_only)
    try:
        if args.format == "trec":
            write_trec(out, found, "_".join(name.split()))
        else:
            write_parquet(out, found, run)
    except OSError as error:
        raise ResultsError(f"{out} cannot be written: {error.strerror or error}.") from error
    if args.format == "trec" and not args.top_only:
        say(WARNING)
    sys.stdout.write(f"{out.absolute()}\n")
    return 0
