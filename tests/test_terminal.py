"""What an error looks like on a terminal."""

from __future__ import annotations

import errno
import sys
from typing import Any

import pytest

from mteb_vehicle_search import terminal
from mteb_vehicle_search.errors import DataNotFoundError, PluginWarning, ResultsError, UsageError


@pytest.fixture(autouse=True)
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VEHICLE_SEARCH_DEBUG", raising=False)


@pytest.mark.parametrize(("value", "wanted"), [(None, False), ("", False), ("0", False), ("1", True), ("yes", True)])
def test_tracebacks_are_wanted_only_when_asked_for(
    monkeypatch: pytest.MonkeyPatch, value: str | None, wanted: bool
) -> None:
    if value is not None:
        monkeypatch.setenv("VEHICLE_SEARCH_DEBUG", value)
    assert terminal.debugging() is wanted


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (DataNotFoundError("No data in /x.", "Build it."), "error: No data in /x.\nBuild it.\n"),
        (ResultsError("There are none."), "error: There are none.\n"),
        (
            ZeroDivisionError("oh"),
            "error: ZeroDivisionError: oh\nThis was not foreseen; --debug (or VEHICLE_SEARCH_DEBUG=1) shows where it "
            "happened.\n",
        ),
        (
            PluginWarning("taken"),
            "error: PluginWarning: taken\nThis was not foreseen; --debug (or VEHICLE_SEARCH_DEBUG=1) shows where it "
            "happened.\n",
        ),
    ],
)
def test_errors_are_shown_on_stderr(capsys: pytest.CaptureFixture[str], error: Exception, text: str) -> None:
    terminal.show(error)
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", text)


# The stock command


@pytest.fixture
def untouched(monkeypatch: pytest.MonkeyPatch) -> list[tuple]:
    """What reached the hook that was there before ours."""
    seen: list[tuple] = []
    monkeypatch.setattr(sys, "excepthook", lambda *error: seen.append(error))
    terminal.shorten_our_tracebacks()
    return seen


def raised(error: Exception, *modules: str) -> Any:
    """Raise the error through frames of these modules, the innermost last."""
    code = "raise error"
    scopes: dict[str, Any] = {"error": error}
    for module in reversed(modules):
        scopes = {"__name__": module, "run": exec, "code": code, "scope": scopes, "error": error}
        code = "run(code, scope)" if module != modules[-1] else code
    error.__traceback__ = None
    with pytest.raises(type(error)) as info:
        exec(code, scopes)
    return info.value


def hand_in(error: Any) -> tuple:
    given = (type(error), error, error.__traceback__)
    sys.excepthook(*given)
    return given


@pytest.mark.parametrize("modules", [["mteb.cli.build_cli"], ["mteb.cli.build_cli", "mteb.evaluate", "a", "b"]])
def test_errors_of_ours_that_mtebs_command_raised_are_one_message(
    untouched: list[tuple], capsys: pytest.CaptureFixture[str], modules: list[str]
) -> None:
    hand_in(raised(DataNotFoundError("No data.", "Build it."), *modules))
    assert untouched == []
    assert capsys.readouterr().err == "error: No data.\nBuild it.\n"


def test_what_cannot_be_meant_ends_mtebs_command_with_2(
    untouched: list[tuple], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as info:
        hand_in(raised(UsageError("There is none.", "Take another."), "mteb.cli.build_cli"))
    assert info.value.code == 2
    assert untouched == []
    assert capsys.readouterr().err == "error: There is none.\nTake another.\n"


@pytest.mark.parametrize(
    ("error", "modules"),
    [
        (DataNotFoundError("No data."), ["script"]),
        (UsageError("There is none."), ["script"]),
        (DataNotFoundError("No data."), ["mteb.cli", "mteb.cli.build_cli.more"]),
        (KeyError("x"), ["mteb.cli.build_cli"]),
    ],
    ids=["a script", "a script too", "another module", "another error"],
)
def test_other_errors_stay_as_they_are(
    untouched: list[tuple], capsys: pytest.CaptureFixture[str], error: Exception, modules: list[str]
) -> None:
    given = hand_in(raised(error, *modules))
    assert untouched == [given]
    assert capsys.readouterr().err == ""


def test_an_error_without_a_traceback_stays_as_it_is(untouched: list[tuple]) -> None:
    error = DataNotFoundError("No data.")
    assert hand_in(error) in untouched


def test_with_debug_the_traceback_stays(untouched: list[tuple], monkeypatch: pytest.MonkeyPatch) -> None:
    error = raised(DataNotFoundError("No data."), "mteb.cli.build_cli")
    monkeypatch.setenv("VEHICLE_SEARCH_DEBUG", "1")
    assert hand_in(error) in untouched


def test_the_hook_is_put_in_place_once(untouched: list[tuple]) -> None:
    ours = sys.excepthook
    terminal.shorten_our_tracebacks()
    assert sys.excepthook is ours


@pytest.mark.parametrize("ours", [True, False])
def test_an_interrupt_in_our_code_is_one_line(
    untouched: list[tuple], capsys: pytest.CaptureFixture[str], ours: bool
) -> None:
    where = "mteb_vehicle_search.search.exact_search" if ours else "mteb.evaluate"
    given = hand_in(raised(KeyboardInterrupt(), "mteb.cli.build_cli", where, "torch"))  # type: ignore[arg-type]
    assert untouched == ([] if ours else [given])
    assert capsys.readouterr().err == ("interrupted; run the same command again to go on\n" if ours else "")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_every_way_of_having_no_room_is_said_alike(capsys: pytest.CaptureFixture[str], number: int) -> None:
    terminal.show(OSError(number, "no", "/a/b"))
    assert capsys.readouterr().err == (
        "error: the disk is full (/a/b).\nFree some space and run the same command again; finished work is kept.\n"
    )
