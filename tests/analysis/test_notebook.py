"""In a notebook: the docs' examples run, and what the functions return makes frames of the commands' figures."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hand_made_runs import hand_made, info_of, table_of
from simulated_runs import MODELS, write_run
from small_set import small_set

import mteb_vehicle_search.analysis as analysis
from mteb_vehicle_search.analysis import build_leaderboard, choose_runs, equivalence, growth, load_ranks, queries_of
from mteb_vehicle_search.analysis.compare import compare
from mteb_vehicle_search.analysis.ranks import RunRanks
from mteb_vehicle_search.eval_set import EvalSet
from mteb_vehicle_search.run_record import write_run_record

DOCS = Path(__file__).parents[2] / "mteb_vehicle_search" / "analysis" / "README.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)


def test_the_public_names_are_those_of_the_package():
    assert set(analysis.__all__) == {
        "build_leaderboard",
        "choose_runs",
        "clustered_interval",
        "equivalence",
        "growth",
        "hold_out",
        "holm",
        "load_ranks",
        "miner_bias",
        "paired_comparison",
        "pool_figures",
        "queries_of",
        "rank_ranges",
    }
    assert all(getattr(analysis, name).__name__ == name for name in analysis.__all__)


def test_importing_loads_no_large_library():
    code = (
        "import sys, mteb_vehicle_search.analysis\n"
        "print([name for name in ('torch', 'mteb', 'pandas', 'scipy', 'rich') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def value_of(example: str) -> Any:
    """Run an example and return the value of its last line."""
    *statements, last = ast.parse(example).body
    scope: dict = {}
    exec(compile(ast.Module(statements, []), "example", "exec"), scope)
    return eval(compile(ast.Expression(last.value), "example", "eval"), scope)  # noqa: S307


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_examples_of_the_docs_run(home, example):
    small = {"images": 60, "captions": 5, "distractors": 900}
    write_run(MODELS[0]._replace(name="vehicle-search/tiny-clip"), **small)
    write_run(MODELS[2]._replace(name="my-org/my-model"), **small)
    if "equivalence" in example:
        write_run(MODELS[2]._replace(name="my-org/my-model"), **small, content_id="6" * 64)
    value = value_of(example)
    if isinstance(value, pd.DataFrame):
        assert len(value)
        assert not value.isna().all(axis=None)
    else:
        assert np.isfinite(value).all()


def put(name: str, ranks: list[int], **changed) -> RunRanks:
    """Write a run of the given ranks, two queries to an image; return its ranks as they are read."""
    images = [f"flickr30k/{n // 2}" for n in range(len(ranks))]
    info = info_of(model_name=name, **{key: changed.pop(key) for key in ("content_id", "task_name") if key in changed})
    made = hand_made(ranks, **{"relevant_ids": images, **changed})
    return load_ranks(write_run_record(table_of(made), {**info, "model_name": name}))


def test_a_frame_of_the_leaderboard(home):
    put("a", [1, 2, 3, 4])
    put("b", [9, 9, 9, 9])
    rows = build_leaderboard().document["tables"][0]["rows"]
    frame = pd.DataFrame(rows)
    assert frame["model"].tolist() == ["a", "b"]
    assert frame["ndcg_at_10"].tolist() == [row["ndcg_at_10"] for row in rows]


def test_a_frame_of_the_queries(home):
    run = put("a", [3, 1, 7, 2])
    frame = choose_runs(["a"])[0].queries().to_pandas().set_index("query_id").sort_index()
    assert frame.index.tolist() == run.query_ids.tolist()
    assert frame["rank"].tolist() == [3, 1, 7, 2]
    assert (frame["above_flickr30k"] + frame["above_imagenet"] + 1 == frame["rank"]).all()


def test_frames_of_a_comparison_and_of_its_strata(home, tmp_path):
    eval_set = small_set(tmp_path / "set", captioned=6, captions=2)
    ids = {"query_ids": [query.id for query in EvalSet.open(tmp_path / "set").queries()]}
    ids["relevant_ids"] = [f"flickr30k/{id[:4]}" for id in ids["query_ids"]]
    for name, ranks in (("a", range(1, 13)), ("b", range(12, 0, -1))):
        put(name, list(ranks), content_id=eval_set.content_id, **ids)
    a, b = map(load_ranks, choose_runs(["a", "b"]))
    found = compare(a, b, queries=queries_of(eval_set.content_id, tmp_path / "set"))
    frame = pd.DataFrame([found.paired.difference])
    assert frame.to_dict("records") == [found.paired.difference._asdict()]
    parts = pd.DataFrame(found.effects)
    assert set(parts["stratum"]) == {"rivals in both top tens", "beaten by", "caption length", "caption specificity"}
    assert parts["p_adjusted"].tolist() == [effect.p_adjusted for effect in found.effects]
    assert (parts.groupby("stratum")["queries"].sum() == 12).all()


def test_frames_of_growth_and_of_an_equivalence(home):
    special, general = put("m", [30, 2, 4, 1]), put("m", [9, 2, 4, 1], content_id="6" * 64)
    points = growth(special, ["mrr", "recall_at_1"], [0, 80])["mrr"]
    frame = pd.DataFrame(points)
    assert list(frame) == ["distractors", "corpus_size", "metric", "value", "low", "high", "method"]
    assert [tuple(row) for row in frame.itertuples(index=False)] == [tuple(point) for point in points]
    expected = equivalence(special, general)
    row = pd.DataFrame([expected]).iloc[0]
    assert [None if pd.isna(value) else value for value in row] == list(expected)
