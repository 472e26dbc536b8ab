"""Runs of a few queries, written down by hand, so that a test can name every figure it expects."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mteb_vehicle_search.analysis.ranks import RunRanks
from mteb_vehicle_search.run_record import RunRecord

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
