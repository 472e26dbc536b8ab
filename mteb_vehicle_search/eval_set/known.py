"""The evaluation sets on this computer: each is a task of mteb, named by its manifest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from mteb_vehicle_search import settings
from mteb_vehicle_search.errors import UsageError, VehicleSearchError
from mteb_vehicle_search.eval_set import EvalSet, copies

ORIGINAL = "VehicleImageSearch"


def known_sets(on_trouble: Callable[[str], object] = lambda message: None) -> dict[str, EvalSet]:
    """Return each set by its task's name: that of `VEHICLE_SEARCH_DATA`, and all in the home's `data`.

    The chosen one comes before another of its name.

    Args:
        on_trouble: Called with a sentence on each folder that is left out.
    """
    found: dict[str, EvalSet] = {}
    for folder in _folders(on_trouble):
        try:
            eval_set = EvalSet.open(folder)
            name = eval_set.task_name
        except VehicleSearchError as error:
            on_trouble(f"{folder} is left out: {error.message}")
            continue
        if name not in found:
            found[name] = eval_set
        elif settings.text("VEHICLE_SEARCH_DATA") == "" and found[name].folder.resolve() != folder.resolve():
            on_trouble(
                f"{folder} is left out: {found[name].folder} has the same task name {name}. State another task_name."
            )
    return found


def sets_here() -> Iterator[EvalSet]:
    """Yield the sets on this computer that can be opened: the chosen one, all in the home's `data`, Mini, copies."""
    for folder in [*_folders(lambda message: None), settings.mini_folder(), *copies.all_copies()]:
        with suppress(VehicleSearchError):
            yield EvalSet.open(folder)


def set_named(text: str) -> EvalSet:
    """Return the evaluation set in a folder, or of a task: one of `known_sets`, or Mini.

    Raises:
        UsageError: There is no such set here.
        DataNotFoundError, EvalSetError: The folder holds none, or a damaged one.
    """
    if Path(text).is_dir():
        return EvalSet.open(text)
    sets = known_sets()
    mini = EvalSet.open(settings.mini_folder())
    sets.setdefault(mini.task_name, mini)
    if text not in sets:
        raise UsageError(
            f"There is no evaluation set {text!r} here.", f"There are {', '.join(sorted(sets))}; or name a folder."
        )
    return sets[text]


def _folders(on_trouble: Callable[[str], object]) -> list[Path]:
    """Return the chosen folder and those with a manifest in the home's `data`, sorted."""
    try:
        chosen = [chosen_folder()] if settings.chosen_data() else []
        below = sorted(path.parent for path in (settings.home() / "data").glob("[!.]*/manifest.json"))
    except (VehicleSearchError, OSError) as error:
        on_trouble(f"The evaluation sets cannot be looked for: {error}")
        return []
    return [folder for folder in chosen if (folder / "manifest.json").is_file()] + below


def chosen_folder() -> Path:
    """Return where `VehicleImageSearch` looks: as `VEHICLE_SEARCH_DATA` says, else in the home's `data`.

    Of an address, that is its last copy on this machine, or what is no folder.
    """
    chosen = settings.chosen_data()
    return copies.place(chosen) if isinstance(chosen, str) else chosen or settings.data_folder()


def folder_of(task_name: str) -> Path:
    """Return the folder of the set that the task evaluates, whether it is there or not.

    `VehicleImageSearch` has the one that `VEHICLE_SEARCH_DATA` names; the task refuses it if it is another's.
    """
    if task_name == ORIGINAL and settings.chosen_data():
        return chosen_folder()
    eval_set = known_sets().get(task_name)
    return eval_set.folder if eval_set else settings.data_folder()


def bring(task_name: str) -> None:
    """Copy the task's set to this machine, as it is now, if it is the one whose address `VEHICLE_SEARCH_DATA` says.

    Raises:
        VehicleSearchError: As `copying.copy`.
    """
    chosen = settings.chosen_data()
    if isinstance(chosen, str) and (task_name == ORIGINAL or folder_of(task_name) == chosen_folder()):
        from mteb_vehicle_search.eval_set.copying import copy  # Imports an HTTP stack.

        copy(chosen)
