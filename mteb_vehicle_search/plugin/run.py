"""`vehicle-search run`: mteb's own command line, with our tasks and models registered."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(words: list[str]) -> int:
    """Run `mteb run` with these arguments; return the exit status."""
    import mteb_vehicle_search

    mteb_vehicle_search.register()
    from mteb.cli import build_cli

    sys.argv = ["vehicle-search", "run", *words]
    require_data(build_cli.build_cli().parse_args(sys.argv[1:]).tasks or [])
    build_cli.main()
    return 0


def require_data(names: Sequence[str]) -> None:
    """Refuse a run without data at once: mteb loads the model first, which may be a long download.

    Raises:
        VehicleSearchError: The evaluation set of one of our tasks is missing or damaged.
    """
    from mteb_vehicle_search import tasks
    from mteb_vehicle_search.eval_set import EvalSet

    for name in names:
        task = getattr(tasks, name, None)
        if isinstance(task, type) and issubclass(task, tasks.EvalSetTask):
            EvalSet.open(task.data_folder())
