"""Runs beside the samples that people judged: what was said, and predicted, of the images in question of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from mteb_vehicle_search.analysis.judged_intervals import Sampled
from mteb_vehicle_search.analysis.judged_ranks import Judgeable
from mteb_vehicle_search.analysis.judged_sample import Frame
from mteb_vehicle_search.analysis.judged_units import JudgedSample, Placed, Unfit, judged_samples
from mteb_vehicle_search.analysis.ranks import RunRanks
from mteb_vehicle_search.analysis.sets import SetKey
from mteb_vehicle_search.judgments import Judgments
from mteb_vehicle_search.judgments.judgment import RELEVANT
from mteb_vehicle_search.run_record import TOP

JUDGE = "vehicle-search judge"


@dataclass(frozen=True, eq=False)
class Situation:
    """A run beside a sample that fits it: the frame in its positions, and what every judge said of its images.

    Attributes:
        sample: The sample.
        run: The run, asked about its images in question.
        frame: The units.
        clusters: int64 [q], numbers of clusters.
        answer: int64 [a], to which judged unit an answer belongs.
        grade: int8 [a, TOP], what a judge said of the unit's images, by their place among the run's ten best.
        missing: Images in question of the run that were not judged, where all had to be.
    """

    sample: JudgedSample
    run: Judgeable
    frame: Frame
    clusters: np.ndarray
    answer: np.ndarray
    grade: np.ndarray
    missing: int
    _by_labels: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]] = field(default_factory=dict)

    @classmethod
    def of(cls, run: RunRanks, judged: JudgedSample, placed: Placed) -> Situation:
        """Return it for a run."""
        judgeable, query = Judgeable(run), placed.frame.query
        # Nothing is in question about other queries for the sample's runs; it may be for another one.
        outside = judgeable.counts.copy()
        outside[query] = 0
        units = placed.frame.judged
        said = judged.said.beside(judgeable, units, query[units], -1)
        lacking = (said < 0).sum(axis=1)
        missing = outside.sum() + np.where(judged.asked, lacking, TOP).min(axis=1).sum()
        answer, judge = np.nonzero(judged.asked & (lacking == 0))
        return cls(judged, judgeable, *placed, answer, said[answer, :, judge], int(missing))

    def sampled(self, metric: str, relevant_from: int = RELEVANT) -> Sampled:
        """Return a score of the run and what its judgments say of it."""
        if metric not in self._by_labels:
            raw = self.run.run.scores(metric)
            self._by_labels[metric] = raw, self.run.best(metric) - raw, self._expected(metric, raw)
        raw, gain, expected = self._by_labels[metric]
        at = self.frame.query[self.frame.judged]
        scores = self.run.scores(at[self.answer], self.grade >= relevant_from, metric)
        mean, noise = self.over_judges(scores)
        return Sampled(raw, gain, mean - raw[at], noise, expected)

    def _expected(self, metric: str, raw: np.ndarray) -> np.ndarray:
        """Return what is predicted of the correction, float64 [q]; zeros without predictions."""
        if self.sample.chances is None:
            return np.zeros(len(raw))
        query, chances = self.frame.query, np.zeros((len(raw), TOP))
        chances[query] = self.sample.chances.beside(self.run, np.arange(len(query)), query, 0.0)
        return self.run.expected(chances, metric) - raw

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


class Situations:
    """Several runs beside the samples; what is the same for several of them is looked up once.

    Attributes:
        runs: The runs.
        judged: The samples, those with the most judged units first.
    """

    def __init__(self, runs: Sequence[RunRanks], judgments: Judgments | Sequence[JudgedSample]) -> None:
        self.runs = runs
        self.judged = judged_samples(judgments) if isinstance(judgments, Judgments) else judgments
        self._found: dict[tuple[str, int], Situation | Unfit] = {}
        self._placed: dict[str, list[tuple[RunRanks, Placed | Unfit]]] = {one.id: [] for one in self.judged}

    def of(self, *places: int) -> list[Situation] | Unfit:
        """Return runs, by their places, beside the sample with the most judged units that fits them all, or why not."""
        reasons = []
        for one in self.judged:
            found = [self._beside(one, place) for place in places]
            unfit = [beside for beside in found if isinstance(beside, Unfit)]
            if not unfit:
                return [beside for beside in found if isinstance(beside, Situation)]
            reasons.append(max(unfit, key=lambda one: (not one.missing, one.missing)))
        # What can be mended by judging tells more than that another sample does not fit.
        return max(reasons, key=lambda reason: reason.missing > 0, default=Unfit("nothing is judged"))

    def _beside(self, one: JudgedSample, place: int) -> Situation | Unfit:
        key = one.id, place
        if key not in self._found:
            run, placed = self.runs[place], self._place(one, self.runs[place])
            found = placed if isinstance(placed, Unfit) else Situation.of(run, one, placed)
            if isinstance(found, Situation) and found.missing:
                name = run.record.key.name
                why = f"{found.missing:,} images that {name} has in question were not judged; `{JUDGE} {name}` asks"
                found = Unfit(f"{why} for them", found.missing)
            self._found[key] = found
        return self._found[key]

    def _place(self, one: JudgedSample, run: RunRanks) -> Placed | Unfit:
        for other, placed in self._placed[one.id]:
            if SetKey.of(run.record.key) == SetKey.of(other.record.key) and run.asks_the_same(other):
                return placed
        placed = one.place(run)
        self._placed[one.id].append((run, placed))
        return placed
