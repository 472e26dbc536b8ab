"""Where the analysis commands print."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

# A number cut off by an ellipsis is worse than a line that the terminal wraps.
LEAST_WIDTH = 150


def wide_console() -> Console:
    """Return a console that never cuts a table to less than LEAST_WIDTH and takes all text literally."""
    from rich.console import Console

    console = Console(soft_wrap=True, highlight=False, markup=False, emoji=False)
    console.width = max(console.width, LEAST_WIDTH)
    return console
