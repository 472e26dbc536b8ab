"""How wide corrected scores' intervals are, or will be once so many units of a sample are judged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mteb_vehicle_search.analysis.corrected import Corrected, corrected_scores
from mteb_vehicle_search.analysis.judged_units import JudgedSample
from mteb_vehicle_search.analysis.ranks import RunRanks
from mteb_vehicle_search.analysis.situations import Situations
from mteb_vehicle_search.judgments import Judgments, Sample
from mteb_vehicle_search.judgments.judgment import NO, RELEVANT
from mteb_vehicle_search.judgments.reading import Judged

DRAWS = 3


class HalfWidths(NamedTuple):
    """Half the width of 95 % intervals of corrected scores, the widest over the runs: for further images, and these."""

    images: float
    judging: float


def half_width_now(
    runs: Sequence[RunRanks], judgments: Judgments, sample: Sample, metric: str = "ndcg_at_10"
) -> HalfWidths | None:
    """Return how wide the intervals are by what was judged of a sample; None while too little was."""
    judged = JudgedSample(sample.id, sample, judgments.judged(sample), judgments.grades)
    return _widest(corrected_scores(Situations(runs, [judged]), metric))


def half_width_bought(
    runs: Sequence[RunRanks], sample: Sample, units: int, share: float = 0.1, metric: str = "ndcg_at_10"
) -> HalfWidths | None:
    """Return how wide the intervals will be once the first `units` of a sample are judged; None if they are too few.

    `share` of the images in question are supposed to be right, each by itself: random answers are tried and averaged.
    """
    generator, tried = np.random.default_rng(sample.seed), []
    for _ in range(DRAWS):
        judged, grades = [], {}
        for unit in sample.units[:units]:
            right = generator.random(len(unit.images)) < share
            said = {image: RELEVANT if one else NO for image, one in zip(unit.images, right.tolist())}
            judged.append(Judged(unit, {"supposed": said}))
            grades |= {(unit.query, image): {"supposed": grade} for image, grade in said.items()}
        supposed = JudgedSample("", sample, judged, grades)
        tried.append(_widest(corrected_scores(Situations(runs, [supposed]), metric)))
    found = [one for one in tried if one]
    return HalfWidths(*np.mean(found, axis=0).tolist()) if found else None


def _widest(found: Sequence[Corrected]) -> HalfWidths | None:
    if not found or any(one.why for one in found):
        return None
    halves = [[(high - low) / 2 for _, low, high in (one.interval, one.judging)] for one in found]  # type: ignore[misc]
    return HalfWidths(*np.max(halves, axis=0).tolist())
