"""The notebook interface: frames agree with the commands, and the docs' examples run."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hand_made_runs import hand_made, info_of, table_of
from simulated_runs import MODELS, write_run
from small_set import small_set

import mteb_vehicle_search.analysis as analysis
from mteb_vehicle_search.analysis.compare import compare
from mteb_vehicle_search.analysis.corpus_growth import equivalence, growth
from mteb_vehicle_search.analysis.leaderboard import build_leaderboard
from mteb_vehicle_search.analysis.ranks import RunRanks, load_ranks
from mteb_vehicle_search.analysis.uncertainty import Paired, holm
from mteb_vehicle_search.errors import ResultsError
from mteb_vehicle_search.eval_set import EvalSet
from mteb_vehicle_search.metrics import scored
from mteb_vehicle_search.run_record import write_run_record

DOCS = Path(__file__).parents[2] / "mteb_vehicle_search" / "analysis" / "README.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)


def test_every_public_name_is_there():
    for name in analysis.__all__:
        assert callable(getattr(analysis, name))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = analysis.nothing


def test_importing_loads_neither_torch_nor_mteb_nor_pandas():
    code = (
        "import sys, mteb_vehicle_search.analysis as a; a.clustered_interval; a.build_leaderboard; a.growth\n"
        "print([name for name in ('torch', 'mteb', 'pandas', 'scipy', 'rich') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_queries(runs):
    frame = analysis.queries_frame("simulated/good")
    assert len(frame) == 600
    assert frame["ndcg_at_10"].mean() == pytest.approx(runs["good"].info["scores"]["ndcg_at_10"])
    assert (frame["above_flickr30k"] + frame["above_imagenet"] + 1 == frame["rank"]).all()


def test_comparison_and_strata(runs):
    frame = analysis.comparison_frame("simulated/good", "simulated/poor", runs=runs["good"].folder.parents[1])
    expected = compare(load_ranks(runs["good"]), load_ranks(runs["poor"]))
    assert frame.loc[0, "difference"] == expected.paired.difference.mean
    assert frame.loc[0, "difference_low"] == expected.paired.difference.low
    parts = analysis.strata_frame("simulated/good", "simulated/poor")
    assert parts.groupby("stratum")["queries"].sum().tolist() == [600, 600]


def test_growth_and_leaderboard(runs):
    points = analysis.growth_frame("simulated/good", "simulated/poor", sizes=[0, 3_000])
    board = analysis.leaderboard_frame().set_index("model")
    for name in ("simulated/good", "simulated/poor"):
        all_of_them = points[(points["model"] == name) & (points["distractors"] == 3_000)]
        assert all_of_them["value"].iloc[0] == pytest.approx(board.loc[name, "ndcg_at_10"], abs=1e-5)
    assert not board["reported"].any()


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_examples_of_the_docs_run(home, example):
    small = {"images": 60, "captions": 5, "distractors": 900}
    write_run(MODELS[0]._replace(name="vehicle-search/tiny-clip"), **small)
    if "equivalence" in example:
        write_run(MODELS[0]._replace(name="vehicle-search/tiny-clip"), **small, content_id="6" * 64)
    write_run(MODELS[2]._replace(name="my-org/my-model"), **small)
    *statements, last = ast.parse(example).body
    scope: dict = {}
    exec(compile(ast.Module(statements, []), "example", "exec"), scope)
    value = eval(compile(ast.Expression(last.value), "example", "eval"), scope)  # noqa: S307
    if isinstance(value, pd.DataFrame):
        assert len(value)
    else:
        assert np.isfinite(value).all()


def put(name: str, ranks: list[int], **changed) -> RunRanks:
    """Write a run of the given ranks, two queries to an image; return its ranks as they are read."""
    images = [f"flickr30k/{n // 2}" for n in range(len(ranks))]
    info = info_of(model_name=name, **{key: changed.pop(key) for key in ("content_id", "task_name") if key in changed})
    made = hand_made(ranks, **{"relevant_ids": images, **changed})
    return load_ranks(write_run_record(info["content_id"], name, info["model_revision"], table_of(made), info))


@pytest.fixture
def three(home) -> list[RunRanks]:
    """Runs of a, b and c on one set; a run of a and one of b on another, of another task."""
    for name, ranks in (("a", [9, 9, 9, 9]), ("b", [8, 8, 8, 8])):
        put(name, ranks, content_id="6" * 64, task_name="VehicleImageSearchMini")
    return [put("a", [1, 2, 3, 4]), put("b", [4, 2, 90, 1]), put("c", [1, 1, 1, 30])]


PAIRED = [
    *("a", "a_low", "a_high", "b", "b_low", "b_high", "difference", "difference_low", "difference_high", "p_value"),
    *("query_wins", "query_losses", "query_ties", "image_wins", "image_losses", "image_ties"),
]
HERE = {"content_id": "5", "task": "VehicleImageSearch"}


def figures(paired: Paired) -> list[float]:
    return [*paired.a, *paired.b, *paired.difference, *paired[3:]]


def test_the_public_names_are_those_of_the_package():
    assert set(analysis.__all__) == {
        "build_leaderboard",
        "clustered_interval",
        "comparison_frame",
        "equivalence",
        "equivalence_frame",
        "growth",
        "growth_frame",
        "hold_out",
        "holm",
        "leaderboard_frame",
        "load_ranks",
        "paired_comparison",
        "queries_frame",
        "rank_groups",
        "strata_frame",
    }
    assert all(getattr(analysis, name).__name__ == name for name in analysis.__all__)
    assert set(analysis.__all__) < set(dir(analysis))
    assert {"annotations", "__doc__"} < set(dir(analysis))
    assert dir(analysis) == sorted(set(dir(analysis)))


def test_a_row_for_each_query_with_its_best_relevant_image(home):
    ids = {"query_ids": ["q0", "q1", "q1", "q2"], "relevant_ids": ["x", "y", "z", "x"]}
    run = put("some/model", [3, 9, 2, 1], captioned_above=[1, 4, 0, 0], **ids)
    frame = analysis.queries_frame("some/model")
    assert frame.index.tolist() == ["q0", "q1", "q2"]
    assert frame.index.name == "query_id"
    assert list(frame) == ["relevant_id", "rank", "above_flickr30k", "above_imagenet", *scored()]
    assert frame["relevant_id"].tolist() == ["x", "z", "x"]
    assert frame["rank"].tolist() == [3, 2, 1]
    assert frame["above_flickr30k"].tolist() == [1, 0, 0]
    assert frame["above_imagenet"].tolist() == [1, 1, 0]
    for metric in scored():
        assert frame[metric].tolist() == run.scores(metric).tolist()


def test_a_row_for_each_pair_of_models(three):
    for metric, given in (("ndcg_at_10", {}), ("recall_at_1", {"metric": "recall_at_1"})):
        frame = analysis.comparison_frame("a", "b", "c", **given, **HERE)
        assert list(frame) == ["model_a", "model_b", "metric", *PAIRED, "p_adjusted"]
        pairs = [("a", "b"), ("a", "c"), ("b", "c")]
        assert list(zip(frame["model_a"], frame["model_b"])) == pairs
        assert set(frame["metric"]) == {metric}
        runs = dict(zip("abc", three))
        for (one, other), row in zip(pairs, frame[PAIRED].to_numpy(dtype=float)):
            assert row.tolist() == figures(compare(runs[one], runs[other], metric).paired)
        assert frame["p_adjusted"].tolist() == holm(frame["p_value"].to_numpy()).tolist()


def test_one_model_gives_no_pair(three):
    assert len(analysis.comparison_frame("c")) == 0


def test_a_row_for_each_part_of_each_division(three, tmp_path):
    for metric, given in (("ndcg_at_10", {}), ("recall_at_1", {"metric": "recall_at_1"})):
        frame = analysis.strata_frame("a", "b", **given, **HERE)
        assert list(frame) == ["stratum", "label", "queries", "images", *PAIRED, "p_adjusted"]
        effects = compare(three[0], three[1], metric).effects
        for row, effect in zip(frame.itertuples(index=False), effects, strict=True):
            expected = [*effect[:4], *figures(effect.paired), effect.p_adjusted]
            assert list(row) == expected


def test_divisions_by_caption_come_from_the_evaluation_set(home, tmp_path):
    evaluation = small_set(tmp_path / "set", captioned=6, captions=2)
    ids = {"query_ids": [query.id for query in EvalSet.open(tmp_path / "set").queries()]}
    ids["relevant_ids"] = [f"flickr30k/{id[:4]}" for id in ids["query_ids"]]
    for name, ranks in (("a", range(1, 13)), ("b", range(12, 0, -1))):
        put(name, list(ranks), content_id=evaluation.content_id, **ids)
    assert set(analysis.strata_frame("a", "b")["stratum"]) == {"rivals in both top tens", "beaten by"}
    frame = analysis.strata_frame("a", "b", data=str(tmp_path / "set"))
    assert set(frame["stratum"]) > {"caption length", "caption specificity"}


def test_a_row_for_each_model_metric_and_size(three):
    frame = analysis.growth_frame("a", "c", metrics=["mrr", "recall_at_1"], sizes=[0, 80], **HERE)
    assert list(frame) == ["model", "distractors", "corpus_size", "metric", "value", "low", "high", "method"]
    assert frame["model"].tolist() == ["a"] * 4 + ["c"] * 4
    points = [
        p for run in (three[0], three[2]) for of in growth(run, ["mrr", "recall_at_1"], [0, 80]).values() for p in of
    ]
    assert [tuple(row) for row in frame.drop(columns="model").itertuples(index=False)] == [tuple(p) for p in points]


def test_growth_is_of_ndcg_and_the_usual_sizes_unless_told_otherwise(three, monkeypatch):
    from mteb_vehicle_search.analysis import frames

    asked = []
    monkeypatch.setattr(frames, "growth", lambda ranks, metrics, sizes: asked.append((tuple(metrics), sizes)) or {})
    analysis.growth_frame("c")
    assert asked == [(("ndcg_at_10",), None)]


def test_the_row_of_an_equivalence(home):
    special, general = put("m", [30, 2, 4, 1]), put("m", [9, 2, 4, 1], content_id="6" * 64)
    for metric, given in (("ndcg_at_10", {}), ("mrr_at_10", {"metric": "mrr_at_10"})):
        frame = analysis.equivalence_frame(str(special.record.folder), general.record.folder, **given)
        expected = equivalence(special, general, metric)
        assert list(frame) == list(expected._fields)
        assert [None if pd.isna(value) else value for value in frame.iloc[0]] == list(expected)


def test_a_row_for_each_result_and_each_published_figure(three, tmp_path):
    entry = '{"task_name": "VehicleImageSearch", "model_name": "M", "source": "s", "scores": {"ndcg_at_10": 0.5}}'
    (tmp_path / "reported.json").write_text(f'{{"schema_version": 1, "reported": [{entry}]}}')
    frame = analysis.leaderboard_frame(str(tmp_path / "reported.json"), three[0].record.folder)
    assert frame["model"].tolist() == ["a", "M"]
    assert frame["reported"].tolist() == [False, True]
    assert frame["content_id"].tolist()[0] == "5" * 64
    assert frame["task"].tolist() == ["VehicleImageSearch"] * 2
    assert frame["source"].tolist()[1] == "s"
    board = build_leaderboard([three[0].record.folder]).document["tables"][0]["rows"][0]
    assert all(frame[name][0] == value for name, value in board.items() if isinstance(value, (float, str)))


def test_where_the_leaderboard_looks(three, home, tmp_path):
    assert sorted(analysis.leaderboard_frame()["model"]) == ["a", "a", "b", "b", "c"]
    assert sorted(analysis.leaderboard_frame(task="VehicleImageSearchMini")["model"]) == ["a", "b"]
    place = three[2].record.folder
    assert sorted(analysis.leaderboard_frame(runs=str(place))["model"]) == ["c"]
    assert sorted(analysis.leaderboard_frame(place, runs=tmp_path / "nowhere")["model"]) == ["c"]


@pytest.mark.parametrize("name", ["queries_frame", "comparison_frame", "strata_frame", "growth_frame"])
def test_runs_are_chosen_as_on_the_command_line(three, tmp_path, name):
    few = {"growth_frame": {"sizes": [80]}}.get(name, {})
    models = ["a"] if name in ("queries_frame", "growth_frame") else ["a", "b"]

    def best(**options) -> float:
        frame = getattr(analysis, name)(*models, **few, **options)
        return frame[{"queries_frame": "ndcg_at_10", "growth_frame": "value"}.get(name, "a")].max()

    five, six = best(content_id="5"), best(content_id="6")
    assert six < five
    assert best(task="VehicleImageSearch") == five
    assert best(task="VehicleImageSearchMini") == six
    assert best(runs=three[0].record.folder.parent) == five
    for wrong in ({}, {"content_id": "7"}, {"task": "Other"}, {"runs": tmp_path / "nowhere", "content_id": "5"}):
        with pytest.raises(ResultsError):
            best(**wrong)
