"""What the scores mean: leaderboard, intervals, comparison, corpus growth.

Reads mteb's result files and run records; never loads a model. For notebooks, every `*_frame` function returns a
pandas frame of what the command of the same name prints.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mteb_vehicle_search.analysis.corpus_growth import equivalence, growth, hold_out
    from mteb_vehicle_search.analysis.frames import (
        comparison_frame,
        equivalence_frame,
        growth_frame,
        leaderboard_frame,
        queries_frame,
        strata_frame,
    )
    from mteb_vehicle_search.analysis.leaderboard import build_leaderboard, rank_groups
    from mteb_vehicle_search.analysis.ranks import load_ranks
    from mteb_vehicle_search.analysis.uncertainty import clustered_interval, holm, paired_comparison

_MODULES = {
    "build_leaderboard": "leaderboard",
    "clustered_interval": "uncertainty",
    "comparison_frame": "frames",
    "equivalence": "corpus_growth",
    "equivalence_frame": "frames",
    "growth": "corpus_growth",
    "growth_frame": "frames",
    "hold_out": "corpus_growth",
    "holm": "uncertainty",
    "leaderboard_frame": "frames",
    "load_ranks": "ranks",
    "paired_comparison": "uncertainty",
    "queries_frame": "frames",
    "rank_groups": "leaderboard",
    "strata_frame": "frames",
}

__all__ = [
    "build_leaderboard",
    "clustered_interval",
    "comparison_frame",
    "equivalence",
    "equivalence_frame",
    "growth",
    "growth_frame",
    "hold_out",
    "holm",
    "leaderboard_frame",
    "load_ranks",
    "paired_comparison",
    "queries_frame",
    "rank_groups",
    "strata_frame",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
