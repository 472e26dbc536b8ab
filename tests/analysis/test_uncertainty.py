"""Intervals and tests, checked by simulation and against scipy."""

from __future__ import annotations

import inspect
import time
import tracemalloc
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_intervals import difference_interval, score_interval
from scipy.stats import permutation_test, t
from simulated_scores import (
    WORLDS,
    Pair,
    World,
    by_image,
    covered,
    latent,
    of_log_ranks,
    paired_scores,
    percentile_bootstrap,
    present,
    scores,
    stratum,
)
from simulations import clustered_scores, type_1_error

from mteb_vehicle_search.analysis import uncertainty
from mteb_vehicle_search.analysis.limits import FEWEST_IMAGES, difference_limits, score_limits
from mteb_vehicle_search.analysis.uncertainty import (
    Interval,
    cluster_sums,
    clustered_interval,
    holm,
    paired_comparison,
    resampled_means,
    sign_flip_p_values,
    too_few,
)
from mteb_vehicle_search.errors import ResultsError


@pytest.mark.parametrize("count", [3, 8, 12])
def test_enumerated_sign_flips_agree_with_scipy_exactly(count):
    sums = np.random.default_rng(count).normal(0.4, 1, count)
    expected = permutation_test(
        (sums, np.zeros(count)), lambda x, y: np.mean(x - y), permutation_type="samples", n_resamples=np.inf
    )
    assert sign_flip_p_values(sums)[0] == pytest.approx(expected.pvalue, abs=1e-12)


@pytest.mark.parametrize("shift", [0.0, 0.15, 0.3])
def test_random_sign_flips_agree_with_scipy(shift):
    generator = np.random.default_rng(5)
    sums = generator.normal(shift, 1, 80)
    expected = permutation_test(
        (sums, np.zeros(80)),
        lambda x, y, axis: np.mean(x - y, axis=axis),
        permutation_type="samples",
        n_resamples=20_000,
        vectorized=True,
        rng=generator,
    ).pvalue
    error = 4 * np.sqrt(max(expected * (1 - expected), 1e-4) * (1 / 20_000 + 1 / 20_000))
    assert abs(sign_flip_p_values(sums, flips=20_000)[0] - expected) < error


def test_many_columns_get_the_p_values_that_each_alone_gets():
    sums = np.random.default_rng(0).normal(0.1, 1, (60, 3))
    together = sign_flip_p_values(sums, flips=2_000, seed=4)
    alone = [sign_flip_p_values(sums[:, j], flips=2_000, seed=4)[0] for j in range(3)]
    np.testing.assert_array_equal(together, alone)


def test_no_difference_has_p_one():
    assert sign_flip_p_values(np.zeros(50))[0] == 1.0


def test_both_ways_to_add_up_resamples_agree():
    values, clusters = clustered_scores(np.random.default_rng(0), 30, 5)
    values, clusters = values[:-2], clusters[:-2]
    few = resampled_means(values, clusters, resamples=50)
    many = resampled_means(np.repeat(values[:, None], 6, axis=1), clusters, resamples=50)
    np.testing.assert_allclose(many, np.repeat(few[:, None], 6, axis=1), rtol=1e-12)


def test_the_bootstrap_spread_is_that_of_a_mean_of_clusters():
    values, clusters = clustered_scores(np.random.default_rng(3), 300, 5)
    expected = values.reshape(300, 5).mean(axis=1).std() / np.sqrt(300)
    assert resampled_means(values, clusters, resamples=4_000).std() == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize(
    ("values", "clusters", "words"),
    [
        ([], [], "no values"),
        ([0.5, np.nan], [1, 2], "Value 1 of 2"),
        ([0.5, np.inf], [1, 2], "not a finite number"),
        ([0.5], [1, 2], "2 cluster labels"),
        ([0.5, 1.01], [1, 2], "Value 1 of 2 is 1.01; scores lie between 0 and 1"),
        ([-0.01, 1.0], [1, 2], "Value 0 of 2"),
    ],
)
def test_unusable_values_are_refused(values, clusters, words):
    with pytest.raises(ResultsError, match=words):
        clustered_interval(np.array(values), np.array(clusters))


@pytest.mark.parametrize("level", [0, 1, 95])
def test_an_impossible_level_is_refused(level):
    with pytest.raises(ResultsError, match="between 0 and 1"):
        clustered_interval(np.array([0.5]), np.array([1]), level=level)


def test_holm_on_the_textbook_case():
    np.testing.assert_allclose(holm(np.array([0.01, 0.04, 0.03, 0.005])), [0.03, 0.06, 0.06, 0.02])


def test_a_comparison_counts_by_query_and_by_image():
    a, b = np.array([1, 0, 0.5, 0.5, 0, 0]), np.array([0, 0.5, 0.5, 0.5, 1, 0])
    found = paired_comparison(a, b, np.array([1, 1, 2, 2, 3, 3]), resamples=200)
    assert (found.query_wins, found.query_losses, found.query_ties) == (1, 2, 3)
    assert (found.image_wins, found.image_losses, found.image_ties) == (1, 1, 1)
    assert found.difference.mean == pytest.approx(-0.5 / 6)


def test_swapped_models_give_the_mirrored_comparison():
    a, clusters = clustered_scores(np.random.default_rng(0), 50, 5)
    b, _ = clustered_scores(np.random.default_rng(1), 50, 5)
    one, other = paired_comparison(a, b, clusters), paired_comparison(b, a, clusters)
    assert one.p_value == other.p_value
    assert one.difference.low == pytest.approx(-other.difference.high)
    assert one.query_wins == other.query_losses


def test_unequal_lengths_are_not_compared():
    with pytest.raises(ResultsError, match="same data"):
        paired_comparison(np.zeros(3), np.zeros(4), np.arange(3))


def test_sums_by_cluster():
    found = cluster_sums(np.array([1.0, 2, 3]), np.array(["b", "a", "b"]))
    assert found.sums.tolist() == [2, 4]
    assert found.counts.tolist() == [1, 2]


def drawn_by_hand(values: np.ndarray, clusters: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Return bootstrap means by putting the drawn clusters' values after each other."""
    groups = [values[clusters == label] for label in sorted(set(clusters.tolist()))]
    generator = np.random.default_rng(seed)
    drawn = generator.integers(0, len(groups), size=(resamples, len(groups)), dtype=np.int32)
    return np.stack([np.concatenate([groups[i] for i in row]).mean(axis=0) for row in drawn])


@pytest.mark.parametrize("columns", [None, 1, 4, 5])
@pytest.mark.parametrize("block", [1, 50, 1 << 21])
@pytest.mark.parametrize("sizes", [(2, 2, 2, 2, 2), (1, 4, 2, 7)])
def test_resamples_are_means_over_all_values_of_the_drawn_clusters(monkeypatch, columns, block, sizes):
    monkeypatch.setattr(uncertainty, "BLOCK", block)
    clusters = np.repeat(np.arange(len(sizes)), sizes)[::-1]
    values = np.random.default_rng(3).random((len(clusters), columns) if columns else len(clusters))
    found = resampled_means(values, clusters, resamples=37, seed=11)
    assert found.shape == (37, *values.shape[1:])
    np.testing.assert_allclose(found, drawn_by_hand(values, clusters, 37, 11), rtol=1e-12)


def test_ten_thousand_resamples_of_seed_0_at_95_percent_unless_told_otherwise():
    values, clusters = clustered_scores(np.random.default_rng(0), 20, 2)
    other = clustered_scores(np.random.default_rng(1), 20, 2)[0]
    given_all = {"resamples": 10_000, "seed": 0}
    means = resampled_means(values, clusters)
    assert means.shape == (10_000,)
    np.testing.assert_array_equal(means, resampled_means(values, clusters, **given_all))
    assert clustered_interval(values, clusters) == clustered_interval(values, clusters, level=0.95)
    assert paired_comparison(values, other, clusters) == paired_comparison(
        values, other, clusters, **given_all, level=0.95
    )
    sums = cluster_sums(values - other, clusters).sums
    np.testing.assert_array_equal(sign_flip_p_values(sums), sign_flip_p_values(sums, flips=10_000, seed=0))
    for function in (resampled_means, paired_comparison):
        assert inspect.signature(function).parameters["resamples"].default == 10_000


def test_a_refusal_names_the_first_value_and_both_lengths():
    with pytest.raises(ResultsError, match=r"^Value 2 of 4 is not a finite number"):
        cluster_sums(np.array([[0, 1], [1, 0], [0, np.nan], [np.inf, 0]]), np.arange(4))
    with pytest.raises(ResultsError, match=r"^There are 3 values but 2 cluster labels"):
        cluster_sums(np.zeros(3), np.arange(2))
    with pytest.raises(ResultsError, match=r"between 0 and 1, not at 1\.5"):
        clustered_interval(np.zeros(3), np.arange(3), level=1.5)
    with pytest.raises(ResultsError, match=r"^Model A has 3 queries, model B 4"):
        paired_comparison(np.zeros(3), np.zeros(4), np.arange(3))


def test_sums_by_cluster_keep_columns_apart():
    found = cluster_sums(np.array([[1.0, 10], [2, 20], [3, 30]]), np.array(["b", "a", "b"]))
    assert found.sums.tolist() == [[2, 20], [4, 40]]
    assert found.counts.tolist() == [1, 2]
    assert found.counts.dtype == np.float64
    assert cluster_sums([1, 2], ["x", "x"]).sums.tolist() == [3.0]
    assert cluster_sums(np.array([1, 2]), np.array([0, 1])).sums.dtype == np.float64


def exact_p_value(sums: np.ndarray) -> float:
    """Return the share of all sign patterns whose total is at least as far from 0."""
    totals = np.array(list(product((-1, 1), repeat=len(sums)))) @ sums
    return float((np.abs(totals) >= abs(sums.sum()) - 1e-9).mean())


def test_thirteen_differing_clusters_are_enumerated_and_fourteen_are_not():
    sums = np.random.default_rng(6).normal(0.3, 1, 14)
    few = np.append(sums[:13], np.zeros(50))
    assert sign_flip_p_values(few, flips=10, seed=0)[0] == exact_p_value(sums[:13])
    assert sign_flip_p_values(few, flips=10, seed=0) == sign_flip_p_values(few, flips=999, seed=5)
    seeds = {sign_flip_p_values(sums, flips=999, seed=seed)[0] for seed in range(5)}
    assert len(seeds) > 1
    assert all(p * 1_000 == pytest.approx(round(p * 1_000)) for p in seeds)


@pytest.mark.parametrize(("count", "block"), [(14, 1 << 21), (16, 700), (15, 1), (15, 15 * 1_000)])
def test_random_patterns_come_near_the_share_of_all_patterns(monkeypatch, count, block):
    monkeypatch.setattr(uncertainty, "BLOCK", block)
    flips = 3_000 if block == 1 else 12_000
    sums = np.random.default_rng(count).normal(0.25, 1, count)
    expected = exact_p_value(sums)
    found = sign_flip_p_values(sums, flips=flips, seed=3)[0]
    assert found == pytest.approx(expected, abs=4 * np.sqrt(expected * (1 - expected) / flips))


def test_all_signs_of_eight_images_are_as_likely_as_any_other_pattern():
    # Of sixteen images eight differ by rounding only: as far are the patterns with one sign for the other eight.
    for sums in (np.repeat([1.0, 1e-15], 8), np.repeat([1e-15, 1.0], 8)):
        assert sign_flip_p_values(sums, flips=40_000)[0] == pytest.approx(2 / 256, rel=0.2)


@pytest.mark.parametrize("block", [100, 60 * 100, 1 << 21])
def test_the_observed_pattern_is_counted_in_and_no_pattern_twice(monkeypatch, block):
    monkeypatch.setattr(uncertainty, "BLOCK", block)
    # Sixty equal differences: no random pattern is as far. Their halves against each other: every pattern is.
    columns = np.stack([np.ones(60), np.repeat([1.0, -1.0], 30), np.zeros(60)], axis=1)
    assert sign_flip_p_values(columns, flips=999).tolist() == [1 / 1_000, 1.0, 1.0]


def test_columns_with_few_many_and_no_differences_are_told_apart():
    generator = np.random.default_rng(4)
    many, few = generator.normal(0.2, 1, 40), np.append([3.0, 2.0, 1.0], np.zeros(37))
    found = sign_flip_p_values(np.stack([few, many, np.zeros(40), -many], axis=1), flips=500, seed=2)
    assert found[[0, 2]].tolist() == [2 / 8, 1.0]
    assert found[1] == found[3] == sign_flip_p_values(many, flips=500, seed=2)[0]


@pytest.mark.parametrize(("less", "share"), [(1e-13, 4 / 8), (1e-9, 2 / 8)])
def test_totals_that_differ_by_rounding_are_equally_far(less, share):
    for scale in (1e-4, 1, 1e4):
        assert sign_flip_p_values(np.array([1.0, 1.0, less]) * scale)[0] == share


@pytest.mark.parametrize(("columns", "limit"), [(1, 45e6), (6, 60e6)])
def test_resamples_are_held_in_blocks_of_two_million(columns, limit):
    values = np.zeros((3_000, columns))
    tracemalloc.start()
    try:
        resampled_means(values, np.arange(3_000), resamples=2_800)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        sign_flip_p_values(values + 1, flips=2_800)
        flipped = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < limit
    assert flipped < limit


def step_down(p_values: list[float]) -> list[float]:
    """Return Holm's adjusted p-values as his paper tells it: the smallest first, each times those not yet judged."""
    left, worst, adjusted = list(range(len(p_values))), 0.0, {}
    while left:
        at = min(left, key=lambda i: p_values[i])
        worst = max(worst, len(left) * p_values[at])
        adjusted[at] = min(1.0, worst)
        left.remove(at)
    return [adjusted[i] for i in range(len(p_values))]


@settings(derandomize=True, max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_judges_the_smallest_first_each_against_those_left(p_values):
    np.testing.assert_allclose(holm(np.array(p_values)), step_down(p_values), rtol=1e-12)


@settings(derandomize=True, max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.integers(5, 12), st.integers(1, 4))
def test_a_comparison_is_three_intervals_and_a_test(seed, images, captions):
    a, clusters = clustered_scores(np.random.default_rng([seed, 1]), images, captions)
    b, _ = clustered_scores(np.random.default_rng([seed, 2]), images, captions)
    found = paired_comparison(a, b, clusters, resamples=60, seed=seed, level=0.8)
    for interval, values in zip((found.a, found.b), (a, b)):
        assert interval == clustered_interval(values, clusters, level=0.8)
    assert found.difference[1:] == pytest.approx(difference_interval(a - b, clusters, 0.8))
    assert found.difference.mean == pytest.approx(np.mean(a - b))
    assert (found.queries, found.images) == (images * captions, images)
    sums = np.array([(a - b)[clusters == image].sum() for image in range(images)])
    assert found.p_value == pytest.approx(sign_flip_p_values(sums, flips=60, seed=seed)[0])
    if images <= 13:
        assert found.p_value == pytest.approx(exact_p_value(sums))


def test_a_comparison_flips_as_often_as_it_resamples():
    a, clusters = clustered_scores(np.random.default_rng(0), 40, 2)
    b, _ = clustered_scores(np.random.default_rng(1), 40, 2)
    sums = cluster_sums(a - b, clusters).sums
    for flips, seed in ((50, 0), (50, 3), (800, 3)):
        found = paired_comparison(a, b, clusters, resamples=flips, seed=seed)
        assert found.p_value == sign_flip_p_values(sums, flips=flips, seed=seed)[0]


@pytest.mark.parametrize(("less", "images"), [(1e-13, (0, 0, 1)), (1e-10, (1, 0, 0)), (-1e-10, (0, 1, 0))])
def test_an_image_is_a_tie_if_its_sums_differ_by_rounding_only(less, images):
    found = paired_comparison(np.array([0.5, 0.5 + less]), np.array([0.5, 0.5]), np.array([1, 1]), resamples=10)
    assert (found.image_wins, found.image_losses, found.image_ties) == images
    assert found.query_ties == 1


def test_equal_models_are_told_apart_in_five_percent():
    clustered, by_query = type_1_error(datasets=600, images=100, captions=5, flips=400, seed=2)
    assert abs(clustered - 0.05) < 3 * 0.009
    assert by_query > 0.12


# What is demanded of the coverage, by score and number of images, with three standard errors as slack.
DATASETS = 800


def band(score: float, images: int) -> tuple[float, float]:
    low, high = (0.90, 0.995) if images == 20 else (0.93, 0.97) if 0.02 < score < 0.98 else (0.93, 0.995)
    return tuple(end + side * 3 * np.sqrt(end * (1 - end) / DATASETS) for end, side in ((low, -1), (high, 1)))


FEW_WORLDS = [World("beta", "recall_at_1", 0.6), World("ranks", "ndcg_at_10", 0.4), World("ranks", "recall_at_10", 0.0)]
TRUE_SCORES = {200: (0.002, 0.01, 0.05, 0.5, 0.95, 0.998), 20: (0.01, 0.05, 0.5, 0.98)}


@pytest.mark.parametrize("images", [200, 20])
def test_intervals_cover_scores_near_0_and_1_and_the_percentile_bootstrap_does_not(images):
    shape, wrong, wrong_before = (DATASETS, images, 5), [], []
    for number, (world, even) in enumerate(product(FEW_WORLDS, (True, False))):
        for score in TRUE_SCORES[images]:
            generator = np.random.default_rng([images, number])
            values, there = scores(generator, shape, world, score), present(generator, shape, even)
            sums, counts = by_image(values, there), by_image(np.ones(shape), there)
            low, high = band(score, images)
            for method, failed in ((score_limits, wrong), (percentile_bootstrap, wrong_before)):
                share = covered(method(sums, counts), score)
                failed += [] if low <= share <= high else [(world, even, score, share)]
    assert wrong == []
    assert len(wrong_before) >= 6


@pytest.mark.parametrize(
    ("pair", "images", "low", "high", "old"),
    [
        (Pair(0.6, 0.5, 0.7), 200, 0.93, 0.97, None),
        (Pair(0.5, 0.5, 0.99), 200, 0.93, 0.995, None),
        (Pair(0.6, 0.4, share=0.02), 200, 0.93, 0.995, 0.87),
        (Pair(0.95, 0.5, share=0.05), 200, 0.93, 0.995, None),
        # Where few images or hardly any differ an interval that never has no width covers too often.
        (Pair(0.003, 0.002, 0.5), 200, 0.93, 1.0, None),
        (Pair(0.6, 0.5, 0.7), 20, 0.90, 0.995, None),
        (Pair(0.6, 0.5, share=0.1), 20, 0.90, 1.0, 0.70),
    ],
)
def test_intervals_of_paired_differences_cover(pair, images, low, high, old):
    shape, there = (DATASETS, images, 5), np.ones((1, 1, 1))
    for number, metric in enumerate(("recall_at_1", "ndcg_at_10")):
        generator = np.random.default_rng([images, number])
        a, b, truth = paired_scores(generator, shape, World("ranks", metric, 0.5), pair)
        gains, losses = (by_image(np.maximum(side, 0), there) for side in (a - b, b - a))
        counts = np.full((images, 1), 5.0)
        share = covered(difference_limits(gains, losses, counts), truth)
        assert low - 0.02 < share <= high + 0.007
        if old is not None:
            assert covered(percentile_bootstrap(gains - losses, counts), truth) < old


@pytest.mark.parametrize("images", [5, 20, 200])
def test_intervals_cover_in_strata_of_few_and_uneven_captions(images):
    for world, score in ((WORLDS[-5], 0.05), (WORLDS[6], 0.7)):
        values, there = stratum(np.random.default_rng(images), (DATASETS, images, 5), world, score)
        sums, counts = by_image(values, there), by_image(np.ones(values.shape), there)
        assert 0.5 < (counts == 1).mean() < 0.8
        assert 0.91 < covered(score_limits(sums, counts), score) <= 1.0
        if images < 200:
            assert covered(percentile_bootstrap(sums, counts), score) < 0.93


@pytest.mark.parametrize("world", [WORLDS[3], *WORLDS[6::3]])
def test_the_truth_of_the_simulated_scores_is_known(world):
    generator, shape = np.random.default_rng(1), (1, 100_000, 5)
    for score in (0.05, 0.6):
        values = scores(generator, shape, world, score)
        assert values.mean() == pytest.approx(score, abs=0.006)
        if world.kind == "ranks":
            values, there = stratum(generator, shape, world, score)
            assert values[there].mean() == pytest.approx(score, abs=0.008)
            for pair in (Pair(score, 0.3, 0.5), Pair(score, 0.3, share=0.2)):
                a, b, truth = paired_scores(generator, shape, world, pair)
                assert (a - b).mean() == pytest.approx(truth, abs=0.008)
                assert a.mean() == pytest.approx(score, abs=0.006)
    correlated = latent(generator, shape, 0.4)[0]
    assert np.corrcoef(correlated.T)[0, 1] == pytest.approx(0.4, abs=0.02)
    assert of_log_ranks("mrr_at_10", np.log([0.5, 1, 2.01, 10.5, 11.01])).tolist() == [1, 1, 0.5, 0.1, 0]
    assert 2.9 < present(generator, (1, 5_000, 5), False).sum() / 5_000 < 3.1


@settings(derandomize=True, max_examples=40, deadline=None)
@given(st.data(), st.integers(5, 30), st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_an_interval_is_the_one_worked_out_a_cluster_at_a_time(data, images, level):
    sizes = data.draw(st.lists(st.integers(1, 6), min_size=images, max_size=images))
    clusters = np.repeat(np.arange(images), sizes)
    some = st.sampled_from([0.0, 0.0, 0.0, 0.3010299957, 0.5, 1.0])
    a, b = (np.array(data.draw(st.lists(some, min_size=len(clusters), max_size=len(clusters)))) for _ in range(2))
    found = clustered_interval(a, clusters, level=level)
    assert found[1:] == pytest.approx(score_interval(a, clusters, level), abs=1e-9)
    assert found.low < found.high
    shuffled = np.random.default_rng(images).permutation(len(a))
    named = np.array([f"image {label:03d}" for label in clusters])
    assert clustered_interval(a[shuffled], named[shuffled], level=level) == pytest.approx(found, abs=1e-12)
    difference = paired_comparison(a, b, clusters, resamples=20, level=level).difference
    assert difference[1:] == pytest.approx(difference_interval(a - b, clusters, level), abs=1e-9)
    assert -1 <= difference.low < difference.high <= 1


@pytest.mark.parametrize("value", [0.0, 1.0, 1 / 3])
def test_where_nothing_differs_the_images_are_what_was_tried(value):
    found = clustered_interval(np.full(1_000, value), np.repeat(np.arange(200), 5))
    t2 = t.ppf(0.975, 199) ** 2
    if value in (0.0, 1.0):
        assert abs(found.high - found.low) == pytest.approx(t2 / (200 + t2))
    assert found.high - found.low > 0.019
    assert found.low <= value <= found.high
    difference = paired_comparison(
        np.full(1_000, value), np.full(1_000, value), np.repeat(np.arange(200), 5)
    ).difference
    assert difference.high == -difference.low == pytest.approx(t2 / (200 + t2))


def test_fewer_than_five_images_have_no_interval():
    values = np.array([1.0, 0.0, 0.5, 0.25, 1.0])
    assert clustered_interval(values[:4], np.arange(4)) == Interval(0.4375, None, None)
    assert clustered_interval(values, np.array([1, 1, 2, 3, 4])).low is None
    enough = clustered_interval(values, np.arange(5))
    assert 0 < enough.low < 0.55 < enough.high < 1
    few = paired_comparison(values[:4], values[1:], np.arange(4))
    assert all(one.low is one.high is None for one in (few.a, few.b, few.difference))
    assert few.p_value == exact_p_value(values[:4] - values[1:])
    assert FEWEST_IMAGES == 5
    assert (too_few(4), too_few(5)) == ("too few images: 4", "")


def test_an_interval_in_words():
    assert Interval(0.5, 0.25, 0.75).ends() == "0.2500–0.7500"
    assert Interval(-0.1, -0.2, 0.0).ends("+.2f", " to ") == "-0.20 to +0.00"
    assert Interval(0.5, None, None).ends("+.2f") == "–"
    assert Interval(-0.1, -0.2, 0.05).mirrored() == Interval(0.1, -0.05, 0.2)
    assert Interval(0.1, None, None).mirrored() == Interval(-0.1, None, None)


def test_one_huge_image_beside_small_ones_is_worth_about_one():
    found = clustered_interval(np.random.default_rng(0).random(1_000), np.repeat(np.arange(7), [994, *[1] * 6]))
    assert 0 < found.low < 0.05
    assert 0.95 < found.high < 1


def test_an_interval_of_many_queries_takes_no_time():
    values, clusters = clustered_scores(np.random.default_rng(0), 2_145, 5)
    clustered_interval(values, clusters)
    start = time.perf_counter()
    for _ in range(20):
        clustered_interval(values, clusters)
    # 0.1 s each by 10,000 resamples.
    assert (time.perf_counter() - start) / 20 < 0.05
