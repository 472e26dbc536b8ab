"""What `mteb run` is asked for: whether there is such, and can be run, before a model is loaded.

A model may be a long download, and mteb looks at the tasks only afterwards.
"""

from __future__ import annotations

import argparse
import functools
import gc
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from mteb_vehicle_search import mistakes
from mteb_vehicle_search.engine import engine_of
from mteb_vehicle_search.errors import UsageError
from mteb_vehicle_search.settings import chosen_data

USAGE = """\
usage: mteb run -t TASK [TASK ...] -m MODEL [options; --help lists them]
such as: mteb run -t VehicleImageSearchMini -m vehicle-search/tiny-clip
"""


def require_data(tasks: Sequence[str], benchmarks: Sequence[str] = ()) -> None:
    """Refuse a run of tasks that do not exist, or without data, at once.

    Raises:
        KeyError: mteb knows no task, or no benchmark, of that name.
        VehicleSearchError: The evaluation set of one of our tasks is missing or damaged.
    """
    for task in our_tasks(tasks, benchmarks).values():
        task.require_data()


def our_tasks(tasks: Sequence[str], benchmarks: Sequence[str] = ()) -> dict[str, Any]:
    """Return those of these tasks that are ours, by name.

    Raises:
        KeyError: mteb knows no task, or no benchmark, of that name.
        VehicleSearchError: It may be that of a set that lies behind an address, which cannot be copied.
    """
    from mteb_vehicle_search.tasks import EvalSetTask

    try:
        every = _tasks(tasks, benchmarks)
    except KeyError:
        if not isinstance(chosen := chosen_data(), str):
            raise
        # A set says itself which task's it is.
        _copy_and_register(chosen)
        every = _tasks(tasks, benchmarks)
    return {task.metadata.name: task for task in every if isinstance(task, EvalSetTask)}


def _tasks(names: Sequence[str], benchmarks: Sequence[str]) -> list[Any]:
    import mteb

    return [*map(mteb.get_task, names), *(task for name in benchmarks for task in mteb.get_benchmark(name).tasks)]


def _copy_and_register(address: str) -> None:
    """Copy the set at an address to this machine, and let mteb know its task; raises as `copying.copy`."""
    import mteb_vehicle_search
    from mteb_vehicle_search.eval_set.copying import copy  # Imports an HTTP stack.

    copy(address)
    mteb_vehicle_search.register()


def names_of_ours(asked: argparse.Namespace) -> list[str]:
    """Return the names of our tasks among those that the arguments of `mteb run` name; raises as `our_tasks` does."""
    return list(our_tasks([] if asked.benchmarks else asked.tasks or [], asked.benchmarks or []))


def require_model(name: str, revision: str | None, tasks: Sequence[str]) -> None:
    """Refuse a model that there is not, or that cannot search, before anything of it is loaded.

    Args:
        name, revision: As mteb takes them.
        tasks: Names of our tasks that it is to run.

    Raises:
        UsageError: Neither mteb nor the hub has it, or it cannot run such tasks.
        VehicleSearchError: mteb does not have it, and the hub cannot be asked.
    """
    import mteb

    from mteb_vehicle_search.search.suited import require_suited

    try:
        with warnings.catch_warnings():
            # It is said below, with the nearest names.
            warnings.filterwarnings("ignore", "Could not find model", UserWarning)
            meta = mteb.get_model_meta(name, revision, fetch_from_hf=True)
    except Exception as error:
        if said := mistakes.unknown_model(name, error, mistakes.known_models()):
            raise said from error
        raise
    known = mistakes.known_models()
    if meta.loader is None and name not in known:
        said = mistakes.unknown_model(name, LookupError(name), known, on_hub=False)
        raise said or UsageError(f"mteb does not know the model {name!r}.")
    for task in tasks:
        require_suited(meta, task)


def around_run(original: Callable[[argparse.Namespace], Any]) -> Callable[[argparse.Namespace], Any]:
    """Return `mteb run` that first looks whether there is what it is asked for; mteb loads the model before."""

    @functools.wraps(original)
    def run(asked: argparse.Namespace) -> Any:
        if not asked.model:
            sys.stderr.write(USAGE)
            raise SystemExit(2)
        if ours := names_of_ours(asked):
            # It starts nothing yet, and knows what is not installed.
            engine_of()
            require_data(ours)
            require_model(asked.model, asked.model_revision, ours)
            # What has been imported stays until the process ends; the collector need not look at it again and again.
            gc.freeze()
        return original(asked)

    return run
