"""Corrected scores with a model's predictions, in worlds with planted false negatives (benchmarks/judging.py)."""

from __future__ import annotations

import numpy as np
import pytest
from judged_worlds import scene
from predicted_worlds import GOOD, OWN, PLAIN, USELESS, coverage


@pytest.mark.parametrize("worlds", [6, pytest.param(80, marks=pytest.mark.slow)])
def test_predictions_narrow_intervals_which_hold_what_they_should(worlds):
    """Also those of the scored model itself; a useless one costs nothing. Standard errors are at most 2.5 %."""
    of = scene(np.random.default_rng(5), 1_000, 0.10, 0.05)
    found = coverage(of, 120, 60, worlds, seed=6)
    plain = found[PLAIN]
    assert found[GOOD].half_these < 0.8 * plain.half_these
    assert found[GOOD].half_difference < 0.95 * plain.half_difference
    assert found[OWN].half_these < 1.0 * plain.half_these
    assert found[USELESS].half_these < 1.03 * plain.half_these
    least = 0.88 if worlds > 20 else 0.6
    for one in found.values():
        assert min(one.these, one.further, one.difference) >= least
        assert abs(one.bias) < 3.5 + 12 / worlds
