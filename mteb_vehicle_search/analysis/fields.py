"""The JSON types of fields that other programs and people write, checked where they are read."""

from __future__ import annotations

import math
import re
import reprlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from mteb_vehicle_search.errors import ResultsError

TEXT, INTEGER, NUMBER, OBJECT = ("string", "null"), ("integer", "null"), ("number", "null"), ("object", "null")


class Field(NamedTuple):
    """A field: its JSON types ("null" among them if it may be missing) and what it says."""

    types: tuple[str, ...]
    meaning: str


def json_types(value: Any) -> set[str]:
    """Return the JSON types that a value fits; none for what other programs cannot hold.

    That is NaN, whole numbers of more than 64 bits, and text with half a character (a lone surrogate).
    """
    if value is None:
        return {"null"}
    if isinstance(value, bool):
        return {"boolean"}
    if isinstance(value, int):
        return {"integer", "number"} if abs(value) < 1 << 63 else set()
    if isinstance(value, float):
        return {"number"} if math.isfinite(value) else set()
    if isinstance(value, str) and not is_text(value):
        return set()
    return {{str: "string", list: "array", dict: "object"}.get(type(value), "unknown")}


def is_text(value: str) -> bool:
    """Say whether a text has only whole characters; JSON may hold halves, which cannot be written."""
    return not re.search("[\ud800-\udfff]", value)


def misfits(where: str, value: Any, fields: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with an object that has to have just these fields (each with `types`)."""
    if not isinstance(value, dict):
        return [f"{where} is not an object"]
    found = [f"{where}.{name} is missing" for name in fields if name not in value]
    found += [f"{where}.{name} is unknown" for name in value if name not in fields]
    for name, field in fields.items():
        if name in value and not json_types(value[name]) & set(field.types):
            found.append(f"{where}.{name} is {reprlib.repr(value[name])}, not {' or '.join(field.types)}")
    return found


def require(content: Mapping[str, Any], types: Mapping[str, tuple[str, ...]]) -> None:
    """Make sure that fields have one of their types; what may be null may be missing, and others may stand beside.

    Raises:
        ResultsError: Names the first field that has not.
    """
    for name, allowed in types.items():
        if not json_types(content.get(name)) & set(allowed):
            raise ResultsError(f"its {name!r} is {reprlib.repr(content.get(name))}, not {' or '.join(allowed)}")
