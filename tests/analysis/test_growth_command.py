"""`vehicle-search growth`: what it prints."""

from __future__ import annotations

import argparse
import json

import pytest
from simulated_runs import MODELS, write_run

from mteb_vehicle_search.analysis import corpus_growth as command
from mteb_vehicle_search.errors import ResultsError


def run(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.main(parser.parse_args(arguments))


def test_the_table_says_what_is_exact_and_what_is_not(runs, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "150")
    assert run("simulated/good", "--sizes", "0", "3000", "20000", "1000000") == 0
    lines = capsys.readouterr().out.splitlines()
    (near,) = [line for line in lines if line.split()[:1] == ["20,000"]]
    (far,) = [line for line in lines if line.split()[:1] == ["1,000,000"]]
    (measured,) = [line for line in lines if line.split()[:1] == ["3,000"]]
    assert near.split()[1] == "modelled"
    assert " too far to trust " in far
    assert measured.split()[1] == "measured"
    assert f"{runs['good'].info['scores']['ndcg_at_10']:.4f}" in measured
    assert any("120 captioned images always stay" in line for line in lines)
    assert any(line.startswith("Check: from 10% of the distractors") for line in lines)
    assert not any("…" in line for line in lines)


def test_json_is_strict_and_complete(runs, capsys):
    assert run("simulated/good", "simulated/poor", "--metric", "mrr", "--sizes", "0", "100", "--format", "json") == 0
    good, poor = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert (good["model_name"], poor["model_name"]) == ("simulated/good", "simulated/poor")
    assert [point["distractors"] for point in good["points"]] == [0, 100]
    assert good["hold_out"]["metric"] == "ndcg_at_10"
    assert good["equivalence"] is None


def test_two_corpora_give_an_equivalence(runs, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "150")
    general, _ = write_run(MODELS[0], images=120, distractors=3_000, content_id="6" * 64)
    assert run(str(runs["good"].folder), "--sizes", "0", "--general", str(general.folder)) == 0
    by_folder = capsys.readouterr().out
    assert "These 3,000 distractors of one domain are as hard as 3,000 general ones, 95 % interval" in by_folder
    assert run("simulated/good", "--content-id", "5", "--sizes", "0", "--general", "66") == 0
    assert capsys.readouterr().out == by_folder
    with pytest.raises(ResultsError, match="one MODEL"):
        run("simulated/good", "simulated/poor", "--content-id", "5", "--general", "66")
