"""Whatever is judged when somebody stops is a random sample of every stratum, in about the best proportions."""

import math
from collections import Counter, defaultdict
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from questioned import CORPUS, many, run_of
from scipy.stats import chisquare

from mteb_vehicle_search.errors import ResultsError
from mteb_vehicle_search.judging.drawing import draw, within
from mteb_vehicle_search.judging.questions import questions
from mteb_vehicle_search.judgments import read_sample, write_sample

RUNS = many()
SEVERAL = many(captions=3)


def drawn(seed=0, runs=RUNS):
    return draw(runs, CORPUS, seed=seed)


def test_every_caption_in_question_is_a_unit_once():
    sample = drawn(runs=SEVERAL)
    asked = {one.query: one for one in questions(SEVERAL)}
    assert sorted(unit.query for unit in sample.units) == sorted(asked)
    for unit in sample.units:
        one = asked[unit.query]
        assert (unit.known, unit.cluster, unit.images) == (one.known, one.cluster, one.images)
    assert sample.planned == len(sample.units)
    assert (sample.queries, sample.clusters) == (120, 40)
    assert sample.runs == ("org/a@" + "0" * 40 + "[precision=unknown]", "org/b@" + "0" * 40 + "[precision=unknown]")


def test_neither_the_order_of_the_runs_nor_the_machine_matters():
    assert drawn().id == draw(RUNS[::-1], CORPUS).id
    # Written down: another machine, or another version of a library, must not give another sample.
    assert drawn().id == "2611873370dc"
    assert drawn(runs=SEVERAL).id == "f5391dda723a"


def test_another_seed_gives_another_order():
    one, other = drawn(), drawn(seed=1)
    assert [unit.query for unit in one.units] != [unit.query for unit in other.units]
    assert one.strata == other.strata


def test_a_sample_is_kept_as_it_was_drawn(tmp_path):
    sample = drawn(runs=SEVERAL)
    assert read_sample(write_sample(tmp_path, sample)) == sample


def test_each_turn_comes_after_the_one_before_it():
    sample = drawn(runs=SEVERAL)
    turns = [unit.turn for unit in sample.units]
    assert turns == sorted(turns)
    assert Counter(turns) == {0: 40, 1: 40, 2: 40}
    assert {unit.captions for unit in sample.units} == {3}


def test_a_stratum_is_of_the_first_captions_of_clusters():
    sample = drawn(runs=SEVERAL)
    asked = {one.query: one for one in questions(SEVERAL)}
    first = {unit.cluster: unit.stratum for unit in sample.units if unit.turn == 0}
    assert all(unit.stratum == asked[unit.query].stratum for unit in sample.units if unit.turn == 0)
    assert all(unit.stratum == first[unit.cluster] for unit in sample.units)
    assert sample.strata == {name: count for name, count in Counter(first.values()).items() if count}
    assert len(sample.strata) > 2


@pytest.mark.parametrize("turn", [0, 1])
@pytest.mark.parametrize("share", [0.25, 0.6])
def test_any_prefix_is_a_simple_random_sample_within_strata(turn, share):
    """Over seeds, each cluster is as often among the first as any other of its stratum; so is each pair of clusters."""
    seen, together, strata = Counter(), Counter(), {}
    for seed in range(300):
        # One stratum does not depend on which caption is first: all of a cluster are alike.
        sample = drawn(seed, runs=ALIKE)
        units = [unit for unit in sample.units if unit.turn == turn]
        judged = units[: math.ceil(share * len(units))]
        strata = {unit.cluster: unit.stratum for unit in units}
        of_stratum = [unit.cluster for unit in judged if unit.stratum == unit_stratum(units)]
        seen.update(unit.cluster for unit in judged)
        together.update((a, b) for a in of_stratum for b in of_stratum if a < b)
    for stratum in set(strata.values()):
        counts = [seen[cluster] for cluster, of in strata.items() if of == stratum]
        spread = chisquare(counts)
        # Sampling without replacement spreads less than the test thinks, so only too much of it can fail.
        assert spread.pvalue > 1e-3, (stratum, counts)
    clusters = sorted(cluster for cluster, of in strata.items() if of == unit_stratum(units))
    pairs = [together[a, b] for a in clusters for b in clusters if a < b]
    assert chisquare(pairs).pvalue > 1e-3


def unit_stratum(units):
    """Return the largest stratum."""
    return Counter(unit.stratum for unit in units).most_common(1)[0][0]


def alike():
    above = {}
    for image in range(24):
        for caption in range(2):
            above[f"q{image:03}_{caption}"] = [f"imagenet/{image + step:03}" for step in range(1 if image < 14 else 5)]
    return [run_of("org/a", above)]


ALIKE = alike()


def test_every_caption_of_a_cluster_is_as_likely_to_be_first():
    firsts = Counter()
    for seed in range(300):
        firsts.update(unit.query[-1] for unit in drawn(seed, runs=ALIKE).units if unit.turn == 0)
    # Independent from cluster to cluster and seed to seed.
    assert chisquare([firsts[caption] for caption in "01"]).pvalue > 1e-3


def test_every_stratum_has_two_clusters_before_any_has_three():
    sample = drawn()
    first = Counter(unit.stratum for unit in sample.units[: 2 * len(sample.strata)])
    assert set(first.values()) == {2}


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10**6), share=st.floats(0.3, 0.9))
def test_proportions_are_close_to_neymans(seed, share):
    """As many of each stratum as size times deviation over the root of the cost says, if it has as many."""
    sample = drawn(seed)
    asked = {one.query: one for one in questions(RUNS)}
    prefix = sample.units[: int(share * len(sample.units))]
    groups = defaultdict(list)
    for unit in sample.units:
        groups[unit.stratum].append(unit)
    assumed = {"suspected": 0.4, "models agree": 0.2, "models differ": 0.08}
    rates = {}
    for stratum, units in groups.items():
        right = assumed[stratum.partition(",")[0]]
        gain = sum(asked[unit.query].gain for unit in units) / len(units)
        cost = sum(len(unit.images) for unit in units) / len(units)
        rates[stratum] = len(units) * gain * (right * (1 - right)) ** 0.5 / cost**0.5
    counts = Counter(unit.stratum for unit in prefix)
    open_ones = [stratum for stratum in groups if 2 < counts[stratum] < len(groups[stratum])]
    # All strata that are under way are judged for as long.
    moments = [counts[stratum] / rates[stratum] for stratum in open_ones]
    slack = 1 / min(rates[stratum] for stratum in open_ones) if open_ones else 0
    assert not moments or max(moments) - min(moments) <= slack + 1e-9


def test_a_suspected_stratum_is_judged_earlier_than_another_of_its_size():
    above = {f"q{n:03}_0": [f"imagenet/{n:03}"] for n in range(40)}
    more = {f"q{n:03}_0": [] for n in range(40, 60)}
    alone = {f"q{n:03}_0": [f"imagenet/{n + 40:03}"] for n in range(20, 40)}
    sample = draw([run_of("org/a", {**above, **more}), run_of("org/b", {**above, **alone, **more})], CORPUS)
    counts = Counter(unit.stratum.partition(",")[0] for unit in sample.units[:20])
    # Square roots of 0.4 * 0.6 and of 0.08 * 0.92; the others have two images to look at.
    assert counts["suspected"] == pytest.approx(20 * 0.49 / (0.49 + 0.271 / math.sqrt(2)), abs=1)


def test_checks_are_one_in_twenty_of_each_kind_and_spread():
    sample = drawn(runs=SEVERAL)
    known, random, images = 0, 0, 0
    for number, unit in enumerate(sample.units, start=1):
        checks = sample.checks.get(unit.query, ())
        of_known = [image for image in checks if image in unit.known]
        others = [image for image in checks if image not in unit.known]
        assert len(of_known) <= 1
        assert len(others) <= 1
        assert not set(others) & set(unit.images)
        assert set(checks) <= set(CORPUS)
        known, random, images = known + len(of_known), random + len(others), images + len(unit.images)
        assert known == pytest.approx(images / 20, abs=1.5), number
        assert random == pytest.approx(images / 20, abs=1.5), number
    assert known > 20
    assert len({image for images in sample.checks.values() for image in images}) > 30


def test_the_first_check_may_come_at_any_image():
    before = []
    for seed in range(20):
        sample = drawn(seed, runs=ALIKE)
        first = next(n for n, unit in enumerate(sample.units) if {*unit.known} & {*sample.checks.get(unit.query, ())})
        before.append(sum(len(unit.images) for unit in sample.units[:first]))
    assert min(before) < 4
    assert max(before) > 11


def test_a_corpus_that_holds_nothing_else_gives_no_random_image():
    run = run_of("org/a", {f"q{n:03}_0": ["imagenet/000"] for n in range(30)})
    sample = draw([run], ["imagenet/000"])
    assert {image for images in sample.checks.values() for image in images} <= set(run.relevant_ids.tolist())
    assert sample.checks


def test_a_budget_buys_the_units_that_it_can_pay():
    sample = drawn()
    cost = [sample.shown(unit) for unit in sample.units]
    assert within(sample, sum(cost[:7])).planned == 7
    assert within(sample, sum(cost[:7]) - 1).planned == 6
    assert within(sample, 1).planned == 1
    assert within(sample, 10**9) == sample
    assert within(replace(sample, planned=3), sum(cost)).planned == len(cost)


def test_runs_that_put_every_known_image_first_leave_nothing_to_judge():
    with pytest.raises(ResultsError, match="Every run has every known image first"):
        draw([run_of("org/a", {"q001_0": []})], CORPUS)


def test_runs_of_other_queries_are_refused():
    with pytest.raises(ResultsError, match="do not have the same queries"):
        draw([run_of("org/a", {"q001_0": ["imagenet/000"]}), run_of("org/b", {"q002_0": ["imagenet/000"]})], CORPUS)
