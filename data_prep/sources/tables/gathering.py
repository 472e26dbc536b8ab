"""The captions of each file, gathered from rows; what is wrong with a row is told, and the others go on."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from data_prep.sources.tables.columns import CAPTION_NAMES, Columns, list_in
from data_prep.sources.tables.records import Record
from data_prep.storage import leads_out
from mteb_vehicle_search.errors import SourceError
from mteb_vehicle_search.eval_set.schema import is_line

# A page of text, which no caption is; longer ones are mistakes of the table, such as a quote that closes lines later.
MAX_CAPTION_CHARACTERS = 5_000
_SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val"}
_SPLITS |= {"restval": "train", "test": "test"}
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


class BadRow(NamedTuple):
    """A row, or one caption of it, that is not used: where it stands, the file it names (else ""), and why."""

    where: str
    name: str
    reason: str


class CaptionTable(NamedTuple):
    """What a table says.

    Attributes:
        captions: File name, with "/" between folders -> its captions, in the order of the rows.
        lines: File name -> where it is first named.
        bad: What is not used.
        form: Such as "CSV".
        file_column: The column of the file names.
        caption_column: That of the captions, or several, with commas between them.
        splits: File name -> train, val or test, of those with one.
    """

    captions: dict[str, tuple[str, ...]]
    lines: dict[str, str]
    bad: tuple[BadRow, ...]
    form: str
    file_column: str
    caption_column: str
    splits: dict[str, str]


def gathered(rows: Iterable[Record], columns: Columns, name: str, form: str) -> CaptionTable:
    """Return the captions of each file.

    A caption that stands twice for a file is used once, since it would be asked twice.

    Raises:
        SourceError: Two file names differ in case alone, or no row can be used.
    """
    captions: dict[str, list[str]] = {}
    lines: dict[str, str] = {}
    splits: dict[str, str] = {}
    folded: dict[str, str] = {}
    bad: list[BadRow] = []
    for row in rows:
        file, problem = clean_name(row.values.get(columns.file))
        if row.problem or problem:
            bad.append(BadRow(row.where, file, row.problem or problem))
            continue
        if (other := folded.setdefault(file.casefold(), file)) != file:
            raise SourceError(
                f"{row.where}: {file} differs in case alone from {other} of {lines[other]}",
                "On Windows and macOS both are one file: rename one, or correct the table.",
            )
        lines.setdefault(file, row.where)
        if split := _SPLITS.get(str(row.values.get("split", "")).strip().lower(), ""):
            splits.setdefault(file, split)
        kept = captions.setdefault(file, [])
        for caption, problem in _captions_of(row, columns):
            problem = problem or (f"a caption of {file} stands twice: {caption:.60}" if caption in kept else "")
            if problem:
                bad.append(BadRow(row.where, file, problem))
            else:
                kept.append(caption)
    used = {file: tuple(texts) for file, texts in captions.items() if texts}
    if not used:
        first = f"; the first: {bad[0].where}: {bad[0].reason}" if bad else ""
        raise SourceError(f"{name}: no row has a file name and a caption{first}", "Is this a table of captions?")
    return CaptionTable(used, lines, tuple(bad), form, columns.file, ", ".join(columns.captions), splits)


def clean_name(value: Any) -> tuple[str, str]:
    """Return a file name with "/" between folders, and why it is none (else "")."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if value is None or (isinstance(value, str) and not value.strip()):
        return "", "there is no file name"
    if not isinstance(value, str):
        return "", f"{value!r:.60} is no file name"
    name = value.strip().replace("\\", "/")
    if "://" in name:
        return "", f"{name:.100} is an address, not the name of a file"
    if not is_line(name):
        return "", f"{name!a:.100} is no file name: it holds what is no character, or ends a line"
    if leads_out(name):
        # Digests of captions are taken over these words, so that they stay.
        return "", f"{name:.100} leads out of the folder of the images; names are relative to it"
    return PurePosixPath(name).as_posix(), ""


def _captions_of(row: Record, columns: Columns) -> Iterator[tuple[str, str]]:
    """Captions of a row, and what is wrong with them; an empty one matters only if there is no other column."""
    values = [(column, row.values.get(column)) for column in columns.captions]
    filled = [(column, value) for column, value in values if not _is_blank(value)]
    for column, value in filled or values[:1]:
        if isinstance(value, str) and column in columns.lists:
            texts = list_in(value)
            if texts is None:
                yield "", f"{value:.60} is not a list of captions as the rows before have one"
                continue
            value = texts
        yield from map(_checked, texts_in(value) or [None])


def texts_in(value: Any) -> list[Any]:
    """Return captions one by one: of a text itself, a list of them, or objects that hold one under a known name."""
    if isinstance(value, list):
        return [text for item in value for text in texts_in(item)]
    if isinstance(value, dict):
        names = [name for name in CAPTION_NAMES if name in value]
        return texts_in(value[names[0]]) if names else [value]
    return [value]


def _is_blank(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _checked(value: Any) -> tuple[str, str]:
    if _is_blank(value):
        return "", "the caption is empty"
    if not isinstance(value, str):
        return "", f"the caption is no text but {value!r:.60}"
    text = value.strip()
    if len(text) > MAX_CAPTION_CHARACTERS:
        return "", f"the caption has {len(text):,} characters; the limit is {MAX_CAPTION_CHARACTERS:,}"
    if found := _CONTROL.search(text):
        return "", f"the caption is no text: it holds U+{ord(found[0]):04X}"
    return text, ""


def checked_captions(values: Iterable[Any]) -> tuple[list[str], list[str]]:
    """Return the captions that can be used of those beside one image, each once, and what is wrong with others."""
    kept: list[str] = []
    problems: list[str] = []
    for caption, problem in map(_checked, values):
        if problem:
            problems.append(problem)
        elif caption not in kept:
            kept.append(caption)
    return kept, problems
