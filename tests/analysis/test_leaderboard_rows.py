"""Rows of the leaderboard: which record belongs to a result, and where every figure comes from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hand_made_runs import hand_made, info_of, table_of

from mteb_vehicle_search.analysis.columns import Entry, row_columns
from mteb_vehicle_search.analysis.leaderboard import TWO_RUNS, first_usable, pair_with_records, reported_rows
from mteb_vehicle_search.analysis.ranks import RunRanks
from mteb_vehicle_search.analysis.runs import Found, Result
from mteb_vehicle_search.analysis.uncertainty import clustered_interval
from mteb_vehicle_search.metrics import scored
from mteb_vehicle_search.run_record import RunRecord, write_run_record


def result(path: str = "a.json", scores: dict[str, float] | None = None, **changed: Any) -> Result:
    given = {
        "path": Path(path),
        "task": "VehicleImageSearch",
        "content_id": "5" * 64,
        "model": "some/model",
        "revision": "0" * 40,
        "scores": scores or {"ndcg_at_10": 0.5},
        "date": "2026-01-01",
        "mteb_version": None,
        "meta": {},
    }
    return Result(**{**given, **changed})


def record(folder: str, **info: Any) -> RunRecord:
    return RunRecord(Path(folder), info_of(**info))


RUN_INFO = {
    "n_parameters": 7,
    "embed_dim": 64,
    "precision": "bf16",
    "device": "cuda",
    "images_per_s": 12.5,
    "finished": "2026-03-04T05:06:07+00:00",
    "versions": {"torch": "2.9", "mteb": "2.26"},
    "training_datasets": ["flickr30k"],
}


def row_of(result: Result | None, ranks: RunRanks | None) -> dict[str, Any]:
    return Entry(result, ranks).row


def test_a_row_of_a_run_alone():
    ranks = hand_made([9, 1, 30, 2], relevant_ids=["b", "b", "a", "a"], **RUN_INFO)
    row = row_of(None, ranks)
    assert list(row) == list(row_columns())
    for metric in scored():
        assert row[metric] == round(ranks.scores(metric).mean(), 5)
    interval = clustered_interval(ranks.scores("ndcg_at_10"), ranks.relevant_ids)
    assert (row["ndcg_at_10_ci_low"], row["ndcg_at_10_ci_high"]) == (round(interval.low, 5), round(interval.high, 5))
    assert row["ndcg_at_10_ci_low"] < row["ndcg_at_10"] < row["ndcg_at_10_ci_high"]
    assert {name: row[name] for name in row_columns() if not name.startswith("ndcg") and name not in scored()} == {
        "rank": None,
        "model": "some/model",
        "revision": "0" * 40,
        "median_rank": 5.5,
        "n_parameters": 7,
        "embed_dim": 64,
        "precision": "bf16",
        "device": "cuda",
        "images_per_s": 12.5,
        "date": "2026-03-04T05:06:07+00:00",
        "versions": {"mteb": "2.26", "torch": "2.9"},
        "licence": None,
        "flickr30k_in_training": True,
        "has_run_record": True,
    }
    assert list(row["versions"]) == ["mteb", "torch"]


def test_a_row_of_a_result_alone():
    scores = {name: n / 100 for n, name in enumerate([*scored(), "ndcg_at_10_ci_low", "ndcg_at_10_ci_high"])}
    meta = {"license": "mit", "n_parameters": 5, "embed_dim": 3, "training_datasets": []}
    row = row_of(result(scores=scores, mteb_version="2.27", meta=meta, date=None), None)
    assert row == {
        **scores,
        "rank": None,
        "model": "some/model",
        "revision": "0" * 40,
        "median_rank": None,
        "n_parameters": 5,
        "embed_dim": 3,
        "precision": None,
        "device": None,
        "images_per_s": None,
        "date": None,
        "versions": {"mteb": "2.27"},
        "licence": "mit",
        "flickr30k_in_training": False,
        "has_run_record": False,
    }
    assert row_of(result(scores={"ndcg_at_10": 0.5, "median_rank": 3.0}), None)["median_rank"] == 3.0
    bare = row_of(result(), None)
    assert (bare["versions"], bare["flickr30k_in_training"], bare["map_at_10"]) == ({}, None, None)


def test_a_result_goes_before_its_run_and_the_run_adds_what_it_lacks():
    meta = {"license": "mit", "n_parameters": 5, "embed_dim": 3, "training_datasets": ["flickr30k"]}
    given = {"ndcg_at_10": 0.25, "median_rank": 99.0, "ndcg_at_10_ci_low": 0.2}
    of_result = result(scores=given, mteb_version="2.27", meta=meta, model="Some/Name", revision="main")
    info = {**RUN_INFO, "training_datasets": None, "versions": {"torch": "2.9"}}
    ranks = hand_made([9, 1, 30, 2], **info)
    row = row_of(of_result, ranks)
    assert {name: row[name] for name in given} == given
    assert row["map_at_10"] == round(ranks.scores("map_at_10").mean(), 5)
    assert (row["model"], row["revision"], row["date"]) == ("Some/Name", "main", "2026-01-01")
    assert (row["n_parameters"], row["embed_dim"], row["licence"]) == (7, 64, "mit")
    # The run knows what it was trained on as well as the metadata: it says that it is not known.
    assert row["flickr30k_in_training"] is None
    assert row["versions"] == {"mteb": "2.27", "torch": "2.9"}
    known = row_of(of_result, hand_made([1], **{**info, "versions": {"mteb": "2.26"}, "n_parameters": None}))
    assert known["versions"] == {"mteb": "2.26"}
    assert known["n_parameters"] == 5
    assert row_of(result(date=None), ranks)["date"] == "2026-03-04T05:06:07+00:00"


def test_a_zero_is_a_value():
    row = row_of(result(meta={"n_parameters": 5}), hand_made([1], n_parameters=0, images_per_s=0.0))
    assert (row["n_parameters"], row["images_per_s"]) == (0, 0.0)


def test_versions_and_model_are_texts():
    row = row_of(None, hand_made([1], versions={"torch": 2}, model_name="m", model_revision=None))
    assert (row["versions"], row["model"], row["revision"]) == ({"torch": "2"}, "m", "None")
    assert row_of(None, hand_made([1], versions=None))["versions"] == {}


def test_scores_are_rounded_as_mteb_rounds():
    row = row_of(None, hand_made([3, 1, 1], corpus_size=200))
    assert row["mrr_at_10"] == 0.77778
    assert all(row[name] == round(row[name], 5) for name in (*scored(), "ndcg_at_10_ci_low", "ndcg_at_10_ci_high"))


@pytest.mark.parametrize("key", ["task", "content_id", "model", "revision"])
def test_a_record_belongs_to_the_result_with_the_same_key(key):
    named = {"task": "task_name", "content_id": "content_id", "model": "model_name", "revision": "model_revision"}
    near = record("near")
    other = record("other", **{named[key]: "another"})
    found = Found(results=[result()], records=[other, near])
    pairs = pair_with_records(found, Found(), all_records=False)
    assert len(pairs) == 2
    assert {(one is not None, tuple(r.folder.name for r in records)) for one, records in pairs} == {
        (True, ("near",)),
        (False, ("other",)),
    }
    alone = pair_with_records(Found(results=[result()]), Found(records=[other]), all_records=False)
    assert alone == [(result(), [])]


def test_known_records_make_rows_only_if_all_do():
    known = Found(records=[record("known"), record("stranger", model_name="b/other")])
    pairs = pair_with_records(Found(results=[result()]), known, all_records=False)
    assert [(one, [r.folder.name for r in records]) for one, records in pairs] == [(result(), ["known"])]
    pairs = pair_with_records(Found(results=[result()]), known, all_records=True)
    assert [[r.folder.name for r in records] for _, records in pairs] == [["stranger"], ["known"]]
    assert [one is None for one, _ in pairs] == [True, False]


def test_pairs_are_sorted_by_task_content_id_model_and_revision():
    keys = [
        ("B", "1", "a", "1"),
        ("A", "2", "a", "1"),
        ("A", "1", "b", "1"),
        ("A", "1", "a", "2"),
        ("A", "1", "a", "1"),
    ]
    results = [result(task=t, content_id=c, model=m, revision=r) for t, c, m, r in keys]
    pairs = pair_with_records(Found(results=results), Found(), all_records=False)
    assert [one for one, _ in pairs] == results[::-1]


def test_the_newest_result_of_a_run_counts_and_the_others_are_named():
    old, new, undated = result("b", date="2025"), result("a", date="2026"), result("z", date=None)
    for order in ([old, new, undated], [undated, new, old]):
        found = Found(results=list(order))
        assert pair_with_records(found, Found(), all_records=False) == [(new, [])]
        assert [(one.path.name, one.reason) for one in found.skipped] == [
            ("z", "b is a newer result of the same run"),
            ("b", "a is a newer result of the same run"),
        ]
    same = Found(results=[result("b"), result("a")])
    assert pair_with_records(same, Found(), all_records=False)[0][0].path == Path("b")


@pytest.mark.parametrize(("all_records", "first"), [(False, ["near-new", "near-old", "known-new"]), (True, None)])
def test_records_near_the_results_go_first_and_newer_before_older(all_records, first):
    found = Found(records=[record("near-old", finished="2020"), record("near-new", finished="2021")])
    known = Found(records=[record("known-new", finished="2026")])
    ((_, records),) = pair_with_records(found, known, all_records)
    assert [r.folder.name for r in records] == (first or ["known-new", "near-new", "near-old"])
    same = Found(records=[record(name) for name in ("b", "c", "a")])
    ((_, records),) = pair_with_records(same, Found(), all_records)
    assert [r.folder.name for r in records] == ["c", "b", "a"]


class TestTheRecordOfARun:
    """`first_usable`: the first record that agrees with the result."""

    def written(self, name: str, ranks: list[int]) -> RunRecord:
        return write_run_record(name, "some/model", "1", table_of(hand_made(ranks)), info_of())

    @pytest.mark.parametrize("sign", [-1, 1])
    @pytest.mark.parametrize(("off", "agrees"), [(1.9e-5, True), (2.1e-5, False)])
    def test_scores_agree_up_to_the_rounding_of_mteb(self, home, sign, off, agrees):
        one = self.written("one", [1, 3])
        stored = result(scores={"ndcg_at_10": 0.75 + sign * off, "map_at_10": 0.1})
        skipped = []
        ranks = first_usable(stored, [one], skipped)
        assert (ranks is not None) is agrees
        if not agrees:
            assert [entry.path for entry in skipped] == [one.folder]
            assert f"its ndcg_at_10 is 0.75000, but a.json says {0.75 + sign * off:.5f}" in skipped[0].reason
            assert TWO_RUNS in skipped[0].reason

    def test_without_a_result_the_first_readable_record_counts(self, home):
        broken, one, other = self.written("x", [1]), self.written("y", [1, 3]), self.written("z", [2])
        (broken.folder / "queries.parquet").write_bytes(b"")
        skipped = []
        ranks = first_usable(None, [broken, one, other], skipped)
        assert ranks.record is one
        assert ranks.ranks.tolist() == [1, 3]
        assert [entry.path for entry in skipped] == [broken.folder]

    def test_a_superseded_record_is_not_mentioned_beside_one_that_fits(self, home):
        superseded, one = self.written("x", [5, 5]), self.written("y", [1, 3])
        stored, skipped = result(scores={"ndcg_at_10": 0.75}), []
        assert first_usable(stored, [superseded, one], skipped).record is one
        assert skipped == []
        assert first_usable(stored, [superseded], skipped) is None
        assert [entry.path for entry in skipped] == [superseded.folder]
        assert first_usable(stored, [], skipped) is None
        assert len(skipped) == 1


def entry(task: str, model: str, source: str = "a paper", **scores: float) -> dict[str, Any]:
    return {"task_name": task, "model_name": model, "source": source, "scores": scores}


def test_published_figures_are_sorted_by_task_best_first():
    rows = reported_rows(
        [
            entry("B", "x", ndcg_at_10=0.9),
            entry("A", "worse", ndcg_at_10=0.1),
            entry("A", "none", map_at_10=0.9),
            entry("A", "best", ndcg_at_10=0.8, map_at_10=0.7, unknown=0.3),
            entry("A", "also", ndcg_at_10=0.1),
        ]
    )
    assert [(row["task"], row["model"]) for row in rows] == [
        ("A", "best"),
        ("A", "also"),
        ("A", "worse"),
        ("A", "none"),
        ("B", "x"),
    ]
    assert rows[0] == {
        "task": "A",
        "model": "best",
        "source": "a paper",
        **dict.fromkeys(scored()),
        "ndcg_at_10": 0.8,
        "map_at_10": 0.7,
    }


def test_a_published_figure_stands_once_for_each_source():
    same = entry("A", "m", ndcg_at_10=0.5)
    assert len(reported_rows([same, same])) == 1
    assert reported_rows([same, entry("A", "m", ndcg_at_10=0.6)])[0]["ndcg_at_10"] == 0.6
    others = [entry("A", "m", "another paper"), entry("A", "n"), entry("B", "m")]
    assert len(reported_rows([same, *others])) == 4
    assert np.all([row["ndcg_at_10"] is None for row in reported_rows(others)])
