"""Scores corrected by judgments: what a run scores once images that people found right no longer count against it.

Images judged right are taken out of the list before the rank of a known one is counted. So a corrected score has the
metric's own definition, and no ideal that is made of judged images. Only a sample is judged: `judged_sample.py` and
`judged_intervals.py` say how all captions are estimated from it. The target is what the same judges would say of all
images in question. Where they err, the score errs with them.

What a model predicts of the images may sharpen the estimate: all are predicted, and the judged ones correct that (the
difference estimator; Särndal, Swensson and Wretman, "Model assisted survey sampling", 1992, section 6.3). It is
unbiased whatever was predicted without looking at an image's own judgments, by whichever model, the scored one too.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

from mteb_vehicle_search.analysis.judged_intervals import Sampled, difference_intervals, score_intervals
from mteb_vehicle_search.analysis.judged_units import JudgedSample, Unfit
from mteb_vehicle_search.analysis.ranks import RunRanks
from mteb_vehicle_search.analysis.situations import Situation, Situations
from mteb_vehicle_search.analysis.uncertainty import RESAMPLES, Interval
from mteb_vehicle_search.errors import ResultsError
from mteb_vehicle_search.judgments import Judgments
from mteb_vehicle_search.judgments.judgment import PARTLY, RELEVANT


class Corrected(NamedTuple):
    """A corrected score of a run, or why there is none.

    Attributes:
        metric: Its key.
        raw: By the labels alone.
        value: As corrected; None if it cannot be.
        partly: The same with images that were judged partly right as right ones.
        interval: 95 %, for further images like these, judged by people like these.
        judging: 95 %, for these images: what their judges would find if they judged them all.
        units: Judged captions that it rests on.
        missing: Images in question of the run that nobody judged, where all had to be.
        sample: The id of the sample.
        why: Why there is none; "" if there is one.
        predicted_by: The model with its revision that predicted the images in question; "" if none did.
    """

    metric: str
    raw: float
    value: float | None = None
    partly: float | None = None
    interval: Interval | None = None
    judging: Interval | None = None
    units: int = 0
    missing: int = 0
    sample: str = ""
    why: str = ""
    predicted_by: str = ""


def corrected(
    run: RunRanks,
    judgments: Judgments | Sequence[JudgedSample],
    metric: str = "ndcg_at_10",
    *,
    relevant_from: int = RELEVANT,
) -> Corrected:
    """Return a score of a run as corrected by the sample with the most judged units that fits it, or why there is none.

    Args:
        run: The run.
        judgments: All judgments, or for many runs `judged_samples(judgments)`.
        metric: One of `metrics.scored()`.
        relevant_from: The least grade that counts as right.

    Raises:
        ResultsError: The metric is unknown.
    """
    return corrected_scores(Situations([run], judgments), metric, relevant_from=relevant_from)[0]


def corrected_scores(
    beside: Situations, metric: str = "ndcg_at_10", *, relevant_from: int = RELEVANT
) -> list[Corrected]:
    """Return what `corrected` gives for each of several runs."""
    scores = []
    for place, run in enumerate(beside.runs):
        found = beside.of(place)
        if isinstance(found, Unfit):
            raw = float(run.scores(metric).mean())
            scores.append(Corrected(metric, raw, missing=found.missing, why=found.why))
        else:
            scores.append(corrected_beside(found[0], metric, relevant_from=relevant_from))
    return scores


def corrected_beside(found: Situation, metric: str, *, relevant_from: int = RELEVANT) -> Corrected:
    """Return a score of a run as corrected by the sample that it stands beside."""
    sampled, sample = found.sampled(metric, relevant_from), found.sample
    interval, judging = _intervals(found, sampled)
    partly = _intervals(found, found.sampled(metric, PARTLY))[0].mean
    about = (len(sample.judged), 0, sample.id, "", sample.predicted.model if sample.predicted else "")
    return Corrected(metric, float(sampled.raw.mean()), interval.mean, partly, interval, judging, *about)


def _intervals(found: Situation, sampled: Sampled) -> tuple[Interval, Interval]:
    return score_intervals(sampled, found.clusters, found.frame)


def corrected_difference(
    a: RunRanks,
    b: RunRanks,
    judgments: Judgments | Sequence[JudgedSample],
    metric: str = "ndcg_at_10",
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[Interval, float]:
    """Return the corrected difference a - b of two runs with the same queries, its 95 % interval, and its p-value.

    Raises:
        ResultsError: The metric is unknown, or a run cannot be corrected; says why.
    """
    (found,) = corrected_differences(Situations([a, b], judgments), metric, resamples=resamples, seed=seed)
    if isinstance(found, Unfit):
        raise ResultsError(no_difference(found))
    return found


def no_difference(found: Unfit) -> str:
    """Return in words that there is no corrected difference, and why."""
    return f"There is no corrected difference: {found.why}."


def corrected_differences(
    beside: Situations, metric: str = "ndcg_at_10", *, resamples: int = RESAMPLES, seed: int = 0
) -> list[tuple[Interval, float] | Unfit]:
    """Return what `corrected_difference` gives for all pairs of runs, (0, 1), (0, 2), ... (1, 2), ..., or why not."""
    pairs = {pair: beside.of(*pair) for pair in combinations(range(len(beside.runs)), 2)}
    by_sample: dict[str, dict[tuple[int, int], list[Situation]]] = {}
    for pair, found in pairs.items():
        if not isinstance(found, Unfit):
            by_sample.setdefault(found[0].sample.id, {})[pair] = found
    told: dict[tuple[int, int], tuple[Interval, float]] = {}
    for of_sample in by_sample.values():
        situations = {place: one for pair, found in of_sample.items() for place, one in zip(pair, found)}
        sampled = {place: one.sampled(metric) for place, one in situations.items()}
        one = next(iter(situations.values()))
        both = [(sampled[a], sampled[b]) for a, b in of_sample]
        intervals = difference_intervals(both, one.clusters, one.frame, resamples=resamples, seed=seed)
        told |= dict(zip(of_sample, intervals))
    return [found if isinstance(found, Unfit) else told[pair] for pair, found in pairs.items()]
