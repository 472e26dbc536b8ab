"""Scores by query against ir_measures; damaged run records."""

from __future__ import annotations

import json

import ir_measures
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hand_made_runs import hand_made, info_of, table_of
from ir_measures import AP, RR, P, Qrel, R, ScoredDoc, nDCG

from mteb_vehicle_search.analysis.ranks import load_ranks
from mteb_vehicle_search.errors import ResultsError
from mteb_vehicle_search.metrics import scored
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
    found = load_ranks(
        write_run_record(table, {**info, "content_id": "8" * 64, "model_name": "some/model", "model_revision": "1"})
    )
    assert found.one_relevant is not several
    expected = {(str(m.measure), m.query_id): m.value for m in ir_measures.iter_calc(MEASURES, qrels, run)}
    for metric, measure in zip(scored(), MEASURES):
        by_query = [expected[str(measure), f"q{query:02d}"] for query in range(60)]
        np.testing.assert_allclose(found.scores(metric), by_query, atol=1e-9, err_msg=metric)


def test_queries_that_share_a_relevant_image_are_one_cluster(runs):
    record = runs["good"]
    table = record.queries().slice(0, 11)
    link = table.slice(0, 1).set_column(1, "relevant_id", pa.array([table["relevant_id"][10].as_py()]))
    info = {key: value for key, value in record.info.items() if key != "schema_version"}
    found = load_ranks(
        write_run_record(
            pa.concat_tables([table, link]),
            {**info, "content_id": "8" * 64, "model_name": "some/model", "model_revision": "1"},
        )
    )
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


def written(table: pa.Table, **changed) -> RunRecord:
    return write_run_record(
        table, {**info_of(**changed), "content_id": "7" * 64, "model_name": "some/model", "model_revision": "1"}
    )


def test_the_metrics_in_the_order_of_the_columns():
    assert scored() == (
        "ndcg_at_10",
        "map_at_10",
        "mrr_at_10",
        "recall_at_1",
        "recall_at_5",
        "recall_at_10",
        "recall_at_100",
        "precision_at_10",
    )


@pytest.mark.parametrize("metric", scored())
def test_one_relevant_image_counts_up_to_the_last_rank_and_not_beyond(metric):
    ranks = [1, 2, 5, 6, 10, 11, 100, 101]
    last = int(metric.rsplit("_", 1)[1])
    worth = {"ndcg": lambda r: 1 / np.log2(1 + r), "map": lambda r: 1 / r, "mrr": lambda r: 1 / r}
    worth |= {"recall": lambda r: 1.0, "precision": lambda r: 1 / last}
    expected = [worth[metric.partition("_")[0]](rank) if rank <= last else 0.0 for rank in ranks]
    found = hand_made(ranks, corpus_size=200).scores(metric)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert found.dtype == np.float64


def test_more_relevant_images_than_ranks_that_count_can_all_be_found():
    """The ideal ranking of twelve relevant images has ten of them among the first ten."""
    ids = [f"flickr30k/{n:02d}" for n in range(12)]
    found = hand_made(range(1, 13), query_ids=["q"] * 12, relevant_ids=ids)
    assert found.scores("ndcg_at_10").tolist() == [pytest.approx(1.0)]
    assert found.scores("map_at_10").tolist() == [pytest.approx(10 / 12)]
    assert found.scores("recall_at_10").tolist() == [pytest.approx(10 / 12)]
    assert found.scores("precision_at_10").tolist() == [1.0]


def test_ranks_of_a_query_need_not_rise_with_the_ids_of_its_images():
    found = hand_made([9, 3, 1], query_ids=["a", "a", "b"])
    assert found.scores("map_at_10").tolist() == pytest.approx([(1 / 3 + 2 / 9) / 2, 1.0])
    assert found.scores("mrr_at_10").tolist() == pytest.approx([1 / 3, 1.0])
    assert found.first.tolist() == [0, 2]
    assert found.one_relevant is False


def test_an_unknown_metric_names_the_known_ones():
    with pytest.raises(ResultsError, match="no metric 'ndcg_at_5'") as refused:
        hand_made([1]).scores("ndcg_at_5")
    assert all(metric in str(refused.value) for metric in scored())


def test_queries_about_one_image_are_one_cluster():
    alone = hand_made([1, 2, 3], relevant_ids=["a", "b", "a"])
    assert alone.clusters.tolist() == ["a", "b", "a"]
    # q0: a and b, q1: b and c, q2: d; the images link the first two queries.
    linked = hand_made(range(1, 6), query_ids=["q0", "q0", "q1", "q1", "q2"], relevant_ids=["a", "b", "b", "c", "d"])
    labels = linked.clusters.tolist()
    assert len(labels) == 3
    assert labels[0] == labels[1] != labels[2]


def test_images_above_by_whether_they_have_captions():
    sources = {
        "coco": {"images": 5, "captioned": 5},
        "flickr30k": {"images": 20, "captioned": 20},
        "imagenet": {"images": 70, "captioned": 0},
        "places": {"images": 5, "captioned": 0},
    }
    ranks = hand_made([1, 8, 4], sources=sources)
    above = {"coco": [0, 1, 0], "flickr30k": [0, 1, 0], "imagenet": [0, 3, 1], "places": [0, 2, 2]}
    ranks.above.update({name: np.array(counts) for name, counts in above.items()})
    assert ranks.distractors_above.tolist() == [0, 5, 3]
    assert ranks.captioned_above.tolist() == [0, 2, 0]
    assert ranks.distractors_above.dtype == ranks.captioned_above.dtype == np.int64
    assert ranks.distractors == 75


@pytest.mark.parametrize("captioned", [1, 79])
def test_a_source_with_and_without_captions_hides_which_of_its_images_rank_above(captioned):
    sources = {
        "flickr30k": {"images": 20, "captioned": 20},
        "imagenet": {"images": 80, "captioned": captioned},
    }
    ranks = hand_made([3], sources=sources)
    assert ranks.distractors == 80 - captioned
    with pytest.raises(ResultsError, match=r"by-hand: source 'imagenet' holds captioned and uncaptioned"):
        _ = ranks.captioned_above


def test_rows_are_sorted_by_query_and_image_and_keep_together(home):
    ranks = hand_made(
        [7, 1, 4],
        captioned_above=[2, 0, 3],
        query_ids=["b", "a", "b"],
        relevant_ids=["flickr30k/9", "flickr30k/1", "flickr30k/2"],
        top_ids=[["x"], ["y"], ["z", "x"]],
    )
    record = written(table_of(ranks))
    # As another writer may have left them.
    pq.write_table(table_of(ranks), record.folder / "queries.parquet")
    found = load_ranks(record)
    assert found.record is record
    assert found.query_ids.tolist() == ["a", "b", "b"]
    assert found.relevant_ids.tolist() == ["flickr30k/1", "flickr30k/2", "flickr30k/9"]
    assert found.ranks.tolist() == [1, 4, 7]
    assert {name: counts.tolist() for name, counts in found.above.items()} == {
        "flickr30k": [0, 3, 2],
        "imagenet": [0, 0, 4],
    }
    assert found.top_ids == [["y"], ["z", "x"], ["x"]]
    assert {found.ranks.dtype, *(counts.dtype for counts in found.above.values())} == {np.dtype(np.int64)}


@pytest.mark.parametrize(("rank", "possible"), [(0, False), (1, True), (100, True), (101, False), (-3, False)])
def test_a_rank_lies_between_1_and_the_size_of_the_corpus(home, rank, possible):
    table = table_of(hand_made([2, rank]))
    if possible:
        assert load_ranks(written(table)).ranks.tolist() == [2, rank]
    else:
        with pytest.raises(ResultsError, match=f"query q01 has the impossible rank {rank}") as refused:
            load_ranks(written(table))
        assert "Run the model again." in str(refused.value)


@pytest.mark.parametrize("off", [-1, 1])
def test_a_rank_is_one_more_than_the_images_above_of_all_sources(home, off):
    table = table_of(hand_made([5, 5, 5], captioned_above=[0, 2, 4]))
    at = table.column_names.index("above_flickr30k")
    changed = pa.array([0, 2 + off, 4], pa.int32())
    with pytest.raises(ResultsError, match="query q01 has the impossible rank 5"):
        load_ranks(written(table.set_column(at, "above_flickr30k", changed)))


def test_the_same_pair_twice_is_refused_but_not_the_same_query_or_image(home):
    pairs = hand_made([1, 2, 3], query_ids=["a", "a", "b"], relevant_ids=["x", "y", "y"])
    assert len(load_ranks(written(table_of(pairs))).ranks) == 3
    again = pa.concat_tables([table_of(pairs), table_of(pairs).slice(2)])
    with pytest.raises(ResultsError, match="query b occurs twice") as refused:
        load_ranks(written(again))
    assert "Run the model again." in str(refused.value)


@pytest.mark.parametrize("name", ["query_id", "relevant_id", "rank", "top_ids"])
def test_every_column_is_needed(home, name):
    record = written(table_of(hand_made([1])))
    pq.write_table(table_of(hand_made([1])).drop_columns([name]), record.folder / "queries.parquet")
    with pytest.raises(ResultsError, match=rf"queries\.parquet has no column {name}\.") as refused:
        load_ranks(record)
    assert "Run the model again." in str(refused.value)


@pytest.mark.parametrize("name", ["query_id", "relevant_id", "rank"])
def test_an_empty_cell_is_refused(home, name):
    table = table_of(hand_made([1, 2]))
    at = table.column_names.index(name)
    table = table.set_column(at, name, pa.array([table[name][0].as_py(), None], table[name].type))
    with pytest.raises(ResultsError, match=r"queries\.parquet has empty cells") as refused:
        load_ranks(written(table))
    assert "Run the model again." in str(refused.value)


@pytest.mark.parametrize("key", ["content_id", "model_name", "task_name", "corpus_size"])
def test_every_field_is_needed(home, key):
    record = written(table_of(hand_made([1])))
    record.info[key] = None
    with pytest.raises(ResultsError, match=rf"run\.json does not say '{key}'") as refused:
        load_ranks(record)
    assert "Run the model again." in str(refused.value)


@pytest.mark.parametrize("bad", ["5", [5], {}, -1, 1.5, True, 10**30, float("nan")])
@pytest.mark.parametrize("key", ["corpus_size", "query_count", "images", "captioned"])
def test_a_count_is_a_whole_number(home, key, bad):
    record = written(table_of(hand_made([1])))
    sources = {name: dict(counts) for name, counts in record.info["sources"].items()}
    of = record.info if key in record.info else sources["imagenet"]
    of[key], record.info["sources"] = bad, sources
    with pytest.raises(ResultsError, match=rf"run\.json: {key}.* is not a whole number") as refused:
        load_ranks(record)
    assert "Run the model again." in str(refused.value)


@pytest.mark.parametrize("name", ["query_id", "relevant_id", "rank", "above_imagenet", "top_ids"])
def test_a_column_of_another_type_is_refused(home, name):
    table = table_of(hand_made([1, 2]))
    at = table.column_names.index(name)
    other = pa.array([1.5, 2.5])
    with pytest.raises(ResultsError, match=rf"queries\.parquet: column {name} is of another type"):
        load_ranks(written(table.set_column(at, name, other)))


@pytest.mark.parametrize(
    "sources",
    [
        None,
        ["flickr30k", "imagenet"],
        {"flickr30k": {"images": 20, "captioned": 20}},
        {"flickr30k": {}, "imagenet": {}, "places": {}},
    ],
)
def test_the_record_and_its_table_name_the_same_sources(home, sources):
    with pytest.raises(ResultsError, match="name different sources") as refused:
        load_ranks(written(table_of(hand_made([1])), sources=sources))
    assert "Run the model again." in str(refused.value)


def test_a_table_without_rows_is_refused(home):
    with pytest.raises(ResultsError, match=r"queries\.parquet has no rows") as refused:
        load_ranks(written(table_of(hand_made([1])).slice(0, 0)))
    assert "Run the model again." in str(refused.value)
