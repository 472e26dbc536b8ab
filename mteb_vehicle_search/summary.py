"""What a run shows at its end: its scores, and where they are stored."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mteb_vehicle_search.analysis import caveats
from mteb_vehicle_search.analysis.population import pool_figures
from mteb_vehicle_search.analysis.population_table import in_short
from mteb_vehicle_search.analysis.ranks import RunRanks
from mteb_vehicle_search.analysis.uncertainty import Interval, too_few
from mteb_vehicle_search.metrics import METRICS
from mteb_vehicle_search.run_record import RunKey
from mteb_vehicle_search.terminal import console, print_columns, show_in_a_run

SMOKE_TEST = "This was a smoke test on a part of the set: its scores mean nothing, and nothing of it is stored."


def show_summary(info: dict[str, Any], record: Path | None, ranks: Callable[[], RunRanks] | None = None) -> None:
    """Print the table that ends a run, from its `run.json`, and where its record lies; never raises.

    Without a record it was a smoke test, which is said instead. With its ranks it also says if the scores are those of
    chance, if ties decide them, and what they are in the pool that the set was drawn from.
    """
    rate = f"{info['images_per_s']:,.0f}" if info.get("images_per_s") else "resumed"

    def table() -> None:
        _print_scores(str(info.get("title") or info["task_name"]), info, info["scores"], {"images/s": rate})
        screen = console()
        run = ranks() if ranks else None
        for line in [*_in_the_pool(run), *(caveats.of_run(run) if run else []), *caveats.of_texts(info)]:
            screen.print(f"\n{line}")
        sys.stdout.write(f"\nrun record  {record.absolute()}\n" if record else f"\n{SMOKE_TEST}\n")

    show_in_a_run(table)


def _in_the_pool(run: RunRanks | None) -> list[str]:
    """Return the line on the pool that the corpus of a run was drawn from; none if it was not."""
    if run is None or run.arms is None or not run.one_relevant:
        return []
    return [in_short(run.arms, pool_figures(run, ("ndcg_at_10", "recall_at_1")))]


def show_written(path: Path) -> None:
    """Print where mteb wrote the result of a run; never raises."""
    show_in_a_run(lambda: sys.stdout.write(f"result      {path.absolute()}\n"))


def show_stored(content: dict[str, Any], path: Path, model: str) -> None:
    """Print what mteb answers a run with that has a stored result, from the content of that file; never raises."""

    def table() -> None:
        scores, date = content["scores"]["test"][0], content.get("date")
        written = datetime.fromtimestamp(date, UTC).date().isoformat() if isinstance(date, (int, float)) else "unknown"
        info = {**scores.get("run", {}), "model_name": model}
        _print_scores(str(content["task_name"]), info, scores, {"measured on": written})
        sys.stdout.write(f"\nstored in   {path.absolute()}\nTo evaluate again, add --overwrite-strategy always.\n")

    show_in_a_run(table)


def show_imported(info: dict[str, Any], record: Path) -> None:
    """Print the scores of a run that was imported, from its `run.json`, and where its record lies."""
    told = info["imported"]
    depth = "all known" if told["depth"] is None else f"known to {told['depth']:,}"
    _print_scores(str(info["title"]), info, info["scores"], {"ranks": depth})
    if told["missing_queries"]:
        sys.stdout.write(
            f"\n{told['missing_queries']:,} of {info['query_count']:,} queries are missing, and count as 0.\n"
        )
    sys.stdout.write(f"\nrun record  {record.absolute()}\n")


def _print_scores(title: str, info: dict[str, Any], scores: dict[str, Any], last: dict[str, str]) -> None:
    def number(key: str, form: str = ".4f") -> str:
        return format(scores[key], form) if key in scores else "–"

    # Where queries have several relevant images there is no interval, and no number of images.
    why = too_few(int(scores["ndcg_at_10_ci_images"])) if "ndcg_at_10_ci_images" in scores else ""
    ends = Interval(0.0, scores.get("ndcg_at_10_ci_low"), scores.get("ndcg_at_10_ci_high")).ends(between=" – ")
    cells = {
        METRICS["ndcg_at_10"].heading: number("ndcg_at_10"),
        "95 % interval": f"{ends} ({why})" if why else ends,
        **{METRICS[key].heading: number(key) for key in ("map_at_10", "recall_at_1", "recall_at_10")},
        "median rank": number("median_rank", "g"),
        **last,
    }
    key = RunKey.of(info)
    modes = [mode for mode in (key.precision, key.preprocess) if mode not in ("fp32", "exact", "unknown", "")]
    heading = " · ".join([title, key.name, *modes])
    print_columns(console(), f"\n{heading}", [], [[*cell] for cell in cells.items()], ())
