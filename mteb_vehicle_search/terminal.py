"""How errors reach a terminal: one message for what a user can mend, a traceback only when asked for."""

from __future__ import annotations

import os
import sys
from types import TracebackType

from mteb_vehicle_search.errors import VehicleSearchError

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
