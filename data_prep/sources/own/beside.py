"""Captions in files of their own beside an image: a .txt, or a .json."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, NamedTuple

from data_prep.sources.tables.columns import CAPTION_NAMES
from data_prep.sources.tables.gathering import checked_captions, texts_in


class Beside(NamedTuple):
    """What texts beside an image say: captions, what is wrong with others, and whether there are any at all."""

    captions: tuple[str, ...]
    problems: list[str]
    named: bool


def read_beside(texts: dict[str, bytes], column: str = "") -> Beside:
    """Return the captions of one image: each line of its .txt; or else what its .json calls a caption.

    Args:
        texts: Ending -> content.
        column: The key in the JSON; empty for the known names.
    """
    problems: list[str] = []
    for ending in ("txt", "json"):
        if ending not in texts:
            continue
        try:
            text = texts[ending].decode("utf-8-sig")
            values = text.splitlines() if ending == "txt" else _values(json.loads(text), column)
        except (ValueError, RecursionError) as error:
            problems.append(f"its .{ending} cannot be read: {error}")
            continue
        if ending == "txt":
            values = [line for line in values if line.strip()] or [""]
        if values:
            captions, wrong = checked_captions(values)
            problems += wrong
            if captions:
                return Beside(tuple(captions), problems, named=True)
    return Beside((), problems, named=bool(problems))


def _values(content: Any, column: str) -> Iterable[Any]:
    if isinstance(content, dict):
        known = [column] if column else [name for name in CAPTION_NAMES if name in content]
        return texts_in(content[known[0]]) if known and known[0] in content else []
    return texts_in(content) if isinstance(content, (str, list)) else []
