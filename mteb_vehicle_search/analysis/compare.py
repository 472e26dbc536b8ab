"""Is model A better than model B, and on which queries: paired tests on the same evaluation set."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from itertools import combinations, groupby
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mteb_vehicle_search.analysis.names import MODEL_HELP, shown_names
from mteb_vehicle_search.analysis.ranks import RunRanks, load_ranks, require_same_queries
from mteb_vehicle_search.analysis.selection import add_selection_arguments, choose_runs
from mteb_vehicle_search.analysis.sets import title_of
from mteb_vehicle_search.analysis.strata import in_order, queries_of, strata
from mteb_vehicle_search.analysis.uncertainty import (
    RESAMPLES,
    TOO_FEW_NOTE,
    Interval,
    Paired,
    holm,
    paired_comparison,
    too_few,
)
from mteb_vehicle_search.errors import ResultsError
from mteb_vehicle_search.metrics import scored
from mteb_vehicle_search.terminal import console, print_columns

if TYPE_CHECKING:
    from rich.console import Console

    from mteb_vehicle_search.eval_set.schema import Query

SIGNIFICANCE = 0.05


class StratumEffect(NamedTuple):
    """The comparison, A - B, within one part (`label`) of the division `stratum`, by its queries and relevant images.

    The p-value is adjusted by Holm's method for the parts of this division.
    """

    stratum: str
    label: str
    queries: int
    images: int
    paired: Paired
    p_adjusted: float


class Comparison(NamedTuple):
    """Two runs on one evaluation set, by names that differ."""

    model_a: str
    model_b: str
    task: str
    title: str
    content_id: str
    metric: str
    paired: Paired
    effects: list[StratumEffect]


def compare(
    a: RunRanks,
    b: RunRanks,
    metric: str = "ndcg_at_10",
    *,
    queries: Sequence[Query] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Comparison:
    """Compare two runs on the same evaluation set in one of `metrics.scored()`.

    The captions (`queries`) are for the strata that need them; without, those are left out. `resamples` is the number
    of random sign flips, `seed` theirs.

    Raises:
        ResultsError: The runs are on different evaluation sets or do not have the same queries.
    """
    require_same_queries(a, b)
    first, second, clusters = a.scores(metric), b.scores(metric), a.clusters
    paired = paired_comparison(first, second, clusters, resamples=resamples, seed=seed)
    effects = []
    for name, labels in strata(a, b, queries).items():
        parts = []
        for label in in_order(labels.tolist()):
            mask = labels == label
            found = paired_comparison(first[mask], second[mask], clusters[mask], resamples=resamples, seed=seed)
            parts.append((label, int(mask.sum()), len(np.unique(clusters[mask])), found))
        adjusted = holm(np.array([found.p_value for *_, found in parts])).tolist()
        effects += [StratumEffect._make((name, *part, p)) for part, p in zip(parts, adjusted)]
    info = a.record.info
    first_name, second_name = shown_names([run.record.key for run in (a, b)])
    task, content_id = info["task_name"], info["content_id"]
    return Comparison(first_name, second_name, task, title_of(info), content_id, metric, paired, effects)


def sentence(found: Comparison) -> str:
    """Return the result in one plain sentence."""
    paired, metric = found.paired, found.metric
    better, worse = (found.model_a, found.model_b) if paired.difference.mean > 0 else (found.model_b, found.model_a)
    high, low = max(paired.a.mean, paired.b.mean), min(paired.a.mean, paired.b.mean)
    wins, losses = paired.query_wins, paired.query_losses
    total = paired.queries
    if paired.difference.mean < 0:
        wins, losses = losses, wins
    p = f"p = {paired.p_value:.4f}" if paired.p_value >= 0.001 else "p < 0.001"
    difference, why = paired.difference, too_few(paired.images)
    if paired.p_value < SIGNIFICANCE:
        sides = difference if difference.mean > 0 else difference.mirrored()
        return (
            f"{better} is better than {worse} on {found.title}: {metric} {high:.4f} against {low:.4f}, a difference of "
            f"{high - low:.4f} ({_within(sides, '.4f', why)}, {p}); of {total:,} queries it wins {wins:,} and loses "
            f"{losses:,}."
        )
    if wins == losses == 0:
        return f"{found.model_a} and {found.model_b} score the same on every query of {found.title}."
    return (
        f"These runs do not tell {found.model_a} and {found.model_b} apart on {found.title}: {metric} "
        f"{paired.a.mean:.4f} and {paired.b.mean:.4f}, a difference of {difference.mean:+.4f} "
        f"({_within(difference, '+.4f', why)}, {p})."
    )


def _within(interval: Interval, form: str, why: str) -> str:
    return f"no interval: {why}" if why else f"95 % interval {interval.ends(form, ' to ')}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `vehicle-search compare`."""
    parser.add_argument("models", nargs="+", metavar="MODEL", help=f"two or more: {MODEL_HELP}")
    parser.add_argument("--metric", default="ndcg_at_10", choices=scored())
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="evaluation set, for strata by caption")
    parser.add_argument("--resamples", type=int, default=RESAMPLES, help=f"random sign flips (default: {RESAMPLES})")
    parser.add_argument("--seed", type=int, default=0, help="seed of the sign flips (default: 0)")
    parser.add_argument("--format", choices=("table", "json"), default="table")
    add_selection_arguments(parser)


def main(args: argparse.Namespace) -> int:
    """Print the comparison; return the exit code."""
    if len(args.models) < 2:
        raise ResultsError("A comparison needs two models.", "vehicle-search compare MODEL_A MODEL_B")
    if args.resamples < 100:
        raise ResultsError(f"{args.resamples} resamples are too few for a p-value.", "Use 100 or more.")
    records = choose_runs(args.models, args.runs, content_id=args.content_id, task=args.task)
    runs = [load_ranks(record) for record in records]
    queries = queries_of(str(records[0].info["content_id"]), args.data)
    found = [
        compare(a, b, args.metric, queries=queries, resamples=args.resamples, seed=args.seed)
        for a, b in combinations(runs, 2)
    ]
    # The same names in all pairs.
    pairs = combinations(shown_names([record.key for record in records]), 2)
    found = [one._replace(model_a=a, model_b=b) for one, (a, b) in zip(found, pairs)]
    adjusted = holm(np.array([one.paired.p_value for one in found])).tolist()
    if args.format == "json":
        content = [as_json(one, p) for one, p in zip(found, adjusted)]
        sys.stdout.write(json.dumps(content, indent=2, allow_nan=False) + "\n")
        return 0
    screen = console()
    for one, p in zip(found, adjusted):
        _show(screen, one, p, len(found))
    if queries is None:
        screen.print("Strata by caption need the evaluation set: --data FOLDER.")
    return 0


def as_json(found: Comparison, p_adjusted: float) -> dict:
    """Return strict JSON content of a comparison; `p_adjusted` is Holm's over all pairs compared at once."""

    def plain(paired: Paired) -> dict:
        return {
            key: value._asdict() if isinstance(value, tuple) else value  # type: ignore[union-attr]
            for key, value in paired._asdict().items()
        }

    return {
        **{key: getattr(found, key) for key in ("model_a", "model_b", "task", "title", "content_id", "metric")},
        **plain(found.paired),
        "p_adjusted": p_adjusted,
        "sentence": sentence(found),
        "strata": [{**effect._asdict(), "paired": plain(effect.paired)} for effect in found.effects],
    }


COLUMNS = ("", "queries", "images", "A", "B", "A - B", "95 % interval", "p", "wins", "losses", "ties")


def _show(screen: Console, found: Comparison, p_adjusted: float, pairs: int) -> None:
    paired = found.paired
    rows = [COLUMNS, _cells("all", paired, p_adjusted)]
    # A division's name stands on a line of its own above its parts.
    for stratum, effects in groupby(found.effects, key=lambda effect: effect.stratum):
        rows.append((stratum, *[""] * (len(COLUMNS) - 1)))
        rows += [_cells(f"  {one.label}", one.paired, one.p_adjusted) for one in effects]
    columns = [list(column) for column in zip(*rows)]
    screen.print(f"{found.title} · {found.metric}\nA {found.model_a}\nB {found.model_b}\n")
    print_columns(screen, "", columns[:2], columns[2:], {""})
    screen.print(
        f"\nBy image: A wins {paired.image_wins:,}, loses {paired.image_losses:,}, ties {paired.image_ties:,}. "
        "p by sign flips of images, adjusted by Holm's method within each group"
        + (f" and over the {pairs} pairs." if pairs > 1 else ".")
    )
    if any(too_few(effect.images) for effect in found.effects):
        screen.print(TOO_FEW_NOTE)
    screen.print(f"\n{sentence(found)}\n")


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
