"""Scores corrected by judgments: what a run scores once images that people found right no longer count against it.

Images judged right are taken out of the list before the rank of a known one is counted. So a corrected score has the
metric's own definition, and no ideal that is made of judged images. Only a sample is judged: `judged_sample.py` and
`judged_intervals.py` say how all captions are estimated from it. The target is what the same judges would say of all
images in question. Where they err, the score errs with them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from mteb_vehicle_search.analysis.judged_intervals import Sampled, difference_interval, score_intervals
from mteb_vehicle_search.analysis.judged_ranks import Judgeable
from mteb_vehicle_search.analysis.judged_sample import Frame
from mteb_vehicle_search.analysis.limits import FEWEST_IMAGES
from mteb_vehicle_search.analysis.ranks import RunRanks
from mteb_vehicle_search.analysis.sets import ID_DIGITS
from mteb_vehicle_search.analysis.uncertainty import RESAMPLES, Interval
from mteb_vehicle_search.errors import ResultsError
from mteb_vehicle_search.judgments import Judgments, Sample
from mteb_vehicle_search.judgments.judgment import PARTLY, RELEVANT
from mteb_vehicle_search.judgments.reading import Judged
from mteb_vehicle_search.run_record import TOP

Predicted = Mapping[tuple[str, str], float]
JUDGE = "vehicle-search judge"


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


@dataclass(frozen=True)
class JudgedSample:
    """A sample and what was judged of it, for any number of runs.

    Attributes:
        id: Of the sample.
        sample: It.
        judged: Its judged units.
        grades: Of all judgments: (query, image) -> judge -> grade.
    """

    id: str
    sample: Sample
    judged: Sequence[Judged]
    grades: Mapping[tuple[str, str], Mapping[str, int]]

    @cached_property
    def columns(self) -> Frame:
        """What the frame of any run has, with the labels of queries and clusters in place of their positions."""
        units = self.sample.units
        names = {name: at for at, name in enumerate(_by_images(self.sample))}
        number = {unit.query: at for at, unit in enumerate(units)}
        judges = {judge for one in self.judged for judge in one.grades}
        return Frame(
            query=np.array([unit.query for unit in units]),
            cluster=np.array([unit.cluster for unit in units]),
            stratum=np.array([names[unit.stratum] for unit in units], dtype=np.int64),
            turn=np.array([unit.turn for unit in units], dtype=np.int64),
            captions=np.array([unit.captions for unit in units], dtype=np.int64),
            judged=np.array([number[one.unit.query] for one in self.judged], dtype=np.int64),
            judges=len(judges),
        )

    @property
    def complete(self) -> bool:
        """Whether every unit is judged."""
        return len(self.judged) == len(self.sample.units)

    def unfit(self, run: RunRanks) -> str:
        """Return why a run cannot be corrected by it, as far as it is not what nobody judged; "" if it can."""
        key, sample = run.record.key, self.sample
        if sample.content_id != key.content_id:
            here, there = sample.content_id[:ID_DIGITS], key.content_id[:ID_DIGITS]
            return f"the judgments are of the evaluation set {here}, the run is on {there}"
        if sample.images_id and key.images_id and sample.images_id != key.images_id:
            here, there = sample.images_id[:ID_DIGITS], key.images_id[:ID_DIGITS]
            return f"people judged the images with images id {here}, the run searched {there}"
        asked, wanted = run.query_ids[run.first], self.columns.query
        unknown = ~np.isin(wanted, asked)
        if unknown.any():
            return f"the sample {self.id} asks {str(wanted[np.argmax(unknown)])!r}, which the run does not"
        if sample.queries != len(asked):
            return f"the sample {self.id} is of {sample.queries:,} captions, the run of {len(asked):,}"
        if len(self.judged) < FEWEST_IMAGES and not self.complete:
            return f"too few captions judged: {len(self.judged)}"
        return ""


def _by_images(sample: Sample) -> list[str]:
    """Return the names of the strata, by the mean number of images in question: neighbours are alike."""
    counts: dict[str, list[int]] = {}
    for unit in sample.units:
        counts.setdefault(unit.stratum, []).append(len(unit.images))
    return sorted(counts, key=lambda name: (sum(counts[name]) / len(counts[name]), name))


def judged_samples(judgments: Judgments) -> list[JudgedSample]:
    """Return the samples of which anything is judged, those with the most judged units first."""
    found = [
        JudgedSample(name, sample, judgments.judged(sample), judgments.grades)
        for name, sample in judgments.samples.items()
    ]
    return sorted((one for one in found if one.judged), key=lambda one: (-len(one.judged), one.id))


class Situation(NamedTuple):
    """A run beside a sample that fits it: the frame in its positions, and what every judge said of its images.

    Attributes:
        run: The run, asked about its images in question.
        frame: The units.
        clusters: int64 [q], numbers of clusters.
        answer: int64 [a], to which judged unit an answer belongs.
        grade: int64 [a, TOP], what a judge said of the unit's images, by their place among the run's ten best.
        missing: Images in question of the run that were not judged, where all had to be.
    """

    run: Judgeable
    frame: Frame
    clusters: np.ndarray
    answer: np.ndarray
    grade: np.ndarray
    missing: int

    @classmethod
    def of(cls, run: RunRanks, judged: JudgedSample) -> Situation:
        """Return it for a run that is not `unfit`."""
        asked, clusters = run.query_ids[run.first], np.unique(run.clusters, return_inverse=True)[1].reshape(-1)
        columns, judgeable = judged.columns, Judgeable(run)
        query = np.searchsorted(asked, columns.query)
        frame = columns._replace(query=query, cluster=clusters[query])
        # Nothing is in question about other queries for the sample's runs; it may be for another one.
        outside = judgeable.counts.copy()
        outside[query] = 0
        missing, answer, rows = int(outside.sum()), [], []
        for number, one in enumerate(judged.judged):
            images = judgeable.in_question(int(query[frame.judged[number]]))
            by_image = [judged.grades.get((one.unit.query, image), {}) for image in images]
            lacking = {judge: sum(judge not in said for said in by_image) for judge in one.grades}
            missing += min(lacking.values())
            for judge in (judge for judge, count in lacking.items() if not count):
                row = [0] * TOP
                for place, said in zip(images.values(), by_image):
                    row[place] = said[judge]
                answer.append(number)
                rows.append(row)
        return cls(
            judgeable, frame, clusters, np.array(answer, dtype=np.int64), np.array(rows).reshape(-1, TOP), missing
        )

    def sampled(self, metric: str, relevant_from: int = RELEVANT, predicted: Predicted | None = None) -> Sampled:
        """Return a score of the run and what its judgments say of it."""
        raw, at = self.run.run.scores(metric), self.frame.query[self.frame.judged]
        scores = self.run.scores(at[self.answer], self.grade >= relevant_from, metric)
        mean, noise = self.over_judges(scores)
        expected = np.zeros(len(raw))
        if predicted is not None:
            expected[self.frame.query] = self.run.expected(self.frame.query, predicted, metric) - raw[self.frame.query]
        gain = self.run.best(metric) - raw
        return Sampled(raw, gain, mean - raw[at], noise, expected)

    def over_judges(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the mean of each judged unit's answers [a], float64 [j], and what one judge adds to its variance.

        One of so many judges, drawn at random, differs by it from the mean of all; NaN where a unit had one.
        """
        units = len(self.frame.judged)
        count = np.bincount(self.answer, minlength=units)
        mean = np.bincount(self.answer, weights=values, minlength=units) / np.maximum(count, 1)
        squares = np.bincount(self.answer, weights=(values - mean[self.answer]) ** 2, minlength=units)
        noise = squares / np.maximum(count - 1, 1) * (1 - 1 / max(self.frame.judges, 1))
        return mean, np.where(count > 1, noise, np.nan)


def situation_of(
    runs: Sequence[RunRanks], judged: Sequence[JudgedSample]
) -> tuple[JudgedSample | None, list[Situation], str, int]:
    """Return the sample with the most judged units that fits all runs, and their situations.

    If none does: why, and how many images in question were not judged, if it is that.
    """
    reasons: list[tuple[int, str]] = []
    for one in judged:
        why = next((why for run in runs if (why := one.unfit(run))), "")
        situations = [] if why else [Situation.of(run, one) for run in runs]
        lacking = max((found.missing for found in situations), default=0)
        if lacking:
            name = next(found.run.run.record.key.name for found in situations if found.missing == lacking)
            why = f"{lacking:,} images that {name} has in question were not judged; `{JUDGE} {name}` asks for them"
        if not why:
            return one, situations, "", 0
        reasons.append((lacking, why))
    # What can be mended by judging tells more than that another sample does not fit.
    lacking, why = max(reasons, key=lambda reason: reason[0] > 0, default=(0, "nothing is judged"))
    return None, [], why, lacking


def corrected(
    run: RunRanks,
    judgments: Judgments | Sequence[JudgedSample],
    metric: str = "ndcg_at_10",
    *,
    predicted: Predicted | None = None,
    relevant_from: int = RELEVANT,
) -> Corrected:
    """Return a score of a run as corrected by the sample with the most judged units that fits it, or why there is none.

    Args:
        run: The run.
        judgments: All judgments, or for many runs `judged_samples(judgments)`.
        metric: One of `metrics.scored()`.
        predicted: (query, image) -> probability that it is right, by a model; narrows the intervals as far as it is
            good, and does no harm if it is not (the difference estimator).
        relevant_from: The least grade that counts as right.

    Raises:
        ResultsError: The metric is unknown.
    """
    judged = judged_samples(judgments) if isinstance(judgments, Judgments) else judgments
    raw = float(run.scores(metric).mean())
    sample, situations, why, missing = situation_of([run], judged)
    if sample is None:
        return Corrected(metric, raw, missing=missing, why=why)
    (found,) = situations
    interval, judging = score_intervals(found.sampled(metric, relevant_from, predicted), found.clusters, found.frame)
    partly = score_intervals(found.sampled(metric, PARTLY, predicted), found.clusters, found.frame)[0].mean
    return Corrected(metric, raw, interval.mean, partly, interval, judging, len(sample.judged), 0, sample.id)


def corrected_difference(
    a: RunRanks,
    b: RunRanks,
    judgments: Judgments | Sequence[JudgedSample],
    metric: str = "ndcg_at_10",
    *,
    predicted: Predicted | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[Interval, float]:
    """Return the corrected difference a - b of two runs with the same queries, its 95 % interval, and its p-value.

    Raises:
        ResultsError: The metric is unknown, or a run cannot be corrected; says why.
    """
    judged = judged_samples(judgments) if isinstance(judgments, Judgments) else judgments
    sample, situations, why, _ = situation_of([a, b], judged)
    if sample is None:
        raise ResultsError(f"There is no corrected difference: {why}.")
    first, second = (found.sampled(metric, predicted=predicted) for found in situations)
    found = situations[0]
    return difference_interval(first, second, found.clusters, found.frame, resamples=resamples, seed=seed)
