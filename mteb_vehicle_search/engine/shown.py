"""What people see of work on an engine: a bar, and a line for each worker that is lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mteb_vehicle_search.engine import Engine, Listener
from mteb_vehicle_search.terminal import Reporter


class Shown(Listener):
    """Shows how the work gets on.

    Args:
        bar: Counts the items; beside it stand a note, the workers where they are not this process, and how many of them
            were lost.
        engine: Does the work.
        check: Called with each progress; what it raises ends the work.
    """

    def __init__(self, bar: Any, engine: Engine, check: Callable[[], None] = lambda: None) -> None:
        self._bar, self._is_here, self._check = bar, engine.is_here, check
        self._reporter = Reporter()
        self._note = self._staff = ""
        self._losses = 0

    def progress(self, count: int) -> None:
        self._check()
        self._bar.update(count)

    def note(self, text: str) -> None:
        """Write something beside the bar, instead of what stood there."""
        self._note = text
        self._write(refresh=False)

    def workers(self, workers: int, nodes: int) -> None:
        if not self._is_here:
            self._staff = f"workers: {workers}, nodes: {nodes}"
            self._write(refresh=True)

    def _write(self, *, refresh: bool) -> None:
        lost = f"lost: {self._losses}" if self._losses else ""
        self._bar.set_postfix_str(", ".join(filter(None, (self._note, self._staff, lost))), refresh=refresh)

    def lost(self, message: str) -> None:
        self._reporter.warn(message)
        self._losses += 1
        self._write(refresh=True)
