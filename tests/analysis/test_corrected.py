"""Corrected scores of runs written down by hand: what judgments do to ranks, and why a run is not corrected."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hand_made_runs import hand_made
from judged_runs import by_chance, judgments_of, lines_of, predictions_of, sample_of

from mteb_vehicle_search.analysis.compare_corrected import corrected_pairs
from mteb_vehicle_search.analysis.corrected import (
    corrected,
    corrected_difference,
    corrected_differences,
    corrected_scores,
    no_difference,
)
from mteb_vehicle_search.analysis.judged_ranks import Judgeable, judged_pairs
from mteb_vehicle_search.analysis.judged_units import Unfit, judged_samples
from mteb_vehicle_search.analysis.judging_plan import half_width_bought, half_width_now
from mteb_vehicle_search.analysis.seen_by_people import seen_by_people
from mteb_vehicle_search.analysis.situations import Situations
from mteb_vehicle_search.analysis.uncertainty import clustered_interval, paired_comparison
from mteb_vehicle_search.errors import ResultsError
from mteb_vehicle_search.metrics import METRICS, Grouped, scored

RANKS = [1, 2, 4, 11, 25, 3, 1, 7]


def run_of(ranks, model="some/model", shift=0, **info):
    """Return a run whose query n has the images w0, w1, ... above its own, from `shift` on."""
    ids = [f"q{n:03d}" for n in range(len(ranks))]
    tops = []
    for n, rank in enumerate(ranks):
        top = [f"imagenet/{ids[n]}-w{place + shift}" for place in range(10)]
        if rank <= 10:
            top = [*top[: rank - 1], f"flickr30k/{n:03d}", *top[rank - 1 : 9]]
        tops.append(top)
    relevant = [f"flickr30k/{n:03d}" for n in range(len(ranks))]
    return hand_made(ranks, top_ids=tops, query_ids=ids, relevant_ids=relevant, model_name=model, **info)


def of_several():
    """Return a run with two relevant images of each query, of different grades."""
    ranks, queries = [1, 3, 4, 12, 2, 9], ["q0", "q0", "q1", "q1", "q2", "q2"]
    relevant = [f"flickr30k/{n}" for n in range(6)]
    tops = []
    for query, of in (("q0", {1: 0, 3: 1}), ("q1", {4: 2}), ("q2", {2: 4, 9: 5})):
        tops += [[f"flickr30k/{of[r]}" if r in of else f"w/{query}-{r}" for r in range(1, 11)]] * 2
    run = hand_made(ranks, query_ids=queries, relevant_ids=relevant, top_ids=tops)
    return replace(run, grades=np.array([2, 1, 1, 3, 1, 1]))


def images_above(run, pair):
    """Return the images that are not relevant and stand above the relevant one of a pair within the ten best."""
    known = {image for image, query in zip(run.relevant_ids, run.query_ids) if query == run.query_ids[pair]}
    return [image for image in run.top_ids[pair][: run.ranks[pair] - 1] if image not in known]


def plain_scores(run, right, metric):
    """Return the metric of each query with images that are right taken out of the list, one by one."""
    ranks = []
    for pair, rank in enumerate(run.ranks.tolist()):
        above = [image for image in images_above(run, pair) if right(str(run.query_ids[pair]), image)]
        ranks.append(rank - len(above))
    return METRICS[metric].of_query(Grouped.of(run.query_ids, np.array(ranks), run.grades))


def test_images_in_question_are_those_above_within_ten():
    run = run_of(RANKS)
    assert [len(images_above(run, pair)) for pair in range(8)] == [0, 1, 3, 10, 10, 2, 0, 6]
    assert Judgeable(run).counts.tolist() == [0, 1, 3, 10, 10, 2, 0, 6]
    assert list(Judgeable(run).in_question(2)) == images_above(run, 2)
    several = of_several()
    assert [images_above(several, pair) for pair in (0, 1)] == [[], ["w/q0-2"]]
    assert Judgeable(several).counts.tolist() == [1, 9, 7]
    assert [len(Judgeable(several).in_question(n)) for n in range(3)] == [1, 9, 7]


@pytest.mark.parametrize("metric", scored())
@pytest.mark.parametrize("several", [False, True])
def test_with_all_judged_it_is_the_score_without_the_images_judged_right(metric, several):
    run, answer = of_several() if several else run_of(RANKS), by_chance(0.4)
    sample = sample_of([run])
    found = corrected(run, judgments_of(sample, lines_of(sample, 99, answer)), metric)
    wanted = plain_scores(run, lambda *pair: answer(*pair) == 3, metric)
    assert found.raw == run.scores(metric).mean()
    assert found.value == pytest.approx(wanted.mean(), abs=1e-12)
    assert found.judging == pytest.approx((found.value,) * 3)
    assert not found.why
    assert found.units == len(sample.units)
    best = Judgeable(run).best(metric)
    assert best == pytest.approx(plain_scores(run, lambda *pair: True, metric))


def test_the_interval_for_further_images_is_that_of_the_score_if_nothing_is_right():
    run = run_of([1, 2, 3, 5, 12] * 8)
    sample = sample_of([run])
    found = corrected(run, judgments_of(sample, lines_of(sample, 99, lambda *_: 1)))
    assert found.value == found.raw
    assert found.interval == pytest.approx(clustered_interval(run.scores("ndcg_at_10"), run.clusters))


def test_none_found_right_in_some_leaves_a_width():
    run = run_of([1, 2, 3, 5, 12] * 40)
    sample = sample_of([run])
    found = corrected(run, judgments_of(sample, lines_of(sample, 60, lambda *_: 1)))
    assert found.value == found.raw == found.judging.low
    # Of n even captions, at most about 3 / n of the gain.
    gain = (Judgeable(run).best("ndcg_at_10") - run.scores("ndcg_at_10")).mean()
    assert 2 / 60 < (found.judging.high - found.raw) / gain < 5 / 60
    by_labels = clustered_interval(run.scores("ndcg_at_10"), run.clusters)
    assert found.interval.low == pytest.approx(by_labels.low)
    assert found.interval.high > max(found.judging.high, by_labels.high + 0.001)
    # So it does in a difference, which needs no judged image to be right.
    other = run_of([2, 1, 5, 3, 12] * 40, "b/b")
    both = sample_of([run, other])
    difference, _ = corrected_difference(run, other, judgments_of(both, lines_of(both, 60, lambda *_: 1)))
    raw = paired_comparison(run.scores("ndcg_at_10"), other.scores("ndcg_at_10"), run.clusters).difference
    assert difference.mean == pytest.approx(raw.mean, abs=1e-12)
    assert difference.low < raw.low - 1e-5
    assert raw.high + 1e-5 < difference.high


def test_partly_counts_where_it_is_asked_for():
    run = run_of(RANKS)
    sample = sample_of([run])
    judgments = judgments_of(sample, lines_of(sample, 99, lambda *_: 2))
    found = corrected(run, judgments, "recall_at_1")
    assert (found.value, found.partly) == (0.25, 7 / 8)  # ten images do not lift the one at 25 to the first place
    assert corrected(run, judgments, "recall_at_1", relevant_from=2).value == 7 / 8


def test_cannot_tell_is_not_right():
    run = run_of(RANKS)
    sample = sample_of([run])
    found = corrected(run, judgments_of(sample, lines_of(sample, 99, lambda *_: 0)))
    assert found.value == found.partly == found.raw


def test_a_unit_is_the_mean_over_its_judges():
    run = run_of(RANKS)
    sample = sample_of([run])
    yes, no = lines_of(sample, 99, lambda *_: 3, "ada"), lines_of(sample, 99, lambda *_: 1, "bob")
    both = corrected(run, judgments_of(sample, [*yes, *no]))
    ada = corrected(run, judgments_of(sample, yes))
    assert both.value == pytest.approx((ada.value + ada.raw) / 2)
    # Both judged all: nothing is open for these judges.
    assert both.judging.low == both.judging.high
    one_of_two = corrected(run, judgments_of(sample, [*yes, *lines_of(sample, 5, lambda *_: 1, "bob")]))
    assert one_of_two.judging.low < one_of_two.value < one_of_two.judging.high
    first = sample.units[0]
    assert judged_pairs(judgments_of(sample, [*yes, *no]))[first.query, first.images[0]] == 1


def test_predictions_that_are_right_leave_little_open():
    run = run_of([1, 2, 3, 5, 12] * 40)
    sample, answer = sample_of([run]), by_chance(0.3)
    judgments = judgments_of(sample, lines_of(sample, 60, answer))
    right = predictions_of(sample, lambda *pair: 0.95 if answer(*pair) == 3 else 0.05)
    plain, with_it = corrected(run, judgments), corrected(run, replace(judgments, predictions=(right,)))
    assert (plain.predicted_by, with_it.predicted_by) == ("", "org/seer@r1")
    truth = plain_scores(run, lambda *pair: answer(*pair) == 3, "ndcg_at_10").mean()
    assert abs(with_it.value - truth) < 0.001 < abs(plain.value - truth)
    assert with_it.judging.high - with_it.judging.low < 0.6 * (plain.judging.high - plain.judging.low)
    # Right to the last digit, of 60 captions: about 3 / 60 of the gain is open on both sides.
    exact = predictions_of(sample, lambda *pair: float(answer(*pair) == 3))
    known = corrected(run, replace(judgments, predictions=(exact,)))
    assert known.value == pytest.approx(truth, abs=1e-12)
    gain = (Judgeable(run).best("ndcg_at_10") - run.scores("ndcg_at_10")).mean()
    assert known.judging.high - truth == pytest.approx(truth - known.judging.low)
    assert 2 / 60 < (known.judging.high - truth) / gain < 3.5 / 60
    # The wrong way round they cost width, and the truth is covered.
    turned = predictions_of(sample, lambda *pair: float(answer(*pair) != 3))
    wrong = corrected(run, replace(judgments, predictions=(turned,)))
    assert wrong.judging.low < truth < wrong.judging.high
    assert wrong.judging.high - wrong.judging.low > plain.judging.high - plain.judging.low


@pytest.mark.parametrize("metric", scored())
def test_expected_scores_are_those_of_the_probabilities(metric):
    """As all answers there may be give it, each with its probability."""
    run = run_of(RANKS)
    chance = np.random.default_rng(3).uniform(0.05, 0.95, (len(RANKS), 10)) * (np.arange(10) % 4 > 0)
    chance *= np.arange(10) < Judgeable(run).counts[:, None]
    wanted = np.zeros(len(RANKS))
    for answer in itertools.product([False, True], repeat=10):
        right = np.tile(answer, (len(RANKS), 1))
        likely = np.where(right, chance, 1 - chance).prod(axis=1)
        # What cannot be is left out: its scores are none.
        wanted += np.where(likely > 0, likely * Judgeable(run).scores(np.arange(8), right & (chance > 0), metric), 0.0)
    assert Judgeable(run).expected(chance, metric) == pytest.approx(wanted, abs=1e-12)


def test_expected_scores_of_several_relevant_images_keep_to_what_may_be():
    run = of_several()
    judgeable = Judgeable(run)
    asked = [[*judgeable.in_question(query).values()] for query in range(3)]
    for chance, wanted in ((0.0, run.scores("ndcg_at_10")), (1.0, judgeable.best("ndcg_at_10"))):
        chances = np.zeros((3, 10))
        for query, places in enumerate(asked):
            chances[query, places] = chance
        assert judgeable.expected(chances, "ndcg_at_10") == pytest.approx(wanted, abs=1e-12)
    halves, wanted = np.where(chances > 0, 0.5, 0.0), np.zeros(3)
    for answer in itertools.product([False, True], repeat=10):
        right = np.tile(answer, (3, 1)) & (chances > 0)
        wanted += judgeable.scores(np.arange(3), right, "ndcg_at_10") / 2**10
    assert judgeable.expected(halves, "ndcg_at_10") == pytest.approx(wanted, abs=0.01)


def test_of_several_predictions_those_closest_to_the_judgments_count():
    run, answer = run_of([1, 2, 3, 5, 12] * 40), by_chance(0.3)
    sample = sample_of([run])
    plain = judgments_of(sample, lines_of(sample, 60, answer))
    near = predictions_of(sample, lambda *pair: 0.7 if answer(*pair) == 3 else 0.2, "org/near")
    far = predictions_of(sample, lambda *pair: 0.6 if answer(*pair) == 3 else 0.3, "org/far")
    # It is right of what nobody judged, which cannot be known.
    judged = {(unit.query, image) for unit in sample.units[:60] for image in unit.images}
    late = predictions_of(sample, lambda *pair: 0.5 if pair in judged else float(answer(*pair) == 3), "org/late")
    first = sample.units[0].query
    lucky = predictions_of(
        sample, lambda *pair: float((answer(*pair) == 3) == (pair[0] == first)) if pair in judged else 0.5, "org/lucky"
    )
    elsewhere = predictions_of(sample, lambda *pair: float(answer(*pair) == 3), "org/x")._replace(sample="0" * 12)
    found = corrected(run, replace(plain, predictions=(far, late, lucky, near, elsewhere)))
    assert found.predicted_by == "org/near@r1"
    assert found == corrected(run, replace(plain, predictions=(near,)))
    # Alike ones: by name.
    twins = (near._replace(name="org/z"), near._replace(name="org/a"))
    assert corrected(run, replace(plain, predictions=twins)).predicted_by == "org/a@r1"


def test_a_difference_uses_what_is_predicted():
    a, b = run_of([1, 2, 3, 5, 12] * 40, "a/a"), run_of([2, 3, 3, 6, 4] * 40, "b/b")
    sample, answer = sample_of([a, b]), by_chance(0.4)
    judgments = judgments_of(sample, lines_of(sample, 60, answer))
    known = replace(judgments, predictions=(predictions_of(sample, lambda *pair: float(answer(*pair) == 3)),))
    exact = [plain_scores(run, lambda *pair: answer(*pair) == 3, "ndcg_at_10").mean() for run in (a, b)]
    plain, told = corrected_difference(a, b, judgments)[0], corrected_difference(a, b, known)[0]
    assert told.mean == pytest.approx(exact[0] - exact[1], abs=1e-12)
    assert abs(plain.mean - told.mean) > 1e-4
    assert told.high - told.low < plain.high - plain.low


def test_the_difference_is_that_of_the_corrected_scores():
    a, b = run_of(RANKS * 5, "a/a"), run_of(RANKS[::-1] * 5, "b/b", shift=3)
    sample, answer = sample_of([a, b]), by_chance(0.4)
    judgments = judgments_of(sample, lines_of(sample, 99, answer))
    difference, p_value = corrected_difference(a, b, judgments)
    first, second = (plain_scores(run, lambda *pair: answer(*pair) == 3, "ndcg_at_10") for run in (a, b))
    wanted = paired_comparison(first, second, a.clusters)
    assert difference.mean == pytest.approx(first.mean() - second.mean(), abs=1e-12)
    assert p_value == wanted.p_value
    assert difference.high - difference.low == pytest.approx(wanted.difference.high - wanted.difference.low, rel=0.1)
    mirrored, same = corrected_difference(b, a, judgments)
    assert (mirrored.mean, same) == pytest.approx((-difference.mean, p_value))


@pytest.fixture
def several():
    """Runs that fit one sample or another or none, and judgments of two samples."""
    runs = [
        *(run_of(RANKS * 5, "a/a"), run_of(RANKS[::-1] * 5, "b/b", shift=3), run_of([3, 1, 2, 9] * 10, "c/c", shift=9)),
        *(run_of(RANKS, "d/d"), run_of(RANKS * 5, "e/e", content_id="6" * 64)),
    ]
    large, small = sample_of(runs[:2]), sample_of([runs[0], runs[2]], plain=True)
    lines = [*lines_of(large, 30, by_chance(0.4)), *lines_of(small, 20, by_chance(0.4))]
    return runs, replace(judgments_of(large, lines), samples={large.id: large, small.id: small})


def test_the_scores_of_a_pair_are_by_the_sample_of_its_difference(several):
    runs, judgments = several
    pairs = corrected_pairs(runs, judged_samples(judgments), "ndcg_at_10")
    told = [one for one in pairs if one.difference]
    assert [(one.a.units, one.b.units) for one in told] == [(30, 30), (21, 21), (21, 21)]
    for one in told:
        assert one.difference.mean == pytest.approx(one.a.value - one.b.value, abs=1e-12)
    assert pairs[0].a == corrected(runs[0], judgments)
    assert pairs[1].a != pairs[0].a
    assert pairs[-1].a == corrected(runs[3], judgments)


def test_all_pairs_are_what_each_is_alone(several):
    """Pairs of several samples, and some that cannot be corrected; signs that are shared change nothing."""
    runs, judgments = several
    beside, told = Situations(runs, judgments), []
    for a, b in itertools.combinations(runs, 2):
        try:
            told.append(corrected_difference(a, b, judgments))
        except ResultsError as error:
            told.append(error.message)
    found = corrected_differences(beside)
    assert [no_difference(one) if isinstance(one, Unfit) else one for one in found] == told
    assert [isinstance(one, str) for one in told] == [False, False, True, True, False, *[True] * 5]
    assert corrected_scores(beside) == [corrected(run, judgments) for run in runs]
    # What no judging can mend is said of a pair first.
    assert told[-3].endswith("which the run does not.")
    assert "the run is on 666666666666" in told[-2]


def test_a_run_against_itself_is_no_different():
    run = run_of(RANKS * 5)
    sample = sample_of([run])
    difference, p_value = corrected_difference(run, run, judgments_of(sample, lines_of(sample, 12, by_chance(0.4))))
    assert (difference.mean, p_value) == (0, 1)
    assert difference.low < 0 < difference.high


OTHER = {
    "another content id": (
        {"content_id": "6" * 64},
        "the judgments are of the evaluation set 555555555555, the run is on 666666666666",
    ),
    "other images": (
        {"images_id": "b" * 64},
        "people judged the images with images id aaaaaaaaaaaa, the run searched bbbbbbbbbbbb",
    ),
}


@pytest.mark.parametrize("case", OTHER)
def test_a_run_on_something_else_is_not_corrected(case):
    changed, why = OTHER[case]
    sample = sample_of([run_of(RANKS)], images_id="a" * 64)
    judgments = judgments_of(sample, lines_of(sample, 99, by_chance(0.4)))
    found = corrected(run_of(RANKS, **changed), judgments)
    assert (found.value, found.interval, found.why) == (None, None, why)
    with pytest.raises(ResultsError) as caught:
        corrected_difference(run_of(RANKS), run_of(RANKS, **changed), judgments)
    assert caught.value.message == f"There is no corrected difference: {why}."


def test_what_a_run_lacks_is_counted():
    """Another run has other images above, two of which the judges saw."""
    judged, other = run_of(RANKS), run_of(RANKS, "other/model", shift=8)
    sample = sample_of([judged])
    judgments = judgments_of(sample, lines_of(sample, 99, by_chance(0.4)))
    found = corrected(other, judgments)
    assert found.missing == 1 + 3 + 8 + 8 + 2 + 6
    assert found.why == (
        "28 images that other/model has in question were not judged; `vehicle-search judge other/model` asks for them"
    )
    # A caption about which nothing was in question for the runs of the sample.
    behind = corrected(run_of([2, *RANKS[1:]], "other/model"), judgments)
    assert behind.missing == 1


def test_captions_and_numbers_that_do_not_fit_are_named():
    run = run_of(RANKS)
    sample = sample_of([run])
    judgments = judgments_of(sample, lines_of(sample, 99, by_chance(0.4)))
    fewer = corrected(run_of(RANKS[:3]), judgments)
    assert fewer.why.startswith(f"the sample {sample.id} asks 'q0")
    assert fewer.why.endswith("', which the run does not")
    assert corrected(run_of([*RANKS, 1]), judgments).why == f"the sample {sample.id} is of 8 captions, the run of 9"


def test_too_little_is_not_enough():
    run = run_of(RANKS)
    sample = sample_of([run])
    assert corrected(run, judgments_of(sample, [])).why == "nothing is judged"
    assert corrected(run, judgments_of(sample, lines_of(sample, 4, by_chance(0.4)))).why == "too few captions judged: 4"
    assert half_width_now([run], judgments_of(sample, lines_of(sample, 4, by_chance(0.4))), sample) is None
    # A unit of which an image was not judged is none.
    lines = lines_of(sample, 99, by_chance(0.4))
    assert corrected(run, judgments_of(sample, lines[:-1])).units == len(sample.units) - 1


def test_of_several_samples_the_one_with_most_that_fits_counts():
    run, other = run_of(RANKS), run_of(RANKS, "other/model", shift=8)
    small, large = sample_of([run, other], plain=True), sample_of([run])
    lines = [*lines_of(small, 5, by_chance(0.4)), *lines_of(large, 99, by_chance(0.4))]
    judgments = replace(judgments_of(small, lines), samples={small.id: small, large.id: large})
    assert [len(one.judged) for one in judged_samples(judgments)] == [6, 5]
    assert corrected(run, judgments).sample == large.id
    assert corrected(other, judgments).sample == small.id
    # Of several reasons, one that judging mends is said: the sample with most is of other captions.
    far = sample_of([run_of([*RANKS, *RANKS])])
    lines = [*lines_of(far, 12, by_chance(0.4)), *lines_of(large, 6, by_chance(0.4))]
    found = corrected(other, replace(judgments_of(far, lines), samples={far.id: far, large.id: large}))
    assert found.missing == 28
    assert found.why.startswith("28 images that other/model has in question were not judged")


def test_what_people_see():
    run, answer = run_of(RANKS * 6), by_chance(0.3)
    sample = sample_of([run])
    right = {(u.query, i) for u in sample.units for i in u.images if answer(u.query, i) == 3}
    whole = seen_by_people(run, judgments_of(sample, lines_of(sample, 99, answer)))
    assert whole.images == 32 * 6
    assert whole.right == len(right)
    assert whole.share == pytest.approx((len(right) / (32 * 6),) * 3)
    first = [run.ranks[n] == 1 or (run.query_ids[n], run.top_ids[n][0]) in right for n in range(48)]
    assert whole.first.mean == pytest.approx(np.mean(first))
    part = seen_by_people(run, judgments_of(sample, lines_of(sample, 20, answer)))
    assert part.share.low < len(right) / (32 * 6) < part.share.high
    none = seen_by_people(run, judgments_of(sample, lines_of(sample, 20, lambda *_: 1)))
    assert (none.share.mean, none.share.low) == (0, 0)
    assert 2 / 20 < none.share.high < 5 / 20
    with pytest.raises(ResultsError, match=r"What people see in some/model is not known: nothing is judged\."):
        seen_by_people(run, judgments_of(sample, []))


def test_what_a_budget_buys():
    run = run_of([1, 2, 3, 5, 12] * 40)
    sample = sample_of([run])
    bought = [half_width_bought([run], sample, units, 0.1) for units in (20, 60, 160)]
    assert bought[0].judging > bought[1].judging > bought[2].judging
    assert bought[2].judging < 1e-9 < bought[2].images
    judgments = judgments_of(sample, lines_of(sample, 60, by_chance(0.1)))
    now = half_width_now([run], judgments, sample)
    assert now.judging == pytest.approx(bought[1].judging, rel=0.3)
    found = corrected(run, judgments)
    assert now.images == pytest.approx((found.interval.high - found.interval.low) / 2)
    assert half_width_bought([run], sample, 3, 0.1) is None
