"""Tables on the terminal: whole, aligned, and in parts where it is narrow."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from mteb_vehicle_search.terminal import console, print_columns, print_rows

HEAD = [["rank", "1", "2"], ["model", "a", "long/name"]]
CELLS = [["nDCG", "0.5", "0.25"], ["MRR", "0.75", "1"], ["note", "x", "yy"]]
WHOLE = """\
rank  model      nDCG   MRR  note
   1  a           0.5  0.75     x
   2  long/name  0.25     1    yy
"""


def printed(width: int, *, title: str = "", head=HEAD, cells=CELLS, left=("model",)) -> str:
    file = io.StringIO()
    print_columns(Console(file=file, width=width, markup=False, highlight=False, emoji=False), title, head, cells, left)
    return "".join(f"{line.rstrip()}\n" for line in file.getvalue().splitlines())


def test_a_wide_terminal_shows_one_table():
    assert printed(80) == WHOLE
    assert printed(80, title="Title") == "Title\n" + WHOLE


@pytest.mark.parametrize(("width", "parts"), [(33, 1), (32, 2)])
def test_columns_stay_together_up_to_the_width(width, parts):
    shown = printed(width)
    assert (shown == WHOLE) is (parts == 1)
    assert shown.count("long/name") == parts
    assert all(len(line) <= width for line in shown.splitlines())


def test_parts_repeat_the_head_with_a_blank_line_between():
    assert printed(30, title="Title") == (
        "Title\n"
        "rank  model      nDCG   MRR\n"
        "   1  a           0.5  0.75\n"
        "   2  long/name  0.25     1\n"
        "\n"
        "rank  model      note\n"
        "   1  a             x\n"
        "   2  long/name    yy\n"
    )


def test_a_terminal_narrower_than_one_column_cuts_nothing():
    shown = printed(5)
    assert shown.count("long/name") == 3
    assert all(cell in shown for column in CELLS for cell in column)
    assert "…" not in shown
    assert shown.splitlines()[0] == "rank  model      nDCG"


def test_the_console_is_as_wide_after_a_table_as_before():
    narrow = Console(file=io.StringIO(), width=5)
    print_columns(narrow, "", HEAD, CELLS, ())
    assert narrow.width == 5


def test_wide_characters_take_their_room():
    shown = printed(24, head=[["m", "漢字漢字"]], cells=[["a", "1"], ["b", "22222222"], ["c", "3"]], left=())
    assert shown == "       m  a         b  c\n漢字漢字  1  22222222  3\n"
    narrower = printed(23, head=[["m", "漢字漢字"]], cells=[["a", "1"], ["b", "22222222"], ["c", "3"]], left=())
    assert narrower.count("漢字漢字") == 2


def test_names_with_brackets_are_text():
    cells = [["[red]x[/red]", ":car:"]]
    assert (
        printed(80, title="[b]t", head=[["[i]", "[/i]"]], cells=cells)
        == "[b]t\n [i]  [red]x[/red]\n[/i]         :car:\n"
    )


def test_the_console_takes_text_as_it_is_and_wraps_it_between_words(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    console().print("[red]3 :car: 'text' https://x.org[/red]")
    assert capsys.readouterr().out == "[red]3 :car: 'text' https://x.org[/red]\n"
    monkeypatch.setenv("COLUMNS", "20")
    console().print("one two three four five six seven")
    assert capsys.readouterr().out.splitlines() == ["one two three four ", "five six seven"]


def test_rows_stand_in_columns_numbers_at_the_right(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    print_rows("T", ("name", "count", ""), [("a", 1234, "#"), ("bcdef", 5, "###")])
    assert [line.rstrip() for line in capsys.readouterr().out.splitlines()] == [
        "T",
        "name   count",
        "a      1,234  #",
        "bcdef      5  ###",
    ]
    print_rows("None", ("name", "count"), [])
    assert capsys.readouterr().out.split() == ["None", "name", "count"]
