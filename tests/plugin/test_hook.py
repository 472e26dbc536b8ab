"""The import hook, with a package of our own in mteb's place."""

from __future__ import annotations

import gc
import importlib
import importlib.machinery
import importlib.util
import os
import pkgutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from mteb_vehicle_search import mteb_executed
from mteb_vehicle_search.errors import PluginWarning
from mteb_vehicle_search.plugin import hook, registry

ROOT = Path(__file__).parents[2]
START_UP = ROOT / "mteb_vehicle_search" / "plugin" / "start_up"
HOOKED = (
    *("mteb.tasks", "mteb.models.model_implementations", "mteb.benchmarks.benchmarks", "mteb"),
    *("mteb_vehicle_search.tasks", "mteb.cli"),
)


@pytest.fixture(autouse=True)
def no_mteb(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nobody has imported mteb yet, and no hook is there; afterwards all is as it was."""
    kept = {name: module for name, module in sys.modules.items() if name == "mteb" or name.startswith("mteb.")}
    for name in kept:
        del sys.modules[name]
    plain = [finder for finder in sys.meta_path if not getattr(finder, "hands_over_mteb", False)]
    monkeypatch.setattr(sys, "meta_path", plain)
    yield
    for name in [name for name in sys.modules if name == "mteb" or name.startswith("mteb.")]:
        del sys.modules[name]
    sys.modules.update(kept)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The modules that were handed over, in order."""
    names: list[str] = []
    monkeypatch.setattr(registry, "module_executed", names.append)
    return names


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package called mteb, whose every module says at its end that it is whole."""
    for name in ("", "tasks", "models", "models/model_implementations", "benchmarks", "cli"):
        (tmp_path / "mteb" / name).mkdir()
        (tmp_path / "mteb" / name / "__init__.py").write_text("LOADER = __loader__, __spec__.loader\nWHOLE = True\n")
    for name in ("benchmarks/benchmarks", "cache"):
        (tmp_path / "mteb" / f"{name}.py").write_text("__path__ = []\nWHOLE = True\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path / "mteb"


class Elsewhere:
    """A finder that finds one module, and remembers what it was asked."""

    def __init__(self, name: str, loader: Any) -> None:
        self.name, self.loader, self.asked = name, loader, []

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> Any:
        self.asked.append((fullname, path, target))
        return importlib.machinery.ModuleSpec(fullname, self.loader) if fullname == self.name else None


# The finder


def test_these_modules_are_hooked() -> None:
    assert hook.HOOKED == HOOKED
    assert hook.PACKAGE == "mteb"


@pytest.mark.parametrize("name", ["json", "mteb.cache", "mteb.models", "mteb_vehicle_search", "tasks", ""])
def test_other_modules_are_left_to_others(package: Path, name: str) -> None:
    assert hook.MtebFinder(mteb_executed).find_spec(name) is None


@pytest.mark.parametrize("name", HOOKED)
def test_the_first_finder_that_knows_the_module_is_asked_as_we_were(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    before, first, second = Elsewhere("other", None), Elsewhere(name, object()), Elsewhere(name, object())
    ours = hook.MtebFinder(mteb_executed)
    old_fashioned = object()
    monkeypatch.setattr(sys, "meta_path", [ours, old_fashioned, before, first, second])
    spec: Any = ours.find_spec(name, ["a path"], "a target")
    assert before.asked == first.asked == [(name, ["a path"], "a target")]
    assert second.asked == []
    assert spec.name == name
    assert spec.loader._loader is first.loader


def test_finders_that_hand_over_are_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    waiting: Any = Elsewhere("mteb", object())
    waiting.hands_over_mteb = True
    monkeypatch.setattr(sys, "meta_path", [waiting])
    assert hook.MtebFinder(mteb_executed).find_spec("mteb") is None
    assert waiting.asked == []
    assert hook.MtebFinder.hands_over_mteb is True


def test_what_nobody_finds_is_not_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "meta_path", [Elsewhere("other", object())])
    assert hook.MtebFinder(mteb_executed).find_spec("mteb") is None


def test_a_namespace_without_a_loader_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "meta_path", [Elsewhere("mteb", None)])
    spec: Any = hook.MtebFinder(mteb_executed).find_spec("mteb")
    assert spec.name == "mteb"
    assert spec.loader is None


# The import


def test_modules_are_handed_over_once_each_when_they_are_whole(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(registry, "module_executed", lambda name: seen.append((name, sys.modules[name].WHOLE)))
    hook.install(mteb_executed)
    for name in ("mteb.cache", *HOOKED[:3], "mteb.cli"):
        importlib.import_module(name)
        importlib.import_module(name)
    assert seen == [("mteb", True), *((name, True) for name in (*HOOKED[:3], "mteb.cli"))]


def test_a_module_sees_nothing_of_the_hook(package: Path, told: list[str]) -> None:
    hook.install(mteb_executed)
    module: Any = importlib.import_module("mteb")
    plain = importlib.machinery.SourceFileLoader
    assert [type(loader) for loader in module.LOADER] == [plain, plain]
    assert (type(module.__loader__), type(module.__spec__.loader)) == (plain, plain)
    assert told == ["mteb"]


def test_a_module_that_fails_is_not_handed_over(package: Path, told: list[str]) -> None:
    (package / "tasks" / "__init__.py").write_text("raise ValueError('torn')")
    hook.install(mteb_executed)
    with pytest.raises(ValueError, match="torn"):
        importlib.import_module("mteb.tasks")
    assert told == ["mteb"]
    assert "mteb.tasks" not in sys.modules


def test_the_loader_is_otherwise_the_one_it_wraps(package: Path) -> None:
    hook.install(mteb_executed)
    spec: Any = importlib.util.find_spec("mteb")
    plain = importlib.machinery.SourceFileLoader("mteb", str(package / "__init__.py"))
    assert spec.loader.is_package("mteb") is True
    assert spec.loader.get_source("mteb") == plain.get_source("mteb")
    assert spec.loader.path == plain.path
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = spec.loader.no_such_name


def test_a_loader_may_make_the_module_itself(monkeypatch: pytest.MonkeyPatch, told: list[str]) -> None:
    class Made(ModuleType):
        __path__ = ()

    class Loader:
        def create_module(self, spec: Any) -> ModuleType:
            return Made(spec.name)

        def exec_module(self, module: Any) -> None:
            module.value = 7

    monkeypatch.setattr(sys, "meta_path", [Elsewhere("mteb", Loader()), *sys.meta_path])
    hook.install(mteb_executed)
    module: Any = importlib.import_module("mteb")
    assert type(module) is Made
    assert module.value == 7
    assert told == ["mteb"]


@pytest.mark.parametrize("at_work", [True, False])
@pytest.mark.parametrize("fails", [False, True])
def test_the_collector_rests_while_mteb_is_executed(package: Path, told: list[str], at_work: bool, fails: bool) -> None:
    (package / "__init__.py").write_text("import gc\nAT_WORK = gc.isenabled()\n" + "1 / 0\n" * fails)
    hook.install(mteb_executed)
    if not at_work:
        gc.disable()
    try:
        if fails:
            with pytest.raises(ZeroDivisionError):
                importlib.import_module("mteb")
        else:
            assert importlib.import_module("mteb").AT_WORK is False
        assert gc.isenabled() is at_work
    finally:
        gc.enable()


# Installing


def test_the_finder_is_asked_first_and_stands_there_once() -> None:
    others = list(sys.meta_path)
    hook.install(mteb_executed)
    hook.install(mteb_executed)
    assert isinstance(sys.meta_path[0], hook.MtebFinder)
    assert sys.meta_path[1:] == others


def test_the_finder_stays_where_it_is() -> None:
    ours = hook.MtebFinder(mteb_executed)
    sys.meta_path.append(ours)
    others = list(sys.meta_path)
    hook.install(mteb_executed)
    assert sys.meta_path == others


def test_an_mteb_that_is_there_already_is_handed_over_at_once(package: Path, told: list[str]) -> None:
    importlib.import_module("mteb")
    assert told == []
    hook.install(mteb_executed)
    assert told == ["mteb"]


def test_an_mteb_that_is_just_being_imported_is_left_alone(package: Path, told: list[str]) -> None:
    code = "from mteb_vehicle_search.plugin import hook; heard = []; hook.install(heard.append)\n"
    (package / "__init__.py").write_text(code)
    assert importlib.import_module("mteb").heard == []
    assert told == []


@pytest.mark.parametrize(
    ("spec", "expected"),
    [("no attribute", False), (None, False), ("whole", False), ("initializing", True)],
)
def test_a_module_is_being_imported_as_long_as_its_spec_says_so(spec: str | None, expected: bool) -> None:
    module: Any = ModuleType("mteb")
    sys.modules["mteb"] = module
    if spec == "no attribute":
        del module.__spec__
    elif spec is not None:
        module.__spec__ = importlib.machinery.ModuleSpec("mteb", None)
        module.__spec__._initializing = spec == "initializing"
    assert hook.is_being_imported("mteb") is expected


# Handing over


def test_a_script_called_mteb_is_not_handed_over(tmp_path: Path, monkeypatch: Any, told: list[str]) -> None:
    (tmp_path / "mteb.py").write_text("MINE = True")
    monkeypatch.syspath_prepend(str(tmp_path))
    hook.install(mteb_executed)
    assert importlib.import_module("mteb").MINE
    assert told == []


def test_hand_over_turns_any_failure_into_one_warning(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> None:
        raise OSError("disk on fire")

    monkeypatch.setattr(registry, "module_executed", fail)
    hook.install(mteb_executed)
    with pytest.warns(PluginWarning) as warned:
        importlib.import_module("mteb")
    (only,) = warned
    assert str(only.message) == "mteb-vehicle-search could not be added to mteb: OSError: disk on fire"
    with pytest.warns(PluginWarning) as warned:
        hook.hand_over("mteb", mteb_executed)
    assert warned[0].filename == __file__


def test_a_script_called_mteb_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mteb.py").write_text("print('mine')", encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    command = [sys.executable, "-S", "-c", "import mteb_vehicle_search, mteb"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert (done.stdout.strip(), done.stderr) == ("mine", "")


# The start-up files


@pytest.fixture
def start_up(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module that Python imports at its start, which becomes a finder by that."""
    return imported_at_start(monkeypatch)


def imported_at_start(monkeypatch: pytest.MonkeyPatch) -> Any:
    path = START_UP / "mteb_vehicle_search_autoload.py"
    spec: Any = importlib.util.spec_from_file_location("start_up_under_test", path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


def test_start_file_names_what_the_pth_line_calls() -> None:
    (line,) = (START_UP / "mteb_vehicle_search.start").read_text(encoding="utf-8").splitlines()
    module, _, function = line.partition(":")
    pth = (START_UP / "mteb_vehicle_search.pth").read_text(encoding="utf-8")
    assert (pth, function) == (f"import {module}\n", "start")
    sys.path.insert(0, str(START_UP))
    try:
        assert callable(pkgutil.resolve_name(line)), "as PEP 829 resolves it"
    finally:
        sys.path.remove(str(START_UP))


@pytest.mark.parametrize(("value", "installed"), [(None, True), ("", True), ("0", True), ("1", False), ("yes", False)])
def test_the_hook_can_be_switched_off(monkeypatch: pytest.MonkeyPatch, value: str | None, installed: bool) -> None:
    monkeypatch.delenv("VEHICLE_SEARCH_NO_HOOK", raising=False)
    if value is not None:
        monkeypatch.setenv("VEHICLE_SEARCH_NO_HOOK", value)
    others = list(sys.meta_path)
    start_up = imported_at_start(monkeypatch)
    start_up.start()
    assert sys.meta_path[-len(others) :] == others
    assert sys.meta_path[: -len(others)] == [start_up] * installed


@pytest.mark.parametrize("name", ["json", "mteb.tasks", "mteb_vehicle_search"])
def test_waiting_does_nothing_for_other_modules(start_up: Any, package: Path, name: str) -> None:
    assert start_up.find_spec(name) is None


def test_waiting_asks_as_the_hook_does(start_up: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = Elsewhere("mteb", object())
    monkeypatch.setattr(sys, "meta_path", [elsewhere])
    spec = start_up.find_spec("mteb", ["a path"], "a target")
    assert elsewhere.asked == [("mteb", ["a path"], "a target")]
    assert spec.loader._loader is elsewhere.loader


def test_mteb_is_handed_over_although_the_package_comes_only_with_it(
    start_up: Any, package: Path, told: list[str]
) -> None:
    start_up.start()
    importlib.import_module("mteb")
    assert told == ["mteb"]
    # The package brings its own finder, which does not ask the waiting one.
    hook.install(mteb_executed)
    importlib.import_module("mteb.tasks")
    assert told == ["mteb", "mteb", "mteb.tasks"]


def ours_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the package look as if it had not been imported."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "mteb_vehicle_search"]:
        monkeypatch.delitem(sys.modules, name)


def test_a_package_that_moved_away_says_nothing(start_up: Any, package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *given: None if "vehicle" in name else find_spec(name, *given)
    )
    start_up.start()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert importlib.import_module("mteb").WHOLE


def in_our_place(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder in which something of our package's name comes before it."""
    ours_hidden(monkeypatch)
    importlib.invalidate_caches()
    return folder.parent


@pytest.mark.parametrize("damage", ["import json.no_such_module", "raise ZeroDivisionError('torn')"])
def test_a_damaged_package_is_told_and_mteb_goes_on(
    start_up: Any, package: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    damaged = in_our_place(package, monkeypatch) / "mteb_vehicle_search"
    (damaged / "plugin").mkdir(parents=True)
    (damaged / "plugin" / "hook.py").write_text("")
    (damaged / "__init__.py").write_text(damage)
    with pytest.warns(UserWarning, match="cannot be imported") as warned:
        assert start_up.find_spec("mteb") is None
    assert warned[0].filename == __file__
    start_up.start()
    with pytest.warns(UserWarning, match="mteb-vehicle-search cannot be imported, so mteb goes on without") as warned:
        assert importlib.import_module("mteb").WHOLE
    assert len(warned) == 1
    assert "no_such_module" in str(warned[0].message) or "torn" in str(warned[0].message)


@pytest.mark.parametrize("name", ["mteb_vehicle_search.py", "mteb_vehicle_search/__init__.py", "mteb_vehicle_search/x"])
def test_a_file_of_our_name_is_told_and_not_executed(
    start_up: Any, package: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    hiding = in_our_place(package, monkeypatch) / name
    hiding.parent.mkdir(exist_ok=True)
    hiding.write_text("raise ZeroDivisionError('executed')")
    monkeypatch.setattr(sys, "path", [str(package.parent)])
    start_up.start()
    with pytest.warns(UserWarning, match="hides the package mteb-vehicle-search, so mteb goes on without") as warned:
        assert importlib.import_module("mteb").WHOLE
    assert [str(hiding.parent if name.endswith("/x") else hiding) in str(one.message) for one in warned] == [True]


class Allocator:
    """Stands for a C library, with or without glibc's function; remembers what it was asked."""

    def __init__(self, *, glibc: bool = True) -> None:
        self.asked: list[tuple[int, int]] = []
        if glibc:
            self.mallopt = lambda *words: self.asked.append(words)


def import_with(monkeypatch: pytest.MonkeyPatch, allocator: Allocator) -> ModuleType:
    monkeypatch.setattr("ctypes.CDLL", lambda name: allocator)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1, 5}, raising=False)
    hook.install(lambda name: None)
    return importlib.import_module("mteb")


def test_there_is_one_heap_a_processor_once_mteb_is_imported(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MALLOC_ARENA_MAX", raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    allocator = Allocator()
    import_with(monkeypatch, allocator)
    importlib.import_module("mteb.tasks")
    assert allocator.asked == [(-8, 3)]


@pytest.mark.parametrize("why", ["other system", "own number", "other library"])
def test_heaps_are_left_alone(package: Path, monkeypatch: pytest.MonkeyPatch, why: str) -> None:
    monkeypatch.setattr(sys, "platform", "win32" if why == "other system" else "linux")
    monkeypatch.delenv("MALLOC_ARENA_MAX", raising=False)
    if why == "own number":
        monkeypatch.setenv("MALLOC_ARENA_MAX", "4")
    allocator = Allocator(glibc=why != "other library")
    assert import_with(monkeypatch, allocator).WHOLE
    assert allocator.asked == []
