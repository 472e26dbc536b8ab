"""What a build shows: on standard error, nothing when it is quiet, and every item comes through."""

from __future__ import annotations

import pytest
from rich.console import Console

from mteb_vehicle_search.terminal import Reporter


def wide(reporter: Reporter) -> Reporter:
    """Show bars as on a terminal of 200 columns, whatever the tests run in."""
    reporter._console = Console(stderr=True, quiet=reporter.quiet, highlight=False, width=200, force_terminal=True)
    return reporter


def test_messages_go_to_standard_error_as_they_are(capsys):
    reporter = Reporter()
    reporter.say("[red]one[/red]")
    reporter.say("two")
    assert reporter.messages == ["[red]one[/red]", "two"]
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", "[red]one[/red]\ntwo\n")


def test_numbers_in_messages_are_not_coloured(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    Reporter().say("12 images")
    assert capsys.readouterr().err == "12 images\n"


def test_quiet_shows_nothing_and_keeps_the_messages(capsys):
    reporter = Reporter(quiet=True)
    reporter.say("one")
    assert list(reporter.track(range(3), "captioned", 3)) == [0, 1, 2]
    assert reporter.messages == ["one"]
    assert reporter.quiet is True
    assert capsys.readouterr() == ("", "")


def test_a_bar_counts_the_items_against_their_total(capsys):
    reporter = wide(Reporter())
    assert reporter.quiet is False
    assert list(reporter.track(iter("abcd"), "distractors", 5)) == list("abcd")
    last = capsys.readouterr().err
    assert "distractors" in last
    assert "4/5" in last
    assert "left" in last


@pytest.mark.parametrize("quiet", [False, True])
def test_items_are_taken_only_when_they_are_wanted(quiet):
    taken = []

    def items():
        for number in range(3):
            taken.append(number)
            yield number

    tracked = wide(Reporter(quiet)).track(items(), "captioned")
    assert taken == []
    assert next(tracked) == 0
    assert taken == [0]
    tracked.close()


@pytest.mark.parametrize(
    ("speed", "text"),
    [
        (None, "- /s"),
        (0.0, "- /s"),
        (12345.6, "12,346/s"),
        (10.0, "10/s"),
        (9.96, "10.0/s"),
        (1.0, "1.0/s"),
        (0.5, "2.0 s"),
        (0.04, "25.0 s"),
    ],
)
def test_the_rate_is_readable(monkeypatch, speed, text):
    """Fast ones in items a second, slow ones in seconds an item; a finished task has its mean."""
    import rich.progress

    made = []

    class Bar(rich.progress.Progress):
        def __init__(self, *columns, **kwargs):
            made.extend(columns)
            super().__init__(*columns, **kwargs)

    monkeypatch.setattr(rich.progress, "Progress", Bar)
    assert list(wide(Reporter()).track([1], "x")) == [1]
    rate = next(column for column in made if type(column).__name__ == "Rate")

    class Running:
        finished_speed = None

    class Finished:
        finished_speed = speed

    Running.speed, Finished.speed = speed, 777.0 if speed else None
    assert str(rate.render(Running)) == text
    assert str(rate.render(Finished)) == text
