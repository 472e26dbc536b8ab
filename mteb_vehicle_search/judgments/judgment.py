"""One judgment: what one judge said of one image for one caption."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from functools import cache
from typing import Any, get_type_hints

from mteb_vehicle_search.errors import ResultsError

# What a grade says. An image counts as right where it is RELEVANT; PARTLY is a matter of sensitivity.
UNKNOWN, NO, PARTLY, RELEVANT = 0, 1, 2, 3
GRADES = {NO: "no", PARTLY: "partly", RELEVANT: "yes", UNKNOWN: "cannot tell"}
# Images whose answer is known, shown among the others: a caption's own image, and any image of the corpus.
CHECKS = ("known", "random")
# The grade by which a judge fails such a check.
FAILED = {"known": NO, "random": RELEVANT}
PERSON, MODEL = "person", "model"
# Brings what only judging needs.
INSTALL = "pip install 'mteb-vehicle-search[judge]'"
LONGEST_S = 1e9
JUDGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}")


@dataclass(frozen=True)
class Judgment:
    """A line of a judge's file; of several about one pair the last one counts.

    Attributes:
        content_id: Of the evaluation set.
        query, image: Ids of the caption and of the image.
        grade: One of `GRADES`; None takes back what was said of the pair.
        judge: Who said it.
        at: When, ISO 8601 with the time zone.
        seconds: How long the image was looked at, by a clock that does not jump.
        sample: The id of the sample that it was shown for.
        guide: sha256 of the guide that the judge could read.
        check: "" for an image in question; else one of `CHECKS`.
        shown_known: Whether the judge had looked at the caption's own image.
        kind: "person"; "model": it may predict, and decides nothing.
    """

    content_id: str
    query: str
    image: str
    grade: int | None
    judge: str
    at: str
    seconds: float
    sample: str
    guide: str = ""
    check: str = ""
    shown_known: bool = False
    kind: str = PERSON

    def __post_init__(self) -> None:
        """Raise a ResultsError if a field says what cannot be."""
        if wrong := next((said for said in _problems(self)), None):
            raise ResultsError(f"A judgment cannot have {wrong}.")

    @property
    def moment(self) -> datetime:
        """When it was, as a time that compares with those of other zones."""
        return datetime.fromisoformat(self.at)

    @property
    def pair(self) -> tuple[str, str]:
        """The caption and the image."""
        return self.query, self.image

    def as_line(self) -> bytes:
        """Return its line: strict JSON in UTF-8, with the end of the line."""
        return (json.dumps(asdict(self), allow_nan=False) + "\n").encode("ascii")

    @classmethod
    def of_line(cls, line: bytes) -> Judgment:
        """Return the judgment of a line; fields of later versions are passed over.

        Raises:
            ResultsError: It is no judgment.
        """
        try:
            content = json.loads(line.decode("utf-8"))
        except (ValueError, RecursionError) as error:
            raise ResultsError(f"it is not JSON: {error}") from error
        if not isinstance(content, dict):
            raise ResultsError("it is not an object")
        known = {one.name for one in fields(cls)}
        try:
            return cls(**{name: value for name, value in content.items() if name in known})
        except TypeError as error:
            raise ResultsError(f"it lacks a field: {error}") from error


@cache
def _types() -> dict[str, Any]:
    # Every line is checked by them.
    return get_type_hints(Judgment)


def _problems(one: Judgment) -> Any:
    for name, kind in _types().items():
        value = getattr(one, name)
        wanted = (int, float) if kind is float else kind
        if not isinstance(value, wanted) or (isinstance(value, bool) and kind is not bool):
            yield f"{name} {value!r}"
    if not one.query or not one.image or not one.content_id:
        yield "an empty id"
    if one.grade is not None and one.grade not in GRADES:
        yield f"the grade {one.grade!r}: there are {', '.join(map(str, sorted(GRADES)))}"
    if not JUDGE.fullmatch(one.judge):
        yield f"the judge {one.judge!r}: letters, digits and ._@+- only, at most 64"
    if not 0 <= one.seconds <= LONGEST_S:
        yield f"seconds {one.seconds!r}"
    if one.check not in ("", *CHECKS):
        yield f"the check {one.check!r}"
    if one.kind not in (PERSON, MODEL):
        yield f"the kind {one.kind!r}"
    try:
        if datetime.fromisoformat(one.at).tzinfo is None:
            yield f"the time {one.at!r} without a time zone"
    except ValueError:
        yield f"the time {one.at!r}"
