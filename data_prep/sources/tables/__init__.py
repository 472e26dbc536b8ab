"""Tables of captions in whatever form people have them: which file has which captions, and which rows are not used."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import chain, islice

from data_prep.sources.samples import IMAGE_ENDINGS
from data_prep.sources.tables.columns import choose_columns
from data_prep.sources.tables.delimited import delimited_records, token_records
from data_prep.sources.tables.gathering import BadRow, CaptionTable, gathered
from data_prep.sources.tables.parquet import parquet_records
from data_prep.sources.tables.records import Records, decoded
from data_prep.sources.tables.trees import json_lines_records, json_records
from data_prep.storage import not_an_image
from mteb_vehicle_search.errors import SourceError

__all__ = ["MAX_TABLE_BYTES", "BadRow", "CaptionTable", "find_tables", "read_table", "sidecar_stems"]

MAX_TABLE_BYTES = 1_000_000_000  # Of 10 million captions; what is longer is no table of captions.
_PEEKED = 200  # Rows that tell what a column holds.
_TABLE = re.compile(r"\.(csv|tsv|tab|jsonl|ndjson|json|parquet|token)$", re.IGNORECASE)
_LISTED_TEXT = re.compile(r"(caption|result|annotation|description|sentence)[^/]*\.txt$", re.IGNORECASE)


def read_table(content: bytes, name: str, *, file_column: str = "", caption_column: str = "") -> CaptionTable:
    """Read a table of captions: separated values, JSON, JSON lines, parquet, COCO's captions or UIUC's tokens.

    Args:
        content: Of the file.
        name: Where it lies, for messages; its ending tells the form where the content does not.
        file_column: The column with the images' names; empty for the one that is found.
        caption_column: Likewise of the captions.

    Raises:
        SourceError: It is no such table, or which of its columns are meant is not clear; names the line or the columns.
    """
    if len(content) > MAX_TABLE_BYTES:
        raise SourceError(
            f"{name} has {len(content):,} bytes: no more than {MAX_TABLE_BYTES:,} are read of a table",
            "Leave out columns and rows that are not needed.",
        )
    if not content.strip():
        raise SourceError(f"{name} is empty", "Get it again, or write it anew.")
    records = _records(content, name)
    rows = iter(records.rows)
    first = list(islice(rows, _PEEKED))
    if not first:
        raise SourceError(f"{name} has no rows", "Expected a row for each image with its file name and a caption.")
    columns = choose_columns(records, first, name, file_column, caption_column)
    return gathered(chain(first, rows), columns, name, records.form)


def find_tables(names: Iterable[str]) -> list[str]:
    """Return which files can be tables of captions, by their names; what lies beside an image for it alone is none."""
    names = list(names)
    stems = sidecar_stems(names)
    found = []
    for name in names:
        if not_an_image(name) or name.rpartition(".")[0] in stems:
            continue
        if _TABLE.search(name) or _LISTED_TEXT.search(name):
            found.append(name)
    return sorted(found, key=lambda name: (name.count("/"), name))


def sidecar_stems(names: Iterable[str]) -> set[str]:
    """Return the names of images without their endings."""
    parted = (name.rpartition(".") for name in names)
    return {stem for stem, _, ending in parted if ending.lower() in IMAGE_ENDINGS}


def _records(content: bytes, name: str) -> Records:
    if content[:4] == b"PAR1" or name.lower().endswith(".parquet"):
        return parquet_records(content, name)
    text = decoded(content, name)
    start = text.lstrip()[:1]
    if name.lower().endswith((".jsonl", ".ndjson")):
        return json_lines_records(text, name)
    if name.lower().endswith(".json") or start == "{":
        return json_records(text, name)
    return token_records(text, name) or delimited_records(text, name)
