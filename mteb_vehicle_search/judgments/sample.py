"""The sample that is judged: which captions, in which order, of which strata, with which images in question."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from mteb_vehicle_search.errors import ResultsError
from mteb_vehicle_search.files import write_whole

SCHEMA_VERSION = 1
AGAIN = "Draw a new one: vehicle-search judge"
# One unit of so many is judged by two people.
TWICE = 10


@dataclass(frozen=True)
class Unit:
    """One caption with its images in question, judged as a whole.

    Attributes:
        query: Its id.
        known: Ids of the images that are relevant by the labels, sorted.
        cluster: What its captions share that are about the same images: the least of the ids of those images.
        stratum: Name of its cluster's stratum.
        captions: How many captions of its cluster have images in question, this one among them.
        turn: 0 for the caption of its cluster that comes first, at random; 1 for the next.
        images: Ids of the images in question: that some run has above a known one among its ten best; sorted.
    """

    query: str
    known: tuple[str, ...]
    cluster: str
    stratum: str
    captions: int
    turn: int
    images: tuple[str, ...]


@dataclass(frozen=True)
class Sample:
    """All captions with images in question, in the order of judging.

    Every stratum's clusters come in random order, each with one caption (turn 0) before any has a second. So whatever
    was judged when somebody stops, of each stratum it is a simple random sample: of `strata` clusters the first n.

    Attributes:
        content_id, images_id: Of the evaluation set; the latter "" if the runs do not tell.
        runs: Full names of the runs whose images are in question, sorted.
        seed: Of the order.
        queries, clusters: All of the evaluation set, also those in which nothing is in question.
        strata: Name -> clusters in it, of those with anything in question; in the order for people.
        units: In the order of judging.
        planned: How many of the units are to be judged.
        checks: Query -> ids of images shown beside those in question, whose answer is known: its own one, and any.
    """

    content_id: str
    images_id: str
    runs: tuple[str, ...]
    seed: int
    queries: int
    clusters: int
    strata: Mapping[str, int]
    units: tuple[Unit, ...]
    planned: int
    checks: Mapping[str, tuple[str, ...]]

    @cached_property
    def id(self) -> str:
        """Twelve hexadecimal digits of what is in it, but for how many units are planned."""
        # As `asdict` gives it, which copies every text.
        content = {field.name: getattr(self, field.name) for field in fields(self)}
        content |= {"units": [vars(unit) for unit in self.units], "planned": None}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]

    @cached_property
    def pairs(self) -> frozenset[tuple[str, str]]:
        """All images in question, with their queries."""
        return frozenset((unit.query, image) for unit in self.units for image in unit.images)

    def for_two(self, unit: Unit) -> bool:
        """Tell whether a unit is for two judges: every tenth is, at random, which tells how well people agree."""
        return hashlib.sha256(f"{self.id}/two/{unit.query}".encode()).digest()[0] * TWICE < 256

    def shown(self, unit: Unit) -> int:
        """Return how many images a judge of the unit is shown: those in question, and checks."""
        return len(unit.images) + len(self.checks.get(unit.query, ()))


def sample_path(folder: Path, sample: str) -> Path:
    """Return where the sample with an id lies."""
    return folder / f"sample-{sample}.json"


def write_sample(folder: Path, sample: Sample) -> Path:
    """Write a sample into the folder of its content id, whole or not at all; returns its file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = sample_path(folder, sample.id)
    content = {"schema_version": SCHEMA_VERSION, "id": sample.id, **asdict(sample)}
    write_whole(path, (json.dumps(content, allow_nan=False) + "\n").encode())
    return path


def read_sample(path: Path) -> Sample:
    """Read a sample.

    Raises:
        ResultsError: The file is damaged, of another version, or was changed.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        version, told = content.pop("schema_version"), content.pop("id")
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise ResultsError(f"{path} is not a sample: {type(error).__name__} {error}.", AGAIN) from error
    if version != SCHEMA_VERSION:
        raise ResultsError(f"{path} has schema version {version}; this package reads {SCHEMA_VERSION}.")
    try:
        sample = _sample(content)
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        raise ResultsError(f"{path} is not a sample: {type(error).__name__} {error}.", AGAIN) from error
    if sample.id != told:
        raise ResultsError(f"{path} was changed: its content has the id {sample.id}, not {told}.", AGAIN)
    return sample


def _sample(content: dict[str, Any]) -> Sample:
    units = tuple(
        Unit(**{**unit, "known": tuple(unit["known"]), "images": tuple(unit["images"])})
        for unit in content.pop("units")
    )
    checks = {query: tuple(images) for query, images in content.pop("checks").items()}
    sample = Sample(**{**content, "runs": tuple(content["runs"]), "units": units, "checks": checks})
    texts = [sample.content_id, sample.images_id, *sample.runs, *sample.strata]
    counts = [sample.seed, sample.queries, sample.clusters, sample.planned, *sample.strata.values()]
    for unit in units:
        texts += [unit.query, unit.cluster, unit.stratum, *unit.known, *unit.images]
        counts += [unit.captions, unit.turn]
    texts += [image for images in checks.values() for image in images]
    if not all(isinstance(one, str) for one in texts) or not all(type(one) is int and one >= 0 for one in counts):
        raise TypeError("a field of it has another type")
    if not all(unit.images and unit.stratum in sample.strata for unit in units) or sample.planned > len(units):
        raise ValueError("its units are not of its strata, or not as many as are planned")
    return sample
