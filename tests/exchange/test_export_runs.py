"""`vehicle-search export`: what other programs get of a run, and that it comes back the same."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import ir_measures
import numpy as np
import pyarrow.parquet as pq
import pytest
from hand_made_runs import hand_made, info_of, table_of
from small_set import small_set
from trec_runs import drawn_lines, ranks_of, write_trec

from mteb_vehicle_search import cli
from mteb_vehicle_search.analysis.ranks import load_ranks
from mteb_vehicle_search.analysis.selection import choose_runs
from mteb_vehicle_search.errors import ResultsError
from mteb_vehicle_search.eval_set import EvalSet
from mteb_vehicle_search.exchange import export
from mteb_vehicle_search.exchange.importing import import_run
from mteb_vehicle_search.metrics import scored
from mteb_vehicle_search.run_record import RunRecord, write_run_record
from mteb_vehicle_search.settings import mini_folder

RUNS = Path(__file__).parents[2] / "results" / "runs"
MODELS = ("vehicle-search/tiny-clip", "test/damaged-tiny-clip", "mteb/baseline-random-encoder")


@pytest.fixture
def of_mini(request):
    (record,) = choose_runs([request.param], RUNS)
    return load_ranks(record)


@pytest.mark.parametrize("of_mini", MODELS, indirect=True)
def test_a_run_comes_back_with_the_same_ranks(of_mini, tmp_path):
    export.write_trec(tmp_path / "a.trec", export.places(of_mini), "tag")
    record, found = import_run(tmp_path / "a.trec", "came/back", EvalSet.open(mini_folder()))
    back = load_ranks(record)
    assert np.array_equal(back.ranks, of_mini.ranks)
    assert (found.depth, found.reads_ranks, found.gaps) == (None, True, True)
    assert all(np.array_equal(back.scores(metric), of_mini.scores(metric)) for metric in scored())
    # Other programs agree as far as rank 10.
    qrels = [ir_measures.Qrel(one.query_id, one.corpus_id, one.score) for one in EvalSet.open(mini_folder()).qrels()]
    run = ir_measures.read_trec_run(str(tmp_path / "a.trec"))
    measures = {"ndcg_at_10": "nDCG@10", "map_at_10": "AP@10", "recall_at_1": "R@1", "recall_at_10": "R@10"}
    found = ir_measures.calc_aggregate(map(ir_measures.parse_measure, measures.values()), qrels, run)
    for key, name in measures.items():
        assert found[ir_measures.parse_measure(name)] == pytest.approx(float(of_mini.scores(key).mean()), abs=1e-9)


@pytest.mark.parametrize("of_mini", MODELS[:1], indirect=True)
def test_the_top_alone_comes_back_cut_off_at_ten(of_mini, tmp_path):
    export.write_trec(tmp_path / "a.trec", export.places(of_mini, top_only=True), "tag")
    record, found = import_run(tmp_path / "a.trec", "came/back", EvalSet.open(mini_folder()))
    back = load_ranks(record)
    assert found.depth == 10
    known = [metric for metric in scored() if back.knows(metric)]
    assert {*scored()} - {*known} == {"recall_at_100"}
    assert all(np.array_equal(back.scores(metric), of_mini.scores(metric)) for metric in known)


@pytest.mark.parametrize("levels", [2, 1_000])
def test_scores_fall_strictly_and_relevant_images_stand_at_their_ranks(tmp_path, levels):
    """With two levels of scores, most images are equals of the relevant one."""
    data = small_set(tmp_path / "set")
    lines = drawn_lines(data, levels=levels)
    record, _ = import_run(write_trec(tmp_path / "a.trec", lines), "some/run", data)
    found = list(export.places(load_ranks(record)))
    expected = ranks_of(data, lines)
    assert {(one.query_id, one.image_id): one.rank for one in found if one.grade} == expected
    assert {one.grade for one in found} == {0, 1}
    for one, after in pairwise(found):
        if one.query_id == after.query_id:
            assert (one.score > after.score, one.rank < after.rank) == (True, True)
    assert [one.rank for one in found if one.query_id == found[0].query_id][:10] == list(range(1, 11))


def test_what_a_cut_run_does_not_tell_is_not_written(tmp_path):
    data = small_set(tmp_path / "set")
    lines = drawn_lines(data, 4)
    record, _ = import_run(write_trec(tmp_path / "a.trec", lines), "some/run", data)
    found = [(one.query_id, one.image_id, one.rank) for one in export.places(load_ranks(record))]
    assert found == [line[:3] for line in lines]


def test_the_command_writes_trec_and_says_what_it_is_for(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["export", MODELS[0], "--runs", str(RUNS)]
    assert cli.main(words) == 0
    shown = capsys.readouterr()
    path = tmp_path / "vehicle-search__tiny-clip.trec"
    assert shown.out == f"{path}\n"
    assert "Scores as far as rank 10 are exact in every program" in shown.err
    query, q0, image, rank, score, tag = path.read_text().splitlines()[0].split(" ")
    assert (query, q0, image, rank, tag) == (
        "000000_caption_00",
        "Q0",
        "drawn/000000",
        "1",
        "vehicle-search__tiny-clip",
    )
    assert 0 < float(score) < 1
    before = path.read_bytes()
    assert cli.main(words) == 2
    assert "exists already" in capsys.readouterr().err
    assert cli.main([*words, "--top-only", "--out", "top.trec"]) == 0
    assert capsys.readouterr().err == ""
    assert len(Path("top.trec").read_text().splitlines()) == 10_000 < len(before.splitlines())


def test_the_command_writes_parquet(tmp_path, capsys):
    out = tmp_path / "run.parquet"
    assert cli.main(["export", MODELS[0], "--runs", str(RUNS), "--format", "parquet", "--out", str(out)]) == 0
    table = pq.read_table(out)
    assert [(field.name, str(field.type)) for field in table.schema] == [
        ("query_id", "string"),
        ("image_id", "string"),
        ("rank", "int32"),
        ("score", "float"),
        ("grade", "int32"),
    ]
    ranks = load_ranks(choose_runs([MODELS[0]], RUNS)[0]).ranks
    relevant = table.filter(table["grade"].to_numpy() > 0)
    assert sorted(relevant["rank"].to_pylist()) == sorted(ranks.tolist())
    assert table.schema.metadata[b"model_name"] == MODELS[0].encode()
    assert capsys.readouterr().err == ""


def test_ids_with_blanks_are_refused_in_trec(tmp_path):
    run = hand_made([1, 2], query_ids=["a b", "c"])
    table = table_of(run)
    columns = {"score": [0.5, 0.25], "top_scores": [[], []]}
    for name, values in columns.items():
        if name not in table.column_names:
            table = table.append_column(name, [values])
    record = write_run_record(table, info_of(content_id="5" * 64, model_name="a/b"))
    with pytest.raises(ResultsError, match="ids hold blanks"):
        export.write_trec(tmp_path / "a.trec", export.places(load_ranks(RunRecord.open(record.folder))), "tag")
    assert not (tmp_path / "a.trec").exists()
