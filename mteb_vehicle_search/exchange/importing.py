"""`vehicle-search import`: a run of any program becomes a run record, as far as it tells ranks."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from mteb_vehicle_search.analysis.fields import is_text
from mteb_vehicle_search.analysis.ranks import RunRanks, ranks_of
from mteb_vehicle_search.analysis.uncertainty import clustered_interval
from mteb_vehicle_search.errors import ResultsError, UsageError
from mteb_vehicle_search.eval_set import EvalSet
from mteb_vehicle_search.eval_set.groups import counts_of_groups
from mteb_vehicle_search.eval_set.known import set_named
from mteb_vehicle_search.exchange.placing import Asked, Placed, placed
from mteb_vehicle_search.exchange.trec import read_lines
from mteb_vehicle_search.files import file_sha256
from mteb_vehicle_search.metrics import scored
from mteb_vehicle_search.run_record import RunRecord, write_run_record
from mteb_vehicle_search.summary import show_imported
from mteb_vehicle_search.terminal import positive, say

REVISION_DIGITS = 40
SHOWN = 3


def import_run(
    path: Path, model: str, eval_set: EvalSet, *, complete_to: int = 0, allow_missing: bool = False
) -> tuple[RunRecord, Placed]:
    """Write the run record of a run in TREC's form, and return it with what the file does not tell.

    Its revision is the digest of the file, so that another run of the same name is another run. Its scores as far as
    its depth are exact; those beyond are not there.

    Args:
        path: The run.
        model: Its name, such as "org/model".
        eval_set: What it searched.
        complete_to: See `placed`.
        allow_missing: Whether queries may be missing; they score 0.

    Raises:
        ResultsError: The file is no run of the set, or queries are missing.
        UsageError: The name is none.
    """
    if not model.strip() or not is_text(model) or any(ord(sign) < 32 for sign in model):
        raise UsageError(f"{model!r} cannot name a model.")
    eval_set.require_content()
    asked = Asked.of(eval_set)
    lines = read_lines(path, asked.query_ids, asked.image_ids)
    found = placed(lines, asked, complete_to)
    if found.missing and not allow_missing:
        shown = ", ".join(found.missing[:SHOWN]) + (", ..." if len(found.missing) > SHOWN else "")
        raise ResultsError(
            f"{path} has no line for {len(found.missing):,} of {len(asked.query_ids):,} queries: {shown}.",
            "With --allow-missing they count as 0 in every score, as a search that finds nothing.",
        )
    digest = file_sha256(path)
    imported = {
        "file": path.name,
        "sha256": digest,
        "tag": lines.tag,
        "lines": len(lines.queries),
        "depth": found.depth,
        "missing_queries": len(found.missing),
        "complete_to": complete_to or None,
    }
    info = {**_info(eval_set), "model_name": model, "model_revision": digest[:REVISION_DIGITS], "imported": imported}
    # The scores are those that its own ranks give.
    scores = _scores(ranks_of(RunRecord(path.parent, info), found.table))
    return write_run_record(found.table, {**info, "scores": scores}), found


def _info(eval_set: EvalSet) -> dict[str, Any]:
    """Return what `run.json` says of every run that was imported on this set."""
    now = datetime.now(UTC).isoformat()
    counts = eval_set.manifest["counts"]
    return {
        "task_name": eval_set.task_name,
        "title": eval_set.title,
        "content_id": eval_set.content_id,
        "images_id": eval_set.manifest.get("images_id") or eval_set.images_id,
        "sources_id": eval_set.sources_id,
        "started": now,
        "finished": now,
        "implementation": "imported",
        "options": {},
        "training_datasets": None,
        "versions": {},
        "device": None,
        "precision": "unknown",
        "preprocess": "",
        "corpus_size": counts["corpus"],
        "query_count": counts["queries"],
        "sources": counts_of_groups(eval_set),
        **({"pool": eval_set.pool} if eval_set.pool else {}),
        "encoder": {},
    }


def _scores(run: RunRanks) -> dict[str, float]:
    """Return the scores that a run knows."""
    scores = {key: float(run.scores(key).mean()) for key in scored() if run.knows(key)}
    if (median := run.median_rank) is not None:
        scores["median_rank"] = median
    if "ndcg_at_10" in scores and run.one_relevant:
        interval = clustered_interval(run.scores("ndcg_at_10"), run.clusters)
        scores["ndcg_at_10_ci_images"] = float(len(np.unique(run.clusters)))
        if interval.low is not None and interval.high is not None:
            scores["ndcg_at_10_ci_low"], scores["ndcg_at_10_ci_high"] = interval.low, interval.high
    return scores


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `vehicle-search import`."""
    parser.description = (
        "Make a run record of a run that another program made, in TREC's form: 'QUERY Q0 IMAGE RANK SCORE TAG' a line. "
        "Leaderboard and compare then take it like any other, with the scores that it is deep enough for."
    )
    parser.add_argument(
        "file", type=Path, metavar="FILE.trec", help="the run; of its ranks only gaps count, scores order"
    )
    parser.add_argument("--model", required=True, metavar="NAME", help="what to call it, such as org/model")
    parser.add_argument(
        "--data", required=True, metavar="SET", help="the evaluation set: a folder, or the name of a task"
    )
    parser.add_argument(
        "--complete-to",
        type=positive,
        default=0,
        metavar="K",
        help="lists shorter than K ended because nothing more was found; without it the shortest list that lacks a "
        "relevant image says how deep the run is",
    )
    parser.add_argument("--allow-missing", action="store_true", help="queries without a line count as 0")


def main(args: argparse.Namespace) -> int:
    """Import a run and print its scores; return the exit code."""
    eval_set = set_named(args.data)
    record, found = import_run(
        args.file, args.model, eval_set, complete_to=args.complete_to, allow_missing=args.allow_missing
    )
    if not found.reads_ranks:
        say("The column of ranks does not agree with the scores, and was ignored: scores order, as for trec_eval.")
    if found.shortest and found.depth is not None and found.depth < 10:
        query, depth = found.shortest
        say(
            f"Query {query} lists {depth:,} images and not its relevant one: no score beyond rank {depth:,} is known. "
            "If nothing more was found for it, say so: --complete-to 10, or more."
        )
    show_imported(record.info, record.folder)
    return 0
