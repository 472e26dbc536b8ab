"""The leaderboard as a table for the terminal, Markdown, strict JSON and CSV."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

from mteb_vehicle_search.analysis.columns import Cell, Row, cells_of, row_columns
from mteb_vehicle_search.terminal import console, print_columns

RANK_NOTE = "Models share a rank unless a paired test over images separates them (Holm, 5 %)."


def reported_row(row: Row) -> Row:
    """Return a published figure as a row, empty where it says nothing."""
    return {**dict.fromkeys(row_columns()), **row, "model": f"{row['model']} (reported)"}


def heading(table: dict[str, Any]) -> str:
    """Return the title of one table."""
    counts = [
        f"{table[key]:,} {what}" for key, what in (("corpus_size", "images"), ("query_count", "queries")) if table[key]
    ]
    return " · ".join([table["task"], f"content id {table['content_id'][:12]}", *counts])


def reported_heading(document: dict[str, Any]) -> str:
    """Return the title of the published figures."""
    return f"{', '.join(sorted({row['task'] for row in document['reported']}))} · reported elsewhere, not ranked"


def difference(tables: list[dict[str, Any]], table: dict[str, Any]) -> str | None:
    """Return a line on how a table's evaluation set differs from the first of the same task; None for that one."""
    first = next(one for one in tables if one["task"] == table["task"])
    if first is table:
        return None
    start = f"Not comparable with the table of content id {first['content_id'][:12]}"
    if not first["sources"] or not table["sources"]:
        return f"{start}: another content id; without run records it cannot be said what differs."
    parts = [
        f"{name} {first['sources'].get(name, 0):,} there, {table['sources'].get(name, 0):,} here"
        for name in sorted({*first["sources"], *table["sources"]})
        if first["sources"].get(name) != table["sources"].get(name)
    ]
    if first["query_count"] != table["query_count"]:
        parts.append(f"{first['query_count']:,} queries there, {table['query_count']:,} here")
    what = "; ".join(parts) or "as many images and queries, but other images, captions or image policy"
    return f"{start}: {what}."


def versions(rows: list[dict[str, Any]]) -> list[str]:
    """Return a line for each set of package versions: which models ran with it."""
    models: dict[str, list[str]] = {}
    for row in rows:
        text = ", ".join(f"{name} {version}" for name, version in row["versions"].items())
        models.setdefault(text, []).append(row["model"])
    whose = {text: "" if len(models) == 1 else f" ({', '.join(who)})" for text, who in models.items()}
    return [f"Versions{whose[text]}: {text}." for text in models if text]


def show(document: dict[str, Any]) -> None:
    """Print the tables to the terminal, side by side or below each other as its width allows."""
    screen = console()

    def add(title: str, rows: list[Row], who: list[Cell], cells: list[Cell]) -> None:
        left = {cell.heading for cell in (*who, *cells) if cell.left}
        head, rest = ([[cell.heading, *map(cell.text, rows)] for cell in part] for part in (who, cells))
        print_columns(screen, title, head, rest, left)

    for table in document["tables"]:
        add(heading(table), table["rows"], cells_of("who"), cells_of("scores", "run"))
        for line in (difference(document["tables"], table), *versions(table["rows"])):
            if line:
                screen.print(line)
        screen.print()
    if document["reported"]:
        reported = [reported_row(row) for row in document["reported"]]
        add(reported_heading(document), reported, _model(), _given(reported))
        screen.print()
    if document["tables"]:
        screen.print(RANK_NOTE)


def _model() -> list[Cell]:
    return [cell for cell in cells_of("who") if cell.heading == "model"]


def _given(rows: list[Row]) -> list[Cell]:
    """Return the scores that at least one row has."""
    return [cell for cell in cells_of("scores") if any(cell.text(row) != "–" for row in rows)]


def to_markdown(document: dict[str, Any]) -> str:
    """Return the tables in Markdown."""
    lines: list[str] = []

    def add(rows: list[Row], cells: list[Cell]) -> None:
        lines.append("| " + " | ".join(cell.heading for cell in cells) + " |")
        lines.append("|" + "|".join("---" if cell.left else "---:" for cell in cells) + "|")
        lines.extend("| " + " | ".join(_escape(cell.text(row)) for cell in cells) + " |" for row in rows)
        lines.append("")

    for table in document["tables"]:
        lines += [f"**{_escape(heading(table))}**", ""]
        if line := difference(document["tables"], table):
            lines += [_escape(line), ""]
        add(table["rows"], cells_of("who", "scores"))
        add(table["rows"], [*_model(), *cells_of("run")])
        lines += [line for text in versions(table["rows"]) for line in (_escape(text), "")]
    if document["reported"]:
        reported = [reported_row(row) for row in document["reported"]]
        lines += [f"**{_escape(reported_heading(document))}**", ""]
        add(reported, [*_model(), *_given(reported)])
        sources = sorted({row["source"] for row in document["reported"]})
        lines += [f"Reported by: {', '.join(_escape(source) for source in sources)}.", ""]
    if document["tables"]:
        lines.append(RANK_NOTE)
    return "\n".join(lines).rstrip("\n") + "\n"


def _escape(text: str) -> str:
    text = text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*").replace("`", "\\`")
    return " ".join(text.split())


def to_json(document: dict[str, Any]) -> str:
    """Return strict JSON."""
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def to_csv(document: dict[str, Any]) -> str:
    """Return all rows as CSV; reported ones have no content id."""
    out = io.StringIO()
    writer = csv.DictWriter(out, ["task", "content_id", *row_columns(), "source"], lineterminator="\n")
    writer.writeheader()
    for table in document["tables"]:
        for row in table["rows"]:
            versions = " ".join(f"{name}={version}" for name, version in row["versions"].items())
            writer.writerow({"task": table["task"], "content_id": table["content_id"], **row, "versions": versions})
    writer.writerows(document["reported"])
    return out.getvalue()


TEXT = {"table": to_markdown, "markdown": to_markdown, "json": to_json, "csv": to_csv}
