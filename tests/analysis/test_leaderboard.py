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
from hand_made_runs import hand_made, info_of, table_of
from simulated_runs import CONTENT_ID, MODELS, write_run
from terminals import as_terminal, without_colours

from mteb_vehicle_search.analysis import leaderboard as command
from mteb_vehicle_search.analysis.columns import cells_of, row_columns
from mteb_vehicle_search.analysis.document import DOCUMENT, TABLE, reported_fields, violations
from mteb_vehicle_search.analysis.formats import to_json, to_markdown
from mteb_vehicle_search.analysis.leaderboard import (
    build_leaderboard,
    rank_ranges,
    read_leaderboard,
    sortable,
    write_text,
)
from mteb_vehicle_search.analysis.ranks import load_ranks
from mteb_vehicle_search.analysis.uncertainty import cluster_sums
from mteb_vehicle_search.errors import ResultsError
from mteb_vehicle_search.metrics import scored
from mteb_vehicle_search.run_record import RunRecord, write_run_record

ROOT = Path(__file__).parents[2]


def run(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.main(parser.parse_args(arguments))


def scores_of(record) -> dict:
    ranks = load_ranks(record)
    return {name: float(ranks.scores(name).mean()) for name in ("ndcg_at_10", "map_at_10", "recall_at_10")}


def test_ranks_are_ranges_of_what_tests_do_not_separate(runs):
    assert rank_ranges({name: load_ranks(record) for name, record in runs.items()}) == {
        "good": (1, 2),
        "twin-of-good": (1, 2),
        "poor": (3, 3),
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


def test_a_result_file_and_its_record_are_one_row(runs, write_result):
    meta = {"license": "mit", "n_parameters": 5, "training_datasets": None}
    write_result("simulated/good", scores_of(runs["good"]), meta=meta)
    board = build_leaderboard([Path("results")])
    (table,) = board.document["tables"]
    (row,) = table["rows"]
    assert (row["model"], row["license"], row["has_run_record"], row["rank"]) == ("simulated/good", "mit", True, 1)
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
        '{"task_name": "VehicleImageSearch", "dataset_revision": "ID", "scores": {"test": [{"ndcg_at_10": NaN}]}}',
        "ndcg_at_10 is nan, not a finite number",
    ),
    "range.json": (
        '{"task_name": "VehicleImageSearch", "dataset_revision": "ID", "scores": {"test": [{"ndcg_at_10": 7}]}}',
        "not between 0 and 1",
    ),
    "text.json": (
        '{"task_name": "VehicleImageSearch", "dataset_revision": "ID", "scores": {"test": [{"ndcg_at_10": "high"}]}}',
        "'high', not a finite number",
    ),
    "no_split.json": ('{"task_name": "VehicleImageSearch", "dataset_revision": "ID", "scores": {}}', "retrieval task"),
    "binary.json": (b"\xff\xfe\x00", "not readable JSON"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_damaged_and_foreign_files_are_named_and_skipped(runs, write_result, capsys, name):
    content, words = HOSTILE[name]
    write_result("simulated/good", scores_of(runs["good"]))
    bad = Path("results") / name
    bad.write_bytes(content if isinstance(content, bytes) else content.replace("ID", CONTENT_ID).encode())
    assert run("results") == 0
    printed = capsys.readouterr()
    assert f"skipped {bad}: " in printed.err
    assert words in printed.err
    assert "simulated/good" in printed.out
    with pytest.raises(ResultsError, match=name):
        build_leaderboard([bad], runs=Path("nowhere"))


def test_results_of_other_tasks_are_one_line(runs, write_result, capsys):
    write_result("simulated/good", scores_of(runs["good"]))
    for number in range(40):
        write_result("simulated/good", {"ndcg_at_10": 0.5}, content_id="e" * 40, task=f"Other{number}")
    assert run("results") == 0
    assert capsys.readouterr().err == "40 results of other tasks passed over\n"
    for path in Path("results").rglob("Other?*.json"):
        if path.stem != "Other7":
            path.unlink()
    assert run("results") == 0
    assert capsys.readouterr().err == "1 result of other tasks passed over\n"


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
    assert "org/\\[red\\]a\\|b&lt;i>\\*é" in capsys.readouterr().out


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
        (lambda d: d.update(schema_version=3), "schema_version is 3"),
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
    assert [row["content_id"] for row in rows] == [CONTENT_ID] * 4
    assert [row["name"] for row in rows][3:] == ["random ranking"]
    assert set(row_columns()) < set(rows[0])


@pytest.mark.parametrize("width", [80, 120, 300])
def test_the_table_fits_and_names_everything(runs, capsys, monkeypatch, width):
    as_terminal(monkeypatch, width)
    assert run() == 0
    shown = "\n".join(without_colours(capsys.readouterr().out))
    said = shown.replace("No room here for ", "").replace(",\n", ", ")
    cells = [cell for line in said.splitlines() for cell in re.split(r"\s{2,}|, |;", line.strip())]
    headings = [cell.heading for cell in cells_of("scores", "run", one_relevant=True)]
    assert not {"MRR@10", "P@10"} & {*cells}, "copies of MAP@10 and of a tenth of R@10"
    assert [cells.count(name) for name in headings] == [1] * len(headings)
    assert max(len(line.rstrip()) for line in shown.splitlines()) <= width
    assert "twin-of-good" in shown
    assert "…" not in shown


def test_the_repositorys_leaderboard_conforms():
    path = ROOT / "results" / "leaderboard.json"
    if not path.exists():
        pytest.skip("no leaderboard has been written yet")
    document = read_leaderboard(path)
    assert document["reported"]


def test_the_docs_list_every_field():
    text = (ROOT / "mteb_vehicle_search" / "analysis" / "README.md").read_text(encoding="utf-8")
    for fields in (DOCUMENT, TABLE, row_columns(), reported_fields()):
        for name, field in fields.items():
            assert f"| `{name}` | {' or '.join(field.types)} | {field.meaning} |" in text


class TestRanks:
    """`rank_ranges` on runs whose p-values can be told by hand: k images that all differ one way have p = 2 / 2^k."""

    @pytest.mark.parametrize(("images", "ranks"), [(5, ((1, 2), (1, 2))), (6, ((1, 1), (2, 2)))])
    @pytest.mark.parametrize("metric", ["ndcg_at_10", "recall_at_1", "map_at_10"])
    def test_five_percent_separate_two_runs(self, images, ranks, metric):
        better, worse = hand_made([1] * images), hand_made([2] * images)
        assert rank_ranges({"a": better, "b": worse}, metric) == dict(zip("ab", ranks))
        assert rank_ranges({"b": worse, "a": better}, metric) == dict(zip("ab", ranks))

    def test_a_p_value_at_the_limit_does_not_separate(self, monkeypatch):
        monkeypatch.setattr(command, "SIGNIFICANCE", 2 / 2**6)
        assert rank_ranges({"a": hand_made([1] * 6), "b": hand_made([2] * 6)}) == {"a": (1, 2), "b": (1, 2)}

    @pytest.mark.parametrize(
        ("images", "ranks"), [(6, {1: (1, 3), 2: (1, 3), 3: (1, 3)}), (7, {1: (1, 1), 2: (2, 2), 3: (3, 3)})]
    )
    def test_the_p_values_of_all_pairs_are_adjusted(self, images, ranks):
        # Of seven images the smallest adjusted p-value is 3 * 2 / 2^7 = 0.047, of six 0.094.
        assert rank_ranges({key: hand_made([key] * images) for key in (3, 1, 2)}) == ranks

    def test_a_range_goes_from_the_better_runs_to_the_worse(self):
        runs = {"poor": hand_made([9] * 12), "good": hand_made([1] * 12), "twin": hand_made([1] * 11 + [2])}
        assert rank_ranges(runs) == {"good": (1, 2), "twin": (1, 2), "poor": (3, 3)}

    def test_captions_of_an_image_count_once(self):
        images = [f"flickr30k/{n // 5}" for n in range(20)]
        better, worse = (hand_made([rank] * 20, relevant_ids=images) for rank in (1, 2))
        assert rank_ranges({"a": better, "b": worse}) == {"a": (1, 2), "b": (1, 2)}

    @pytest.mark.parametrize(
        ("metric", "better", "worse", "separated"),
        [
            ("recall_at_1", 2, 9, False),
            ("recall_at_1", 1, 2, True),
            ("recall_at_100", 100, 101, True),
            ("median_rank", 10, 11, True),
            ("median_rank", 11, 90, False),
        ],
    )
    def test_the_tested_score_is_the_one_that_sorts(self, metric, better, worse, separated):
        runs = {"a": hand_made([better] * 6, corpus_size=500), "b": hand_made([worse] * 6, corpus_size=500)}
        assert rank_ranges(runs, metric) == ({"a": (1, 1), "b": (2, 2)} if separated else {"a": (1, 2), "b": (1, 2)})

    def test_the_leading_score_is_tested_unless_told_otherwise(self):
        assert rank_ranges({"a": hand_made([2] * 6), "b": hand_made([3] * 6)}) == {"a": (1, 1), "b": (2, 2)}

    def test_runs_with_other_queries_or_images_get_no_rank(self):
        first, second = hand_made([1] * 6), hand_made([2] * 6)
        others = {
            "fewer": hand_made([9] * 5),
            "queries": hand_made([9] * 6, query_ids=[f"other{n}" for n in range(6)]),
            "images": hand_made([9] * 6, relevant_ids=[f"other{n}" for n in range(6)]),
        }
        assert rank_ranges({"a": first, **others, "b": second}) == {"a": (1, 1), "b": (2, 2)}

    def test_one_run_is_first_and_none_has_no_rank(self):
        assert rank_ranges({"a": hand_made([5])}) == {"a": (1, 1)}
        assert rank_ranges({}) == {}

    def test_sums_that_differ_by_rounding_are_no_difference(self):
        # The same three ranks in another order: their gains add up to sums that differ in the last bit.
        order, other = (1, 2, 8), (1, 8, 2)
        images = [f"flickr30k/{n // 3}" for n in range(24)]
        a, b = (hand_made([*ranks] * 8, relevant_ids=images) for ranks in (order, other))
        sums = [cluster_sums(run.scores("ndcg_at_10"), run.clusters).sums for run in (a, b)]
        assert (sums[0] != sums[1]).all()
        assert rank_ranges({"a": a, "b": b}) == {"a": (1, 2), "b": (1, 2)}


def put(name: str, ranks: list[int], content_id: str = CONTENT_ID, **info) -> RunRecord:
    given = info_of(model_name=name, content_id=content_id, query_count=len(ranks), **info)
    return write_run_record(table_of(hand_made(ranks)), {**given, "content_id": content_id, "model_name": name})


def test_a_table_says_what_was_searched(home):
    sources = {"imagenet": {"images": 80, "captioned": 0}, "flickr30k": {"images": 20, "captioned": 20}}
    put("a", [1, 2], sources=sources)
    document = build_leaderboard().document
    assert document["schema_version"] == 2
    assert document["sorted_by"] == "ndcg_at_10"
    assert document["reported"] == []
    (table,) = document["tables"]
    assert {name: table[name] for name in TABLE if name not in ("rows", "chance")} == {
        "task": "VehicleImageSearch",
        "title": "VehicleImageSearch",
        "content_id": CONTENT_ID,
        "images_id": None,
        "sources_id": None,
        "corpus_size": 100,
        "query_count": 2,
        "sources": {"flickr30k": 20, "imagenet": 80},
        "one_relevant": True,
    }
    assert table["chance"]["recall_at_10"] == pytest.approx(0.1)
    assert list(table["sources"]) == ["flickr30k", "imagenet"]
    assert violations(document) == []


def test_without_a_record_the_sizes_are_not_known(home, write_result):
    write_result("org/only", {"ndcg_at_10": 0.5})
    (table,) = build_leaderboard().document["tables"]
    assert (table["corpus_size"], table["query_count"], table["sources"]) == (None, None, None)
    assert (table["task"], table["content_id"]) == ("VehicleImageSearch", CONTENT_ID)


@pytest.mark.parametrize("sort", sortable())
def test_rows_are_sorted_best_first_then_by_name_and_those_without_the_score_last(home, write_result, sort):
    put("c/best", [1, 1, 1])
    put("a/middle", [1, 50, 60])
    put("b/middle", [1, 50, 60])
    put("b/middle", [1, 50, 60], model_revision="1" * 40)
    put("a/worst", [70, 80, 90])
    if sort != "ndcg_at_10":
        write_result("a/none", {"ndcg_at_10": 0.999})
    rows = build_leaderboard(sort=sort).document["tables"][0]["rows"]
    names = [(row["model"], row["revision"][0]) for row in rows]
    middle = [("a/middle", "0"), ("b/middle", "0"), ("b/middle", "1")]
    best, worst = [("c/best", "0")], [("a/worst", "0")]
    expected = [*best, *middle, *worst]
    if sort == "recall_at_100":
        expected = sorted(expected)
    assert names == [*expected, *([] if sort == "ndcg_at_10" else [("a/none", "0")])]
    assert [row["model"] for row in rows if row["rank"] is None] == ([] if sort == "ndcg_at_10" else ["a/none"])


def test_the_scores_to_sort_by():
    assert (*(name for name in row_columns() if name in scored()), "median_rank") == sortable()


def test_ranks_are_of_the_score_that_sorts(home):
    put("a", [1] * 8)
    put("b", [2] * 8)
    for sort, ranks in (("ndcg_at_10", [1, 2]), ("recall_at_5", [1, 1])):
        board = build_leaderboard(sort=sort)
        assert [row["rank"] for row in board.document["tables"][0]["rows"]] == ranks
        assert board.document["sorted_by"] == sort


def test_the_entries_are_those_of_the_rows(home, write_result):
    put("worse", [3, 4])
    put("better", [1, 2])
    put("better", [1, 1], content_id="6" * 64)
    write_result("without/record", {"ndcg_at_10": 0.6})
    write_result("without/record", {"ndcg_at_10": 0.6}, content_id="7" * 64, task="VehicleImageSearchMini")
    board = build_leaderboard()
    zero = "0" * 40
    found = {
        key: [(one.row["model"], one.row["revision"], one.ranks and one.ranks.ranks.tolist()) for one in of_set]
        for key, of_set in board.entries.items()
    }
    assert found == {
        (CONTENT_ID, ""): [
            ("better", zero, [1, 2]),
            ("without/record", zero, None),
            ("worse", zero, [3, 4]),
        ],
        ("6" * 64, ""): [("better", zero, [1, 1])],
        ("7" * 64, ""): [("without/record", zero, None)],
    }
    for table in board.document["tables"]:
        assert table["rows"] == [one.row for one in board.entries[table["content_id"], ""]]
    assert [(table["task"], table["content_id"][0]) for table in board.document["tables"]] == [
        ("VehicleImageSearch", "5"),
        ("VehicleImageSearch", "6"),
        ("VehicleImageSearchMini", "7"),
    ]


TOLD = {"images_id": "7" * 64, "sources_id": "5" * 64, "options": {}, "precision": "fp32", "preprocess": "exact"}


def names_and_scores(board) -> list[list[tuple[str, float]]]:
    return [[(row["name"], row["ndcg_at_10"]) for row in table["rows"]] for table in board.document["tables"]]


def test_a_plain_run_two_experiments_and_one_in_bf16_are_four_rows(home, capsys):
    put("org/m", [1, 1, 1, 1], **TOLD)
    put("org/m", [1, 1, 1, 3], **{**TOLD, "options": {"embed_dim": "64"}})
    put("org/m", [9, 9, 9, 9], **{**TOLD, "options": {"embed_dim": "32", "task": "x"}})
    put("org/m", [1, 1, 3, 3], **{**TOLD, "precision": "bf16"})
    board = build_leaderboard()
    (rows,) = names_and_scores(board)
    assert rows == [
        ("org/m[precision=fp32]", 1.0),
        ("org/m[embed_dim=64]", 0.875),
        ("org/m[precision=bf16]", 0.75),
        ("org/m[embed_dim=32,task=x]", 0.30103),
    ]
    (table,) = board.document["tables"]
    assert [row["options"] for row in table["rows"]][3] == {"embed_dim": "32", "task": "x"}
    assert {row["model"] for row in table["rows"]} == {"org/m"}
    assert violations(board.document) == []
    for format in ("table", "markdown", "csv"):
        assert run("--format", format) == 0
        text = capsys.readouterr().out.replace("\\", "")
        assert all(name in text for name, _ in rows)


def test_an_experiment_of_an_earlier_version_does_not_replace_the_plain_result(home, write_result):
    """As the README's `embed_dim=` had it: one record for both, that of the run that came last."""
    put("org/m", [9, 9], precision="fp32")
    write_result("org/m", {"ndcg_at_10": 0.5996}, meta={"experiment_kwargs": None})
    scores = {"ndcg_at_10": 0.30103}
    path = write_result("org/m", scores, revision=f"{'0' * 40}/experiments/embed_dim_64")
    meta = {"name": "org/m", "revision": "0" * 40, "experiment_kwargs": {"embed_dim": 64}}
    (path.parent / "model_meta.json").write_text(json.dumps(meta))
    board = build_leaderboard()
    assert names_and_scores(board) == [[("org/m", 0.5996), ("org/m[embed_dim=64]", 0.30103)]]
    assert [row["has_run_record"] for row in board.document["tables"][0]["rows"]] == [False, True]


def test_runs_over_other_pixels_have_tables_of_their_own(home, capsys):
    put("org/m", [1, 1], **TOLD)
    put("org/m", [9, 9], **{**TOLD, "images_id": "8" * 64})
    put("org/other", [9, 9], **{**TOLD, "images_id": "9" * 64, "sources_id": "6" * 64})
    board = build_leaderboard()
    assert names_and_scores(board) == [[("org/m", 1.0)], [("org/m", 0.30103)], [("org/other", 0.30103)]]
    assert [table["images_id"][0] for table in board.document["tables"]] == ["7", "8", "9"]
    assert run() == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "images id 777777777777" in text
    start = "Not comparable with the table of images id 777777777777: one content id, but"
    assert f"{start} the same photographs encoded otherwise." in text
    assert f"{start} other images." in text


def test_a_run_that_does_not_tell_its_images_joins_the_only_ones(home, write_result):
    put("org/m", [1, 1], **TOLD)
    write_result("org/old", {"ndcg_at_10": 0.5})
    assert names_and_scores(build_leaderboard()) == [[("org/m", 1.0), ("org/old", 0.5)]]
    put("org/m", [9, 9], **{**TOLD, "images_id": "8" * 64})
    tables = names_and_scores(build_leaderboard())
    assert tables == [[("org/old", 0.5)], [("org/m", 1.0)], [("org/m", 0.30103)]]


def test_a_set_has_the_title_and_the_task_of_its_newest_run(home, write_result):
    put("org/a", [1, 1], **TOLD, task_name="Old", title="Old title", finished="2025")
    put("org/b", [1, 9], **TOLD, task_name="DogImageSearch", title="Dogs", finished="2026")
    # A result does not tell the title.
    write_result("org/c", {"ndcg_at_10": 0.1}, task="Other")
    (table,) = build_leaderboard().document["tables"]
    assert (table["task"], table["title"], len(table["rows"])) == ("DogImageSearch", "Dogs", 3)
    (table,) = build_leaderboard(task="Old").document["tables"]
    assert (table["task"], table["title"]) == ("Old", "Old title")
    assert [row["name"] for row in table["rows"]] == ["org/a"]


def test_a_leaderboard_of_version_1_is_read_as_one_of_version_2(runs, tmp_path):
    document = build_leaderboard([ROOT / "results" / "reported.json", runs["good"].folder]).document
    old = json.loads(to_json({**document, "schema_version": 1}))
    for table in old["tables"]:
        del table["title"], table["images_id"], table["sources_id"]
        for row in table["rows"]:
            del row["name"], row["options"], row["preprocess"]
            row["licence"] = row.pop("license")
    for row in old["reported"]:
        del row["corpus_size"], row["query_count"], row["content_id"]
    path = tmp_path / "leaderboard.json"
    path.write_text(to_json(old))
    read = read_leaderboard(path)
    unknown = dict.fromkeys(("corpus_size", "query_count", "content_id"))
    assert read == {**document, "reported": [{**row, **unknown} for row in document["reported"]]}
    del old["tables"][0]["rows"][0]["licence"]
    path.write_text(to_json(old))
    with pytest.raises(ResultsError, match=r"rows\[0\]\.license is missing"):
        read_leaderboard(path)


def test_a_record_that_cannot_be_used_makes_no_row_but_its_result_does(home, write_result):
    record = put("org/model", [1, 2])
    (record.folder / "queries.parquet").write_bytes(b"")
    put("org/other", [1])
    assert [row["model"] for row in build_leaderboard().document["tables"][0]["rows"]] == ["org/other"]
    write_result("org/model", {"ndcg_at_10": 0.5})
    board = build_leaderboard()
    rows = {row["model"]: row["has_run_record"] for row in board.document["tables"][0]["rows"]}
    assert rows == {"org/model": False, "org/other": True}
    assert [one.path for one in board.skipped] == [record.folder]


def test_only_the_named_task(home, write_result):
    put("a", [1])
    put("b", [1], content_id="6" * 64, task_name="VehicleImageSearchMini")
    write_result("c", {"ndcg_at_10": 0.5}, task="VehicleImageSearchMini", content_id="7" * 64)
    assert [table["task"] for table in build_leaderboard(task="VehicleImageSearch").document["tables"]] == [
        "VehicleImageSearch"
    ]
    tables = build_leaderboard(task="VehicleImageSearchMini").document["tables"]
    assert [table["content_id"][0] for table in tables] == ["6", "7"]


def test_where_it_looks(home, write_result, tmp_path):
    put("recorded", [1])
    write_result("written", {"ndcg_at_10": 0.5})
    moved = tmp_path / "elsewhere"
    shutil.move(str(put("moved", [1]).folder), moved / "a")

    def models(*arguments, **options) -> list[str]:
        tables = build_leaderboard(*arguments, **options).document["tables"]
        return sorted(row["model"] for table in tables for row in table["rows"])

    assert models() == ["recorded", "written"]
    assert models([Path("results")]) == ["written"]
    with pytest.raises(ResultsError, match="no usable results"):
        models([])
    assert models(runs=moved) == ["moved", "written"]
    assert models([moved]) == ["moved"]
    assert models([Path("results")], runs=moved) == ["written"]


def test_nothing_usable_says_where_it_looked_and_what_was_wrong(home, write_result):
    path = write_result("org/model", {"ndcg_at_10": 5})
    with pytest.raises(ResultsError) as refused:
        build_leaderboard()
    said = str(refused.value)
    assert said.startswith(f"There are no usable results in results, {home / 'runs'}.")
    assert f"{path.relative_to(Path.cwd())}: its score ndcg_at_10 is 5, not between 0 and 1" in said
    assert "mteb run -t VehicleImageSearchMini -m vehicle-search/tiny-clip" in said


def test_published_figures_alone_are_a_leaderboard(home, tmp_path):
    entry = {"task_name": "VehicleImageSearch", "model_name": "M", "source": "s", "scores": {"ndcg_at_10": 0.5}}
    path = tmp_path / "reported.json"
    path.write_text(json.dumps({"schema_version": 1, "reported": [entry]}))
    document = build_leaderboard([path]).document
    assert document["tables"] == []
    assert [row["model"] for row in document["reported"]] == ["M"]
    shutil.copy(path, home.parent / "work")
    (home / "runs").mkdir(parents=True)
    shutil.copy(path, home / "runs")
    assert len(build_leaderboard().document["reported"]) == 1


def test_the_arguments_and_their_defaults():
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    assert vars(parser.parse_args([])) == {
        "results": [],
        "task": None,
        "sort": "ndcg_at_10",
        "columns": None,
        "format": "table",
        "out": None,
        "runs": None,
        "judgments": None,
        "no_judgments": False,
    }
    given = ["a", "b", "--task", "T", "--sort", "median_rank", "--columns", "date,device", "--format", "csv"]
    given = [*given, "--out", "o", "--runs", "r", "--no-judgments"]
    assert vars(parser.parse_args(given)) == {
        "results": [Path("a"), Path("b")],
        "task": "T",
        "sort": "median_rank",
        "columns": ["date", "device"],
        "format": "csv",
        "out": Path("o"),
        "runs": Path("r"),
        "judgments": None,
        "no_judgments": True,
    }
    for format in ("table", "markdown", "json", "csv"):
        assert parser.parse_args(["--format", format]).format == format
    for wrong in (["--sort", "beauty"], ["--format", "html"]):
        with pytest.raises(SystemExit):
            parser.parse_args(wrong)
    text = " ".join(parser.format_help().split())
    assert all(words in text for words in ("[RESULTS ...]", "--out FILE", "--runs FOLDER"))


def test_the_command_passes_on_what_it_is_told(home, write_result, tmp_path, capsys):
    put("a", [1, 1])
    put("b", [5, 1], task_name="VehicleImageSearchMini", content_id="6" * 64)
    write_result("c", {"ndcg_at_10": 0.5})

    def document(*arguments: str) -> dict:
        assert run(*arguments, "--format", "json") == 0
        return json.loads(capsys.readouterr().out)

    assert document() == build_leaderboard().document
    assert document("results") == build_leaderboard([Path("results")]).document
    assert document("--task", "VehicleImageSearchMini") == build_leaderboard(task="VehicleImageSearchMini").document
    assert document("--sort", "median_rank")["sorted_by"] == "median_rank"
    (tmp_path / "empty").mkdir()
    tables = document("--runs", str(tmp_path / "empty"))["tables"]
    assert [row["model"] for table in tables for row in table["rows"]] == ["c"]


@pytest.mark.parametrize(
    ("format", "start"), [("markdown", "**Veh"), ("json", "{"), ("csv", "task,"), ("table", "**V")]
)
def test_a_file_gets_the_text_that_the_terminal_would(home, tmp_path, capsys, format, start):
    put("größer", [1])
    assert run("--format", format, "--out", str(tmp_path / "out")) == 0
    assert capsys.readouterr().out == ""
    text = (tmp_path / "out").read_text(encoding="utf-8")
    assert text.startswith(start)
    assert "größer" in text
    if format != "table":
        assert run("--format", format) == 0
        assert capsys.readouterr().out == text


class TestWriting:
    """`write_text`: a file is whole or not there."""

    def test_bytes_are_utf_8_with_plain_line_ends(self, tmp_path):
        write_text(tmp_path / "file", "größer\n≥\n")
        assert (tmp_path / "file").read_bytes() == "größer\n≥\n".encode()
        assert [path.name for path in tmp_path.iterdir()] == ["file"]

    def test_an_earlier_file_is_replaced_in_one_step(self, tmp_path, monkeypatch):
        (tmp_path / "file").write_text("old")
        seen = []

        def replace(partial: Path, target: Path) -> None:
            seen.append((partial.parent, partial.read_text(), target.read_text()))
            partial.rename(target)

        monkeypatch.setattr(Path, "replace", replace)
        write_text(tmp_path / "file", "new")
        assert seen == [(tmp_path, "new", "old")]
        assert (tmp_path / "file").read_text() == "new"

    def test_a_failure_leaves_the_earlier_file_and_nothing_else(self, tmp_path, monkeypatch):
        (tmp_path / "file").write_text("old")

        def fail(partial: Path, target: Path) -> None:
            assert partial.exists()
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Path, "replace", fail)
        with pytest.raises(ResultsError, match=r"file cannot be written: No space left on device\.$"):
            write_text(tmp_path / "file", "new")
        assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("file", "old")]

    def test_a_missing_folder_is_a_plain_refusal(self, tmp_path):
        with pytest.raises(ResultsError, match="cannot be written: No such file or directory"):
            write_text(tmp_path / "nowhere" / "file", "text")


def test_a_leaderboard_that_cannot_be_read_is_named(tmp_path):
    path = tmp_path / "board.json"
    with pytest.raises(ResultsError, match=r"board\.json is not readable"):
        read_leaderboard(path)
    path.write_text("{")
    with pytest.raises(ResultsError, match=r"board\.json is not readable"):
        read_leaderboard(path)
    path.write_text("[]")
    with pytest.raises(ResultsError, match="not a leaderboard of version 2: document is not an object"):
        read_leaderboard(path)
    for constant in ("NaN", "Infinity", "-Infinity"):
        path.write_text(f'{{"schema_version": {constant}}}')
        with pytest.raises(ResultsError, match=f"{constant} is not JSON"):
            read_leaderboard(path)
    empty = {"schema_version": 2, "sorted_by": "größe", "tables": [], "reported": []}
    path.write_text(json.dumps(empty, ensure_ascii=False), encoding="utf-8")
    assert read_leaderboard(path) == empty


def test_skipped_files_are_named_on_stderr_line_by_line(home, write_result, capsys):
    put("a", [1])
    for name in ("x", "y"):
        (Path("results") / name).mkdir(parents=True)
        (Path("results") / name / "bad.json").write_text("[]")
    assert run() == 0
    assert capsys.readouterr().err.splitlines() == [
        f"skipped {Path('results') / name / 'bad.json'}: it is not a JSON object" for name in ("x", "y")
    ]
