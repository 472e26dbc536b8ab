"""`--engine` and `--dry-run`: which engine a run has, and what is said of it before a model is loaded."""

from __future__ import annotations

import os
from argparse import Namespace

import pytest
from mteb.cli import build_cli

import mteb_vehicle_search
from mteb_vehicle_search import cli
from mteb_vehicle_search.errors import UsageError
from mteb_vehicle_search.plugin import asked

mteb_vehicle_search.register()
WORDS = ["run", "-t", "VehicleImageSearchMini", "-m", "vehicle-search/tiny-clip"]


@pytest.fixture
def engines(monkeypatch):
    """What the runs of mteb found set; none of them does anything."""
    found = []
    monkeypatch.setattr(build_cli, "main", lambda: found.append(os.environ.get("VEHICLE_SEARCH_ENGINE")))
    return found


@pytest.mark.parametrize("before", [None, "spark", "local"])
def test_the_argument_is_set_for_the_run_only(monkeypatch, engines, before):
    if before is not None:
        monkeypatch.setenv("VEHICLE_SEARCH_ENGINE", before)
    assert cli.main([*WORDS, "--engine", "local"]) == 0
    assert engines == ["local"]
    assert os.environ.get("VEHICLE_SEARCH_ENGINE") == before


def test_without_it_the_variable_stays(monkeypatch, engines):
    assert cli.main(WORDS) == 0
    monkeypatch.setenv("VEHICLE_SEARCH_ENGINE", "local")
    assert cli.main(WORDS) == 0
    assert engines == [None, "local"]


def test_an_unknown_engine_is_refused_before_anything_runs(monkeypatch, engines, capsys):
    assert cli.main([*WORDS, "--engine", "Ray"]) == 2
    assert "error: There is no engine 'Ray'; did you mean ray?" in capsys.readouterr().err
    assert "VEHICLE_SEARCH_ENGINE" not in os.environ
    monkeypatch.setenv("VEHICLE_SEARCH_ENGINE", "spark")
    assert cli.main(WORDS) == 2
    assert engines == []


def test_the_stock_command_refuses_it_before_a_model_is_loaded(monkeypatch):
    ran = []
    given = Namespace(
        model="vehicle-search/tiny-clip", model_revision=None, tasks=["VehicleImageSearchMini"], benchmarks=None
    )
    monkeypatch.setenv("VEHICLE_SEARCH_ENGINE", "spark")
    with pytest.raises(UsageError, match="There is no engine 'spark'"):
        asked.around_run(ran.append)(given)
    monkeypatch.setenv("VEHICLE_SEARCH_ENGINE", "local")
    asked.around_run(ran.append)(given)
    assert ran == [given]


def test_a_dry_run_says_where_it_would_be_and_runs_nothing(monkeypatch, engines, capsys):
    monkeypatch.setenv("VEHICLE_SEARCH_CORES", "3")
    assert cli.main([*WORDS, "--dry-run"]) == 0
    assert capsys.readouterr().out == "This process, with 3 processors.\n"
    assert engines == []


def test_the_help_tells_of_both(capsys):
    with pytest.raises(SystemExit):
        cli.main(["run", "--help"])
    said = capsys.readouterr().out
    assert "--engine ENGINE" in said
    assert "--dry-run" in said
