"""Intervals and tests, checked by simulation and against scipy."""

from __future__ import annotations

import time

import numpy as np
import pytest
from scipy.stats import permutation_test
from simulations import clustered_scores, coverage, type_1_error

from mteb_vehicle_search.analysis.uncertainty import (
    Interval,
    cluster_sums,
    clustered_interval,
    holm,
    paired_comparison,
    resampled_means,
    sign_flip_p_values,
)
from mteb_vehicle_search.errors import ResultsError


def test_the_interval_covers_and_resampling_queries_does_not():
    clustered, by_query = coverage(datasets=400, images=150, captions=5, resamples=400, seed=1)
    # 0.011 is the standard error of a share of 0.95 in 400.
    assert 0.95 - 3 * 0.011 < clustered < 0.95 + 3 * 0.011
    assert by_query < 0.85


def test_equal_models_are_told_apart_in_five_percent():
    clustered, by_query = type_1_error(datasets=600, images=100, captions=5, flips=400, seed=2)
    assert abs(clustered - 0.05) < 3 * 0.009
    assert by_query > 0.12


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


def test_full_size_takes_less_than_two_seconds():
    values, clusters = clustered_scores(np.random.default_rng(0), 2_145, 5)
    start = time.process_time()
    clustered_interval(values, clusters)
    assert time.process_time() - start < 2


def test_neither_order_nor_labels_change_the_interval():
    values, clusters = clustered_scores(np.random.default_rng(0), 40, 5)
    shuffled = np.random.default_rng(1).permutation(len(values))
    names = np.array([f"image {label:03d}" for label in clusters])
    one = clustered_interval(values, clusters, resamples=500)
    other = clustered_interval(values[shuffled], names[shuffled], resamples=500)
    assert one == pytest.approx(other, abs=1e-12)
    assert clustered_interval(values, clusters, resamples=500, seed=1) != one


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


def test_one_cluster_has_no_spread():
    assert clustered_interval(np.array([0.0, 1.0]), np.array(["a", "a"])) == Interval(0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ("values", "clusters", "words"),
    [
        ([], [], "no values"),
        ([0.5, np.nan], [1, 2], "Value 1 of 2"),
        ([0.5, np.inf], [1, 2], "not a finite number"),
        ([0.5], [1, 2], "2 cluster labels"),
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
