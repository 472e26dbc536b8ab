"""The leaderboard: one table for each task and evaluation set, ranks only where a paired test separates models."""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mteb_vehicle_search.analysis import formats
from mteb_vehicle_search.analysis.columns import Entry, Row, violations
from mteb_vehicle_search.analysis.ranks import RunRanks, load_ranks
from mteb_vehicle_search.analysis.runs import RESULTS, RUNS_HELP, Found, Result, Skipped, find_results, record_key
from mteb_vehicle_search.analysis.uncertainty import cluster_sums, holm, sign_flip_p_values
from mteb_vehicle_search.errors import ResultsError
from mteb_vehicle_search.files import new_file
from mteb_vehicle_search.metrics import scored
from mteb_vehicle_search.run_record import RunRecord
from mteb_vehicle_search.settings import runs_folder

SCHEMA_VERSION = 1
SIGNIFICANCE = 0.05


class Leaderboard(NamedTuple):
    """The leaderboard and what was left out of it."""

    document: dict[str, Any]  # JSON content; `columns.py` says what is in it
    skipped: list[Skipped]
    entries: dict[tuple[str, str], list[Entry]]  # by (task, content id), of the table's rows, in their order


def sortable() -> tuple[str, ...]:
    """Return the scores that rows can be sorted by."""
    return (*scored(), "median_rank")


def build_leaderboard(
    results: list[Path] | None = None, *, runs: Path | None = None, task: str | None = None, sort: str = "ndcg_at_10"
) -> Leaderboard:
    """Read results, only those of `task` if given, and return the leaderboard, best first by the score `sort`.

    Args:
        results: Result files or folders (run records in them count too). If None: the folder `results` of the working
            directory if there is one, and all run records.
        runs: Folder of run records; the default one if None. With `results` given, its records only add to those
            results (rank groups, rates); they do not make rows of their own.

    Raises:
        ResultsError: Nothing usable is left; says what was skipped.
    """
    if sort not in sortable():
        raise ResultsError(f"There is no score {sort!r} to sort by.", f"Choose one of {', '.join(sortable())}.")
    places = results if results is not None else [RESULTS] if RESULTS.is_dir() else []
    found = find_results(places, task)
    root = runs or runs_folder()
    known = find_results([root], task) if root.is_dir() else Found()
    pairs = pair_with_records(found, known, results is None)
    skipped = found.skipped + known.skipped
    tables: dict[tuple[str, str], list[Entry]] = {}
    for result, records in pairs:
        entry = Entry(result, first_usable(result, records, skipped))
        if entry.result or entry.ranks:
            tables.setdefault(entry.key, []).append(entry)
    reported = reported_rows(found.reported + known.reported)
    if not tables and not reported:
        lines = [f"{one.path}: {one.reason}" for one in skipped]
        where = ", ".join(map(str, [*places, root]))
        raise ResultsError(
            "\n".join([f"There are no usable results in {where}.", *lines]),
            "Run a model first: mteb run -t VehicleImageSearchMini -m vehicle-search/tiny-clip",
        )
    entries = {key: _ranked(tables[key], sort) for key in sorted(tables)}
    document = {
        "schema_version": SCHEMA_VERSION,
        "sorted_by": sort,
        "tables": [_table(task, content_id, rows) for (task, content_id), rows in entries.items()],
        "reported": reported,
    }
    return Leaderboard(document, skipped, entries)


def _ranked(entries: list[Entry], sort: str) -> list[Entry]:
    ranks = rank_groups({at: entry.ranks for at, entry in enumerate(entries) if entry.ranks}, sort)
    ranked = [replace(entry, rank=ranks.get(at)) for at, entry in enumerate(entries)]
    return sorted(ranked, key=lambda entry: _order(entry.row, sort))


def _order(row: Row, sort: str) -> tuple:
    value = row[sort]
    best_first = float("inf") if value is None else value if sort == "median_rank" else -value
    return (best_first, row["model"], row["revision"])


def _table(task: str, content_id: str, entries: list[Entry]) -> dict[str, Any]:
    # The run that comes first by its name says how large the set is.
    ranked = [entry for entry in entries if entry.ranks]
    info = min(ranked, key=lambda entry: (entry.row["model"], entry.row["revision"]), default=entries[0]).info
    return {
        "task": task,
        "content_id": content_id,
        "corpus_size": info.get("corpus_size"),
        "query_count": info.get("query_count"),
        "sources": {name: entry["images"] for name, entry in sorted(info.get("sources", {}).items())} or None,
        "rows": [entry.row for entry in entries],
    }


def rank_groups(runs: dict[int, RunRanks], metric: str = "ndcg_at_10") -> dict[int, int]:
    """Return the rank of each run: 1 + the number of runs that are better by a paired test.

    All pairs are tested by sign flips of images at once, the p-values adjusted by Holm's method; runs that no test
    separates share a rank. For `median_rank` the tested quantity is the mean reciprocal of the rank, cut at 10. The
    runs, by any key, are on one evaluation set; those with other queries than the first get no rank.
    """
    if not runs:
        return {}
    metric = "mrr_at_10" if metric == "median_rank" else metric
    first = next(iter(runs.values()))
    keys = [key for key, run in runs.items() if run.asks_the_same(first)]
    scores = np.stack([runs[key].scores(metric) for key in keys], axis=1)
    means = scores.mean(axis=0)
    pairs = list(combinations(range(len(keys)), 2))
    better_by = [0] * len(keys)
    if pairs:
        sums = cluster_sums(scores, first.clusters).sums
        differences = np.stack([sums[:, i] - sums[:, j] for i, j in pairs], axis=1)
        differences[np.abs(differences) < 1e-12] = 0.0
        adjusted = holm(sign_flip_p_values(differences))
        for (i, j), p in zip(pairs, adjusted):
            if p < SIGNIFICANCE:
                better_by[j if means[i] > means[j] else i] += 1
    return {key: 1 + better for key, better in zip(keys, better_by)}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `vehicle-search leaderboard`."""
    parser.add_argument(
        "results",
        nargs="*",
        type=Path,
        metavar="RESULTS",
        help="result files or folders (default: ./results, and all run records)",
    )
    parser.add_argument("--task", help="only this task")
    parser.add_argument("--sort", default="ndcg_at_10", choices=sortable(), help="(default: ndcg_at_10)")
    parser.add_argument("--format", choices=("table", "markdown", "json", "csv"), default="table")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write to this file instead of the terminal")
    parser.add_argument("--runs", type=Path, metavar="FOLDER", help=RUNS_HELP)


def main(args: argparse.Namespace) -> int:
    """Print or write the leaderboard; return the exit code."""
    board = build_leaderboard(args.results or None, runs=args.runs, task=args.task, sort=args.sort)
    for one in board.skipped:
        sys.stderr.write(f"skipped {one.path}: {one.reason}\n")
    if args.out is not None:
        write_text(args.out, formats.TEXT[args.format](board.document))
    elif args.format == "table":
        formats.show(board.document)
    else:
        sys.stdout.write(formats.TEXT[args.format](board.document))
    return 0


def write_text(path: Path, text: str) -> None:
    """Write a text file as a whole or not at all; raise a ResultsError if it cannot be written."""
    try:
        with new_file(path, f".{os.getpid()}.partial") as file:
            file.write(text.encode())
    except OSError as error:
        raise ResultsError(f"{path} cannot be written: {error.strerror}.") from error


def read_leaderboard(path: Path) -> dict[str, Any]:
    """Return a written leaderboard, checked against its schema.

    Raises:
        ResultsError: It is not strict JSON, or not of this schema.
    """

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    try:
        document = json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
    except (OSError, ValueError) as error:
        raise ResultsError(f"{path} is not readable: {error}.") from error
    wrong = violations(document)
    if wrong:
        raise ResultsError(f"{path} is not a leaderboard of version {SCHEMA_VERSION}: {wrong[0]}.")
    return document


TWO_RUNS = "they are of two runs"


def pair_with_records(found: Found, known: Found, all_records: bool) -> list[tuple[Result | None, list[RunRecord]]]:
    """Pair results with their run records, newest first; of results of one run the newest counts.

    Unless all records make rows, those that lie among the results come before those that are only known.
    """
    results: dict[tuple[str, ...], Result] = {}
    for result in sorted(found.results, key=lambda one: (one.date or "", str(one.path))):
        key = (result.task, result.content_id, result.model, result.revision)
        if key in results:
            found.skipped.append(Skipped(results[key].path, f"{result.path} is a newer result of the same run"))
        results[key] = result
    records: dict[tuple[str, ...], list[RunRecord]] = {}
    near = set() if all_records else {record.folder for record in found.records}
    for record in sorted(
        [*found.records, *known.records],
        key=lambda record: (record.folder in near, str(record.info.get("finished", "")), str(record.folder)),
        reverse=True,
    ):
        records.setdefault(record_key(record), []).append(record)
    rows = {*(records if all_records else map(record_key, found.records)), *results}
    return [(results.get(key), records.get(key, [])) for key in sorted(rows)]


def first_usable(result: Result | None, records: list[RunRecord], skipped: list[Skipped]) -> RunRanks | None:
    """Return the ranks of the first record that is of the run that wrote the result; say what is wrong with others."""
    reasons = []
    for record in records:
        try:
            ranks = load_ranks(record)
            _require_agreement(result, ranks)
        except ResultsError as error:
            reasons.append(Skipped(record.folder, error.message))
            continue
        # An earlier run of the same model, superseded by this one, needs no mention.
        skipped += [one for one in reasons if TWO_RUNS not in one.reason]
        return ranks
    skipped += reasons
    return None


def _require_agreement(result: Result | None, ranks: RunRanks) -> None:
    """Refuse a run record that is not of the run that wrote the result: their scores differ by more than rounding."""
    if result is None:
        return
    here, there = float(ranks.scores("ndcg_at_10").mean()), result.scores["ndcg_at_10"]
    # mteb rounds to five places.
    if abs(here - there) > 2e-5:
        raise ResultsError(f"its ndcg_at_10 is {here:.5f}, but {result.path} says {there:.5f}: {TWO_RUNS}")


def reported_rows(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return published figures as `columns.reported_fields` describes them, each once, best first by task."""
    rows = [
        {
            "task": entry["task_name"],
            "model": entry["model_name"],
            "source": entry["source"],
            **{metric: entry["scores"].get(metric) for metric in scored()},
        }
        for entry in entries
    ]
    unique = {(row["task"], row["model"], row["source"]): row for row in rows}.values()
    return sorted(unique, key=lambda row: (row["task"], -(row["ndcg_at_10"] or 0), row["model"]))
