"""Scores by query against ir_measures; damaged run records."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import ir_measures
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ir_measures import AP, RR, P, Qrel, R, ScoredDoc, nDCG

from mteb_vehicle_search.analysis.ranks import METRICS, load_ranks
from mteb_vehicle_search.analysis.selection import choose_runs, find_runs
from mteb_vehicle_search.errors import ResultsError
from mteb_vehicle_search.run_record import RunRecord, write_run_record

MEASURES = [nDCG @ 10, AP @ 10, RR @ 10, R @ 1, R @ 5, R @ 10, R @ 100, P @ 10]


@pytest.mark.parametrize("several", [False, True])
def test_scores_agree_with_trec_eval(home, runs, several):
    generator, size = np.random.default_rng(8), 150
    qrels, run, rows = [], [], []
    for query in range(60):
        ranks = np.sort(generator.choice(size, 1 + several * int(generator.integers(0, 14)), replace=False)) + 1
        if query < 20:
            ranks = ranks[:1] % 10 + 1
        relevant = {int(rank): f"flickr30k/{query}-{rank}" for rank in ranks}
        for rank in range(1, size + 1):
            document = relevant.get(rank, f"imagenet/{rank}")
            run.append(ScoredDoc(f"q{query:02d}", document, float(-rank)))
        for rank, document in relevant.items():
            qrels.append(Qrel(f"q{query:02d}", document, 1))
            rows.append((f"q{query:02d}", document, rank))
    info = {**runs["good"].info, "corpus_size": size}
    info.pop("schema_version")
    ranks = np.array([row[2] for row in rows])
    table = pa.table(
        {
            "query_id": [row[0] for row in rows],
            "relevant_id": [row[1] for row in rows],
            "rank": pa.array(ranks, pa.int32()),
            "above_flickr30k": pa.array(np.zeros(len(ranks)), pa.int32()),
            "above_imagenet": pa.array(ranks - 1, pa.int32()),
            "top_ids": pa.array([[] for _ in ranks], pa.list_(pa.string())),
        }
    )
    found = load_ranks(write_run_record("8" * 64, "some/model", "1", table, info))
    assert found.one_relevant is not several
    expected = {(str(m.measure), m.query_id): m.value for m in ir_measures.iter_calc(MEASURES, qrels, run)}
    for metric, measure in zip(METRICS, MEASURES):
        by_query = [expected[str(measure), f"q{query:02d}"] for query in range(60)]
        np.testing.assert_allclose(found.scores(metric), by_query, atol=1e-9, err_msg=metric)


def test_queries_that_share_a_relevant_image_are_one_cluster(runs):
    record = runs["good"]
    table = record.queries().slice(0, 11)
    link = table.slice(0, 1).set_column(1, "relevant_id", pa.array([table["relevant_id"][10].as_py()]))
    info = {key: value for key, value in record.info.items() if key != "schema_version"}
    found = load_ranks(write_run_record("8" * 64, "some/model", "1", pa.concat_tables([table, link]), info))
    # Images 0 and 2 are linked by the first query; image 1 stands alone.
    assert len(found.clusters) == 11
    assert len(set(found.clusters[:5].tolist()) | {found.clusters[10]}) == 1
    assert len(set(found.clusters.tolist())) == 2


def damage_rank(folder):
    table = pq.read_table(folder / "queries.parquet")
    ranks = table["rank"].to_numpy().copy()
    ranks[7] += 1
    pq.write_table(table.set_column(2, "rank", pa.array(ranks)), folder / "queries.parquet")


def drop_rank(folder):
    table = pq.read_table(folder / "queries.parquet")
    pq.write_table(table.drop_columns(["rank"]), folder / "queries.parquet")


def repeat_query(folder):
    table = pq.read_table(folder / "queries.parquet")
    pq.write_table(pa.concat_tables([table, table.slice(0, 1)]), folder / "queries.parquet")


def forget_sources(folder):
    info = json.loads((folder / "run.json").read_text())
    info["sources"] = {"flickr30k": info["sources"]["flickr30k"]}
    (folder / "run.json").write_text(json.dumps(info))


def empty(folder):
    table = pq.read_table(folder / "queries.parquet")
    pq.write_table(table.slice(0, 0), folder / "queries.parquet")


def truncate(folder):
    path = folder / "queries.parquet"
    path.write_bytes(path.read_bytes()[:1000])


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (damage_rank, "10000001_caption_02 has the impossible rank"),
        (drop_rank, "no column rank"),
        (repeat_query, "occurs twice"),
        (forget_sources, "different sources"),
        (empty, "no rows"),
        (truncate, "cannot be read"),
    ],
)
def test_damaged_records_are_refused(runs, damage, words):
    damage(runs["good"].folder)
    with pytest.raises(ResultsError, match=words):
        load_ranks(RunRecord.open(runs["good"].folder))


def test_mixed_sources_cannot_be_told_apart(runs):
    ranks = load_ranks(runs["good"])
    ranks.record.info["sources"]["flickr30k"]["captioned"] = 1
    with pytest.raises(ResultsError, match="captioned and uncaptioned"):
        _ = ranks.distractors_above


def test_a_model_is_named_by_name_revision_or_folder(runs):
    record = runs["good"]
    for text in ("simulated/good", "simulated/good@0000", str(record.folder)):
        assert [found.folder for found in find_runs(text)] == [record.folder]


def test_an_unknown_model_lists_the_known_ones(runs):
    with pytest.raises(ResultsError, match="simulated/poor"):
        find_runs("some/other")
    with pytest.raises(ResultsError, match="--task Elsewhere"):
        find_runs("simulated/good", task="Elsewhere")


def test_without_runs_it_says_how_to_make_one(home):
    with pytest.raises(ResultsError, match="mteb run"):
        find_runs("simulated/good")


def test_records_among_the_results_of_the_working_directory_are_found(home, runs, capsys):
    place = Path("results") / "runs" / "5" / "elsewhere"
    shutil.copytree(runs["good"].folder, place)
    info = json.loads((place / "run.json").read_text())
    (place / "run.json").write_text(json.dumps({**info, "finished": "2027-01-01"}))
    assert [found.folder for found in find_runs("simulated/good")] == [place]
    shutil.rmtree(home)
    assert [found.folder for found in find_runs("simulated/good")] == [place]
    assert [found.folder for found in find_runs("simulated/good", place.parent)] == [place]
    (place / "run.json").write_text("{")
    with pytest.raises(ResultsError, match="no run records under results"):
        find_runs("simulated/good")
    assert f"skipped {place / 'run.json'}: {place} is not a run record" in capsys.readouterr().err


def test_the_user_chooses_among_revisions(runs):
    info = {key: value for key, value in runs["good"].info.items() if key != "schema_version"}
    again = write_run_record(
        info["content_id"], "simulated/good", "1" * 40, runs["good"].queries(), {**info, "model_revision": "1" * 40}
    )
    with pytest.raises(ResultsError, match="simulated/good@REVISION"):
        choose_runs(["simulated/good"])
    assert choose_runs(["simulated/good@1"])[0].folder == again.folder
