"""The leaderboard: one table for each evaluation set, ranks only where a paired test separates models."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mteb_vehicle_search.analysis import formats, judgments_at_hand
from mteb_vehicle_search.analysis.chance import better_than_chance, random_scores
from mteb_vehicle_search.analysis.column_choice import add_columns_argument
from mteb_vehicle_search.analysis.columns import Entry, RankRange, Row
from mteb_vehicle_search.analysis.corrected import corrected_scores
from mteb_vehicle_search.analysis.document import SCHEMA_VERSION, completed, violations
from mteb_vehicle_search.analysis.judged_units import JudgedSample
from mteb_vehicle_search.analysis.judgments_at_hand import USUAL, AtHand, Source
from mteb_vehicle_search.analysis.names import shown_names
from mteb_vehicle_search.analysis.pairing import pair_with_records
from mteb_vehicle_search.analysis.ranks import RunRanks
from mteb_vehicle_search.analysis.reported import reported_rows
from mteb_vehicle_search.analysis.runs import RESULTS, Found, Skipped, find_results
from mteb_vehicle_search.analysis.selection import RUNS_HELP
from mteb_vehicle_search.analysis.sets import SetKey
from mteb_vehicle_search.analysis.situations import Situations
from mteb_vehicle_search.analysis.uncertainty import RESAMPLES, cluster_sums, holm, sign_flip_p_values
from mteb_vehicle_search.errors import ResultsError
from mteb_vehicle_search.files import new_file
from mteb_vehicle_search.metrics import scored
from mteb_vehicle_search.settings import runs_folder

SIGNIFICANCE = 0.05
# No p-value is below 1 / flips: with fewer for each pair, Holm's method could tell nobody apart among 33 models.
FLIPS_A_PAIR = 40
# What is tested in the place of a score that is no mean over queries.
TESTED = {"median_rank": "mrr_at_10"}


class Leaderboard(NamedTuple):
    """The leaderboard and what was left out of it."""

    document: dict[str, Any]  # JSON content; `columns.py` says what is in it
    skipped: list[Skipped]
    entries: dict[SetKey, list[Entry]]  # by evaluation set, of the tables' rows, in their order
    others: int = 0  # results of other tasks that were passed over
    at_hand: AtHand = AtHand({})  # the judgments that correct scores


def sortable() -> tuple[str, ...]:
    """Return the scores that rows can be sorted by."""
    return (*scored(), "median_rank")


def build_leaderboard(
    results: list[Path] | None = None,
    *,
    runs: Path | None = None,
    task: str | None = None,
    sort: str = "ndcg_at_10",
    judgments: Source = USUAL,
) -> Leaderboard:
    """Read results, only those of `task` if given, and return the leaderboard, best first by the score `sort`.

    Args:
        results: Result files or folders (run records in them count too). If None: the folder `results` of the working
            directory if there is one, and all run records.
        runs: Folder of run records; the default one if None. With `results` given, its records only add to those
            results (ranks, rates); they do not make rows of their own.
        task: A name of a task.
        sort: One of `sortable()`.
        judgments: Where those are that correct nDCG@10; by default those at hand.

    Raises:
        ResultsError: Nothing usable is left; says what was skipped.
    """
    if sort not in sortable():
        raise ResultsError(f"There is no score {sort!r} to sort by.", f"Choose one of {', '.join(sortable())}.")
    places = results if results is not None else [RESULTS] if RESULTS.is_dir() else []
    found = find_results(places, task)
    root = runs or runs_folder()
    known = find_results([root], task) if root.is_dir() else Found()
    pairs, left_out = pair_with_records(found, known, results is None)
    skipped = found.skipped + known.skipped + left_out
    tables: dict[SetKey, list[Entry]] = {}
    for entry in pairs:
        tables.setdefault(SetKey.of(entry.key), []).append(entry)
    reported = reported_rows(found.reported + known.reported)
    if not tables and not reported:
        lines = [f"{one.path}: {one.reason}" for one in skipped]
        where = ", ".join(map(str, [*places, root]))
        raise ResultsError(
            "\n".join([f"There are no usable results in {where}.", *lines]),
            "Run a model first: mteb run -t VehicleImageSearchMini -m vehicle-search/tiny-clip",
        )
    by_task = sorted(tables, key=lambda key: (_newest(tables[key]).task, key))
    at_hand = judgments_at_hand.judgments_of([key.content_id for key in by_task], judgments)
    skipped += [
        Skipped(one.path, f"line {one.line}: {one.reason}" if one.line else one.reason) for one in at_hand.problems
    ]
    entries = {key: _ranked(_corrected(tables[key], at_hand.of(key.content_id)), sort) for key in by_task}
    document = {
        "schema_version": SCHEMA_VERSION,
        "sorted_by": sort,
        "tables": [_table(key, rows) for key, rows in entries.items()],
        "reported": reported,
    }
    return Leaderboard(document, skipped, entries, found.others + known.others, at_hand)


def _corrected(entries: list[Entry], judged: list[JudgedSample] | None) -> list[Entry]:
    """Return the entries with their corrected scores, if there are judgments of their set."""
    if judged is None:
        return entries
    # An imported run may be cut off before the tenth rank.
    told = {at: entry.ranks for at, entry in enumerate(entries) if entry.ranks and entry.ranks.knows("ndcg_at_10")}
    scores = dict(zip(told, corrected_scores(Situations([*told.values()], judged))))
    return [replace(entry, corrected=scores.get(at)) for at, entry in enumerate(entries)]


def _ranked(entries: list[Entry], sort: str) -> list[Entry]:
    runs = {at: entry.ranks for at, entry in enumerate(entries) if entry.ranks}
    tested = TESTED.get(sort, sort)
    ranges = rank_ranges({at: run for at, run in runs.items() if run.knows(tested)}, sort)
    # Those with other queries have no range, and are not tested together with the others.
    told = [at for at in ranges if runs[at].knows("ndcg_at_10")]
    better = dict(zip(told, better_than_chance([runs[at] for at in told])))
    names = shown_names([entry.key for entry in entries])
    ranked = [
        replace(entry, name=names[at], ranked=ranges.get(at), better_than_chance=better.get(at))
        for at, entry in enumerate(entries)
    ]
    return sorted(ranked, key=lambda entry: _order(entry.row, sort))


def _order(row: Row, sort: str) -> tuple:
    value = row[sort]
    best_first = float("inf") if value is None else value if sort == "median_rank" else -value
    return (best_first, row["model"], row["revision"], row["name"])


def _newest(entries: Iterable[Entry]) -> Entry:
    """Return the entry that says what the set of all is called and how large it is: the newest, with ranks if any."""
    return max(entries, key=lambda entry: (entry.ranks is not None, entry.date or "", entry.key))


def _table(key: SetKey, entries: list[Entry]) -> dict[str, Any]:
    newest = _newest(entries)
    info = newest.info
    one_relevant = [entry.ranks.one_relevant for entry in entries if entry.ranks]
    return {
        "task": newest.task,
        "title": newest.title,
        "content_id": key.content_id,
        "images_id": key.images_id or None,
        "sources_id": max(entry.sources_id for entry in entries) or None,
        "corpus_size": info.get("corpus_size"),
        "query_count": info.get("query_count"),
        "sources": {name: entry["images"] for name, entry in sorted(info.get("sources", {}).items())} or None,
        "one_relevant": all(one_relevant) if one_relevant else None,
        "chance": random_scores(newest.ranks) if newest.ranks else None,
        "rows": [entry.row for entry in entries],
    }


def rank_ranges(runs: dict[int, RunRanks], metric: str = "ndcg_at_10") -> dict[int, RankRange]:
    """Return the ranks that each run may have: from 1 + the number of better runs to the number of all but the worse.

    Better and worse is what paired tests say, all pairs by sign flips of images, their p-values adjusted by Holm's
    method. With 95 % confidence no test separates runs that are equal, and none that are not the wrong way round; then
    all true ranks, by the expected score of images like these, lie in their ranges at once (Al Mohamad, Goeman and van
    Zwet, "Simultaneous confidence intervals for ranks with application to ranking institutions", Biometrics 78, 2022).
    A rank that equal runs share is 1 + the better ones to all but the worse, and lies in the range as a whole. Runs
    whose order the tests leave open have ranges that overlap.

    For `median_rank` the tested quantity is the mean reciprocal of the rank, cut at 10. The runs, by any key, are on
    one evaluation set; those with other queries than the first get no range.
    """
    if not runs:
        return {}
    metric = TESTED.get(metric, metric)
    first = next(iter(runs.values()))
    keys = [key for key, run in runs.items() if run.asks_the_same(first)]
    scores = np.stack([runs[key].scores(metric) for key in keys], axis=1)
    means = scores.mean(axis=0)
    pairs = list(combinations(range(len(keys)), 2))
    better = np.zeros((len(keys), len(keys)), dtype=bool)
    if pairs:
        sums = cluster_sums(scores, first.clusters).sums
        differences = np.stack([sums[:, i] - sums[:, j] for i, j in pairs], axis=1)
        differences[np.abs(differences) < 1e-12] = 0.0
        adjusted = holm(sign_flip_p_values(differences, flips=max(RESAMPLES, FLIPS_A_PAIR * len(pairs))))
        for (i, j), p in zip(pairs, adjusted):
            if p < SIGNIFICANCE:
                better[(i, j) if means[i] > means[j] else (j, i)] = True
    # What is better than a better run is better, even if no test of the two says so.
    for between in range(len(keys)):
        better |= np.outer(better[:, between], better[between])
    return {
        key: RankRange(1 + int(better[:, at].sum()), len(keys) - int(better[at].sum())) for at, key in enumerate(keys)
    }


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
    add_columns_argument(parser)
    parser.add_argument("--format", choices=(*formats.TABLES, *formats.FILES), default="table")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write to this file instead of the terminal")
    parser.add_argument("--runs", type=Path, metavar="FOLDER", help=RUNS_HELP)
    judgments_at_hand.add_arguments(parser)


def main(args: argparse.Namespace) -> int:
    """Print or write the leaderboard; return the exit code."""
    judgments = judgments_at_hand.source_of(args)
    board = build_leaderboard(args.results or None, runs=args.runs, task=args.task, sort=args.sort, judgments=judgments)
    sys.stderr.writelines(f"{line}\n" for line in left_out(board))
    if args.format == "table" and args.out is None:
        formats.show(board.document, args.columns)
        return 0
    text = formats.to_text(board.document, args.format, args.columns)
    if args.out is None:
        sys.stdout.write(text)
    else:
        write_text(args.out, text)
    return 0


def left_out(board: Leaderboard) -> list[str]:
    """Return a line for each file that was not used, and one for all results of other tasks."""
    lines = [f"skipped {one.path}: {one.reason}" for one in board.skipped]
    what = "result" if board.others == 1 else "results"
    return [*lines, *([f"{board.others:,} {what} of other tasks passed over"] if board.others else [])]


def write_text(path: Path, text: str) -> None:
    """Write a text file as a whole or not at all; raise a ResultsError if it cannot be written."""
    try:
        with new_file(path, f".{os.getpid()}.partial") as file:
            file.write(text.encode())
    except OSError as error:
        raise ResultsError(f"{path} cannot be written: {error.strerror}.") from error


def read_leaderboard(path: Path) -> dict[str, Any]:
    """Return a written leaderboard, checked against its schema; one of version 1 as if written in this one.

    Raises:
        ResultsError: It is not strict JSON, or not of this schema.
    """

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    try:
        document = json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
    except (OSError, ValueError, RecursionError) as error:
        raise ResultsError(f"{path} is not readable: {error}.") from error
    document = completed(document)
    wrong = violations(document)
    if wrong:
        raise ResultsError(f"{path} is not a leaderboard of version {SCHEMA_VERSION}: {wrong[0]}.")
    return document
