"""Tables as lines: values between commas, tabs, semicolons or bars, with a header or without, and UIUC's tokens."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator

from data_prep.sources.tables.columns import is_caption_name, is_file_name, looks_like_image
from data_prep.sources.tables.records import Record, Records
from mteb_vehicle_search.errors import SourceError

FORMS = {",": "CSV", "\t": "TSV", ";": "CSV with semicolons", "|": "CSV with bars"}
TOKEN_COLUMNS = ["file", "caption"]
_TOKEN = re.compile(r"([^\t\n]+\.\w+)#\d+\t(.*)")
QUOTES = 'A value that begins with a quote ends with one; quotes inside of it are doubled: "".'


def token_records(text: str, name: str) -> Records | None:
    """Return the rows of UIUC's form, `name.jpg#0<TAB>caption`; None if the first line is not of that form."""
    lines = [line.rstrip("\r") for line in text.split("\n")]
    if not _TOKEN.fullmatch(lines[0]):
        return None

    def rows() -> Iterator[Record]:
        for number, line in enumerate(lines, start=1):
            where = f"{name}, line {number}"
            if match := _TOKEN.fullmatch(line):
                yield Record(where, dict(zip(TOKEN_COLUMNS, match.groups())))
            elif line.strip():
                begin = line.partition("#")[0].strip() if "#" in line else ""
                yield Record(
                    where, {"file": begin}, f"{line:.60} is not a name with '#', a number, a tab and a caption"
                )

    return Records("token file", TOKEN_COLUMNS, rows())


def delimited_records(text: str, name: str) -> Records:
    """Return the rows of separated values; what separates them is found from the first line.

    Raises:
        SourceError: The first line has one value.
    """
    delimiter, first = _delimiter(text, name)
    headless = any(map(looks_like_image, first))
    columns = [f"column {number}" for number in range(1, len(first) + 1)] if headless else _unique(first)
    return Records(FORMS[delimiter], columns, _rows(text, name, delimiter, columns, headless=headless))


def _delimiter(text: str, name: str) -> tuple[str, list[str]]:
    """What separates values, and those of the first line."""
    best: tuple[tuple[int, int], str, list[str]] | None = None
    for delimiter in FORMS:
        try:
            first = next(filter(None, csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)), [])
        except csv.Error:
            continue
        first = [value.strip() for value in first]
        known = any(map(is_file_name, first)) + any(map(is_caption_name, first)) + any(map(looks_like_image, first))
        if len(first) > 1 and (best is None or (known, len(first)) > best[0]):
            best = (known, len(first)), delimiter, first
    if best is None:
        begin = text.lstrip()[:60].splitlines()
        raise SourceError(
            f"{name} is no table: its first line has one value, {begin[0] if begin else ''!r}",
            "Expected a line with the names of its columns, separated by commas, tabs, semicolons or '|'.",
        )
    return best[1], best[2]


def _unique(names: list[str]) -> list[str]:
    """Columns' names; one that stands again gets a number, as of several columns called caption."""
    found: list[str] = []
    for name in names:
        number, other = 1, name
        while other in found:
            number += 1
            other = f"{name}.{number}"
        found.append(other)
    return found


def _rows(text: str, name: str, delimiter: str, columns: list[str], *, headless: bool) -> Iterator[Record]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    skip = not headless
    while True:
        line = reader.line_num + 1
        try:
            values = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if "unexpected end of data" in str(error):
                raise SourceError(f"{name}, line {line}: a quote is opened and never closed", QUOTES) from error
            if "field limit" in str(error):
                raise SourceError(
                    f"{name}, line {line}: a value is longer than {csv.field_size_limit():,} characters", QUOTES
                ) from error
            upto = f" to {reader.line_num}" if reader.line_num > line else ""
            yield Record(f"{name}, line {line}{upto}", {}, f"is no row of separated values: {error}. {QUOTES}")
            continue
        if not any(value.strip() for value in values):
            continue
        if skip:
            skip = False
            continue
        where = f"{name}, line {line}"
        row = dict(zip(columns, (value.strip() for value in values)))
        if len(values) == len(columns):
            yield Record(where, row)
        else:
            more = f"; a value with {delimiter!r} in it stands in quotes" if len(values) > len(columns) else ""
            count = f"{len(values)} value{'s' if len(values) > 1 else ''} instead of {len(columns)}"
            yield Record(where, row, f"the row has {count}{more}")
