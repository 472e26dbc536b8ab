"""What queries share in their distractors: hubs in the interval, near duplicates in a warning, silence for the rest."""

from __future__ import annotations

import numpy as np
import pytest
from dependent_worlds import DEPENDENT, INDEPENDENT, look
from hand_made_runs import hand_made

from mteb_vehicle_search.analysis import dependence as module
from mteb_vehicle_search.analysis.dependence import (
    Dependence,
    NamedAbove,
    dependence,
    dependence_of,
    keep_common,
    named_above,
    shared_spread,
    widened,
)
from mteb_vehicle_search.analysis.uncertainty import Interval

# Of captioned images: A to Z, and then Cyrillic ones.
LETTERS = [chr(65 + n) for n in range(26)] + [chr(0x410 + n) for n in range(32)]
SMALL = {"images": 400, "distractors": 1_000}


def run(tops: list[str], ranks: list[int], distractors: int = 50):
    """Return a run whose top tens are written in letters: A, B, … are the captioned images, a, b, … distractors."""
    captioned = [sum(one.isupper() for one in top[: rank - 1]) for top, rank in zip(tops, ranks)]
    size = len(tops)
    sources = {
        "imagenet": {"images": distractors, "captioned": 0},
        "flickr30k": {"images": size, "captioned": size},
    }
    return hand_made(
        ranks,
        captioned_above=captioned,
        relevant_ids=LETTERS[:size],
        top_ids=[list(top) for top in tops],
        sources=sources,
        corpus_size=distractors + size,
    )


@pytest.mark.parametrize("name", ["2 in 1,000 hubs", "groups of 5, cosine 0.99"])
def test_dependent_distractors_are_covered_or_warned_of_where_they_were_not(name):
    seen = [look(DEPENDENT[name], seed) for seed in range(4)]
    alone = np.array([one.covered(lambda s: s.alone) for one in seen])
    either = [one.covered(lambda s: s.shared) | bool(one.depends.warning) for one in seen]
    assert not alone[:, 0].all()
    assert np.all(either)


@pytest.mark.parametrize("name", INDEPENDENT)
def test_independent_distractors_are_covered_without_a_warning(name):
    for seed in range(3):
        found = look(INDEPENDENT[name], seed, **SMALL)
        assert found.depends.warning == ""
        assert found.covered(lambda s: s.shared).all()


def test_the_distractors_above_are_named_as_far_as_the_top_ten_goes():
    ranks = run(["abAc", "xBaA", "aBbcdefghij"[:10], "abcdefghij"], [3, 2, 2, 15])
    named = named_above(ranks)
    names = "abcxdefghij"
    found = [(int(q), names[d]) for q, d in zip(named.query, named.distractor)]
    assert found == [(0, "a"), (0, "b"), (1, "x"), (2, "a"), *((3, letter) for letter in "abcdefghij")]
    assert named.unnamed.tolist() == [0, 0, 0, 4]
    assert (0, "c") in [(int(q), names[d]) for q, d in zip(named.seen_by, named.seen)]
    assert named.total == 50


def test_a_record_without_top_tens_names_nothing_and_changes_nothing():
    ranks = hand_made([3, 1, 20])
    named = named_above(ranks)
    assert named.unnamed.tolist() == [2, 0, 19]
    assert dependence(named, ranks.clusters) == Dependence(None, None, 80)
    assert dependence_of(ranks).warning == ""
    given = {"recall_at_1": [Interval(0.4, 0.3, 0.5)]}
    assert widened(given, ranks.captioned_above, named, [800], seed=0) == given


def test_all_queries_keep_the_same_distractors():
    named = named_above(run(["aA", "aB", "bC", "abD"], [2, 2, 2, 3], distractors=2))
    draws = [tuple(keep_common(named, 1, np.random.default_rng(seed)).tolist()) for seed in range(40)]
    assert set(draws) == {(1, 1, 0, 1), (0, 0, 1, 1)}
    assert keep_common(named, 2, np.random.default_rng(0)).tolist() == [1, 1, 1, 2]


def test_distractors_that_no_top_ten_names_are_kept_query_by_query_at_the_right_rate():
    ranks = hand_made([41] * 4_000)
    kept = keep_common(named_above(ranks), 20, np.random.default_rng(0))
    # 40 of 80 are above and 20 of 80 stay: hypergeometric with mean 10 and variance 20/4 * 60/79.
    assert kept.mean() == pytest.approx(10, abs=0.15)
    assert kept.var() == pytest.approx(5 * 60 / 79, rel=0.1)


def test_common_distractors_spread_the_prediction_more_than_own_ones():
    """A hub above every second image; the same counts with another distractor each."""
    answers, ranks = [chr(65 + n) for n in range(26)], [1 + n % 2 for n in range(26)]
    shared = run([f"h{answer}" if rank == 2 else answer for answer, rank in zip(answers, ranks)], ranks)
    own = run([f"{answer.lower()}{answer}" if rank == 2 else answer for answer, rank in zip(answers, ranks)], ranks)
    spreads = [
        shared_spread(["recall_at_1"], one.captioned_above, named_above(one), [500], seed=0)[0, 0]
        for one in (shared, own)
    ]
    assert spreads[0] > 3 * spreads[1] > 0


def test_an_interval_is_widened_in_quadrature_and_stays_within_0_and_1(monkeypatch):
    monkeypatch.setattr(module, "shared_spread", lambda *given, **seeded: np.array([[0.04, 0.0], [9.0, 0.0]]))
    monkeypatch.setattr(module, "T_HALVES", 1.0)
    given = {name: [Interval(0.5, 0.47, 0.53), Interval(0.2, 0.1, 0.3)] for name in ("recall_at_1", "mrr_at_10")}
    found = widened(given, np.zeros(1), named_above(hand_made([2])), [100, 200], seed=0)
    assert found["recall_at_1"][0] == pytest.approx((0.5, 0.45, 0.55))
    assert found["mrr_at_10"][0] == (0.5, 0.0, 1.0)
    assert found["recall_at_1"][1] == found["mrr_at_10"][1] == (0.2, 0.1, 0.3)


def test_near_duplicates_are_those_that_three_images_see_together():
    # Thirty more images, which see nothing of them.
    others = LETTERS[10:40]
    alone = [1] * 34
    more = [*LETTERS[6:10], *others]
    together = dependence_of(run(["abA", "abB", "abC", "cD", "cE", "cF", *more], [3, 3, 3, 2, 2, 2, *alone]))
    # Nine times a distractor is above; a and b are one, so that six distinct ones are.
    assert together.at_a_time == pytest.approx(9 / 6)
    assert dependence_of(run(["abA", "abB", "aC", "bD"], [3, 3, 2, 2])).at_a_time == pytest.approx(1.0)
    assert dependence_of(run(["abA", "abB"], [3, 3])).at_a_time is None
    apart = run(["abA", "abB", "abC", *("aD", "aE", "aF", "aG"), *more[1:]], [3, 3, 3, 2, 2, 2, 2, *alone[1:]])
    assert dependence_of(apart).at_a_time == pytest.approx(1.0)


def test_what_many_images_see_together_by_chance_are_no_near_duplicates():
    """Among 49 distractors each is in the top tens of half the images, whatever the model."""
    generator = np.random.default_rng(6)
    seen = [set(generator.choice(49, 22, replace=False).tolist()) for _ in range(38)]
    twins = [of_image - {0, 1} | ({0, 1} if n % 2 else set()) for n, of_image in enumerate(seen)]
    for tops, together in ((seen, False), (twins, True)):
        query, distractor = np.array([(n, one) for n, top in enumerate(tops) for one in sorted(top)]).T
        named = NamedAbove(query, distractor, np.zeros(38, dtype=int), query, distractor, 49)
        assert (dependence(named, np.arange(38)).at_a_time > 1.0) is together


def test_effective_distractors_are_counted_by_image():
    found = dependence_of(run(["aA", "aB", "aC", "bD", "E"], [2, 2, 2, 2, 1]))
    assert found.effective == pytest.approx(16 / 10)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ((1.35, 100.0, 2_000), ""),
        ((None, None, 0), ""),
        ((1.0, 18.0, 176), ""),
        ((2.61, 900.0, 2_000), "(near duplicates come 2.6 at a time)."),
        ((1.0, 41.4, 2_000), "(those above an answer amount to 41 different ones)."),
        (
            (1.5, 9.0, 100),
            "(near duplicates come 1.5 at a time; those above an answer amount to 9 different ones).",
        ),
    ],
)
def test_a_warning_says_what_speaks_against_the_model(given, words):
    expected = words and f"cannot be trusted: distractors depend on each other {words}"
    assert Dependence(*given).warning == expected
