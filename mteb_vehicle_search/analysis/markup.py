"""Tables as Markdown, LaTeX and CSV: names are text there, and nothing in them becomes markup or a formula."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
LATEX = {
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
    **{
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        "–": "--",
        "−": "$-$",
        "·": r"\textperiodcentered{}",
    },
}
LATEX_NEEDS = r"% needs \usepackage{booktabs}"


class TextTable(NamedTuple):
    """Headings, rows of as many cells, and the headings whose columns are aligned to the left."""

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    left: frozenset[str] = frozenset()


def escape_markdown(text: str) -> str:
    """Return text that is shown as it is: no markup, no cell of its own, and no link but of an address it shows."""
    text = re.sub(r"([\\|*`\[\]])", r"\\\1", text).replace("<", "&lt;")
    return " ".join(text.split())


def markdown_lines(table: TextTable) -> list[str]:
    """Return a table in Markdown, with an empty line after it."""
    return [
        "| " + " | ".join(table.headings) + " |",
        "|" + "|".join("---" if name in table.left else "---:" for name in table.headings) + "|",
        *("| " + " | ".join(map(escape_markdown, row)) + " |" for row in table.rows),
        "",
    ]


def escape_latex(text: str) -> str:
    """Return text that LaTeX sets as it is; a minus before a digit is one."""
    escaped = "".join(LATEX.get(sign, sign) for sign in " ".join(text.split()))
    return re.sub(r"(?<![\w.$-])-(?=\d)", "$-$", escaped)


def latex_lines(table: TextTable) -> list[str]:
    """Return a table as a `tabular` with the rules of booktabs, with an empty line after it."""
    rows = [" & ".join(map(escape_latex, row)) + r" \\" for row in (table.headings, *table.rows)]
    columns = "".join("l" if name in table.left else "r" for name in table.headings)
    return [
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        rows[0],
        r"\midrule",
        *rows[1:],
        r"\bottomrule",
        r"\end{tabular}",
        "",
    ]


def latex_comment(text: str) -> str:
    """Return a line that LaTeX passes over."""
    return f"% {' '.join(text.split())}"


def csv_text(names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as CSV whose cells are text or figures; what a row lacks is empty."""
    out = io.StringIO()
    writer = csv.DictWriter(out, list(names), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _plain(value) for name, value in row.items()} for row in rows)
    return out.getvalue()


def _plain(value: Any) -> Any:
    """Return a value as a cell, and no text that a spreadsheet would run as a formula."""
    if isinstance(value, dict):
        value = " ".join(f"{name}={text}" for name, text in value.items())
    if not isinstance(value, str):
        return value
    # Python's writer does not quote a lone carriage return, which ends the row for others.
    return (f"'{value}" if value.startswith(FORMULA) else value).replace("\r", " ")
