"""The leaderboard as a table for the terminal, Markdown, LaTeX, strict JSON and CSV."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from mteb_vehicle_search.analysis import caveats
from mteb_vehicle_search.analysis.column_choice import chosen_cells
from mteb_vehicle_search.analysis.columns import LAST, Cell, Row, cells_of, row_columns
from mteb_vehicle_search.analysis.markup import (
    LATEX_NEEDS,
    TextTable,
    csv_text,
    escape_markdown,
    latex_comment,
    latex_lines,
    markdown_lines,
)
from mteb_vehicle_search.analysis.reported import SET, is_of
from mteb_vehicle_search.analysis.sets import ID_DIGITS, SetKey, other_pixels
from mteb_vehicle_search.errors import UsageError
from mteb_vehicle_search.terminal import console, print_fitting

RANK_NOTE = (
    "Ranks are ranges, which hold the true ranks of all models at once with 95 % confidence: from 1 + the models that "
    "paired tests over images find better, to all but those that they find worse (Holm, 5 %)."
)
RANDOM = "random ranking"


def reported_row(row: Row) -> Row:
    """Return a published figure as a row, empty where it says nothing."""
    return {**dict.fromkeys(row_columns()), **row, "name": f"{row['model']} (reported)"}


def heading(table: dict[str, Any], tables: Sequence[dict[str, Any]] = ()) -> str:
    """Return the title of one table; `tables` are those that it must be told from."""
    alike = sum(one["content_id"] == table["content_id"] for one in tables) > 1
    images = [f"images id {(table['images_id'] or 'unknown')[:ID_DIGITS]}"] if alike else []
    task = [table["task"]] if table["task"] != table["title"] else []
    return " · ".join([table["title"], *task, f"content id {table['content_id'][:ID_DIGITS]}", *images, *_sizes(table)])


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


def show(document: dict[str, Any], columns: Sequence[str] | None = None) -> None:
    """Print the tables, below each other: all columns into a pipe, on a terminal those that it has room for.

    The headlines are always there; a line at the end names what is not. With `columns` it is these, whatever the room.
    """
    screen, missing = console(), dict[str, None]()

    def add(title: str, rows: list[Row], cells: list[Cell]) -> None:
        text = _table(rows, cells)
        wanted = len(cells) if columns else sum(cell.table == "who" or cell.place != LAST for cell in cells)
        listed = [list(column) for column in zip(text.headings, *text.rows)]
        missing.update(dict.fromkeys(print_fitting(screen, title, listed, wanted, "model", text.left)))

    def add_reported(rows: list[Row]) -> None:
        add(reported_heading(rows), *_reported(rows))
        screen.print()

    parts = reported_parts(document)
    for table in document["tables"]:
        add(heading(table, document["tables"]), _with_random(table), _cells(table, columns or ["all"]))
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
    if missing:
        screen.print(f"No room here for {', '.join(missing)}; a pipe shows all columns, --columns those that you name.")


def _cells(table: dict[str, Any], columns: Sequence[str]) -> list[Cell]:
    """Return the cells of the columns that are asked for; "all" are those that a table has something to say in."""
    if list(columns) != ["all"]:
        return chosen_cells(columns)
    scores = cells_of("scores", one_relevant=table["one_relevant"], rows=table["rows"])
    return [*cells_of("who"), *scores, *cells_of("run")]


def _table(rows: list[Row], cells: list[Cell]) -> TextTable:
    left = frozenset(cell.heading for cell in cells if cell.left)
    return TextTable([cell.heading for cell in cells], [[_shown(cell, row) for cell in cells] for row in rows], left)


def _with_random(table: dict[str, Any]) -> list[Row]:
    return [*table["rows"], *random_row(table)]


def _shown(cell: Cell, row: Row) -> str:
    """Return what a row has in a cell; a random ranking is no run that was made somehow."""
    return "" if cell.table == "run" and row["name"] == RANDOM and not row["model"] else cell.text(row)


def _reported(rows: list[Row]) -> tuple[list[Row], list[Cell]]:
    """Return published figures as rows, and the cells that at least one of them fills."""
    shown = [reported_row(row) for row in rows]
    given = [cell for cell in cells_of("scores") if any(cell.text(row) != "–" for row in shown)]
    return shown, [*_model(), *given]


def _model() -> list[Cell]:
    return [cell for cell in cells_of("who") if cell.heading == "model"]


def to_markdown(document: dict[str, Any], columns: Sequence[str] | None = None) -> str:
    """Return the tables in Markdown: each as one of scores and one of how they were made, or as one of `columns`."""
    lines: list[str] = []

    def add(text: str) -> None:
        lines.extend([escape_markdown(text), ""])

    def add_reported(rows: list[Row]) -> None:
        lines.extend([f"**{escape_markdown(reported_heading(rows))}**", ""])
        lines.extend(markdown_lines(_table(*_reported(rows))))
        # No escapes but those of the sources, which are addresses.
        sources = sorted({row["source"] for row in rows})
        add(f"Reported by: {', '.join(sources)}.")

    parts = reported_parts(document)
    for table in document["tables"]:
        lines += [f"**{escape_markdown(heading(table, document['tables']))}**", ""]
        if line := difference(document["tables"], table):
            add(line)
        cells = _cells(table, columns or ["all"])
        of_scores = cells if columns else [cell for cell in cells if cell.table != "run"]
        lines += markdown_lines(_table(_with_random(table), of_scores))
        for text in caveats.of_table(table):
            add(text)
        if not columns:
            lines += markdown_lines(_table(table["rows"], [*_model(), *cells_of("run")]))
        for text in versions(table["rows"]):
            add(text)
        for rows in (rows for of, rows in parts if of is table):
            add_reported(rows)
    for rows in (rows for of, rows in parts if of is None):
        add_reported(rows)
    if document["tables"]:
        lines.append(RANK_NOTE)
    return "\n".join(lines).rstrip("\n") + "\n"


def to_latex(document: dict[str, Any], columns: Sequence[str] | None = None) -> str:
    """Return each table as a LaTeX `tabular` of the headlines, or of `columns`, and what is said of it as comments."""
    lines = [LATEX_NEEDS]
    parts = reported_parts(document)
    for table in document["tables"]:
        cells = _cells(table, columns or ["all"])
        shown = [cell for cell in cells if columns or cell.table == "who" or cell.place != LAST]
        said = (difference(document["tables"], table), *caveats.of_table(table), *versions(table["rows"]), RANK_NOTE)
        lines.append(latex_comment(heading(table, document["tables"])))
        lines += [latex_comment(line) for line in said if line]
        lines += latex_lines(_table(_with_random(table), shown))
    for _, rows in parts:
        lines.append(latex_comment(reported_heading(rows)))
        lines += latex_lines(_table(*_reported(rows)))
    return "\n".join(lines)


def to_json(document: dict[str, Any]) -> str:
    """Return strict JSON."""
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def to_csv(document: dict[str, Any]) -> str:
    """Return all rows and random rankings as CSV; reported ones have a content id only if their source tells it."""
    of_table = ["task", "title", "content_id", "images_id"]
    names = dict.fromkeys([*of_table, *row_columns(), "source", "corpus_size", "query_count"])
    rows: list[Row] = []
    for table in document["tables"]:
        about = {name: table[name] for name in (*of_table, "corpus_size", "query_count")}
        rows += ({**about, **row} for row in _with_random(table))
    return csv_text(list(names), [*rows, *document["reported"]])


# With columns that somebody chose, and with all.
TABLES = {"table": to_markdown, "markdown": to_markdown, "latex": to_latex}
FILES = {"json": to_json, "csv": to_csv}


def to_text(document: dict[str, Any], form: str, columns: Sequence[str] | None = None) -> str:
    """Return the leaderboard in one of the forms.

    Raises:
        UsageError: There is no such column, or columns are chosen of a form that always has all.
    """
    if form in TABLES:
        return TABLES[form](document, columns)
    if columns:
        raise UsageError(f"--columns is of tables; {form} has all fields.", "Use --format table, markdown or latex.")
    return FILES[form](document)
