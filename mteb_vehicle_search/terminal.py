"""What is shown on a terminal: errors, tables, progress, and the summary that ends a run.

An error is one message for what a user can mend, and a traceback only when it is asked for.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

from mteb_vehicle_search.errors import VehicleSearchError

if TYPE_CHECKING:
    from rich.console import Console

    from mteb_vehicle_search.run_record import RunRecord

DEBUG = "VEHICLE_SEARCH_DEBUG"


def debugging() -> bool:
    """Tell whether tracebacks are wanted (`--debug`, or the environment variable)."""
    return os.environ.get(DEBUG, "0") not in ("", "0")


def show(error: BaseException) -> None:
    """Print one error to stderr: our own as they are, any other with its type and how to see more."""
    if isinstance(error, VehicleSearchError):
        text = str(error)
    else:
        text = (
            f"{type(error).__name__}: {error}\nThis was not foreseen; --debug (or {DEBUG}=1) shows where it happened."
        )
    sys.stderr.write(f"error: {text}\n")


def shorten_our_tracebacks() -> None:
    """Let the stock `mteb` command end with our message instead of a traceback.

    Only errors of ours that nobody caught, and only when mteb's own command line raised them: in a script, a notebook
    or a test the traceback stays.
    """
    if getattr(sys.excepthook, "shortens_our_tracebacks", False):
        return
    previous = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        if isinstance(error, VehicleSearchError) and _from_mteb_command(traceback) and not debugging():
            show(error)
        else:
            previous(kind, error, traceback)

    hook.shortens_our_tracebacks = True  # type: ignore[attr-defined]
    sys.excepthook = hook


def _from_mteb_command(traceback: TracebackType | None) -> bool:
    while traceback is not None:
        if traceback.tb_frame.f_globals.get("__name__") == "mteb.cli.build_cli":
            return True
        traceback = traceback.tb_next
    return False


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
            ProgressColumn,
            Task,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )
        from rich.text import Text

        if self.quiet:
            yield from items
            return

        class Rate(ProgressColumn):
            def render(self, task: Task) -> Text:
                speed = task.finished_speed or task.speed
                if not speed:
                    return Text("- /s")
                return Text(
                    f"{speed:,.0f}/s" if speed >= 10 else f"{speed:.1f}/s" if speed >= 1 else f"{1 / speed:.1f} s"
                )

        columns = (
            TextColumn("{task.description:11}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            Rate(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=self._console) as bar:
            task = bar.add_task(what, total=total)
            for item in items:
                yield item
                bar.advance(task)


def show_summary(record: RunRecord) -> None:
    """Print the table that ends a run."""
    from rich.console import Console
    from rich.table import Table

    from mteb_vehicle_search.metrics import METRICS

    info, scores = record.info, record.info["scores"]
    table = Table(title=f"{info['task_name']} · {info['model_name']}", title_justify="left", box=None)
    cells = {
        METRICS["ndcg_at_10"].heading: f"[bold]{scores['ndcg_at_10']:.4f}[/]",
        "95 % interval": f"{scores.get('ndcg_at_10_ci_low', float('nan')):.4f} – "
        f"{scores.get('ndcg_at_10_ci_high', float('nan')):.4f}",
        **{METRICS[key].heading: f"{scores[key]:.4f}" for key in ("map_at_10", "recall_at_1", "recall_at_10")},
        "median rank": f"{scores['median_rank']:g}",
        "images/s": f"{info['images_per_s']:,.0f}" if info["images_per_s"] else "resumed",
    }
    for name in cells:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_row(*cells.values())
    console = Console()
    console.print()
    console.print(table)
    org_model = info["model_name"].replace("/", "__")
    console.print(f"\nrun record  {record.folder}", soft_wrap=True, highlight=False)
    console.print(
        f"result      results/{org_model}/{info['model_revision']}/{info['task_name']}.json under mteb's output folder",
        soft_wrap=True,
        highlight=False,
    )
