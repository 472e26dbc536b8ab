"""What a build shows: messages, and bars with count, rate and time left."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


class Reporter:
    """Messages and progress on standard error, so that standard output stays for results.

    Args:
        quiet: Show nothing; messages are kept in `messages` all the same.
    """

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet
        self.messages: list[str] = []
        from rich.console import Console

        self._console = Console(stderr=True, quiet=quiet, highlight=False)

    def say(self, message: str) -> None:
        """Show a message."""
        self.messages.append(message)
        self._console.print(message, markup=False)

    def track(self, items: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
        """Yield the items, with a bar that counts them."""
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TaskProgressColumn,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TaskProgressColumn(show_speed=True),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        if self.quiet:
            yield from items
            return
        with Progress(*columns, console=self._console) as bar:
            task = bar.add_task(what, total=total)
            for item in items:
                yield item
                bar.advance(task)
