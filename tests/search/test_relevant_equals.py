"""Several relevant images, equals among them, and grades: ours, mteb's and trec_eval's figures are the same."""

import json

import ir_measures
import mteb
import numpy as np
import pyarrow.parquet as pq
import pytest
import pytrec_eval
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ir_measures import AP, RR, P, R, nDCG
from small_set import jpeg, provenance
from worlds import World

import mteb_vehicle_search
from mteb_vehicle_search.analysis.leaderboard import build_leaderboard
from mteb_vehicle_search.eval_set import writer
from mteb_vehicle_search.eval_set.schema import CorpusImage, Qrel, Query
from mteb_vehicle_search.metrics import METRICS, Grouped
from mteb_vehicle_search.run_record import record_files
from mteb_vehicle_search.search import vectors as embeddings

mteb_vehicle_search.register()

KEYS = {
    "ndcg_at_10": nDCG @ 10,
    "map_at_10": AP @ 10,
    "mrr_at_10": RR @ 10,
    "recall_at_1": R @ 1,
    "recall_at_5": R @ 5,
    "recall_at_10": R @ 10,
    "recall_at_100": R @ 100,
    "precision_at_10": P @ 10,
}
# Products of these are whole, and many of them equal.
VALUES = st.integers(-1, 2)


def evaluate(home, images, queries, judged):
    """Evaluate what is given: image vectors [n, d], query vectors [q, d], and {(query, image): grade}.

    Returns mteb's scores and the record's table.
    """
    names = [f"i{number:02d}" for number in range(len(images))]
    asked = [f"q{number}" for number in range(len(queries))]
    rows = [
        CorpusImage(name, jpeg(number, (8, 8)), {**provenance(number, number % 2 == 0)})
        for number, name in enumerate(names)
    ]
    with pytest.MonkeyPatch.context() as patch:
        # Sets of earlier versions may hold judgements of 0, which are no longer written.
        patch.setattr(writer, "_check_judgements", lambda *given: None)
        writer.write_eval_set(
            home / "set",
            writer.About("vehicle-image-search", "World"),
            images=rows,
            queries=[Query(name, name) for name in asked],
            qrels=[Qrel(asked[query], names[image], grade) for (query, image), grade in sorted(judged.items())],
        )
    world = World(dict(zip(names, images)), {}, dict(zip(asked, queries)), {})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VEHICLE_SEARCH_HOME", str(home))
        patch.setenv("VEHICLE_SEARCH_DATA", str(home / "set"))
        patch.setattr(embeddings, "CHUNK_ROWS", 5)
        task = mteb.get_task("VehicleImageSearch")
        encoder = world.encoder("world/model", "dot")
        mteb.evaluate(encoder, task, cache=mteb.ResultCache(home / "mteb"), num_proc=0, show_progress_bar=False)
    (path,) = (home / "mteb").rglob("VehicleImageSearch.json")
    (record,) = record_files(home / "runs")
    scores = json.loads(path.read_text(encoding="utf-8"))["scores"]["test"][0]
    return scores, pq.read_table(record.parent / "queries.parquet")


def of_record(table, queries):
    """Return each metric's mean over all queries, from the table alone."""
    columns = table.to_pydict()
    grouped = Grouped.of(np.array(columns["query_id"]), np.array(columns["rank"]), np.array(columns["grade"]))
    return {key: METRICS[key].of_query(grouped).sum() / queries for key in KEYS}


def ranked(images, queries, judged):
    """Return a run as our rule has it: by score, then what is not relevant, then as the corpus has them."""
    scores = queries.astype(np.float64) @ images.astype(np.float64).T
    run = {}
    for query, of_query in enumerate(scores):
        relevant = [judged.get((query, image), 0) > 0 for image in range(len(images))]
        order = np.lexsort((range(len(images)), relevant, -of_query))
        run[f"q{query}"] = {f"i{image:02d}": float(-place) for place, image in enumerate(order)}
    return run


@st.composite
def cases(draw):
    dimension, count, asked = 2, draw(st.integers(3, 24)), draw(st.integers(1, 5))
    images = np.array(draw(st.lists(st.tuples(*[VALUES] * dimension), min_size=count, max_size=count)), np.float32)
    queries = np.array(draw(st.lists(st.tuples(*[VALUES] * dimension), min_size=asked, max_size=asked)), np.float32)
    images[~images.any(axis=1)] = 1
    queries[~queries.any(axis=1)] = 1
    judged = {}
    for query in range(asked):
        chosen = draw(st.lists(st.integers(0, count - 1), min_size=1, max_size=6, unique=True))
        grades = [draw(st.integers(1, 3)), *(draw(st.integers(0, 3)) for _ in chosen[1:])]
        judged.update({(query, image): grade for image, grade in zip(chosen, grades)})
    return images, queries, judged


@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cases())
def test_grades_and_ties_mean_the_same_to_all(tmp_path_factory, case):
    _, queries, judged = case
    scores, table = evaluate(tmp_path_factory.mktemp("case"), *case)
    run = ranked(*case)
    qrels = {name: {f"i{i:02d}": grade for (q, i), grade in judged.items() if f"q{q}" == name} for name in run}
    measured = ir_measures.calc_aggregate(KEYS.values(), qrels, run)
    recorded = of_record(table, len(queries))
    for key, measure in KEYS.items():
        # mteb keeps five digits.
        assert scores[key] == pytest.approx(measured[measure], abs=6e-6), key
        assert recorded[key] == pytest.approx(measured[measure], abs=1e-9), key
    names = {
        "ndcg_cut_10": "ndcg_at_10",
        "map_cut_10": "map_at_10",
        "recall_10": "recall_at_10",
        "P_10": "precision_at_10",
    }
    of_trec = pytrec_eval.RelevanceEvaluator(qrels, {"ndcg_cut.10", "map_cut.10", "recall.10", "P.10"}).evaluate(run)
    for name, key in names.items():
        assert recorded[key] == pytest.approx(np.mean([of_query[name] for of_query in of_trec.values()]), abs=1e-9)
    columns = table.to_pydict()
    found = {
        (q, i): (rank, grade)
        for q, i, rank, grade in zip(*(columns[n] for n in ("query_id", "relevant_id", "rank", "grade")))
    }
    places = {name: sorted(of_query, key=of_query.__getitem__, reverse=True) for name, of_query in run.items()}
    assert found == {
        (q, i): (places[q].index(i) + 1, grade)
        for q, judgements in qrels.items()
        for i, grade in judgements.items()
        if grade
    }


def test_relevant_equals_do_not_push_each_other_back(tmp_path):
    images = np.ones((8, 2), np.float32)
    images[3:] = 0.5
    scores, table = evaluate(tmp_path, images, np.ones((1, 2), np.float32), {(0, 2): 1, (0, 0): 1, (0, 1): 1})
    assert scores["ndcg_at_10"] == scores["map_at_10"] == scores["recall_at_5"] == 1.0
    columns = table.to_pydict()
    assert dict(zip(columns["relevant_id"], columns["rank"])) == {"i00": 1, "i01": 2, "i02": 3}
    assert columns["tied"] == [0, 0, 0]
    assert columns["top_ids"][0][:3] == ["i00", "i01", "i02"]


def test_other_equals_come_before_all_of_them(tmp_path):
    images = np.ones((5, 2), np.float32)
    _, table = evaluate(tmp_path, images, np.ones((1, 2), np.float32), {(0, 1): 1, (0, 3): 2})
    columns = table.to_pydict()
    assert dict(zip(columns["relevant_id"], columns["rank"])) == {"i01": 4, "i03": 5}
    assert columns["tied"] == [3, 3]
    assert columns["grade"] == [1, 2]
    # One of the equals above the second is relevant, and comes from the other source.
    above = {name: columns[name] for name in ("above_flickr30k", "above_imagenet")}
    assert above == {"above_flickr30k": [3, 3], "above_imagenet": [0, 1]}


def test_a_judgement_of_nought_is_no_relevant_image_anywhere(tmp_path):
    images = np.array([[3, 0], [2, 0], [1, 0]], np.float32)
    scores, table = evaluate(tmp_path, images, np.array([[1, 0]], np.float32), {(0, 0): 0, (0, 1): 3})
    assert table["relevant_id"].to_pylist() == ["i01"]
    assert table["rank"].to_pylist() == [2]
    assert scores["recall_at_1"] == 0
    assert scores["mrr_at_10"] == scores["map_at_10"] == 0.5
    assert scores["median_rank"] == 2
    board = build_leaderboard([tmp_path / "mteb"], runs=tmp_path / "runs")
    ((row,),) = (one["rows"] for one in board.document["tables"])
    assert row["ndcg_at_10"] == pytest.approx(1 / np.log2(3), abs=6e-6)
