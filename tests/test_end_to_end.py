"""Whole evaluations of tiny worlds, from `mteb.evaluate` to the leaderboard, held against plain numpy.

The expected figures are computed here from the vectors alone, by sorting and counting; nothing of the product helps.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import mteb
import numpy as np
import pytest
from mteb._evaluators.retrieval_metrics import calculate_retrieval_scores, make_score_dict
from plain_intervals import difference_interval, score_interval
from worlds import CAPTIONED_SOURCES, DIMENSION, World, one_relevant, several_relevant

import mteb_vehicle_search
from mteb_vehicle_search.analysis import caveats, compare, compare_table, corpus_growth
from mteb_vehicle_search.analysis.leaderboard import build_leaderboard
from mteb_vehicle_search.analysis.ranks import load_ranks
from mteb_vehicle_search.eval_set import EvalSet
from mteb_vehicle_search.run_record import RunRecord
from mteb_vehicle_search.search import parts
from mteb_vehicle_search.search import vectors as embeddings

mteb_vehicle_search.register()

CUTS = (1, 3, 5, 10, 20, 100)
TASK = "VehicleImageSearch"


@dataclass(frozen=True)
class Truth:
    """What a model's vectors say about a world; p (query, relevant image) pairs, q queries, both sorted."""

    world: World
    cosine: bool

    @cached_property
    def scores(self) -> np.ndarray:
        """float64 [q, images]."""
        queries = np.stack(list(self.world.queries.values())).astype(float)
        images = np.stack(list(self.world.images.values())).astype(float)
        if self.cosine:
            queries /= np.linalg.norm(queries, axis=1, keepdims=True)
            images /= np.linalg.norm(images, axis=1, keepdims=True)
        return queries @ images.T

    @cached_property
    def at(self) -> list[tuple[int, int]]:
        """Row and column of each pair in the scores."""
        queries, images = list(self.world.queries), list(self.world.images)
        return [(queries.index(query), images.index(image)) for query, image in self.world.pairs]

    def ahead(self, query: int, image: int) -> np.ndarray:
        """Return how far each image's score lies above this one's, bool-safe: equals are exactly 0."""
        gap = self.scores[query] - self.scores[query, image]
        # The worlds are such that scores are equal or clearly different.
        size = np.abs(self.scores[query]).max()
        assert not ((np.abs(gap) > 1e-7 * size) & (np.abs(gap) < 3e-6 * size)).any()
        return np.where(np.abs(gap) < 1e-6 * size, 0.0, gap)

    @cached_property
    def above(self) -> list[list[str]]:
        """For each pair the images that rank above: better ones, and all equals."""
        names = list(self.world.images)
        return [
            [names[i] for i in np.nonzero(self.ahead(query, image) >= 0)[0] if i != image] for query, image in self.at
        ]

    @cached_property
    def tied(self) -> np.ndarray:
        """int [p], other images with the same score."""
        return np.array([int((self.ahead(query, image) == 0).sum()) - 1 for query, image in self.at])

    @cached_property
    def ranks(self) -> np.ndarray:
        """int [p]."""
        return np.array([1 + len(images) for images in self.above])

    @cached_property
    def clusters(self) -> np.ndarray:
        """[q], a number for each query; queries that share an image, or that others link, have the same."""
        group = {query: number for number, query in enumerate(self.world.queries)}
        for first, second in itertools.combinations(self.world.queries, 2):
            if set(self.world.relevant[first]) & set(self.world.relevant[second]):
                joined = group[second]
                group = {query: group[first] if one == joined else one for query, one in group.items()}
        return np.array(list(group.values()))

    def ranks_of(self, query: str) -> list[int]:
        """Return the ranks of a query's relevant images, best first."""
        return sorted(rank for (one, _), rank in zip(self.world.pairs, self.ranks.tolist()) if one == query)

    def metric(self, name: str) -> np.ndarray:
        """Return a metric as trec_eval defines it, float64 [q]."""
        kind, _, cut = name.rpartition("_at_")
        k = int(cut)
        values = []
        for query in self.world.queries:
            ranks = self.ranks_of(query)
            found = [rank for rank in ranks if rank <= k]
            ideal = sum(1 / math.log2(1 + i) for i in range(1, min(len(ranks), k) + 1))
            values.append(
                {
                    "ndcg": sum(1 / math.log2(1 + rank) for rank in found) / ideal,
                    "map": sum(number / rank for number, rank in enumerate(found, 1)) / len(ranks),
                    "mrr": 1 / found[0] if found else 0.0,
                    "recall": len(found) / len(ranks),
                    "precision": len(found) / k,
                    "hit_rate": float(bool(found)),
                }[kind]
            )
        return np.array(values)

    def run(self) -> dict[str, dict[str, float]]:
        """Return an mteb run: the best 100 of every query by sorting, for worlds without ties."""
        return {
            query: {image: float(row[i]) for i, image in enumerate(self.world.images) if row[i] >= np.sort(row)[-100]}
            for query, row in zip(self.world.queries, self.scores)
        }


@dataclass(frozen=True)
class Evaluated:
    """A world, one model's evaluation of it, and what that left on disk."""

    truth: Truth
    eval_set: EvalSet
    document: dict[str, Any]
    record: RunRecord

    @property
    def scores(self) -> dict[str, Any]:
        """The scores in mteb's result file."""
        return self.document["scores"]["test"][0]


def evaluate(world: World, home: Path, similarity: str = "cosine", name: str = "world/model", **meta: Any) -> Evaluated:
    """Evaluate with blocks and chunks so small that there are several of each; `home` keeps all results."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VEHICLE_SEARCH_HOME", str(home))
        patch.setenv("VEHICLE_SEARCH_DATA", str(home / "set"))
        patch.setattr(embeddings, "CHUNK_ROWS", 29)
        patch.setattr(parts, "QUERY_BLOCK", 13)
        patch.setattr(parts, "PAIR_BLOCK", 16)
        eval_set = EvalSet.open(home / "set") if (home / "set").exists() else world.write(home / "set")
        encoder = world.encoder(name, similarity, **meta)
        cache = mteb.ResultCache(home / "mteb")
        mteb.evaluate(encoder, mteb.get_task(TASK), cache=cache, num_proc=0, encode_kwargs={"batch_size": 5})
        path = cache.get_task_result_path(TASK, name, "r1")
        (record,) = [found for found in RunRecord.find() if found.info["model_name"] == name]
    document = json.loads(path.read_text(encoding="utf-8"))
    return Evaluated(Truth(world, similarity == "cosine"), eval_set, document, record)


WORLDS = {
    "cosine": (one_relevant(seed=11), "cosine"),
    "dot": (one_relevant(seed=12), "dot"),
    "dot, whole numbers": (one_relevant(seed=13, whole=True), "dot"),
    "several relevant, cosine": (several_relevant(seed=14), "cosine"),
    "several relevant, dot": (several_relevant(seed=15), "dot"),
}


@pytest.fixture(scope="module", params=WORLDS)
def one(request, tmp_path_factory) -> Evaluated:
    """An evaluation of each world."""
    return evaluate(WORLDS[request.param][0], tmp_path_factory.mktemp("world"), WORLDS[request.param][1])


def assert_is_interval(
    found: tuple[float | None, float | None], values: np.ndarray, clusters: np.ndarray, *, telling: bool = True
) -> None:
    """Assert a 95 % interval by cluster; by default in a world in which a wrong one is clearly another.

    Wrong are one of 50 or 90 %, and one that takes each query for a cluster.
    """
    interval = difference_interval if values.min() < 0 else score_interval
    expected = interval(values, clusters)
    # Files have five or six places.
    assert found == pytest.approx(expected, abs=6e-6)
    if telling:
        wrong = [interval(values, clusters, level) for level in (0.5, 0.9)]
        wrong.append(interval(values, np.arange(len(values))))
        assert all(np.abs(np.subtract(other, expected)).max() > 0.002 for other in wrong)


def sign_flips(differences: np.ndarray, clusters: np.ndarray) -> float:
    """Return how often flipping the signs of whole clusters gives as large a mean difference."""
    sums = np.array([differences[clusters == name].sum() for name in np.unique(clusters)])
    sums = sums[np.abs(sums) > 1e-12]
    if len(sums) <= 13:
        signs = np.array(list(itertools.product([-1, 1], repeat=len(sums))))
    else:
        signs = np.random.default_rng(98).choice([-1, 1], size=(40_000, len(sums)))
    return float(np.mean(np.abs(signs @ sums) >= abs(sums.sum()) - 1e-9))


def holm(p_values: list[float]) -> list[float]:
    """Return the adjusted p-values, one after the other from the smallest."""
    adjusted, last = [0.0] * len(p_values), 0.0
    for done, at in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        last = max(last, min(1.0, (len(p_values) - done) * p_values[at]))
        adjusted[at] = last
    return adjusted


def test_the_worlds_are_hard_enough():
    """Ties, unequal lengths, ranks beyond every cut: what no world contains, no test below can see."""
    truths = [Truth(world, similarity == "cosine") for world, similarity in WORLDS.values()]
    assert min(truth.ranks.min() for truth in truths) == 1
    assert max(truth.ranks.max() for truth in truths) > max(CUTS)
    for truth in truths:
        assert (truth.tied > 0).sum() > 5
        assert all(0 < (truth.ranks <= cut).mean() < 1 for cut in (5, 10, 20))
        assert list(Truth(truth.world, not truth.cosine).ranks) != list(truth.ranks)
        sources = list(truth.world.sources.values())
        assert len(set(sources)) == 4
        assert sum(a != b for a, b in itertools.pairwise(sources)) > 30


def test_every_metric_of_the_result_is_that_of_brute_force(one):
    for kind in ("ndcg", "map", "recall", "precision", "mrr", "hit_rate"):
        for cut in CUTS:
            name = f"{kind}_at_{cut}"
            assert one.scores[name] == pytest.approx(one.truth.metric(name).mean(), abs=6e-6), name
    cuts = {int(name.rpartition("_")[2]) for name in one.scores if name.startswith("ndcg_at_") and "ci" not in name}
    assert cuts == set(CUTS)
    assert one.scores["main_score"] == one.scores["ndcg_at_10"]
    assert one.document["task_name"] == TASK
    assert one.document["dataset_revision"] == one.eval_set.content_id


def test_our_own_scores_are_those_of_brute_force(one):
    truth, scores = one.truth, one.scores
    assert scores["median_rank"] == np.median(truth.ranks)
    captioned = [any(truth.world.sources[i] in CAPTIONED_SOURCES for i in images) for images in truth.above]
    only = (truth.ranks > 1) & ~np.array(captioned)
    assert 0 < only.mean() < 1
    assert scores["beaten_only_by_distractors"] == pytest.approx(only.mean(), abs=1e-6)
    if len(truth.world.pairs) == len(truth.world.queries):
        found = (scores["ndcg_at_10_ci_low"], scores["ndcg_at_10_ci_high"])
        assert_is_interval(found, truth.metric("ndcg_at_10"), truth.clusters)
    else:
        assert not {"ndcg_at_10_ci_low", "ndcg_at_10_ci_high"} & set(scores)


def test_every_row_of_the_run_record_is_that_of_brute_force(one):
    truth, table = one.truth, one.record.queries().to_pydict()
    assert list(zip(table["query_id"], table["relevant_id"])) == truth.world.pairs
    assert table["rank"] == truth.ranks.tolist()
    assert table["tied"] == truth.tied.tolist()
    assert table["score"] == pytest.approx([truth.scores[at] for at in truth.at], rel=1e-5, abs=1e-6)
    for source in set(truth.world.sources.values()):
        counts = [sum(truth.world.sources[image] == source for image in images) for images in truth.above]
        assert table[f"above_{source}"] == counts


def test_the_best_ten_of_the_run_record_are_those_of_brute_force(one):
    truth, table = one.truth, one.record.queries().to_pydict()
    column = {image: number for number, image in enumerate(truth.world.images)}
    for (query, _), ids, scores in zip(truth.at, table["top_ids"], table["top_scores"]):
        assert len(set(ids)) == len(ids) == len(scores) == 10
        true = truth.scores[query]
        best = np.sort(true)[::-1][:10]
        # Which of some equals come first is not laid down; their scores are.
        assert [true[column[image]] for image in ids] == pytest.approx(best, rel=1e-5, abs=1e-6)
        assert scores == pytest.approx(best, rel=1e-5, abs=1e-5)
        assert (np.diff(scores) < 0).all()
    for image, rank, ids in zip(table["relevant_id"], table["rank"], table["top_ids"]):
        assert [i + 1 for i, other in enumerate(ids) if other == image] == ([rank] if rank <= 10 else [])


def test_the_run_record_says_how_it_was_made(one):
    info, world = one.record.info, one.truth.world
    sources = list(world.sources.values())
    said = {
        "schema_version": 1,
        "task_name": TASK,
        "content_id": one.eval_set.content_id,
        "model_name": "world/model",
        "model_revision": "r1",
        "n_parameters": None,
        "training_datasets": None,
        "embed_dim": DIMENSION,
        "batch_size": 5,
        "num_workers": 0,
        "device": "unknown",
        "precision": "unknown",
        "encoder": {},
        "title": "Vehicle Image Search",
        "images_id": one.eval_set.images_id,
        "sources_id": one.eval_set.sources_id,
        "implementation": "",
        "bytes_id": one.eval_set.manifest["bytes_id"],
        "copied_from": None,
        "options": {},
        "preprocess": "",
        "resumed_images": 0,
        "corpus_size": len(world.images),
        "query_count": len(world.queries),
        "tied_queries": len({query for (query, _), tied in zip(world.pairs, one.truth.tied) if tied}),
        "sources": {
            name: {"images": sources.count(name), "captioned": sources.count(name) * (name in CAPTIONED_SOURCES)}
            for name in sorted(set(sources))
        },
    }
    assert {key: info[key] for key in said} == said
    assert set(info) - set(said) == {
        *("started", "finished", "versions", "images_per_s", "texts_per_s", "timings", "scores")
    }
    same = {"ndcg_at_10", "map_at_10", "recall_at_1", "recall_at_10", "median_rank", "beaten_only_by_distractors"}
    same |= {name for name in one.scores if "_ci_" in name}
    assert info["scores"] == pytest.approx({name: one.scores[name] for name in same}, abs=1e-6)
    assert info["timings"].keys() == {"encode_queries_s", "encode_corpus_s", "search_s"}
    assert info["texts_per_s"] == pytest.approx(len(world.queries) / info["timings"]["encode_queries_s"])
    assert info["images_per_s"] == pytest.approx(len(world.images) / info["timings"]["encode_corpus_s"])
    assert one.record.folder.parent.name == one.eval_set.content_id


def test_a_model_whose_vectors_are_all_the_same_is_told(tmp_path, capsys, monkeypatch):
    """It scores 0 like one that is always wrong, and is none."""
    monkeypatch.setenv("COLUMNS", "300")
    world = one_relevant(seed=51, ties=False)
    same = replace(world, images=dict.fromkeys(world.images, np.ones(DIMENSION, dtype=np.float32)))
    one, asked = evaluate(same, tmp_path), len(world.queries)
    line = (
        f"ll {asked} queries hold ties; the relevant image ranks last among its equals: nDCG@10 0.0000 as ranked, "
        "1.0000 if first. Nothing scores above it, as if all vectors were the same."
    )
    assert f"A{line}" in capsys.readouterr().out
    assert one.record.info["tied_queries"] == asked
    (table,) = build_leaderboard([tmp_path / "mteb"], runs=tmp_path / "runs").document["tables"]
    assert caveats.of_table(table)[1:] == [f"world/model: a{line}"]
    assert table["rows"][0]["better_than_chance"] is False


def test_every_other_key_of_the_result_is_what_mteb_makes_of_a_brute_force_run(tmp_path):
    """The confidences behind mteb's nAUC are the scores of our run: with no tie they are the true ones."""
    ours = evaluate(one_relevant(seed=21, ties=False), tmp_path, "dot")
    qrels = {query: dict.fromkeys(images, 1) for query, images in ours.truth.world.relevant.items()}
    found = calculate_retrieval_scores(ours.truth.run(), qrels, CUTS)
    names = ("ndcg", "recall", "precision", "mrr", "naucs", "naucs_mrr", "hit_rate")
    expected = make_score_dict(**{name: getattr(found, name) for name in names}, _map=found.map, task_scores={})
    assert len(expected) > 100
    for name, value in expected.items():
        assert ours.scores[name] == pytest.approx(value, abs=2e-5, nan_ok=True), name


ROW_METRICS = (
    *("ndcg_at_10", "map_at_10", "mrr_at_10", "precision_at_10"),
    *("recall_at_1", "recall_at_5", "recall_at_10", "recall_at_100"),
)
# How far a model's queries are off, and its metadata.
MODELS = {
    "world/good": (
        0.0,
        {"n_parameters": 1_000, "license": "mit", "training_datasets": {"Flickr30kT2IRetrieval", "Other"}},
    ),
    "world/twin": (0.02, {"training_datasets": {"Other"}}),
    "world/poor": (0.6, {"n_parameters": 77}),
}


@pytest.fixture(scope="module")
def three(tmp_path_factory) -> dict[str, Evaluated]:
    """Three models on one world; the first two cannot be told apart."""
    home, world = tmp_path_factory.mktemp("three"), one_relevant(seed=31, captioned=30)
    return {
        name: evaluate(world.asked_by(seed, noise), home, "cosine", name, **meta)
        for seed, (name, (noise, meta)) in enumerate(MODELS.items())
    }


def home_of(one: Evaluated) -> Path:
    return one.eval_set.folder.parent


def assert_row_is_true(row: dict[str, Any], truth: Truth, *, interval: bool) -> None:
    for name in ROW_METRICS:
        assert row[name] == pytest.approx(truth.metric(name).mean(), abs=6e-6), name
    assert row["median_rank"] == np.median(truth.ranks)
    if interval:
        found = (row["ndcg_at_10_ci_low"], row["ndcg_at_10_ci_high"])
        assert_is_interval(found, truth.metric("ndcg_at_10"), truth.clusters)


@pytest.mark.parametrize("runs", ["runs", "nowhere"])
def test_the_leaderboards_figures_are_those_of_brute_force(one, runs):
    """With the run record at hand, and from mteb's file alone."""
    board = build_leaderboard([home_of(one) / "mteb"], runs=home_of(one) / runs)
    ((row,),) = (table["rows"] for table in board.document["tables"])
    from_json = "ndcg_at_10_ci_low" in one.scores
    assert_row_is_true(row, one.truth, interval=runs == "runs" or from_json)
    assert row["has_run_record"] == (runs == "runs")
    assert row["rank"] == (1 if runs == "runs" else None)


def test_the_leaderboard_ranks_what_a_clustered_test_tells_apart(three, tmp_path, monkeypatch):
    home = home_of(three["world/good"])
    monkeypatch.chdir(tmp_path)
    places = {"results and records": [home / "mteb"], "records alone": None}
    for kind, results in places.items():
        board = build_leaderboard(results, runs=home / "runs")
        assert board.skipped == [], kind
        (table,) = board.document["tables"]
        truths = {name: three[name].truth for name in three}
        ndcg = {name: truth.metric("ndcg_at_10") for name, truth in truths.items()}
        pairs = list(itertools.combinations(MODELS, 2))
        clusters = truths["world/good"].clusters
        adjusted = holm([sign_flips(ndcg[a] - ndcg[b], clusters) for a, b in pairs])
        assert all(p < 0.01 or p > 0.2 for p in adjusted)
        better = [(a, b) if ndcg[a].mean() > ndcg[b].mean() else (b, a) for a, b in pairs]
        lost = [worse for (_, worse), p in zip(better, adjusted) if p < 0.05]
        assert lost == ["world/poor", "world/poor"]
        ordered = sorted(MODELS, key=lambda name: -ndcg[name].mean())
        assert [row["model"] for row in table["rows"]] == ordered
        assert [row["rank"] for row in table["rows"]] == [1 + lost.count(name) for name in ordered] == [1, 1, 3]
        for row in table["rows"]:
            assert_row_is_true(row, truths[row["model"]], interval=True)


def test_a_row_of_the_leaderboard_says_how_it_was_made(three):
    home = home_of(three["world/good"])
    (table,) = build_leaderboard([home / "mteb"], runs=home / "runs").document["tables"]
    world = three["world/good"].truth.world
    sources = list(world.sources.values())
    assert {key: table[key] for key in table if key not in ("rows", "chance")} == {
        "one_relevant": True,
        "task": TASK,
        "content_id": three["world/good"].eval_set.content_id,
        "images_id": three["world/good"].eval_set.images_id,
        "sources_id": three["world/good"].eval_set.sources_id,
        "title": "Vehicle Image Search",
        "corpus_size": len(world.images),
        "query_count": len(world.queries),
        "sources": {name: sources.count(name) for name in sorted(set(sources))},
    }
    rows = {row["model"]: row for row in table["rows"]}
    for name, row in rows.items():
        info = three[name].record.info
        said = {"revision": "r1", "embed_dim": DIMENSION, "device": "unknown", "precision": "unknown"}
        said |= {"images_per_s": info["images_per_s"], "versions": info["versions"], "has_run_record": True}
        assert {key: row[key] for key in said} == said
        assert datetime.fromisoformat(row["date"]).timestamp() == pytest.approx(three[name].document["date"], abs=1)
    for key, values in {
        "n_parameters": [1_000, None, 77],
        "license": ["mit", None, None],
        "flickr30k_in_training": [True, False, None],
    }.items():
        assert [rows[name][key] for name in MODELS] == values


@pytest.mark.parametrize("metric", ["ndcg_at_10", "recall_at_10", "map_at_10"])
def test_a_comparison_has_plain_intervals_and_p_values(three, metric):
    good, poor = three["world/good"], three["world/poor"]
    found = compare.compare(load_ranks(good.record), load_ranks(poor.record), metric).paired
    a, b, clusters = good.truth.metric(metric), poor.truth.metric(metric), good.truth.clusters
    for interval, values in ((found.a, a), (found.b, b), (found.difference, a - b)):
        assert interval.mean == pytest.approx(values.mean())
        assert_is_interval(interval[1:], values, clusters, telling=metric == "ndcg_at_10")
    p = sign_flips(a - b, clusters)
    assert found.p_value == pytest.approx(p, abs=5 * math.sqrt(p * (1 - p) / 10_000) + 2e-4)
    signs = np.sign(np.round(a - b, 12))
    assert [found.query_wins, found.query_losses, found.query_ties] == [(signs == s).sum() for s in (1, -1, 0)]
    sums = np.round([(a - b)[clusters == name].sum() for name in np.unique(clusters)], 12)
    assert [found.image_wins, found.image_losses, found.image_ties] == [(np.sign(sums) == s).sum() for s in (1, -1, 0)]


def test_of_few_images_a_comparison_counts_all_sign_patterns(tmp_path):
    world = one_relevant(seed=41, captioned=12, distractors=95)
    records, metrics = [], []
    for seed, name in enumerate(("world/a", "world/b")):
        done = evaluate(world.asked_by(seed, 0.3), tmp_path, "cosine", name)
        records.append(load_ranks(done.record))
        metrics.append(done.truth.metric("ndcg_at_10"))
    p = sign_flips(metrics[0] - metrics[1], done.truth.clusters)
    assert 0.01 < p < 0.99
    assert compare.compare(*records).paired.p_value == pytest.approx(p, abs=1e-9)


def test_p_values_of_three_models_are_adjusted_by_holm(three, capsys):
    arguments = [*MODELS, "--runs", str(home_of(three["world/good"]) / "runs"), "--format", "json"]
    assert command(compare_table, arguments) == 0
    found = json.loads(capsys.readouterr().out)["pairs"]
    pairs = [(one["a"], one["b"]) for one in found]
    assert {frozenset(pair) for pair in pairs} == {frozenset(pair) for pair in itertools.combinations(MODELS, 2)}
    assert [one["p_adjusted"] for one in found] == pytest.approx(holm([one["p_value"] for one in found]))
    for (a, b), one in zip(pairs, found):
        p = sign_flips(
            three[a].truth.metric("ndcg_at_10") - three[b].truth.metric("ndcg_at_10"), three[a].truth.clusters
        )
        assert one["p_value"] == pytest.approx(p, abs=5 * math.sqrt(p * (1 - p) / 10_000) + 2e-4)


def test_p_values_of_parts_are_adjusted_by_holm(three, capsys):
    first = [*MODELS][:2]
    arguments = [*first, "--runs", str(home_of(three["world/good"]) / "runs"), "--format", "json"]
    assert command(compare_table, arguments) == 0
    (one,) = json.loads(capsys.readouterr().out)
    for name in dict.fromkeys(part["stratum"] for part in one["strata"]):
        parts = [part for part in one["strata"] if part["stratum"] == name]
        assert sum(part["queries"] for part in parts) == len(three[first[0]].truth.world.queries)
        expected = holm([part["paired"]["p_value"] for part in parts])
        assert [part["p_adjusted"] for part in parts] == pytest.approx(expected)


def command(module, arguments: list[str]) -> int:
    parser = argparse.ArgumentParser()
    module.add_arguments(parser)
    return module.main(parser.parse_args(arguments))


def value_of_rank(metric: str, rank: int) -> float:
    kind, _, cut = metric.rpartition("_at_")
    if cut.isdigit() and rank > int(cut):
        return 0.0
    return {"ndcg": 1 / math.log2(1 + rank), "mrr": 1 / rank, "": 1 / rank, "recall": 1.0}[kind]


def expected_among(truth: Truth, metric: str, kept: int) -> np.ndarray:
    """Return each query's expected score when so many distractors are drawn, float64 [q]."""
    sources = truth.world.sources
    total = sum(source not in CAPTIONED_SOURCES for source in sources.values())
    values = []
    for images in truth.above:
        captioned = sum(sources[image] in CAPTIONED_SOURCES for image in images)
        above = len(images) - captioned
        values.append(
            sum(
                math.comb(above, x) * math.comb(total - above, kept - x) * value_of_rank(metric, 1 + captioned + x)
                for x in range(min(above, kept) + 1)
            )
            / math.comb(total, kept)
        )
    return np.array(values)


@pytest.mark.parametrize("metric", ["ndcg_at_10", "mrr", "recall_at_10"])
def test_growth_is_the_mean_over_all_draws_of_distractors(three, metric):
    good = three["world/good"]
    sizes = [0, 1, 40, 109, 110]
    points = corpus_growth.growth(load_ranks(good.record), [metric], sizes)[metric]
    assert [point.distractors for point in points] == sizes
    for point, size in zip(points, sizes):
        expected = expected_among(good.truth, metric, size)
        assert point.value == pytest.approx(expected.mean())
        assert (point.corpus_size, point.metric, point.method) == (30 + size, metric, "exact")
        assert_is_interval((point.low, point.high), expected, good.truth.clusters, telling=metric == "ndcg_at_10")
    if metric != "mrr":
        assert points[-1].value == pytest.approx(good.scores[metric], abs=6e-6)
