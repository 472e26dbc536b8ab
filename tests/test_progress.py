"""What a build shows: on standard error, nothing when it is quiet, and every item comes through."""

from __future__ import annotations

import re
import sys

import pytest

from mteb_vehicle_search.terminal import Reporter, progress_bar


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
    reporter = Reporter()
    assert reporter.quiet is False
    assert list(reporter.track(iter("abcd"), "distractors", 5)) == list("abcd")
    last = capsys.readouterr().err
    assert "distractors" in last
    assert "4/5" in last
    assert "image" in last


def test_a_message_stands_on_a_line_of_its_own_above_the_bar(capsys):
    reporter = Reporter()
    for _ in reporter.track(iter("ab"), "captioned", 2, unit="shard"):
        reporter.say("a message")
    shown = capsys.readouterr().err
    assert shown.count("a message\n") == 2
    assert "shard/s" in shown


@pytest.mark.parametrize(("terminal", "lines"), [(True, 6), (False, 2)])
def test_a_bar_in_a_file_is_a_line_now_and_then(capsys, monkeypatch, terminal, lines):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    clock = iter(range(1_000_000))
    monkeypatch.setattr("tqdm.std.time", lambda: 0.2 * next(clock))
    list(Reporter().track(range(4), "captioned", 4))
    shown = capsys.readouterr().err
    assert len([line for line in re.split(r"[\r\n]", shown) if "captioned" in line]) == lines


@pytest.mark.parametrize("quiet", [False, True])
def test_items_are_taken_only_when_they_are_wanted(quiet):
    taken = []

    def items():
        for number in range(3):
            taken.append(number)
            yield number

    tracked = Reporter(quiet).track(items(), "captioned")
    assert taken == []
    assert next(tracked) == 0
    assert taken == [0]
    tracked.close()


@pytest.mark.parametrize(
    ("terminal", "passing", "left"), [(True, True, False), (True, False, True), (False, True, True)]
)
def test_a_passing_bar_leaves_a_terminal_and_stays_in_a_file(monkeypatch, terminal, passing, left):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    with progress_bar("encode images", 2, passing=passing) as bar:
        assert bar.leave is left
