"""What ranges of ranks claim, on simulated worlds: tests and ranks say the same, and true ranks lie in their ranges."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, permutations, product

import numpy as np
import pytest
from hand_made_runs import hand_made

from mteb_vehicle_search.analysis import leaderboard
from mteb_vehicle_search.analysis.leaderboard import rank_ranges
from mteb_vehicle_search.analysis.ranks import RunRanks
from mteb_vehicle_search.analysis.uncertainty import cluster_sums, holm, sign_flip_p_values

METRIC = "ndcg_at_10"


def world(generator: np.random.Generator, skills: Sequence[float], images: int) -> dict[int, RunRanks]:
    """Runs of models, the lower the skill the better, that find the same images hard."""
    hard = generator.normal(0, 1, images)
    ranks = [np.exp(skill + hard + generator.normal(0, 0.5, images)).clip(1, 5_000) for skill in skills]
    return {n: hand_made(of_run.astype(int).tolist(), corpus_size=5_000) for n, of_run in enumerate(ranks)}


def better_pairs(runs: dict[int, RunRanks]) -> set[tuple[int, int]]:
    """(better, worse) of all pairs that the tests tell apart, or that follow from two of them."""
    pairs = list(combinations(runs, 2))
    of_images = {n: cluster_sums(run.scores(METRIC), run.clusters).sums for n, run in runs.items()}
    p_values = holm(sign_flip_p_values(np.stack([of_images[i] - of_images[j] for i, j in pairs], axis=1)))
    found = {
        (i, j) if of_images[i].sum() > of_images[j].sum() else (j, i) for (i, j), p in zip(pairs, p_values) if p < 0.05
    }
    while more := {(i, k) for (i, j), (other, k) in product(found, found) if j == other} - found:
        found |= more
    return found


def test_ranges_say_what_the_tests_say():
    """Of 3,000 pairs: those that are told apart have ranges in the order of their scores, the others overlap."""
    generator = np.random.default_rng(7)
    apart = together = odd = 0
    for _ in range(200):
        runs = world(generator, generator.normal(2.0, 0.25, 6), 40)
        ranges, told = rank_ranges(runs), better_pairs(runs)
        means = {n: run.scores(METRIC).mean() for n, run in runs.items()}
        assert ranges == {
            n: (1 + sum(worse == n for _, worse in told), 6 - sum(better == n for better, _ in told)) for n in runs
        }
        for i, j in permutations(runs, 2):
            (first, last), (other_first, other_last) = ranges[i], ranges[j]
            if (i, j) in told:
                apart += 1
                assert means[i] > means[j]
                assert (first < other_first, last < other_last) == (True, True)
            elif (j, i) not in told:
                together += 1
                assert max(first, other_first) <= min(last, other_last)
                odd += means[i] > means[j] and first > other_first
    # Every pair without an order was met from both sides.
    assert apart + together / 2 == 3_000
    assert min(apart, together / 2) > 500
    assert odd > 0, "no better score has a later first rank: a rank of one number would have misled there"


def test_more_models_get_more_sign_flips():
    """With 10,000 flips no p-value of the 561 pairs of 34 models could be small enough for Holm's method."""
    ranges = rank_ranges(world(np.random.default_rng(1), [0.0] * 17 + [4.0] * 17, 40))
    assert {one.last for n, one in ranges.items() if n < 17} == {17}
    assert {one.first for n, one in ranges.items() if n >= 17} == {18}


@pytest.mark.parametrize("skills", [(1.7,) * 5, (1.6, 1.7, 1.7, 2.0, 2.6)])
def test_all_true_ranks_lie_in_the_ranges_at_once(skills, monkeypatch):
    """In 95 % of worlds; 200 of them tell 0.95 from less than 0.905 (three standard errors).

    The true rank of equal models is all that they share.
    """
    true = [(1 + sum(other < one for other in skills), sum(other <= one for other in skills)) for one in skills]

    def share_held() -> float:
        generator, held = np.random.default_rng(3), 0
        for _ in range(200):
            found = rank_ranges(world(generator, skills, 30))
            held += all(found[n].first <= first and last <= found[n].last for n, (first, last) in enumerate(true))
        return held / 200

    assert share_held() >= 0.905
    if len({*skills}) == 1:
        # Ten true hypotheses: without Holm's adjustment the same check fails.
        monkeypatch.setattr(leaderboard, "holm", lambda p_values: p_values)
        assert share_held() < 0.905


def test_what_is_better_than_a_better_run_is_better(monkeypatch):
    """p-values that separate 0 from 1 and 1 from 2, but not 0 from 2."""
    monkeypatch.setattr(leaderboard, "sign_flip_p_values", lambda differences, flips: np.array([0.01, 0.2, 0.01]))
    runs = {n: hand_made([1 + n] * 6) for n in range(3)}
    assert rank_ranges(runs) == {0: (1, 1), 1: (2, 2), 2: (3, 3)}
