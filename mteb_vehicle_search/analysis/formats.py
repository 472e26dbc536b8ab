"""The leaderboard as a table for the terminal, Markdown, strict JSON and CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from typing import Any

from mteb_vehicle_search.analysis.columns import ROW
from mteb_vehicle_search.metrics import METRICS, scored

KNOWN = {True: "yes", False: "no", None: "unknown"}


def _number(value: float | None, form: str = ".4f") -> str:
    return "–" if value is None else format(value, form)


def _parameters(count: int | None) -> str:
    if not count:
        return "–" if count is None else "0"
    return f"{count / 1e6:,.0f} M" if count >= 10_000_000 else f"{count / 1e6:.1f} M"


def _interval(row: dict[str, Any]) -> str:
    low, high = row["ndcg_at_10_ci_low"], row["ndcg_at_10_ci_high"]
    return "–" if low is None or high is None else f"{low:.4f}–{high:.4f}"


Columns = dict[str, Callable[[dict[str, Any]], str]]

# Two tables say it all without being wider than a page: how well, and how it was made.
WHO: Columns = {"rank": lambda row: _number(row["rank"], "d"), "model": lambda row: row["model"]}
SCORES: Columns = {
    METRICS["ndcg_at_10"].heading: lambda row: _number(row["ndcg_at_10"]),
    "95 % interval": _interval,
    **{METRICS[key].heading: lambda row, key=key: _number(row[key]) for key in scored() if key != "ndcg_at_10"},
    "median rank": lambda row: _number(row["median_rank"], "g"),
}
RUN: Columns = {
    "revision": lambda row: row["revision"][:12],
    "parameters": lambda row: _parameters(row["n_parameters"]),
    "dimension": lambda row: _number(row["embed_dim"], "d"),
    "precision": lambda row: row["precision"] or "–",
    "device": lambda row: row["device"] or "–",
    "images/s": lambda row: _number(row["images_per_s"], ",.0f"),
    "date": lambda row: (row["date"] or "–")[:10],
    "licence": lambda row: row["licence"] or "–",
    "Flickr30k seen": lambda row: KNOWN[row["flickr30k_in_training"]],
}
LEFT = {"model", "revision", "precision", "device", "licence", "Flickr30k seen"}
RANK_NOTE = "Models share a rank unless a paired test over images separates them (Holm, 5 %)."


def _reported_row(row: dict[str, Any]) -> dict[str, Any]:
    return {**dict.fromkeys(ROW), **row, "model": f"{row['model']} (reported)"}


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
    from mteb_vehicle_search.terminal import print_columns, terminal_console

    console = terminal_console()

    def add(title: str, rows: list[dict[str, Any]], who: Columns, columns: Columns) -> None:
        head, cells = ([[name, *map(cell, rows)] for name, cell in part.items()] for part in (who, columns))
        print_columns(console, title, head, cells, LEFT)

    for table in document["tables"]:
        add(heading(table), table["rows"], WHO, {**SCORES, **RUN})
        for line in (difference(document["tables"], table), *versions(table["rows"])):
            if line:
                console.print(line)
        console.print()
    if document["reported"]:
        reported = [_reported_row(row) for row in document["reported"]]
        add(reported_heading(document), reported, {"model": WHO["model"]}, _given(reported))
        console.print()
    if document["tables"]:
        console.print(RANK_NOTE)


def _given(rows: list[dict[str, Any]]) -> Columns:
    """Return the scores that at least one row has."""
    return {name: cell for name, cell in SCORES.items() if any(cell(row) != "–" for row in rows)}


def to_markdown(document: dict[str, Any]) -> str:
    """Return the tables in Markdown."""
    lines: list[str] = []

    def add(rows: list[dict[str, Any]], columns: Columns) -> None:
        lines.append("| " + " | ".join(columns) + " |")
        lines.append("|" + "|".join("---" if name in LEFT else "---:" for name in columns) + "|")
        lines.extend("| " + " | ".join(_escape(cell(row)) for cell in columns.values()) + " |" for row in rows)
        lines.append("")

    for table in document["tables"]:
        lines += [f"**{_escape(heading(table))}**", ""]
        if line := difference(document["tables"], table):
            lines += [_escape(line), ""]
        add(table["rows"], {**WHO, **SCORES})
        add(table["rows"], {"model": WHO["model"], **RUN})
        lines += [line for text in versions(table["rows"]) for line in (_escape(text), "")]
    if document["reported"]:
        reported = [_reported_row(row) for row in document["reported"]]
        lines += [f"**{_escape(reported_heading(document))}**", ""]
        add(reported, {"model": WHO["model"], **_given(reported)})
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
    writer = csv.DictWriter(out, ["task", "content_id", *ROW, "source"], lineterminator="\n")
    writer.writeheader()
    for table in document["tables"]:
        for row in table["rows"]:
            versions = " ".join(f"{name}={version}" for name, version in row["versions"].items())
            writer.writerow({"task": table["task"], "content_id": table["content_id"], **row, "versions": versions})
    writer.writerows(document["reported"])
    return out.getvalue()


TEXT = {"table": to_markdown, "markdown": to_markdown, "json": to_json, "csv": to_csv}
