"""What is in `leaderboard.json`, version 2, around its rows; documents checked, and earlier ones read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mteb_vehicle_search.analysis.columns import SCORE, row_columns
from mteb_vehicle_search.analysis.fields import INTEGER, TEXT, Field, misfits
from mteb_vehicle_search.analysis.reported import SET
from mteb_vehicle_search.metrics import scored

SCHEMA_VERSION = 2
DOCUMENT = {
    "schema_version": Field(("integer",), str(SCHEMA_VERSION)),
    "sorted_by": Field(("string",), "the score that orders and ranks the rows"),
    "tables": Field(("array",), "one for each evaluation set"),
    "reported": Field(("array",), "published figures, never ranked"),
}
TABLE = {
    "task": Field(("string",), "task name"),
    "title": Field(("string",), "of the evaluation set, for people"),
    "content_id": Field(("string",), "of the evaluation set; scores compare only within one"),
    "images_id": Field(TEXT, "of the images that were searched; scores compare only within one"),
    "sources_id": Field(TEXT, "of the photographs that they were made from"),
    "corpus_size": Field(INTEGER, "images in the corpus"),
    "query_count": Field(INTEGER, "queries"),
    "sources": Field(("object", "null"), "images by source"),
    "one_relevant": Field(("boolean", "null"), "whether every query has one relevant image; null if not known"),
    "chance": Field(("object", "null"), "score -> its expectation under a random ranking; null if not known"),
    "rows": Field(("array",), "one for each run"),
}


def reported_fields() -> dict[str, Field]:
    """Return the fields of a published figure."""
    return {
        "task": Field(("string",), "task name"),
        **SET,
        "model": Field(("string",), "model as published"),
        "source": Field(("string",), "where it was published"),
        **dict.fromkeys(scored(), SCORE),
    }


def violations(document: Any) -> list[str]:
    """Return where a document departs from the schema; nothing if it conforms."""
    found = misfits("document", document, DOCUMENT)
    if found:
        return found
    if document["schema_version"] != SCHEMA_VERSION:
        return [f"document.schema_version is {document['schema_version']}, not {SCHEMA_VERSION}"]
    columns = row_columns()
    for i, table in enumerate(document["tables"]):
        wrong = misfits(f"tables[{i}]", table, TABLE)
        found += wrong
        if not wrong and table["chance"] is not None:
            known = {name: SCORE for name in (*scored(), "median_rank") if name in table["chance"]}
            found += misfits(f"tables[{i}].chance", table["chance"], known)
        for j, row in enumerate([] if wrong else table["rows"]):
            found += misfits(f"tables[{i}].rows[{j}]", row, columns)
    for i, row in enumerate(document["reported"]):
        found += misfits(f"reported[{i}]", row, reported_fields())
    return found


def completed(document: Any) -> Any:
    """Return a document of an earlier version, or of the first form of this one, as one of this version.

    What is damaged in it stays so.
    """

    def newer(one: Any, changed: Callable[[dict[str, Any]], dict[str, Any]]) -> Any:
        return changed(one) if isinstance(one, dict) else one

    def each(of: dict[str, Any], key: str, changed: Callable[[dict[str, Any]], dict[str, Any]]) -> dict[str, Any]:
        listed = of.get(key)
        return {**of, key: [newer(one, changed) for one in listed]} if isinstance(listed, list) else of

    def row(old: dict[str, Any]) -> dict[str, Any]:
        renamed = {"license" if key == "licence" else key: value for key, value in old.items()}
        later = ("preprocess", "rank_last", "better_than_chance", "tied_queries")
        later = (*later, "ndcg_at_10_if_first", "ndcg_at_10_ci_images", "texts_cut", "context_tokens", "miner_family")
        later = (*later, "imported_from", "depth", "missing_queries")
        later = (*later, *(key for key in row_columns() if key.startswith(("pool_", "corrected_"))))
        return {"name": old.get("model"), "options": {}, **dict.fromkeys(later), **renamed}

    def table(old: dict[str, Any]) -> dict[str, Any]:
        later = ("images_id", "sources_id", "one_relevant", "chance")
        return each({"title": old.get("task"), **dict.fromkeys(later), **old}, "rows", row)

    if not isinstance(document, dict) or document.get("schema_version") not in (1, SCHEMA_VERSION):
        return document
    new = each(each(document, "tables", table), "reported", lambda old: {**dict.fromkeys(SET), **old})
    return {**new, "schema_version": SCHEMA_VERSION}
