"""What is in `leaderboard.json`, version 1; README.md beside this file lists the same and a test keeps them in step."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from mteb_vehicle_search.metrics import scored


class Field(NamedTuple):
    """A field: its JSON types ("null" among them if it may be missing) and what it says."""

    types: tuple[str, ...]
    meaning: str


SCORE = Field(("number", "null"), "mean over queries, 0 to 1")
DOCUMENT = {
    "schema_version": Field(("integer",), "1"),
    "sorted_by": Field(("string",), "the score that orders and ranks the rows"),
    "tables": Field(("array",), "one for each task and evaluation set"),
    "reported": Field(("array",), "published figures, never ranked"),
}
TABLE = {
    "task": Field(("string",), "task name"),
    "content_id": Field(("string",), "of the evaluation set; scores compare only within one"),
    "corpus_size": Field(("integer", "null"), "images in the corpus"),
    "query_count": Field(("integer", "null"), "queries"),
    "sources": Field(("object", "null"), "images by source"),
    "rows": Field(("array",), "one for each model and revision"),
}
ROW = {
    "rank": Field(("integer", "null"), "1 + number of models better by a paired test; null without a run record"),
    "model": Field(("string",), "model name"),
    "revision": Field(("string",), "model revision"),
    **dict.fromkeys(scored(), SCORE),
    "ndcg_at_10_ci_low": Field(("number", "null"), "95 % interval, bootstrap clustered by image"),
    "ndcg_at_10_ci_high": Field(("number", "null"), "its upper end"),
    "median_rank": Field(("number", "null"), "of the relevant images"),
    "n_parameters": Field(("integer", "null"), "parameters of the model"),
    "embed_dim": Field(("integer", "null"), "dimension of its vectors"),
    "precision": Field(("string", "null"), "of the computation"),
    "device": Field(("string", "null"), "that encoded"),
    "images_per_s": Field(("number", "null"), "images encoded per second"),
    "date": Field(("string", "null"), "end of the run, ISO 8601 or as mteb writes it"),
    "versions": Field(("object",), "package -> version"),
    "licence": Field(("string", "null"), "of the model, as mteb's metadata has it"),
    "flickr30k_in_training": Field(("boolean", "null"), "whether training data is known to hold Flickr30k"),
    "has_run_record": Field(("boolean",), "whether ranks by query were at hand"),
}
REPORTED = {
    "task": Field(("string",), "task name"),
    "model": Field(("string",), "model as published"),
    "source": Field(("string",), "where it was published"),
    **dict.fromkeys(scored(), SCORE),
}


def violations(document: Any) -> list[str]:
    """Return where a document departs from the schema; nothing if it conforms."""
    found = _check("document", document, DOCUMENT)
    if found:
        return found
    if document["schema_version"] != 1:
        return [f"document.schema_version is {document['schema_version']}, not 1"]
    for i, table in enumerate(document["tables"]):
        wrong = _check(f"tables[{i}]", table, TABLE)
        found += wrong
        for j, row in enumerate([] if wrong else table["rows"]):
            found += _check(f"tables[{i}].rows[{j}]", row, ROW)
    for i, row in enumerate(document["reported"]):
        found += _check(f"reported[{i}]", row, REPORTED)
    return found


def _check(where: str, value: Any, fields: dict[str, Field]) -> list[str]:
    if not isinstance(value, dict):
        return [f"{where} is not an object"]
    found = [f"{where}.{name} is missing" for name in fields if name not in value]
    found += [f"{where}.{name} is unknown" for name in value if name not in fields]
    for name, field in fields.items():
        if name in value and not _types(value[name]) & set(field.types):
            found.append(f"{where}.{name} is {value[name]!r}, not {' or '.join(field.types)}")
    return found


def _types(value: Any) -> set[str]:
    if value is None:
        return {"null"}
    if isinstance(value, bool):
        return {"boolean"}
    if isinstance(value, int):
        return {"integer", "number"}
    if isinstance(value, float):
        return {"number"} if math.isfinite(value) else set()
    return {{str: "string", list: "array", dict: "object"}.get(type(value), "unknown")}
