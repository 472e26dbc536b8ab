"""Growth: exact against brute force, extrapolation against the truth, equivalence against a known answer."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from simulated_runs import MODELS, Truth, simulate, write_run

from mteb_vehicle_search.analysis.corpus_growth import (
    default_sizes,
    equivalence,
    equivalence_sentence,
    growth,
    hold_out,
)
from mteb_vehicle_search.analysis.ranks import load_ranks
from mteb_vehicle_search.analysis.thinning import GROWTH_METRICS, gain, thinned
from mteb_vehicle_search.errors import ResultsError
from mteb_vehicle_search.run_record import write_run_record


@pytest.mark.parametrize("metric", GROWTH_METRICS)
def test_all_distractors_give_the_score_itself(metric):
    truth = simulate(MODELS[0], images=100)
    found = thinned(metric, truth.captioned_above, truth.distractors_above, 66_009, 66_009)
    np.testing.assert_allclose(found, gain(metric)(truth.ranks.astype(float)), atol=1e-9)


def test_large_corpora_agree_with_drawing_at_random():
    generator = np.random.default_rng(0)
    for metric in ("mrr", "recall_at_100"):
        (found,) = thinned(metric, np.array([1]), np.array([5_000]), 66_009, 1_200)
        drawn = gain(metric)(2.0 + generator.hypergeometric(5_000, 61_009, 1_200, 200_000))
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


def test_sizes_end_with_all_and_what_is_beyond():
    assert default_sizes(1_800) == [0, 100, 300, 1_000, 1_800, 18_000, 1_000_000, 10_000_000]


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
    with pytest.raises(ResultsError, match="cannot be extrapolated"):
        growth(ranks, ["mrr"], [10_000])


def test_several_relevant_images_are_refused(home, runs):
    record = runs["good"]
    table = record.queries()
    extra = table.slice(0, 1).set_column(1, "relevant_id", pa.array(["flickr30k/another"]))
    info = {key: value for key, value in record.info.items() if key != "schema_version"}
    written = write_run_record("9" * 64, "simulated/good", "1", pa.concat_tables([table, extra]), info)
    with pytest.raises(ResultsError, match="several relevant images"):
        growth(load_ranks(written))
