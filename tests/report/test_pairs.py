"""All pairs of the page say what a comparison of the two alone says."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from small_runs import MODELS, QUERIES, caption, write_run

from mteb_vehicle_search.analysis.compare import compare
from mteb_vehicle_search.analysis.ranks import load_ranks
from mteb_vehicle_search.analysis.strata import groups
from mteb_vehicle_search.analysis.uncertainty import holm, paired_comparison
from mteb_vehicle_search.report.pairs import pairs_of

CAPTIONS = [caption(query) for query in range(QUERIES)]
ORDER = [2, 0, 1]


@pytest.fixture
def runs(eval_set, tmp_path, monkeypatch):
    """The runs, not in the order of their scores."""
    monkeypatch.setenv("VEHICLE_SEARCH_HOME", str(tmp_path))
    return [load_ranks(write_run(eval_set, MODELS[at])) for at in ORDER]


def test_pairs_are_first_less_second_in_the_order_of_the_page(runs):
    pairs = pairs_of(CAPTIONS, runs)
    assert pairs is not None
    data = pairs.data()
    for (a, b), found in zip(combinations(range(3), 2), data["all"], strict=True):
        alone = compare(runs[a], runs[b]).paired
        assert found[:4] == pytest.approx([*alone.difference, alone.p_value], abs=1e-5)
        assert found[5:] == [alone.query_wins, alone.query_losses]
    assert len(data["letters"]) == 3


def test_parts_are_compared_alone_and_adjusted_for_their_division(runs):
    pairs = pairs_of(CAPTIONS, runs)
    assert pairs is not None
    scores = [run.scores("ndcg_at_10") for run in runs]
    for title, found in groups(CAPTIONS).items():
        for number, (a, b) in enumerate(combinations(range(3), 2)):
            alone = [paired_comparison(scores[a][at], scores[b][at], runs[0].clusters[at]) for at in found.values()]
            adjusted = holm(np.array([one.p_value for one in alone]))
            for part, one, p in zip(pairs.parts[title], alone, adjusted, strict=True):
                expected = [None if value is None else pytest.approx(value, abs=1e-5) for value in (*one.difference, p)]
                assert part.differences[number] == expected
                assert (part.queries, part.images) == (one.queries, one.images)


def test_a_single_run_has_no_pairs(runs):
    assert pairs_of(CAPTIONS, runs[:1]) is None
