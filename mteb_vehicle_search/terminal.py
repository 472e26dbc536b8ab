"""What is shown on a terminal: errors, tables, progress, whatever the terminal can show.

An error is one message for what a user can mend, and a traceback only when it is asked for.
"""

from __future__ import annotations

import argparse
import errno
import re
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

from mteb_vehicle_search import mistakes, settings
from mteb_vehicle_search.errors import UsageError, VehicleSearchError
from mteb_vehicle_search.streams import shown

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text
    from tqdm import tqdm

DEBUG = "VEHICLE_SEARCH_DEBUG"
INTERRUPTED = "interrupted; run the same command again to go on"
# The disk is full, the user's share of it is, or a file may not grow further.
NO_ROOM = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}


def debugging() -> bool:
    """Tell whether tracebacks are wanted (`--debug`, or the environment variable)."""
    return settings.flag(DEBUG)


def show(error: BaseException) -> None:
    """Print one error to stderr: our own and the system's as they are, others with their type and how to see more."""
    if isinstance(error, OSError) and error.errno in NO_ROOM:
        text = (
            f"the disk is full ({error.filename or error.strerror}).\n"
            "Free some space and run the same command again; finished work is kept."
        )
    elif isinstance(error, (VehicleSearchError, OSError)):
        text = str(error)
    else:
        text = (
            f"{type(error).__name__}: {error}\nThis was not foreseen; --debug (or {DEBUG}=1) shows where it happened."
        )
    say(f"error: {text}")


def shorten_our_tracebacks() -> None:
    """Let the stock `mteb` command end with a sentence instead of a traceback where the sentence says it all.

    That is for errors of ours, for names that mteb does not know, and for an interruption of one of our tasks; only
    when mteb's own command line raised them: in a script, a notebook or a test the traceback stays.
    """
    if getattr(sys.excepthook, "shortens_our_tracebacks", False):
        return
    previous = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        if debugging() or not mistakes.by_mtebs_command(traceback):
            previous(kind, error, traceback)
        elif isinstance(error, KeyboardInterrupt) and mistakes.on_our_tasks(traceback):
            say(INTERRUPTED)
        elif said := error if isinstance(error, VehicleSearchError) else mistakes.explained(error):
            show(said)
            if isinstance(said, UsageError):
                # The one way for a hook to give the status: otherwise an error that nobody caught ends with 1.
                raise SystemExit(2)
        else:
            previous(kind, error, traceback)

    hook.shortens_our_tracebacks = True  # type: ignore[attr-defined]
    sys.excepthook = hook


def positive(text: str) -> int:
    """Return the whole number of an argument; argparse reports those below 1.

    Raises:
        ArgumentTypeError: It is below 1.
        ValueError: It is no whole number.
    """
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


# Between two columns.
GAP = 2
# Names are not folded to less.
NARROWEST = 12


# More than any table needs.
UNLIMITED = 100_000


def console() -> Console:
    """Return the console of standard output; it takes all text literally, wraps words and never cuts them.

    A terminal is as wide as it is, or as COLUMNS says; a pipe or a file is as wide as what is written to it.
    """
    from rich.console import Console

    made = Console(highlight=False, markup=False, emoji=False)
    if not made.is_terminal:
        made.width = UNLIMITED
    return made


def coloured(text: str, better: bool | None) -> Text:
    """Return text as a cell of a table: green for what is better, red for what is worse, as it is for None.

    The text itself must say it too, by a sign or a word: colours are for terminals, and not for everybody.
    """
    from rich.text import Text

    return Text(text, style="" if better is None else "green" if better else "red")


def print_rows(title: str, names: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows as a table: the first column to the left, columns without a name too; whole numbers by thousands."""
    columns = list(zip(*rows)) or [()] * len(names)
    cells = [
        [name, *(f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in column)]
        for name, column in zip(names, columns)
    ]
    print_columns(console(), title, cells[:1], cells[1:], {names[0], ""})


def print_columns(
    console: Console,
    title: str,
    head: Sequence[Sequence[str | Text]],
    cells: Sequence[Sequence[str | Text]],
    left: Collection[str],
) -> None:
    """Print columns, each its name and its cells, as one table, or as several where the console is too narrow for one.

    Every table starts with `head`; `cells` are the others by importance; those named in `left` are aligned to the left.
    A cell may have lines.
    """
    from rich.text import Text

    if title:
        console.print(Text(title))
    rest = list(cells)
    while rest:
        part: list[Sequence[str | Text]] = []
        while rest and (not part or fits(console, [*head, *part, rest[0]])):
            part.append(rest.pop(0))
        _print_table(console, [*head, *part], left)
        if rest:
            console.print()


def print_fitting(
    console: Console, title: str, columns: Sequence[Sequence[str]], wanted: int, folds: str, left: Collection[str]
) -> list[str]:
    """Print columns as one table, as many as the console has room for, and return the names of those left out.

    The first `wanted` always stand there; where they have too little room, the one named `folds` gets several lines.
    """
    from rich.text import Text

    shown = list(columns)
    while len(shown) > wanted and not fits(console, shown):
        shown.pop()
    room = console.width + GAP - sum(_width(column) for column in shown if column[0] != folds) - GAP
    for at, (name, *cells) in enumerate(shown):
        if name == folds:
            shown[at] = [name, *("\n".join(pieces(cell, max(room, NARROWEST))) for cell in cells)]
    if title:
        console.print(Text(title))
    _print_table(console, shown, left)
    return [column[0] for column in columns[len(shown) :]]


def fits(console: Console, columns: Sequence[Sequence[str | Text]]) -> bool:
    """Say whether the console has room for these columns in one table."""
    return sum(map(_width, columns)) - GAP <= console.width


def pieces(name: str, width: int) -> list[str]:
    """Return a name in pieces of at most `width` characters: they end after a slash, else after other punctuation."""
    words = [name[at : at + width] for at in range(0, len(name), width)]
    for ends in ("/", r"\W_", ""):
        split = re.findall(rf"[^{ends}]*[{ends}]|[^{ends}]+$", name) if ends else words
        if all(len(word) <= width for word in split):
            words = split
            break
    found = [""]
    for word in words:
        found[len(found) :] = [found.pop() + word] if len(found[-1] + word) <= width else [word]
    return found


def _width(column: Sequence[str | Text]) -> int:
    """Return what a column takes, with the gap beside it."""
    from rich.text import Text

    lines = (line for cell in column for line in str(cell).split("\n"))
    return max(Text(line).cell_len for line in lines) + GAP


def _print_table(console: Console, columns: Sequence[Sequence[str | Text]], left: Collection[str]) -> None:
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0))
    for name, *_ in columns:
        shown.add_column(Text(str(name)), justify="left" if str(name) in left else "right", no_wrap=True)
    for row in zip(*([*column[1:]] for column in columns)):
        # As Text, so that a name with brackets is not read as a style.
        shown.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in row))
    # A terminal narrower than the head and one column wraps lines; it never cuts a number. Rich's `print` takes no
    # width above the console's own.
    own, console.width = console.width, max(console.width, sum(map(_width, columns)))
    console.print(shown, crop=False, no_wrap=True)
    console.width = own


def progress_bar(
    what: str, total: int | None, *, unit: str = "image", quiet: bool = False, passing: bool = False
) -> tqdm:
    """Return a bar on standard error; where that is a file, it says a line every half minute. Bytes are scaled.

    A `passing` bar is gone from a terminal when it is done.
    """
    from tqdm.auto import tqdm

    is_terminal = sys.stderr.isatty()
    often_s = 0.1 if is_terminal else 30.0
    shown = {"desc": what, "unit": unit, "unit_scale": unit == "B", "leave": not (passing and is_terminal)}
    return tqdm(total=total, disable=quiet, mininterval=often_s, smoothing=0.1, **shown)


def in_bytes(count: int) -> str:
    """Return a number of bytes for people: "12.3 MB", by powers of 1,000."""
    for power, unit in ((4, "TB"), (3, "GB"), (2, "MB")):
        if count >= 0.9995 * 1_000**power:
            return f"{count / 1_000**power:.3g} {unit}"
    return f"{count / 1_000:.3g} kB"


T = TypeVar("T")


class Reporter:
    """Messages and progress on standard error; `quiet` shows warnings only. `messages` are kept all the same."""

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet
        self.messages: list[str] = []

    def say(self, message: str) -> None:
        """Show a message, above a bar if there is one."""
        self.messages.append(message)
        if not self.quiet:
            self._write(message)

    def warn(self, message: str) -> None:
        """Show what nobody should miss, once."""
        message = f"warning: {message}"
        if message not in self.messages:
            self.messages.append(message)
            self._write(message)

    def _write(self, message: str) -> None:
        from tqdm.auto import tqdm

        tqdm.write(message, file=sys.stderr)

    def track(
        self,
        items: Iterable[T],
        what: str,
        total: int | None = None,
        unit: str = "image",
        size_of: Callable[[T], int] | None = None,
    ) -> Iterator[T]:
        """Yield the items, with a bar that counts them, and their bytes if `size_of` tells how many each one has."""
        size = 0
        with progress_bar(what, total, unit=unit, quiet=self.quiet) as bar:
            for item in items:
                yield item
                if size_of is not None:
                    size += size_of(item)
                    bar.set_postfix_str(in_bytes(size), refresh=False)
                bar.update()

    def bar(self, what: str, total: int | None = None, unit: str = "image") -> tqdm:
        """Return a bar, of images or bytes ("B"), to be used as a `with` block."""
        return progress_bar(what, total, unit=unit, quiet=self.quiet)


def show_in_a_run(show: Callable[[], object]) -> None:
    """Show something in the middle of a run, which no console, however poor or full, may end."""
    with shown() as out:
        try:
            show()
            out.flush()
            error = out.error
        except Exception as raised:
            error = raised
        if error is not None:
            say(f"What was measured is stored, but it cannot be shown here: {type(error).__name__}: {error}")


def say(message: str) -> None:
    """Write a line to standard error, if there is one that takes it."""
    with shown():
        sys.stderr.write(f"{message}\n")
