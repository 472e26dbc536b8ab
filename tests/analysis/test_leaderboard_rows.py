"""Rows of the leaderboard: where every figure comes from."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hand_made_runs import entry_of, hand_made, result_of
from pool_worlds import drawn, tiny
from row_fields import NEITHER

from mteb_vehicle_search.analysis.columns import cells_of, row_columns
from mteb_vehicle_search.analysis.fields import json_types
from mteb_vehicle_search.analysis.population import pool_figures
from mteb_vehicle_search.analysis.ranks import RunRanks
from mteb_vehicle_search.analysis.reported import reported_rows
from mteb_vehicle_search.analysis.runs import Result
from mteb_vehicle_search.analysis.uncertainty import clustered_interval
from mteb_vehicle_search.metrics import scored

RUN_INFO = {
    "n_parameters": 7,
    "embed_dim": 64,
    "precision": "bf16",
    "device": "cuda",
    "images_per_s": 12.5,
    "finished": "2026-03-04T05:06:07+00:00",
    "versions": {"torch": "2.9", "mteb": "2.26"},
    "training_datasets": ["flickr30k"],
    "encoder": {"texts": 6, "texts_cut": 3, "context_tokens": 32},
}


def row_of(result: Result | None, ranks: RunRanks | None) -> dict[str, Any]:
    return entry_of(result, ranks).row


def test_a_row_of_a_run_alone():
    ranks = hand_made([9, 1, 30, 2, 1, 5], relevant_ids=["b", "b", "a", "c", "d", "e"], **RUN_INFO)
    row = row_of(None, ranks)
    assert list(row) == list(row_columns())
    for metric in scored():
        assert row[metric] == round(ranks.scores(metric).mean(), 5)
    interval = clustered_interval(ranks.scores("ndcg_at_10"), ranks.relevant_ids)
    assert (row["ndcg_at_10_ci_low"], row["ndcg_at_10_ci_high"]) == (round(interval.low, 5), round(interval.high, 5))
    assert row["ndcg_at_10_ci_low"] < row["ndcg_at_10"] < row["ndcg_at_10_ci_high"]
    assert row["ndcg_at_10_ci_images"] == 5
    assert {name: row[name] for name in row_columns() if not name.startswith("ndcg") and name not in scored()} == {
        "rank": None,
        "rank_last": None,
        "name": "some/model",
        "model": "some/model",
        "revision": "0" * 40,
        "options": {},
        "median_rank": 3.5,
        "better_than_chance": None,
        "tied_queries": None,
        "texts_cut": 3,
        "context_tokens": 32,
        **NEITHER,
        "n_parameters": 7,
        "embed_dim": 64,
        "precision": "bf16",
        "preprocess": None,
        "device": "cuda",
        "images_per_s": 12.5,
        "date": "2026-03-04T05:06:07+00:00",
        "versions": {"mteb": "2.26", "torch": "2.9"},
        "license": None,
        "flickr30k_in_training": True,
        **dict.fromkeys(("imported_from", "depth", "missing_queries")),
        "has_run_record": True,
    }
    assert list(row["versions"]) == ["mteb", "torch"]


def test_a_row_of_a_result_alone():
    scores = {name: n / 100 for n, name in enumerate([*scored(), "ndcg_at_10_ci_low", "ndcg_at_10_ci_high"])}
    meta = {"license": "mit", "n_parameters": 5, "embed_dim": 3, "training_datasets": []}
    row = row_of(result_of(scores=scores, mteb_version="2.27", meta=meta, date=None), None)
    assert row == {
        **scores,
        "ndcg_at_10_ci_images": None,
        "rank": None,
        "rank_last": None,
        "name": "some/model",
        "model": "some/model",
        "revision": "0" * 40,
        "options": {},
        "median_rank": None,
        "better_than_chance": None,
        "tied_queries": None,
        "ndcg_at_10_if_first": None,
        "texts_cut": None,
        "context_tokens": None,
        **NEITHER,
        "n_parameters": 5,
        "embed_dim": 3,
        "precision": "unknown",
        "preprocess": None,
        "device": None,
        "images_per_s": None,
        "date": None,
        "versions": {"mteb": "2.27"},
        "license": "mit",
        "flickr30k_in_training": False,
        **dict.fromkeys(("imported_from", "depth", "missing_queries")),
        "has_run_record": False,
    }
    assert row_of(result_of(scores={"ndcg_at_10": 0.5, "median_rank": 3.0}), None)["median_rank"] == 3.0
    bare = row_of(result_of(), None)
    assert (bare["versions"], bare["flickr30k_in_training"], bare["map_at_10"]) == ({}, None, None)


def test_a_result_goes_before_its_run_and_the_run_adds_what_it_lacks():
    meta = {"license": "mit", "n_parameters": 5, "embed_dim": 3, "training_datasets": ["flickr30k"]}
    given = {"ndcg_at_10": 0.25, "median_rank": 99.0}
    of_result = result_of(scores=given, mteb_version="2.27", meta=meta, model="Some/Name", revision="main")
    info = {**RUN_INFO, "training_datasets": None, "versions": {"torch": "2.9"}}
    ranks = hand_made([9, 1, 30, 2], **info)
    row = row_of(of_result, ranks)
    assert {name: row[name] for name in given} == given
    assert row["map_at_10"] == round(ranks.scores("map_at_10").mean(), 5)
    assert (row["model"], row["revision"], row["date"]) == ("Some/Name", "main", "2026-01-01")
    assert (row["n_parameters"], row["embed_dim"], row["license"]) == (7, 64, "mit")
    # The run knows what it was trained on as well as the metadata: it says that it is not known.
    assert row["flickr30k_in_training"] is None
    assert row["versions"] == {"mteb": "2.27", "torch": "2.9"}
    known = row_of(of_result, hand_made([1], **{**info, "versions": {"mteb": "2.26"}, "n_parameters": None}))
    assert known["versions"] == {"mteb": "2.26"}
    assert known["n_parameters"] == 5
    assert row_of(result_of(date=None), ranks)["date"] == "2026-03-04T05:06:07+00:00"


@pytest.mark.parametrize(
    ("scores", "ends"),
    [
        ({"ndcg_at_10_ci_low": 0.2, "ndcg_at_10_ci_high": 0.3, "ndcg_at_10_ci_images": 7.0}, (0.2, 0.3, 7)),
        ({"ndcg_at_10_ci_images": 4.0}, (None, None, 4)),
        # Of an earlier version, which resampled and found no difference: that is no certainty.
        ({"ndcg_at_10_ci_low": 0.0, "ndcg_at_10_ci_high": 0.0}, (None, None, None)),
    ],
)
def test_the_interval_of_a_result_alone(scores, ends):
    row = row_of(result_of(scores={"ndcg_at_10": 0.25, **scores}), None)
    assert tuple(row[f"ndcg_at_10_ci_{end}"] for end in ("low", "high", "images")) == ends


def test_the_interval_is_that_of_the_ranks_and_too_few_images_have_none():
    old = result_of(scores={"ndcg_at_10": 1.0, "ndcg_at_10_ci_low": 1.0, "ndcg_at_10_ci_high": 1.0})
    row = row_of(old, hand_made([1] * 5, relevant_ids=list("abcde")))
    assert (row["ndcg_at_10_ci_low"], row["ndcg_at_10_ci_high"]) == (pytest.approx(0.393, abs=1e-3), 1.0)
    row = row_of(old, hand_made([1] * 4, relevant_ids=list("abcd")))
    assert [row[f"ndcg_at_10_ci_{end}"] for end in ("low", "high", "images")] == [None, None, 4]


def test_a_zero_is_a_value():
    row = row_of(result_of(meta={"n_parameters": 5}), hand_made([1], n_parameters=0, images_per_s=0.0))
    assert (row["n_parameters"], row["images_per_s"]) == (0, 0.0)


def test_versions_and_model_are_texts():
    row = row_of(None, hand_made([1], versions={"torch": 2}, model_name="m", model_revision=None))
    assert (row["versions"], row["model"], row["revision"]) == ({"torch": "2"}, "m", "")
    assert row_of(None, hand_made([1], versions=None))["versions"] == {}


@pytest.mark.parametrize("bad", [[5], {"a": 1}, "many", float("nan"), float("inf"), True, 10**30])
def test_a_fact_of_another_type_is_not_known(bad):
    facts = ("n_parameters", "embed_dim", "images_per_s", "device", "training_datasets")
    meta = dict.fromkeys(("n_parameters", "embed_dim", "license", "training_datasets"), bad)
    for row in (
        row_of(result_of(meta=meta), hand_made([1], **dict.fromkeys(facts, bad))),
        row_of(result_of(meta=meta), None),
    ):
        for name, column in row_columns().items():
            assert json_types(row[name]) & {*column.types}, name


def test_options_precision_and_preprocessing_are_those_of_the_run():
    info = {"options": {"task": "x", "embed_dim": "64"}, "encoder": {"preprocess": "fast"}, "precision": "bf16"}
    row = row_of(None, hand_made([1], **info))
    assert (row["name"], row["options"]) == ("some/model[embed_dim=64,task=x]", {"embed_dim": "64", "task": "x"})
    assert (row["precision"], row["preprocess"]) == ("bf16", "fast")


def test_scores_are_rounded_as_mteb_rounds():
    row = row_of(None, hand_made([3, 1, 1, 3, 1, 1], corpus_size=200, relevant_ids=list("abcdef")))
    assert row["mrr_at_10"] == 0.77778
    assert all(row[name] == round(row[name], 5) for name in (*scored(), "ndcg_at_10_ci_low", "ndcg_at_10_ci_high"))


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
        "corpus_size": None,
        "query_count": None,
        "content_id": None,
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


def pooled_row(**changed: Any) -> tuple[RunRanks, dict[str, Any]]:
    pool = tiny()
    ranks = drawn(pool, np.random.default_rng(0).permutation(pool.far)[:200])
    result = result_of(model="org/model", **changed)
    return ranks, row_of(result, ranks)


def test_a_row_has_its_figures_in_the_pool():
    ranks, row = pooled_row()
    found = pool_figures(ranks, ("ndcg_at_10", "recall_at_1", "mean_rank"))
    ndcg = found["ndcg_at_10"]
    assert row["pool_ndcg_at_10"] == round(ndcg.pool, 5) < row["recall_at_10"]
    assert row["pool_ndcg_at_10_ci_low"] == round(ndcg.interval.low, 5)
    assert row["pool_ndcg_at_10_ci_high"] == round(ndcg.interval.high, 5)
    assert row["pool_recall_at_1"] == round(found["recall_at_1"].pool, 5)
    assert row["pool_mean_rank"] == round(found["mean_rank"].pool, 5)
    assert row["miner_family"] is None


def test_a_row_is_marked_by_what_mteb_says_of_the_model():
    assert pooled_row(meta={"adapted_from": "x/KIN-OF-second"})[1]["miner_family"] == "second"
    assert pooled_row(meta={"model_type": ["kin-of-first", "kin-of-third"]})[1]["miner_family"] == "first, third"
    # Without a run record nobody knows who mined.
    assert row_of(result_of(meta={"adapted_from": "kin-of-second"}), None)["miner_family"] is None


def test_columns_of_the_pool_are_shown_only_where_there_is_one():
    plain, pooled = row_of(None, hand_made([1, 2, 3])), pooled_row()[1]
    without, both = ([cell.heading for cell in cells_of("scores", rows=rows)] for rows in ([plain], [plain, pooled]))
    assert without == [cell.heading for cell in cells_of("scores")]
    assert set(both) - set(without) == {
        "nDCG@10 in the pool",
        "its interval",
        "R@1 in the pool",
        "mean rank in the pool",
    }
    family = pooled_row(meta={"adapted_from": "kin-of-second"})[1]
    cells = {cell.heading: cell.text(family) for cell in cells_of("scores", rows=[family])}
    assert cells["family of miner"] == "second"
    assert cells["its interval"].startswith(f"{family['pool_ndcg_at_10_ci_low']:.4f}–")
    assert cells["mean rank in the pool"] == f"{family['pool_mean_rank']:,.1f}"


def test_several_relevant_images_have_no_figures_in_the_pool():
    ranks, _ = pooled_row()
    names = {name: getattr(ranks, name) for name in RunRanks.__dataclass_fields__}
    # The second image of a query ranks one lower, so that no two are first.
    changed = {"query_ids": np.repeat(ranks.query_ids[::2], 2), "ranks": ranks.ranks + np.arange(len(ranks.ranks)) % 2}
    row = row_of(None, RunRanks(**{**names, **changed}))
    assert row["pool_ndcg_at_10"] is row["pool_mean_rank"] is None
