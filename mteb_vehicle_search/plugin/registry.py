"""Hands tasks, models and the benchmark to mteb. The only file that touches mteb's registries.

Every step is idempotent, and what cannot be registered gives one PluginWarning that names the culprit.
"""

from __future__ import annotations

import functools
import importlib.util
import logging
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from contextlib import contextmanager
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, NamedTuple

from mteb_vehicle_search import settings
from mteb_vehicle_search.errors import PluginWarning
from mteb_vehicle_search.models.known_transformers import SIGLIP_SWITCH, SIGLIPS
from mteb_vehicle_search.plugin import guards, hook
from mteb_vehicle_search.run_record import version_of

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from mteb.abstasks import AbsTask
    from mteb.models import ModelMeta

logger = logging.getLogger(__name__)

ENTRY_POINT_GROUP = "mteb_vehicle_search.models"
OURS = "mteb-vehicle-search"
TASKS, MODELS, BENCHMARKS = hook.REGISTRIES
BENCHMARK = "VehicleImageSearch"

# Entries of mteb that ours replace, each with the variable that keeps mteb's. Jina's runs the repository's code, which
# under transformers 5 is refused or silently wrong; the SigLIPs' leaves captions their capitals.
REPLACED = {"jinaai/jina-clip-v2": "VEHICLE_SEARCH_STOCK_JINA", **dict.fromkeys(SIGLIPS, SIGLIP_SWITCH)}

_told: set[str] = set()
_source_of: dict[str, str] = {}
_postponed: list[EntryPoint] = []


class Offer(NamedTuple):
    """A model somebody wants mteb to know."""

    meta: ModelMeta
    source: str


def register() -> None:
    """Import mteb and register everything that is not registered yet."""
    import mteb  # noqa: F401 -- 3 s; the caller asked for it

    _complete()


def known_tasks() -> dict[str, type[AbsTask]]:
    """Return all tasks that mteb knows by now, by name."""
    importlib.import_module("mteb.get_tasks")
    module: Any = sys.modules["mteb.get_tasks"]
    return dict(module._TASKS_REGISTRY)


def source_of(name: str) -> str:
    """Return who brought a model: "mteb", this package, or "package 'x' (entry point ...)"."""
    return _source_of.get(name, "mteb")


def _is_known(model: str) -> bool:
    registry: Any = sys.modules[MODELS].MODEL_REGISTRY  # type: ignore[attr-defined]
    return model in registry


def module_executed(name: str) -> None:
    """Add to a module of mteb that has just executed; called by the import hook."""
    if name == hook.OUR_TASKS:
        if hook.PACKAGE in sys.modules and not hook.is_being_imported(hook.PACKAGE):
            _complete()
        return
    if name == hook.PACKAGE:
        from mteb_vehicle_search import terminal

        terminal.shorten_our_tracebacks()
        _complete()
        return
    if name == hook.COMMAND:
        with _warning_instead("checks of 'mteb run'"):
            guards.guard_command()
        return
    step, what = _STEPS[name]
    with _warning_instead(what):
        step()


def _complete() -> None:
    """Register with every loaded registry (a no-op where the hook was in time) and notice what mteb no longer has."""
    for sentence in settings.misspelt():
        _tell(sentence)
    for name, (step, what) in _STEPS.items():
        with _warning_instead(what):
            if name in sys.modules:
                step()
            elif importlib.util.find_spec(name) is None:
                raise ModuleNotFoundError(f"there is no {name}")
    with _warning_instead("checks of models"):
        guards.guard_models()
    with _warning_instead("spared imports"):
        guards.spare_imports()
    if hook.COMMAND in sys.modules and not hook.is_being_imported(hook.COMMAND):
        with _warning_instead("checks of 'mteb run'"):
            guards.guard_command()
    with _warning_instead("guards of stored results"):
        guards.guard_results()
    with _warning_instead("models by where they lie"):
        guards.answer_for_located(_is_known)
    # Only now: a module of somebody else may well begin with `from mteb import ...`.
    with _warning_instead("models of other packages"):
        if MODELS in sys.modules:
            _add_models(_offers_of_entry_points())


@contextmanager
def _warning_instead(what: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        ours, its = (version_of(package) or "(not installed)" for package in (OURS, hook.PACKAGE))
        _tell(
            f"The {what} of {OURS} {ours} could not be registered with mteb {its}: "
            f"{type(error).__name__}: {error}. mteb itself works as before. If mteb was upgraded, see whether "
            f"'pip install --upgrade {OURS}' helps."
        )


def _tell(message: str) -> None:
    if message not in _told:
        _told.add(message)
        warnings.warn(message, PluginWarning, stacklevel=2)


def _our_tasks() -> Any:
    """Return the module of our tasks; None while it is being imported, which ends with another call of ours."""
    module = sys.modules.get(hook.OUR_TASKS) or importlib.import_module(hook.OUR_TASKS)
    return module if hasattr(module, "OWN_TASKS") else None


def _add_tasks() -> None:
    from mteb.abstasks import AbsTask

    if (ours := _our_tasks()) is None:
        return
    module = sys.modules[TASKS]
    there = {
        value.metadata.name: value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, AbsTask) and hasattr(value, "metadata")
    }
    mine = []
    for task in (*ours.OWN_TASKS, *ours.tasks_of_sets(_tell)):
        holder = there.get(task.metadata.name) or getattr(module, task.__name__, task)
        if holder is task:
            setattr(module, task.__name__, task)
            mine.append(task)
            continue
        # A second task of that name would make mteb refuse to be imported.
        where = f"{getattr(holder, '__module__', TASKS)}.{getattr(holder, '__qualname__', task.__name__)}"
        _tell(f"The task name {task.metadata.name!r} is taken by {where}; the task of {OURS} is not registered.")
    _add_to_computed_tasks(mine)


def _add_to_computed_tasks(tasks: list[type[AbsTask]]) -> None:
    """Bring up to date what mteb.get_tasks computed from mteb.tasks, if it was imported before us."""
    name = "mteb.get_tasks"
    if name not in sys.modules or hook.is_being_imported(name):
        return  # it will compute everything itself
    module: Any = sys.modules[name]
    registry = module._TASKS_REGISTRY
    missing = [task for task in tasks if registry.get(task.metadata.name) is not task]
    if not missing:
        return
    everything = (*module.TASK_LIST, *missing)
    similar = module._create_similar_tasks(everything)
    registry.update({task.metadata.name: task for task in missing})
    module.TASK_LIST = everything
    module._SIMILAR_TASKS.update(similar)


def forget_tasks(names: Iterable[str]) -> None:
    """Let mteb no longer know these tasks of sets, whose data are gone."""
    module: Any = sys.modules["mteb.get_tasks"]
    for name in names:
        task = module._TASKS_REGISTRY.pop(name, None)
        module.TASK_LIST = tuple(one for one in module.TASK_LIST if one is not task)
        vars(sys.modules[TASKS]).pop(name, None)
        vars(sys.modules[hook.OUR_TASKS])["_tasks_of_sets"].pop(name, None)


def _add_own_models() -> None:
    stock = {name for name, switch in REPLACED.items() if settings.flag(switch)}
    _add_models(offer for offer in _own_offers() if offer.meta.name not in stock)
    if not hook.is_being_imported(hook.PACKAGE):
        _add_models(_offers_of_entry_points())


def _add_models(offers: Iterable[Offer]) -> None:
    module: Any = sys.modules[MODELS]
    registry = module.MODEL_REGISTRY
    if not isinstance(registry, MutableMapping):
        raise TypeError(f"{MODELS}.MODEL_REGISTRY is a {type(registry).__name__}, not a dict")
    for meta, source in offers:
        name = str(meta.name)
        holder = registry.get(name)
        if holder is meta:
            continue
        if holder is not None and not (name in REPLACED and source == OURS):
            _tell(
                f"The model name {name!r} is taken by {_source_of.get(name, 'mteb')}; the one of {source} is not "
                "registered."
            )
            continue
        if holder is not None:
            logger.info("%s replaces mteb's entry for %s (%s=1 keeps mteb's).", OURS, name, REPLACED[name])
        registry[name] = meta
        _source_of[name] = source


# Cached, so that registering again offers the same objects and is recognised as such.
@functools.cache
def _own_offers() -> list[Offer]:
    from mteb_vehicle_search.models import model_metas

    return [Offer(meta, OURS) for meta in model_metas()]


@functools.cache
def _offers_of_entry_points() -> list[Offer]:
    points = sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda point: (point.name, point.value))
    _postponed.extend(point for point in points if _is_being_imported(point))
    if _postponed:
        _ask_again_when_looked_up()
    return [offer for point in points if point not in _postponed for offer in _offers_of(point)]


def _is_being_imported(point: EntryPoint) -> bool:
    """Tell whether the import that made mteb ask for models comes from the very package that offers these."""
    parts = point.module.split(".")
    names = (".".join(parts[:end]) for end in range(1, len(parts) + 1))
    return any(name in sys.modules and hook.is_being_imported(name) for name in names)


def _add_postponed() -> None:
    ready = [point for point in _postponed if not _is_being_imported(point)]
    for point in ready:
        _postponed.remove(point)
    _add_models(offer for point in ready for offer in _offers_of(point))


class _AskingAgain(dict):
    """mteb's models by name; before it answers, it asks the packages that were still being imported before."""


def _asking(name: str) -> Callable[..., Any]:
    def method(self: _AskingAgain, *args: Any) -> Any:
        if _postponed:
            _add_postponed()
        return getattr(dict, name)(self, *args)

    return method


for _name in ("__contains__", "__getitem__", "__iter__", "__len__", "get", "items", "keys", "values"):
    setattr(_AskingAgain, _name, _asking(_name))


def _ask_again_when_looked_up() -> None:
    """Let everything of mteb that holds its models hold such as ask again."""
    models: Any = sys.modules[MODELS].MODEL_REGISTRY  # type: ignore[attr-defined]
    asking = _AskingAgain(models)
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == hook.PACKAGE and getattr(module, "MODEL_REGISTRY", None) is models:
            module.MODEL_REGISTRY = asking  # type: ignore[attr-defined]


def _offers_of(point: EntryPoint) -> list[Offer]:
    """Return what one entry point offers; nothing, and a warning, if it is broken."""
    from mteb.models import ModelMeta

    package = f"package {point.dist.name!r}" if point.dist else "an unknown package"
    source = f"{package} (entry point {point.name} = {point.value})"
    try:
        value = point.load()
    except (Exception, SystemExit) as error:
        _tell(f"The models of {source} are not registered: it fails with {type(error).__name__}: {error}")
        return []
    metas = list(value) if isinstance(value, list | tuple) else [value]
    # A list, since the strange thing may be None.
    strange = [meta for meta in metas if not isinstance(meta, ModelMeta) or not meta.name]
    if strange:
        _tell(
            f"The models of {source} are not registered: it gives {type(strange[0]).__name__} {strange[0]!r:.60}, "
            "where a ModelMeta with a name, or a list of them, belongs."
        )
        return []
    return [Offer(meta, source) for meta in metas]


def _add_benchmark() -> None:
    from mteb.benchmarks.benchmark import Benchmark

    if (ours := _our_tasks()) is None:
        return
    task: type[AbsTask] = ours.VehicleImageSearch
    module: Any = sys.modules[BENCHMARKS]
    there = {value.name: value for value in vars(module).values() if isinstance(value, Benchmark)}
    holder = there.get(BENCHMARK)
    if holder is not None:
        if [type(one) for one in holder.tasks] != [task]:
            _tell(f"The benchmark name {BENCHMARK!r} is taken by mteb; the one of {OURS} is not registered.")
        return
    module.VEHICLE_IMAGE_SEARCH = Benchmark(
        name=BENCHMARK,
        display_name="Vehicle Image Search",
        tasks=(task(),),
        description=task.metadata.description,
        reference=task.metadata.reference,
        citation=task.metadata.bibtex_citation,
    )
    getter: Any = sys.modules.get("mteb.benchmarks.get_benchmark")
    if getter is not None:
        getter._build_registry.cache_clear()


_STEPS: dict[str, tuple[Callable[[], None], str]] = {
    TASKS: (_add_tasks, "tasks"),
    MODELS: (_add_own_models, "models"),
    BENCHMARKS: (_add_benchmark, "benchmark entries"),
}
