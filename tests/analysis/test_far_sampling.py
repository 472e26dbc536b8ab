"""What hits in a sample say of all far images, and how far a mean score may be off: against sums, and against draws."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import gamma, hypergeom

from mteb_vehicle_search.analysis import far_images, far_sampling
from mteb_vehicle_search.analysis.far_images import Group, far_above
from mteb_vehicle_search.analysis.far_sampling import SamplingError, _added, measured
from mteb_vehicle_search.metrics import METRICS

FAR, SAMPLED, REPLICATES = 4_000, 1_000, 20
BEST_TEN = METRICS["recall_at_10"].of_rank
ABOVE_NONE = METRICS["recall_at_1"].of_rank
MRR = METRICS["mrr"].of_rank


def some_above(queries: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return images above for certain, and far ones above: more of these where there are more of those."""
    generator = np.random.default_rng(seed)
    base = generator.integers(0, 4, queries)
    return base, generator.negative_binomial(0.3 * (1 + base), 0.2)


def hits_of(above: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Return hits by replicate, where no two queries share an image."""
    chosen = [generator.multivariate_hypergeometric([k, FAR - k], SAMPLED)[0] for k in above]
    return np.stack([np.bincount(generator.integers(0, REPLICATES, n), minlength=REPLICATES) for n in chosen])


def test_a_query_that_nothing_near_beats_has_few_far_images_above():
    # Two kinds of queries with the same hits; those that many near images beat were beaten by far ones where seen.
    base, hits = np.repeat([0, 9], 200), np.concatenate([np.repeat([0, 1], [198, 2]), np.repeat([0, 1], [20, 180])])
    found = far_above(base, hits, 100, 1_000)
    first, second = (found.posterior(group)[0] @ found.grid for group in found.groups)
    assert first < 0.5 < 2 < second


def test_what_the_hits_exclude_has_no_weight():
    found = far_above(np.zeros(40, int), np.repeat([0, 1, 2, 7], 10), 8, 12)
    posterior = found.posterior(found.groups[0])
    for hits in (0, 1, 2, 7):
        row = posterior[np.searchsorted(found.values, hits)]
        possible = (found.grid >= hits) & (found.grid <= 12 - 8 + hits)
        assert row[~possible].sum() == 0
        assert row.sum() == pytest.approx(1)


def test_the_shapes_of_all_groups_follow_a_law_and_more_queries_leave_less_open():
    left_open = []
    for queries in (400, 40_000):
        base, above = some_above(queries)
        hits = np.random.default_rng(1).binomial(above, 0.25)
        values, counts = np.arange(hits.max() + 1), np.zeros((4, hits.max() + 1))
        np.add.at(counts, (base, hits), 1.0)
        shapes, covariance = far_images._shapes(values, np.arange(4), counts, np.arange(4))
        left_open.append(np.sqrt(np.diag(covariance)))
    assert shapes == pytest.approx(0.3 * np.arange(1, 5), rel=0.2)
    assert (left_open[1] < left_open[0] / 2).all()
    assert (left_open[0] > 0.05).all()


def test_without_any_hit_all_shapes_are_as_likely_as_before():
    counts = np.full((2, 1), 30.0)
    shapes, covariance = far_images._shapes(np.arange(1), np.arange(2), counts, np.arange(2))
    prior = far_images.FACTORS[:, None, None] * np.array([1.0, 2.0]) ** far_images.POWERS[:, None]
    assert shapes == pytest.approx(prior.reshape(-1, 2).mean(axis=0))
    assert np.diag(covariance).min() > 1


def test_captions_of_one_image_may_say_the_same_of_shapes():
    base, above = some_above(200)
    hits = np.random.default_rng(1).binomial(above, 0.25)
    one, five = (far_above(base, hits, SAMPLED, FAR, alike) for alike in (1.0, 5.0))
    assert np.allclose(5 * one.log_shapes, five.log_shapes)
    small, great = (measured(found, hits[:, None], 0.25, [MRR])[0].error.variance for found in (one, five))
    assert small < great


@pytest.mark.parametrize("score", [ABOVE_NONE, MRR])
def test_what_a_query_adds_is_what_the_sum_is_more_with_it(monkeypatch, score):
    monkeypatch.setattr(far_images, "_shapes", lambda *_: (np.array([0.3]), np.zeros((1, 1))))
    hits = np.repeat([0, 1, 2, 3, 6], [1_700, 150, 100, 30, 20])

    def total(more: list[int]) -> tuple[float, np.ndarray]:
        found = far_above(np.zeros(len(hits) + len(more), int), np.append(hits, more).astype(int), SAMPLED, FAR)
        group = found.groups[0]
        scores = score(1.0 + group.bases[:, None] + found.grid[None, :])[None]
        expected, added, _ = _added(found, group, found.posterior(group), scores)
        return float((group.counts * expected).sum()), added[0, 0]

    before, added = total([])
    for more in (0, 1, 2, 5):
        assert total([more])[0] - before == pytest.approx(added[more], rel=0.05, abs=0.01)


def test_by_how_much_a_sum_changes_with_the_shape(monkeypatch):
    base, hits = np.zeros(500, int), np.repeat([0, 1, 2, 3], [420, 50, 20, 10])
    sums = []
    for log_shape in (-1.01, -0.99, -1.0):
        monkeypatch.setattr(far_images, "_shapes", lambda *_: (np.exp([log_shape]), np.eye(1)))  # noqa: B023
        found = far_above(base, hits, SAMPLED, FAR)
        group = found.groups[0]
        expected, _, by_shape = _added(found, group, found.posterior(group), MRR(1.0 + found.grid[None, None, :]))
        sums.append(float((group.counts * expected).sum()))
    assert by_shape[0] == pytest.approx((sums[1] - sums[0]) / 0.02, rel=0.01)
    error = measured(found, hits[:, None], 0.25, [MRR])[0].error
    monkeypatch.setattr(far_images, "_shapes", lambda *_: (np.exp([-1.0]), np.zeros((1, 1))))
    known = measured(far_above(base, hits, SAMPLED, FAR), hits[:, None], 0.25, [MRR])[0].error
    assert error.variance - known.variance == pytest.approx((by_shape[0] / 500) ** 2)


def test_the_variance_is_that_of_draws():
    base, above = some_above(200)
    generator, means, variances = np.random.default_rng(2), [], []
    for _ in range(40):
        hits = hits_of(above, generator)
        estimate = far_above(base, hits.sum(axis=1), SAMPLED, FAR)
        found = measured(estimate, hits, SAMPLED / FAR, [ABOVE_NONE, MRR])
        means.append([one.values.mean() for one in found])
        variances.append([one.error.variance for one in found])
    # 39 degrees of freedom: a ratio outside has a chance of 1 in 100 at most.
    ratio = np.mean(variances, axis=0) / np.var(means, axis=0, ddof=1)
    assert (ratio > 0.65).all()
    assert (ratio < 1.7).all()


def test_queries_that_share_images_vary_together():
    base, above = some_above(60)
    base, hits = np.tile(base, 20), np.tile(hits_of(above, np.random.default_rng(3)), (20, 1))
    estimate = far_above(base, hits.sum(axis=1), SAMPLED, FAR)
    shared = measured(estimate, hits, 0.25, [MRR])[0].error.variance
    # As many hits of each query, but in any replicate: of other images.
    apart = measured(estimate, np.random.default_rng(5).permuted(hits, axis=1), 0.25, [MRR])[0].error.variance
    assert shared > 3 * apart


def many(variance: float, degrees: float) -> SamplingError:
    """Return an error of so many hits that their sum is nearly normal."""
    return SamplingError(variance, degrees, 100.0, -1e-9, 0.75)


def test_a_variance_that_is_well_known_has_the_quantile_of_the_normal_distribution():
    assert many(0.04, np.inf).limits(0.5, 0.95) == pytest.approx((0.5 - 0.392, 0.5 + 0.392), abs=1e-3)
    # Of Student's with 19 degrees of freedom.
    assert many(0.04, 19).limits(0.5, 0.95) == pytest.approx((0.5 - 0.4186, 0.5 + 0.4186), abs=1e-3)


@pytest.mark.parametrize("hits", [2, 5, 30])
def test_limits_of_counts_are_those_of_jeffreys_prior(hits):
    """Of images that weigh the same, so few that were sampled that hits are as good as Poisson."""
    share, queries = 1e-6, 10
    weight = 1 / (share * queries)
    error = SamplingError(hits * weight**2, np.inf, 0.0, weight, 1 - share)
    low, high = error.limits(hits * weight, 0.95)
    assert (low / weight, high / weight) == pytest.approx(gamma(hits + 0.5).ppf([0.025, 0.975]), rel=1e-5)
    # A score falls where a rank grows.
    mirrored = error._replace(without=0.7, hit=-weight)
    assert mirrored.limits(0.7 - hits * weight, 0.95) == pytest.approx((0.7 - high, 0.7 - low))


def test_what_less_than_a_hit_does_may_be_nothing():
    error = SamplingError(0.0001, np.inf, 0.5, -0.01, 0.75)
    low, high = error.limits(0.4901, 0.95)
    assert high == 0.5
    assert low < 0.4901 - 2 * 0.01
    assert error.limits(0.4899, 0.95)[1] < 0.5


def test_a_hit_weighs_half_of_the_most_that_it_can():
    base, above = some_above(200)
    hits = hits_of(above, np.random.default_rng(4))
    found = measured(far_above(base, hits.sum(axis=1), SAMPLED, FAR), hits, 0.25, [ABOVE_NONE, MRR, BEST_TEN])
    assert [one.error.hit for one in found] == pytest.approx([-part / 2 / 0.25 / 200 for part in (1.0, 0.5, 1.0)])
    assert [one.error.without for one in found] == pytest.approx([(base == 0).mean(), (1 / (1 + base)).mean(), 1.0])
    assert {one.error.unsampled for one in found} == {0.75}


def test_of_a_variance_only_what_queries_share_is_uncertain():
    base, above = some_above(60)
    hits = hits_of(above, np.random.default_rng(3))
    together = measured(
        far_above(np.tile(base, 20), np.tile(hits.sum(axis=1), 20), SAMPLED, FAR), np.tile(hits, (20, 1)), 0.25, [MRR]
    )
    assert together[0].error.degrees == pytest.approx(19, rel=0.3)
    # Each replicate has a hit: no more is shared than comes by chance.
    even = np.zeros((40, REPLICATES), int)
    even[np.arange(40), np.arange(40) % REPLICATES] = 1
    assert (
        measured(far_above(np.zeros(40, int), even.sum(axis=1), SAMPLED, FAR), even, 0.25, [MRR])[0].error.degrees
        == np.inf
    )


def test_the_variance_of_groups_and_what_replicates_add_to_it():
    together = np.array([[1.0, 3.0, 2.0, 0.0], [4.0, 0.0, 2.0, 6.0]])
    parts = far_sampling._Part(
        np.array([2.0, 3.0]), np.array([0.5, 0.25]), np.array([1.0, -2.0]), together, np.array([1.0, 2.0])
    )
    variance, degrees = far_sampling._error(parts, np.array([[1.0, 0.5], [0.5, 2.0]]), 10, 0.2)
    # 5, 3, 4, 6 have squared deviations of 5; the factor is 4 / 3 of 0.8.
    replicated, known = 4 / 3 * 0.8 * 5, 5 + 0.75 + (1 - 2 + 8)
    whole = known + replicated - 4 / 3 * 0.8 * 3
    assert variance == pytest.approx(whole / 100)
    assert degrees == pytest.approx(3 * (whole / replicated) ** 2)
    apart = parts._replace(alone=np.array([1.0, 5.0]))
    assert far_sampling._error(apart, np.eye(2) * 0, 10, 0.2) == (pytest.approx(5.75 / 100), np.inf)


def test_what_queries_lose_without_each_replicate():
    values = np.array([0, 1, 2, 4, 8])
    table = np.array([[[0.0, -1.0, -3.0, -4.0, -4.0], [0.0, -2.0, -2.5, -2.5, -9.0]]])
    hits = np.array([[1, 0, 1], [0, 3, 5], [0, 0, 0], [4, 0, 0]])
    group = Group(
        bases=np.arange(2),
        queries=np.arange(4),
        base=np.array([0, 1, 1, 0]),
        value=np.searchsorted(values, hits.sum(axis=1)),
        counts=np.zeros((2, 5)),
        steps=[],
        by_mean=np.zeros(0),
        by_shape=np.zeros(0),
    )
    together, alone = far_sampling._without_replicates(values, group, table, hits)
    # Of 2, 8 and 4 hits; 5 and 3 lie between those that the table has.
    lost = np.array([[-2, 0, -2], [0, -9 + 2.5 + 0.25 * 6.5, -9 + 2.5], [0, 0, 0], [-4, 0, 0]])
    assert together[0] == pytest.approx(lost.sum(axis=0))
    assert alone[0] == pytest.approx((lost**2).sum() - (lost.sum(axis=1) ** 2).sum() / 3)


def test_chances_of_hits_are_hypergeometric():
    hits = np.array([0, 3, 200])
    found = far_above(np.zeros(60, int), np.repeat(hits, 20), SAMPLED, FAR)
    chances = far_sampling._chances(found)
    assert chances[:, found.grid < 400].sum(axis=0) == pytest.approx(1.0)
    few = np.flatnonzero(found.grid == 20)[0]
    # Those of whole hits stand for themselves, up to the last one that does.
    expected = hypergeom.pmf(np.arange(30), FAR, 20, SAMPLED)
    assert chances[:30, few] == pytest.approx(expected, abs=1e-9)


def test_a_query_has_the_score_that_is_expected_after_its_hits():
    base = np.tile(np.arange(30), 20)
    hits = np.random.default_rng(8).poisson(2, (600, 1))
    above = far_above(base, hits.sum(axis=1), SAMPLED, FAR)
    for score in (BEST_TEN, MRR):
        values = measured(above, hits, 0.25, [score])[0].values
        for group in above.groups:
            ranks = 1.0 + base[group.queries][:, None] + above.grid
            expected = (above.posterior(group)[group.value] * score(ranks)).sum(axis=1)
            assert values[group.queries] == pytest.approx(expected)
    # What nobody can lose is known.
    lost = measured(far_above(base + 10, hits.sum(axis=1), SAMPLED, FAR), hits, 0.25, [BEST_TEN])[0]
    assert lost.error.variance == 0
    assert lost.error.limits(0.0, 0.95) == (0.0, 0.0)
