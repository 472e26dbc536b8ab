"""Figures that others published: read, checked, and set beside the table of the very same evaluation set only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mteb_vehicle_search.analysis.fields import Field, json_types, require
from mteb_vehicle_search.errors import ResultsError
from mteb_vehicle_search.metrics import scored

VERSIONS = (1, 2)
# Version 1 does not say on which set a figure was made; such figures stand by themselves.
SET = {
    "corpus_size": Field(("integer", "null"), "images of the set it was made on"),
    "query_count": Field(("integer", "null"), "queries of that set"),
    "content_id": Field(("string", "null"), "of that set, if known"),
}


def reported_figures(content: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the checked entries of a `reported.json`.

    Raises:
        ResultsError: It has another version or a damaged entry.
    """
    version = content.get("schema_version")
    if isinstance(version, bool) or version not in VERSIONS:
        raise ResultsError(f"its schema_version is {version!r}; this package reads {' and '.join(map(str, VERSIONS))}")
    entries = content.get("reported")
    for entry in entries if isinstance(entries, list) else [None]:
        if not isinstance(entry, dict) or not all(
            "string" in json_types(entry.get(key)) for key in ("task_name", "model_name", "source")
        ):
            raise ResultsError("an entry lacks task_name, model_name or source")
        counts = {} if version == 1 else dict.fromkeys(("corpus_size", "query_count"), ("integer",))
        require(entry, {**{name: field.types for name, field in SET.items()}, **counts})
        scores = entry.get("scores")
        if not isinstance(scores, dict) or not all(
            "number" in json_types(value) and 0 <= value <= 1 for value in scores.values()
        ):
            raise ResultsError(f"the scores of {entry['model_name']} are not numbers between 0 and 1")
    return entries  # type: ignore[return-value]


def reported_rows(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return published figures as `document.reported_fields` describes them, each once, best first by task."""
    rows = [
        {
            "task": entry["task_name"],
            **{name: entry.get(name) for name in SET},
            "model": entry["model_name"],
            "source": entry["source"],
            **{metric: entry["scores"].get(metric) for metric in scored()},
        }
        for entry in entries
    ]
    unique = {tuple(row[name] for name in ("task", *SET, "model", "source")): row for row in rows}.values()
    return sorted(unique, key=lambda row: (row["task"], -(row["ndcg_at_10"] or 0), row["model"]))


def is_of(figure: Mapping[str, Any], table: Mapping[str, Any]) -> bool:
    """Say whether a published figure was made on the set of a table: task, sizes, and the content id if it has one."""
    sizes = [figure[name] for name in ("corpus_size", "query_count")]
    return (
        None not in sizes
        and [figure["task"], *sizes] == [table[name] for name in ("task", "corpus_size", "query_count")]
        and figure["content_id"] in (None, table["content_id"])
    )
