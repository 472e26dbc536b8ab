"""What the plugin hands to mteb, within this process."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import importlib.util
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path
from types import MappingProxyType, ModuleType, SimpleNamespace
from typing import Any

import pytest
from environment import distribution

import mteb_vehicle_search
from mteb_vehicle_search import terminal
from mteb_vehicle_search.errors import PluginWarning
from mteb_vehicle_search.plugin import guards
from mteb_vehicle_search.plugin import registry as plugin

ROOT = Path(__file__).parents[2]
REPLACED_MODEL = "jinaai/jina-clip-v2"
TASKS = ("VehicleImageSearch", "VehicleImageSearchMini")


def test_an_mteb_without_the_expected_modules_is_told_and_imports(tmp_path: Path) -> None:
    (tmp_path / "mteb").mkdir()
    (tmp_path / "mteb" / "__init__.py").write_text("__version__ = '9'", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-S", "-c", "import mteb_vehicle_search, mteb; print(mteb.__version__)"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])},
    )
    assert done.stdout.strip() == "9", done.stderr
    for what, module in (("tasks", "mteb.tasks"), ("models", "mteb.models"), ("benchmark entries", "mteb.benchmarks")):
        assert len(re.findall(rf"PluginWarning: The {what} of .*{module}", done.stderr)) == 1, done.stderr


# Registration within this process


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """mteb's models, to be changed freely."""
    import mteb  # noqa: F401

    copy = dict(sys.modules[plugin.MODELS].MODEL_REGISTRY)  # type: ignore[attr-defined]
    monkeypatch.setattr(sys.modules[plugin.MODELS], "MODEL_REGISTRY", copy)
    monkeypatch.setattr(plugin, "_told", set())
    return copy


def own_model(name: str) -> Any:
    from mteb.models import ModelMeta

    return ModelMeta.create_empty({"name": name, "embed_dim": 1})


def test_own_model_does_not_displace_another(registry: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    name = next(iter(registry))
    holder = registry[name]
    monkeypatch.setattr(plugin, "_own_offers", lambda: [plugin.Offer(own_model(name), plugin.OURS)])
    with pytest.warns(PluginWarning, match=re.escape(f"The model name {name!r} is taken by mteb")):
        plugin._add_own_models()
    assert registry[name] is holder
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plugin._add_own_models()  # told once


@pytest.mark.parametrize(
    ("name", "switch"),
    [
        (REPLACED_MODEL, "VEHICLE_SEARCH_STOCK_JINA"),
        ("google/siglip2-so400m-patch16-384", "VEHICLE_SEARCH_STOCK_SIGLIP"),
        ("google/siglip-so400m-patch14-384", "VEHICLE_SEARCH_STOCK_SIGLIP"),
    ],
)
def test_ours_replaces_mtebs_entry_with_one_line_unless_told_otherwise(
    registry: dict[str, Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str, switch: str
) -> None:
    mine, stock = own_model(name), own_model(name)
    registry[name] = stock
    monkeypatch.setattr(plugin, "_own_offers", lambda: [plugin.Offer(mine, plugin.OURS)])
    caplog.set_level("INFO", plugin.logger.name)
    monkeypatch.setenv(switch, "1")
    plugin._add_own_models()
    assert registry[name] is stock
    assert not caplog.records
    monkeypatch.delenv(switch)
    plugin._add_own_models()
    plugin._add_own_models()
    assert registry[name] is mine
    assert [record.levelname for record in caplog.records] == ["INFO"]
    assert name in caplog.text
    assert f"{switch}=1" in caplog.text


def test_another_package_may_not_replace_jina(registry: dict[str, Any]) -> None:
    held = registry[REPLACED_MODEL]
    with pytest.warns(PluginWarning, match="the one of package 'x'"):
        plugin._add_models([plugin.Offer(own_model(REPLACED_MODEL), "package 'x'")])
    assert registry[REPLACED_MODEL] is held


def test_frozen_model_registry_is_told(registry: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[plugin.MODELS], "MODEL_REGISTRY", MappingProxyType(registry))
    with pytest.warns(PluginWarning, match=r"The models of .* with mteb .*MODEL_REGISTRY is a mappingproxy"):
        plugin.module_executed(plugin.MODELS)


def test_changed_computed_tasks_are_told_and_left_untouched(monkeypatch: pytest.MonkeyPatch) -> None:
    import mteb

    mteb.get_task("NFCorpus")
    get_tasks: Any = sys.modules["mteb.get_tasks"]
    without = {name: task for name, task in get_tasks._TASKS_REGISTRY.items() if name not in TASKS}
    monkeypatch.setattr(get_tasks, "_TASKS_REGISTRY", dict(without))
    monkeypatch.delattr(get_tasks, "TASK_LIST")
    monkeypatch.setattr(plugin, "_told", set())
    with pytest.warns(PluginWarning, match=r"The tasks of .*AttributeError.*TASK_LIST"):
        plugin.module_executed(plugin.TASKS)
    left = get_tasks._TASKS_REGISTRY
    assert left == without


def test_entry_point_failure_names_the_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    distribution(tmp_path, "halfway", "json:no_such_name")
    (found,) = importlib.metadata.distributions(path=[str(tmp_path)])
    monkeypatch.setattr(plugin, "_told", set())
    (point,) = found.entry_points
    with pytest.warns(PluginWarning, match=r"'halfway' .*no_such_name.* AttributeError"):
        assert plugin._offers_of(point) == []


# What is told


@pytest.fixture
def untold(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing was told yet."""
    monkeypatch.setattr(plugin, "_told", set())


def messages(caught: Any) -> list[str]:
    assert all(issubclass(one.category, PluginWarning) for one in caught)
    return [str(one.message) for one in caught]


def test_what_cannot_be_registered_is_told_with_both_versions(untold: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugin, "version_of", {"mteb-vehicle-search": "1.2", "mteb": "3.4"}.__getitem__)
    with pytest.warns(PluginWarning) as caught, plugin._warning_instead("tasks"):
        raise AttributeError("no registry")
    assert messages(caught) == [
        "The tasks of mteb-vehicle-search 1.2 could not be registered with mteb 3.4: AttributeError: no registry. mteb "
        "itself works as before. If mteb was upgraded, see whether 'pip install --upgrade mteb-vehicle-search' helps."
    ]


def test_versions_of_what_is_not_installed(untold: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugin, "OURS", "no-such-distribution")
    with pytest.warns(PluginWarning) as caught, plugin._warning_instead("tasks"):
        raise AttributeError("no registry")
    (message,) = messages(caught)
    its = importlib.metadata.version("mteb")
    assert f"no-such-distribution (not installed) could not be registered with mteb {its}:" in message


def test_each_message_is_told_once(untold: None) -> None:
    with pytest.warns(PluginWarning) as caught:
        _ = [plugin._tell(message) for message in ("one", "two", "one", "two", "one")]
    assert messages(caught) == ["one", "two"]


def test_a_warning_points_at_the_caller(untold: None) -> None:
    with pytest.warns(PluginWarning) as caught:
        plugin._tell("one")
    assert caught[0].filename == __file__


# What is done when


REGISTRIES = ("mteb.tasks", "mteb.models.model_implementations", "mteb.benchmarks.benchmarks")


@pytest.fixture
def steps(untold: None, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The steps that were taken, in order, instead of taking them; no registry of mteb is loaded."""
    taken: list[str] = []
    for name in REGISTRIES:
        monkeypatch.setitem(plugin._STEPS, name, (lambda name=name: taken.append(name), f"part {name}"))
        # Set first, so that it is taken away again at the end.
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(plugin, "_offers_of_entry_points", lambda: "offers")
    monkeypatch.setattr(plugin, "_add_models", taken.append)
    monkeypatch.setattr(terminal, "shorten_our_tracebacks", lambda: taken.append("tracebacks"))
    for guard in ("spare_imports", "guard_results", "guard_models", "guard_command", "answer_for_located"):
        monkeypatch.setattr(guards, guard, lambda *given: None)
    return taken


def loaded(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    for name in names:
        monkeypatch.setitem(sys.modules, name, ModuleType(name))


def test_each_registry_has_its_step() -> None:
    assert tuple(plugin._STEPS) == REGISTRIES
    assert [what for _, what in plugin._STEPS.values()] == ["tasks", "models", "benchmark entries"]
    assert (plugin.TASKS, plugin.MODELS, plugin.BENCHMARKS) == REGISTRIES


@pytest.mark.parametrize("name", REGISTRIES)
def test_a_registry_that_has_executed_gets_its_step_only(steps: list[str], name: str) -> None:
    plugin.module_executed(name)
    assert steps == [name]


def test_mteb_that_has_executed_gets_what_is_loaded_and_other_packages_last(
    steps: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded(monkeypatch, *REGISTRIES)
    plugin.module_executed("mteb")
    assert steps == ["tracebacks", *REGISTRIES, "offers"]


def test_what_mteb_has_not_loaded_is_left_to_the_hook(steps: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: "a spec")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plugin._complete()
        assert steps == []
        loaded(monkeypatch, REGISTRIES[2])
        plugin._complete()
    assert steps == [REGISTRIES[2]]


def test_what_mteb_no_longer_has_is_told_and_the_rest_is_done(
    steps: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded(monkeypatch, *REGISTRIES[1:])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.warns(PluginWarning) as caught:
        plugin._complete()
    (message,) = messages(caught)
    assert message.startswith("The part mteb.tasks of mteb-vehicle-search ")
    assert "ModuleNotFoundError: there is no mteb.tasks" in message
    assert steps == [*REGISTRIES[1:], "offers"]


def test_a_step_that_fails_does_not_stop_the_others(steps: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*given: object) -> None:
        raise ValueError("torn")

    loaded(monkeypatch, *REGISTRIES)
    monkeypatch.setitem(plugin._STEPS, REGISTRIES[0], (fail, "tasks"))
    monkeypatch.setattr(plugin, "_add_models", fail)
    with pytest.warns(PluginWarning) as caught:
        plugin._complete()
    assert [message.split(" of ")[0] for message in messages(caught)] == ["The tasks", "The models"]
    assert "The models of other packages of " in messages(caught)[1]
    assert steps == list(REGISTRIES[1:])


def test_register_imports_mteb_and_completes(steps: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mteb", None)
    with pytest.raises(ImportError):
        plugin.register()
    assert steps == []
    loaded(monkeypatch, "mteb", *REGISTRIES)
    plugin.register()
    assert steps == [*REGISTRIES, "offers"]


# Tasks


@pytest.fixture
def tasks(untold: None, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module of tasks that holds one of mteb's own, and what does not belong there."""
    import mteb

    module: Any = ModuleType("mteb.tasks")
    module.NFCorpus = type(mteb.get_task("NFCorpus"))
    module.AbsTask = mteb.AbsTask
    module.helper, module.number = len, 7
    monkeypatch.setitem(sys.modules, "mteb.tasks", module)
    monkeypatch.delitem(sys.modules, "mteb.get_tasks")
    return module


@pytest.fixture
def computed(tasks: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What mteb had computed from that module before."""
    module: Any = ModuleType("mteb.get_tasks")
    module._TASKS_REGISTRY = {"NFCorpus": tasks.NFCorpus}
    module.TASK_LIST = (tasks.NFCorpus,)
    module._SIMILAR_TASKS = {"kept": ["NFCorpus"]}
    module._create_similar_tasks = lambda found: {"all": [task.metadata.name for task in found]}
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module


def our_tasks() -> list[Any]:
    return [getattr(mteb_vehicle_search, name) for name in TASKS]


def test_both_tasks_are_put_beside_those_of_mteb(tasks: Any) -> None:
    before = dict(vars(tasks))
    plugin._add_tasks()
    plugin._add_tasks()
    assert {name: value for name, value in vars(tasks).items() if name not in before} == dict(zip(TASKS, our_tasks()))
    assert {name: value for name, value in vars(tasks).items() if name in before} == before


@pytest.mark.parametrize("taken", TASKS)
def test_a_task_whose_name_is_taken_is_told_and_the_other_registered(tasks: Any, computed: Any, taken: str) -> None:
    import mteb

    metadata = type("Metadata", (), {"name": taken})
    tasks.Squatter = type("Squatter", (mteb.AbsTask,), {"metadata": metadata, "__module__": "elsewhere"})
    with pytest.warns(PluginWarning) as caught:
        plugin._add_tasks()
    assert messages(caught) == [
        f"The task name {taken!r} is taken by elsewhere.Squatter; the task of mteb-vehicle-search is not registered."
    ]
    (other,) = {*TASKS} - {taken}
    assert not hasattr(tasks, taken)
    assert hasattr(tasks, other)
    assert list(computed._TASKS_REGISTRY) == ["NFCorpus", other]


def test_a_variable_of_the_name_is_not_overwritten(tasks: Any) -> None:
    tasks.VehicleImageSearch = 7
    with pytest.warns(PluginWarning) as caught:
        plugin._add_tasks()
    assert messages(caught) == [
        "The task name 'VehicleImageSearch' is taken by mteb.tasks.VehicleImageSearch; the task of mteb-vehicle-search "
        "is not registered."
    ]
    assert tasks.VehicleImageSearch == 7
    assert tasks.VehicleImageSearchMini is our_tasks()[1]


def test_what_mteb_computed_is_brought_up_to_date_once(tasks: Any, computed: Any) -> None:
    plugin._add_tasks()
    ours = dict(zip(TASKS, our_tasks()))
    everything = (tasks.NFCorpus, *ours.values())
    assert {"NFCorpus": tasks.NFCorpus, **ours} == computed._TASKS_REGISTRY
    assert everything == computed.TASK_LIST
    assert {"kept": ["NFCorpus"], "all": ["NFCorpus", *TASKS]} == computed._SIMILAR_TASKS
    plugin._add_tasks()
    assert everything == computed.TASK_LIST


def test_only_the_task_that_is_missing_is_computed(tasks: Any, computed: Any) -> None:
    computed._TASKS_REGISTRY[TASKS[0]] = our_tasks()[0]
    computed.TASK_LIST += (our_tasks()[0],)
    plugin._add_tasks()
    assert (tasks.NFCorpus, *our_tasks()) == computed.TASK_LIST


def test_an_mteb_that_is_computing_does_it_itself(tasks: Any, computed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(plugin.hook, "is_being_imported", lambda name: asked.append(name) or True)
    plugin._add_tasks()
    assert asked == ["mteb.get_tasks"]
    assert (tasks.NFCorpus,) == computed.TASK_LIST
    assert hasattr(tasks, TASKS[0])


# Models


@pytest.fixture
def models(registry: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """mteb's models, our two stand-ins, and one that another package offers."""
    registry.clear()
    ours = [plugin.Offer(own_model(name), plugin.OURS) for name in ("ours/one", REPLACED_MODEL)]
    theirs = [plugin.Offer(own_model("theirs/one"), "package 'x'")]
    monkeypatch.setattr(plugin, "_own_offers", lambda: ours)
    monkeypatch.setattr(plugin, "_offers_of_entry_points", lambda: theirs)
    monkeypatch.setattr(plugin, "_source_of", {})
    monkeypatch.delenv("VEHICLE_SEARCH_STOCK_JINA", raising=False)
    return registry


@pytest.mark.parametrize(("value", "ours"), [(None, True), ("", True), ("0", True), ("1", False), ("yes", False)])
def test_our_jina_is_offered_unless_told_otherwise(
    models: dict[str, Any], monkeypatch: pytest.MonkeyPatch, value: str | None, ours: bool
) -> None:
    if value is not None:
        monkeypatch.setenv("VEHICLE_SEARCH_STOCK_JINA", value)
    plugin._add_own_models()
    assert list(models) == ["ours/one", *([REPLACED_MODEL] if ours else []), "theirs/one"]


def test_models_of_other_packages_wait_until_mteb_is_whole(
    models: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plugin.hook, "is_being_imported", lambda name: name == "mteb")
    plugin._add_own_models()
    assert list(models) == ["ours/one", REPLACED_MODEL]


def test_a_name_that_is_taken_does_not_stop_the_next_models(models: dict[str, Any]) -> None:
    first, second, third = (own_model(name) for name in ("a/b", "a/b", "c/d"))
    offers = [
        plugin.Offer(first, "package 'x'"),
        *(plugin.Offer(meta, "package 'y'") for meta in (second, second, third)),
    ]
    with pytest.warns(PluginWarning) as caught:
        plugin._add_models(offers)
    assert messages(caught) == [
        "The model name 'a/b' is taken by package 'x'; the one of package 'y' is not registered."
    ]
    assert (models["a/b"], models["c/d"]) == (first, third)


def test_a_model_that_is_there_already_is_no_news(models: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", plugin.logger.name)
    offers = [plugin.Offer(own_model(name), "package 'x'") for name in ("a/b", "c/d")]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plugin._add_models(offers[:1])
        plugin._add_models(offers)
    assert list(models) == ["a/b", "c/d"]
    assert not caplog.records


def test_only_jina_and_the_siglips_may_replace_an_entry_of_mteb(models: dict[str, Any]) -> None:
    siglips = {"google/siglip2-base-patch16-224", "google/siglip2-so400m-patch16-384"}
    siglips |= {"google/siglip2-giant-opt-patch16-384", "google/siglip-so400m-patch14-384"}
    assert set(plugin.REPLACED) == {REPLACED_MODEL, *siglips}
    held = own_model("a/b")
    models["a/b"] = held
    with pytest.warns(PluginWarning, match=r"'a/b' is taken by mteb; the one of mteb-vehicle-search is not"):
        plugin._add_models([plugin.Offer(own_model("a/b"), plugin.OURS)])
    assert models["a/b"] is held


def test_our_models_are_the_same_objects_every_time() -> None:
    offers = plugin._own_offers()
    assert {source for _, source in offers} == {"mteb-vehicle-search"}
    assert "vehicle-search/tiny-clip" in [meta.name for meta, _ in offers]
    assert all(one.meta is other.meta for one, other in zip(offers, plugin._own_offers(), strict=True))


# Models of other packages


@pytest.fixture
def points(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, untold: None) -> Any:
    """Return the offers of packages with these entry points: name -> source code that defines META."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def offers(packages: dict[str, str]) -> list[plugin.Offer]:
        for name, code in packages.items():
            distribution(tmp_path, name, f"module_of_{name}:META")
            (tmp_path / f"module_of_{name}.py").write_text(f"{MAKE}\n{code}", encoding="utf-8")
            monkeypatch.setitem(sys.modules, f"module_of_{name}", None)
            monkeypatch.delitem(sys.modules, f"module_of_{name}")
        found = [point for one in importlib.metadata.distributions(path=[str(tmp_path)]) for point in one.entry_points]

        def entry_points(group: str) -> list[Any]:
            assert group == "mteb_vehicle_search.models"
            return sorted(found, key=lambda point: point.name, reverse=True)

        monkeypatch.setattr(plugin, "entry_points", entry_points)
        plugin._offers_of_entry_points.cache_clear()
        return plugin._offers_of_entry_points()

    yield offers
    plugin._offers_of_entry_points.cache_clear()


MAKE = """
from mteb.models import ModelMeta
def make(name):
    return ModelMeta.create_empty({"name": name})
"""


def test_packages_offer_one_model_or_several_in_order_of_their_names(points: Any) -> None:
    offers = points(
        {
            "zeta": "META = make('z/one')",
            "alpha": "META = [make('a/one'), make('a/two')]",
            "mu": "META = (make('m/one'),)",
        }
    )
    assert [offer.meta.name for offer in offers] == ["a/one", "a/two", "m/one", "z/one"]
    assert offers[0].source == "package 'alpha' (entry point alpha = module_of_alpha:META)"
    assert offers == plugin._offers_of_entry_points()
    assert offers[0].meta is plugin._offers_of_entry_points()[0].meta


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("META = {'name': 'a/b'}", "it gives dict {'name': 'a/b'}, where a ModelMeta with a name"),
        ("META = [make('a/b'), 7]", "it gives int 7, where"),
        ("META = make('a/b').model_copy(update={'name': None})", "it gives ModelMeta "),
        ("META = None", "it gives NoneType None, where"),
        ("raise SystemExit('no licence')", "it fails with SystemExit: no licence"),
        ("1 / 0", "it fails with ZeroDivisionError: division by zero"),
        ("", "it fails with AttributeError"),
    ],
)
def test_a_broken_package_is_told_and_the_others_are_registered(points: Any, code: str, told: str) -> None:
    with pytest.warns(PluginWarning) as caught:
        offers = points({"broken": code, "sound": "META = make('s/one')"})
    (message,) = messages(caught)
    start = "The models of package 'broken' (entry point broken = module_of_broken:META) are not registered: "
    assert message.startswith(start + told)
    assert [offer.meta.name for offer in offers] == ["s/one"]


def test_what_a_package_gives_is_not_quoted_at_length(points: Any) -> None:
    with pytest.warns(PluginWarning) as caught:
        points({"broken": "META = ['x' * 1000]"})
    assert "it gives str " + repr("x" * 1000)[:60] + ", where" in messages(caught)[0]


def test_an_entry_point_of_no_package(untold: None) -> None:
    point = importlib.metadata.EntryPoint("lost", "no_such_module:META", plugin.ENTRY_POINT_GROUP)
    with pytest.warns(PluginWarning) as caught:
        assert plugin._offers_of(point) == []
    assert "The models of an unknown package (entry point lost = no_such_module:META)" in messages(caught)[0]


# The benchmark


@pytest.fixture
def benchmarks(untold: None, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module of benchmarks that holds none of ours, and a getter that remembers them."""
    import mteb
    from mteb.benchmarks.benchmark import Benchmark

    module: Any = ModuleType("mteb.benchmarks.benchmarks")
    module.helper, module.NAME = len, "VehicleImageSearch"
    module.OTHER = Benchmark(name="Other", tasks=(mteb.get_task("NFCorpus"),))
    module.forgotten = []
    getter: Any = ModuleType("mteb.benchmarks.get_benchmark")
    getter._build_registry = SimpleNamespace(cache_clear=lambda: module.forgotten.append("forgotten"))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(sys.modules, getter.__name__, getter)
    return module


def test_the_benchmark_is_our_task(benchmarks: Any) -> None:
    task = our_tasks()[0]
    plugin._add_benchmark()
    added = benchmarks.VEHICLE_IMAGE_SEARCH
    assert (added.name, added.display_name) == ("VehicleImageSearch", "Vehicle Image Search")
    assert [type(one) for one in added.tasks] == [task]
    assert added.description == task.metadata.description
    assert added.reference == task.metadata.reference
    assert added.citation == task.metadata.bibtex_citation
    # What mteb's getter remembers would not have it.
    assert benchmarks.forgotten == ["forgotten"]


def test_the_benchmark_is_added_once(benchmarks: Any) -> None:
    plugin._add_benchmark()
    added = benchmarks.VEHICLE_IMAGE_SEARCH
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plugin._add_benchmark()
    assert benchmarks.VEHICLE_IMAGE_SEARCH is added
    assert benchmarks.forgotten == ["forgotten"]


def test_a_benchmark_is_added_before_anybody_asks_for_one(benchmarks: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "mteb.benchmarks.get_benchmark")
    plugin._add_benchmark()
    assert benchmarks.VEHICLE_IMAGE_SEARCH.name == "VehicleImageSearch"


def test_another_benchmark_of_the_name_stays(benchmarks: Any) -> None:
    benchmarks.THEIRS = dataclasses.replace(benchmarks.OTHER, name="VehicleImageSearch")
    with pytest.warns(PluginWarning) as caught:
        plugin._add_benchmark()
    assert messages(caught) == [
        "The benchmark name 'VehicleImageSearch' is taken by mteb; the one of mteb-vehicle-search is not registered."
    ]
    assert not hasattr(benchmarks, "VEHICLE_IMAGE_SEARCH")
    assert benchmarks.forgotten == []
