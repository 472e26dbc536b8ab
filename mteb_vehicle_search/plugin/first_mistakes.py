"""What somebody who runs mteb for the first time gets wrong, in one line: missing arguments, names with a typo."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Collection, Iterable
from pathlib import Path

from mteb_vehicle_search.models import model_metas

USAGE = """usage: vehicle-search run -t TASK [TASK ...] -m MODEL [options of 'mteb run']
the first run: vehicle-search run -t VehicleImageSearchMini -m vehicle-search/tiny-clip"""
OUR_ORGANISATION = "vehicle-search/"
# As difflib counts it: what is nearer to one of our names than this was meant to be it.
NEAR = 0.85


def is_complete(args: argparse.Namespace) -> bool:
    """Tell whether the arguments of `mteb run` say which model to run, and on what."""
    asked = ("tasks", "benchmarks", "task_types", "categories", "languages")
    return bool(args.model) and any(getattr(args, name, None) for name in asked)


def unknown_name(args: argparse.Namespace, tasks: Collection[str], models: Collection[str]) -> str | None:
    """Return a sentence on the first model or task that nobody knows; None if all are known or may be on the hub.

    Args:
        args: Of `mteb run`.
        tasks: The names that mteb knows, like those of `models`.
    """
    for name in getattr(args, "tasks", None) or []:
        if name not in tasks:
            return f"There is no task {name!r}. {_near(name, tasks)}"
    model = getattr(args, "model", None)
    if not model or model in models or Path(model).exists():
        return None
    ours = [str(meta.name) for meta in model_metas()]
    if model.startswith(OUR_ORGANISATION) or difflib.get_close_matches(model, ours, 1, NEAR):
        return f"There is no model {model!r}. {_near(model, [*ours, *models])}"
    return None


def _near(name: str, known: Iterable[str]) -> str:
    by_lower = {one.lower(): one for one in known}
    found = difflib.get_close_matches(name.lower(), by_lower, 3)
    return f"Did you mean {' or '.join(by_lower[one] for one in found)}?" if found else "No name is near it."


def of_command_line(tasks: Collection[str], models: Collection[str]) -> str | None:
    """Return what `unknown_name` says of the command that this process runs, if it is mteb's."""
    from mteb.cli.build_cli import build_cli

    try:
        return unknown_name(build_cli().parse_args(sys.argv[1:]), tasks, models)
    except SystemExit:
        return None
