"""All pairs of several models, for the terminal and for files."""

from __future__ import annotations

import json
from typing import Any

from mteb_vehicle_search.analysis import compare_corrected
from mteb_vehicle_search.analysis.markup import (
    LATEX_NEEDS,
    TextTable,
    csv_text,
    escape_markdown,
    latex_comment,
    latex_lines,
    markdown_lines,
)
from mteb_vehicle_search.analysis.matrix import SIGNIFICANCE, Matrix, Pair
from mteb_vehicle_search.analysis.uncertainty import TOO_FEW_NOTE, too_few
from mteb_vehicle_search.metrics import METRICS
from mteb_vehicle_search.terminal import coloured, console, fits, print_columns, print_fitting

# More pairs than these are not listed on a terminal: the matrix would be out of sight.
LISTED = 45
PAIR_HEADINGS = ("A", "B", "A - B", "95 % interval", "p", "wins", "losses")


def show(matrix: Matrix) -> None:
    """Print the models with the differences between all of them, then the pairs, unless a terminal would overflow."""
    screen = console()
    table = _models(matrix)
    columns: list[list[Any]] = [list(column) for column in zip(table.headings, *table.rows)]
    own = len(columns) - len(matrix.names)
    for at, (heading, *cells) in enumerate(columns[own:]):
        better = [_is_better(matrix, row, at) for row in range(len(matrix.names))]
        columns[own + at] = [heading, *map(coloured, cells, better)]
    together = fits(screen, columns)
    print_fitting(screen, heading_of(matrix), columns if together else columns[:own], own, "model", table.left)
    screen.print()
    if not together:
        print_columns(screen, "", columns[:1], columns[own:], set())
        screen.print()
    if len(matrix.pairs) <= LISTED or not screen.is_terminal:
        pairs = _numbered(matrix)
        listed: list[list[Any]] = [list(column) for column in zip(pairs.headings, *pairs.rows)]
        heading, *cells = listed[1]
        listed[1] = [heading, *map(coloured, cells, (_sign(one) for one in matrix.pairs))]
        print_columns(screen, "", listed[:1], listed[1:], pairs.left)
        screen.print()
    else:
        screen.print(f"The intervals and p-values of all {len(matrix.pairs):,} pairs: in a pipe, or --format csv.")
    for note in notes(matrix):
        screen.print(note)


def heading_of(matrix: Matrix) -> str:
    """Return the title."""
    return f"{matrix.title} · {matrix.metric} · {matrix.queries:,} queries · {matrix.images:,} images with captions"


def notes(matrix: Matrix) -> list[str]:
    """Return how the table is read, and what limits it."""
    pairs, least = len(matrix.pairs), len(matrix.pairs) / (matrix.resamples + 1)
    found = [
        f"Row less column; * where p < {SIGNIFICANCE:g}, by sign flips of images, adjusted by Holm's method over the "
        f"{pairs:,} pairs. Models that share a letter are not told apart."
    ]
    if least >= SIGNIFICANCE:
        found.append(
            f"{matrix.resamples:,} sign flips are too few for so many pairs: no adjusted p can be below {least:.2g}. "
            f"Use --resamples {100 * pairs}."
        )
    found += [TOO_FEW_NOTE] if too_few(matrix.images) else []
    corrected = zip(matrix.pairs, matrix.corrected)
    return [*found, *(f"{one.a + 1} - {one.b + 1}: {compare_corrected.sentence(pair)}" for one, pair in corrected)]


def _models(matrix: Matrix) -> TextTable:
    """Return a row for each model: its number, score, letters, and its differences from all, by their numbers."""
    count = len(matrix.names)
    heading = METRICS[matrix.metric].heading
    rows = [
        [
            str(row + 1),
            matrix.names[row],
            f"{matrix.scores[row].mean:.4f}",
            matrix.scores[row].ends(),
            matrix.letters[row],
            *(_difference(matrix, row, column) for column in range(count)),
        ]
        for row in range(count)
    ]
    headings = ("#", "model", heading, "95 % interval", "letters", *(str(at + 1) for at in range(count)))
    return TextTable(headings, rows, frozenset({"model", "letters"}))


def _difference(matrix: Matrix, row: int, column: int) -> str:
    if row == column:
        return ""
    pair = matrix.pair(row, column)
    mean = pair.difference.mean if row < column else -pair.difference.mean
    return f"{mean:+.3f}{' ' if pair.better is None else '*'}"


def _is_better(matrix: Matrix, row: int, column: int) -> bool | None:
    better = None if row == column else matrix.pair(row, column).better
    return None if better is None else better == row


def _sign(pair: Pair) -> bool | None:
    return None if pair.better is None else pair.better == pair.a


def _pair_cells(pair: Pair) -> list[str]:
    return [
        f"{pair.difference.mean:+.4f}",
        pair.difference.ends("+.4f", ", "),
        f"{pair.p_adjusted:.4f}",
        f"{pair.wins:,}",
        f"{pair.losses:,}",
    ]


def _numbered(matrix: Matrix) -> TextTable:
    rows = [[f"{pair.a + 1} - {pair.b + 1}", *_pair_cells(pair)] for pair in matrix.pairs]
    return TextTable(("pair", *PAIR_HEADINGS[2:]), rows)


def _named(matrix: Matrix) -> TextTable:
    rows = [[matrix.names[pair.a], matrix.names[pair.b], *_pair_cells(pair)] for pair in matrix.pairs]
    return TextTable(PAIR_HEADINGS, rows, frozenset({"A", "B"}))


def to_markdown(matrix: Matrix) -> str:
    """Return the models with their differences, and the pairs, in Markdown."""
    said = [line for note in notes(matrix) for line in (escape_markdown(note), "")]
    lines = [f"**{escape_markdown(heading_of(matrix))}**", "", *markdown_lines(_models(matrix)), *said]
    return "\n".join([*lines, *markdown_lines(_named(matrix))[:-1]]) + "\n"


def to_latex(matrix: Matrix) -> str:
    """Return the models with their differences, and the pairs, as two LaTeX `tabular`s."""
    comments = [latex_comment(text) for text in (heading_of(matrix), *notes(matrix))]
    return "\n".join([LATEX_NEEDS, *comments, *latex_lines(_models(matrix)), *latex_lines(_named(matrix))])


def as_json(matrix: Matrix) -> dict[str, Any]:
    """Return strict JSON content: what is compared, the models, best first, and all pairs by their names."""
    names = matrix.names
    models = zip(names, matrix.scores, matrix.letters)
    return {
        **{key: getattr(matrix, key) for key in ("task", "title", "content_id", "metric", "queries", "images")},
        "resamples": matrix.resamples,
        "models": [{"name": name, **score._asdict(), "letters": letters} for name, score, letters in models],
        "pairs": [
            {
                **pair._asdict(),
                **{"a": names[pair.a], "b": names[pair.b], "difference": pair.difference._asdict()},
                "better": None if pair.better is None else names[pair.better],
            }
            for pair in matrix.pairs
        ],
        "corrected": [
            {"a": names[pair.a], "b": names[pair.b], "corrected": compare_corrected.as_json(one)}
            for pair, one in zip(matrix.pairs, matrix.corrected)
        ],
    }


def to_json(matrix: Matrix) -> str:
    """Return strict JSON."""
    return json.dumps(as_json(matrix), indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def to_csv(matrix: Matrix) -> str:
    """Return a row for each pair as CSV."""
    about = {key: getattr(matrix, key) for key in ("task", "title", "content_id", "metric")}
    rows = [
        {
            **about,
            **{"model_a": matrix.names[pair.a], "model_b": matrix.names[pair.b]},
            **{"queries": matrix.queries, "images": matrix.images},
            **{"score_a": matrix.scores[pair.a].mean, "score_b": matrix.scores[pair.b].mean},
            **{"difference": pair.difference.mean, "ci_low": pair.difference.low, "ci_high": pair.difference.high},
            **{"p_value": pair.p_value, "p_adjusted": pair.p_adjusted},
            "better": "" if pair.better is None else matrix.names[pair.better],
            **{"query_wins": pair.wins, "query_losses": pair.losses},
        }
        for pair in matrix.pairs
    ]
    return csv_text(list(rows[0]), rows)


TEXT = {"markdown": to_markdown, "json": to_json, "csv": to_csv, "latex": to_latex}
