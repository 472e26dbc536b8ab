"""`vehicle-search population`: the figures of models in the pool that a corpus was drawn from, in tables and words."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console

from mteb_vehicle_search.analysis.arms import Arms, family_of, is_miner
from mteb_vehicle_search.analysis.names import MODEL_HELP, shown_names
from mteb_vehicle_search.analysis.population import FIGURES, HEADINGS, Figure, pool_figures, require_arms
from mteb_vehicle_search.analysis.ranks import RunRanks, load_ranks
from mteb_vehicle_search.analysis.runs import meta_of
from mteb_vehicle_search.analysis.selection import add_selection_arguments, choose_runs
from mteb_vehicle_search.analysis.sets import title_of
from mteb_vehicle_search.analysis.uncertainty import TOO_FEW_NOTE, Interval
from mteb_vehicle_search.metrics import METRICS, growing
from mteb_vehicle_search.terminal import console, print_columns


def sentence(arms: Arms, first: Interval) -> str:
    """Return in plain words for how many captions the relevant image comes first in the pool; `first` is its R@1."""
    ends = "" if first.low is None or first.high is None else f" ({100 * first.low:.0f}–{100 * first.high:.0f})"
    return (
        f"In a pool of {arms.pool:,} images the caption's photograph is first for {100 * first.mean:.0f} %{ends} of "
        "the captions."
    )


def in_short(arms: Arms, found: Mapping[str, Figure]) -> str:
    """Return a line on nDCG@10 and R@1 in the pool."""
    parts = (
        f"{METRICS[key].heading} {found[key].pool:.4f} ({found[key].interval.ends()})"
        for key in ("ndcg_at_10", "recall_at_1")
    )
    return f"In the pool of {arms.pool:,} images, estimated: {', '.join(parts)}."


def how_sampled(arms: Arms) -> str:
    """Return in plain words how the corpus was drawn from the pool."""
    who = ", ".join(sorted(arms.miners)) or "nobody"
    return (
        f"The pool: {arms.near:,} near images (mined by {who}), all searched; of {arms.far:,} far ones a random "
        f"{arms.sampled:,} ({100 * arms.probability:.3g} %). The captioned images are searched beside it."
    )


def kinship(name: str, own: str | None, family: str) -> list[str]:
    """Return the line that marks a model as the miner `own`, or of the `family` of some; none if it is neither."""
    if own:
        return [f"{name} is the miner {own}: it chose near images itself."]
    return [f"{name} is of the family of {family}, which mined."] if family else []


def shown(metric: str, value: float | None) -> str:
    """Return a figure as tables show it: ranks by thousands, scores with four digits."""
    return "–" if value is None else f"{value:,.1f}" if metric in HEADINGS else f"{value:.4f}"


def heading_of(metric: str) -> str:
    """Return the name of a figure in tables."""
    return HEADINGS.get(metric) or METRICS[metric].heading


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `vehicle-search population`."""
    parser.description = "Show the ranks that models would have in the whole pool that the corpus was drawn from."
    parser.add_argument("models", nargs="+", metavar="MODEL", help=MODEL_HELP)
    parser.add_argument(
        "--metric", action="append", choices=(*growing(), *HEADINGS), help=f"repeatable (default: {', '.join(FIGURES)})"
    )
    parser.add_argument("--format", choices=("table", "json"), default="table")
    add_selection_arguments(parser)


def main(args: argparse.Namespace) -> int:
    """Print the figures of each model in the pool; return the exit code."""
    records = choose_runs(args.models, args.runs, content_id=args.content_id, task=args.task)
    metrics = list(dict.fromkeys(args.metric or FIGURES))
    found, screen = [], console()
    for record, name in zip(records, shown_names([record.key for record in records])):
        ranks = load_ranks(record)
        arms, meta = require_arms(ranks), meta_of(record.key)
        asked = pool_figures(ranks, list(dict.fromkeys([*metrics, "recall_at_1"])))
        lines = [sentence(arms, asked["recall_at_1"].interval), how_sampled(arms)]
        akin = family_of(record.key.model, meta, arms.miners)
        lines += kinship(name, is_miner(record.key.model, arms.miners), " and ".join(akin))
        figures = [asked[metric] for metric in metrics]
        found.append({"name": name, **as_json(ranks, figures, lines[0], akin)})
        if args.format == "table":
            _show(screen, f"{title_of(record.info)} · {name}", figures, lines)
    if args.format == "json":
        sys.stdout.write(json.dumps(found, indent=2, allow_nan=False, ensure_ascii=False) + "\n")
    return 0


def as_json(ranks: RunRanks, figures: Sequence[Figure], line: str, akin: list[str]) -> dict[str, Any]:
    """Return strict JSON content of the figures of a run; `akin` are the miners of its family."""
    arms = require_arms(ranks)
    return {
        **ranks.about,
        "pool": {"images": arms.pool, "near": arms.near, "far": arms.far, "sampled": arms.sampled},
        "miners": sorted(arms.miners),
        "miner_family": akin,
        "figures": [
            {
                "metric": one.metric,
                "corpus": one.corpus,
                "pool": one.pool,
                "interval": [one.interval.low, one.interval.high],
                "sampling": [one.sampling.low, one.sampling.high],
            }
            for one in figures
        ],
        "sentence": line,
    }


def _show(screen: Console, title: str, figures: Sequence[Figure], lines: Sequence[str]) -> None:
    def ends(figure: Figure, interval: Interval) -> str:
        low, high = (shown(figure.metric, end) for end in (interval.low, interval.high))
        return "–" if interval.low is None else f"{low}–{high}"

    rows = [
        ("", "corpus", "pool", "95 % interval", "sampling alone"),
        *(
            (
                heading_of(one.metric),
                shown(one.metric, one.corpus),
                shown(one.metric, one.pool),
                ends(one, one.interval),
                ends(one, one.sampling),
            )
            for one in figures
        ),
    ]
    columns = [list(column) for column in zip(*rows)]
    print_columns(screen, title, columns[:1], columns[1:], {""})
    if any(one.interval.low is None for one in figures):
        screen.print(TOO_FEW_NOTE)
    for line in lines:
        screen.print(f"\n{line}")
    screen.print()
