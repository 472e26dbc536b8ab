"""The GPU benchmark: that it runs, what it says without a GPU, and its targets where there is one."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "encode_gpu.py"


def run(*arguments):
    return subprocess.run([sys.executable, SCRIPT, *arguments], capture_output=True, text=True, timeout=1800)


def test_its_code_runs_on_a_processor(tmp_path):
    done = run("--smoke", "--out", tmp_path / "found.json")
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    for name in ("metaclip", "jina"):
        figures = [value for value in found[name].values() if isinstance(value, float)]
        assert len(figures) == 10
        assert all(math.isfinite(value) and value > 0 for value in figures)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_gpu_it_says_so():
    done = run()
    assert (done.returncode, done.stdout) == (0, "")
    assert "nothing was measured" in done.stderr


@pytest.mark.gpu
def test_the_targets_are_met(tmp_path):
    done = run("--out", tmp_path / "found.json")
    assert done.returncode == 0, done.stderr
    assert "MISSED" not in done.stdout, done.stdout
