"""Standard output as a terminal of some width, and what stands there without its colours."""

from __future__ import annotations

import re

import pytest


def as_terminal(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    """Let commands take their output for a terminal of so many columns."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", str(width))


def without_colours(text: str) -> list[str]:
    """Return the lines of a text without colours and without blanks at their ends."""
    return [line.rstrip() for line in re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines()]
