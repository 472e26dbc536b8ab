"""Corrected scores in worlds with planted false negatives; benchmarks/judging.py has the full form."""

from __future__ import annotations

import numpy as np
import pytest
from judged_worlds import coverage, drawn, people

WIDEST = {0.02: 0.016, 0.10: 0.019, 0.30: 0.018}


@pytest.mark.parametrize(
    ("share", "images", "budget", "judges"),
    [
        pytest.param(0.02, 300, 60, 1, marks=pytest.mark.slow),
        (0.10, 300, 100, 2),
        pytest.param(0.30, 200, 260, 2, marks=pytest.mark.slow),
    ],
)
def test_intervals_hold_what_judging_everything_would_give(share, images, budget, judges):
    """Of 60 worlds and two models; a standard error of a share is about 2.5 %."""
    of = people(np.random.default_rng(5), 2_000, share)
    found = coverage(of, images, budget, 60, seed=6, judges=judges, models=2)
    assert found.these.mean() >= 0.88
    assert found.further.mean() >= 0.88
    assert found.difference >= 0.88
    assert found.told_apart <= 0.13
    # Intervals of other widths would hold it as well, or better.
    assert found.half_these < WIDEST[share]
    assert abs(found.bias) < 3.5


def test_all_judged_by_one_judge_is_the_exact_answer():
    generator = np.random.default_rng(7)
    of = people(generator, 1_000, 0.10)
    world = drawn(generator, of, 120, 10_000, judges=1)
    found = world.sampled(of, 0).estimate(world.clusters, world.frame)
    assert found.mean == pytest.approx(world.answer(of, 0), abs=1e-12)
    assert found.judging == pytest.approx(0, abs=1e-15)
