"""`vehicle-search compare`: two models in full, or all pairs of more, for the terminal and for files."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from mteb_vehicle_search.analysis import compare_corrected, judgments_at_hand, matrix_table
from mteb_vehicle_search.analysis.compare import SIGNIFICANCE, Comparison, compare, sentence
from mteb_vehicle_search.analysis.markup import (
    LATEX_NEEDS,
    TextTable,
    csv_text,
    escape_markdown,
    latex_comment,
    latex_lines,
    markdown_lines,
)
from mteb_vehicle_search.analysis.matrix import all_pairs
from mteb_vehicle_search.analysis.names import MODEL_HELP
from mteb_vehicle_search.analysis.ranks import load_ranks
from mteb_vehicle_search.analysis.selection import add_selection_arguments, choose_runs
from mteb_vehicle_search.analysis.strata import queries_of
from mteb_vehicle_search.analysis.uncertainty import RESAMPLES, TOO_FEW_NOTE, Paired, too_few
from mteb_vehicle_search.errors import ResultsError, UsageError
from mteb_vehicle_search.metrics import scored
from mteb_vehicle_search.terminal import coloured, console, print_columns

HEADINGS = ("", "queries", "images", "A", "B", "A - B", "95 % interval", "p", "wins", "losses", "ties")
DIFFERENCE = HEADINGS.index("A - B")


def show(found: Comparison) -> None:
    """Print a comparison to the terminal."""
    screen, table = console(), _table(found)
    columns: list[list[Any]] = [list(column) for column in zip(table.headings, *table.rows)]
    heading, *cells = columns[DIFFERENCE]
    columns[DIFFERENCE] = [heading, *map(coloured, cells, _colours(found))]
    screen.print(f"{found.title} · {found.metric}\nA {found.model_a}\nB {found.model_b}\n")
    print_columns(screen, "", columns[:2], columns[2:], table.left)
    screen.print()
    for note in _notes(found):
        screen.print(note)
    screen.print(f"\n{sentence(found)}\n")
    for said in _corrected(found):
        screen.print(f"{said}\n")


def _table(found: Comparison) -> TextTable:
    rows = [_cells("all", found.paired, found.paired.p_value)]
    # A division's name stands on a line of its own above its parts.
    for stratum, effects in groupby(found.effects, key=lambda effect: effect.stratum):
        rows.append((stratum, *[""] * (len(HEADINGS) - 1)))
        rows += [_cells(f"  {one.label}", one.paired, one.p_adjusted) for one in effects]
    return TextTable(HEADINGS, rows, frozenset({""}))


def _colours(found: Comparison) -> Iterator[bool | None]:
    """Yield for each line whether A is better there, or worse; None where a test does not tell."""
    yield _better(found.paired, found.paired.p_value)
    for _, effects in groupby(found.effects, key=lambda effect: effect.stratum):
        yield None
        yield from (_better(one.paired, one.p_adjusted) for one in effects)


def _better(paired: Paired, p: float) -> bool | None:
    return paired.difference.mean > 0 if p < SIGNIFICANCE else None


def _cells(label: str, paired: Paired, p: float) -> tuple[str, ...]:
    difference = paired.difference
    return (
        label,
        f"{paired.queries:,}",
        f"{paired.images:,}",
        f"{paired.a.mean:.4f}",
        f"{paired.b.mean:.4f}",
        f"{difference.mean:+.4f}",
        difference.ends("+.4f", ", "),
        f"{p:.4f}",
        *(f"{n:,}" for n in (paired.query_wins, paired.query_losses, paired.query_ties)),
    )


def _notes(found: Comparison) -> list[str]:
    """Return what is said below the table."""
    paired = found.paired
    wins = f"A wins {paired.image_wins:,}, loses {paired.image_losses:,}, ties {paired.image_ties:,}"
    notes = [f"By image: {wins}. p by sign flips of images, adjusted by Holm's method within each group."]
    return [*notes, *([TOO_FEW_NOTE] if any(too_few(effect.images) for effect in found.effects) else [])]


def _corrected(found: Comparison) -> list[str]:
    """Return what judgments make of it; nothing if there are none."""
    return [compare_corrected.sentence(found.corrected)] if found.corrected else []


def to_markdown(found: Comparison) -> str:
    """Return a comparison in Markdown."""
    title = f"**{escape_markdown(f'{found.title} · {found.metric}')}**"
    models = [f"{letter}: {escape_markdown(name)}" for letter, name in (("A", found.model_a), ("B", found.model_b))]
    notes = (sentence(found), *_corrected(found), *_notes(found))
    said = [line for note in notes for line in (escape_markdown(note), "")]
    return "\n".join([title, "", ", ".join(models), "", *markdown_lines(_table(found)), *said[:-1]]) + "\n"


def to_latex(found: Comparison) -> str:
    """Return a comparison as a LaTeX `tabular`, and what is said of it as comments."""
    title = f"{found.title} · {found.metric}: A {found.model_a}, B {found.model_b}"
    comments = [latex_comment(text) for text in (title, sentence(found), *_corrected(found), *_notes(found))]
    return "\n".join([LATEX_NEEDS, *comments, *latex_lines(_table(found))])


def to_json(found: Comparison) -> str:
    """Return a list of the one comparison in strict JSON."""
    return json.dumps([as_json(found)], indent=2, allow_nan=False) + "\n"


def as_json(found: Comparison) -> dict[str, Any]:
    """Return strict JSON content of a comparison."""

    def plain(paired: Paired) -> dict:
        return {
            key: value._asdict() if isinstance(value, tuple) else value  # type: ignore[union-attr]
            for key, value in paired._asdict().items()
        }

    return {
        **{key: getattr(found, key) for key in ("model_a", "model_b", "task", "title", "content_id", "metric")},
        **plain(found.paired),
        "p_adjusted": found.paired.p_value,  # of one pair
        "sentence": sentence(found),
        "corrected": found.corrected and compare_corrected.as_json(found.corrected),
        "strata": [{**effect._asdict(), "paired": plain(effect.paired)} for effect in found.effects],
    }


def to_csv(found: Comparison) -> str:
    """Return a comparison as CSV: a row for all queries, and one for each part of a division."""
    about = {key: getattr(found, key) for key in ("task", "title", "content_id", "metric", "model_a", "model_b")}
    of_all = {"stratum": "", "label": "all", **_figures(found.paired, found.paired.p_value)}
    parts = [
        {"stratum": one.stratum, "label": one.label, **_figures(one.paired, one.p_adjusted)} for one in found.effects
    ]
    rows = [{**about, **part} for part in (of_all, *parts)]
    return csv_text(list(rows[0]), rows)


def _figures(paired: Paired, p_adjusted: float) -> dict[str, Any]:
    return {
        "queries": paired.queries,
        "images": paired.images,
        "score_a": paired.a.mean,
        "score_b": paired.b.mean,
        "difference": paired.difference.mean,
        "ci_low": paired.difference.low,
        "ci_high": paired.difference.high,
        "p_value": paired.p_value,
        "p_adjusted": p_adjusted,
        "query_wins": paired.query_wins,
        "query_losses": paired.query_losses,
        "query_ties": paired.query_ties,
    }


TEXT = {"markdown": to_markdown, "json": to_json, "csv": to_csv, "latex": to_latex}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `vehicle-search compare`."""
    parser.add_argument(
        "models", nargs="+", metavar="MODEL", help=f"two, or more for a matrix of all their pairs: {MODEL_HELP}"
    )
    parser.add_argument("--metric", default="ndcg_at_10", choices=scored())
    parser.add_argument(
        "--data", type=Path, metavar="FOLDER", help="evaluation set, for strata by caption of two models"
    )
    parser.add_argument("--resamples", type=int, default=RESAMPLES, help=f"random sign flips (default: {RESAMPLES})")
    parser.add_argument("--seed", type=int, default=0, help="seed of the sign flips (default: 0)")
    parser.add_argument(
        "--format", choices=("table", *TEXT), default="table", help="latex needs the package booktabs (default: table)"
    )
    judgments_at_hand.add_arguments(parser)
    add_selection_arguments(parser)


def main(args: argparse.Namespace) -> int:
    """Print the comparison; return the exit code."""
    if len(args.models) < 2:
        raise ResultsError("A comparison needs two models.", "vehicle-search compare MODEL_A MODEL_B")
    if args.resamples < 100:
        raise ResultsError(f"{args.resamples} resamples are too few for a p-value.", "Use 100 or more.")
    if args.data and len(args.models) > 2:
        raise UsageError("--data is for strata by caption, which are of two models.", "Compare two, or leave it out.")
    records = choose_runs(args.models, args.runs, content_id=args.content_id, task=args.task)
    runs = [load_ranks(record) for record in records]
    chosen = {"resamples": args.resamples, "seed": args.seed}
    content_id = str(records[0].info["content_id"])
    at_hand = judgments_at_hand.judgments_of([content_id], judgments_at_hand.source_of(args))
    sys.stderr.writelines(f"skipped {problem}\n" for problem in at_hand.problems)
    # Nothing is corrected without judgments of the set.
    judged = at_hand.of(content_id)
    if len(runs) > 2:
        matrix = all_pairs(runs, args.metric, **chosen)
        if judged is not None:
            ordered = [runs[at] for at in matrix.order]
            corrected = compare_corrected.corrected_pairs(ordered, judged, args.metric, **chosen)
            matrix = matrix._replace(corrected=tuple(corrected))
        if args.format == "table":
            matrix_table.show(matrix)
        else:
            sys.stdout.write(matrix_table.TEXT[args.format](matrix))
        return 0
    queries = queries_of(content_id, args.data)
    found = compare(runs[0], runs[1], args.metric, queries=queries, **chosen)
    if judged is not None:
        (corrected,) = compare_corrected.corrected_pairs(runs, judged, args.metric, **chosen)
        found = found._replace(corrected=corrected)
    if args.format != "table":
        sys.stdout.write(TEXT[args.format](found))
        return 0
    show(found)
    if queries is None:
        console().print("Strata by caption need the evaluation set: --data FOLDER.")
    return 0
