"""Ranks in a whole pool: against pools whose every rank is known, and what `vehicle-search population` prints."""

from __future__ import annotations

import argparse
import copy
import json
from typing import Any

import numpy as np
import pytest
from hand_made_runs import hand_made, table_of
from pool_worlds import MINERS, Pooled, drawn, tiny, usual
from scipy.stats import gamma

from mteb_vehicle_search import summary
from mteb_vehicle_search.analysis import population_table as command
from mteb_vehicle_search.analysis.arms import arms_of, family_of, is_miner
from mteb_vehicle_search.analysis.population import FIGURES, MEAN, MEDIAN, Interval, pool_figures
from mteb_vehicle_search.analysis.ranks import RunRanks, load_ranks
from mteb_vehicle_search.analysis.uncertainty import clustered_interval
from mteb_vehicle_search.errors import ResultsError
from mteb_vehicle_search.metrics import METRICS
from mteb_vehicle_search.run_record import RunRecord, write_run_record

DRAWS = 60
SHARE = 0.3
MEASURED = ("recall_at_10", "ndcg_at_10", "mrr", MEAN)


def run(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.main(parser.parse_args(arguments))


def sample(pool: Pooled, seed: int, share: float = SHARE, **about: Any) -> RunRanks:
    chosen = np.random.default_rng(seed).permutation(pool.far)[: round(share * pool.far)]
    return drawn(pool, chosen, **about)


def worth(ranks: np.ndarray, metric: str) -> float:
    ranks = ranks.astype(np.float64)
    return float(ranks.mean() if metric == MEAN else METRICS[metric].of_rank(ranks).mean())


def draws_of(worlds: list[Pooled], each: int) -> dict[str, np.ndarray]:
    """Return estimate less truth, and whether the sampling interval holds it, float64 [worlds, each, 2]."""
    found: dict[str, list] = {metric: [] for metric in MEASURED}
    for number, pool in enumerate(worlds):
        estimates = [pool_figures(sample(pool, 100 * number + n), MEASURED) for n in range(each)]
        for metric in MEASURED:
            truth, figures = worth(pool.ranks, metric), [one[metric] for one in estimates]
            held = [one.sampling.low <= truth <= one.sampling.high for one in figures]
            found[metric].append([(one.pool - truth, hit) for one, hit in zip(figures, held)])
    return {metric: np.array(of_metric, dtype=float) for metric, of_metric in found.items()}


@pytest.fixture(scope="module")
def worlds() -> list[Pooled]:
    """Six pools of 20,000: an estimate that goes by what queries share is unbiased over pools, not in each."""
    return [usual(seed) for seed in range(6)]


@pytest.fixture(scope="module")
def draws(worlds) -> dict[str, np.ndarray]:
    return draws_of(worlds, DRAWS // len(worlds))


def test_in_small_pools_estimates_are_near_the_truth_and_intervals_hold_it():
    found = draws_of([usual(seed, near=6, pool=1_500, captioned=40, each=3, caption=1.6) for seed in range(5)], 8)
    for of_metric in found.values():
        errors, held = of_metric[:, :, 0], of_metric[:, :, 1]
        assert abs(errors.mean()) < 0.5 * errors.std(axis=1, ddof=1).mean()
        # Of 40 draws covered with 95 % each, 33 or more are with 99.9 %.
        assert held.sum() >= 33


@pytest.mark.slow
@pytest.mark.parametrize("metric", MEASURED)
def test_the_mean_over_draws_is_the_truth(draws, metric):
    errors = draws[metric][:, :, 0].mean(axis=1)
    assert abs(errors.mean()) < 3 * errors.std(ddof=1) / np.sqrt(len(errors))


@pytest.mark.slow
@pytest.mark.parametrize("metric", MEASURED)
def test_the_sampling_interval_covers_the_pool_that_is_there(draws, metric):
    # Of 60 draws covered with 95 % each, 51 or more are with 99.7 %.
    assert draws[metric][:, :, 1].sum() >= 51


def variance(outranks: np.ndarray, size: int, queries: int) -> float:
    """Return the variance of the mean over queries of hits x total / size, of so many images drawn at random."""
    total = len(outranks)
    return total**2 * (1 - size / total) * outranks.var(ddof=1) / size / queries**2


@pytest.mark.slow
def test_a_mean_rank_varies_at_most_a_quarter_as_much_as_that_of_a_simple_random_sample(worlds, draws):
    ours, plain = [], []
    for pool in worlds:
        far, near = np.asarray(pool.far_above.sum(axis=0)).ravel(), pool.near_above.sum(axis=0)
        sampled, queries = round(SHARE * pool.far), len(pool.relevant)
        ours.append(variance(far, sampled, queries))
        plain.append(variance(np.concatenate([near, far]), len(near) + sampled, queries))
    assert np.mean(ours) <= np.mean(plain) / 4
    # That is what the estimates do: 54 degrees of freedom, so that a ratio outside has a chance below 1 in 1,000.
    seen = np.mean([of_world[:, 0].var(ddof=1) for of_world in draws[MEAN]])
    assert 0.45 < seen / np.mean(ours) < 1.9


@pytest.mark.parametrize("metric", FIGURES)
def test_a_pool_that_was_searched_as_a_whole_gives_its_own_figures_bit_for_bit(metric):
    pool = tiny()
    ranks = sample(pool, 0, share=1.0)
    assert np.array_equal(ranks.ranks, pool.ranks)
    (figure,) = pool_figures(ranks, [metric]).values()
    expected = {MEAN: ranks.ranks.mean(), MEDIAN: np.median(ranks.ranks)}.get(metric)
    if expected is None:
        expected = METRICS[metric].of_rank(ranks.ranks.astype(float)).mean()
        assert figure.interval == clustered_interval(METRICS[metric].of_rank(ranks.ranks.astype(float)), ranks.clusters)
    assert (figure.pool, figure.corpus) == (expected, expected)
    assert figure.sampling == Interval(expected, expected, expected)
    assert figure.interval.low <= expected <= figure.interval.high
    assert metric == MEDIAN or figure.interval.low < figure.interval.high


def test_the_median_of_a_pool_that_was_searched_as_a_whole_may_lie_between_two_ranks():
    ranks = sample(tiny(), 0, share=1.0)
    captioned = 1_000 * np.arange(len(ranks.ranks))
    spread = {"ranks": ranks.ranks - ranks.above["captioned"] + captioned}
    above = {**ranks.above, "captioned": captioned}
    (figure,) = pool_figures(RunRanks(**{**fields(ranks), **spread, "above": above}), [MEDIAN]).values()
    middle = np.sort(spread["ranks"])[29:31]
    assert middle[0] < middle[1] - 500
    assert figure.pool == figure.corpus == middle.mean()
    assert figure.interval.low < middle[0] < middle[1] < figure.interval.high


def test_a_pool_without_far_images_is_the_corpus():
    pool = tiny()
    nothing = pool._replace(far_above=pool.far_above[:, :0])
    ranks = drawn(nothing, np.arange(0))
    assert pool_figures(ranks, ["mrr"])["mrr"].pool == (1 / ranks.ranks).mean()


def fields(ranks: RunRanks) -> dict[str, Any]:
    return {name: getattr(ranks, name) for name in RunRanks.__dataclass_fields__}


def test_all_but_a_few_far_images_give_nearly_the_figures_of_all():
    pool = tiny()
    found = pool_figures(sample(pool, 0, share=0.97))
    for metric in FIGURES[:5]:
        assert found[metric].pool == pytest.approx(worth(pool.ranks, metric), abs=0.02)
    assert found[MEAN].pool == pytest.approx(pool.ranks.mean(), rel=0.03)


def test_the_mean_rank_is_what_horvitz_and_thompson_give():
    ranks = sample(tiny(), 1)
    hits = sum(counts for name, counts in ranks.above.items() if ":random:" in name)
    arms = ranks.arms
    expected = (ranks.ranks - hits + hits * arms.far / arms.sampled).mean()
    assert pool_figures(ranks, [MEAN])[MEAN].pool == pytest.approx(expected, rel=1e-12)


def test_intervals_hold_the_estimate_and_that_over_images_is_wider():
    for figure in pool_figures(sample(tiny(), 1)).values():
        inner, outer = figure.sampling, figure.interval
        assert outer.low <= inner.low <= figure.pool <= inner.high <= outer.high
        assert figure.metric == MEDIAN or inner.low < inner.high
        assert figure.metric == MEDIAN or outer.high - outer.low > inner.high - inner.low


@pytest.mark.parametrize("metric", ["mrr", MEAN])
def test_fewer_images_sampled_say_less(metric):
    widths = [
        np.mean([np.ptp(pool_figures(sample(tiny(), n, share), [metric])[metric].sampling[1:]) for n in range(5)])
        for share in (0.1, 0.5, 0.9)
    ]
    assert widths[0] > 1.5 * widths[1] > 1.5**2 * widths[2]


def test_where_nothing_was_hit_something_may_still_be_above():
    pool = tiny()
    ranks = sample(pool._replace(far_above=pool.far_above * 0), 0)
    found, queries = pool_figures(ranks, ["recall_at_1", "mrr", MEAN]), len(ranks.ranks)
    for metric in ("recall_at_1", "mrr"):
        figure = found[metric]
        assert figure.pool == pytest.approx(figure.corpus, rel=0.01)
        assert figure.sampling.low < figure.pool - 0.5 / queries
        assert figure.sampling.high - figure.pool < 0.1 / queries
    # Half a hit with Jeffreys' prior, less what is known of those that were sampled.
    unsampled = 1 - ranks.arms.sampled / ranks.arms.far
    hits = gamma(0.5 / unsampled).ppf(0.975) * unsampled
    most = found[MEAN].corpus + hits / (1 - unsampled) / queries
    assert found[MEAN].sampling[1:] == pytest.approx((found[MEAN].corpus, most), rel=1e-4)


def test_too_few_images_or_replicates_have_no_interval():
    few = pool_figures(sample(tiny(captioned=4), 0), ["mrr", MEAN])
    assert {(one.interval[1:], one.sampling[1:]) for one in few.values()} == {((None, None), (None, None))}
    alone = pool_figures(sample(tiny(), 0, replicates=1), ["mrr"])["mrr"]
    assert (alone.interval.low, alone.sampling.high) == (None, None)
    assert 0 < alone.pool < alone.corpus


def changed(ranks: RunRanks, group: str | None = None, **to: Any) -> dict:
    """Return the `run.json` of a run with something in its pool, or in a group, said otherwise (None: not said)."""
    info = copy.deepcopy(ranks.record.info)
    of = info["pool"] if group is None else info["sources"][next(name for name in info["sources"] if group in name)]
    for key, value in to.items():
        of[key] = value
        if value is None:
            del of[key]
    return info


@pytest.mark.parametrize(
    ("group", "to", "message"),
    [
        (":random:", {"inclusion_probability": None}, "'pool:random:00' has no inclusion probability"),
        (":random:", {"inclusion_probability": 0.0}, "of 'pool:random:00' is 0.0, not above 0 and at most 1"),
        (":random:", {"inclusion_probability": 1.5}, "of 'pool:random:00' is 1.5, not above 0 and at most 1"),
        (":random:", {"inclusion_probability": "x"}, "of 'pool:random:00' is 'x', not above 0 and at most 1"),
        (":random:", {"inclusion_probability": 0.5}, "far images were sampled, but the inclusion probability"),
        (":mined:", {"inclusion_probability": 0.5}, "with the inclusion probability 0.5; near images are all in"),
        (":mined:", {"mined_by": ["nobody"]}, "was mined by 'nobody', which the pool does not know"),
        (":mined:", {"mined_by": []}, "is mined, but not said by whom"),
        (":mined:", {"arm": "other"}, "is of the unknown arm 'other'"),
        (":mined:", {"images": 1}, "mined images, but the pool has"),
        (None, {"images": 5}, "a pool of 5 images has no"),
        (None, {"far": None}, "its pool does not say how many far there are"),
        (None, {"near": -1}, "its pool does not say how many near there are"),
        (None, {"miners": ["first"]}, "its pool does not say who mined"),
    ],
)
def test_impossible_arms_are_refused_by_name(group, to, message):
    ranks = sample(tiny(), 0)
    with pytest.raises(ResultsError, match=message) as error:
        arms_of(changed(ranks, group, **to), ranks.record.folder)
    assert "run.json" in error.value.message
    assert "vehicle-search-data build" in str(error.value)


def test_far_images_of_which_none_was_sampled_are_refused():
    ranks = sample(tiny(), 0, share=0.0)
    with pytest.raises(ResultsError, match=r"none of the .* far images of the pool was sampled"):
        arms_of(ranks.record.info, ranks.record.folder)


def test_a_pool_that_is_not_there_or_of_no_object_is_refused():
    ranks = sample(tiny(), 0)
    with pytest.raises(ResultsError, match="how many images there are"):
        arms_of({**ranks.record.info, "pool": None}, ranks.record.folder)


def test_arms_are_checked_when_ranks_are_read(home):
    ranks = sample(tiny(), 0)
    assert load_ranks(put(ranks)).arms == ranks.arms
    wrong = changed(ranks, ":mined:", inclusion_probability=0.5)
    with pytest.raises(ResultsError, match="near images are all in"):
        load_ranks(put(ranks, wrong))


def test_sets_without_arms_have_none_and_are_told_what_to_build():
    ranks = hand_made([1, 2, 3])
    assert ranks.arms is None
    with pytest.raises(ResultsError, match="does not say with which probabilities") as error:
        pool_figures(ranks)
    assert "vehicle-search-data build --preset" in str(error.value)


def test_several_relevant_images_and_unknown_metrics_are_refused():
    ranks = sample(tiny(), 0)
    twice = RunRanks(**{**fields(ranks), "query_ids": np.repeat(ranks.query_ids[::2], 2)})
    with pytest.raises(ResultsError, match="several relevant images"):
        pool_figures(twice)
    with pytest.raises(ResultsError, match="no metric 'map_at_10'"):
        pool_figures(ranks, ["map_at_10"])


def test_families_are_words_in_name_or_metadata():
    miners = {"a": {"model": "facebook/dinov2-small", "family": "DINOv2"}, "b": {"model": "", "family": None}}
    assert family_of("org/my_dinov2-large", {}, miners) == ["a"]
    assert family_of("org/dinov22", {"model_type": ["dense"]}, miners) == []
    assert family_of("org/x", {"adapted_from": "Facebook/DinoV2-base"}, miners) == ["a"]
    assert family_of("org/x", {"model_type": ["dense", "dinov2"]}, miners) == ["a"]
    assert (is_miner("Facebook/dinov2-small", miners), is_miner("org/x", miners)) == ("a", None)
    assert family_of("facebook/DINOV2-small", {}, {"a": {"model": "facebook/dinov2-small", "family": "z"}}) == ["a"]


def put(ranks: RunRanks, info: dict | None = None) -> RunRecord:
    return write_run_record(table_of(ranks), info or ranks.record.info)


def test_the_table_shows_corpus_pool_and_both_intervals(home, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    ranks = sample(tiny(), 0)
    put(ranks)
    assert run("org/model", "--metric", "mrr", "--metric", MEAN) == 0
    found, lines = pool_figures(ranks), capsys.readouterr().out.splitlines()
    assert lines[0] == "VehicleImageSearch · org/model"
    assert lines[1].split() == ["corpus", "pool", "95", "%", "interval", "sampling", "alone"]
    mrr, mean, first = found["mrr"], found[MEAN], found["recall_at_1"].interval
    shown = [f"{mrr.corpus:.4f}", f"{mrr.pool:.4f}", mrr.interval.ends(), mrr.sampling.ends()]
    assert lines[2].split() == ["MRR", *shown]
    assert lines[3].split() == ["mean", "rank", f"{mean.corpus:.1f}", f"{mean.pool:.1f}", *(
        one.ends(".1f") for one in (mean.interval, mean.sampling)
    )]  # fmt: skip
    arms = ranks.arms
    assert (
        f"In a pool of {arms.pool:,} images the caption's photograph is first for {100 * first.mean:.0f} % "
        f"({100 * first.low:.0f}–{100 * first.high:.0f}) of the captions."
    ) in lines
    assert any(
        line.startswith(
            f"The pool: {arms.near:,} near images (mined by {', '.join(MINERS)}), all searched; of {arms.far:,}"
        )
        for line in lines
    )


def test_json_has_all_figures_and_a_relative_is_marked(home, capsys):
    ranks = sample(tiny(), 0, model="org/kin-of-first-large")
    put(ranks)
    assert run("org/kin-of-first-large", "--format", "json") == 0
    (found,) = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    figures = pool_figures(ranks)
    assert [one["metric"] for one in found["figures"]] == list(FIGURES)
    for one in found["figures"]:
        figure = figures[one["metric"]]
        assert (one["corpus"], one["pool"]) == (figure.corpus, figure.pool)
        assert (one["interval"], one["sampling"]) == ([*figure.interval[1:]], [*figure.sampling[1:]])
    assert (found["miner_family"], found["miners"]) == (["first"], sorted(MINERS))
    assert found["pool"]["sampled"] == ranks.arms.sampled
    assert run("org/kin-of-first-large") == 0
    assert "org/kin-of-first-large is of the family of first, which mined." in capsys.readouterr().out


def test_a_run_ends_with_its_figures_in_the_pool(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    ranks = sample(tiny(), 0)
    info = {**ranks.record.info, "scores": {"ndcg_at_10": 0.5}}
    summary.show_summary(info, tmp_path, lambda: ranks)
    found = pool_figures(ranks, ("ndcg_at_10", "recall_at_1"))
    expected = ", ".join(f"{key} {found[of].pool:.4f} ({found[of].interval.ends()})" for key, of in (
        ("nDCG@10", "ndcg_at_10"), ("R@1", "recall_at_1")
    ))  # fmt: skip
    assert f"In the pool of {ranks.arms.pool:,} images, estimated: {expected}." in capsys.readouterr().out
    summary.show_summary(info, tmp_path, lambda: hand_made([1, 2, 3]))
    assert "In the pool" not in capsys.readouterr().out
