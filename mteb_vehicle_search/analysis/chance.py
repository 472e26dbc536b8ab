"""What a model that knows nothing would score, and whether a run is better than it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mteb_vehicle_search.analysis.ranks import RunRanks
from mteb_vehicle_search.analysis.uncertainty import cluster_sums, clustered_interval, holm, sign_flip_p_values
from mteb_vehicle_search.metrics import METRICS, Grouped, scored

# A run is better than chance at this level, adjusted over the runs.
LEVEL = 0.05


def random_scores(run: RunRanks) -> dict[str, float]:
    """Return the expected scores of a random ranking of the run's corpus, and its expected median rank.

    They are exact, to six digits: whatever the relevant images and their grades, each has each rank with equal chance.
    """
    size = int(run.record.info["corpus_size"])
    asked = Grouped.of(run.query_ids, run.ranks, run.grades)
    # More digits would tell processors apart.
    means = {key: float(f"{METRICS[key].of_chance(asked, size).mean():.6g}") for key in scored()}
    return {**means, "median_rank": (size + 1) / 2}


class AgainstChance(NamedTuple):
    """Whether a run is better than a random ranking by a test, and its two-sided p-value, adjusted over the runs."""

    better: bool
    p_value: float


def against_chance(runs: Sequence[RunRanks]) -> list[AgainstChance]:
    """Test each run against a random ranking; all runs are of the same queries.

    A model that knows nothing gives every relevant image each rank from 1 to n with equal chance, so that its distance
    from the middle, (n + 1) / 2 - rank, is as likely to have the other sign: sign flips by image tell better models
    from it.
    """
    if not runs:
        return []
    above = [(int(run.record.info["corpus_size"]) + 1) / 2 - run.ranks for run in runs]
    # Every pair has the cluster of its query.
    clusters = np.repeat(runs[0].clusters, np.diff(np.append(runs[0].first, len(runs[0].query_ids))))
    p_values = holm(sign_flip_p_values(cluster_sums(np.stack(above, axis=1), clusters).sums))
    return [
        AgainstChance(bool(of_run.mean() > 0 and p_value <= LEVEL), p_value)
        for of_run, p_value in zip(above, p_values.tolist())
    ]


def better_than_chance(runs: Sequence[RunRanks]) -> list[bool]:
    """Say of each run whether its nDCG@10 is better than that of a random ranking; all runs are of the same queries.

    The test above has to tell its ranks from random ones, and the 95 % interval of its nDCG@10, if there is one, has to
    lie above the expectation: ranks in the thousands may be better than random ones while no score shows it.
    """
    lows = [clustered_interval(run.scores("ndcg_at_10"), run.clusters).low for run in runs]
    return [
        tested.better and (low is None or low > random_scores(run)["ndcg_at_10"])
        for run, low, tested in zip(runs, lows, against_chance(runs))
    ]
