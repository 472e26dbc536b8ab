"""More distractors than were searched: the model beside a plain one, written as its description tells it."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import binom
from simulations import extrapolations, far_extrapolations

from mteb_vehicle_search.analysis import extrapolation
from mteb_vehicle_search.analysis.extrapolation import (
    Evidence,
    extrapolate,
    extreme_priors,
    fit_prior,
    gather,
    scores_on_grid,
)
from mteb_vehicle_search.errors import ResultsError

TOTAL = 200
# Captioned images and distractors above the relevant image of each query; two queries to an image.
CAPTIONED = np.array([0, 0, 1, 0, 3, 0, 0, 0, 12, 0, 2, 0])
ABOVE = np.array([0, 1, 0, 4, 0, 0, 30, 1, 0, 0, 4, 0])
CLUSTERS = np.repeat(np.arange(6), 2)
GRID = expit(np.linspace(-20, 1, 160))
SIZES = [200, 1_000, 50_000]
METRICS = ["ndcg_at_10", "recall_at_5"]
LIKELIHOOD = binom.pmf(ABOVE[:, None], TOTAL, GRID)


def plain_prior(weights: np.ndarray, allowed: np.ndarray | None = None, start=None, steps: int = 300) -> np.ndarray:
    """Fit the weights of the grid by EM: every query's posterior, averaged, is the next prior."""
    prior = np.ones(160) if start is None else start
    prior = prior if allowed is None else prior * allowed
    prior = prior / prior.sum()
    for _ in range(steps):
        posterior = LIKELIHOOD * prior
        posterior /= posterior.sum(axis=1, keepdims=True)
        prior = weights @ posterior / weights.sum()
    return prior


def plain_fit(prior: np.ndarray, weights: np.ndarray) -> float:
    return float(weights @ np.log(LIKELIHOOD @ prior))


def plain_score(metric: str, prior: np.ndarray, size: int, weights: np.ndarray) -> float:
    """Average over queries, over their posteriors, over the further distractors above."""
    last = int(metric.rpartition("_")[2])
    further = np.arange(last)
    means = []
    for c, d, likelihood in zip(CAPTIONED, ABOVE, LIKELIHOOD):
        posterior = likelihood * prior
        rank = 1.0 + c + d + further
        worth = np.where(rank <= last, 1 / np.log2(1 + rank) if metric.startswith("ndcg") else 1.0, 0.0)
        on_grid = worth @ binom.pmf(further[:, None], size - TOTAL, GRID)
        means.append(posterior @ on_grid / posterior.sum())
    return float(weights @ means / weights.sum())


def lowest_probability(lowest: int, zero: bool) -> np.ndarray:
    """Return a mask of the grid from `lowest` on, with or without its first point."""
    mask = np.arange(160) >= lowest
    mask[0] = zero
    return mask


def evidence() -> Evidence:
    return gather(CAPTIONED, ABOVE, TOTAL)


def weights_of(found: Evidence, by_query: np.ndarray | None = None) -> np.ndarray:
    return np.bincount(found.which, weights=by_query, minlength=len(found.above)).astype(float)


@pytest.fixture(scope="module")
def plain() -> dict[str, np.ndarray]:
    """The plain model's prior, and the extreme ones on the parts of the grid that another test looks at."""
    ones, found = np.ones(len(ABOVE)), evidence()
    prior = plain_prior(ones)
    masks = extreme_priors(found, weights_of(found), prior, 2.0)
    return {"prior": prior, "extremes": np.array([plain_prior(ones, mask) for mask in masks])}


def test_the_evidence_is_every_distinct_pair_and_its_likelihood():
    found = evidence()
    np.testing.assert_array_equal(np.stack([found.captioned, found.above])[:, found.which], [CAPTIONED, ABOVE])
    assert len(found.above) == len(set(zip(CAPTIONED.tolist(), ABOVE.tolist())))
    assert found.total == TOTAL
    np.testing.assert_allclose(found.grid, GRID, rtol=1e-12)
    assert (found.grid[0], found.grid[-1]) == pytest.approx((2.06e-9, 0.731), rel=1e-3)
    expected = binom.pmf(found.above[:, None], TOTAL, GRID)
    np.testing.assert_allclose(found.likelihood, expected / expected.max(axis=1, keepdims=True), rtol=1e-8)


def test_a_corpus_without_distractors_tells_nothing():
    with pytest.raises(ResultsError, match="without distractors tells nothing"):
        gather(np.array([0]), np.array([0]), 0)
    assert gather(np.array([0]), np.array([1]), 1).total == 1


def test_the_prior_is_fitted_by_300_steps_of_em_from_a_flat_start(plain):
    found = evidence()
    prior = fit_prior(found, weights_of(found))
    np.testing.assert_allclose(prior, plain["prior"], rtol=1e-6, atol=1e-12)
    assert prior.sum() == pytest.approx(1)
    for steps in (0, 1, 50):
        few = fit_prior(found, weights_of(found), steps=steps)
        np.testing.assert_allclose(few, plain_prior(np.ones(12), steps=steps), rtol=1e-6, atol=1e-12)


def test_the_prior_may_be_held_to_a_part_of_the_grid_start_elsewhere_and_weigh_queries():
    found = evidence()
    allowed = np.arange(160) > 70
    held = fit_prior(found, weights_of(found), allowed, steps=20)
    np.testing.assert_allclose(held, plain_prior(np.ones(12), allowed, steps=20), rtol=1e-6, atol=1e-12)
    assert (held[~allowed] == 0).all()
    start, by_query = np.linspace(1, 9, 160), np.array([0, 3, 1, 2, 0, 1, 0, 1, 0, 1, 0, 1.0])
    other = fit_prior(found, weights_of(found, by_query), start=start, steps=7)
    np.testing.assert_allclose(other, plain_prior(by_query, start=start, steps=7), rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("per_image", [1.0, 2.0, 5.0])
def test_the_extremes_are_as_far_as_the_likelihood_allows(plain, per_image):
    """The fit may fall by half of 3.84 for each caption of an image; one grid point further it would fall by more."""
    found, ones = evidence(), np.ones(len(ABOVE))
    least = plain_fit(plain["prior"], ones) - 3.84 / 2 * per_image
    masks = extreme_priors(found, weights_of(found), plain["prior"], per_image)
    for mask, zero in zip(masks, (False, True), strict=True):
        lowest = int(np.flatnonzero(mask[1:])[0]) + 1
        np.testing.assert_array_equal(mask, lowest_probability(lowest, zero))
        assert plain_fit(plain_prior(ones, mask), ones) >= least
        assert plain_fit(plain_prior(ones, lowest_probability(lowest + 1, zero)), ones) < least
        assert 1 < lowest < 158


@pytest.mark.parametrize("metric", ["ndcg_at_10", "mrr_at_10", "recall_at_1", "recall_at_5", "recall_at_100"])
@pytest.mark.parametrize("size", [TOTAL, TOTAL + 1, 5_000])
def test_scores_on_the_grid_are_expectations_over_the_further_distractors(metric, size):
    found = evidence()
    scores = scores_on_grid(metric, found, size)
    last = int(metric.rpartition("_")[2])
    x = np.arange(min(size - TOTAL, 400) + 1)
    worth = {"ndcg": lambda r: 1 / np.log2(1 + r), "mrr": lambda r: 1 / r, "recall": np.ones_like}
    for at in (0, 60, 159):
        chances = binom.pmf(x, size - TOTAL, GRID[at])
        for pair, (c, d) in enumerate(zip(found.captioned, found.above)):
            rank = 1.0 + c + d + x
            expected = chances @ np.where(rank <= last, worth[metric.partition("_")[0]](rank), 0.0)
            assert scores[pair, at] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("size", [TOTAL, TOTAL + 1, 5_000, 200_000])
def test_without_a_last_rank_the_expectation_is_summed_or_nearly(size):
    found = evidence()
    scores = scores_on_grid("mrr", found, size)
    further = size - TOTAL
    for at in (0, 60, 100, 130, 159):
        mean = further * GRID[at]
        reach = 14 * np.sqrt(mean) + 60
        x = np.arange(max(0, int(mean - reach)), min(further, int(mean + reach)) + 1)
        chances = binom.pmf(x, further, GRID[at])
        for pair, (c, d) in enumerate(zip(found.captioned, found.above)):
            # Exact to rounding where all are summed; else as near as the expansion says.
            assert scores[pair, at] == pytest.approx(
                chances @ (1 / (1.0 + c + d + x)), rel=1e-9 if mean <= 200 else 1e-4
            )


def test_predictions_and_extremes_are_those_of_the_plain_model(plain):
    found = extrapolate(METRICS, CAPTIONED, ABOVE, CLUSTERS, TOTAL, SIZES, resamples=0)
    ones = np.ones(12)
    assert list(found) == METRICS
    for metric in METRICS:
        assert len(found[metric]) == len(SIZES)
        for size, interval in zip(SIZES, found[metric]):
            mean = plain_score(metric, plain["prior"], size, ones)
            ends = [plain_score(metric, prior, size, ones) for prior in plain["extremes"]]
            assert interval.mean == pytest.approx(mean, abs=1e-6)
            assert interval.low == pytest.approx(min(mean, *ends), abs=1e-6)
            assert interval.high == pytest.approx(max(mean, *ends), abs=1e-6)
    assert found["ndcg_at_10"][2].high - found["ndcg_at_10"][2].low > 0.05


@pytest.mark.parametrize("level", [0.95, 0.6])
def test_the_interval_adds_a_bootstrap_over_images_with_the_prior_refitted(plain, level, monkeypatch):
    monkeypatch.setattr(extrapolation, "LEVEL", level)
    found = extrapolate(METRICS, CAPTIONED, ABOVE, CLUSTERS, TOTAL, SIZES, resamples=6, seed=3)
    generator = np.random.default_rng(3)
    draws = [np.bincount(generator.integers(0, 6, 6), minlength=6)[CLUSTERS].astype(float) for _ in range(6)]
    for metric in METRICS:
        for size, interval in zip(SIZES, found[metric]):
            lows, highs = [], []
            for start in plain["extremes"]:
                scores = [plain_score(metric, start, size, np.ones(12))]
                for weights in draws:
                    prior = plain_prior(weights, start=start, steps=50)
                    scores.append(plain_score(metric, prior, size, weights))
                low, high = np.quantile(scores, [0.5 - level / 2, 0.5 + level / 2])
                lows.append(low)
                highs.append(high)
            assert interval.low == pytest.approx(min(interval.mean, *lows), abs=1e-6)
            assert interval.high == pytest.approx(max(interval.mean, *highs), abs=1e-6)


def test_two_hundred_resamples_of_seed_0_at_95_percent_unless_told_otherwise():
    defaults = {name: one.default for name, one in inspect.signature(extrapolate).parameters.items()}
    assert (defaults["resamples"], defaults["seed"], extrapolation.LEVEL) == (200, 0, 0.95)


def test_at_the_searched_size_the_model_gives_the_score_itself():
    found = extrapolate(["recall_at_5"], CAPTIONED, ABOVE, CLUSTERS, TOTAL, [TOTAL], resamples=0)
    assert found["recall_at_5"][0] == pytest.approx([(CAPTIONED + ABOVE < 5).mean()] * 3)


def test_fewer_distractors_than_were_searched_are_refused():
    with pytest.raises(ResultsError, match="starts at the 200 distractors"):
        extrapolate(["mrr_at_10"], CAPTIONED, ABOVE, CLUSTERS, TOTAL, [1_000, TOTAL - 1])


def test_a_prior_without_room_for_a_query_stays_finite():
    """Likelihoods underflow where a query's rank is far from what any allowed probability gives."""
    total = 2_000_000
    found = gather(np.array([0, 0]), np.array([0, 1_000_000]), total)
    allowed = np.zeros(160, bool)
    allowed[0] = True
    assert np.isfinite(fit_prior(found, np.ones(2), allowed)).all()
    six = [np.tile(counts, 3) for counts in found[:2]]
    interval = extrapolate(["recall_at_1"], *six, np.arange(6), total, [2 * total], resamples=3)["recall_at_1"][0]
    assert np.isfinite(interval).all()
    assert interval.mean == pytest.approx(0.5, abs=0.05)
    two = extrapolate(["recall_at_1"], *found[:2], np.arange(2), total, [2 * total], resamples=3)["recall_at_1"][0]
    assert two[1:] == (None, None)


def test_the_numbers_of_the_description():
    assert (extrapolation.GRID, extrapolation.LOG_ODDS) == (160, (-20.0, 1.0))
    assert (extrapolation.STEPS, extrapolation.REFIT_STEPS) == (300, 50)


def test_from_a_tenth_to_all():
    for kind, (predicted, low, high, truth) in extrapolations(images=800, captions=5, total=30_000, seed=3).items():
        assert abs(predicted - truth) < 0.025, kind
        assert low <= truth <= high, kind
        assert high - low < 0.2, kind


def test_the_interval_says_how_little_is_known_of_much_larger_corpora():
    found = far_extrapolations(images=800, captions=5, total=30_000, sizes=[300_000, 10_000_000], seed=4)
    for kind, ((_, low, high, truth), (_, far_low, far_high, far_truth)) in found.items():
        assert low <= truth <= high, kind
        assert far_low <= far_truth <= far_high, kind
    _, low, high, _ = found["two kinds of queries"][1]
    assert high - low > 0.1
