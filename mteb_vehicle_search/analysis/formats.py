"""The leaderboard as a table for the terminal, Markdown, strict JSON and CSV."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Sequence
from typing import Any

from mteb_vehicle_search.analysis import caveats
from mteb_vehicle_search.analysis.columns import Cell, Row, cells_of, row_columns
from mteb_vehicle_search.analysis.reported import SET, is_of
from mteb_vehicle_search.analysis.sets import ID_DIGITS, SetKey, other_pixels
from mteb_vehicle_search.terminal import console, print_columns

RANK_NOTE = (
    "Ranks are ranges, which hold the true ranks of all models at once with 95 % confidence: from 1 + the models that "
    "paired tests over images find better, to all but those that they find worse (Holm, 5 %)."
)
RANDOM = "random ranking"
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def reported_row(row: Row) -> Row:
    """Return a published figure as a row, empty where it says nothing."""
    return {**dict.fromkeys(row_columns()), **row, "name": f"{row['model']} (reported)"}


def heading(table: dict[str, Any], tables: Sequence[dict[str, Any]] = ()) -> str:
    """Return the title of one table; `tables` are those that it must be told from."""
    alike = sum(one["content_id"] == table["content_id"] for one in tables) > 1
    pictures = [f"images id {(table['images_id'] or 'unknown')[:ID_DIGITS]}"] if alike else []
    task = [table["task"]] if table["task"] != table["title"] else []
    return " · ".join(
        [table["title"], *task, f"content id {table['content_id'][:ID_DIGITS]}", *pictures, *_sizes(table)]
    )


def _sizes(of: dict[str, Any]) -> list[str]:
    return [f"{of[key]:,} {what}" for key, what in (("corpus_size", "images"), ("query_count", "queries")) if of[key]]


def reported_parts(document: dict[str, Any]) -> list[tuple[dict[str, Any] | None, list[Row]]]:
    """Return the published figures by evaluation set, with the table of the very same set if there is one."""
    parts: dict[Any, tuple[dict[str, Any] | None, list[Row]]] = {}
    for row in document["reported"]:
        table = next((table for table in document["tables"] if is_of(row, table)), None)
        key = id(table) if table else (row["task"], *(row[name] for name in SET))
        parts.setdefault(key, (table, []))[1].append(row)
    return list(parts.values())


def reported_heading(rows: list[Row]) -> str:
    """Return the title of published figures of one evaluation set."""
    return " · ".join([rows[0]["task"], *_sizes(rows[0]), "reported elsewhere, not ranked"])


def difference(tables: Sequence[dict[str, Any]], table: dict[str, Any]) -> str | None:
    """Return a line on how a table's evaluation set differs from the first of the same task; None for that one."""
    of_content = next(one for one in tables if one["content_id"] == table["content_id"])
    if SetKey.of_table(of_content) != SetKey.of_table(table):
        which = f"images id {(of_content['images_id'] or 'unknown')[:ID_DIGITS]}"
        return f"Not comparable with the table of {which}: one content id, but {other_pixels(of_content, table)}."
    first = next(one for one in tables if one["task"] == table["task"])
    if first is table:
        return None
    start = f"Not comparable with the table of content id {first['content_id'][:ID_DIGITS]}"
    if not first["sources"] or not table["sources"]:
        return f"{start}: another content id; without run records it cannot be said what differs."
    parts = [
        f"{name} {first['sources'].get(name, 0):,} there, {table['sources'].get(name, 0):,} here"
        for name in sorted({*first["sources"], *table["sources"]})
        if first["sources"].get(name) != table["sources"].get(name)
    ]
    if first["query_count"] != table["query_count"]:
        parts.append(f"{first['query_count'] or 0:,} queries there, {table['query_count'] or 0:,} here")
    what = "; ".join(parts) or "as many images and queries, but other images, captions or image policy"
    return f"{start}: {what}."


def random_row(table: dict[str, Any]) -> list[Row]:
    """Return what a random ranking is expected to score, as a row; none if that is not known."""
    return [{**dict.fromkeys(row_columns()), **table["chance"], "name": RANDOM}] if table["chance"] else []


def versions(rows: list[dict[str, Any]]) -> list[str]:
    """Return a line for each set of package versions: which models ran with it."""
    models: dict[str, list[str]] = {}
    for row in rows:
        text = ", ".join(f"{name} {version}" for name, version in row["versions"].items())
        models.setdefault(text, []).append(row["name"])
    whose = {text: "" if len(models) == 1 else f" ({', '.join(who)})" for text, who in models.items()}
    return [f"Versions{whose[text]}: {text}." for text in models if text]


def show(document: dict[str, Any]) -> None:
    """Print the tables to the terminal, side by side or below each other as its width allows."""
    screen = console()

    def add(title: str, rows: list[Row], who: list[Cell], cells: list[Cell]) -> None:
        left = {cell.heading for cell in (*who, *cells) if cell.left}
        head, rest = ([[cell.heading, *(_shown(cell, row) for row in rows)] for cell in part] for part in (who, cells))
        print_columns(screen, title, head, rest, left)

    def add_reported(rows: list[Row]) -> None:
        shown = [reported_row(row) for row in rows]
        add(reported_heading(rows), shown, _model(), _given(shown))
        screen.print()

    parts = reported_parts(document)
    for table in document["tables"]:
        scores = cells_of("scores", one_relevant=table["one_relevant"], rows=table["rows"])
        rows = [*table["rows"], *random_row(table)]
        add(heading(table, document["tables"]), rows, cells_of("who"), [*scores, *cells_of("run")])
        for line in (difference(document["tables"], table), *caveats.of_table(table), *versions(table["rows"])):
            if line:
                screen.print(line)
        screen.print()
        for rows in (rows for of, rows in parts if of is table):
            add_reported(rows)
    for rows in (rows for of, rows in parts if of is None):
        add_reported(rows)
    if document["tables"]:
        screen.print(RANK_NOTE)


def _shown(cell: Cell, row: Row) -> str:
    """Return what a row has in a cell; a random ranking is no run that was made somehow."""
    return "" if cell.table == "run" and row["name"] == RANDOM and not row["model"] else cell.text(row)


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

    def add_reported(rows: list[Row]) -> None:
        lines.extend([f"**{_escape(reported_heading(rows))}**", ""])
        shown = [reported_row(row) for row in rows]
        add(shown, [*_model(), *_given(shown)])
        sources = sorted({row["source"] for row in rows})
        lines.extend([f"Reported by: {', '.join(_escape(source) for source in sources)}.", ""])

    parts = reported_parts(document)
    for table in document["tables"]:
        lines += [f"**{_escape(heading(table, document['tables']))}**", ""]
        if line := difference(document["tables"], table):
            lines += [_escape(line), ""]
        of_scores = cells_of("scores", one_relevant=table["one_relevant"], rows=table["rows"])
        scores = [*cells_of("who"), *of_scores]
        add([*table["rows"], *random_row(table)], scores)
        lines += [line for text in caveats.of_table(table) for line in (_escape(text), "")]
        add(table["rows"], [*_model(), *cells_of("run")])
        lines += [line for text in versions(table["rows"]) for line in (_escape(text), "")]
        for rows in (rows for of, rows in parts if of is table):
            add_reported(rows)
    for rows in (rows for of, rows in parts if of is None):
        add_reported(rows)
    if document["tables"]:
        lines.append(RANK_NOTE)
    return "\n".join(lines).rstrip("\n") + "\n"


def _escape(text: str) -> str:
    """Return text that is shown as it is: no markup, no cell of its own, and no link but of an address it shows."""
    text = re.sub(r"([\\|*`\[\]])", r"\\\1", text).replace("<", "&lt;")
    return " ".join(text.split())


def to_json(document: dict[str, Any]) -> str:
    """Return strict JSON."""
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def to_csv(document: dict[str, Any]) -> str:
    """Return all rows and random rankings as CSV; reported ones have a content id only if their source tells it."""
    out = io.StringIO()
    of_table = ["task", "title", "content_id", "images_id"]
    names = dict.fromkeys([*of_table, *row_columns(), "source", "corpus_size", "query_count"])
    writer = csv.DictWriter(out, list(names), lineterminator="\n")
    writer.writeheader()
    for table in document["tables"]:
        about = {name: table[name] for name in (*of_table, "corpus_size", "query_count")}
        writer.writerows(_plain({**about, **row}) for row in [*table["rows"], *random_row(table)])
    writer.writerows(_plain(row) for row in document["reported"])
    return out.getvalue()


def _plain(row: Row) -> Row:
    """Return a row whose cells are text or figures, and no text that a spreadsheet would run as a formula."""

    def cell(value: Any) -> Any:
        if isinstance(value, dict):
            value = " ".join(f"{name}={text}" for name, text in value.items())
        if not isinstance(value, str):
            return value
        # Python's writer does not quote a lone carriage return, which ends the row for others.
        return (f"'{value}" if value.startswith(FORMULA) else value).replace("\r", " ")

    return {name: cell(value) for name, value in row.items()}


TEXT = {"table": to_markdown, "markdown": to_markdown, "json": to_json, "csv": to_csv}
