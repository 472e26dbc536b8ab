"""The corrected difference of two runs, beneath the one by the labels."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from mteb_vehicle_search.analysis.corrected import Corrected, JudgedSample, corrected, corrected_difference
from mteb_vehicle_search.analysis.judgments_at_hand import Source, judgments_of
from mteb_vehicle_search.analysis.ranks import RunRanks
from mteb_vehicle_search.analysis.uncertainty import RESAMPLES, Interval, holm
from mteb_vehicle_search.errors import ResultsError
from mteb_vehicle_search.judgments.reading import Problem


class CorrectedPair(NamedTuple):
    """Two runs' corrected scores and their difference a - b with its p-value, or why there are none.

    `p_adjusted` is Holm's over all pairs that are compared at once.
    """

    a: Corrected
    b: Corrected
    difference: Interval | None = None
    p_value: float | None = None
    why: str = ""
    p_adjusted: float | None = None


def corrected_pair(
    a: RunRanks,
    b: RunRanks,
    judged: Sequence[JudgedSample],
    metric: str,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> CorrectedPair:
    """Return the corrected scores of two runs with the same queries and their difference."""
    both = corrected(a, judged, metric), corrected(b, judged, metric)
    try:
        difference, p_value = corrected_difference(a, b, judged, metric, resamples=resamples, seed=seed)
    except ResultsError as error:
        return CorrectedPair(*both, why=error.message)
    return CorrectedPair(*both, difference, p_value)


def corrected_pairs(
    runs: Sequence[RunRanks], metric: str, source: Source, *, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[list[CorrectedPair], list[Problem]]:
    """Return all pairs of runs on one evaluation set, (0, 1), (0, 2), ... (1, 2), ..., and what was not used.

    There are no pairs if there are no judgments of the set.
    """
    content_id = runs[0].record.info["content_id"]
    at_hand = judgments_of([content_id], source)
    judged = at_hand.of(content_id)
    if judged is None:
        return [], at_hand.problems
    chosen = {"resamples": resamples, "seed": seed}
    pairs = [corrected_pair(a, b, judged, metric, **chosen) for a, b in combinations(runs, 2)]
    adjusted = iter(holm(np.array([one.p_value for one in pairs if one.p_value is not None])).tolist())
    pairs = [one if one.p_value is None else one._replace(p_adjusted=next(adjusted)) for one in pairs]
    return pairs, at_hand.problems


def sentence(found: CorrectedPair) -> str:
    """Return what judgments make of the difference."""
    if found.difference is None or found.p_adjusted is None:
        return found.why
    p = f"p = {found.p_adjusted:.4f}" if found.p_adjusted >= 0.001 else "p < 0.001"
    return (
        f"Corrected by {found.a.units:,} judged captions: {found.a.metric} {found.a.value:.4f} and "
        f"{found.b.value:.4f}, a difference of {found.difference.mean:+.4f} "
        f"(95 % interval {found.difference.ends('+.4f', ' to ')}, {p})."
    )


def as_json(found: CorrectedPair) -> dict[str, Any]:
    """Return strict JSON content."""

    def plain(one: Corrected) -> dict[str, Any]:
        return {key: value._asdict() if isinstance(value, Interval) else value for key, value in one._asdict().items()}

    return {
        "a": plain(found.a),
        "b": plain(found.b),
        "difference": found.difference and found.difference._asdict(),
        "p_value": found.p_value,
        "p_adjusted": found.p_adjusted,
        "why": found.why or None,
    }
