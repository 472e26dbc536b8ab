"""First mistakes on mteb's command line, said in a sentence: a name that mteb does not know.

mteb's look-ups raise bare errors below a long traceback. What they were asked for stands in their frames.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from difflib import get_close_matches
from traceback import walk_tb
from types import FrameType, TracebackType
from typing import Any

from mteb_vehicle_search.errors import UsageError, VehicleSearchError, first_line

PACKAGE = "mteb_vehicle_search"
MTEBS_COMMAND = "mteb.cli.build_cli"
OWN_SETS = (
    "A set of your own becomes a task when it is built: vehicle-search-data build --preset FILE.toml "
    "(its 'task_name', or its name in CamelCase)."
)


def by_mtebs_command(traceback: TracebackType | None) -> bool:
    """Tell whether mteb's own command line was at work."""
    return any(_module(frame) == MTEBS_COMMAND for frame, _ in walk_tb(traceback))


def on_our_tasks(traceback: TracebackType | None) -> bool:
    """Tell whether mteb's command line was evaluating, or about to evaluate, one of our tasks."""
    for frame, _ in walk_tb(traceback):
        # What stands around the command is at work in every run.
        if _module(frame).startswith(f"{PACKAGE}.") and not _module(frame).startswith(f"{PACKAGE}.plugin."):
            return True
        if _module(frame) == MTEBS_COMMAND:
            asked = getattr(frame.f_locals.get("args"), "tasks", None) or []
            if not {*asked}.isdisjoint(_ours(known_tasks())):
                return True
    return False


def explained(error: BaseException) -> VehicleSearchError | None:
    """Return what mteb's look-up of a task, a benchmark or a model means to say; None for any other error."""
    if not isinstance(error, Exception) or isinstance(error, VehicleSearchError):
        return None
    frames = [frame for frame, _ in walk_tb(error.__traceback__)]
    for frame in frames:
        where, its = (_module(frame), frame.f_code.co_name), frame.f_locals
        refused = isinstance(error, KeyError) and frame is frames[-1]
        if refused and where == ("mteb.get_tasks", "get_task"):
            return unknown("task", its.get("task_name"), known_tasks())
        if refused and where == ("mteb.benchmarks.get_benchmark", "get_benchmark"):
            return unknown("benchmark", its.get("benchmark_name"), its.get("benchmark_registry", {}))
        if where == ("mteb.models.get_model_meta", "get_model"):
            return _about_model(error, its, known_models())
    return None


def unknown(kind: str, name: Any, known: Mapping[str, Any]) -> UsageError:
    """Return the error for the name of a task or a benchmark that is not among the known ones."""
    meant = _did_you_mean(str(name), known) or f"; 'mteb available-{kind}s' lists them."
    own = kind == "task" and str(name).lower().endswith("search")
    return UsageError(f"mteb knows no {kind} {name!r}{meant}", OWN_SETS if own else None)


def nearest(name: str, known: Mapping[str, Any]) -> list[str]:
    """Return the at most three known names that look most like this one, whatever the case, ours first."""
    spelled = {each.lower(): each for each in known}
    if "/" not in name:  # the organisation of a model is easily forgotten
        spelled = {each.rpartition("/")[2]: whole for each, whole in spelled.items()} | spelled
    near = dict.fromkeys(spelled[each] for each in get_close_matches(name.lower(), spelled))
    ours = _ours(known)
    return sorted(near, key=lambda each: each not in ours)


def _did_you_mean(name: str, known: Mapping[str, Any]) -> str:
    near = nearest(name, known)
    return f"; did you mean {' or '.join(near)}?" if near else ""


def _about_model(error: Exception, its: Mapping[str, Any], known: Mapping[str, Any]) -> VehicleSearchError | None:
    """Tell of a model that mteb did not find; an error while one is loaded is the model's own."""
    meta = its.get("meta")
    if meta is not None and (its.get("model_name") in known or meta.loader is not None):
        return None
    return unknown_model(its.get("model_name"), error, known, on_hub=meta is None)


def unknown_model(
    name: Any, error: Exception, known: Mapping[str, Any], *, on_hub: bool = True
) -> VehicleSearchError | None:
    """Return the error for a model whose metadata cannot be had; None for a known one's that is not foreseen.

    Args:
        name: As it was typed.
        error: What mteb raised when it looked for it.
        known: All models by name.
        on_hub: Whether the hub might have it: it was not reached, or did not say.
    """
    if isinstance(error, VehicleSearchError):
        return error
    if name in known:
        # Another revision was asked for than the one that mteb has.
        return UsageError(str(error)) if isinstance(error, ValueError) else None
    hub = f"and the hub did not tell ({first_line(error)})" if on_hub else "nor does the hub"
    meant = _did_you_mean(str(name), known)
    # What looks like no name that is known may be right, and the line down.
    kind = UsageError if meant or not on_hub else VehicleSearchError
    return kind(f"mteb does not know the model {name!r}, {hub}{meant or '.'}")


def _ours(known: Mapping[str, Any]) -> set[str]:
    """Return the names of those that this package brought."""
    return {
        name
        for name, one in known.items()
        if str(getattr(getattr(one, "loader", None) or one, "__module__", "")).startswith(PACKAGE)
    }


def known_tasks() -> dict[str, Any]:
    found = vars(sys.modules["mteb.tasks"]).values() if "mteb.tasks" in sys.modules else ()
    return {task.metadata.name: task for task in found if isinstance(task, type) and hasattr(task, "metadata")}


def known_models() -> dict[str, Any]:
    import mteb

    return {str(meta.name): meta for meta in mteb.get_model_metas()}


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", ""))
