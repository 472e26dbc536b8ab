"""What one judge is shown, in which order, and what was answered so far; knows no page, no clock and no file.

The order follows from the sample, the judge and what lies in the folder of judgments, so whoever stops goes on where
they were. What comes next is the first item without a grade, and what is taken back is the last one with a grade before
it; so no history is needed either.
"""

from __future__ import annotations

import hashlib
import json
import statistics
from collections import Counter
from collections.abc import Iterator, Mapping
from random import Random
from typing import NamedTuple

from mteb_vehicle_search.errors import ResultsError, UsageError
from mteb_vehicle_search.eval_set import EvalSet
from mteb_vehicle_search.judgments import Judgment, Judgments, Sample, Unit
from mteb_vehicle_search.judgments.judgment import FAILED, GRADES, JUDGE
from mteb_vehicle_search.judgments.sample import AGAIN


class Item(NamedTuple):
    """One decision: an image for a caption.

    Attributes:
        key: 16 hexadecimal digits that name the pair in addresses; the same in every session.
        unit: Number of its unit in the session.
        query, image: Ids.
        check: "" for an image in question; else one of `judgment.CHECKS`.
    """

    key: str
    unit: int
    query: str
    image: str
    check: str


class Answer(NamedTuple):
    """What was said of an item, and how long it took."""

    grade: int
    seconds: float


class Progress(NamedTuple):
    """How far a judge is: decisions and units, each of so many, and the median seconds of a decision (None: none)."""

    decisions: int
    of_decisions: int
    units: int
    of_units: int
    seconds: float | None


class Summary(NamedTuple):
    """What a judge said for a sample, on all days.

    Attributes:
        judge: Who.
        progress: How far.
        grades: Grade -> how often it was given, checks among them.
        seconds: All of them.
        checks: "known" or "random" -> (passed, answered).
    """

    judge: str
    progress: Progress
    grades: Mapping[int, int]
    seconds: float
    checks: Mapping[str, tuple[int, int]]


class Session:
    """What one judge judges of one sample.

    Args:
        sample: Of its units those that are planned are judged.
        judgments: What everybody has said so far, this judge too.
        judge: Name of the judge.
        eval_set: The evaluation set of the sample.
        second: Only the units that are for two judges, also where another has finished them.

    Attributes:
        units: Those of the session, in their order.
        items: In the order of judging, unit by unit, the images of each and its checks shuffled.
        captions: Query -> its text, of the units.

    Raises:
        UsageError: The judge cannot be called so.
        ResultsError: The sample is of another evaluation set, or names what is not in it.
    """

    def __init__(self, sample: Sample, judgments: Judgments, judge: str, eval_set: EvalSet, second: bool = False):
        if not JUDGE.fullmatch(judge):
            raise UsageError(f"{judge!r} cannot be a judge's name: letters, digits and ._@+- only, at most 64.")
        self.sample, self.judge, self.eval_set, self.folder = sample, judge, eval_set, judgments.folder
        self._answers: dict[tuple[str, str], Answer] = {}
        self._looked: set[str] = set()
        for one in judgments.lines:
            if one.judge == judge:
                self.take(one)
        self.units = tuple(unit for unit in sample.units[: sample.planned] if self._is_for_me(unit, judgments, second))
        self.items = tuple(item for number, unit in enumerate(self.units) for item in self._items_of(number, unit))
        self._by_key = {item.key: item for item in self.items}
        self.captions = self._captions()

    def _is_for_me(self, unit: Unit, judgments: Judgments, second: bool) -> bool:
        given = [set(judgments.grades.get((unit.query, image), {})) for image in unit.images]
        others = set.intersection(*given) - {self.judge} if given else set()
        if second:
            enough = not self.sample.for_two(unit) or len(others) > 1
        else:
            enough = bool(others)
        # Whoever has begun with a unit ends it: half of one is of no use.
        return not enough or any(self.judge in of_image for of_image in given)

    def _items_of(self, number: int, unit: Unit) -> list[Item]:
        images = sorted({*unit.images, *self.sample.checks.get(unit.query, ())})
        Random(f"{self.sample.id}\n{self.judge}\n{unit.query}").shuffle(images)
        return [Item(_key(unit.query, image), number, unit.query, image, _check(unit, image)) for image in images]

    def _captions(self) -> dict[str, str]:
        if self.sample.content_id != self.eval_set.content_id:
            raise ResultsError(
                f"The sample {self.sample.id} is of the evaluation set {self.sample.content_id[:12]}, and "
                f"{self.eval_set.folder} is {self.eval_set.content_id[:12]}.",
                "Name the evaluation set of the sample: --data FOLDER",
            )
        texts, images = dict(self.eval_set.queries()), set(self.eval_set.corpus_ids())
        named = {item.image for item in self.items}.union(*(unit.known for unit in self.units))
        unknown = sorted(({unit.query for unit in self.units} - texts.keys()) | (named - images))
        if unknown:
            more = f" (and {len(unknown) - 1} more)" if len(unknown) > 1 else ""
            raise ResultsError(f"The sample {self.sample.id} names {unknown[0]!r}{more}, which the set has not.", AGAIN)
        return {unit.query: texts[unit.query] for unit in self.units}

    def item(self, key: str) -> Item:
        """Return the item with a key.

        Raises:
            KeyError: There is none.
        """
        return self._by_key[key]

    def grade(self, item: Item) -> int | None:
        """Return what was said of an item; None if nothing was, or it was taken back."""
        said = self._answers.get((item.query, item.image))
        return None if said is None else said.grade

    def looked(self, unit: Unit) -> bool:
        """Tell whether the judge has looked at the caption's own image, as far as answers tell or `look` was told."""
        return unit.query in self._looked

    def look(self, item: Item) -> None:
        """Note that the judge looks at the own image of an item's caption."""
        self._looked.add(item.query)

    @property
    def position(self) -> int:
        """Where the next item stands: the first one without a grade; the number of items if all have one."""
        return next((at for at, item in enumerate(self.items) if self.grade(item) is None), len(self.items))

    @property
    def next(self) -> Item | None:
        """The item that comes next; None if all is judged."""
        return self.items[self.position] if self.position < len(self.items) else None

    @property
    def before(self) -> Item | None:
        """The item whose grade is taken back when the judge says "undo"; None at the beginning."""
        return self.items[self.position - 1] if self.position else None

    def judgment(
        self, key: str, grade: int | None, *, seconds: float, at: str, guide: str = "", looked: bool = False
    ) -> Judgment | None:
        """Return the line to be written for an answer; None if there is nothing to write.

        That is so where the very answer is there already, because it was sent again, and where another grade is: it
        was given elsewhere, and stands until it is taken back.

        Args:
            key: Of the item.
            grade: One of `GRADES`; None takes back what was said.
            seconds: How long the judge looked.
            at: When, ISO 8601 with the time zone.
            guide: sha256 of the guide.
            looked: Whether the judge has looked at the caption's own image.

        Raises:
            KeyError: There is no such item.
            ResultsError: The answer says what cannot be.
        """
        item = self.item(key)
        line = Judgment(
            content_id=self.sample.content_id,
            query=item.query,
            image=item.image,
            grade=grade,
            judge=self.judge,
            at=at,
            seconds=seconds,
            sample=self.sample.id,
            guide=guide,
            check=item.check,
            shown_known=looked or item.query in self._looked,
        )
        said = self.grade(item)
        return line if (said is None) != (grade is None) else None

    def take(self, line: Judgment) -> None:
        """Note a judgment of this judge that is on the disk."""
        if line.grade is None:
            self._answers.pop(line.pair, None)
        else:
            self._answers[line.pair] = Answer(line.grade, line.seconds)
        if line.shown_known:
            self._looked.add(line.query)

    def _answered(self) -> Iterator[tuple[Item, Answer]]:
        for item in self.items:
            if said := self._answers.get((item.query, item.image)):
                yield item, said

    def progress(self) -> Progress:
        """Return how far the judge is."""
        answered = list(self._answered())
        left = Counter(item.unit for item in self.items)
        left.subtract(item.unit for item, _ in answered)
        seconds = statistics.median(said.seconds for _, said in answered) if answered else None
        done = sum(not count for count in left.values())
        return Progress(len(answered), len(self.items), done, len(self.units), seconds)

    def summary(self) -> Summary:
        """Return what the judge said so far."""
        answered = list(self._answered())
        grades = Counter(said.grade for _, said in answered)
        checks = {}
        for kind, failed in FAILED.items():
            of_kind = [said.grade != failed for item, said in answered if item.check == kind]
            checks[kind] = (sum(of_kind), len(of_kind))
        total = sum(said.seconds for _, said in answered)
        return Summary(self.judge, self.progress(), {grade: grades[grade] for grade in GRADES}, total, checks)


def _key(query: str, image: str) -> str:
    return hashlib.sha256(json.dumps([query, image]).encode()).hexdigest()[:16]


def _check(unit: Unit, image: str) -> str:
    if image in unit.images:
        return ""
    return "known" if image in unit.known else "random"
