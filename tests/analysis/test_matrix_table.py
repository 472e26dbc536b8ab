"""What `vehicle-search compare` shows of three models and more."""

from __future__ import annotations

import argparse
import csv
import io
import json
import re

import pytest
from terminals import as_terminal, without_colours

from mteb_vehicle_search.analysis import compare_table as command
from mteb_vehicle_search.analysis import matrix_table
from mteb_vehicle_search.analysis.matrix import Matrix, Pair, letters
from mteb_vehicle_search.analysis.uncertainty import Interval

NAMES = ("org/best", "=org/b_c|d", "org/worst")


def matrix(count: int = 3, **changed) -> Matrix:
    """Return models of which only the first and the last of three neighbours are told apart."""
    names = NAMES if count == 3 else tuple(f"org/model-with-a-name-{at}" for at in range(count))
    pairs = [
        Pair(a, b, Interval(0.125 * (b - a), 0.1, 0.2), 0.25, 0.01 if b - a > 1 else 0.5, 40, 1_030)
        for a in range(count)
        for b in range(a + 1, count)
    ]
    apart = letters(count, ((one.a, one.b) for one in pairs if one.better is not None))
    scores = tuple(Interval(0.9 - 0.01 * at, 0.5, 0.95) for at in range(count))
    about = ("SomeTask", "Some Title", "5" * 64, "mrr_at_10", 1_500, 300)
    return Matrix(*about, names, scores, apart, tuple(pairs), 10_000)._replace(**changed)


def lines_of(capsys) -> list[list[str]]:
    return [re.split(r"\s{2,}", line.strip()) for line in without_colours(capsys.readouterr().out)]


def test_models_their_differences_and_all_pairs(capsys, monkeypatch):
    as_terminal(monkeypatch, 200)
    matrix_table.show(matrix())
    lines = lines_of(capsys)
    assert lines[0] == ["Some Title · mrr_at_10 · 1,500 queries · 300 images with captions"]
    assert lines[1] == ["#", "model", "MRR@10", "95 % interval", "letters", "1", "2", "3"]
    assert lines[2] == ["1", "org/best", "0.9000", "0.5000–0.9500", "a", "+0.125", "+0.250*"]
    assert lines[3] == ["2", "=org/b_c|d", "0.8900", "0.5000–0.9500", "ab", "-0.125", "+0.125"]
    assert lines[4] == ["3", "org/worst", "0.8800", "0.5000–0.9500", "b", "-0.250*", "-0.125"]
    assert lines[6] == ["pair", "A - B", "95 % interval", "p", "wins", "losses"]
    assert lines[8] == ["1 - 3", "+0.2500", "+0.1000, +0.2000", "0.0100", "40", "1,030"]
    assert "over the 3 pairs" in lines[11][0]


def test_better_and_worse_have_a_colour_only_where_they_are_told_apart(capsys, monkeypatch):
    as_terminal(monkeypatch, 200)
    matrix_table.show(matrix())
    shown = capsys.readouterr().out
    found = re.findall(r"\x1b\[(3\d)m *([+-][\d.]+)", shown)
    assert found == [("32", "+0.250"), ("31", "-0.250"), ("32", "+0.2500")]


def test_a_narrow_terminal_has_the_matrix_in_parts_of_its_own(capsys, monkeypatch):
    as_terminal(monkeypatch, 80)
    matrix_table.show(matrix(12))
    shown = without_colours(capsys.readouterr().out)
    assert max(map(len, shown)) <= 80
    lines = [re.split(r"\s{2,}", line.strip()) for line in shown]
    assert lines[1] == ["#", "model", "MRR@10", "95 % interval", "letters"]
    assert [line for line in lines if line[0] == "#"][1:] == [
        ["#", *map(str, range(1, 9))],
        ["#", *map(str, range(9, 13))],
    ]
    assert not any(line[0] == "pair" for line in lines)
    assert "The intervals and p-values of all 66 pairs: in a pipe, or --format csv." in shown


def test_a_pipe_has_every_pair(capsys):
    matrix_table.show(matrix(12))
    lines = lines_of(capsys)
    assert lines[1][-3:] == ["10", "11", "12"]
    assert sum(" - " in line[0] for line in lines) == 66


def test_too_few_sign_flips_for_so_many_pairs_are_said():
    assert len(matrix_table.notes(matrix())) == 1
    assert "Use --resamples 300." in matrix_table.notes(matrix(resamples=59))[1]
    assert len(matrix_table.notes(matrix(resamples=60))) == 1


def test_markdown_and_latex_have_names_as_text():
    lines = matrix_table.to_markdown(matrix()).splitlines()
    assert r"| 2 | =org/b_c\|d | 0.8900 | 0.5000–0.9500 | ab | -0.125 |  | +0.125 |" in lines
    assert r"| org/best | org/worst | +0.2500 | +0.1000, +0.2000 | 0.0100 | 40 | 1,030 |" in lines
    lines = matrix_table.to_latex(matrix()).splitlines()
    assert r"2 & =org/b\_c\textbar{}d & 0.8900 & 0.5000--0.9500 & ab & $-$0.125 &  & +0.125 \\" in lines
    assert r"org/best & org/worst & +0.2500 & +0.1000, +0.2000 & 0.0100 & 40 & 1,030 \\" in lines
    assert lines.count(r"\begin{tabular}{rlrrlrrr}") == lines.count(r"\begin{tabular}{llrrrrr}") == 1


def test_csv_has_a_row_for_each_pair():
    rows = list(csv.DictReader(io.StringIO(matrix_table.to_csv(matrix()))))
    assert [(row["model_a"], row["model_b"], row["better"]) for row in rows] == [
        ("org/best", "'=org/b_c|d", ""),
        ("org/best", "org/worst", "org/best"),
        ("'=org/b_c|d", "org/worst", ""),
    ]
    assert {key: rows[1][key] for key in ("score_a", "difference", "ci_low", "p_adjusted", "query_losses")} == {
        "score_a": "0.9",
        "difference": "0.25",
        "ci_low": "0.1",
        "p_adjusted": "0.01",
        "query_losses": "1030",
    }


def test_json_has_models_and_pairs_by_name():
    found = json.loads(matrix_table.to_json(matrix()), parse_constant=pytest.fail)
    assert (found["metric"], found["queries"], found["resamples"]) == ("mrr_at_10", 1_500, 10_000)
    assert found["models"][1] == {"name": NAMES[1], "mean": 0.89, "low": 0.5, "high": 0.95, "letters": "ab"}
    assert found["pairs"][1] == {
        "a": "org/best",
        "b": "org/worst",
        "difference": {"mean": 0.25, "low": 0.1, "high": 0.2},
        "p_value": 0.25,
        "p_adjusted": 0.01,
        "wins": 40,
        "losses": 1_030,
        "better": "org/best",
    }


@pytest.mark.parametrize("form", ["table", "markdown", "latex", "json", "csv"])
def test_the_command_takes_three_models_in_every_form(runs, capsys, form):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    models = ["simulated/poor", "simulated/good", "simulated/twin-of-good"]
    assert command.main(parser.parse_args([*models, "--format", form, "--resamples", "100", "--seed", "3"])) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in models)
    if form == "json":
        assert json.loads(shown)["resamples"] == 100
