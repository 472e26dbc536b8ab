"""All pairs of several models: the same figures as one pair alone, and letters that say what the pairs say."""

from __future__ import annotations

from itertools import combinations

import pytest
from hand_made_runs import hand_made
from hypothesis import given
from hypothesis import strategies as st

from mteb_vehicle_search.analysis.compare import compare
from mteb_vehicle_search.analysis.matrix import SIGNIFICANCE, all_pairs, letters
from mteb_vehicle_search.analysis.ranks import load_ranks
from mteb_vehicle_search.analysis.uncertainty import holm
from mteb_vehicle_search.errors import ResultsError


@pytest.fixture
def three(runs):
    return [load_ranks(runs[name]) for name in ("poor", "good", "twin-of-good")]


def test_a_pair_has_the_figures_that_it_has_alone(three):
    found = all_pairs(three, "recall_at_10", resamples=400, seed=3)
    by_name = {run.record.key.name: run for run in three}
    for pair in found.pairs:
        one, other = (by_name[found.names[at]] for at in (pair.a, pair.b))
        alone = compare(one, other, "recall_at_10", resamples=400, seed=3).paired
        assert pair.difference == pytest.approx(alone.difference)
        assert pair.p_value == alone.p_value
        assert (pair.wins, pair.losses) == (alone.query_wins, alone.query_losses)
        for at, score in ((pair.a, alone.a), (pair.b, alone.b)):
            assert found.scores[at] == pytest.approx(score)
    assert [one.p_adjusted for one in found.pairs] == holm([one.p_value for one in found.pairs]).tolist()


def test_models_stand_best_first_and_share_letters_as_the_pairs_say(three):
    found = all_pairs(three, resamples=400)
    assert found.names[2] == "simulated/poor"
    assert [one.mean for one in found.scores] == sorted((one.mean for one in found.scores), reverse=True)
    assert [(one.a, one.b) for one in found.pairs] == [(0, 1), (0, 2), (1, 2)]
    assert found.letters[2] == "b"
    assert [pair.better for pair in found.pairs][1:] == [0, 1]
    for pair in found.pairs:
        assert found.pair(pair.b, pair.a) is found.pair(pair.a, pair.b) is pair
        shared = {*found.letters[pair.a]} & {*found.letters[pair.b]}
        assert bool(shared) == (pair.p_adjusted >= SIGNIFICANCE)


def test_the_worse_of_two_may_stand_first():
    few = hand_made([1] * 8), hand_made([4] * 8)
    pair = all_pairs(few, names=("a", "b"), resamples=100).pairs[0]
    assert (pair.better, pair.p_value) == (0, 2 / 256)
    assert pair._replace(difference=pair.difference.mirrored()).better == 1


def test_fewer_than_five_images_have_no_interval():
    pair = all_pairs([hand_made([1, 2, 3]), hand_made([2, 3, 4])], names=("a", "b"), resamples=100).pairs[0]
    assert (pair.difference.low, pair.difference.high) == (None, None)


def test_one_model_has_no_pair():
    found = all_pairs([hand_made([1, 2])])
    assert (found.pairs, found.letters, found.queries) == ((), ("a",), 2)


def test_runs_with_other_queries_are_refused():
    with pytest.raises(ResultsError, match="do not have the same queries"):
        all_pairs([hand_made([1, 2]), hand_made([1, 2]), hand_made([1, 2, 3])])


def test_letters_of_a_chain():
    """The neighbours are alike, the ends are not: the middle one has both letters."""
    assert letters(3, [(0, 2)]) == ("a", "ab", "b")
    assert letters(3, []) == ("a", "a", "a")
    assert letters(3, combinations(range(3), 2)) == ("a", "b", "c")


def test_every_letter_is_one_character_of_its_own():
    found = letters(80, combinations(range(80), 2))
    assert found[25:27] == ("z", "A")
    assert len({*found}) == len("".join(found)) == 80


@given(
    st.integers(1, 7).flatmap(lambda n: st.tuples(st.just(n), st.sets(st.sampled_from([*combinations(range(7), 2)]))))
)
def test_two_share_a_letter_if_and_only_if_they_are_not_told_apart(given):
    count, apart = given
    apart = {pair for pair in apart if pair[1] < count}
    found = letters(count, apart)
    assert all(found)
    for a, b in combinations(range(count), 2):
        assert bool({*found[a]} & {*found[b]}) == ((a, b) not in apart)
