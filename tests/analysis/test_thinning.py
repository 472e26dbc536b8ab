"""Fewer distractors: scores of a rank, and expectations against every choice and a plain sum."""

from __future__ import annotations

import math
import tracemalloc
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import hypergeom

from mteb_vehicle_search.analysis import thinning
from mteb_vehicle_search.analysis.thinning import thinned
from mteb_vehicle_search.errors import ResultsError
from mteb_vehicle_search.metrics import growing, of_growth

CUTS = {
    "ndcg_at_10": 10,
    "mrr_at_10": 10,
    "mrr": None,
    "recall_at_1": 1,
    "recall_at_5": 5,
    "recall_at_10": 10,
    "recall_at_100": 100,
}


def worth(metric: str, rank: float) -> float:
    """Return the score of one rank."""
    if CUTS[metric] is not None and rank > CUTS[metric]:
        return 0.0
    return {"ndcg": 1 / math.log2(1 + rank), "mrr": 1 / rank, "recall": 1.0}[metric.partition("_")[0]]


def test_the_metrics_and_their_last_ranks():
    assert tuple(CUTS) == growing()
    assert {metric: of_growth(metric).cut for metric in growing()} == CUTS


@pytest.mark.parametrize("metric", growing())
def test_the_score_of_a_rank(metric):
    ranks = [1, 2, 5, 6, 10, 11, 100, 101, 5_000]
    found = of_growth(metric).of_rank(np.array(ranks, dtype=float))
    np.testing.assert_allclose(found, [worth(metric, rank) for rank in ranks], rtol=1e-14)
    assert found.dtype == np.float64


def test_an_unknown_metric_names_the_known_ones():
    for ask in (of_growth, lambda metric: thinned(metric, np.array([0]), np.array([0]), 1, 1)):
        with pytest.raises(ResultsError, match="knows no metric 'map_at_10'") as refused:
            ask("map_at_10")
        assert all(metric in str(refused.value) for metric in growing())


def expected(metric: str, c: int, d: int, total: int, n: int) -> float:
    """Return the sum over the numbers of distractors above, up to 15 standard deviations away, by their logarithms."""
    if not total:
        return worth(metric, 1 + c)
    mean, spread = n * d / total, math.sqrt(n * (d / total) * (1 - d / total) * (total - n) / max(total - 1, 1))
    low, high = max(0, n - (total - d), int(mean - 15 * spread - 60)), min(n, d, int(mean + 15 * spread + 60))
    log = {k: math.lgamma(k + 1) for k in (d, total - d, total, n, total - n)}
    sums = []
    for k in range(low, high + 1):
        above = log[d] - math.lgamma(k + 1) - math.lgamma(d - k + 1)
        below = log[total - d] - math.lgamma(n - k + 1) - math.lgamma(total - d - n + k + 1)
        chance = math.exp(above + below - (log[total] - log[n] - log[total - n]))
        sums.append(chance * worth(metric, 1 + c + k))
    return math.fsum(sums)


def test_the_expectation_of_these_tests_is_scipys():
    x = np.arange(301)
    by_scipy = hypergeom.pmf(x, 1_000, 300, 400) @ [worth("mrr", 3 + k) for k in x.tolist()]
    assert expected("mrr", 2, 300, 1_000, 400) == pytest.approx(by_scipy, rel=1e-9)


@pytest.mark.parametrize("metric", growing())
@pytest.mark.parametrize("n", [0, 1, 4, 8, 9])
def test_the_mean_over_every_choice_of_distractors(metric, n):
    captioned, above = np.array([0, 0, 2, 7, 0, 1]), np.array([0, 3, 5, 9, 9, 1])
    found = thinned(metric, captioned, above, 9, n)
    assert found.dtype == np.float64
    for c, d, value in zip(captioned.tolist(), above.tolist(), found):
        scores = [worth(metric, 1 + c + sum(i < d for i in chosen)) for chosen in combinations(range(9), n)]
        assert value == pytest.approx(np.mean(scores), abs=1e-12)


@settings(derandomize=True, max_examples=30, deadline=None)
@given(st.data())
def test_expectations_of_any_corpus(data):
    total = data.draw(st.integers(0, 3_000))
    n = data.draw(st.integers(0, total))
    metric = data.draw(st.sampled_from(growing()))
    pairs = data.draw(st.lists(st.tuples(st.integers(0, 120), st.integers(0, total)), min_size=1, max_size=5))
    captioned, above = np.array(pairs).T
    found = thinned(metric, captioned, above, total, n)
    for (c, d), value in zip(pairs, found):
        assert value == pytest.approx(expected(metric, c, d, total, n), abs=1e-9)


@pytest.mark.parametrize(("d", "n"), [(30_000, 30_000), (59_999, 40_000), (60_000, 5), (1, 59_999), (300, 20_000)])
def test_far_tails_are_left_out_and_nothing_else(d, n):
    for c in (0, 3):
        (found,) = thinned("mrr", np.array([c]), np.array([d]), 60_000, n)
        assert found == pytest.approx(expected("mrr", c, d, 60_000, n), rel=1e-8)


def test_the_window_is_ten_deviations_and_forty_more():
    """Few enough terms for a run of ten thousand queries, enough for twelve digits."""
    assert thinning.WINDOW_DEVIATIONS == 10
    total, d, n = 60_000, 30_000, 30_000
    spread = math.sqrt(total) / 4
    tracemalloc.start()
    try:
        thinned("mrr", np.arange(200), np.full(200, d), total, n)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    terms = 200 * 2 * (10 * spread + 40)
    assert peak < 12 * 8 * terms + 8 * 4 * total


@pytest.mark.parametrize("terms", [1, 7, 1 << 21])
@pytest.mark.parametrize("metric", ["mrr", "recall_at_5"])
def test_blocks_do_not_change_the_sums(monkeypatch, terms, metric):
    monkeypatch.setattr(thinning, "TERMS", terms)
    captioned, above = np.array([0, 5, 0, 3, 40, 0, 1]), np.array([0, 3, 50, 17, 4, 50, 21])
    found = thinned(metric, captioned, above, 50, 20)
    np.testing.assert_allclose(found, [expected(metric, c, d, 50, 20) for c, d in zip(captioned, above)], atol=1e-12)


def test_terms_are_held_in_blocks(monkeypatch):
    monkeypatch.setattr(thinning, "TERMS", 1 << 12)
    above = np.arange(2_000, 2_500)
    tracemalloc.start()
    try:
        thinned("mrr", np.zeros(500, np.int64), above, 6_000, 2_000)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # About 300,000 terms, of which 4,096 are held at once in some ten arrays.
    assert peak < 1.2e6


def test_more_than_a_block_of_the_real_size():
    # Each of them has some 1,300 terms; a block holds 2,097,152.
    above = np.arange(29_000, 31_000)
    found = thinned("mrr", np.zeros(2_000, np.int64), above, 60_000, 30_000)
    for at in (0, 999, 1_999):
        assert found[at] == pytest.approx(expected("mrr", 0, int(above[at]), 60_000, 30_000), rel=1e-8)
    assert (np.diff(found) < 0).all()


@pytest.mark.parametrize("n", [-1, 10])
def test_more_than_all_or_fewer_than_none_cannot_be_kept(n):
    with pytest.raises(ResultsError, match=f"Of 9 distractors {n} cannot be kept"):
        thinned("mrr", np.array([0]), np.array([0]), 9, n)


def test_without_distractors_the_captioned_images_decide():
    np.testing.assert_allclose(thinned("mrr", np.array([0, 1, 3]), np.zeros(3, int), 0, 0), [1, 1 / 2, 1 / 4])
