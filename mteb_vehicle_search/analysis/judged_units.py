"""A sample that people judged, as runs are put beside it: its units, what was said and what is predicted of images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from mteb_vehicle_search.analysis.judged_ranks import Judgeable
from mteb_vehicle_search.analysis.judged_sample import Frame
from mteb_vehicle_search.analysis.limits import FEWEST_IMAGES
from mteb_vehicle_search.analysis.ranks import RunRanks
from mteb_vehicle_search.analysis.sets import ID_DIGITS
from mteb_vehicle_search.judgments import Judgments, Sample, Unit
from mteb_vehicle_search.judgments.judgment import RELEVANT
from mteb_vehicle_search.judgments.predictions import Predictions
from mteb_vehicle_search.judgments.reading import Judged


class Unfit(NamedTuple):
    """Why a run cannot be corrected; and how many of its images in question were not judged, if it is that."""

    why: str
    missing: int = 0


class Placed(NamedTuple):
    """The frame of a sample in the positions of a run, and the clusters of its queries, int64 [q]."""

    frame: Frame
    clusters: np.ndarray


class Told(NamedTuple):
    """What was told of images for the captions of units.

    Attributes:
        numbers: By unit, the number of each image.
        values: [n] or [n, ...], what was told, by number.
    """

    numbers: Sequence[Mapping[str, int]]
    values: np.ndarray

    @classmethod
    def of(cls, units: Sequence[Unit], given: Mapping[tuple[str, str], Any], dtype: type) -> Told:
        """Return it of (query, image) -> value; queries of no unit are left out."""
        numbers: dict[str, dict[str, int]] = {unit.query: {} for unit in units}
        values = []
        for (query, image), value in given.items():
            if query in numbers:
                numbers[query][image] = len(values)
                values.append(value)
        return cls([*numbers.values()], np.array(values, dtype=dtype))

    def beside(self, run: Judgeable, units: np.ndarray, queries: np.ndarray, unknown: float) -> np.ndarray:
        """Return what was told of units' images in question, [u, TOP] or [u, TOP, ...], by place among the ten best.

        `units` int64 [u] have the positions `queries` int64 [u] in the run. What was not told is `unknown`, what is not
        in question 0.
        """
        numbers = run.numbers(queries, (self.numbers[unit] for unit in units.tolist()))
        found = self.values[numbers]
        found[numbers < 0] = unknown
        found[~run.asked[queries]] = 0
        return found


@dataclass(frozen=True, eq=False)
class JudgedSample:
    """A sample and what was judged of it, for any number of runs.

    Attributes:
        id: Of the sample.
        sample: It.
        judged: Its judged units.
        grades: Of all judgments: (query, image) -> judge -> grade.
        predicted: What a model predicts of it; None if none does.
    """

    id: str
    sample: Sample
    judged: Sequence[Judged]
    grades: Mapping[tuple[str, str], Mapping[str, int]]
    predicted: Predictions | None = None

    @cached_property
    def columns(self) -> Frame:
        """What the frame of any run has, with the labels of queries and clusters in place of their positions."""
        units = self.sample.units
        names = {name: at for at, name in enumerate(_by_images(self.sample))}
        number = {unit.query: at for at, unit in enumerate(units)}
        return Frame(
            query=np.array([unit.query for unit in units]),
            cluster=np.array([unit.cluster for unit in units]),
            stratum=np.array([names[unit.stratum] for unit in units], dtype=np.int64),
            turn=np.array([unit.turn for unit in units], dtype=np.int64),
            captions=np.array([unit.captions for unit in units], dtype=np.int64),
            judged=np.array([number[one.unit.query] for one in self.judged], dtype=np.int64),
            judges=len(self.judges),
        )

    @cached_property
    def judges(self) -> list[str]:
        """Who judged any of its units, sorted."""
        return sorted({judge for one in self.judged for judge in one.grades})

    @cached_property
    def asked(self) -> np.ndarray:
        """bool [j, judges], who judged which unit."""
        return np.array([[judge in one.grades for judge in self.judges] for one in self.judged])

    @cached_property
    def said(self) -> Told:
        """int8 [n, judges], what judges said of images; -1 of what a judge did not see."""
        given = {pair: [of.get(judge, -1) for judge in self.judges] for pair, of in self.grades.items()}
        return Told.of(self.sample.units, given, np.int8)

    @cached_property
    def chances(self) -> Told | None:
        """float64 [n], how likely images are right; None if nothing is predicted."""
        return Told.of(self.sample.units, self.predicted.probabilities, np.float64) if self.predicted else None

    @property
    def complete(self) -> bool:
        """Whether every unit is judged."""
        return len(self.judged) == len(self.sample.units)

    def place(self, run: RunRanks) -> Placed | Unfit:
        """Return where its units are in a run, or why it is not of it."""
        key, sample = run.record.key, self.sample
        if sample.content_id != key.content_id:
            here, there = sample.content_id[:ID_DIGITS], key.content_id[:ID_DIGITS]
            return Unfit(f"the judgments are of the evaluation set {here}, the run is on {there}")
        if sample.images_id and key.images_id and sample.images_id != key.images_id:
            here, there = sample.images_id[:ID_DIGITS], key.images_id[:ID_DIGITS]
            return Unfit(f"people judged the images with images id {here}, the run searched {there}")
        asked, wanted = run.query_ids[run.first], self.columns.query
        query = np.searchsorted(asked, wanted)
        unknown = asked[np.minimum(query, len(asked) - 1)] != wanted
        if unknown.any():
            name = str(wanted[np.argmax(unknown)])
            return Unfit(f"the sample {self.id} asks {name!r}, which the run does not")
        if sample.queries != len(asked):
            return Unfit(f"the sample {self.id} is of {sample.queries:,} captions, the run of {len(asked):,}")
        if len(self.judged) < FEWEST_IMAGES and not self.complete:
            return Unfit(f"too few captions judged: {len(self.judged)}")
        clusters = np.unique(run.clusters, return_inverse=True)[1].reshape(-1)
        return Placed(self.columns._replace(query=query, cluster=clusters[query]), clusters)


def _by_images(sample: Sample) -> list[str]:
    """Return the names of the strata, by the mean number of images in question: neighbours are alike."""
    counts: dict[str, list[int]] = {}
    for unit in sample.units:
        counts.setdefault(unit.stratum, []).append(len(unit.images))
    return sorted(counts, key=lambda name: (sum(counts[name]) / len(counts[name]), name))


def judged_samples(judgments: Judgments) -> list[JudgedSample]:
    """Return the samples of which anything is judged, those with the most judged units first."""
    found = []
    for name, sample in judgments.samples.items():
        if judged := judgments.judged(sample):
            predicted = _closest([one for one in judgments.predictions if one.sample == name], judged)
            found.append(JudgedSample(name, sample, judged, judgments.grades, predicted))
    return sorted(found, key=lambda one: (-len(one.judged), one.id))


def _closest(predictions: Sequence[Predictions], judged: Sequence[Judged]) -> Predictions | None:
    """Return those with the least mean squared error of the judged images (Brier, Monthly Weather Review 78, 1950).

    Each image was predicted from the judgments of others, so that no model is preferred because it can learn by heart.
    """
    said = {
        (one.unit.query, image): sum(given[image] == RELEVANT for given in one.grades.values()) / len(one.grades)
        for one in judged
        for image in one.unit.images
    }

    def error(one: Predictions) -> float:
        return sum((one.probabilities[pair] - share) ** 2 for pair, share in said.items()) / len(said)

    return min(predictions, key=lambda one: (error(one), one.model), default=None)
