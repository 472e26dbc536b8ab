"""Where the analysis commands print, and how a table fits there."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

# Between two columns.
GAP = 2


def terminal_console() -> Console:
    """Return a console that takes all text literally, wraps words and never cuts them."""
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False)


def plain_console() -> Console:
    """Return a console for text that must not be wrapped, such as JSON."""
    from rich.console import Console

    return Console(soft_wrap=True, highlight=False, markup=False, emoji=False)


def print_columns(
    console: Console, title: str, head: list[list[str]], cells: list[list[str]], left: Collection[str]
) -> None:
    """Print columns as one table, or as several below each other where the console is too narrow for one.

    Args:
        console: Where to.
        title: Above the first of them.
        head: Columns that every table starts with, each its name and its cells.
        cells: The other columns, in order of importance.
        left: Names of columns that are aligned to the left.
    """
    from rich.table import Table
    from rich.text import Text

    def width(column: list[str]) -> int:
        return max(Text(cell).cell_len for cell in column) + GAP

    if title:
        console.print(Text(title))
    fixed, rest = sum(map(width, head)), list(cells)
    while rest:
        part: list[list[str]] = []
        while rest and (not part or fixed + sum(map(width, [*part, rest[0]])) - GAP <= console.width):
            part.append(rest.pop(0))
        shown = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0))
        for name, *_ in [*head, *part]:
            shown.add_column(Text(name), justify="left" if name in left else "right", no_wrap=True)
        for row in zip(*([*column[1:]] for column in [*head, *part])):
            # As Text, so that a name with brackets is not read as a style.
            shown.add_row(*map(Text, row))
        # A terminal narrower than the head and one column wraps lines; it never cuts a number. Rich's `print` takes no
        # width above the console's own.
        own, console.width = console.width, max(console.width, fixed + sum(map(width, part)))
        console.print(shown, crop=False, no_wrap=True)
        console.width = own
        if rest:
            console.print()
