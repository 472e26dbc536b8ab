"""Flickr30k's captions file and what its rows mean."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from data_prep.sources import SourceImage
from mteb_vehicle_search.errors import SourceError

CSV_NAME = "flickr_annotations_30k.csv"
ZIP_NAME = "flickr30k-images.zip"
FOLDER_NAME = "flickr30k-images"
EXPECTED = (
    f"Expected a folder with {CSV_NAME} and {ZIP_NAME}, {FOLDER_NAME}/ or {FOLDER_NAME}.tar.gz, UIUC's or Kaggle's "
    "copy, or parquet files; a folder, a zip, or an address of https://, s3://, gs:// or hf://; or: hub"
)

CSV_COLUMNS = {"raw", "split", "filename"}
_FILE_NAME = re.compile(r"[0-9A-Za-z_.-]+\.jpe?g", re.IGNORECASE)


def is_image_name(name: str) -> bool:
    """Whether it can be the name of an image: bare, and of a JPEG file."""
    return _FILE_NAME.fullmatch(name) is not None


class Row(NamedTuple):
    """One line of the captions file."""

    filename: str
    split: str
    captions: tuple[str, ...]


def read_annotations(content: bytes, where: str) -> list[Row]:
    """The rows of the captions file, in its order; `where` it lies is for messages.

    `raw` is a JSON list of sentences; escapes are decoded by the JSON, white space stays as it is.

    Raises:
        SourceError: If the file is not the expected table; names the line.
    """
    rows: dict[str, Row] = {}
    for line, record in _records(content, where):
        try:
            captions = json.loads(record["raw"])
        except (json.JSONDecodeError, TypeError, RecursionError) as error:
            raise SourceError(f"{line}: column raw is not a JSON list: {error}", EXPECTED) from error
        row = caption_row(record["filename"], record["split"], captions, line)
        if row.filename in rows:
            raise SourceError(f"{line}: {row.filename} stands twice", EXPECTED)
        rows[row.filename] = row
    if not rows:
        raise SourceError(f"{where} has no rows", EXPECTED)
    return list(rows.values())


def _records(content: bytes, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise SourceError(f"{path}, line {line}: not UTF-8: {error.reason}", EXPECTED) from error
    reader = csv.DictReader(io.StringIO(text, newline=""))
    try:
        if missing := CSV_COLUMNS - set(reader.fieldnames or ()):
            found = ", ".join(reader.fieldnames or ()) or "nothing"
            raise SourceError(f"{path} has no column {', '.join(sorted(missing))}; it has {found:.200}", EXPECTED)
        for record in reader:
            yield f"{path}, line {reader.line_num}", record
    except csv.Error as error:
        raise SourceError(f"{path} is not a CSV file: {error}", EXPECTED) from error


def caption_row(filename: Any, split: Any, captions: Any, where: str) -> Row:
    """A checked row.

    Raises:
        SourceError: If the name is not a bare JPEG name, there are not five captions, or the split is unknown.
    """
    if not isinstance(filename, str) or not is_image_name(filename):
        raise SourceError(f"{where}: {filename!r} is not the name of a JPEG file", EXPECTED)
    if not isinstance(captions, list) or len(captions) != 5 or not all(isinstance(c, str) for c in captions):
        raise SourceError(f"{where}: {filename} does not have five captions but {captions!r:.80}", EXPECTED)
    if split not in ("train", "val", "test", "", None):
        raise SourceError(f"{where}: split {split!r} is none of train, val, test", EXPECTED)
    return Row(filename, split or "", tuple(captions))


def captioned_image(row: Row, data: bytes, problem: str = "") -> SourceImage:
    """The image of a row, or why it could not be read."""
    stem = row.filename.rpartition(".")[0]
    blank = [number for number, caption in enumerate(row.captions, start=1) if not caption.strip()]
    if blank and not problem:
        data, problem = b"", f"caption {blank[0]} is empty"
    return SourceImage(f"flickr30k/{stem}", data, "flickr30k", row.split, captions=row.captions, problem=problem)
