"""Tables as JSON: a list of objects, one a line, COCO's captions, or captions by file name."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from data_prep.sources.tables.columns import looks_like_image
from data_prep.sources.tables.records import Record, Records
from mteb_vehicle_search.errors import SourceError

EXPECTED = (
    "Expected a list of objects with a file name and a caption, COCO's images and annotations, or captions by file "
    "name."
)


def json_lines_records(text: str, name: str) -> Records:
    """Return the objects of JSON lines; a line that is none cannot be used."""

    def rows() -> Iterator[Record]:
        for number, line in enumerate(text.split("\n"), start=1):
            if line.strip():
                yield _record(line, f"{name}, line {number}")

    return Records("JSON lines", [], rows())


def _record(line: str, where: str) -> Record:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        return Record(where, {}, f"is no JSON: {error}")
    return _object(value, where)


def _object(value: Any, where: str) -> Record:
    if isinstance(value, dict):
        return Record(where, value)
    return Record(where, {}, f"is not an object with a file name and a caption but {value!r:.60}")


def json_records(text: str, name: str) -> Records:
    """Return the rows of a JSON file, whatever its form.

    Raises:
        SourceError: It is no JSON, or in no form that is known.
    """
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        lines = [line for line in text.split("\n") if line.strip()]
        if len(lines) > 1 and not _record(lines[0], "").problem:
            return json_lines_records(text, name)
        raise SourceError(f"{name} is no JSON: {error}", EXPECTED) from error
    if isinstance(content, list):
        return Records("JSON", [], _entries(content, name))
    if isinstance(content, dict):
        if isinstance(content.get("images"), list) and isinstance(content.get("annotations"), list):
            return _coco(content["images"], content["annotations"], name)
        if content and all(map(looks_like_image, content)):
            rows = (Record(f"{name}, {key}", {"file": key, "caption": value}) for key, value in content.items())
            return Records("JSON by file name", ["file", "caption"], rows)
        if {"file_name", "filename"} & set(content):  # JSON lines of one line.
            return Records("JSON", [], [Record(f"{name}, line 1", content)])
        lists = [value for value in content.values() if isinstance(value, list) and value]
        if len(lists) == 1:
            return Records("JSON", [], _entries(lists[0], name))
    raise SourceError(f"{name} is no table of captions", EXPECTED)


def _entries(values: Iterable[Any], name: str) -> Iterator[Record]:
    for number, value in enumerate(values, start=1):
        yield _object(value, f"{name}, entry {number}")


def _coco(images: list[Any], annotations: list[Any], name: str) -> Records:
    """The rows of COCO's captions (cocodataset.org, "Data format"): an annotation names its image by number."""
    if annotations and not any(isinstance(one, dict) and "caption" in one for one in annotations):
        raise SourceError(
            f"{name} holds annotations without captions", "COCO's captions are in captions_train2017.json and the like."
        )
    files = {
        image["id"]: image.get("file_name")
        for image in images
        if isinstance(image, dict) and isinstance(image.get("id"), (int, str))
    }

    def rows() -> Iterator[Record]:
        for number, one in enumerate(annotations, start=1):
            record = _object(one, f"{name}, annotation {number}")
            identifier = record.values.get("image_id")
            if record.problem:
                yield record
            elif isinstance(identifier, (int, str)) and identifier in files:
                yield Record(record.where, {"file_name": files[identifier], "caption": record.values.get("caption")})
            else:
                yield Record(record.where, {}, f"no image has the id {identifier!r:.60}")

    return Records("COCO captions", ["file_name", "caption"], rows())
