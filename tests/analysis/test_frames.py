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
from simulated_runs import MODELS, write_run

import mteb_vehicle_search.analysis as analysis
from mteb_vehicle_search.analysis.compare import compare
from mteb_vehicle_search.analysis.ranks import load_ranks

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
