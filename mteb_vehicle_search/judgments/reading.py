"""All judgments of an evaluation set: of every judge and sample whose files lie in its folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from mteb_vehicle_search.errors import ResultsError
from mteb_vehicle_search.judgments.judgment import PERSON, Judgment
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
    """

    folder: Path
    samples: Mapping[str, Sample]
    lines: tuple[Judgment, ...]
    problems: tuple[Problem, ...]

    @cached_property
    def grades(self) -> Mapping[tuple[str, str], Mapping[str, int]]:
        """(query, image) -> judge -> grade."""
        found: dict[tuple[str, str], dict[str, int]] = {}
        for one in self.lines:
            if one.grade is not None:
                found.setdefault(one.pair, {})[one.judge] = one.grade
        return found

    def judged(self, sample: Sample) -> list[Judged]:
        """Return the units of a sample that somebody judged as a whole, in their order.

        Who judged which image for which sample does not matter; an image may be in question in several.
        """
        found = []
        for unit in sample.units:
            by_image = [self.grades.get((unit.query, image), {}) for image in unit.images]
            judges = sorted(set.intersection(*map(set, by_image))) if by_image else []
            if judges:
                given = {judge: {i: of[judge] for i, of in zip(unit.images, by_image)} for judge in judges}
                found.append(Judged(unit, given))
        return found


def read_judgments(folder: Path, content_id: str | None = None) -> Judgments:
    """Read the samples and the judges' files of a folder; what cannot be used is named, and the rest is used.

    Args:
        folder: See `store.judgments_folder`; need not exist.
        content_id: Of the evaluation set; samples and judgments of another one are not used. None: any.
    """
    problems: list[Problem] = []
    samples = {}
    for path in sorted(folder.glob("sample-*.json")):
        try:
            sample = read_sample(path)
        except ResultsError as error:
            problems.append(Problem(path, 0, error.message))
            continue
        if content_id in (None, sample.content_id):
            samples[sample.id] = sample
        else:
            problems.append(Problem(path, 0, f"it is of another evaluation set, {sample.content_id[:12]}"))
    last: dict[tuple[str, str, str], tuple[Path, Judgment]] = {}
    for path in sorted(folder.glob("*.jsonl")):
        for one in _lines(path, content_id, problems):
            key = (one.judge, *one.pair)
            before = last.get(key)
            # In one file the order of lines counts, whatever its clock said; between files only clocks can tell.
            if before is None or before[0] == path or before[1].at <= one.at:
                last[key] = (path, one)
    lines = tuple(one for _, one in last.values() if one.grade is not None and one.kind == PERSON)
    return Judgments(folder, samples, lines, tuple(problems))


def _lines(path: Path, content_id: str | None, problems: list[Problem]) -> Iterator[Judgment]:
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
        if content_id in (None, one.content_id):
            yield one
        else:
            problems.append(Problem(path, number, f"it is of another evaluation set, {one.content_id[:12]}"))
