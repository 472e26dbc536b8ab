"""Dataclasses filled from TOML tables: what is unknown, missing or of another type is told by its key."""

from __future__ import annotations

import types
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from mteb_vehicle_search.errors import BuildError

T = TypeVar("T")


def parse(kind: type[T], content: dict[str, Any], path: Path, table: str = "") -> T:
    """Return a dataclass filled from a TOML table; fields whose metadata has `hidden` cannot be given.

    Args:
        kind: A dataclass of strings, numbers, tuples of strings, dataclasses, and dictionaries of dataclasses by name.
        content: The parsed table.
        path: Of the file, for messages.
        table: The table's name, for messages; empty for the whole file.

    Raises:
        BuildError: A key is unknown, missing or of another type; the message names it.
    """
    hints = get_type_hints(kind)
    known = {f.name: f for f in fields(kind) if "hidden" not in f.metadata}  # pyright: ignore[reportArgumentType]
    if unknown := sorted(set(content) - set(known)):
        where = f"[{table}]" if table else "the top level"
        names = ", ".join(sorted(known))
        raise BuildError(f"{path}: unknown key {unknown[0]!r} in {where}.", f"Known keys there: {names}.")
    values = {}
    for name, f in known.items():
        if name in content:
            values[name] = _value(hints[name], content[name], path, f"{table}.{name}" if table else name)
        elif f.default is MISSING and f.default_factory is MISSING:
            raise BuildError(f"{path}: {f'{table}.' if table else ''}{name} is missing.")
    return kind(**values)


def _value(hint: Any, value: Any, path: Path, key: str) -> Any:
    if get_origin(hint) in (Union, types.UnionType):
        hint = next(arg for arg in get_args(hint) if arg is not type(None))
    if hasattr(hint, "__dataclass_fields__"):
        if not isinstance(value, dict):
            raise BuildError(f"{path}: {key} must be a table, [{key}].")
        return parse(hint, value, path, key)
    if get_origin(hint) is dict:
        if not isinstance(value, dict) or not all(isinstance(inner, dict) for inner in value.values()):
            raise BuildError(f"{path}: {key} must hold tables, [{key}.NAME].")
        return {name: parse(get_args(hint)[1], inner, path, f"{key}.{name}") for name, inner in value.items()}
    if get_origin(hint) is tuple:
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise BuildError(f"{path}: {key} must be a list of strings.")
        return tuple(value)
    if not isinstance(value, (int, float) if hint is float else hint) or isinstance(value, bool):
        raise BuildError(f"{path}: {key} must be of type {hint.__name__}, not {value!r}.")
    return float(value) if hint is float else value
