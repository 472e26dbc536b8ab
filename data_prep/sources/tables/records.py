"""What all forms of tables become: rows that say where they stand, with their values by column."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from mteb_vehicle_search.errors import SourceError


class Record(NamedTuple):
    """One row: where it stands, its values by column, and why it cannot be used (else "")."""

    where: str
    values: dict[str, Any]
    problem: str = ""


class Records(NamedTuple):
    """A table's form in words, its columns in their order, and its rows, to be read once.

    Attributes:
        form: Such as "CSV".
        columns: Their names; none if only the rows tell, as of JSON.
        rows: In their order.
    """

    form: str
    columns: list[str]
    rows: Iterable[Record]


def decoded(content: bytes, name: str) -> str:
    """Return the text of a table, without a mark at its begin.

    Raises:
        SourceError: It is not UTF-8; names the line.
    """
    hint = "Save it as UTF-8 (in Excel: as 'CSV UTF-8')."
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise SourceError(f"{name} is in UTF-16, not UTF-8", hint)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise SourceError(f"{name}, line {line}: not UTF-8: {error.reason}", hint) from error
