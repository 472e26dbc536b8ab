"""Growth: its parts put together, equivalence against a known answer, and what `vehicle-search growth` prints."""

from __future__ import annotations

import argparse
import inspect
import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hand_made_runs import hand_made, info_of, table_of
from pool_worlds import drawn, tiny
from simulated_runs import MODELS, Truth, simulate, write_run

from mteb_vehicle_search.analysis import corpus_growth as command
from mteb_vehicle_search.analysis.corpus_growth import (
    Equivalence,
    GrowthPoint,
    HoldOut,
    default_sizes,
    equivalence,
    equivalence_sentence,
    growth,
    hold_out,
    how_known,
)
from mteb_vehicle_search.analysis.dependence import Dependence
from mteb_vehicle_search.analysis.extrapolation import extrapolate
from mteb_vehicle_search.analysis.population import pool_figures
from mteb_vehicle_search.analysis.ranks import load_ranks
from mteb_vehicle_search.analysis.thinning import thinned
from mteb_vehicle_search.analysis.uncertainty import Interval, clustered_interval
from mteb_vehicle_search.errors import ResultsError
from mteb_vehicle_search.metrics import growing, of_growth
from mteb_vehicle_search.run_record import RunRecord, write_run_record


def run(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.main(parser.parse_args(arguments))


@pytest.mark.parametrize("metric", growing())
def test_all_distractors_give_the_score_itself(metric):
    truth = simulate(MODELS[0], images=100)
    found = thinned(metric, truth.captioned_above, truth.distractors_above, 66_009, 66_009)
    np.testing.assert_allclose(found, of_growth(metric).of_rank(truth.ranks.astype(float)), atol=1e-9)


def test_large_corpora_agree_with_drawing_at_random():
    generator = np.random.default_rng(0)
    for metric in ("mrr", "recall_at_100"):
        (found,) = thinned(metric, np.array([1]), np.array([5_000]), 66_009, 1_200)
        drawn = of_growth(metric).of_rank(2.0 + generator.hypergeometric(5_000, 61_009, 1_200, 200_000))
        assert found == pytest.approx(drawn.mean(), abs=4 * drawn.std() / np.sqrt(200_000))


def test_more_distractors_are_never_easier(runs):
    ranks = load_ranks(runs["good"])
    for points in growth(ranks, ("ndcg_at_10", "mrr_at_10", "recall_at_10"), resamples=5).values():
        values = [point.value for point in points]
        assert values == sorted(values, reverse=True)
        assert all(point.low <= point.value <= point.high for point in points)


def test_growth_ends_at_the_measured_score_and_says_what_is_modelled(runs):
    ranks = load_ranks(runs["good"])
    points = {point.distractors: point for point in growth(ranks, resamples=5)["ndcg_at_10"]}
    assert points[3_000].value == pytest.approx(ranks.scores("ndcg_at_10").mean(), abs=1e-12)
    assert points[3_000].corpus_size == 3_120
    assert points[0].corpus_size == 120
    assert {n: point.method for n, point in points.items() if n >= 3_000} == {
        3_000: "exact",
        30_000: "model",
        1_000_000: "model",
        10_000_000: "model",
    }


@pytest.mark.parametrize(
    ("total", "sizes"),
    [
        (0, [0, 1_000_000, 10_000_000]),
        (7, [0, 7, 70, 1_000_000, 10_000_000]),
        (100, [0, 100, 1_000, 1_000_000, 10_000_000]),
        (101, [0, 100, 101, 1_010, 1_000_000, 10_000_000]),
        (1_800, [0, 100, 300, 1_000, 1_800, 18_000, 1_000_000, 10_000_000]),
        (100_000, [0, 100, 300, 1_000, 3_000, 10_000, 30_000, 100_000, 1_000_000, 10_000_000]),
        (
            40_000_000,
            [0, *(m * 10**e for e in range(2, 8) for m in (1, 3)), 40_000_000, 400_000_000],
        ),
    ],
)
def test_sizes_end_with_all_and_what_is_beyond(total, sizes):
    assert default_sizes(total) == sizes


def test_a_run_can_be_checked_on_itself(home):
    record, _ = write_run(MODELS[0], images=600, distractors=20_000)
    check = hold_out(load_ranks(record))
    assert check.actual == pytest.approx(record.info["scores"]["ndcg_at_10"])
    assert abs(check.error) < 0.03
    assert check.predicted.low <= check.actual <= check.predicted.high


def general_run(special: Truth, factor: float, distractors: int):
    """Write a run of the same model on a corpus whose distractors outrank `factor` times as often."""
    above = np.random.default_rng(9).binomial(distractors, special.p * factor)
    truth = Truth(special.p * factor, special.captioned_above, above, 1 + special.captioned_above + above)
    return write_run(MODELS[0], images=400, distractors=distractors, content_id="6" * 64, truth=truth)[0]


@pytest.mark.parametrize(("distractors", "method"), [(60_000, "exact"), (20_000, "model")])
def test_equivalence_finds_a_known_factor(home, distractors, method):
    special, truth = write_run(MODELS[0], images=400, distractors=8_000)
    general = general_run(truth, 0.25, distractors)
    found = equivalence(load_ranks(special), load_ranks(general), resamples=400)
    assert found.method == method
    assert found.low <= 32_000 <= found.high
    assert found.equivalent == pytest.approx(32_000, rel=0.25)
    assert f"{found.equivalent:,} general" in equivalence_sentence(found)


def test_a_corpus_is_as_hard_as_itself(runs):
    ranks = load_ranks(runs["good"])
    found = equivalence(ranks, ranks, resamples=200)
    assert found.equivalent == pytest.approx(3_000, rel=1e-6)


def test_equivalence_refuses_other_models_and_queries(home, runs):
    with pytest.raises(ResultsError, match="not of one model"):
        equivalence(load_ranks(runs["good"]), load_ranks(runs["poor"]))
    other, _ = write_run(MODELS[0], images=100, distractors=3_000, content_id="6" * 64)
    with pytest.raises(ResultsError, match="same queries"):
        equivalence(load_ranks(runs["good"]), load_ranks(other))


def test_impossible_requests_are_refused(runs):
    ranks = load_ranks(runs["good"])
    with pytest.raises(ResultsError, match="negative"):
        growth(ranks, sizes=[-1])
    with pytest.raises(ResultsError, match="no metric 'map_at_10'"):
        growth(ranks, ["map_at_10"])


def test_several_relevant_images_are_refused(home, runs):
    record = runs["good"]
    table = record.queries()
    extra = table.slice(0, 1).set_column(1, "relevant_id", pa.array(["flickr30k/another"]))
    info = {key: value for key, value in record.info.items() if key != "schema_version"}
    written = write_run_record(
        pa.concat_tables([table, extra]),
        {**info, "content_id": "9" * 64, "model_name": "simulated/good", "model_revision": "1"},
    )
    with pytest.raises(ResultsError, match="several relevant images"):
        growth(load_ranks(written))


def test_the_table_says_what_is_exact_and_what_is_not(runs, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "150")
    assert run("simulated/good", "--sizes", "0", "3000", "20000", "1000000") == 0
    lines = capsys.readouterr().out.splitlines()
    (near,) = [line for line in lines if line.split()[:1] == ["20,000"]]
    (far,) = [line for line in lines if line.split()[:1] == ["1,000,000"]]
    (measured,) = [line for line in lines if line.split()[:1] == ["3,000"]]
    assert near.split()[1] == "modelled"
    assert " too far to trust " in far
    assert measured.split()[1] == "measured"
    assert f"{runs['good'].info['scores']['ndcg_at_10']:.4f}" in measured
    assert any("120 captioned images always stay" in line for line in lines)
    assert any(line.startswith("Check: from 10% of the distractors") for line in lines)
    assert not any("…" in line for line in lines)


def test_json_is_strict_and_complete(runs, capsys):
    assert run("simulated/good", "simulated/poor", "--metric", "mrr", "--sizes", "0", "100", "--format", "json") == 0
    good, poor = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert (good["model_name"], poor["model_name"]) == ("simulated/good", "simulated/poor")
    assert [point["distractors"] for point in good["points"]] == [0, 100]
    assert good["hold_out"]["metric"] == "mrr"
    assert good["equivalence"] is None


def test_two_corpora_give_an_equivalence(runs, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "150")
    general, _ = write_run(MODELS[0], images=120, distractors=3_000, content_id="6" * 64)
    assert run(str(runs["good"].folder), "--sizes", "0", "--general", str(general.folder)) == 0
    by_folder = capsys.readouterr().out
    assert "These 3,000 distractors of one domain are as hard as 3,000 general ones, 95 % interval" in by_folder
    assert run("simulated/good", "--content-id", "5", "--sizes", "0", "--general", "66") == 0
    assert capsys.readouterr().out == by_folder
    with pytest.raises(ResultsError, match="one MODEL"):
        run("simulated/good", "simulated/poor", "--content-id", "5", "--general", "66")


def small_run(count: int = 30, seed: int = 0, total: int = 80, **info):
    """Return a run of two captions for each image, with captioned and uncaptioned rivals."""
    generator = np.random.default_rng(seed)
    captioned, above = generator.integers(0, 3, count), generator.integers(0, total // 4 + 1, count)
    above[::3] = 0
    images = [f"flickr30k/{n // 2:02d}" for n in range(count)]
    size = {"imagenet": {"images": total, "captioned": 0}, "flickr30k": {"images": 20, "captioned": 20}}
    given = {"sources": size, "corpus_size": total + 20, **info}
    return hand_made(1 + captioned + above, captioned_above=captioned, relevant_ids=images, **given)


def test_points_within_the_searched_corpus_are_expectations_with_intervals_by_image():
    ranks = small_run()
    found = growth(ranks, ["mrr", "recall_at_5"], [80, 0, 40], seed=4)
    assert list(found) == ["mrr", "recall_at_5"]
    for metric, points in found.items():
        for point, n in zip(points, [80, 0, 40], strict=True):
            values = thinned(metric, ranks.captioned_above, ranks.distractors_above, 80, n)
            interval = clustered_interval(values, ranks.relevant_ids)
            assert point == GrowthPoint(n, n + 20, metric, *interval, "exact")


def test_points_beyond_it_are_the_models():
    ranks = small_run()
    found = growth(ranks, ["recall_at_1", "ndcg_at_10"], [500, 0, 90], resamples=3, seed=4)
    expected = extrapolate(
        ["recall_at_1", "ndcg_at_10"],
        ranks.captioned_above,
        ranks.distractors_above,
        ranks.relevant_ids,
        80,
        [500, 90],
        resamples=3,
        seed=4,
    )
    for metric in found:
        assert [point.distractors for point in found[metric]] == [0, 500, 90]
        assert found[metric][1:] == [
            GrowthPoint(n, n + 20, metric, *interval, "model") for n, interval in zip([500, 90], expected[metric])
        ]


def test_the_defaults_of_growth():
    defaults = {name: one.default for name, one in inspect.signature(growth).parameters.items()}
    assert (defaults["metrics"], defaults["resamples"], defaults["seed"]) == (("ndcg_at_10",), 100, 0)
    assert growth(small_run(8), sizes=[0]) == growth(small_run(8), ["ndcg_at_10"], [0], seed=0)
    assert [point.distractors for point in growth(small_run(8), resamples=1)["ndcg_at_10"]] == default_sizes(80)


def test_by_default_mrr_goes_as_far_as_the_others_and_no_distractors_end_at_none():
    found = growth(small_run(8), ["recall_at_1", "mrr"], resamples=1)
    assert {tuple(point.distractors for point in points) for points in found.values()} == {tuple(default_sizes(80))}
    none = small_run(8, total=0)
    assert [point.distractors for point in growth(none)["ndcg_at_10"]] == [0]
    with pytest.raises(ResultsError, match="without distractors"):
        growth(none, sizes=[1])
    with pytest.raises(ResultsError, match="negative"):
        growth(small_run(8), sizes=[5, -1, 7])


@pytest.mark.parametrize(
    ("distractors", "method", "words"),
    [
        (79, "exact", "exact"),
        (80, "exact", "measured"),
        (81, "model", "modelled"),
        (800, "model", "modelled"),
        (801, "model", "too far to trust"),
    ],
)
def test_ten_times_the_searched_corpus_can_be_trusted(distractors, method, words):
    assert how_known(GrowthPoint(distractors, 1, "m", 0.5, 0.4, 0.6, method), 80) == words


@pytest.mark.parametrize(("share", "seen"), [(0.1, 8), (0.001, 1), (0.5, 40)])
def test_a_check_without_top_tens_hides_each_query_a_random_share(share, seen):
    ranks = small_run()
    given = {} if share == 0.1 else {"share": share}
    found = hold_out(ranks, "recall_at_5", seed=6, **given)
    above = ranks.distractors_above
    generator = np.random.default_rng(6)
    generator.choice(80, seen, replace=False)
    kept = generator.hypergeometric(above, 80 - above, seen)
    predicted = extrapolate(
        ["recall_at_5"], ranks.captioned_above, kept, ranks.relevant_ids, seen, [80], resamples=50, seed=6
    )
    assert found == HoldOut(share, predicted["recall_at_5"][0], float((ranks.ranks <= 5).mean()))
    assert found.error == pytest.approx(found.predicted.mean - found.actual)


def test_a_check_hides_common_distractors_where_the_top_tens_name_them():
    """One hub outranks all answers: it is hidden from all queries or from none."""
    images = [f"flickr30k/{n:02d}" for n in range(20)]
    hub = hand_made([2] * 20, relevant_ids=images, top_ids=[["imagenet/hub", image] for image in images])
    predicted = [hold_out(hub, "recall_at_1", 0.5, seed=seed).predicted.mean for seed in range(8)]
    assert all(value < 0.05 or value > 0.7 for value in predicted)
    assert min(predicted) < 0.05 < 0.7 < max(predicted)


def test_a_warning_stands_below_the_table_and_in_json_only_where_there_is_reason(home, capsys):
    names = [f"flickr30k/{n:02d}" for n in range(30)]
    tops = [["imagenet/a", "imagenet/b", image] for image in names]
    twins = hand_made([3] * 30, relevant_ids=names, top_ids=tops, model_name="a/twins", corpus_size=110)
    write_run_record(table_of(twins), {**info_of(model_name="a/twins"), **twins.record.info})
    put()
    words = "What is modelled cannot be trusted: distractors depend on each other (near duplicates come 2.0 at a time"
    assert run("a/twins", "--sizes", "0", "800") == 0
    assert words in " ".join(capsys.readouterr().out.split())
    for quiet in (("a/twins", "--sizes", "0", "80"), ("org/model", "--sizes", "0", "800")):
        assert run(*quiet) == 0
        assert "cannot be trusted" not in capsys.readouterr().out
    (found,) = as_json(capsys, "a/twins", "--sizes", "0")
    assert found["dependence"]["at_a_time"] == 2.0
    assert f"What is modelled {found['dependence']['warning']}".startswith(words)


def test_a_check_is_of_ndcg_with_seed_0_unless_told_otherwise():
    defaults = {name: one.default for name, one in inspect.signature(hold_out).parameters.items()}
    assert (defaults["metric"], defaults["share"], defaults["seed"]) == ("ndcg_at_10", 0.1, 0)


def test_an_error_is_what_was_predicted_above_what_is_true():
    assert HoldOut(0.1, Interval(0.5, 0.4, 0.7), 0.55).error == pytest.approx(-0.05)


class TestCrossing:
    """Where a falling score meets another."""

    SIZES = (0, 10, 100)

    def at(self, target: float, *line: float) -> float:
        return command._crossing(target, np.array(line), list(self.SIZES))

    def test_at_a_size_and_between_two_by_the_logarithm(self):
        assert self.at(0.5, 0.9, 0.5, 0.1) == pytest.approx(10)
        assert self.at(0.9, 0.9, 0.5, 0.1) == pytest.approx(0)
        assert self.at(0.1, 0.9, 0.5, 0.1) == pytest.approx(100)
        # Half way from 11 to 101 by ratio.
        assert self.at(0.3, 0.9, 0.5, 0.1) == pytest.approx(np.sqrt(11 * 101) - 1)
        assert self.at(0.7, 0.9, 0.5, 0.1) == pytest.approx(np.sqrt(11) - 1)

    def test_a_score_above_all_is_met_without_distractors(self):
        assert self.at(0.95, 0.9, 0.5, 0.1) == pytest.approx(0)

    def test_a_score_below_all_is_never_met_but_rounding_is_forgiven(self):
        assert self.at(0.1 - 1e-8, 0.9, 0.5, 0.1) == np.inf
        assert self.at(0.1 - 1e-10, 0.9, 0.5, 0.1) == pytest.approx(100)

    def test_a_line_that_rises_again_counts_as_flat(self):
        assert self.at(0.4, 0.9, 0.3, 0.6) == self.at(0.4, 0.9, 0.3, 0.3)
        assert np.isfinite(self.at(0.3, 0.9, 0.3, 0.6))


def dense_crossings(special, general, metric: str, resamples: int, seed: int) -> tuple[float, np.ndarray]:
    """Return the equivalent, and those of resampled images, on a line over every number of distractors."""
    total = general.distractors
    scores = of_growth(metric).of_rank(special.ranks.astype(float))
    line = [thinned(metric, general.captioned_above, general.distractors_above, total, n) for n in range(total + 1)]
    rows = np.column_stack([scores, *line])
    images, which = np.unique(general.relevant_ids, return_inverse=True)
    drawn = np.random.default_rng(seed).integers(0, len(images), size=(resamples, len(images)), dtype=np.int32)

    def crossing(means: np.ndarray) -> float:
        below = np.flatnonzero(means[1:] <= means[0] + 1e-9)
        return float(below[0]) if len(below) else np.inf

    found = [crossing(np.concatenate([rows[which == image] for image in draw]).mean(axis=0)) for draw in drawn]
    return crossing(rows.mean(axis=0)), np.array(found)


@pytest.mark.parametrize("metric", ["ndcg_at_10", "mrr_at_10"])
def test_an_equivalent_is_where_the_thinned_score_meets_the_special_one(metric):
    # The special corpus has a third of the general one's distractors, and each query a third of those above.
    general = small_run(40, total=300)
    above = np.round(general.distractors_above / 3).astype(int)
    images = general.relevant_ids.tolist()
    special = hand_made(
        1 + general.captioned_above + above, captioned_above=general.captioned_above, relevant_ids=images
    )
    found = equivalence(special, general, metric, resamples=60, seed=5)
    point, resampled = dense_crossings(special, general, metric, 60, 5)
    assert (found.distractors, found.searched, found.method) == (80, 300, "exact")
    assert found.score == pytest.approx(special.scores(metric).mean())
    assert found.equivalent == pytest.approx(point, abs=max(2, 0.05 * point))
    low, high = np.quantile(resampled, [0.025, 0.975], method="nearest")
    assert found.low == pytest.approx(low, abs=max(2, 0.07 * low))
    assert found.high == pytest.approx(high, abs=max(2, 0.07 * high))
    assert type(found.equivalent) is type(found.low) is type(found.high) is int


def test_an_equivalent_beyond_the_searched_corpus_is_the_models():
    general = small_run(40, total=80)
    harder = np.minimum(general.distractors_above * 3, 240)
    special = hand_made(
        1 + general.captioned_above + harder,
        captioned_above=general.captioned_above,
        relevant_ids=general.relevant_ids.tolist(),
        corpus_size=1_000,
    )
    found = equivalence(special, general, resamples=50, seed=3)
    assert found.method == "model"
    sizes = [80, *(int(n) for n in np.geomspace(80, 100_000_000, 25)[1:])]
    model = extrapolate(
        ["ndcg_at_10"],
        general.captioned_above,
        general.distractors_above,
        general.relevant_ids,
        80,
        sizes,
        resamples=50,
        seed=3,
    )["ndcg_at_10"]
    score = clustered_interval(special.scores("ndcg_at_10"), special.relevant_ids)
    assert found.equivalent == round(command._crossing(score.mean, np.array([i.mean for i in model]), sizes))
    highest = command._crossing(score.low, np.array([i.high for i in model]), sizes)
    assert found.high == (round(highest) if np.isfinite(highest) else None)
    assert found.low < found.equivalent


def test_a_corpus_that_is_harder_than_any_has_no_equivalent():
    general = hand_made([1] * 12, relevant_ids=[f"flickr30k/{n // 2}" for n in range(12)])
    special = hand_made([100] * 12, relevant_ids=[f"flickr30k/{n // 2}" for n in range(12)])
    found = equivalence(special, general, resamples=20)
    assert (found.equivalent, found.high, found.method) == (None, None, "model")
    assert found.score == 0.0


def test_a_corpus_that_is_easier_than_all_is_as_hard_as_none():
    general, special = hand_made([50] * 6), hand_made([1] * 6)
    found = equivalence(special, general, resamples=20)
    assert (found.equivalent, found.low, found.high, found.method) == (0, 0, 0, "exact")


def test_the_defaults_of_equivalence():
    defaults = {name: one.default for name, one in inspect.signature(equivalence).parameters.items()}
    assert (defaults["metric"], defaults["resamples"], defaults["seed"]) == ("ndcg_at_10", 2_000, 0)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (
            {"model_name": "other/model"},
            r"not of one model: some/model@0{40}\[precision=unknown\] and other/model@0{40}\[",
        ),
        ({"model_revision": "1"}, r"not of one model: some/model@0{40}\[precision=unknown\] and some/model@1\["),
        ({"options": {"embed_dim": "64"}}, r"and some/model@0{40}\[embed_dim=64,precision=unknown\]"),
        ({"precision": "bf16"}, r"and some/model@0{40}\[precision=bf16\]"),
        ({"preprocess": "fast"}, r"and some/model@0{40}\[precision=unknown,preprocess=fast\]"),
        ({"query_ids": ["q00", "q09"]}, "do not have the same queries"),
        ({"relevant_ids": ["flickr30k/00", "flickr30k/09"]}, "do not have the same queries"),
        ({"query_ids": ["q00", "q00"]}, "several relevant images"),
    ],
)
def test_an_equivalence_needs_one_model_and_the_same_queries(changed, words):
    one, other = hand_made([1, 2]), hand_made([1, 2], **changed)
    with pytest.raises(ResultsError, match=words):
        equivalence(one, other, resamples=5)
    with pytest.raises(ResultsError):
        equivalence(other, one, resamples=5)


@pytest.mark.parametrize("ask", [growth, hold_out])
def test_growth_is_defined_for_one_relevant_image(ask):
    with pytest.raises(ResultsError, match="by-hand: queries have several relevant images"):
        ask(hand_made([1, 2], query_ids=["q", "q"]))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (
            {},
            "These 8,000 distractors of one domain are as hard as 32,000 general ones, 95 % interval 9,000 to 50,000.",
        ),
        (
            {"method": "model", "high": None},
            "These 8,000 distractors of one domain are as hard as 32,000 general ones (modelled: 60,000 were "
            "searched), 95 % interval 9,000 to more than can be said.",
        ),
        ({"low": None}, "95 % interval more than can be said to 50,000."),
        (
            {"equivalent": None},
            "These 8,000 distractors are harder than any number of general ones that can be said from the 60,000 "
            "searched.",
        ),
        ({"equivalent": 0, "low": 0, "high": 0}, "as hard as 0 general ones, 95 % interval 0 to 0."),
        ({"low": None, "high": None, "images": 4}, "as hard as 32,000 general ones, no interval: too few images: 4."),
    ],
)
def test_an_equivalence_in_words(changed, words):
    found = Equivalence(8_000, 0.5, 32_000, 9_000, 50_000, 60_000, "exact", 200)._replace(**changed)
    assert equivalence_sentence(found).endswith(words)


def test_the_arguments_and_their_defaults():
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    assert vars(parser.parse_args(["m"])) == {
        "models": ["m"],
        "metric": None,
        "sizes": None,
        "general": None,
        "format": "table",
        "seed": 0,
        "runs": None,
        "task": None,
        "content_id": None,
    }
    given = ["--metric", "mrr", "--metric", "recall_at_1", "--sizes", "0", "10", "--general", "g", "--seed", "3"]
    named = vars(parser.parse_args(["a", "b", *given, "--format", "json"]))
    assert (named["metric"], named["sizes"], named["general"]) == (["mrr", "recall_at_1"], [0, 10], "g")
    assert (named["models"], named["seed"], named["format"]) == (["a", "b"], 3, "json")
    for wrong in ([], ["m", "--metric", "map_at_10"], ["m", "--sizes", "few"], ["m", "--format", "csv"]):
        with pytest.raises(SystemExit):
            parser.parse_args(wrong)
    text = " ".join(parser.format_help().split())
    assert all(words in text for words in ("MODEL [MODEL ...]", "--sizes N [N ...]", "--general RUN"))


def put(name: str = "org/model", seed: int = 0, **info) -> RunRecord:
    ranks = small_run(seed=seed, model_name=name, **info)
    record = {**info_of(model_name=name), **ranks.record.info}
    return write_run_record(table_of(ranks), {**record, "model_name": name})


def as_json(capsys, *arguments: str) -> list[dict]:
    assert run(*arguments, "--format", "json") == 0
    return json.loads(capsys.readouterr().out, parse_constant=pytest.fail)


def test_json_has_every_point_the_check_and_the_equivalence(home, capsys):
    special = load_ranks(put(model_revision="1" * 40))
    general = load_ranks(put(seed=1, content_id="6" * 64, model_revision="1" * 40))
    told = ("--sizes", "0", "80", "--metric", "mrr", "--metric", "recall_at_5", "--seed", "3")
    (found,) = as_json(capsys, "org/model", "--content-id", "5", *told, "--general", "6")
    curves = growth(special, ["mrr", "recall_at_5"], [0, 80], seed=3)
    check = hold_out(special, "mrr", seed=3)
    assert found == {
        "name": "org/model",
        "model_name": "org/model",
        "model_revision": "1" * 40,
        "options": {},
        "title": "VehicleImageSearch",
        "task": "VehicleImageSearch",
        "content_id": "5" * 64,
        "distractors": 80,
        "points": [point._asdict() for points in curves.values() for point in points],
        "hold_out": {
            "metric": "mrr",
            "share": 0.1,
            **check.predicted._asdict(),
            "actual": check.actual,
        },
        "equivalence": equivalence(special, general, "mrr", seed=3)._asdict(),
        "dependence": {"at_a_time": None, "effective": None, "searched": 80, "warning": ""},
    }


def test_five_metrics_seed_0_and_the_usual_sizes_unless_told_otherwise(home, capsys):
    ranks = load_ranks(put())
    (found,) = as_json(capsys, "org/model", "--sizes", "0", "80")
    assert list(dict.fromkeys(point["metric"] for point in found["points"])) == [
        "ndcg_at_10",
        "mrr_at_10",
        "recall_at_1",
        "recall_at_10",
        "recall_at_100",
    ]
    assert found["points"][0] == growth(ranks, sizes=[0], seed=0)["ndcg_at_10"][0]._asdict()
    assert found["hold_out"]["metric"] == "ndcg_at_10"
    assert found["hold_out"]["mean"] == hold_out(ranks).predicted.mean
    assert found["equivalence"] is None
    (found,) = as_json(capsys, "org/model", "--metric", "mrr")
    assert [point["distractors"] for point in found["points"]] == default_sizes(80)
    assert found["hold_out"]["metric"] == "mrr"


def test_a_run_without_distractors_has_no_check(home, capsys):
    put(total=0)
    (found,) = as_json(capsys, "org/model")
    assert found["hold_out"] is None
    assert run("org/model") == 0
    assert "Check:" not in capsys.readouterr().out


def test_runs_are_chosen_by_folder_task_and_content_id(home, capsys):
    put("a")
    other = put("b", content_id="6" * 64, task_name="OtherTask")
    few = ("--sizes", "0", "--metric", "recall_at_1")
    assert [one["content_id"][0] for one in as_json(capsys, str(other.folder), *few)] == ["6"]
    for wrong in (["a", "--runs", str(home / "nowhere")], ["a", "--task", "OtherTask"], ["a", "--content-id", "6"]):
        with pytest.raises(ResultsError):
            run(*wrong)
    with pytest.raises(ResultsError, match=r"no run of 'a@0{40}\[precision=unknown\]' with --content-id 6"):
        run("a", *few, "--general", "6")
    with pytest.raises(ResultsError, match="no run"):
        run(str(other.folder), *few, "--general", "5", "--runs", str(Path("nowhere")))


def test_the_table_shows_every_metric_and_the_interval_of_the_first(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    ranks = small_run()
    ranks.record.info["title"] = "A Title"
    curves = {
        "recall_at_1": [
            GrowthPoint(1_000, 1_020, "recall_at_1", 0.51239, 0.41239, 0.61239, "exact"),
            GrowthPoint(80, 100, "recall_at_1", 0.5, 0.4, 0.6, "exact"),
            GrowthPoint(801, 821, "recall_at_1", 0.25, 0.2, 0.3, "model"),
        ],
        "mrr_at_10": [GrowthPoint(0, 0, "mrr_at_10", value, 0.1, 0.9, "exact") for value in (0.7, 0.6, 0.375)],
    }
    check = HoldOut(0.1, Interval(0.5012, 0.4321, 0.6543), 0.51)
    equal, none = Equivalence(80, 0.5, 320, 90, 500, 600, "exact", 40), Dependence(None, None, 80)
    command._show(command.console(), "some/name[a=1]", ranks, curves, "recall_at_1", check, equal, none)
    shown = capsys.readouterr().out
    lines = [re.split(r"\s{2,}", line.strip()) for line in shown.splitlines()]
    assert lines[:5] == [
        ["A Title · some/name[a=1]"],
        ["distractors", "recall_at_1", "95 % interval", "mrr_at_10"],
        ["1,000", "exact", "0.5124", "0.4124–0.6124", "0.7000"],
        ["80", "measured", "0.5000", "0.4000–0.6000", "0.6000"],
        ["801", "too far to trust", "0.2500", "0.2000–0.3000", "0.3750"],
    ]
    assert "The 20 captioned images always stay" in shown
    assert (
        "Check: from 10% of the distractors the model predicts recall_at_1 0.5012 [0.432, 0.654] for all of them; it "
        "is 0.5100 (error -0.0088)."
    ) in " ".join(shown.split())
    assert equivalence_sentence(equal) in shown
    command._show(command.console(), "some/name[a=1]", ranks, curves, "recall_at_1", None, None, none)
    shown = capsys.readouterr().out
    assert "Check" not in shown
    assert "as hard as" not in shown
    assert "–: no interval" not in shown


def test_growth_of_too_few_images_has_no_intervals(capsys):
    few, enough = (hand_made([1, 5, 2, 9, 3][:n], relevant_ids=list("abcde")[:n]) for n in (4, 5))
    total = few.distractors
    curves, check = growth(few, sizes=[0, total, 2 * total], resamples=3), hold_out(few)
    assert {point.interval.ends() for point in curves["ndcg_at_10"]} == {check.predicted.ends()} == {"–"}
    none = Dependence(None, None, total)
    shown = command._as_json(few, curves, "ndcg_at_10", check, None, none)
    assert {(point["low"], point["high"]) for point in shown["points"]} == {(None, None)}
    command._show(command.console(), "some/name", few, curves, "ndcg_at_10", check, None, none)
    told = " ".join(capsys.readouterr().out.split())
    assert "–: no interval from fewer than 5 images." in told
    assert f"predicts ndcg_at_10 {check.predicted.mean:.4f} [–] for all of them" in told
    for point in growth(enough, sizes=[0, total, 2 * total], resamples=3)["ndcg_at_10"]:
        assert point.low <= point.value <= point.high
    found = equivalence(few, few, resamples=20)
    assert (found.equivalent, found.low, found.high, found.images) == (total, None, None, 4)


class TestInAPool:
    """Of a corpus that was drawn from a pool only the random images come and go."""

    def test_the_curve_is_exact_over_the_random_images_and_estimated_up_to_the_pool(self):
        pool, ranks = pooled_run()
        arms = ranks.arms
        points = growth(ranks, ["recall_at_10", "mrr"])["mrr"]
        sizes = [point.distractors for point in points]
        assert sizes == sorted({0, 100, 300, arms.sampled, 1_000, arms.far} & {*range(arms.far + 1)})
        kinds = {point.distractors: how_known(point, arms.sampled) for point in points}
        assert kinds == {
            n: "exact" if n < arms.sampled else "measured" if n == arms.sampled else "estimated" for n in sizes
        }
        stays = ranks.record.info["corpus_size"] - arms.sampled
        assert all(point.corpus_size == point.distractors + stays for point in points)
        hits = ranks.above_of(arms.of_arm("random"))
        assert points[0].value == pytest.approx((1 / (ranks.ranks - hits)).mean())
        by_size = {point.distractors: point for point in points}
        assert by_size[arms.sampled].value == pytest.approx((1 / ranks.ranks).mean())
        expected = thinned("mrr", ranks.ranks - 1 - hits, hits, arms.sampled, 100).mean()
        assert by_size[100].value == pytest.approx(expected)
        assert by_size[arms.far].interval == pool_figures(ranks, ["mrr"])["mrr"].interval
        truth = (1 / pool.ranks).mean()
        assert by_size[arms.far].low < truth < by_size[arms.far].high
        values = [point.value for point in points]
        assert values == sorted(values, reverse=True)

    def test_beyond_the_pool_is_refused(self):
        _, ranks = pooled_run()
        far = ranks.arms.far
        with pytest.raises(ResultsError, match=rf"the pool has {far:,} far images; of {far + 1:,} nothing is known"):
            growth(ranks, sizes=[0, far + 1])
        with pytest.raises(ResultsError, match="negative"):
            growth(ranks, sizes=[-1])

    def test_mined_distractors_are_no_general_ones(self):
        _, ranks = pooled_run()
        with pytest.raises(ResultsError, match="mined distractors are no general ones"):
            equivalence(ranks, ranks)

    def test_the_text_says_what_stays(self, home, capsys, monkeypatch):
        monkeypatch.setenv("COLUMNS", "200")
        _, ranks = pooled_run()
        arms = ranks.arms
        write_run_record(table_of(ranks), ranks.record.info)
        assert run("org/model") == 0
        text = capsys.readouterr().out
        assert (
            f"The 30 captioned and {arms.near:,} mined images always stay; distractors are the random ones, "
            f"{arms.sampled:,} of {arms.far:,} far images of the pool."
        ) in text
        assert "estimated" in text
        assert "Check:" not in text
        (found,) = as_json(capsys, "org/model")
        assert (found["distractors"], found["hold_out"], found["dependence"]) == (arms.sampled, None, None)

    def test_a_pool_that_was_searched_as_a_whole_ends_exactly(self):
        _, ranks = pooled_run(share=1.0)
        last = growth(ranks)["ndcg_at_10"][-1]
        assert (last.distractors, last.method) == (ranks.arms.far, "exact")


def pooled_run(share: float = 0.3):
    """Return a small pool and a run on a corpus drawn from it, with 300 to 999 random images."""
    pool = tiny()
    return pool, drawn(pool, np.random.default_rng(1).permutation(pool.far)[: round(share * pool.far)])
