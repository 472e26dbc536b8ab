"""Rows of the leaderboard: a result file, the run record that belongs to it, and what both say."""

from __future__ import annotations

from typing import Any

from mteb_vehicle_search.analysis.ranks import METRICS, RunRanks, load_ranks
from mteb_vehicle_search.analysis.runs import Found, Result, Skipped, holds_flickr30k
from mteb_vehicle_search.analysis.selection import record_key
from mteb_vehicle_search.analysis.uncertainty import clustered_interval
from mteb_vehicle_search.errors import ResultsError
from mteb_vehicle_search.run_record import RunRecord

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
    for record in [*found.records, *known.records]:
        records.setdefault(record_key(record), []).append(record)
    near = set() if all_records else {record.folder for record in found.records}
    for several in records.values():
        several.sort(
            key=lambda record: (record.folder in near, str(record.info.get("finished", "")), str(record.folder)),
            reverse=True,
        )
    own = {record_key(record) for record in found.records}
    rows = {*(records if all_records else own), *results}
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
    """Refuse a run record that is not of the run that wrote the result.

    Raises:
        ResultsError: Their scores differ by more than rounding.
    """
    if result is None:
        return
    here, there = float(ranks.scores("ndcg_at_10").mean()), result.scores["ndcg_at_10"]
    # mteb rounds to five places.
    if abs(here - there) > 2e-5:
        raise ResultsError(f"its ndcg_at_10 is {here:.5f}, but {result.path} says {there:.5f}: {TWO_RUNS}")


def make_row(result: Result | None, ranks: RunRanks | None) -> dict[str, Any]:
    """Return a row as `leaderboard_schema.ROW` describes it, not yet ranked."""
    import numpy as np

    info = ranks.record.info if ranks else {}
    meta = result.meta if result else {}
    scores: dict[str, float | None] = dict.fromkeys(
        (*METRICS, "ndcg_at_10_ci_low", "ndcg_at_10_ci_high", "median_rank")
    )
    if ranks:
        scores.update({metric: round(float(ranks.scores(metric).mean()), 5) for metric in METRICS})
        interval = clustered_interval(ranks.scores("ndcg_at_10"), ranks.clusters)
        scores["ndcg_at_10_ci_low"], scores["ndcg_at_10_ci_high"] = round(interval.low, 5), round(interval.high, 5)
        scores["median_rank"] = float(np.median(ranks.ranks))
    if result:
        scores.update({name: result.scores[name] for name in scores if name in result.scores})
    versions = dict(info.get("versions") or {})
    if result and result.mteb_version:
        versions.setdefault("mteb", result.mteb_version)
    trained_on = info.get("training_datasets") if ranks else meta.get("training_datasets")
    return {
        "rank": None,
        "model": result.model if result else str(info["model_name"]),
        "revision": result.revision if result else str(info.get("model_revision")),
        **scores,
        "n_parameters": _first(info.get("n_parameters"), meta.get("n_parameters")),
        "embed_dim": _first(info.get("embed_dim"), meta.get("embed_dim")),
        "precision": info.get("precision"),
        "device": info.get("device"),
        "images_per_s": info.get("images_per_s"),
        "date": _first(result.date if result else None, info.get("finished")),
        "versions": {name: str(version) for name, version in sorted(versions.items())},
        "licence": meta.get("license"),
        "flickr30k_in_training": holds_flickr30k(trained_on),
        "has_run_record": ranks is not None,
    }


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def reported_rows(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return published figures as `leaderboard_schema.REPORTED` describes them, each once, best first by task."""
    rows = [
        {
            "task": entry["task_name"],
            "model": entry["model_name"],
            "source": entry["source"],
            **{metric: entry["scores"].get(metric) for metric in METRICS},
        }
        for entry in entries
    ]
    unique = {(row["task"], row["model"], row["source"]): row for row in rows}
    return [unique[key] for key in sorted(unique, key=lambda key: (key[0], -(unique[key]["ndcg_at_10"] or 0), key[1]))]
