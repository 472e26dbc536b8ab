"""Judgments in the formats of other programs."""

from __future__ import annotations

import io
from dataclasses import asdict

import pyarrow as pa
import pyarrow.parquet as pq

from mteb_vehicle_search.analysis.judged_ranks import judged_pairs
from mteb_vehicle_search.judgments import Judgment, Judgments

SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("content_id", "query", "image")),
        ("grade", pa.int8()),
        *((name, pa.string()) for name in ("judge", "at")),
        ("seconds", pa.float64()),
        *((name, pa.string()) for name in ("sample", "guide", "check")),
        ("shown_known", pa.bool_()),
        ("kind", pa.string()),
    ]
)


def as_qrels(judgments: Judgments) -> bytes:
    """Return TREC qrels, sorted: caption, 0, image, grade; of several judges the median, of two the lower one.

    A pair that nobody could tell is left out: qrels have no grade for it.
    """
    return "".join(f"{query} 0 {image} {grade}\n" for (query, image), grade in _graded(judgments)).encode()


def _graded(judgments: Judgments) -> list[tuple[tuple[str, str], int]]:
    return sorted((pair, grade) for pair, grade in judged_pairs(judgments).items() if grade)


def as_parquet(judgments: Judgments) -> bytes:
    """Return every judgment that counts with all its fields, sorted by caption, image and judge."""
    rows = [asdict(one) for one in sorted(judgments.lines, key=_place)]
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), buffer, compression="zstd")
    return buffer.getvalue()


def _place(one: Judgment) -> tuple[str, str, str]:
    return one.query, one.image, one.judge
