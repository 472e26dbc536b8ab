"""A metric, a column, a captioned and a distractor source: each arrives everywhere by one module and one line."""

from __future__ import annotations

import csv
import io
import json
import re

import numpy as np
import pytest
from hand_made_runs import hand_made, info_of, table_of
from one_each import captioned, column, distractors, metric
from small_runs import MODELS, write_run, write_set

from data_prep import cli as data_cli
from data_prep.sources.registry import SOURCES
from mteb_vehicle_search import cli
from mteb_vehicle_search.analysis import columns
from mteb_vehicle_search.analysis import document as document_of
from mteb_vehicle_search.analysis.leaderboard import read_leaderboard
from mteb_vehicle_search.eval_set import EvalSet
from mteb_vehicle_search.metrics import METRICS
from mteb_vehicle_search.run_record import write_run_record

RANKS = {"a/good": [1, 2, 3, 9], "b/poor": [3, 50, 4, 90]}


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """Two run records, and an empty working directory."""
    monkeypatch.chdir(tmp_path)
    for name, ranks in RANKS.items():
        info = info_of(model_name=name, texts_per_s=1234.4)
        made = hand_made(ranks, relevant_ids=[f"flickr30k/{n}" for n in range(4)])
        write_run_record(table_of(made), {**info, "model_name": name})


def printed(capsys, *arguments: str) -> str:
    assert cli.main([*arguments]) == 0
    return capsys.readouterr().out


def test_a_metric(runs, capsys, monkeypatch, tmp_path):
    monkeypatch.setitem(METRICS, metric.METRIC.key, metric.METRIC)
    wanted = {name: float(np.mean([rank <= 3 for rank in ranks])) for name, ranks in RANKS.items()}
    printed(capsys, "leaderboard", "--sort", "hits_at_3", "--format", "json", "--out", "board.json")
    rows = read_leaderboard(tmp_path / "board.json")["tables"][0]["rows"]
    assert {row["model"]: row["hits_at_3"] for row in rows} == wanted
    markdown = printed(capsys, "leaderboard", "--format", "markdown").splitlines()
    head = next(line for line in markdown if "Hits@3" in line).strip("| ").split(" | ")
    row = next(line for line in markdown if "a/good" in line).strip("| ").split(" | ")
    assert row[head.index("Hits@3")] == "0.7500"
    table = csv.DictReader(io.StringIO(printed(capsys, "leaderboard", "--format", "csv")))
    found = {row["name"]: float(row["hits_at_3"]) for row in table}
    assert found == {**wanted, "random ranking": 3 / 100}
    monkeypatch.setenv("COLUMNS", "400")
    assert "Hits@3" in printed(capsys, "leaderboard")
    asked = ["--metric", "hits_at_3", "--format", "json"]
    (compared,) = json.loads(printed(capsys, "compare", "a/good", "b/poor", *asked))
    assert (compared["metric"], compared["a"]["mean"], compared["b"]["mean"]) == ("hits_at_3", 0.75, 0.25)
    (grown,) = json.loads(printed(capsys, "growth", "a/good", *asked))
    assert {point["metric"] for point in grown["points"]} == {"hits_at_3"}
    assert columns.row_columns()["hits_at_3"].meaning


def test_a_column(runs, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(columns, "FACTS", [*columns.FACTS, column.COLUMN])
    printed(capsys, "leaderboard", "--format", "json", "--out", "board.json")
    document = read_leaderboard(tmp_path / "board.json")
    assert {row["texts_per_s"] for row in document["tables"][0]["rows"]} == {1234.4}
    monkeypatch.setenv("COLUMNS", "400")
    for arguments in ([], ["--format", "markdown"]):
        shown = printed(capsys, "leaderboard", *arguments)
        assert "texts/s" in shown
        assert shown.count("1,234") == 2
    assert "texts_per_s" in printed(capsys, "leaderboard", "--format", "csv").splitlines()[0]
    del document["tables"][0]["rows"][0]["texts_per_s"]
    assert document_of.violations(document) == ["tables[0].rows[0].texts_per_s is missing"]


def test_a_column_and_a_metric_on_the_page(tmp_path, monkeypatch):
    monkeypatch.setattr(columns, "FACTS", [*columns.FACTS, column.COLUMN])
    monkeypatch.setitem(METRICS, metric.METRIC.key, metric.METRIC)
    monkeypatch.chdir(tmp_path)
    eval_set = write_set(tmp_path / "set")
    write_run(eval_set, MODELS[0])
    assert cli.main(["report", "--data", str(eval_set.folder), "--out", "site"]) == 0
    page = (tmp_path / "site" / "index.html").read_text(encoding="utf-8")
    assert re.findall(r"<th[^>]*>(Hits@3|texts/s)</th>", page) == ["Hits@3", "texts/s"]


PRESET = """
name = "colours"
title = "Colour Search"
[captioned]
source = "colours"
[distractors]
source = "noise"
"""


@pytest.fixture
def sources(monkeypatch):
    """The two sources, registered."""
    for source in (captioned.SOURCE, distractors.SOURCE):
        monkeypatch.setitem(SOURCES, source.name, source)


def test_a_captioned_and_a_distractor_source(sources, tmp_path, capsys, monkeypatch):
    (tmp_path / "colours.toml").write_text(PRESET, encoding="utf-8")
    command = ["build", "--preset", str(tmp_path / "colours.toml"), "--out", str(tmp_path / "set"), "--quiet"]
    command += ["--colours", "here", "--noise", "there"]
    assert data_cli.main([*command, "--dry-run"]) == 0
    plan = capsys.readouterr().out
    assert re.search(r"^colours +colours here *$", plan, flags=re.MULTILINE)
    assert re.search(r"^noise +noise there *$", plan, flags=re.MULTILINE)
    assert data_cli.main(command) == 0
    eval_set = EvalSet.open(tmp_path / "set")
    assert eval_set.manifest["counts"]["sources"] == {"colours": 3, "noise": 4}
    assert len(eval_set.queries()) == 15
    assert eval_set.manifest["sources"] == {
        source.name: source.for_manifest() for source in (captioned.SOURCE, distractors.SOURCE)
    }
    card = (tmp_path / "set" / "README.md").read_text(encoding="utf-8")
    assert "- **Colours**, plain ones.\n- **Noise**, drawn by a generator.\n" in card
    assert "- Newton: Opticks. 1704." in card
    monkeypatch.setenv("HF_TOKEN", "a token")
    monkeypatch.setattr("data_prep.hub.upload_folder", lambda *given, **more: "https://hub")
    capsys.readouterr()
    assert data_cli.main(["push", str(tmp_path / "set"), "lab/colours"]) == 0
    assert "  - Colours: look, but do not touch.\n" in capsys.readouterr().err


def test_the_sources_have_flags_and_are_offered_by_the_presets_check(sources, tmp_path, capsys):
    with pytest.raises(SystemExit):
        data_cli.main(["build", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "--colours SRC where the colours are" in shown
    assert "--noise SRC where the noise is" in shown
    (tmp_path / "wrong.toml").write_text(PRESET.replace('"noise"', '"colours"'), encoding="utf-8")
    assert data_cli.main(["build", "--preset", str(tmp_path / "wrong.toml"), "--dry-run"]) == 1
    assert (
        "distractors.source must be 'imagenet' or 'drawn' or 'drawn-pool' or 'folder' or 'webdataset' or 'none' or "
        "'noise'" in capsys.readouterr().err
    )


def test_the_page_cites_the_sources_of_its_set(sources, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    eval_set = write_set(tmp_path / "set", sources={"colours": captioned.SOURCE.for_manifest()})
    write_run(eval_set, MODELS[0])
    assert cli.main(["report", "--data", str(eval_set.folder), "--out", "site"]) == 0
    assert "@book{newton1704opticks," in (tmp_path / "site" / "index.html").read_text(encoding="utf-8")
