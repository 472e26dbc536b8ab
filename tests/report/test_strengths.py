"""What a caption names, and the scores by it."""

from __future__ import annotations

import pytest
from small_runs import MODELS, QUERIES, caption, write_run

from mteb_vehicle_search.analysis.ranks import load_ranks
from mteb_vehicle_search.report.strengths import BY_LENGTH, BY_VEHICLE, NONE_NAMED, groups, strengths, vehicles


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("A man on a dirt bike", ["motorcycle"]),
        ("Bikers beside a Double-Decker bus", ["bicycle", "bus"]),
        ("A golf cart and a car", ["cart or carriage", "car"]),
        ("Race cars pass a fire truck", ["truck", "car"]),
        ("Carpets in a busy, scarred vanity", [NONE_NAMED]),
        ("", [NONE_NAMED]),
    ],
)
def test_vehicles_named(text, named):
    assert vehicles(text) == named


def test_captions_are_in_one_group_by_length_and_in_at_least_one_by_vehicle():
    captions = [
        "A red bus",
        "A " + "very " * 20 + "long caption",
        "A bus and a car",
        "Nine words are here to be counted by us",
    ]
    found = groups(captions)
    assert sorted(at for of_label in found[BY_LENGTH].values() for at in of_label) == [0, 1, 2, 3]
    assert found[BY_VEHICLE] == {"bus": [0, 2], "car": [2], NONE_NAMED: [1, 3]}
    assert found[BY_LENGTH] == {"up to 8 words": [0, 2], "9 to 12 words": [3], "17 words or more": [1]}


def test_scores_are_those_of_the_group(evaluation):
    ranks = [load_ranks(write_run(evaluation, model)) for model in MODELS[:2]]
    captions = [caption(n) for n in range(QUERIES)]
    found = {part.label: part for part in strengths(captions, ranks)[BY_VEHICLE]}
    at = groups(captions)[BY_VEHICLE]["bus"]
    for run, score in zip(ranks, found["bus"].scores):
        assert score.mean == pytest.approx(run.scores("ndcg_at_10")[at].mean())
        assert score.low <= score.mean <= score.high
    assert found["bus"].queries == len(at)
