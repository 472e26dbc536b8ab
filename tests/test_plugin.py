"""What the plugin hands to mteb, within this process, and the command line."""

from __future__ import annotations

import importlib.metadata
import os
import pkgutil
import re
import subprocess
import sys
import sysconfig
import warnings
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any

import pytest
from environment import distribution

from mteb_vehicle_search import autoload, cli, plugin, terminal
from mteb_vehicle_search.errors import DataNotFoundError, PluginWarning

ROOT = Path(__file__).parents[1]
MODEL_PLUGIN = ROOT / "tests" / "fixtures" / "model_plugin"
START_UP = ROOT / "mteb_vehicle_search" / "start_up"
BORROWED = sysconfig.get_paths()["purelib"]
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


def test_a_script_called_mteb_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mteb.py").write_text("print('mine')", encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    command = [sys.executable, "-S", "-c", "import mteb_vehicle_search, mteb"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert (done.stdout.strip(), done.stderr) == ("mine", "")


# The start-up files


def test_start_file_names_what_the_pth_line_calls() -> None:
    (line,) = (START_UP / "mteb_vehicle_search.start").read_text(encoding="utf-8").splitlines()
    module, _, function = line.partition(":")
    pth = (START_UP / "mteb_vehicle_search.pth").read_text(encoding="utf-8")
    assert pth == f"import {module}; {module}.{function}()\n"
    sys.path.insert(0, str(START_UP))
    try:
        assert callable(pkgutil.resolve_name(line)), "as PEP 829 resolves it"
    finally:
        sys.path.remove(str(START_UP))


def test_finder_leaves_other_modules_to_others() -> None:
    finder = autoload.MtebFinder()
    assert finder.find_spec("json") is None
    assert finder.find_spec("mteb.cache") is None


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


def test_jina_replaces_mtebs_entry_with_one_line_unless_told_otherwise(
    registry: dict[str, Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    mine, stock = own_model(plugin.REPLACED_MODEL), own_model(plugin.REPLACED_MODEL)
    registry[plugin.REPLACED_MODEL] = stock
    monkeypatch.setattr(plugin, "_own_offers", lambda: [plugin.Offer(mine, plugin.OURS)])
    caplog.set_level("INFO", plugin.logger.name)
    monkeypatch.setenv("VEHICLE_SEARCH_STOCK_JINA", "1")
    plugin._add_own_models()
    assert registry[plugin.REPLACED_MODEL] is stock
    assert not caplog.records
    monkeypatch.delenv("VEHICLE_SEARCH_STOCK_JINA")
    plugin._add_own_models()
    plugin._add_own_models()
    assert registry[plugin.REPLACED_MODEL] is mine
    assert [record.levelname for record in caplog.records] == ["INFO"]
    assert plugin.REPLACED_MODEL in caplog.text


def test_another_package_may_not_replace_jina(registry: dict[str, Any]) -> None:
    held = registry[plugin.REPLACED_MODEL]
    with pytest.warns(PluginWarning, match="the one of package 'x'"):
        plugin._add_models([plugin.Offer(own_model(plugin.REPLACED_MODEL), "package 'x'")])
    assert registry[plugin.REPLACED_MODEL] is held


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


def test_hand_over_turns_any_failure_into_one_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> None:
        raise OSError("disk on fire")

    package = ModuleType("mteb.tasks")
    package.__path__ = []
    monkeypatch.setitem(sys.modules, "mteb.tasks", package)
    monkeypatch.setattr(plugin, "module_executed", fail)
    with pytest.warns(PluginWarning, match="mteb.tasks: OSError: disk on fire"):
        autoload.hand_over("mteb.tasks")


# The command


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A subcommand whose behaviour the test sets: `module.main`."""
    module = ModuleType("stub_command")
    module.add_arguments = lambda parser: parser.add_argument("--number", type=int)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(cli.COMMANDS, "stub", cli.Command(module.__name__, "do nothing"))
    monkeypatch.setenv(terminal.DEBUG, "0")
    return module


def test_help_explains_and_loads_no_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        cli.main(["--help"])
    assert exit_info.value.code == 0
    text = capsys.readouterr().out
    for word in ("run", *cli.COMMANDS, "VehicleImageSearchMini", "VEHICLE_SEARCH_NO_HOOK", "--debug"):
        assert word in text


@pytest.mark.parametrize("name", sorted(cli.COMMANDS))
def test_every_command_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        cli.main([name, "--help"])
    assert exit_info.value.code == 0
    assert f"usage: vehicle-search {name}" in capsys.readouterr().out


def test_command_line_starts_light() -> None:
    code = "import sys, mteb_vehicle_search.cli as c; c._parser(None); print([m for m in sys.modules if m in HEAVY])"
    code = f"HEAVY = {{'mteb', 'torch', 'numpy', 'pandas', 'transformers'}}\n{code}"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), BORROWED])}
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, env=environment)
    assert done.stdout.strip() == "[]", done.stderr


def test_version_names_both(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        cli.main(["--version"])
    assert exit_info.value.code == 0
    assert f"mteb {importlib.metadata.version('mteb')}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments", [[], ["nonsense"], ["--nonsense"], ["stub", "--number", "x"], ["--nonsense", "run"]]
)
def test_wrong_usage_exits_with_2(command: ModuleType, arguments: list[str]) -> None:
    command.main = lambda args: 0  # type: ignore[attr-defined]
    with pytest.raises(SystemExit) as exit_info:
        cli.main(arguments)
    assert exit_info.value.code == 2


def test_command_gets_its_arguments_and_gives_the_status(command: ModuleType) -> None:
    command.main = lambda args: args.number  # type: ignore[attr-defined]
    assert cli.main(["stub", "--number", "3"]) == 3


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (DataNotFoundError("No data in /x.", "Build it."), "error: No data in /x.\nBuild it.\n"),
        (ZeroDivisionError("oh"), "error: ZeroDivisionError: oh\n"),
    ],
)
def test_errors_are_one_message_unless_debugging(
    command: ModuleType, capsys: pytest.CaptureFixture[str], error: Exception, message: str
) -> None:
    def fail(args: object) -> int:
        raise error

    command.main = fail  # type: ignore[attr-defined]
    assert cli.main(["stub"]) == 1
    assert capsys.readouterr().err.startswith(message)
    for arguments in (["--debug", "stub"], ["stub", "--debug"]):
        with pytest.raises(type(error)):
            cli.main(arguments)
        os.environ[terminal.DEBUG] = "0"


def test_run_hands_exactly_mtebs_arguments_over(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from mteb.cli import build_cli

    seen = []
    monkeypatch.setattr(sys, "argv", ["vehicle-search"])
    monkeypatch.setattr(build_cli, "run", lambda args: seen.append(vars(args)))
    given = ["-m", "a/b", "-t", "NFCorpus", "--batch-size", "7", "--overwrite-strategy", "always", "-v", "0"]
    assert cli.main(["run", *given]) == 0
    build_cli.run(build_cli.build_cli().parse_args(["run", *given]))
    assert seen[0] == seen[1]
    assert seen[0]["batch_size"] == 7
    helps = []
    for arguments in (["run", "--help"], None):
        with pytest.raises(SystemExit) as exit_info:
            cli.main(arguments) if arguments else build_cli.build_cli().parse_args(["run", "--help"])
        assert exit_info.value.code == 0
        helps.append(capsys.readouterr().out)
    assert helps[0] == helps[1]
    assert "--overwrite-strategy" in helps[0]


def test_run_without_data_loads_no_model(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import mteb

    monkeypatch.setattr(sys, "argv", ["vehicle-search"])
    monkeypatch.setattr(mteb, "get_model", lambda *_, **__: pytest.fail("a model was loaded"))
    monkeypatch.setenv("VEHICLE_SEARCH_DATA", str(tmp_path / "nowhere"))
    assert cli.main(["run", "-t", "VehicleImageSearch", "-m", "vehicle-search/tiny-clip"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert str(tmp_path / "nowhere") in error


def test_only_uncaught_errors_of_mtebs_command_are_shortened(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    unchanged = []
    monkeypatch.setattr(sys, "excepthook", lambda *error: unchanged.append(error[1]))
    monkeypatch.setenv(terminal.DEBUG, "0")
    terminal.shorten_our_tracebacks()
    terminal.shorten_our_tracebacks()

    def raised(module: str, error: Exception) -> Exception:
        with pytest.raises(type(error)) as info:
            exec("raise error", {"__name__": module, "error": error})
        return info.value

    mine, theirs = DataNotFoundError("No data.", "Build it."), KeyError("x")
    for module, error in (("mteb.cli.build_cli", mine), ("script", mine), ("mteb.cli.build_cli", theirs)):
        error.__traceback__ = None
        caught = raised(module, error)
        sys.excepthook(type(caught), caught, caught.__traceback__)
    assert unchanged == [mine, theirs]
    assert capsys.readouterr().err == "error: No data.\nBuild it.\n"
