"""All judgments of an evaluation set: of every judge and sample whose files lie in its folder."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from mteb_vehicle_search.errors import ResultsError
from mteb_vehicle_search.judgments.judgment import PERSON, Judgment
from mteb_vehicle_search.judgments.predictions import Predictions, predictions_in, read_predictions
from mteb_vehicle_search.judgments.sample import Sample, Unit, read_sample


class Problem(NamedTuple):
    """A file or a line of one (counted from 1; 0: the whole file) that was not used, and why."""

    path: Path
    line: int
    reason: str

    def __str__(self) -> str:
        return f"{self.path}{f':{self.line}' if self.line else ''}: {self.reason}"


class Judged(NamedTuple):
    """A unit with what each judge said who judged all of its images: judge -> image -> grade."""

    unit: Unit
    grades: Mapping[str, Mapping[str, int]]


@dataclass(frozen=True)
class Judgments:
    """What is in a folder of judgments.

    Attributes:
        folder: Where it lies.
        samples: By id.
        lines: All judgments of people, in the order of their files and lines; only the last of a judge about a pair,
            and none that was taken back.
        problems: What was not used.
        predictions: Of models, each of all images in question of one of the samples.
    """

    folder: Path
    samples: Mapping[str, Sample]
    lines: tuple[Judgment, ...]
    problems: tuple[Problem, ...]
    predictions: tuple[Predictions, ...] = ()

    @cached_property
    def grades(self) -> Mapping[tuple[str, str], Mapping[str, int]]:
        """(query, image) -> judge -> grade."""
        found: dict[tuple[str, str], dict[str, int]] = {}
        for one in self.lines:
            if one.grade is not None:
                found.setdefault(one.pair, {})[one.judge] = one.grade
        return found

    def judged(self, sample: Sample) -> list[Judged]:
        """Return the units of a sample that somebody judged as a whole, and all before them in turn and stratum.

        Who judged which image for which sample does not matter; an image may be in question in several. But what was
        judged out of order, for a sample of other runs, is no random part of this one until its turn comes.
        """
        found, ended = [], set()
        for unit in sample.units:
            place = unit.turn, unit.stratum
            if place in ended:
                continue
            by_image = [self.grades.get((unit.query, image), {}) for image in unit.images]
            judges = sorted(set.intersection(*map(set, by_image))) if by_image else []
            if judges:
                given = {judge: {i: of[judge] for i, of in zip(unit.images, by_image)} for judge in judges}
                found.append(Judged(unit, given))
            else:
                ended.add(place)
        return found


class HasIds(Protocol):
    """What tells its ids, as an `EvalSet` does."""

    def queries(self) -> Sequence[Any]: ...

    def corpus_ids(self) -> Sequence[str]: ...


class Known(NamedTuple):
    """The ids of an evaluation set."""

    queries: Collection[str]
    images: Collection[str]

    @classmethod
    def of(cls, eval_set: HasIds) -> Known:
        """Return those of a set."""
        return cls({query.id for query in eval_set.queries()}, {*eval_set.corpus_ids()})


def read_judgments(folder: Path, content_id: str | None = None, known: Known | None = None) -> Judgments:
    """Read the samples, judges' files and predictions of a folder; what cannot be used is named, the rest is used.

    Args:
        folder: See `store.judgments_folder`; need not exist.
        content_id: Of the evaluation set; samples and judgments of another one are not used. None: any.
        known: Its ids; judgments of other captions and images are not used. None: any.
    """
    problems: list[Problem] = []
    samples = {}
    for path in sorted(folder.glob("sample-*.json")):
        try:
            sample = read_sample(path)
        except ResultsError as error:
            problems.append(Problem(path, 0, error.message.removeprefix(f"{path} ")))
            continue
        pairs = ((unit.query, image) for unit in sample.units for image in unit.images)
        if wrong := next(filter(None, (_foreign(sample.content_id, pair, content_id, known) for pair in pairs)), ""):
            problems.append(Problem(path, 0, wrong))
        else:
            samples[sample.id] = sample
    last: dict[tuple[str, str, str], Judgment] = {}
    for path in sorted(folder.glob("[!.]*.jsonl")):
        # In one file the order of lines counts, whatever its clock said; between files only clocks can tell.
        of_file = {(one.judge, *one.pair): one for one in _lines(path, content_id, known, problems)}
        for key, one in of_file.items():
            if key not in last or last[key].moment <= one.moment:
                last[key] = one
    lines = tuple(one for one in last.values() if one.grade is not None and one.kind == PERSON)
    predictions = tuple(_predictions(folder, content_id, samples, problems))
    return Judgments(folder, samples, lines, tuple(problems), predictions)


def _predictions(
    folder: Path, content_id: str | None, samples: Mapping[str, Sample], problems: list[Problem]
) -> Iterator[Predictions]:
    for path in predictions_in(folder):
        try:
            one = read_predictions(path)
        except ResultsError as error:
            problems.append(Problem(path, 0, error.message.removeprefix(f"{path} ")))
            continue
        wrong = f"it is of the sample {one.sample}, which is not here" if one.sample not in samples else ""
        if content_id not in (None, one.content_id):
            wrong = _foreign_set(one.content_id)
        if wrong := wrong or one.misfit(samples[one.sample]):
            problems.append(Problem(path, 0, wrong))
        else:
            yield one


def _lines(path: Path, content_id: str | None, known: Known | None, problems: list[Problem]) -> Iterator[Judgment]:
    try:
        content = path.read_bytes()
    except OSError as error:
        problems.append(Problem(path, 0, f"it cannot be read: {error.strerror}"))
        return
    for number, line in enumerate(content.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            one = Judgment.of_line(line)
        except ResultsError as error:
            problems.append(Problem(path, number, error.message))
            continue
        if wrong := _foreign(one.content_id, one.pair, content_id, known):
            problems.append(Problem(path, number, wrong))
        else:
            yield one


def _foreign(of: str, pair: tuple[str, str], content_id: str | None, known: Known | None) -> str:
    """Return why a pair of an evaluation set, `of`, is of another one than is asked for; "" if it is not."""
    if content_id not in (None, of):
        return _foreign_set(of)
    for what, one, ids in zip(("caption", "image"), pair, known or ()):
        if one not in ids:
            return f"there is no {what} {one!r} in the evaluation set"
    return ""


def _foreign_set(content_id: str) -> str:
    return f"it is of another evaluation set, {content_id[:12]}"
