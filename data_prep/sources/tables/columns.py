"""Which columns of a table hold the images' file names and the captions."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from data_prep.sources.samples import IMAGE_ENDINGS
from data_prep.sources.tables.records import Record, Records
from mteb_vehicle_search.errors import SourceError

# In the order in which they are taken if there are several.
FILE_NAMES = (
    *("filename", "file_name", "file", "image_filename", "image_file_name", "image_file", "image_name", "img_name"),
    *("image_path", "img_path", "filepath", "file_path", "path", "image", "img", "picture", "photo"),
)
KEY_NAMES = ("image_id", "img_id", "photo_id", "key", "id", "name")  # Names without their endings, maybe.
CAPTION_NAMES = (
    *("caption", "captions", "raw", "sentence", "sentences", "text", "texts", "comment", "comments"),
    *("description", "descriptions", "alt_text", "alt", "title", "prompt", "query"),
)
_NUMBERED = re.compile(r"(.*?)[ _.-]?\d+")
_IMAGE = re.compile(rf"[^\n]*[^\n/\\.]\.({'|'.join(IMAGE_ENDINGS)})", re.IGNORECASE)
_SHOWN = 12
KEYS = "captioned.file_column and captioned.caption_column"


class Columns(NamedTuple):
    """The column of the file names, those of the captions, and those among them whose values are lists as text."""

    file: str
    captions: tuple[str, ...]
    lists: frozenset[str] = frozenset()


def _plain(column: str) -> str:
    return re.sub(r"[ -]", "_", column.strip().casefold())


def is_file_name(column: str) -> bool:
    """Tell whether a column is called as those with file names are."""
    return _plain(column) in FILE_NAMES


def is_caption_name(column: str) -> bool:
    """Tell whether a column is called as those with captions are, with a number or without."""
    return _base(column) in CAPTION_NAMES


def looks_like_image(value: Any) -> bool:
    """Tell whether a value looks like the name of an image's file."""
    return isinstance(value, str) and "://" not in value and _IMAGE.fullmatch(value.strip()) is not None


def _base(column: str) -> str:
    plain = _plain(column)
    numbered = _NUMBERED.fullmatch(plain)
    return numbered[1] if numbered and plain not in CAPTION_NAMES else plain


def list_in(text: str) -> list[str] | None:
    """Return the texts of a list that is written as JSON or as Python writes it; None if it is no such list."""
    if not text.lstrip().startswith("["):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        try:
            value = ast.literal_eval(text.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return None
    return value if isinstance(value, list) and all(isinstance(item, str) for item in value) else None


def choose_columns(
    records: Records, first: Sequence[Record], name: str, file_column: str = "", caption_column: str = ""
) -> Columns:
    """Find the columns by their names, or else by what their first rows hold.

    Args:
        records: The table, whose rows are not read.
        first: Its first rows.
        name: Where it lies, for messages.
        file_column: The one that is meant; empty for the one that is found.
        caption_column: Likewise.

    Raises:
        SourceError: There is no such column, or which one is meant is not clear; lists the columns.
    """
    columns = records.columns or list(dict.fromkeys(column for row in first for column in row.values))
    for asked, key in ((file_column, "file_column"), (caption_column, "caption_column")):
        if asked and asked not in columns:
            raise SourceError(f"{name} has no column {asked!r}; {_listed(columns)}", f"See captioned.{key}.")
    held = {
        column: [value for row in first if (value := row.values.get(column)) not in (None, "")] for column in columns
    }
    file = file_column or _file_column(held, name)
    others = {column: values for column, values in held.items() if column != file}
    captions = (caption_column,) if caption_column else _caption_columns(others, name)
    lists = (column for column in captions if _are_lists(held[column]))
    return Columns(file, captions, frozenset(lists))


def _file_column(held: dict[str, list[Any]], name: str) -> str:
    def share(column: str) -> float:
        return sum(map(looks_like_image, held[column])) / max(1, len(held[column]))

    ranks = {column: FILE_NAMES.index(_plain(column)) for column in held if is_file_name(column)}
    named = [column for column in ranks if any(isinstance(value, str) for value in held[column])]
    if named:
        return min(named, key=lambda column: (share(column) < 0.5, ranks[column]))
    looking = [column for column in held if share(column) >= 0.5]
    if len(looking) == 1:
        return looking[0]
    if not looking:
        keys = [column for column in held if _plain(column) in KEY_NAMES]
        if keys:
            return min(keys, key=lambda column: KEY_NAMES.index(_plain(column)))
    raise SourceError(
        f"{name}: which column holds the images' file names is not clear; {_listed(held)}",
        f"Name it in the preset: {KEYS}.",
    )


def _caption_columns(held: dict[str, list[Any]], name: str) -> tuple[str, ...]:
    named = [column for column in held if is_caption_name(column) and any(map(_is_worded, held[column]))]
    if named:
        base = min(map(_base, named), key=CAPTION_NAMES.index)
        return tuple(sorted((column for column in named if _base(column) == base), key=_number))
    worded = [column for column, values in held.items() if values and sum(map(_is_prose, values)) >= len(values) / 2]
    if len(worded) == 1:
        return (worded[0],)
    raise SourceError(
        f"{name}: which column holds the captions is not clear; {_listed(held)}", f"Name it in the preset: {KEYS}."
    )


def _number(column: str) -> int:
    digits = re.search(r"\d+$", column.strip())
    return int(digits[0]) if digits else -1


def _is_worded(value: Any) -> bool:
    """Whether it can be a caption, or several: text, or a list of such, or of objects with one."""
    return isinstance(value, (str, dict)) or (isinstance(value, list) and all(map(_is_worded, value)))


def _is_prose(value: Any) -> bool:
    if isinstance(value, list):
        return bool(value) and all(map(_is_prose, value))
    return isinstance(value, str) and len(value.split()) > 1 and not looks_like_image(value)


def _are_lists(values: list[Any]) -> bool:
    """Whether most are; then one that is not is a mistake, not a caption with brackets."""
    texts = [value for value in values if isinstance(value, str)]
    return sum(list_in(text) is not None for text in texts) > len(texts) / 2


def _listed(columns: Any) -> str:
    names = [repr(column) for column in columns]
    rest = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"its columns are {', '.join(names[:_SHOWN])}{rest}" if names else "it has none"
