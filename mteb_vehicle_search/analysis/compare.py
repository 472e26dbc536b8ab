"""Is model A better than model B, and on which queries: paired tests on the same evaluation set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mteb_vehicle_search.analysis.compare_corrected import CorrectedPair
from mteb_vehicle_search.analysis.names import shown_names
from mteb_vehicle_search.analysis.ranks import RunRanks, require_same_queries
from mteb_vehicle_search.analysis.sets import title_of
from mteb_vehicle_search.analysis.strata import in_order, strata
from mteb_vehicle_search.analysis.uncertainty import (
    RESAMPLES,
    Interval,
    Paired,
    holm,
    p_text,
    paired_comparison,
    too_few,
)

if TYPE_CHECKING:
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
    """Two runs on one evaluation set, by names that differ; and as corrected, where there are judgments of the set."""

    model_a: str
    model_b: str
    task: str
    title: str
    content_id: str
    metric: str
    paired: Paired
    effects: list[StratumEffect]
    corrected: CorrectedPair | None = None


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
    p = p_text(paired.p_value)
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
