"""`vehicle-search run`: mteb's own command line, with our tasks and models registered."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from mteb_vehicle_search import settings
from mteb_vehicle_search.errors import VehicleSearchError


def main(words: list[str]) -> int:
    """Run `mteb run` with these arguments; return the exit status."""
    settings.check()
    import mteb_vehicle_search

    mteb_vehicle_search.register()
    from mteb.cli import build_cli

    from mteb_vehicle_search.plugin import first_mistakes, registry

    sys.argv = ["vehicle-search", "run", *words]
    args = build_cli.build_cli().parse_args(sys.argv[1:])
    if not first_mistakes.is_complete(args):
        sys.stderr.write(f"{first_mistakes.USAGE}\n")
        return 2
    if mistake := first_mistakes.unknown_name(args, registry.known_tasks(), registry.known_models()):
        raise VehicleSearchError(mistake)
    require_data(args.tasks or [])
    build_cli.main()
    return 0


def require_data(names: Sequence[str]) -> None:
    """Refuse a run without data at once: mteb loads the model first, which may be a long download.

    Raises:
        VehicleSearchError: The evaluation set of one of our tasks is missing or damaged.
    """
    from mteb_vehicle_search import tasks

    for name in names:
        task = getattr(tasks, name, None)
        if isinstance(task, type) and issubclass(task, tasks.EvalSetTask):
            task.open_data()
