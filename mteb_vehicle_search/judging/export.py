"""Judgments in the formats of other programs."""

from __future__ import annotations

import io
from dataclasses import asdict
from statistics import median_low

import pyarrow as pa
import pyarrow.parquet as pq

from mteb_vehicle_search.judgments import Judgment, Judgments
from mteb_vehicle_search.judgments.judgment import UNKNOWN

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

    "Cannot tell" is no grade there; a pair of which nobody could is left out.
    """
    lines = []
    for (query, image), said in sorted(judgments.grades.items()):
        if grades := [grade for grade in said.values() if grade != UNKNOWN]:
            lines.append(f"{query} 0 {image} {median_low(grades)}\n")
    return "".join(lines).encode()


def as_parquet(judgments: Judgments) -> bytes:
    """Return every judgment that counts with all its fields, sorted by caption, image and judge."""
    rows = [asdict(one) for one in sorted(judgments.lines, key=_place)]
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), buffer, compression="zstd")
    return buffer.getvalue()


def _place(one: Judgment) -> tuple[str, str, str]:
    return one.query, one.image, one.judge
