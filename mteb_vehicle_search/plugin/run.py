"""`vehicle-search run`: mteb's own command line, with our tasks and models registered."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from mteb_vehicle_search import settings

USAGE = """\
usage: vehicle-search run -t TASK [TASK ...] -m MODEL [options of 'mteb run'; --help lists them]
such as: vehicle-search run -t VehicleImageSearchMini -m vehicle-search/tiny-clip
"""


def main(words: list[str]) -> int:
    """Run `mteb run` with these arguments; return the exit status: 2 if no model or no task is named."""
    import mteb_vehicle_search

    if not words:
        sys.stderr.write(USAGE)
        return 2
    mteb_vehicle_search.register()
    from mteb.cli import build_cli

    sys.argv = ["vehicle-search", "run", *words]
    asked = build_cli.build_cli().parse_args(sys.argv[1:])
    if not asked.model or not _selects(asked):
        sys.stderr.write(USAGE)
        return 2
    settings.check()
    require_data(asked.tasks or [])
    build_cli.main()
    return 0


def _selects(asked: argparse.Namespace) -> bool:
    """Tell whether some tasks are chosen; mteb would take all its 1,500."""
    return any((asked.tasks, asked.benchmarks, asked.task_types, asked.categories, asked.languages))


def require_data(names: Sequence[str]) -> None:
    """Refuse a run without data at once: mteb loads the model first, which may be a long download.

    Raises:
        KeyError: mteb knows no task of that name.
        VehicleSearchError: The evaluation set of one of our tasks is missing or damaged.
    """
    import mteb

    from mteb_vehicle_search.tasks import EvalSetTask

    for name in names:
        task = mteb.get_task(name)
        if isinstance(task, EvalSetTask):
            task.open_data()
