"""The estimate from a sample of two stages, against what is exact, and against estimators that others wrote."""

from __future__ import annotations

from itertools import combinations, permutations, product

import numpy as np
import pytest

from mteb_vehicle_search.analysis.judged_sample import Frame, _merged, _shares, design_of, estimate


def frame(cluster, turn, stratum=None, judged=None, captions=None, query=None) -> Frame:
    """Return a frame whose units are all queries, in their order."""
    cluster, turn = np.asarray(cluster), np.asarray(turn)
    return Frame(
        query=np.arange(len(cluster)) if query is None else np.asarray(query),
        cluster=cluster,
        stratum=np.zeros(len(cluster), dtype=int) if stratum is None else np.asarray(stratum),
        turn=turn,
        captions=np.bincount(cluster)[cluster] if captions is None else np.asarray(captions),
        judged=np.arange(len(cluster)) if judged is None else np.asarray(judged),
    )


def test_of_one_caption_an_image_and_one_stratum_it_is_prediction_powered_inference():
    """What labels say of all images predicts what judges say; theirs are two samples, ours lies in the other one."""
    ppi = pytest.importorskip("ppi_py")
    generator = np.random.default_rng(0)
    base, extra = generator.random(400), generator.random(400) * 0.3
    judged = generator.permutation(400)[:60]
    found = estimate(base, np.arange(400), frame(np.arange(400), np.zeros(400, int), judged=judged), extra[judged])
    corrected = base[judged] + extra[judged]
    low, high = ppi.ppi_mean_ci(corrected, base[judged], base, alpha=0.05, lam=1)
    assert found.mean == pytest.approx(float((low[0] + high[0]) / 2), abs=1e-12)
    # Theirs divides by n; the judged ones are among all, so that the two parts vary together.
    theirs = ((high[0] - low[0]) / 2 / 1.959963984540054) ** 2
    of_all, of_judged = base.var() / 400, extra[judged].var() / 60
    assert theirs == pytest.approx(of_all + of_judged, rel=1e-9)
    squared = (base**2).sum() - 400 * base.mean() ** 2
    shift = extra[judged].mean()
    crossed = 400 / 60 * ((base[judged] - base.mean()) * extra[judged]).sum()
    own = 400 / 60 * (extra[judged] * (extra[judged] - 2 * shift)).sum() + 400 * shift**2
    assert found.images + found.judging == pytest.approx(
        (squared + 2 * crossed + own) * 400 / 399 / 400**2 + of_judged * 60 / 59 * (1 - 60 / 400), rel=1e-9
    )


def test_of_one_caption_an_image_it_is_the_stratified_mean():
    generator = np.random.default_rng(1)
    stratum = np.repeat([0, 1, 2], [50, 30, 20])
    extra = generator.random(100) * (1 + stratum)
    judged = np.sort(
        np.concatenate([generator.permutation(np.nonzero(stratum == h)[0])[:n] for h, n in enumerate((9, 6, 20))])
    )
    given = frame(np.arange(100), np.zeros(100, int), stratum, judged)
    found = estimate(np.zeros(100), np.arange(100), given, extra[judged])
    mean = variance = 0.0
    for h, size in enumerate((50, 30, 20)):
        of = extra[judged][stratum[judged] == h]
        mean += size / 100 * of.mean()
        variance += (size / 100) ** 2 * (1 - len(of) / size) * of.var(ddof=1) / len(of)
    assert found.mean == pytest.approx(mean)
    # One caption each: nothing is left open within an image.
    assert found.judging == pytest.approx(variance)


def test_with_all_judged_it_is_exact_and_nothing_is_left_open():
    generator = np.random.default_rng(2)
    cluster = np.repeat(np.arange(30), generator.integers(1, 6, 30))
    turn = np.concatenate([np.arange(n) for n in np.bincount(cluster)])
    stratum = (np.arange(30) % 3)[cluster]
    extra = generator.random(len(cluster))
    found = estimate(np.zeros(len(cluster)), cluster, frame(cluster, turn, stratum), extra)
    assert found.mean == pytest.approx(extra.mean(), abs=1e-12)
    assert found.judging == pytest.approx(0, abs=1e-15)


def every_draw(values: np.ndarray, counts: tuple[int, int]):
    """Yield estimates of all ways to order the captions of images, [c, m], and to draw images of each turn."""
    c, m = values.shape
    cluster, turn = np.repeat(np.arange(c), m), np.tile(np.arange(m), c)
    for orders in product(*[list(permutations(range(m)))] * c):
        placed = np.array([values[i][list(order)] for i, order in enumerate(orders)])
        for first, second in product(combinations(range(c), counts[0]), combinations(range(c), counts[1])):
            judged = np.array(sorted([i * m for i in first] + [i * m + 1 for i in second]))
            yield estimate(np.zeros(c * m), cluster, frame(cluster, turn, judged=judged), placed.ravel()[judged])


@pytest.mark.parametrize("counts", [(2, 0), (3, 0), (3, 1), (3, 2)])
def test_over_all_draws_the_mean_is_true(counts):
    values = np.array([[0.0, 0.6], [0.3, 0.1], [1.0, 0.2]])
    found = list(every_draw(values, counts))
    assert np.mean([one.mean for one in found]) == pytest.approx(values.mean())
    # No cluster with two judged captions is enough to tell how they differ; so the variance is bounded.
    assert np.mean([one.judging for one in found]) >= np.var([one.mean for one in found]) - 1e-12


def test_over_all_draws_the_variance_is_true_once_second_captions_tell_it(monkeypatch):
    monkeypatch.setattr("mteb_vehicle_search.analysis.judged_sample.FEWEST_PAIRS", 2)
    values = np.array([[0.0, 0.6], [0.3, 0.1], [1.0, 0.2]])
    found = list(every_draw(values, (3, 2)))
    assert np.mean([one.judging for one in found]) == pytest.approx(np.var([one.mean for one in found]))


def test_a_turn_stands_for_itself_as_far_as_it_is_judged():
    assert _shares(np.array([1.0, 0.25, 0.0])).tolist() == [[1, 0.75, 0.8], [0, 0.25, 0.2], [0, 0, 0]]
    assert _shares(np.array([0.1, 0.0])).tolist() == [[1, 1], [0, 0]]


@pytest.mark.parametrize(
    ("judged", "of", "fewest", "groups"),
    [
        ([3, 3], [9, 9], 2, [0, 1]),
        ([1, 3], [9, 9], 2, [0, 0]),
        ([3, 1], [9, 9], 2, [0, 0]),
        ([1, 3], [1, 9], 2, [0, 1]),
        ([3, 1], [9, 1], 2, [0, 1]),
        ([0, 2, 0], [9, 9, 9], 1, [0, 0, 0]),
        ([2, 0, 2], [9, 0, 9], 2, [0, 1, 1]),
        ([1, 1, 1, 1, 1], [9] * 5, 2, [0, 0, 1, 1, 1]),
    ],
)
def test_small_strata_join_their_neighbours(judged, of, fewest, groups):
    assert _merged(np.array(judged), np.array(of), fewest).tolist() == groups


def test_weights_add_up_to_all_captions():
    generator = np.random.default_rng(3)
    cluster = np.repeat(np.arange(60), 3)
    turn = np.tile(np.arange(3), 60)
    stratum = (np.arange(60) % 4)[cluster]
    order = np.argsort(turn * 100 + generator.random(180), kind="stable")
    for judged in (7, 25, 60, 75, 120, 150, 180):
        weight = design_of(frame(cluster, turn, stratum, np.sort(order[:judged]))).weight
        assert weight.sum() == pytest.approx(180)


def test_a_turn_without_a_judged_unit_in_some_stratum_does_not_count_yet():
    cluster, turn = np.repeat(np.arange(4), 2), np.tile([0, 1], 4)
    stratum = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    judged = np.array([0, 2, 4, 6, 1])
    found = design_of(frame(cluster, turn, stratum, np.sort(judged)))
    assert found.weight.tolist() == [2, 0, 2, 2, 2]


def test_judges_who_differ_leave_something_open():
    given = frame(np.arange(40), np.zeros(40, int))._replace(judges=2)
    noise = np.where(np.arange(40) < 10, 0.01, np.nan)
    found = estimate(np.zeros(40), np.arange(40), given, np.full(40, 0.3), noise)
    # 30 of the 40 were judged by one of the two.
    assert found.judging == pytest.approx(40 * 0.01 * 0.75 / 40**2)
    assert estimate(np.zeros(40), np.arange(40), given._replace(judges=1), np.full(40, 0.3), noise).judging == 0
