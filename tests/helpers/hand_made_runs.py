"""Runs of a few queries, written down by hand, so that a test can name every figure it expects."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mteb_vehicle_search.analysis.columns import Entry
from mteb_vehicle_search.analysis.ranks import RunRanks
from mteb_vehicle_search.analysis.runs import Result
from mteb_vehicle_search.run_record import RunKey, RunRecord

SOURCES = {"flickr30k": {"images": 20, "captioned": 20}, "imagenet": {"images": 80, "captioned": 0}}


def info_of(**changed: Any) -> dict[str, Any]:
    """Return what `run.json` says of a small run."""
    return {
        "task_name": "VehicleImageSearch",
        "content_id": "5" * 64,
        "model_name": "some/model",
        "model_revision": "0" * 40,
        "corpus_size": 100,
        "query_count": 4,
        "sources": SOURCES,
        **changed,
    }


def result_of(path: str = "a.json", scores: dict[str, float] | None = None, **changed: Any) -> Result:
    """Return an mteb result of the same run as `info_of`, of an earlier version unless `silent` is given as ()."""
    of_key = {name: changed.pop(name) for name in RunKey._fields if name in changed}
    given = {
        "path": Path(path),
        "task": "VehicleImageSearch",
        "key": RunKey("5" * 64, "", "some/model", "0" * 40)._replace(**of_key),
        "silent": frozenset({"images_id", "precision", "preprocess"} - set(of_key)),
        "sources_id": "",
        "scores": scores or {"ndcg_at_10": 0.5},
        "date": "2026-01-01",
        "mteb_version": None,
        "meta": {},
    }
    return Result(**{**given, **changed})


def entry_of(result: Result | None, ranks: RunRanks | None) -> Entry:
    """Return the entry of a result, or of a run, or of both."""
    return Entry(result, ranks, result.key if result else ranks.record.key)  # type: ignore[union-attr]


def hand_made(
    ranks: Sequence[int],
    *,
    captioned_above: Sequence[int] | None = None,
    query_ids: Sequence[str] | None = None,
    relevant_ids: Sequence[str] | None = None,
    top_ids: Sequence[list[str]] | None = None,
    **info: Any,
) -> RunRanks:
    """Return the ranks of a run in memory: by default every query has an image of its own, beaten by distractors."""
    count = len(ranks)
    captioned = np.zeros(count, np.int64) if captioned_above is None else np.asarray(captioned_above)
    total = np.asarray(ranks, dtype=np.int64)
    return RunRanks(
        RunRecord(Path("runs/by-hand"), info_of(**info)),
        np.array(query_ids or [f"q{n:02d}" for n in range(count)]),
        np.array(relevant_ids or [f"flickr30k/{n:02d}" for n in range(count)]),
        total,
        {"flickr30k": captioned, "imagenet": total - 1 - captioned},
        np.ones(count, dtype=np.int64),
        list(top_ids) if top_ids else [[] for _ in ranks],
    )


def table_of(ranks: RunRanks) -> pa.Table:
    """Return the rows as `queries.parquet` holds them."""
    return pa.table(
        {
            "query_id": ranks.query_ids.tolist(),
            "relevant_id": ranks.relevant_ids.tolist(),
            "rank": pa.array(ranks.ranks, pa.int32()),
            **{f"above_{name}": pa.array(counts, pa.int32()) for name, counts in ranks.above.items()},
            "top_ids": pa.array(ranks.top_ids, pa.list_(pa.string())),
        }
    )
