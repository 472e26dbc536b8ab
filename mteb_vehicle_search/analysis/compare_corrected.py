"""The corrected difference of two runs, beneath the one by the labels."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, partial
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from mteb_vehicle_search.analysis.corrected import (
    Corrected,
    corrected_beside,
    corrected_differences,
    corrected_scores,
    no_difference,
)
from mteb_vehicle_search.analysis.judged_units import JudgedSample, Unfit
from mteb_vehicle_search.analysis.ranks import RunRanks
from mteb_vehicle_search.analysis.situations import Situations
from mteb_vehicle_search.analysis.uncertainty import RESAMPLES, Interval, holm, p_text


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


def corrected_pairs(
    runs: Sequence[RunRanks],
    judged: Sequence[JudgedSample],
    metric: str,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[CorrectedPair]:
    """Return all pairs of runs on one evaluation set, (0, 1), (0, 2), ... (1, 2), ..., as corrected by its samples."""
    beside = Situations(runs, judged)
    differences = corrected_differences(beside, metric, resamples=resamples, seed=seed)
    alone, of_sample = corrected_scores(beside, metric), cache(partial(corrected_beside, metric=metric))
    pairs = []
    for (a, b), told in zip(combinations(range(len(runs)), 2), differences):
        if isinstance(told, Unfit):
            pairs.append(CorrectedPair(alone[a], alone[b], why=no_difference(told)))
        else:
            # By the sample that both fit, as their difference is; each may fit a larger one.
            of_a, of_b = map(of_sample, beside.of(a, b))
            pairs.append(CorrectedPair(of_a, of_b, *told))
    adjusted = iter(holm(np.array([one.p_value for one in pairs if one.p_value is not None])).tolist())
    return [one if one.p_value is None else one._replace(p_adjusted=next(adjusted)) for one in pairs]


def sentence(found: CorrectedPair) -> str:
    """Return what judgments make of the difference."""
    if found.difference is None or found.p_adjusted is None:
        return found.why
    model = found.a.predicted_by.partition("@")[0]
    by = f"{found.a.units:,} judged captions{f' and predictions of {model}' if model else ''}"
    return (
        f"Corrected by {by}: {found.a.metric} {found.a.value:.4f} and "
        f"{found.b.value:.4f}, a difference of {found.difference.mean:+.4f} "
        f"(95 % interval {found.difference.ends('+.4f', ' to ')}, {p_text(found.p_adjusted)})."
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
