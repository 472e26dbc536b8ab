"""`vehicle-search leaderboard`: rank groups, separate evaluation sets, hostile files, formats and schema."""

from __future__ import annotations

import argparse
import csv
import io
import json
import re
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from simulated_runs import CONTENT_ID, MODELS, write_run

from mteb_vehicle_search.analysis import leaderboard as command
from mteb_vehicle_search.analysis.leaderboard import build_leaderboard, rank_groups, read_leaderboard
from mteb_vehicle_search.analysis.leaderboard_formats import RUN, SCORES, to_json, to_markdown
from mteb_vehicle_search.analysis.leaderboard_schema import DOCUMENT, REPORTED, ROW, TABLE, violations
from mteb_vehicle_search.analysis.ranks import load_ranks
from mteb_vehicle_search.analysis.results import holds_flickr30k
from mteb_vehicle_search.errors import ResultsError

ROOT = Path(__file__).parents[2]


def run(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.main(parser.parse_args(arguments))


def scores_of(record) -> dict:
    ranks = load_ranks(record)
    return {name: float(ranks.scores(name).mean()) for name in ("ndcg_at_10", "map_at_10", "recall_at_10")}


def test_models_share_a_rank_unless_a_test_separates_them(runs):
    assert rank_groups({name: load_ranks(record) for name, record in runs.items()}) == {
        "good": 1,
        "twin-of-good": 1,
        "poor": 3,
    }


def test_rows_have_intervals_rates_and_the_contamination_flag(runs):
    (table,) = build_leaderboard().document["tables"]
    assert [row["model"] for row in table["rows"]][2] == "simulated/poor"
    rows = {row["model"]: row for row in table["rows"]}
    good = rows["simulated/good"]
    assert good["ndcg_at_10_ci_low"] < good["ndcg_at_10"] < good["ndcg_at_10_ci_high"]
    assert good["images_per_s"] == 321.5
    assert good["flickr30k_in_training"] is True
    assert rows["simulated/twin-of-good"]["flickr30k_in_training"] is False
    assert rows["simulated/poor"]["flickr30k_in_training"] is None


@pytest.mark.parametrize(
    ("names", "known"),
    [(None, None), ([], False), (["Flickr30kT2IRetrieval"], True), (["flickr-30k"], True), (["Flickr8k"], False)],
)
def test_contamination(names, known):
    assert holds_flickr30k(names) is known


def test_a_result_file_and_its_record_are_one_row(runs, write_result):
    meta = {"license": "mit", "n_parameters": 5, "training_datasets": None}
    write_result("simulated/good", scores_of(runs["good"]), meta=meta)
    board = build_leaderboard([Path("results")])
    (table,) = board.document["tables"]
    (row,) = table["rows"]
    assert (row["model"], row["licence"], row["has_run_record"], row["rank"]) == ("simulated/good", "mit", True, 1)
    assert row["recall_at_1"] is not None
    assert board.skipped == []


def test_a_record_of_another_run_is_not_mixed_in(runs, write_result):
    path = write_result("simulated/good", {"ndcg_at_10": 0.9})
    board = build_leaderboard([path])
    (row,) = board.document["tables"][0]["rows"]
    assert row["rank"] is None
    assert row["ndcg_at_10_ci_low"] is None
    assert "they are of two runs" in board.skipped[0].reason


def test_a_result_without_a_record_is_listed_but_not_ranked(home, write_result):
    write_result("org/only", {"ndcg_at_10": 0.5, "ndcg_at_10_ci_low": 0.4, "ndcg_at_10_ci_high": 0.6})
    (row,) = build_leaderboard().document["tables"][0]["rows"]
    assert (row["model"], row["rank"], row["ndcg_at_10_ci_low"]) == ("org/only", None, 0.4)


def test_other_evaluation_sets_stand_apart(home, runs):
    write_run(MODELS[0], images=100, distractors=500, content_id="6" * 64)
    document = build_leaderboard().document
    assert [table["content_id"][0] for table in document["tables"]] == ["5", "6"]
    assert [row["rank"] for row in document["tables"][1]["rows"]] == [1]
    text = to_markdown(document)
    assert "Not comparable with the table of content id 555555555555: flickr30k 120 there, 100 here" in text


def test_published_figures_are_marked_and_not_ranked(runs):
    board = build_leaderboard([ROOT / "results" / "reported.json", runs["good"].folder])
    assert [row["ndcg_at_10"] for row in board.document["reported"]] == [0.51109, 0.38448]
    assert "| MetaCLIP 1.2 (ViT-H-14) (reported) | 0.5111 |" in to_markdown(board.document)
    assert len(board.document["tables"][0]["rows"]) == 1


HOSTILE = {
    "truncated.json": ('{"task_name": ', "not readable JSON"),
    "list.json": ("[1, 2]", "not a JSON object"),
    "foreign.json": ('{"name": "something"}', "has no 'task_name'"),
    "nan.json": (
        '{"task_name": "VehicleImageSearch", "dataset_revision": "5", "scores": {"test": [{"ndcg_at_10": NaN}]}}',
        "ndcg_at_10 is nan, not a finite number",
    ),
    "range.json": (
        '{"task_name": "VehicleImageSearch", "dataset_revision": "5", "scores": {"test": [{"ndcg_at_10": 7}]}}',
        "not between 0 and 1",
    ),
    "text.json": (
        '{"task_name": "VehicleImageSearch", "dataset_revision": "5", "scores": {"test": [{"ndcg_at_10": "high"}]}}',
        "'high', not a finite number",
    ),
    "other_task.json": (
        '{"task_name": "NFCorpus", "dataset_revision": "5", "scores": {"test": [{"ndcg_at_10": 0.3}]}}',
        "another task, NFCorpus",
    ),
    "no_split.json": ('{"task_name": "VehicleImageSearch", "dataset_revision": "5", "scores": {}}', "retrieval task"),
    "binary.json": (b"\xff\xfe\x00", "not readable JSON"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_damaged_and_foreign_files_are_named_and_skipped(runs, write_result, capsys, name):
    content, words = HOSTILE[name]
    write_result("simulated/good", scores_of(runs["good"]))
    bad = Path("results") / name
    bad.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert run("results") == 0
    printed = capsys.readouterr()
    assert f"skipped {bad}: " in printed.err
    assert words in printed.err
    assert "simulated/good" in printed.out
    with pytest.raises(ResultsError, match=name):
        build_leaderboard([bad], runs=Path("nowhere"))


def test_a_damaged_record_is_named_and_skipped(runs, capsys):
    (runs["poor"].folder / "queries.parquet").write_bytes(b"nothing")
    (runs["twin-of-good"].folder / "run.json").write_text("{")
    assert run() == 0
    printed = capsys.readouterr()
    assert "queries.parquet cannot be read" in printed.err
    assert "is not a run record" in printed.err
    assert "simulated/good" in printed.out
    assert "simulated/poor" not in printed.out


def test_an_empty_folder_says_what_to_run(home):
    Path("results").mkdir()
    with pytest.raises(ResultsError, match="mteb run"):
        run("results")
    with pytest.raises(ResultsError, match="does not exist"):
        run("elsewhere")
    with pytest.raises(ResultsError, match="no usable results"):
        run()


def test_names_are_shown_as_text(home, write_result, capsys):
    name = "org/[red]a|b<i>*é"
    write_result("org/strange", {"ndcg_at_10": 0.5}, meta={"name": name})
    assert run() == 0
    assert name in capsys.readouterr().out
    assert run("--format", "markdown") == 0
    assert "org/[red]a\\|b&lt;i>\\*é" in capsys.readouterr().out


def test_only_the_newest_result_of_a_run_counts(runs, write_result):
    path = write_result("simulated/good", scores_of(runs["good"]))
    old = json.loads(path.read_text())
    copy = Path("results") / "copy" / "simulated__good" / ("0" * 40) / path.name
    copy.parent.mkdir(parents=True)
    copy.write_text(json.dumps({**old, "date": "2025-01-01"}))
    board = build_leaderboard([Path("results")])
    assert len(board.document["tables"][0]["rows"]) == 1
    assert [one.path for one in board.skipped] == [copy]


def test_of_two_records_of_a_run_the_one_that_fits_the_result_counts(runs, write_result):
    old = Path("results") / "runs" / CONTENT_ID / runs["good"].folder.name
    shutil.copytree(runs["good"].folder, old)
    info = json.loads((old / "run.json").read_text())
    (old / "run.json").write_text(json.dumps({**info, "finished": "2025-01-01", "device": "elsewhere"}))
    write_result("simulated/good", scores_of(runs["good"]))
    # Both fit: the one beside the result counts, or the newest if all records count.
    assert build_leaderboard([Path("results")]).document["tables"][0]["rows"][0]["device"] == "elsewhere"
    assert build_leaderboard().document["tables"][0]["rows"][0]["device"] == "cpu"
    table = pq.read_table(old / "queries.parquet")
    swapped = table.set_column(2, "rank", pa.array([1] * len(table), pa.int32()))
    for name in ("above_flickr30k", "above_imagenet"):
        at = swapped.column_names.index(name)
        swapped = swapped.set_column(at, name, pa.array([0] * len(table), pa.int32()))
    pq.write_table(swapped, old / "queries.parquet")
    board = build_leaderboard([Path("results")])
    assert (board.document["tables"][0]["rows"][0]["device"], board.skipped) == ("cpu", [])


def test_sorting(runs):
    for sort, sign in (("recall_at_100", -1), ("median_rank", 1), ("ndcg_at_10", -1)):
        values = [sign * row[sort] for row in build_leaderboard(sort=sort).document["tables"][0]["rows"]]
        assert values == sorted(values)
    with pytest.raises(ResultsError, match="no score 'beauty'"):
        build_leaderboard(sort="beauty")


def test_written_json_conforms_and_is_the_same_twice(runs, tmp_path):
    for name in ("a.json", "b.json"):
        assert run("--format", "json", "--out", str(tmp_path / name)) == 0
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    document = read_leaderboard(tmp_path / "a.json")
    assert len(document["tables"][0]["rows"]) == 3
    # A leaderboard among the results is no result.
    (tmp_path / "a.json").rename(tmp_path / "leaderboard.json")
    (tmp_path / "b.json").unlink()
    board = build_leaderboard([tmp_path], runs=Path("nowhere"))
    assert board.skipped == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.pop("reported"), "document.reported is missing"),
        (lambda d: d.update(more=1), "document.more is unknown"),
        (lambda d: d.update(schema_version=2), "schema_version is 2"),
        (lambda d: d["tables"][0]["rows"][0].update(ndcg_at_10="0.4"), r"rows\[0\].ndcg_at_10 is '0.4'"),
        (lambda d: d["tables"][0]["rows"][0].update(rank=1.5), "rank is 1.5"),
        (lambda d: d["tables"][0].pop("content_id"), "content_id is missing"),
    ],
)
def test_the_schema_is_strict(runs, tmp_path, change, words):
    document = build_leaderboard().document
    assert violations(document) == []
    change(document)
    (tmp_path / "leaderboard.json").write_text(to_json(document))
    with pytest.raises(ResultsError, match=words):
        read_leaderboard(tmp_path / "leaderboard.json")


def test_nan_is_not_json(tmp_path):
    (tmp_path / "leaderboard.json").write_text('{"schema_version": NaN}')
    with pytest.raises(ResultsError, match="NaN is not JSON"):
        read_leaderboard(tmp_path / "leaderboard.json")


def test_csv_has_every_row(runs, capsys):
    assert run("--format", "csv") == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["content_id"] for row in rows] == [CONTENT_ID] * 3
    assert set(ROW) < set(rows[0])


@pytest.mark.parametrize("width", [80, 120, 300])
def test_the_table_fits_and_says_everything(runs, capsys, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    assert run() == 0
    shown = capsys.readouterr().out
    cells = [cell for line in shown.splitlines() for cell in re.split(r"\s{2,}", line.strip())]
    assert [cells.count(name) for name in (*SCORES, *RUN)] == [1] * len({**SCORES, **RUN})
    assert max(len(line.rstrip()) for line in shown.splitlines()) <= width
    assert "simulated/twin-of-good" in shown
    assert "…" not in shown


def test_the_repositorys_leaderboard_conforms():
    path = ROOT / "results" / "leaderboard.json"
    if not path.exists():
        pytest.skip("no leaderboard has been written yet")
    document = read_leaderboard(path)
    assert document["reported"]


def test_the_docs_list_every_field():
    text = (ROOT / "mteb_vehicle_search" / "analysis" / "README.md").read_text(encoding="utf-8")
    for fields in (DOCUMENT, TABLE, ROW, REPORTED):
        for name, field in fields.items():
            assert f"| `{name}` | {' or '.join(field.types)} | {field.meaning} |" in text
