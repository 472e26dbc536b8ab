"""What people judged of the images that the page shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from mteb_vehicle_search.judgments.judgment import GRADES, NO, PARTLY, RELEVANT
from mteb_vehicle_search.report.page_data import Rows

# (query id, image id) -> grade, and the same by row and by image of the page.
Grades = Mapping[tuple[str, str], int]
ByRow = Mapping[int, Mapping[int, int]]
# Suspects in the order of the page; those that nobody settled stand between.
SETTLED = {RELEVANT: 0, PARTLY: 1, NO: 3}
OPEN = 2


class Verdict(NamedTuple):
    """What was said of a suspect: the best grade, for how many captions of the relevant image, of so many judged."""

    grade: int
    captions: int
    judged: int


def by_row(rows: Rows, grades: Grades) -> dict[int, dict[int, int]]:
    """Return by row and image what was judged; only of images that the page shows."""
    place = {image: number for number, image in enumerate(rows.shown)}
    of_query: dict[str, dict[int, int]] = {}
    for (query, image), grade in grades.items():
        if image in place:
            of_query.setdefault(query, {})[place[image]] = grade
    return {row: of_query[query] for row, query in enumerate(rows.ids) if query in of_query}


def rows_with_right(rows: Rows, model: int, judged: ByRow) -> list[int]:
    """Return the rows in which a wrong image of a model's top ten was judged right."""
    right, tops = _right(rows), rows.tops[model]
    return sorted(
        row
        for row, given in judged.items()
        if any(given.get(image) == RELEVANT for image in tops[row] if image not in right[rows.ids[row]])
    )


def summary(rows: Rows, judged: ByRow) -> str:
    """Return in words how many wrong images of all top tens were judged, each once for each caption, and how."""
    right, total, given = _right(rows), 0, Counter[int]()
    # The rows of a query have the same top tens.
    for query, row in {query: row for row, query in enumerate(rows.ids)}.items():
        wrong = {image for of_model in rows.tops for image in of_model[row]} - right[query]
        total += len(wrong)
        given.update(grade for image, grade in judged.get(row, {}).items() if image in wrong)
    how = ", ".join(f"{given[grade]:,} {word}" for grade, word in words() if given[grade])
    return f"{given.total():,} of {total:,} wrong images in the top tens were judged{': ' if how else ''}{how}."


def verdicts(rows: Rows, judged: ByRow, pairs: Sequence[tuple[int, int]]) -> list[Verdict | None]:
    """Return what was said of images (relevant, suspect), by all captions of the relevant one; None if nothing was."""
    rows_of: dict[int, list[int]] = {}
    for row in judged:
        rows_of.setdefault(rows.relevant[row], []).append(row)
    found: list[Verdict | None] = []
    for right, image in pairs:
        given = [judged[row][image] for row in rows_of.get(right, ()) if image in judged[row]]
        found.append(Verdict(max(given), given.count(max(given)), len(given)) if given else None)
    return found


def place_of(verdict: Verdict | None) -> int:
    """Return where a suspect stands: what was confirmed comes first, what was refused last."""
    return OPEN if verdict is None else SETTLED.get(verdict.grade, OPEN)


def words() -> list[tuple[int, str]]:
    """Return the grades, best first; "cannot tell" is the least of them."""
    return sorted(GRADES.items(), reverse=True)


def _right(rows: Rows) -> dict[str, set[int]]:
    """Return the images that are relevant to each query."""
    found: dict[str, set[int]] = {}
    for query, image in zip(rows.ids, rows.relevant):
        found.setdefault(query, set()).add(image)
    return found
