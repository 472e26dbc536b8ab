"""What the scores mean: leaderboard, intervals, comparison, corpus growth, ranks in a pool, bias of miners.

Reads mteb's result files and run records; never loads a model. What the functions return are named tuples and rows,
which `pandas.DataFrame(...)` takes; README.md shows how.
"""

from mteb_vehicle_search.analysis.bias import miner_bias
from mteb_vehicle_search.analysis.corpus_growth import equivalence, growth, hold_out
from mteb_vehicle_search.analysis.leaderboard import build_leaderboard, rank_ranges
from mteb_vehicle_search.analysis.population import pool_figures
from mteb_vehicle_search.analysis.ranks import load_ranks
from mteb_vehicle_search.analysis.selection import choose_runs
from mteb_vehicle_search.analysis.strata import queries_of
from mteb_vehicle_search.analysis.uncertainty import clustered_interval, holm, paired_comparison

__all__ = [
    "build_leaderboard",
    "choose_runs",
    "clustered_interval",
    "equivalence",
    "growth",
    "hold_out",
    "holm",
    "load_ranks",
    "miner_bias",
    "paired_comparison",
    "pool_figures",
    "queries_of",
    "rank_ranges",
]
