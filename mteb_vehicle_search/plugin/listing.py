"""`vehicle-search models`: the image-text models that can be run here, and what is known of each before it runs."""

from __future__ import annotations

import argparse
import functools
import json
import math
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from mteb_vehicle_search.analysis.columns import row_columns
from mteb_vehicle_search.analysis.runs import RESULTS, find_results, holds_flickr30k
from mteb_vehicle_search.models.places import LOCAL
from mteb_vehicle_search.run_record import OWN_CODE
from mteb_vehicle_search.settings import runs_folder
from mteb_vehicle_search.terminal import console, print_columns

if TYPE_CHECKING:
    from mteb.models import ModelMeta

SCHEMA_VERSION = 1
MTEB, RECORDS = "mteb", "run records"
# The names of models that were run by their path begin so.
FOLDERS = f"{LOCAL}/"
# Its weights ship with the package.
SHIPPED = "vehicle-search/tiny-clip"
LEGEND = """\
Flickr30k: whether its photographs are known to be in the training data.
cached: whether the weights are in the hub's cache; "other" is another revision than the one that would run.
"""


@dataclass(frozen=True)
class Listed:
    """A model of the list; what is not known is None. The fields are those of the JSON output.

    Attributes:
        source: Who brought it: "mteb", this package, an entry point; "run records" if it is not registered here.
        embed_dim: Of the vectors, the largest that it offers.
        max_tokens: Of a text; None also if there is no limit.
        flickr30k_in_training: Whether its training data is known to hold Flickr30k.
        in_hub_cache: Whether weights of this revision are there; None if it takes none from the hub.
        other_revision_in_hub_cache: Whether those of another revision are.
        why_not: Why it cannot be run here at all; None if it can.
        needs: What has to be installed, or had, before.
        run_as: What `-m` takes of it; None where that is not known, as of a folder or of a model made in Python.
        runs: The runs that are stored: task, content id of its set, and revision of the model.
    """

    name: str
    source: str
    revision: str | None = None
    n_parameters: int | None = None
    embed_dim: int | None = None
    max_tokens: int | None = None
    license: str | None = None
    flickr30k_in_training: bool | None = None
    in_hub_cache: bool | None = None
    other_revision_in_hub_cache: bool = False
    why_not: str | None = None
    needs: str | None = None
    run_as: str | None = None
    runs: list[dict[str, str]] = field(default_factory=list)

    @property
    def at_hand(self) -> bool:
        """Whether it is listed without being asked for: all but mteb's that are neither cached nor were run."""
        cached = self.in_hub_cache or self.other_revision_in_hub_cache
        return bool(self.source != MTEB or self.runs or (cached and self.why_not is None))

    @property
    def tasks(self) -> list[str]:
        """The names of the tasks that it has run, each once."""
        return sorted({run["task"] for run in self.runs})


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `vehicle-search models`."""
    parser.description = (
        "List the image-text models that can be run here: this package's, those of entry points, and of mteb's those "
        "that are in the hub's cache or were run."
    )
    parser.add_argument("--all", action="store_true", help="list all image-text models of mteb, and those that cannot")
    parser.add_argument("--json", action="store_true", help="write JSON, with more of each model")


def main(args: argparse.Namespace) -> int:
    """Print the list; return the exit code."""
    from mteb_vehicle_search.models.snapshot import cached_revisions
    from mteb_vehicle_search.plugin import registry

    registry.register()
    every = listed(registered_metas(), registry.source_of, cached_revisions(), stored_runs())
    shown = every if args.all else [one for one in every if one.at_hand]
    if args.json:
        document = {"schema_version": SCHEMA_VERSION, "models": [asdict(one) for one in shown]}
        sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    else:
        show(shown, len(every) - len(shown))
    return 0


def registered_metas() -> list[ModelMeta]:
    """Return the metadata of mteb's image-text models, and of all that were added to mteb's, whatever they take."""
    import mteb

    from mteb_vehicle_search.plugin import registry

    wanted = {"image", "text"}
    return [
        meta
        for meta in mteb.get_model_metas()
        if wanted <= set(meta.modalities or ()) or registry.source_of(str(meta.name)) != MTEB
    ]


def stored_runs() -> dict[str, dict[str, Any]]:
    """Return what run records and results say, by model: facts as `Listed` has them, its runs among them."""
    found = find_results([place for place in (RESULTS, runs_folder()) if place.is_dir()])
    told = [(record.key, record.info["task_name"], record.info) for record in found.records]
    told += [(result.key, result.task, result.meta) for result in found.results]
    models: dict[str, dict[str, Any]] = {}
    for key, task, facts in told:
        known = models.setdefault(key.model, {"runs": [], **_facts(facts)})
        if facts.get("implementation") == OWN_CODE and not key.model.startswith(FOLDERS):
            known["run_as"] = f"hf-hub:{key.model}@{key.revision}"
        run = {"task": task, "content_id": key.content_id, "revision": key.revision}
        if run not in known["runs"]:
            known["runs"].append(run)
    for known in models.values():
        known["runs"].sort(key=lambda run: (*run.values(),))
    return models


def _facts(info: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a record says of a model that is not registered here, as far as it is of the right type."""
    numbers = {key: _whole(info.get(key)) for key in ("n_parameters", "embed_dim", "max_tokens")}
    licence = info.get("license")
    return {
        **numbers,
        "license": licence if isinstance(licence, str) else None,
        "flickr30k_in_training": holds_flickr30k(info.get("training_datasets")),
    }


def listed(
    metas: Iterable[ModelMeta], source_of: Any, cached: Mapping[str, frozenset[str]], runs: Mapping[str, dict[str, Any]]
) -> list[Listed]:
    """Return the models: this package's first, then others' that were added, mteb's, and those that only ran here.

    Args:
        source_of: Says of a name who brought the model.
        cached: Revisions in the hub's cache, by repository.
        runs: What `stored_runs` found.
    """
    from mteb_vehicle_search.plugin.registry import OURS

    order = {OURS: 0, MTEB: 2}
    models = [
        _of_meta(meta, source_of(str(meta.name)), cached.get(str(meta.name), frozenset()), runs.get(str(meta.name), {}))
        for meta in metas
    ]
    known = {one.name for one in models}
    models.sort(key=lambda one: (order.get(one.source, 1), one.name.lower()))
    return models + [Listed(name, RECORDS, **runs[name]) for name in sorted(runs) if name not in known]


def _of_meta(meta: ModelMeta, source: str, cached: frozenset[str], ran: Mapping[str, Any]) -> Listed:
    from mteb_vehicle_search.search.suited import obstacle

    datasets, dimensions = meta.training_datasets, meta.embed_dim
    from_hub = str(meta.name) != SHIPPED and meta.open_weights is not False and not _is_baseline(meta)
    here = bool(cached) if meta.revision is None else meta.revision in cached
    return Listed(
        name=str(meta.name),
        source=source,
        revision=meta.revision,
        n_parameters=_whole(meta.n_parameters),
        embed_dim=_whole(dimensions if isinstance(dimensions, int) else max(dimensions or (), default=None)),
        max_tokens=_whole(meta.max_tokens),
        license=str(meta.license) if meta.license else None,
        flickr30k_in_training=holds_flickr30k(None if datasets is None else sorted(datasets)),
        in_hub_cache=here if from_hub else None,
        other_revision_in_hub_cache=bool(cached) and not here,
        why_not=obstacle(meta) or None,
        needs=_needs(meta),
        run_as=str(meta.name),
        runs=list(ran.get("runs", ())),
    )


def _is_baseline(meta: ModelMeta) -> bool:
    return str(meta.name).startswith("mteb/baseline")


def _whole(number: Any) -> int | None:
    """Return a number of a fact as a whole one; mteb has an infinite context where there is no limit."""
    if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
        return None
    return int(number)


def _needs(meta: ModelMeta) -> str | None:
    """Return what a model needs that is not here: mteb's extras, or an account of a provider."""
    groups = tuple(meta.extra_requirements_groups or ())
    parts = [f"pip install 'mteb[{','.join(groups)}]'"] if groups and _are_missing(type(meta), groups) else []
    if meta.open_weights is False or "API" in (meta.framework or ()):
        parts.append("an account of its provider")
    return ", ".join(parts) or None


@functools.cache
def _are_missing(kind: Any, groups: tuple[str, ...]) -> bool:
    # Not mteb's own check, which may install what is missing.
    missing = getattr(kind, "_missing_dependencies", None)
    return bool(missing(groups)) if missing else False


def show(models: list[Listed], left_out: int) -> None:
    """Print the models as tables: what can be run, what has run, what is known from runs only; then what some lack."""
    screen = console()
    runnable = [one for one in models if one.why_not is None and one.source != RECORDS]
    head, *rest = ([name, *map(text, runnable)] for name, text in _columns().items())
    print_columns(screen, "", [head], rest, {"model", "license", "Flickr30k", "cached"})
    screen.print(f"\n{LEGEND}")
    if ran := {one.name: ", ".join(one.tasks) for one in models if one.tasks}:
        columns = [["model", *ran], ["has run", *ran.values()]]
        print_columns(screen, "", columns[:1], columns[1:], {"model", "has run"})
        screen.print()
    if gone := [one for one in models if one.source == RECORDS]:
        again = [one.run_as or ("its path" if one.name.startswith(FOLDERS) else "–") for one in gone]
        columns = [["known from runs only", *(one.name for one in gone)], ["run it again with -m", *again]]
        print_columns(screen, "", columns[:1], columns[1:], {"known from runs only", "run it again with -m"})
        screen.print()
    for before, chosen in (
        ("Before it can be run: ", [(one.needs, one.name) for one in runnable if one.needs]),
        ("Cannot be run here, as it ", [(one.why_not, one.name) for one in models if one.why_not]),
    ):
        for reason in sorted({reason for reason, _ in chosen}):
            screen.print(f"{before}{reason}:\n{', '.join(name for one, name in chosen if one == reason)}\n")
    if left_out:
        screen.print(f"{left_out:,} more of mteb's image-text models: vehicle-search models --all")
    screen.print("Run one: vehicle-search run -t VehicleImageSearchMini -m MODEL")


def _columns() -> dict[str, Any]:
    """Return what the main table shows of a model, by heading."""
    of_leaderboard = {key: column.cell for key, column in row_columns().items()}

    def same(key: str) -> Any:
        cell = of_leaderboard[key]
        return lambda one: cell.text({key: getattr(one, key)}) if cell else ""

    return {
        "model": lambda one: one.name,
        "parameters": same("n_parameters"),
        "dimension": same("embed_dim"),
        "context": lambda one: "–" if one.max_tokens is None else f"{one.max_tokens:,}",
        "license": lambda one: "own terms" if "://" in (one.license or "") else one.license or "–",
        "Flickr30k": same("flickr30k_in_training"),
        "cached": _cached,
    }


def _cached(one: Listed) -> str:
    if one.name == SHIPPED:
        return "ships"
    if one.in_hub_cache is None:
        return "–"
    return "yes" if one.in_hub_cache else "other" if one.other_revision_in_hub_cache else "no"
