"""The command `vehicle-search`."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from mteb_vehicle_search import cli, run_record, terminal
from mteb_vehicle_search.errors import DataNotFoundError, UsageError
from mteb_vehicle_search.plugin import run as plugin_run

ROOT = Path(__file__).parents[1]
BORROWED = sysconfig.get_paths()["purelib"]


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
    for word in (*cli.COMMANDS, "VehicleImageSearchMini", "VEHICLE_SEARCH_NO_HOOK", "--debug"):
        assert word in text


@pytest.mark.parametrize("name", sorted(set(cli.COMMANDS) - {"run"}))
def test_every_command_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        cli.main([name, "--help"])
    assert exit_info.value.code == 0
    assert f"usage: vehicle-search {name}" in capsys.readouterr().out


def test_command_line_starts_light() -> None:
    code = "import sys, mteb_vehicle_search.cli as c\nc._parser(c.PROGRAM, None)\n"
    code += "print([m for m in sys.modules if m in HEAVY])"
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
        (UsageError("There is none."), "error: There is none.\n"),
    ],
)
def test_errors_are_one_message_unless_debugging(
    command: ModuleType, capsys: pytest.CaptureFixture[str], error: Exception, message: str
) -> None:
    def fail(args: object) -> int:
        raise error

    command.main = fail  # type: ignore[attr-defined]
    assert cli.main(["stub"]) == (2 if isinstance(error, UsageError) else 1)
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
    given = [
        "-m",
        "mteb/baseline-random-encoder",
        "-t",
        "NFCorpus",
        "--batch-size",
        "7",
        "--overwrite-strategy",
        "always",
        "-v",
        "0",
    ]
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
    assert helps[0] == helps[1] + plugin_run.OWN
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


@pytest.mark.parametrize(("given", "status"), [(None, 0), (0, 0), (True, 1), (3, 3)])
def test_the_status_is_what_the_command_gives(command: ModuleType, given: object, status: int) -> None:
    command.main = lambda args: given  # type: ignore[attr-defined]
    found = cli.main(["stub"])
    assert found == status
    assert type(found) is int


def test_without_arguments_those_of_the_process_are_taken(command: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    command.main = lambda args: args.number  # type: ignore[attr-defined]
    monkeypatch.setattr(sys, "argv", ["vehicle-search", "stub", "--number", "4"])
    assert cli.main() == 4


def test_only_the_chosen_command_is_imported(command: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(cli.COMMANDS, "other", cli.Command("no_such_module", "fail"))
    command.main = lambda args: 0  # type: ignore[attr-defined]
    assert cli.main(["stub"]) == 0
    assert cli.main(["other"]) == 1


def test_the_help_of_a_command_is_its_summary_as_a_sentence(
    command: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    command.main = lambda args: 0  # type: ignore[attr-defined]
    with pytest.raises(SystemExit):
        cli.main(["stub", "--help"])
    text = capsys.readouterr().out
    assert text.startswith("usage: vehicle-search stub ")
    assert "\nDo nothing.\n" in text
    assert "--number" in text
    assert "--debug" in text
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    text = capsys.readouterr().out
    assert text.startswith("usage: vehicle-search [-h] [--version] [--debug] COMMAND ...\n")
    assert "\ncommands:\n  COMMAND\n" in text
    assert re.search(r"^    stub +do nothing$", text, flags=re.MULTILINE)
    assert re.search(r"^    run +evaluate models; takes the", text, flags=re.MULTILINE)


def test_help_names_every_setting_and_keeps_its_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    text = capsys.readouterr().out
    assert "\n  vehicle-search leaderboard\n      what all runs gave, with intervals\n" in text
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "mteb_vehicle_search").rglob("*.py"))
    for name in sorted(set(re.findall(r'"(VEHICLE_SEARCH_[A-Z_]+)"', sources))):
        assert f"  {name}" in text, name


def test_interruption_is_one_word(command: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt(args: object) -> int:
        raise KeyboardInterrupt

    command.main = interrupt  # type: ignore[attr-defined]
    assert cli.main(["stub"]) == 130
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "interrupted; run the same command again to go on\n")
    with pytest.raises(KeyboardInterrupt):
        cli.main(["--debug", "stub"])


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["stub"], "0"),
        (["--debug", "stub"], "1"),
        (["stub", "--debug"], "1"),
        (["stub", "--number", "1", "--debug"], "1"),
    ],
    ids=str,
)
def test_debug_may_stand_before_and_after_the_command(command: ModuleType, arguments: list[str], wanted: str) -> None:
    command.main = lambda args: 0  # type: ignore[attr-defined]
    cli.main(arguments)
    assert os.environ[terminal.DEBUG] == wanted


@pytest.mark.parametrize("installed", [True, False])
def test_version_of_a_checkout(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], installed: bool
) -> None:
    def version(name: str) -> str:
        if name == "mteb-vehicle-search" and not installed:
            raise importlib.metadata.PackageNotFoundError(name)
        return {"mteb-vehicle-search": "1.2", "mteb": "3.4"}[name]

    monkeypatch.setattr(run_record, "version", version)
    for arguments in (["--version"], ["--version", "run"]):
        with pytest.raises(SystemExit) as exit_info:
            cli.main(arguments)
        assert not exit_info.value.code
        assert capsys.readouterr().out == f"vehicle-search {'1.2' if installed else '(not installed)'}, mteb 3.4\n"


# vehicle-search run


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    """What happened, in order, with mteb's command line replaced by one that does nothing."""
    from mteb.cli import build_cli

    import mteb_vehicle_search

    happened: list[tuple[str, Any]] = []
    monkeypatch.setattr(sys, "argv", ["vehicle-search"])
    monkeypatch.setenv(terminal.DEBUG, "0")
    monkeypatch.setattr(mteb_vehicle_search, "register", lambda: happened.append(("registered", None)))
    monkeypatch.setattr(plugin_run, "require_data", lambda *names: happened.append(("checked", *map(list, names))))
    monkeypatch.setattr(plugin_run, "require_model", lambda *asked: happened.append(("looked up", asked)))
    monkeypatch.setattr(build_cli, "main", lambda: happened.append(("ran", sys.argv)))
    return happened


def test_run_registers_checks_the_data_and_runs(run: list[tuple[str, Any]]) -> None:
    assert cli.main(["run", "-t", "NFCorpus", "SciFact", "-m", "c/d"]) == 0
    assert run == [
        ("registered", None),
        ("checked", ["NFCorpus", "SciFact"], []),
        ("looked up", ("c/d", None, [])),
        ("ran", ["vehicle-search", "run", "-t", "NFCorpus", "SciFact", "--verbosity", "1", "-m", "c/d"]),
    ]


def test_a_run_without_tasks_needs_no_data(run: list[tuple[str, Any]]) -> None:
    assert cli.main(["run", "-m", "c/d", "-b", "VehicleImageSearch"]) == 0
    assert run[1:3] == [
        ("checked", [], ["VehicleImageSearch"]),
        ("looked up", ("c/d", None, ["VehicleImageSearch"])),
    ]


@pytest.mark.parametrize("words", [[], ["-t", "NFCorpus"], ["-m", "c/d"], ["--device", "0"]])
def test_a_run_of_nothing_is_told_the_usage(
    run: list[tuple[str, Any]], capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    assert cli.main(["run", *words]) == 2
    assert ("ran", sys.argv) not in run
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("usage: vehicle-search run -t TASK")
    assert "vehicle-search/tiny-clip" in second


def test_a_command_with_a_typo_is_told_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        cli.main(["leaderbord"])
    assert exit_info.value.code == 2
    said = capsys.readouterr().err
    assert said.endswith("vehicle-search: error: there is no command 'leaderbord'; did you mean leaderboard?\n")


def test_nothing_asked_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        cli.main([])
    assert exit_info.value.code == 2
    assert "\nexamples:\n" in capsys.readouterr().out


def test_a_variable_with_a_typo_is_a_warning(
    command: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command.main = lambda args: 0  # type: ignore[attr-defined]
    monkeypatch.setenv("VEHICLE_SEARCH_HOM", "x")
    assert cli.main(["stub"]) == 0
    said = "warning: VEHICLE_SEARCH_HOM is set and means nothing; did you mean VEHICLE_SEARCH_HOME?\n"
    assert capsys.readouterr().err == said


def test_what_follows_run_is_mtebs(run: list[tuple[str, Any]], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        cli.main(["run", "-t", "NFCorpus", "-m", "c/d", "--debug"])
    assert exit_info.value.code == 2, "mteb knows no --debug"
    assert os.environ[terminal.DEBUG] == "0"
    assert cli.main(["--debug", "run", "-t", "NFCorpus", "-m", "c/d"]) == 0
    assert os.environ[terminal.DEBUG] == "1"
    assert run[-1] == ("ran", ["vehicle-search", "run", "-t", "NFCorpus", "--verbosity", "1", "-m", "c/d"])


@pytest.mark.parametrize(
    ("words", "level", "bars"), [([], "1", False), (["-v"], "2", True), (["-v", "0"], "0", False), (["-v3"], "3", True)]
)
def test_a_run_is_quiet_unless_mtebs_log_is_asked_for(
    run: list[tuple[str, Any]], monkeypatch: pytest.MonkeyPatch, words: list[str], level: str, bars: bool
) -> None:
    import mteb
    from mteb.cli import build_cli

    before, asked = mteb.evaluate, []
    monkeypatch.setattr(build_cli, "main", lambda: asked.append((sys.argv, mteb.evaluate)))
    assert cli.main(["run", *words, "-m", "c/d", "-t", "NFCorpus"]) == 0
    ((argv, evaluate),) = asked
    assert argv == ["vehicle-search", "run", "-t", "NFCorpus", "--verbosity", level, "-m", "c/d"]
    assert (evaluate is before) is bars
    assert bars or evaluate.keywords == {"show_progress_bar": False}  # type: ignore[attr-defined]
    assert mteb.evaluate is before, "only for this run"


@pytest.mark.parametrize(
    ("names", "missing"),
    [
        ([], False),
        (["NFCorpus", "VehicleImageSearchMini"], False),
        (["VehicleImageSearch"], True),
        (["VehicleImageSearchMini", "NFCorpus", "VehicleImageSearch"], True),
    ],
    ids=str,
)
def test_data_is_required_of_our_tasks_only(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, names: list[str], missing: bool
) -> None:
    import mteb  # noqa: F401

    monkeypatch.setenv("VEHICLE_SEARCH_DATA", str(tmp_path / "nowhere"))
    if missing:
        with pytest.raises(DataNotFoundError, match="nowhere"):
            plugin_run.require_data(names)
    else:
        plugin_run.require_data(names)
